"""The C library, through `_ctypes`, the C half of ctypes: importing ctypes itself takes a third of
the interpreter's start."""

import _ctypes
import os

from nri_hook.cgroups.syscalls import BYTE_ORDER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CDECL, USE_ERRNO = 1, 8  # FUNCFLAG_CDECL, FUNCFLAG_USE_ERRNO of ctypes


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "l"


class _Char(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "c"


class _Function(_ctypes.CFuncPtr):
    _flags_ = CDECL | USE_ERRNO
    _restype_ = _Long


_C_LIBRARY = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]


class Memory:
    """Bytes that the kernel may write to. data: what they are at first."""

    def __init__(self, data: bytes) -> None:
        self._buffer: "Any" = (_Char * len(data))(*data)
        self.address = _ctypes.addressof(self._buffer)
        self.size = len(data)

    def u32(self, offset: int) -> int:
        """The unsigned number of 32 bits at `offset`."""
        raw = bytes(self._buffer)[offset : offset + 4]
        return int.from_bytes(raw, BYTE_ORDER)


def call(name: str, arguments: "tuple[Any, ...]", path: str) -> int:
    """Call a function of the C library; numbers go as long, bytes and None as pointers.

    path: for the error. Raises OSError.
    """
    function: "Any" = _Function(_ctypes.dlsym(_C_LIBRARY, name))
    result: int = function(*(_Long(a) if type(a) is int else a for a in arguments))
    if result < 0:
        code = _ctypes.get_errno()
        raise OSError(code, os.strerror(code), path or None)
    return result
