"""Files that others read while we write them: the old one or the new one, never half of one."""

import os
import stat

from nri_hook import strictjson, trust
from nri_hook.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

# Far above any real config.json, and every other file that we replace is smaller.
MAX_SIZE = 16 << 20


class Found:
    """A regular file that is there already: its bytes, and its owner and mode."""

    def __init__(self, data: bytes, status: os.stat_result) -> None:
        self.data = data
        self.uid = status.st_uid
        self.gid = status.st_gid
        self.mode = stat.S_IMODE(status.st_mode)


def read(path: str) -> "Optional[Found]":
    """What is at `path`, or None. Raises HookError where that is no regular file of our size.

    A link is no regular file: writing by rename would replace the link and not its target.
    """
    if os.path.islink(path):
        raise HookError("expected a regular file", path=path)
    return _read(path, MAX_SIZE)


def load(path: str, limit: int = MAX_SIZE) -> "Optional[bytes]":
    """The bytes of the regular file at `path`, which anybody may have put there, or None.

    It never waits for a FIFO, and never follows a link that others than root or we made. Raises
    HookError, also for more than `limit` bytes.
    """
    found = _read(path, limit)
    return found.data if found else None


def _read(path: str, limit: int) -> "Optional[Found]":
    try:
        fd = trust.open_untrusted(os.path.abspath(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise HookError(f"cannot be opened: {error.strerror}", path=path) from None
    try:
        return Found(strictjson.read(fd, limit), os.fstat(fd))
    except (strictjson.JSONError, OSError) as error:
        raise HookError(f"cannot be read: {error}", path=path) from None
    finally:
        os.close(fd)


def write(path: str, data: bytes, mode: int, found: "Optional[Found]" = None) -> None:
    """Make `path` a file of `data`, by a temporary name beside it and a rename.

    The folders above are made as needed (0755). With `found` the file takes owner and mode from
    it, else it is ours with `mode`. The temporary name begins with a dot and ends in .tmp: the
    engines read every *.json of a hooks folder. Raises HookError.
    """
    folder, name = os.path.split(path)
    try:
        make_folder(folder)
        temporary = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise HookError(f"cannot be written: {error.strerror}", path=path) from None
    try:
        with os.fdopen(fd, "wb") as file:
            if found:
                os.fchown(fd, found.uid, found.gid)
            os.fchmod(fd, found.mode if found else mode)
            file.write(data)
            file.flush()
            # A crash of the machine must not leave an empty hook file: podman then starts nothing.
            os.fsync(fd)
        os.rename(temporary, path)
    except OSError as error:
        raise HookError(f"cannot be written: {error.strerror}", path=path) from None
    finally:
        # Still there only after a failure, an interrupt from the keyboard included.
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass


def make_folder(path: str) -> None:
    """Make the folder and those above it, 0755 whatever the umask. Raises OSError."""
    if os.path.isdir(path):
        return
    make_folder(os.path.dirname(path))
    try:
        os.mkdir(path)
    except FileExistsError:
        if os.path.isdir(path):  # somebody else made it meanwhile
            return
        raise
    os.chmod(path, 0o755)


def remove(path: str) -> bool:
    """Remove the file; whether there was one. Raises HookError."""
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise HookError(f"cannot be removed: {error.strerror}", path=path) from None
    return True
