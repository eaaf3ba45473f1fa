"""The node, as a process of its own sees it: what no container may change."""

import os
import re
import subprocess

from support.commands import read

# The control files that hold limits; all others are states, counters and actions.
LIMITS = re.compile(
    r"""(cpu|io|memory|pids|hugetlb|misc|rdma)\..*\b(max|min|low|high|weight|idle|prio)(\..*)?
    | cpuset\.(cpus|mems|cpus\.partition) | cgroup\.max\..* | devices\.list
    | .*\.limit_in_bytes | .*\.swappiness | cpu\.(shares|.*_us) | blkio\..*(weight|device).*
    """,
    re.X,
)
# What tests make and remove; in a unit's name "-" may be escaped. podman mounts its store on itself
# when it is first called on a machine, by whichever test.
OURS = re.compile(r"nri(-|\\x2d)test|/var/lib/containers/storage/overlay ")


class Observer:
    """The mounts, the limits of cgroups and the loaded units of a node.

    pid: a process in the node's mount namespace that lives as long as the observer; by default
    the tests' own, which never leaves it. What is named like a test's things is not looked at.
    """

    def __init__(self, pid=None):
        self.pid = pid or os.getpid()
        self._root = f"/proc/{self.pid}/root"
        self._before = self._look()

    def changes(self):
        """What is not as it was when the observer began, one line each; cgroups and units that have
        come since are no change. A control file may have gone with a service that has ended, or
        with a controller that systemd has on only as long as a unit needs it."""
        now, found = self._look(), []
        for what, before in self._before.items():
            has_gone = what.startswith("/") and what not in now
            if now.get(what) != before and not has_gone:
                found.append(f"{what}: {before!r} became {now.get(what)!r}")
        for what in now.keys() - self._before.keys():
            if what.startswith("mount "):
                found.append(f"{what}: {now[what]!r} is new")
        return found

    def _look(self):
        found = self._units()
        for line in read(f"/proc/{self.pid}/mountinfo").splitlines():
            point, kind = line.split(" ")[4], line.partition(" - ")[2].split(" ")[0]
            if not OURS.search(line):
                # By its id: one mount may be replaced by another that looks like it.
                found[f"mount {line.split(' ')[0]}"] = line
            if kind in ("cgroup", "cgroup2"):
                found.update(self._limits(point))
        return found

    def _limits(self, mount):
        """Path -> text of the limits below a mount of cgroups, read in the node's namespace."""
        found = {}
        for directory, names, files in os.walk(self._root + mount):
            names[:] = [name for name in names if not OURS.search(name)]
            for path in [f"{directory}/{name}" for name in files if LIMITS.fullmatch(name)]:
                try:
                    found[path[len(self._root) :]] = read(path)
                except OSError as error:
                    found[path[len(self._root) :]] = error.strerror
        return found

    def _units(self):
        """Unit -> whether it is loaded and has failed; a service may end and still be loaded.
        Units of mounts are left out: mounts are compared by themselves, and systemd drops the unit
        of one that a test before has unmounted when it comes to it. With the last one on a disk
        goes blockdev@DISK.target, which it was ordered after (systemd.mount(5))."""
        if not os.path.isdir("/run/systemd/system"):
            return {}
        words = ["systemctl", "list-units", "--all", "--plain", "--no-legend"]
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
        units = [line.split()[:3] for line in done.stdout.splitlines() if not OURS.search(line)]
        return {
            f"unit {name}": f"{load}, failed" if active == "failed" else load
            for name, load, active in units
            if not name.endswith(".mount") and not name.startswith("blockdev@")
        }
