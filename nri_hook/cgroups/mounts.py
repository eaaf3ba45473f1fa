"""What the container reads at /sys/fs/cgroup: its own cgroup, which is the new one after a move.

The runtime has mounted the old one when createRuntime hooks run. A mount whose root is the old
cgroup is replaced by one of the new cgroup, with the flags and the propagation that it had; a
mount of a whole hierarchy shows everything and stays. Nothing is done to a mount that is shared.
Sources: open_tree(2), move_mount(2), mount_setattr(2); cgroups(7), "Cgroup delegation"; kernel,
filesystems/sharedsubtree.rst.
"""

import _signal  # type: ignore[import-not-found]
import os

from nri_hook.cgroups import hierarchies, syscalls
from nri_hook.cgroups.rootfs import Rootfs
from nri_hook.errors import Left, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from nri_hook.cgroups.mountinfo import Mount
    from nri_hook.cgroups.plan import Placement

    class Config(Protocol):
        """What a config.json says of a container's mounts and powers."""

        def has_own(self, kind: str) -> bool:
            """Whether the runtime makes a namespace of this kind for it."""

        def may_administer(self, runtime: str) -> bool:
            """Whether a process of it may come to have CAP_SYS_ADMIN."""

        def cgroup_mounts(self) -> "dict[str, list[str]]":
            """Destination -> options of its mounts of cgroups."""

        def options_at(self, destination: str) -> "list[list[str]]":
            """The options of each mount that it has at a destination."""


# Option of mount(2) -> (its flag, whether it sets it).
OPTIONS = {
    "ro": (syscalls.MS_RDONLY, True),
    "rro": (syscalls.MS_RDONLY, True),
    "rw": (syscalls.MS_RDONLY, False),
    "rrw": (syscalls.MS_RDONLY, False),
    "nosuid": (syscalls.MS_NOSUID, True),
    "nodev": (syscalls.MS_NODEV, True),
    "noexec": (syscalls.MS_NOEXEC, True),
    "noatime": (syscalls.MS_NOATIME, True),
    "nodiratime": (syscalls.MS_NODIRATIME, True),
    "relatime": (syscalls.MS_RELATIME, True),
}
# The way to the place for a container that cannot be moved there alive.
NATIVELY = "place it natively: podman's precreate"


class Window:
    """A mount of an old cgroup that the container sees.

    directory: of the new cgroup, which it shall show. flags: of mount(2), for the new mount. inner:
    the mounts that are right on it, each with a descriptor that is open on it.
    """

    def __init__(self, mount: "Mount", directory: str, flags: int) -> None:
        self.mount = mount
        self.directory = directory
        self.flags = flags
        self.inner: "list[tuple[Mount, int]]" = []

    def propagation(self) -> int:
        """The type for mount(2) that gives the new mount the propagation of this one."""
        if "master" in self.mount.propagation:
            return syscalls.MS_SLAVE
        if "unbindable" in self.mount.propagation:
            return syscalls.MS_UNBINDABLE
        return syscalls.MS_PRIVATE


def look(placement: "Placement", config: "Config", path: str, runtime: str) -> "View":
    """Find what a move will change of the container's view; nothing is changed.

    path: of its root filesystem, as for Rootfs. runtime: its name, or "" if it has nothing more
    to do. Raises Left if the view could not be made what it would be in a container that was
    created at the place, and Refused.
    """
    view = View(Rootfs(placement.pid, path), config, runtime)
    try:
        names = {step.hierarchy.name for step in placement.steps}
        if names == {hierarchies.V2} and config.has_own("cgroup"):
            view.check_delegation()
        view.find_windows(placement.shown())
    except BaseException:
        view.close()
        raise
    return view


