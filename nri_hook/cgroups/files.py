"""Control files, and others of the kernel that one read(2) gives whole: read, and written in one
call, with errors that name the file."""

import os

from nri_hook.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

# Most of them fit; for a much larger buffer the C library would map memory at each read.
CHUNK = 1 << 14


def read(path: str, folder: "Optional[int]" = None) -> str:
    """The text of such a file; with `folder`, a descriptor, of one in it. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        data = part = os.read(fd, CHUNK)
        while len(part) == CHUNK:
            part = os.read(fd, CHUNK)
            data += part
        return data.decode("utf-8", "surrogateescape")
    finally:
        os.close(fd)


def write(path: str, value: str) -> None:
    """Write `value` in one write(2), which is what the kernel parses. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
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
        raise failed(error, path, "cannot be removed") from None


def failed(error: OSError, path: str, doing: str) -> HookError:
    """The error for a control file at `path` that would not be read or written."""
    return HookError(f"{doing}: {error.strerror}", path=path)
