"""The C library, through `_ctypes`, the C half of ctypes: importing ctypes itself takes a third of
the interpreter's start."""

import _ctypes
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CDECL, USE_ERRNO = 1, 8  # FUNCFLAG_CDECL, FUNCFLAG_USE_ERRNO of ctypes


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "l"


class _Int(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "i"


class _Char(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "c"


class _Function(_ctypes.CFuncPtr):
    _flags_ = CDECL | USE_ERRNO
    # syscall(3) returns a long, all others that are called here an int; the upper half of the
    # register that it comes in is anything.
    _restype_ = _Int


_C_LIBRARY = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]
_functions: "dict[str, Any]" = {}


class Memory:
    """Bytes that the kernel may write to. data: what they are at first."""

    def __init__(self, data: bytes) -> None:
        self._data = bytearray(data)
        # A single char at the beginning tells where it is, and holds it there. An array would be
        # a new type for each length.
        self._first: "Any" = _Char.from_buffer(self._data)
        self.address = _ctypes.addressof(self._first)
        self.size = len(data)

    def u32(self, offset: int) -> int:
        """The unsigned number of 32 bits at `offset`."""
        return int.from_bytes(self._data[offset : offset + 4], sys.byteorder)

    def u64(self, offset: int) -> int:
        """The unsigned number of 64 bits at `offset`."""
        return int.from_bytes(self._data[offset : offset + 8], sys.byteorder)


def call(name: str, arguments: "tuple[Any, ...]", path: str) -> int:
    """Call a function of the C library; numbers go as long, bytes and None as pointers.

    path: for the error. Raises OSError.
    """
    if name not in _functions:
        _functions[name] = _Function(_ctypes.dlsym(_C_LIBRARY, name))
        if name == "syscall":
            _functions[name].restype = _Long
    result: int = _functions[name](*(_Long(a) if type(a) is int else a for a in arguments))
    if result < 0:
        code = _ctypes.get_errno()
        raise OSError(code, os.strerror(code), path or None)
    return result
