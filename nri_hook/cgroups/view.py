"""What the container reads at /sys/fs/cgroup: its own cgroup, which is the new one after a move.

The runtime has mounted the old one when createRuntime hooks run. A mount whose root is the old
cgroup is replaced by one of the new cgroup, with the flags and the propagation that it had; a
mount of a whole hierarchy shows everything and stays.
Sources: mount_namespaces(7), open_tree(2), move_mount(2), openat2(2), proc_pid_mountinfo(5).
"""

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
    windows = _windows(pid, moves)
    for window in windows:
        if not window.path.startswith(rootfs.path + "/"):
            message = f"shows the old cgroup outside the rootfs {rootfs.path}"
            raise Refused(message, path=window.path)
        window.flags |= rootfs.flags(window.path[len(rootfs.path) :])
    if windows:
        _in_namespace(pid, rootfs.path, windows)


def _windows(pid: int, moves: "dict[str, str]") -> "list[Window]":
    with open(f"/proc/{pid}/mountinfo", "rb") as file:
        lines = os.fsdecode(file.read()).split("\n")[:-1]
    found = []
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")[0]
        folder = moves.get(f"{fields[2]} {unescape(fields[3])}")
        if kind in MAGIC and folder:
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
    """Do the mounts in a child: only a process of one thread may change its mount namespace, and
    ours must stay where it is."""
    try:
        trees = [syscalls.open_tree(window.folder) for window in windows]
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
        # From the root of init, as the paths of its mountinfo: the runtime may be in a chroot.
        root = os.open(f"/proc/{pid}/root{rootfs}", os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        raise Refused(f"cannot be shown to the container: {error.strerror}", path=rootfs) from None
    report, answer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            syscalls.setns(namespace, syscalls.CLONE_NEWNS)
            for window, tree in zip(windows, trees):
                _replace(root, window.path[len(rootfs) + 1 :], window, tree)
            os.write(answer, b"done")
        except OSError as error:
            os.write(answer, f"{error.filename or rootfs}: {error.strerror}".encode())
        finally:
            os._exit(0)
    for fd in (answer, namespace, root, *trees):
        os.close(fd)
    with open(report, "rb") as file:
        found = file.read().decode("utf-8", "replace")
    os.waitpid(child, 0)
    if found != "done":
        raise Refused(f"the container's view cannot be turned: {found}", path=rootfs)


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
    target = syscalls.open_in_root(root, path)
    syscalls.mount(f"/proc/self/fd/{target}", syscalls.MS_REMOUNT | syscalls.MS_BIND | window.flags)
    syscalls.mount(f"/proc/self/fd/{target}", window.propagation)
    os.close(target)
