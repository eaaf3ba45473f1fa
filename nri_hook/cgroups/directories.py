"""Cgroup directories: made and marked as ours, taken away again when they are empty.

Containers come and go at the same time below the same parents, without a common lock: a directory
may appear or vanish between any two steps. Whoever makes a path starts again from its top when a
part has gone, whoever removes one stops at the first that is in use.
"""

import errno
import fcntl
import os
import time

from nri_hook.cgroups import controlfile, hierarchies, members
from nri_hook.errors import NOT_REMOVED, HookError, Left, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Optional

    from nri_hook.cgroups.hierarchies import Hierarchy

MARK = "trusted.nri_hook"
# On a directory that somebody else has made, while a container is in it.
HOLD = "trusted.nri_hook.hold"
# On a directory that is the node's, whoever made it.
KEPT = "trusted.nri_hook.kept"
TRIES = 50
PAUSE = 0.02
# Seconds for another hook to mark what it has just made: longer than any load delays it.
MARKING = 5.0


def missing(hierarchy: "Hierarchy", cgroup: str) -> "list[str]":
    """The directories of `cgroup` that are not there yet, top-down."""
    chain = _chain(hierarchy, cgroup)
    while chain and os.path.isdir(chain[0]):
        del chain[0]
    return chain


def first_inside(directory: str, but: "tuple[str, ...]" = ()) -> str:
    """The path of a cgroup in the cgroup `directory` that is not in `but`, "" if there is none.
    Raises OSError."""
    with os.scandir(directory) as entries:
        return next((e.path for e in entries if e.is_dir() and e.path not in but), "")


def make(
    hierarchy: "Hierarchy", cgroup: str, claim: str, controllers: "list[str]", guard: str
) -> bool:
    """Make the directory of `cgroup` and all above it; whether the last one is new.

    claim: what the mark says, who made it; "" for none. controllers: to be enabled for it (v2).
    guard: a directory of root's alone, to be locked until it is marked. Raises Left where we may
    not write, Refused, or HookError.
    """
    chain = _chain(hierarchy, cgroup)
    for _ in range(TRIES):
        made = False
        try:
            for directory in chain:
                made = _make_one(directory, claim, guard, directory == chain[-1])
                if directory != chain[-1]:
                    _prepare_parent(hierarchy, directory, controllers)
            if "cpuset" in hierarchy.name.split(","):
                _fill_cpusets(hierarchy, chain)
            return made
        except FileNotFoundError:
            time.sleep(PAUSE)
    raise HookError("vanishes again and again while it is being made", path=chain[-1])


def enable(hierarchy: "Hierarchy", cgroup: str, controllers: "list[str]") -> None:
    """Enable controllers for what is below `cgroup` (v2), from the top down. Raises Refused."""
    for directory in [hierarchy.mount, *_chain(hierarchy, cgroup)]:
        _prepare_parent(hierarchy, directory, controllers)


def keep(hierarchy: "Hierarchy", cgroup: str, controllers: "list[str]") -> None:
    """Make the directory of `cgroup` and all above it for the node: it stays when it is empty,
    whoever made it. controllers: as for make(), which is also what it raises."""
    _prepare_parent(hierarchy, hierarchy.mount, controllers)
    directory = hierarchy.directory(cgroup)
    for _ in range(TRIES):
        make(hierarchy, cgroup, "", controllers, "")
        guard = guard_of(directory)
        lock = _lock_of(guard)  # who removes it may have looked at it already
        try:
            controlfile.label(directory, KEPT, "1")
            if guard_of(directory) == guard:
                controlfile.unlabel(directory, MARK)
                return
        except FileNotFoundError:
            pass
        finally:
            _unlock(lock)
    raise HookError("vanishes again and again", path=directory)


def is_kept(directory: str) -> bool:
    """Whether it is the node's, by keep()."""
    return controlfile.label_of(directory, KEPT) != ""


