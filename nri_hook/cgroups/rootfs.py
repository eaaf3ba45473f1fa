"""A container's root filesystem before it pivots, and which mount a path in it leads to.

A path may lead elsewhere than where the runtime mounted: to another mount that lies over it, which
may be the node's own, or to where somebody has renamed a directory above the root filesystem. So
that is opened once, and a mount is what has its id.
Sources: mount_namespaces(7), openat2(2), statx(2).
"""

import errno
import os

from nri_hook.cgroups import mountinfo, syscalls
from nri_hook.errors import Left, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from nri_hook.cgroups.mountinfo import Mount

# Why a path leads nowhere: something that has no such directory, or a link, lies over it.
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Rootfs:
    """The root filesystem of a container. All that it opens stays open until close().

    path: absolute and without links, from the root of `pid`, which is its first process and
    waits. mounts: of that process, which are the node's too.
    """

    def __init__(self, pid: int, path: str) -> None:
        """Nothing is opened yet: most containers need none of it."""
        self.pid = pid
        self.path = path
        self.mounts = mountinfo.read(pid)
        self._by_id = {mount.id: mount for mount in self.mounts}
        self._fds: "list[int]" = []
        self._top: "Optional[tuple[int, Mount]]" = None

    def close(self) -> None:
        """Close all descriptors."""
        while self._fds:
            os.close(self._fds.pop())

    def top(self) -> "tuple[int, Mount]":
        """What it is open on, and its mount, which the runtime has made. Raises Left or
        Refused."""
        if self._top is None:
            try:
                # From the root of init, as the paths of its mountinfo: the runtime may be in a
                # chroot.
                base = self.open(f"/proc/{self.pid}/root", os.O_PATH | os.O_DIRECTORY)
                fd = self.open_below(base, self.path)
                id, is_root = syscalls.mount_of(fd)
            except OSError as error:
                if error.errno == errno.ENOSYS:
                    message = "its mounts cannot be told apart: Linux 5.8 or later is needed"
                    raise Left(message) from None
                message = f"cannot be opened in the container: {error.strerror}"
                raise Refused(message, path=self.path) from None
            mount = self._by_id.get(id)
            if not is_root or mount is None or mount.point != self.path:
                message = "is not the root filesystem that the runtime has mounted"
                raise Refused(message, path=self.path)
            self._top = fd, mount
        return self._top

    def holds(self, mount: "Mount") -> bool:
        """Whether a mount is on it: by their ids, for a path may change meanwhile. Raises Left or
        Refused."""
        found = self.is_on(mount, self.top()[1])
        if found and not mount.point.startswith(self.path.rstrip("/") + "/"):
            raise Refused("was renamed while the container was created", path=self.path)
        return found

    def is_on(self, mount: "Mount", other: "Mount") -> bool:
        """Whether a mount is on `other`, or on a mount that is."""
        while mount.parent != other.id:
            above = self.parent(mount)
            if above is None or above is mount:
                return False
            mount = above
        return True

    def parent(self, mount: "Mount") -> "Optional[Mount]":
        """The mount that it is on, None if the process does not see that."""
        return self._by_id.get(mount.parent)

    def inner(self, mount: "Mount") -> "list[Mount]":
        """The mounts that are right on it, at its root or below."""
        return [other for other in self.mounts if other.parent == mount.id]

    def inner_path(self, mount: "Mount") -> str:
        """Where a mount that is on it is for the container."""
        return mount.point[len(self.path.rstrip("/")) :] or "/"

    def at(self, mount: "Mount") -> "tuple[int, Optional[Mount]]":
        """What the path of a mount leads to: a descriptor, and the mount that this is on, None if
        it leads nowhere. Raises Left."""
        path = self.inner_path(mount)
        try:
            fd = self.open_below(self.top()[0], path)
            return fd, self._by_id.get(syscalls.mount_of(fd)[0])
        except OSError as error:
            if error.errno in NOT_THERE:
                return -1, None
            raise Left(f"{path}: cannot be looked at in the container: {error.strerror}") from None

    def open(self, path: str, flags: int) -> int:
        """Open a path of our own. Raises OSError."""
        return self.keep(os.open(path, flags | os.O_CLOEXEC))

    def open_below(self, top: int, path: str) -> int:
        """Open a path below `top`; no link is followed. Raises OSError."""
        return self.keep(syscalls.open_in_root(top, path))

    def keep(self, fd: int) -> int:
        """Have a descriptor closed with the others."""
        self._fds.append(fd)
        return fd
