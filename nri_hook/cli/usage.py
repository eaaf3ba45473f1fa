"""What a cgroup uses: CPU time, memory, processes.

Sources: kernel, admin-guide/cgroup-v2.rst, admin-guide/cgroup-v1/cpuacct.rst, memory.rst, pids.rst.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil

from nri_hook.cgroups import controlfile, hierarchies, nested

if TYPE_CHECKING:
    from nri_hook.cgroups.hierarchies import Hierarchy

# Controller of v1 -> its file of v1, the file of v2.
MEMORY = ("memory", "memory.usage_in_bytes", "memory.current")
PIDS = ("pids", "pids.current", "pids.current")
NANO, MICRO = 1e-9, 1e-6
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Usage:
    """cpu: seconds. memory: bytes. pids: processes and threads, as the controller counts them.

    What no controller counts is the sum over the processes.
    """

    def __init__(self, cpu: float, memory: int, pids: int) -> None:
        self.cpu = cpu
        self.memory = memory
        self.pids = pids

    def __str__(self) -> str:
        return f"cpu {self.cpu:.1f} s, memory {size(self.memory)}, pids {self.pids}"


class Cgroups:
    """The mounted cgroup hierarchies."""

    def __init__(self) -> None:
        self.mounted = hierarchies.mounted(hierarchies.membership(os.getpid()))

    def usage(self, cgroup: str) -> Usage:
        """Of the cgroup with this path, and all below it."""
        cpu = self._cpu(cgroup)
        memory = self._count(cgroup, *MEMORY)
        pids = self._count(cgroup, *PIDS)
        if cpu is None or memory is None or pids is None:
            members = [process for pid in self.members(cgroup) if (process := of_process(pid))]
            cpu = sum(process.cpu for process in members) if cpu is None else cpu
            memory = sum(process.memory for process in members) if memory is None else memory
            pids = len(members) if pids is None else pids
        return Usage(cpu, memory, pids)

    def members(self, cgroup: str) -> list[int]:
        """The pids in it, and in those below it."""
        found: set[int] = set()
        for hierarchy in self.mounted.values():
            directory = _directory(hierarchy, cgroup)
            try:
                for here in nested.walk(directory) if directory else ():
                    found.update(_members(here))
            except OSError:  # it has gone
                pass
        return sorted(found)

    def _cpu(self, cgroup: str) -> float | None:
        spent = self._read("cpuacct", cgroup, "cpuacct.usage")
        if spent is not None:
            return int(spent) * NANO
        table = self._read(hierarchies.V2, cgroup, "cpu.stat")
        counters = dict(line.split() for line in (table or "").splitlines())
        return int(counters["usage_usec"]) * MICRO if "usage_usec" in counters else None

    def _count(self, cgroup: str, controller: str, v1: str, v2: str) -> int | None:
        text = self._read(controller, cgroup, v1) or self._read(hierarchies.V2, cgroup, v2)
        return int(text) if text else None

    def _read(self, controller: str, cgroup: str, file: str) -> str | None:
        for name, hierarchy in self.mounted.items():
            directory = _directory(hierarchy, cgroup)
            if controller in name.split(",") and directory:
                try:
                    return controlfile.read(f"{directory}/{file}")
                except OSError:
                    pass
        return None


class Process:
    """A process: pid, name, cpu and memory (resident) as Usage has them."""

    def __init__(self, pid: int, name: str, cpu: float, memory: int) -> None:
        self.pid = pid
        self.name = name
        self.cpu = cpu
        self.memory = memory


def of_process(pid: int) -> Process | None:
    """What a process uses, None where it has ended."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            memory = process.memory_info().rss
            return Process(pid, process.name(), times.user + times.system, memory)
    except psutil.Error:
        return None


def size(count: float) -> str:
    """Bytes in the unit that fits."""
    for unit in UNITS:
        if count < 1024 or unit == UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == UNITS[0] else f"{count:.1f} {unit}"


def _members(directory: int) -> list[int]:
    """The pids in an open cgroup, but not in those below it."""
    try:
        return list(map(int, controlfile.read("cgroup.procs", directory).split()))
    except OSError:  # it has gone, or is one of threads
        return []


def _directory(hierarchy: Hierarchy, cgroup: str) -> str:
    """The directory of a cgroup, "" where this hierarchy does not show one."""
    if not hierarchy.reaches(cgroup):
        return ""
    directory = hierarchy.directory(cgroup)
    return directory if os.path.isdir(directory) else ""
