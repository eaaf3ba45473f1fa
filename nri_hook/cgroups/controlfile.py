"""Control files: read whole and written in one call, with errors that name the file. And what is
written on their directories."""

import os

from nri_hook.errors import NOT_REMOVED, HookError, Left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

# Most of them fit; for a much larger buffer the C library would map memory at each read.
CHUNK = 1 << 14
# A list, such as cgroup.procs, comes by pages of 4096 bytes that are full but for half an entry; a
# read that gives less than this is the last one.
FULL = 2048


def read(path: str, directory: "Optional[int]" = None) -> str:
    """The text of a control file; with `directory`, a descriptor, of one in it. Raises OSError."""
    return read_bytes(path, directory).decode("utf-8", "surrogateescape")


def read_bytes(path: str, directory: "Optional[int]" = None) -> bytes:
    """The same as it is. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        data = part = os.read(fd, CHUNK)
        while len(part) >= FULL:
            part = os.read(fd, CHUNK)
            data += part
        return data
    finally:
        os.close(fd)


def write(path: str, value: str, directory: "Optional[int]" = None) -> None:
    """Write `value` in one write(2), which is what the kernel parses; with `directory`, a
    descriptor, to a control file in it. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(fd, value.encode("utf-8", "surrogateescape"))
    finally:
        os.close(fd)


def unlink(path: str) -> None:
    """Remove a file, which may have gone already. Raises HookError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        reason = f"cannot be removed: {error.strerror}"
        raise HookError(reason, path=path, code=NOT_REMOVED) from None


def failed(error: OSError, path: str, doing: str) -> HookError:
    """The error for a control file at `path` that would not be read or written."""
    return HookError(f"{doing}: {error.strerror}", path=path)


def label(directory: str, name: str, value: str) -> None:
    """Give a directory an extended attribute. By these alone it is known later what may be removed.

    Raises Left if there can be none, such as in a user namespace: nothing may be moved then; and
    FileNotFoundError if the directory has gone.
    """
    try:
        os.setxattr(directory, name, value.encode())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Left(f"{directory}: cannot be marked: {error.strerror}") from None


def unlabel(directory: str, name: str) -> None:
    """Take an attribute away, if the directory has it."""
    try:
        os.removexattr(directory, name)
    except OSError:
        pass


def label_of(directory: str, name: str) -> str:
    """The attribute of a directory, "" if it has none."""
    try:
        return os.getxattr(directory, name).decode("utf-8", "replace")
    except OSError:
        return ""
