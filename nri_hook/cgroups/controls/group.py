"""The controls of a cgroup, each by one name whatever hierarchy and version has it.

Names, units and defaults are cgroup v2's. On v1 they are translated as the runtimes do it:
opencontainers/cgroups, fs/ and fs2/; the weights as weights.py says. None is "no limit".
"""

from nri_hook.cgroups import hierarchies, parent_limits
from nri_hook.cgroups.controls import weights
from nri_hook.cgroups.controls.disks import Disks, check_weight
from nri_hook.errors import ControlError, NoControl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from nri_hook.cgroups.controls.home import Home

# Control -> its controller on v1, its file there, its file on v2.
FILES = {
    "cpu_idle": ("cpu", "cpu.idle", "cpu.idle"),
    "cpuset_cpus": ("cpuset", "cpuset.cpus", "cpuset.cpus"),
    "cpuset_mems": ("cpuset", "cpuset.mems", "cpuset.mems"),
    "memory_max": ("memory", "memory.limit_in_bytes", "memory.max"),
    "memory_high": ("memory", "", "memory.high"),
    "memory_low": ("memory", "memory.soft_limit_in_bytes", "memory.low"),
    "memory_min": ("memory", "", "memory.min"),
    "swap_max": ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"),
    "pids_max": ("pids", "pids.max", "pids.max"),
}
MEMORY, SWAP = FILES["memory_max"][1], FILES["swap_max"][1]


