"""Files that others read while we write them: the old one or the new one, never half of one."""

import os
import stat

from nri_hook import strictjson, trust
from nri_hook.errors import NOT_REMOVED, HookError

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
        self.inode = status.st_dev, status.st_ino

    def is_at(self, directory: int, name: str) -> bool:
        """Whether this file still has that name in an open directory."""
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (status.st_dev, status.st_ino) == self.inode


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
        fd = trust.open_untrusted(trust.absolute(path))
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


def write(
    path: str, data: bytes, mode: int, found: "Optional[Found]" = None, keep: bool = True
) -> None:
    """Make `path` a file of `data`, by a temporary name beside it and a rename.

    The directories above are made as needed (0755). found: what was read there; the file takes
    owner and mode from it, unless `keep` is False, and else is ours with `mode`. The temporary name
    begins with a dot and ends in .tmp: the engines read every *.json of a hooks directory.

    The directory may be a stranger's, who renames in it what he likes. So it is opened once, past
    no link of his, and everything is done in what was opened: he can spoil what is his, and lead us
    nowhere else. Raises HookError, also if `found` has been replaced meanwhile.
    """
    try:
        directory = _make_directory(os.path.dirname(path))
    except OSError as error:
        raise HookError(f"cannot be written: {error.strerror}", path=path) from None
    try:
        _check_unchanged(directory, path, found)
        _replace(directory, os.path.basename(path), data, mode, found if keep else None)
    except OSError as error:
        raise HookError(f"cannot be written: {error.strerror}", path=path) from None
    finally:
        os.close(directory)


def remove(path: str, found: "Optional[Found]" = None) -> bool:
    """Remove the file; whether there was one. found: what was read there; what has taken its place
    is kept. Raises HookError."""
    try:
        directory = trust.open_untrusted_directory(os.path.dirname(path))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        reason = f"cannot be removed: {error.strerror}"
        raise HookError(reason, path=path, code=NOT_REMOVED) from None
    try:
        _check_unchanged(directory, path, found)
        os.unlink(os.path.basename(path), dir_fd=directory)
    except FileNotFoundError:
        return False
    except OSError as error:
        reason = f"cannot be removed: {error.strerror}"
        raise HookError(reason, path=path, code=NOT_REMOVED) from None
    finally:
        os.close(directory)
    return True


def _check_unchanged(directory: int, path: str, found: "Optional[Found]") -> None:
    if found and not found.is_at(directory, os.path.basename(path)):
        raise HookError("was replaced while we were at work, so it is kept", path=path)


def _replace(directory: int, name: str, data: bytes, mode: int, found: "Optional[Found]") -> None:
    temporary = f".{name}.{os.getpid()}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    fd = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        with os.fdopen(fd, "wb") as file:
            if found:
                os.fchown(fd, found.uid, found.gid)
            os.fchmod(fd, found.mode if found else mode)
            file.write(data)
            file.flush()
            # A crash of the machine must not leave an empty hook file: podman then starts nothing.
            os.fsync(fd)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        # Still there only after a failure, an interrupt from the keyboard included.
        try:
            os.unlink(temporary, dir_fd=directory)
        except FileNotFoundError:
            pass


def _make_directory(path: str) -> int:
    """A descriptor of the directory, which is made with those above it if it is missing: 0755
    whatever the umask. Raises OSError, or HookError."""
    try:
        return trust.open_untrusted_directory(path)
    except FileNotFoundError:
        pass
    above, name = _make_directory(os.path.dirname(path)), os.path.basename(path)
    umask = os.umask(0o022)  # no chmod afterwards, which may find another directory
    try:
        os.mkdir(name, 0o755, dir_fd=above)
    except FileExistsError:  # somebody else made it meanwhile
        pass
    finally:
        os.umask(umask)
    try:
        return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    finally:
        os.close(above)
