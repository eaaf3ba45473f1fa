"""Who could have written this file? What runs as root must be root's alone.

Checked is what was opened, directory by directory from / on, never a name: nobody but its owner can
change an entry of a directory that only its owner may write, so a path that was walked this way
still leads to the same file afterwards.
"""

import errno
import os
import stat

from nri_hook import strictjson
from nri_hook.errors import UNTRUSTED, HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

LINKS = 40
# Below these an unmapped owner is taken for the host's root.
SYSTEM = ("etc", "opt", "usr")


class _Walk:
    """The state of one walk.

    place: the names of the directories from / to where it is. sticky: whether strangers can make
    entries in one of them. owners: the uids that are trusted. unmapped: the uid that in a user
    namespace stands for everybody outside of it, the host's root and strangers alike; -1 if this
    is not one.
    """

    def __init__(self, path: str, before: "Optional[_Walk]" = None) -> None:
        """before: the walk to the directory that `path` is in, where that is done."""
        self.path = path
        self.place: "list[str]" = list(before.place) if before else []
        self.sticky: bool = before.sticky if before else False
        self.owners: "set[int]" = before.owners if before else {0, os.geteuid()}
        self.unmapped: int = before.unmapped if before else _unmapped_uid()

    def check(self, status: os.stat_result, what: str, name: str) -> None:
        """Raise HookError unless `status` is of something that only a trusted owner can change.

        A directory with the sticky bit (/tmp) may be writable: nobody can replace the entries of
        others there, and every entry on the way is checked for its owner too.
        """
        if status.st_uid == self.unmapped:
            # A directory of a stranger on the way to our own is harmless: in it there can be
            # another of our own, at worst.
            trusted = not self.sticky and (what == "directory" or self._is_system())
        else:
            trusted = status.st_uid in self.owners
        if not trusted:
            raise self._belongs_to(status.st_uid, f"{what} {name}")
        if stat.S_ISLNK(status.st_mode) or not status.st_mode & 0o022:
            return
        if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
            self.sticky = True
            return
        raise HookError(
            f"{what} {name} may be written by others (mode {stat.S_IMODE(status.st_mode):04o})",
            path=self.path,
            code=UNTRUSTED,
        )

    def check_last(self, directory: os.stat_result) -> None:
        """Raise HookError if strangers can make entries in the directory of the file itself: /tmp,
        say, or in a user namespace anything that is neither ours nor below SYSTEM."""
        if directory.st_mode & 0o022:
            reason = "the directory of this file may be written by others"
            raise HookError(reason, path=self.path, code=UNTRUSTED)
        if directory.st_uid == self.unmapped and not self._is_system():
            raise self._belongs_to(directory.st_uid, "the directory of this file")

    def _is_system(self) -> bool:
        """Whether only root of the host can have made entries here; nobody else makes any in /."""
        return not self.place or self.place[0] in SYSTEM

    def _belongs_to(self, uid: int, what: str) -> HookError:
        expected = "root"
        if uid == self.unmapped:
            expected = "our own, or a path of root's alone below /etc, /opt or /usr"
        reason = f"{what} belongs to uid {uid}, expected {expected}"
        return HookError(reason, path=self.path, code=UNTRUSTED)


class _UntrustedWalk(_Walk):
    """A walk to what anybody may have written. A link to elsewhere is followed only if root or we
    made it."""

    def check(self, status: os.stat_result, what: str, name: str) -> None:
        if stat.S_ISLNK(status.st_mode):
            super().check(status, what, name)
        elif stat.S_ISDIR(status.st_mode) and status.st_mode & 0o022:
            self.sticky = True

    def check_last(self, directory: os.stat_result) -> None:
        pass


def in_user_namespace() -> bool:
    """Whether this process is in a user namespace other than the first (user_namespaces(7))."""
    try:
        with open("/proc/self/uid_map", "rb") as file:
            return file.read().split() != [b"0", b"0", b"4294967295"]
    except OSError:
        return False


def _unmapped_uid() -> int:
    """The uid that others than our own seem to have in a user namespace, -1 outside of any."""
    if not in_user_namespace():
        return -1
    with open("/proc/sys/kernel/overflowuid", "rb") as file:
        return int(file.read())