class Group(Disks):
    """A cgroup whose controls are attributes: read them, or assign to them.

    Everything raises ControlError, which names control and place: NoControl where the kernel has
    none there. Under systemd the property of the unit is set too, or Refused is raised.
    """

    __slots__ = ()

    @property
    def cpu_quota(self) -> "Optional[tuple[int, int]]":
        """(quota, period) in microseconds: CPU time per period. Under systemd the quota is rounded
        up to a whole percent of a CPU."""
        home = self._home("cpu_quota", "cpu")
        if home.version == 2:
            quota, period = home.read("cpu_quota", "cpu.max").split()
        else:
            quota = home.read("cpu_quota", "cpu.cfs_quota_us")
            period = home.read("cpu_quota", "cpu.cfs_period_us")
        return None if quota in ("max", "-1") else (int(quota), int(period))

    @cpu_quota.setter
    def cpu_quota(self, value: "Optional[tuple[int, int]]") -> None:
        home = self._home("cpu_quota", "cpu")
        if home.version == 2:
            if home.unit and value:
                from nri_hook.cgroups import unit_properties

                value = unit_properties.whole_percent(*value), value[1]
            settings = {"cpu.max": " ".join(map(str, value)) if value else "max"}
        elif value is None:
            settings = {"cpu.cfs_quota_us": "-1"}
        else:
            settings = {"cpu.cfs_quota_us": str(value[0]), "cpu.cfs_period_us": str(value[1])}
            if value[1] >= int(home.read("cpu_quota", "cpu.cfs_period_us")):
                # In between the share may not be larger than a parent allows.
                settings = _reversed(settings)
        self._write("cpu_quota", home, settings)

    @property
    def cpu_weight(self) -> int:
        """1 to 10000, 100 by default. An idle cgroup takes none, and shows a low one."""
        home = self._home("cpu_weight", "cpu")
        if home.version == 2:
            return int(home.read("cpu_weight", "cpu.weight"))
        return weights.from_shares(int(home.read("cpu_weight", "cpu.shares")))

    @cpu_weight.setter
    def cpu_weight(self, value: int) -> None:
        home = self._home("cpu_weight", "cpu")
        check_weight("cpu_weight", home, value)
        if home.has("cpu.idle") and self.cpu_idle:
            raise ControlError("cpu_weight: an idle cgroup takes none", path=home.directory)
        if home.version == 2:
            self._write("cpu_weight", home, {"cpu.weight": str(value)})
        else:
            self._write("cpu_weight", home, {"cpu.shares": str(weights.to_shares(value))})

    @property
    def cpu_idle(self) -> bool:
        """Whether it runs only where nothing else wants the CPU. After it the weight is the
        default."""
        home, file = self._file("cpu_idle")
        return home.read("cpu_idle", file) == "1"

    @cpu_idle.setter
    def cpu_idle(self, value: bool) -> None:
        home, file = self._file("cpu_idle")
        settings = {file: "1" if value else "0"}
        if home.unit and not value:  # systemd knows idle as a weight, and takes it for the new one
            weight = weights.DEFAULT if self.cpu_idle else self.cpu_weight
            settings["cpu.weight"] = str(weight)
        self._write("cpu_idle", home, settings)

    @property
    def cpuset_cpus(self) -> "set[int]":
        """The CPUs that it asks for; on v2 empty where it has what its parent has. A cgroup with
        processes cannot go back to that."""
        return self._set_of("cpuset_cpus")

    @cpuset_cpus.setter
    def cpuset_cpus(self, value: "set[int]") -> None:
        self._set_set("cpuset_cpus", value)

    @property
    def cpuset_mems(self) -> "set[int]":
        """The memory nodes that it asks for, likewise."""
        return self._set_of("cpuset_mems")

    @cpuset_mems.setter
    def cpuset_mems(self, value: "set[int]") -> None:
        self._set_set("cpuset_mems", value)

    @property
    def memory_max(self) -> "Optional[int]":
        """Bytes. On v1 swap_max stays what it was, but for None, which takes away that limit
        too."""
        return self._limit("memory_max")

    @memory_max.setter
    def memory_max(self, value: "Optional[int]") -> None:
        home, file = self._file("memory_max")
        settings = {file: _text(file, value)}
        if home.version == 1 and home.has(SWAP):
            swap = self.swap_max
            if value is None:
                settings = {SWAP: "-1", MEMORY: "-1"}
            elif swap is not None:
                settings[SWAP] = str(value + swap)
                if value > (self.memory_max or 0):  # at no time may memory be above the two
                    settings = _reversed(settings)
        self._write("memory_max", home, settings)

    @property
    def memory_high(self) -> "Optional[int]":
        """Bytes, v2 alone."""
        return self._limit("memory_high")

    @memory_high.setter
    def memory_high(self, value: "Optional[int]") -> None:
        self._set_limit("memory_high", value)

    @property
    def memory_low(self) -> "Optional[int]":
        """Bytes, 0 for no protection, None for all of it (v2 alone). On v1 it is the soft
        limit."""
        found = self._limit("memory_low")
        home, _ = self._file("memory_low")
        return found or 0 if home.version == 1 else found

    @memory_low.setter
    def memory_low(self, value: "Optional[int]") -> None:
        home, _ = self._file("memory_low")
        if home.version == 1 and value is None:
            raise NoControl("memory_low: a soft limit protects so many bytes", path=home.directory)
        self._set_limit("memory_low", value or None if home.version == 1 else value)

    @property
    def memory_min(self) -> "Optional[int]":
        """Bytes, 0 for no protection, None for all of it; v2 alone."""
        return self._limit("memory_min")

    @memory_min.setter
    def memory_min(self, value: "Optional[int]") -> None:
        self._set_limit("memory_min", value)

    @property
    def swap_max(self) -> "Optional[int]":
        """Bytes of swap, without the memory. On v1 it needs a memory_max."""
        home, _ = self._file("swap_max")
        found = self._limit("swap_max")
        if home.version == 1 and found is not None:
            return found - (self.memory_max or 0)
        return found

    @swap_max.setter
    def swap_max(self, value: "Optional[int]") -> None:
        home, _ = self._file("swap_max")
        if home.version == 1 and value is not None:
            memory = self.memory_max
            if memory is None:
                raise ControlError("swap_max: v1 needs a memory_max for it", path=home.directory)
            value += memory
        self._set_limit("swap_max", value)

    @property
    def pids_max(self) -> "Optional[int]":
        """The number of processes and threads."""
        return self._limit("pids_max")

    @pids_max.setter
    def pids_max(self, value: "Optional[int]") -> None:
        self._set_limit("pids_max", value)

    def _file(self, control: str) -> "tuple[Home, str]":
        controller, v1, v2 = FILES[control]
        home = self._home(control, controller)
        file = v2 if home.version == 2 else v1
        if not file:
            raise NoControl(f"{control}: cgroup v1 has no such control", path=home.directory)
        return home, file

    def _limit(self, control: str) -> "Optional[int]":
        home, file = self._file(control)
        text = home.read(control, file)
        return None if text == "max" or int(text) >= parent_limits.UNLIMITED else int(text)

    def _set_limit(self, control: str, value: "Optional[int]") -> None:
        home, file = self._file(control)
        self._write(control, home, {file: _text(file, value)})

    def _set_of(self, control: str) -> "set[int]":
        home, file = self._file(control)
        return hierarchies.numbers(home.read(control, file))

    def _set_set(self, control: str, value: "set[int]") -> None:
        home, file = self._file(control)
        if not value and self._set_of(control):  # the unit would take it, the kernel does not
            raise ControlError(
                f"{control}: cannot be emptied, expected numbers", path=home.directory
            )
        self._write(control, home, {file: hierarchies.ranges(value)})


def _text(file: str, value: "Optional[int]") -> str:
    if value is not None:
        return str(value)
    return "-1" if file.endswith("_in_bytes") else "max"


def _reversed(settings: "dict[str, str]") -> "dict[str, str]":
    return dict(reversed(list(settings.items())))
