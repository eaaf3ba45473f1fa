"""The cgroup hierarchies of this node: where they are mounted, where a process is in them.

Source: cgroups(7), proc_pid_mountinfo(5); kernel, admin-guide/cgroup-v2.rst.
"""

import os

from nri_hook.cgroups import controlfile
from nri_hook.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nri_hook.cgroups.mountinfo import Mount

V2 = ""


class Hierarchy:
    """One hierarchy. name: as in /proc/PID/cgroup: its controllers ("cpu,cpuacct"), "name=X" or
    "" for v2. mount: where it is mounted. root: the cgroup that is seen there."""

    def __init__(self, name: str, mount: str, root: str) -> None:
        self.name = name
        self.mount = mount
        self.root = root

    def directory(self, path: str) -> str:
        """The directory of the cgroup `path` of /proc/PID/cgroup."""
        if self.root != "/":
            path = path[len(self.root) :]
        return self.mount + path.rstrip("/")

    def absolute(self, cgroups_path: str) -> str:
        """The cgroup of a cgroupsPath that begins with a slash. runc and crun begin at what is
        mounted (opencontainers/cgroups, fs/paths.go, fs2/defaultpath.go; crun, CGROUP_ROOT)."""
        return self.root.rstrip("/") + cgroups_path

    def reaches(self, path: str) -> bool:
        """Whether the cgroup `path` lies below what is mounted."""
        return self.root == "/" or (path + "/").startswith(self.root + "/")


def membership(pid: int) -> "dict[str, str]":
    """Hierarchy name -> absolute path of the cgroup of `pid` in it (/proc/PID/cgroup).

    Raises HookError where there is no such process.
    """
    path = f"/proc/{pid}/cgroup"
    try:
        lines = os.fsdecode(controlfile.read_bytes(path)).split("\n")[:-1]
    except OSError as error:
        raise HookError(f"no such process: {error.strerror}", path=path) from None
    found = {}
    for line in lines:
        _, name, cgroup = line.split(":", 2)
        found[name] = cgroup
    return found


def is_within(cgroup: str, outer: str) -> bool:
    """Whether the cgroup `cgroup` is `outer` or lies below it."""
    return (cgroup + "/").startswith(outer.rstrip("/") + "/")


def mounted(names: "dict[str, str]") -> "dict[str, Hierarchy]":
    """The mounted hierarchies among `names`, each by the mount that shows most of it.

    A mount that lies hidden under another one does not count.
    """
    from nri_hook.cgroups import mountinfo

    found: "dict[str, Hierarchy]" = {}
    for mount in mountinfo.read("self"):
        if mount.kind not in ("cgroup", "cgroup2"):
            continue
        for name in names:
            if _is_mount_of(name, mount) and _is_visible(mount):
                if name not in found or len(mount.root) < len(found[name].root):
                    found[name] = Hierarchy(name, mount.point, mount.root)
    return found


def _is_mount_of(name: str, mount: "Mount") -> bool:
    if name == V2:
        return mount.kind == "cgroup2"
    return mount.kind == "cgroup" and set(mount.super_options).issuperset(name.split(","))


def _is_visible(mount: "Mount") -> bool:
    try:
        found = os.stat(mount.point).st_dev
    except OSError:
        return False
    return f"{os.major(found)}:{os.minor(found)}" == mount.device


def numbers(ranges: str) -> "set[int]":
    """The numbers of a kernel list such as 0-3,8 (cpuset(7), "List format")."""
    found: "set[int]" = set()
    for part in ranges.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            found.update(range(int(first), int(last or first) + 1))
    return found


def ranges(numbers: "set[int]") -> str:
    """The numbers as such a list."""
    parts: "list[list[int]]" = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{a}-{b}" if a < b else str(a) for a, b in parts)