def open_file(path: str) -> int:
    """Open the regular file at the absolute `path` for reading; every directory and link on the
    way, and the file, must be root's (without root: the user's too) and writable by nobody else.

    Returns a descriptor. Raises HookError, or OSError where it cannot be opened.
    """
    return _go(_Walk(path), is_file=True)


def open_untrusted(path: str) -> int:
    """Open the regular file at the absolute `path` for reading, whoever may have written it.

    What a stranger has put there cannot make us wait (a FIFO), nor lead us elsewhere (a link).
    Returns a descriptor. Raises HookError, or OSError where it cannot be opened.
    """
    return _go(_UntrustedWalk(path), is_file=True)


def open_untrusted_directory(path: str) -> int:
    """The same for a directory: a descriptor for what is done in it (O_PATH)."""
    return _go(_UntrustedWalk(path), is_file=False)


class Directory:
    """A directory whose files nobody else can have written, for any number of them.

    The way to it is walked once: what only root can change stays as safe as it is.
    """

    def __init__(self, path: str, above: "Optional[Directory]" = None) -> None:
        """path: absolute. above: the directory that it is in, where that was looked at; then it
        must be no link. Raises HookError, or OSError where it cannot be opened."""
        self.path = path
        self._inner: "dict[str, Directory]" = {}
        self._walk: _Walk = _Walk(path, above._walk if above else None)
        if above:
            directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        else:
            directory = _go(self._walk, is_file=False)
        try:
            if above:
                self._walk.place.append(os.path.basename(path))
                self._walk.check(os.fstat(directory), "directory", self._walk.place[-1])
            self._walk.check_last(os.fstat(directory))
        finally:
            os.close(directory)

    def inner(self, name: str) -> "Directory":
        """The directory `name` in this one. Raises as the class does."""
        if name not in self._inner:
            self._inner[name] = Directory(os.path.join(self.path, name), self)
        return self._inner[name]

    def open_file(self, name: str) -> int:
        """What open_file() gives for the file `name` in it, and raises."""
        path = os.path.join(self.path, name)
        try:
            return _open_regular(_Walk(path, self._walk), None, path)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
        return open_file(path)  # a link, to wherever


def _go(walk: _Walk, is_file: bool) -> int:
    """Walk from / to the end of the path, checking all; a descriptor of what is there: of a file,
    opened for reading, or of a directory."""
    path = walk.path
    directory = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        walk.check(os.fstat(directory), "directory", "/")
        parts = _parts(path)
        links = 0
        while len(parts) > 0:
            name = parts.pop(0)
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            last = is_file and not parts
            if last:
                walk.check_last(os.fstat(directory))
            if stat.S_ISLNK(status.st_mode):
                walk.check(status, "link", name)
                links += 1
                if links > LINKS:
                    raise HookError("too many symbolic links", path=path)
                target = os.readlink(name, dir_fd=directory)
                if target.startswith("/"):
                    directory = _enter(directory, "/")
                    walk.place = []
                parts = _parts(target) + parts
            elif last and not stat.S_ISREG(status.st_mode):  # to open a device may do something
                raise HookError("expected a regular file", path=path)
            elif last:
                return _open_regular(walk, directory, name)
            else:
                directory = _enter(directory, name)
                walk.place = walk.place[:-1] if name == ".." else [*walk.place, name]
                walk.check(os.fstat(directory), "directory", name)
        if is_file:
            raise HookError("expected a regular file", path=path)
        return os.dup(directory)
    finally:
        os.close(directory)


def absolute(path: str) -> str:
    """The absolute path that `path` is to the kernel. os.path.abspath() takes every ".." away with
    what is before it, which may be a link; here one goes only if there can be none."""
    above = [] if path.startswith("/") else _parts(os.getcwd())
    parts = _parts(path)
    while parts[:1] == [".."]:
        del parts[0], above[-1:]
    return "/" + "/".join(above + parts)


def _parts(path: str) -> "list[str]":
    return [part for part in path.split("/") if part not in ("", ".")]


def _enter(directory: int, name: str) -> int:
    inner = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
    os.close(directory)
    return inner


def _open_regular(walk: _Walk, directory: "Optional[int]", name: str) -> int:
    try:
        fd = strictjson.open_regular(name, dir_fd=directory)
    except strictjson.NotRegular as error:
        raise HookError(str(error.strerror), path=walk.path) from None
    try:
        walk.check(os.fstat(fd), "file", os.path.basename(name))
    except BaseException:
        os.close(fd)
        raise
    return fd