def remove(
    directory: str, is_ours: "Callable[[str], bool]", deadline: float, by_force: bool = False
) -> None:
    """Remove a leaf with all empty cgroups in it, then the marked empty directories above.

    deadline: of time.monotonic(), for its last process to leave. by_force: whether it is killed.
    Raises HookError where it stays.
    """
    remove_tree(directory, deadline, members.kill if by_force else None)
    remove_empty(os.path.dirname(directory), is_ours)


def remove_tree(
    directory: str, deadline: float, end: "Optional[Callable[[str], None]]" = None
) -> None:
    """Remove a cgroup with all empty cgroups in it.

    deadline: of time.monotonic(), for its last process to leave. end: ends its processes. Raises
    HookError if it stays.
    """
    while True:
        try:
            _remove_tree(directory)
            return
        except (FileNotFoundError, NotADirectoryError):  # a control file goes with its cgroup
            return
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY) or time.monotonic() > deadline:
                reason = members.occupant(directory) or error.strerror
                message = f"cannot be removed: {reason}"
                raise HookError(message, path=directory, code=NOT_REMOVED) from None
            if end:
                end(directory)
            time.sleep(PAUSE)


def remove_empty(parent: str, is_ours: "Callable[[str], bool]") -> None:
    """Remove a directory and those above it while they are ours and empty."""
    while True:
        guard = guard_of(parent)
        lock = _lock_of(guard)
        try:
            if not is_ours(parent):
                return
            if guard_of(parent) != guard:  # another one by now
                continue
            os.rmdir(parent)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError:  # in use by another container
            return
        finally:
            _unlock(lock)
        parent = os.path.dirname(parent)


def mark(directory: str, claim: str, guard: str = "") -> None:
    """Say in the directory itself who made it. guard: as for make(), where the claim's record is.
    Raises what controlfile.label() does."""
    controlfile.label(directory, MARK, f"{claim} {guard}".rstrip())


def mark_of(directory: str) -> str:
    """Who made the directory, "" where it was not us, it is the node's, or it is not there."""
    return "" if is_kept(directory) else controlfile.label_of(directory, MARK).partition(" ")[0]


def guard_of(directory: str) -> str:
    """Where the record of whoever made the directory is or was, "" where nobody knows."""
    return controlfile.label_of(directory, MARK).partition(" ")[2]


def remove_orphan(directory: str, guard: str, is_orphan: "Callable[[], bool]") -> None:
    """Remove a directory if it is empty. guard: as for make(). is_orphan: whether it still is one;
    asked behind the lock, so that nobody can make the directory anew in between. Raises
    HookError."""
    lock = _lock(guard)
    try:
        if is_orphan():
            os.rmdir(directory)
    except OSError:  # gone, or in use
        pass
    finally:
        os.close(lock)


def hold(directory: str, claim: str) -> None:
    """Say in a directory that somebody else has made who is in it. Raises what controlfile.label()
    does."""
    controlfile.label(directory, HOLD, claim)


def holder_of(directory: str) -> str:
    """Who is in a directory that somebody else has made, "" for nobody that we know of."""
    return controlfile.label_of(directory, HOLD)


def release(directory: str, deadline: float, by_force: bool) -> None:
    """Leave a directory to whoever made it, once it is empty.

    deadline: of time.monotonic(), for its last process to leave. by_force: whether it is killed.
    Raises HookError where one stays.
    """
    try:
        while by_force and controlfile.read(f"{directory}/cgroup.procs").strip():
            if time.monotonic() > deadline:
                raise HookError("is not empty", path=directory)
            members.kill(directory)
            time.sleep(PAUSE)
        controlfile.unlabel(directory, HOLD)
    except OSError:  # it has gone
        pass


def _chain(hierarchy: "Hierarchy", cgroup: str) -> "list[str]":
    """The directories from below the mount down to `cgroup`."""
    leaf = hierarchy.directory(cgroup)
    parts = leaf[len(hierarchy.mount) :].split("/")[1:]
    return [hierarchy.mount + "/" + "/".join(parts[: count + 1]) for count in range(len(parts))]


