"""What the container reads at /sys/fs/cgroup: its own cgroup, which is the new one after a move.

The runtime has mounted the old one when createRuntime hooks run. A mount whose root is the old
cgroup is replaced by one of the new cgroup, with the flags and the propagation that it had; a
mount of a whole hierarchy shows everything and stays.
Sources: mount_namespaces(7), open_tree(2), move_mount(2), openat2(2), proc_pid_mountinfo(5).
"""

import _signal  # type: ignore[import-not-found]
import os

from nri_hook.cgroups import syscalls
from nri_hook.cgroups.hierarchies import unescape
from nri_hook.errors import Refused

FLAGS = {
    "ro": syscalls.MS_RDONLY,
    "nosuid": syscalls.MS_NOSUID,
    "nodev": syscalls.MS_NODEV,
    "noexec": syscalls.MS_NOEXEC,
    "noatime": syscalls.MS_NOATIME,
    "nodiratime": syscalls.MS_NODIRATIME,
    "relatime": syscalls.MS_RELATIME,
}
MAGIC = {"cgroup": 0x27E0EB, "cgroup2": 0x63677270}


class Rootfs:
    """The container's root filesystem before it pivots. path: absolute, in its mount namespace.
    mounts: destination -> options of the cgroup mounts in its config."""

    def __init__(self, path: str, mounts: "dict[str, list[str]]") -> None:
        self.path = path
        self.mounts = mounts

    def flags(self, path: str) -> int:
        """The flags that the config asks for a mount at `path`, which is inside the container.

        crun sets them after the hooks, by descriptors of the mounts that it made; on a mount of
        ours nobody would (src/libcrun/linux.c, finalize_mounts).
        """
        above = [d for d in self.mounts if (path + "/").startswith(d.rstrip("/") + "/")]
        flags = 0
        for option in self.mounts[max(above, key=len)] if above else []:
            flags |= FLAGS.get("ro" if option == "rro" else option, 0)
        return flags


class Window:
    """A mount of a cgroup in the container's mount namespace.

    path: where, absolute in that namespace. kind: "cgroup" or "cgroup2". flags, propagation: of
    mount(2). folder: the cgroup that it shall show.
    """

    def __init__(self, path: str, kind: str, flags: int, propagation: int, folder: str) -> None:
        self.path = path
        self.kind = kind
        self.flags = flags
        self.propagation = propagation
        self.folder = folder


def turn(pid: int, rootfs: Rootfs, moves: "dict[str, str]") -> None:
    """Replace, in the mount namespace of `pid`, every mount of an old cgroup.

    moves: old cgroup, as "<major>:<minor> <path as in /proc/PID/cgroup>" -> folder of the new
    one. Raises Refused.
    """
    windows = windows_of(pid, moves)
    for window in windows:
        if not window.path.startswith(rootfs.path + "/"):
            message = f"shows the old cgroup outside the rootfs {rootfs.path}"
            raise Refused(message, path=window.path)
        window.flags |= rootfs.flags(window.path[len(rootfs.path) :])
    if windows:
        _in_namespace(pid, rootfs.path, windows)


def windows_of(pid: int, moves: "dict[str, str]") -> "list[Window]":
    """The mounts in the namespace of `pid` that show an old cgroup. moves: as turn() takes them."""
    with open(f"/proc/{pid}/mountinfo", "rb") as file:
        lines = os.fsdecode(file.read()).split("\n")[:-1]
    found = []
    for line in lines:
        before, _, after = line.partition(" - ")
        kind = after.split(" ")[0]
        if kind not in MAGIC:
            continue
        fields = before.split(" ")
        folder = moves.get(f"{fields[2]} {unescape(fields[3])}")
        if folder:
            flags = 0
            for option in fields[5].split(","):
                flags |= FLAGS.get(option, 0)
            found.append(Window(unescape(fields[4]), kind, flags, _propagation(fields[6:]), folder))
    return found


def _propagation(tags: "list[str]") -> int:
    """The type that a mount has by its optional fields."""
    names = {tag.partition(":")[0] for tag in tags}
    if "master" in names:
        return syscalls.MS_SLAVE
    if "unbindable" in names:
        return syscalls.MS_UNBINDABLE
    return syscalls.MS_SHARED if "shared" in names else syscalls.MS_PRIVATE


def _in_namespace(pid: int, rootfs: str, windows: "list[Window]") -> None:
    """Do the mounts in the container's mount namespace, and come back. Before it pivots it is a
    copy of the one that it was made from: what is done there by path means the same."""
    fds: "list[int]" = []
    try:
        fds += [syscalls.open_tree(window.folder) for window in windows]
        here = _open("/proc/self/ns/mnt", os.O_RDONLY, fds)
        top = _open("/", os.O_PATH | os.O_DIRECTORY, fds)
        there = _open(f"/proc/{pid}/ns/mnt", os.O_RDONLY, fds)
        # From the root of init, as the paths of its mountinfo: the runtime may be in a chroot.
        root = _open(f"/proc/{pid}/root{rootfs}", os.O_PATH | os.O_DIRECTORY, fds)
    except OSError as error:
        _close(fds)
        raise Refused(f"cannot be shown to the container: {error.strerror}", path=rootfs) from None
    # An interrupt would find us in a namespace that is not ours.
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    try:
        syscalls.setns(there, syscalls.CLONE_NEWNS)
        try:
            for window, tree in zip(windows, fds):
                _replace(root, window.path[len(rootfs) + 1 :], window, tree)
        finally:
            syscalls.setns(here, syscalls.CLONE_NEWNS)
            # It leads to the top of the namespace, and we may have been in a chroot.
            os.fchdir(top)
            os.chroot(".")
    except OSError as error:
        reason = f"{error.filename or rootfs}: {error.strerror}"
        raise Refused(f"the container's view cannot be turned: {reason}", path=rootfs) from None
    finally:
        _close(fds)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)


def _open(path: str, flags: int, fds: "list[int]") -> int:
    fds.append(os.open(path, flags | os.O_CLOEXEC))
    return fds[-1]


def _close(fds: "list[int]") -> None:
    for fd in fds:
        os.close(fd)


def _replace(root: int, path: str, window: Window, tree: int) -> None:
    """Replace one mount. Only descriptors lead to it: what the container's image or a volume has
    on the way cannot send us elsewhere."""
    target = syscalls.open_in_root(root, path)
    if syscalls.filesystem_magic(target) != MAGIC[window.kind]:
        raise OSError(0, "is no cgroup filesystem", path)
    syscalls.unmount(f"/proc/self/fd/{target}")
    os.close(target)
    target = syscalls.open_in_root(root, path)
    syscalls.move_mount(tree, target)
    os.close(target)
    syscalls.mount(f"/proc/self/fd/{tree}", syscalls.MS_REMOUNT | syscalls.MS_BIND | window.flags)
    syscalls.mount(f"/proc/self/fd/{tree}", window.propagation)