class View:
    """The cgroup mounts of a container, as a context that closes its descriptors in the end.

    windows: what is to be replaced.
    """

    def __init__(self, rootfs: Rootfs, config: "Config", runtime: str) -> None:
        self.rootfs = rootfs
        self.config = config
        self.runtime = runtime
        self.windows: "list[Window]" = []

    def __enter__(self) -> "View":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.rootfs.close()

    def check_delegation(self) -> None:
        """Raise Left if the container could use the root of its cgroup namespace (v2).

        That remains the old cgroup, whatever is mounted. The kernel protects the limits of this
        root alone from the container, and lets it move processes below this root alone.
        """
        if self.config.may_administer(self.runtime):
            raise Left(
                "it may have CAP_SYS_ADMIN, and after a live move could mount its cgroup and lift"
                f" its own limits; {NATIVELY}"
            )
        for mount in self.rootfs.mounts:
            if mount.kind != "cgroup2" or not self.rootfs.holds(mount):
                continue
            if not self._will_be_read_only(mount) and self.rootfs.at(mount)[1] is mount:
                raise Left(
                    f"the cgroups at {self.rootfs.inner_path(mount)} are writable for it, and after"
                    f" a live move it could lift its own limits; {NATIVELY}"
                )

    def find_windows(self, moves: "dict[str, str]") -> None:
        """Find the mounts that show an old cgroup and that the container sees.

        moves: old cgroup, as "<major>:<minor> <path as in /proc/PID/cgroup>" -> directory of the
        new one. Raises Left or Refused.
        """
        for mount in self.rootfs.mounts:
            directory = moves.get(f"{mount.device} {mount.root}")
            if mount.kind not in ("cgroup", "cgroup2") or not directory:
                continue
            if not self.rootfs.holds(mount):
                message = f"shows the old cgroup outside the rootfs {self.rootfs.path}"
                raise Refused(message, path=mount.point)
            window = Window(mount, directory, self._flags(mount))
            if self._is_seen(window):
                self._check_replaceable(window)
                self.windows.append(window)

    def turn(self) -> None:
        """Replace, in the container's mount namespace, each mount of an old cgroup. Before it
        pivots that is a copy of the one that it was made from. Raises Refused."""
        if not self.windows:
            return
        rootfs = self.rootfs
        try:
            trees = [self._clone(window) for window in self.windows]
            here = rootfs.open("/proc/self/ns/mnt", os.O_RDONLY)
            top = rootfs.open("/", os.O_PATH | os.O_DIRECTORY)
            there = rootfs.open(f"/proc/{rootfs.pid}/ns/mnt", os.O_RDONLY)
        except OSError as error:
            message = f"cannot be shown to the container: {error.strerror}"
            raise Refused(message, path=rootfs.path) from None
        # An interrupt would find us in a namespace that is not ours.
        mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
        try:
            syscalls.setns(there, syscalls.CLONE_NEWNS)
            try:
                for window, tree in zip(self.windows, trees):
                    self._replace(window, tree)
            finally:
                syscalls.setns(here, syscalls.CLONE_NEWNS)
                # It leads to the top of the namespace, and we may have been in a chroot.
                os.fchdir(top)
                os.chroot(".")
        except OSError as error:
            reason = f"{error.filename or rootfs.path}: {error.strerror}"
            message = f"the container's view cannot be turned: {reason}"
            raise Refused(message, path=rootfs.path) from None
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)

    def _flags(self, mount: "Mount") -> int:
        """The flags that a mount of the container's cgroups has, or will have from its config.

        crun sets them after the hooks, by descriptors of the mounts that it made; on a mount of
        ours nobody would (src/libcrun/linux.c, finalize_mounts).
        """
        flags = _flags(mount.options)
        if self.runtime != "crun":
            return flags
        path, mounts = self.rootfs.inner_path(mount), self.config.cgroup_mounts()
        above = [d for d in mounts if (path + "/").startswith(d.rstrip("/") + "/")]
        return _flags(mounts[max(above, key=len)], flags) if above else flags

    def _will_be_read_only(self, mount: "Mount") -> bool:
        """Whether a mount of whatever cgroups is read-only, or crun will make it so. Which one of
        two at one place that is, nobody can say."""
        if "ro" in mount.options:
            return True
        if self.runtime != "crun" or [m.point for m in self.rootfs.mounts].count(mount.point) > 1:
            return False
        found = self.config.options_at(self.rootfs.inner_path(mount))
        return len(found) == 1 and bool(_flags(found[0]) & syscalls.MS_RDONLY)

    def _is_seen(self, window: Window) -> bool:
        """Whether its path leads to it, or to what is mounted right on it, which is opened with
        all that is on it. Raises Left.

        What lies over it elsewhere, such as the node's /sys that a pod is given, hides it for
        good, and it is left alone: natively too nobody would see it. Only a container with
        CAP_SYS_ADMIN could take away what hides it. On v2 such a one is not moved, and on v1 it
        would find the cgroup that it came from, from which it could do no more than from its own.
        """
        mount = window.mount
        found = self.rootfs.at(mount)[1]
        if found is not mount:
            if found is None or found.point != mount.point or not self.rootfs.is_on(found, mount):
                return False
        for inner in self.rootfs.inner(mount):
            fd, found = self.rootfs.at(inner)
            if found is not inner:
                path = self.rootfs.inner_path(mount)
                raise Left(f"{path}: what is mounted on it is hidden itself, and cannot be kept")
            window.inner.append((inner, fd))
        return True

    def _check_replaceable(self, window: Window) -> None:
        """Raise Left if it would be replaced for others too."""
        path = self.rootfs.inner_path(window.mount)
        if not self.config.has_own("mount"):
            raise Left(f"{path}: its mount namespace is not its own")
        # What is mounted and unmounted on a shared mount is so on all that it is shared with.
        affected = [window.mount, self.rootfs.parent(window.mount)]
        if window.inner:  # for which the new mount is at the top for a while
            affected.append(self.rootfs.top()[1])
        for mount in affected:
            if mount is None or "shared" in mount.propagation:
                where = self.rootfs.inner_path(mount) if mount else "what it is on"
                raise Left(f"{path}: cannot be replaced: {where} is mounted shared with others")

    def _clone(self, window: Window) -> int:
        """A detached mount of the new cgroup. It is a copy of the node's, with which it is shared
        until it gets another type."""
        tree = self.rootfs.keep(syscalls.open_tree(window.directory))
        syscalls.set_propagation(tree, window.propagation())
        return tree

    def _replace(self, window: Window, tree: int) -> None:
        """Replace one mount, and take what is on it along."""
        rootfs = self.rootfs
        if window.inner:  # to be moved to, it must be somewhere
            syscalls.move_mount(tree, rootfs.top()[0])
        for inner, fd in window.inner:
            below = inner.point[len(window.mount.point) :]
            syscalls.move_mount(fd, rootfs.open_below(tree, below) if below else tree)
        old, found = rootfs.at(window.mount)
        if found is not window.mount:
            raise OSError(0, "has changed meanwhile", rootfs.inner_path(window.mount))
        syscalls.unmount(f"/proc/self/fd/{old}")
        place = rootfs.open_below(rootfs.top()[0], rootfs.inner_path(window.mount))
        syscalls.move_mount(tree, place)
        flags = syscalls.MS_REMOUNT | syscalls.MS_BIND | window.flags
        syscalls.mount(f"/proc/self/fd/{tree}", flags)


def _flags(options: "list[str]", flags: int = 0) -> int:
    """The flags of mount(2) after these options; of two that contradict the last one counts."""
    for option in options:
        flag, sets = OPTIONS.get(option, (0, True))
        flags = flags | flag if sets else flags & ~flag
    return flags