def _make_one(directory: str, claim: str, guard: str, is_leaf: bool) -> bool:
    """Make and mark one directory, behind a lock: between the two it looks like anybody's, and two
    containers would take it for theirs."""
    if os.path.isdir(directory) and (not is_leaf or mark_of(directory)):
        return False
    if not claim:
        return _make_marked(directory, claim, guard)
    lock = _lock(guard)
    try:
        return _make_marked(directory, claim, guard)
    finally:
        os.close(lock)


def _lock(guard: str) -> int:
    """A descriptor of the directory that holds its lock, which nobody has for longer than it takes
    to make one directory."""
    fd = os.open(guard, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    status = os.fstat(fd)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        os.close(fd)  # anybody could hold its lock
        raise HookError("is open to others, expected a directory of our own with 0700", path=guard)
    end = time.monotonic() + MARKING
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except OSError as error:
            if time.monotonic() > end:
                os.close(fd)
                raise HookError(f"cannot be locked: {error.strerror}", path=guard) from None
            time.sleep(PAUSE)


def _lock_of(guard: str) -> int:
    """The lock of a guard that a directory has named, -1 where it has not, or it cannot be had."""
    try:
        return _lock(guard) if guard else -1
    except (OSError, HookError):
        return -1


def _unlock(lock: int) -> None:
    if lock >= 0:
        os.close(lock)


def _make_marked(directory: str, claim: str, guard: str) -> bool:
    try:
        os.mkdir(directory, 0o755)
    except FileExistsError:
        if not os.path.isdir(directory):
            if not os.path.lexists(directory):
                raise FileNotFoundError(directory) from None
            raise Refused("is a control file, expected a cgroup", path=directory) from None
        return False
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise Left(f"{directory}: cannot be made: {error.strerror}") from None
        if error.errno == errno.ENOENT:
            raise
        raise controlfile.failed(error, directory, "cannot be made") from None
    os.chmod(directory, 0o755)
    if claim:
        mark(directory, claim, guard)
    return True


def _prepare_parent(hierarchy: "Hierarchy", directory: str, controllers: "list[str]") -> None:
    if hierarchy.name != hierarchies.V2:
        return
    path = f"{directory}/cgroup.subtree_control"
    for attempt in range(TRIES):
        enabled = controlfile.read(path).split()
        wanted = " ".join("+" + name for name in controllers if name not in enabled)
        if not wanted:
            return
        try:
            controlfile.write(path, wanted)
            return
        except OSError as error:
            if error.errno == errno.ENOENT and not os.path.isdir(directory):
                raise
            if error.errno != errno.EBUSY or attempt == TRIES - 1:
                raise Refused(f"cannot take {wanted}: {error.strerror}", path=path) from None
            time.sleep(PAUSE)


def _fill_cpusets(hierarchy: "Hierarchy", chain: "list[str]") -> None:
    """A v1 cpuset starts without CPUs and memory nodes and then takes no process: fill it from
    its parent, as the runtimes do."""
    for directory in chain:
        for name in ("cpuset.cpus", "cpuset.mems"):
            if not controlfile.read(f"{directory}/{name}").strip():
                above = controlfile.read(f"{os.path.dirname(directory)}/{name}")
                try:
                    controlfile.write(f"{directory}/{name}", above)
                except OSError as error:
                    if error.errno == errno.ENOENT:
                        raise
                    # A cpuset beside it has some of these for itself.
                    raise Refused(
                        f"cannot take {above.strip()!r}: {error.strerror}",
                        path=f"{directory}/{name}",
                    ) from None


def _remove_tree(directory: str) -> None:
    try:
        os.rmdir(directory)
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
        from nri_hook.cgroups import nested  # few containers make cgroups of their own

        nested.remove(directory)
