"""Control files of cgroup v2 as properties of a unit: what a daemon-reload writes again.

Source: systemd.resource-control(5), org.freedesktop.systemd1(5).
"""

from nri_hook.cgroups import hierarchies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BYTES = {
    "memory.max": "MemoryMax",
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax",
    "memory.zswap.max": "MemoryZSwapMax",
    "pids.max": "TasksMax",
}
SETS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}
IO = {
    "rbps": "IOReadBandwidthMax",
    "wbps": "IOWriteBandwidthMax",
    "riops": "IOReadIOPSMax",
    "wiops": "IOWriteIOPSMax",
}
NO_LIMIT = (1 << 64) - 1
# What a unit has that nobody asked anything of; of all others it is NO_LIMIT.
DEFAULTS: "dict[str, Any]" = {
    **dict.fromkeys(("MemoryLow", "MemoryMin"), 0),
    **dict.fromkeys(("CPUWeight", "IOWeight"), 100),
    **dict.fromkeys((*SETS.values(), *IO.values()), []),
}


def limits(settings: "dict[str, str]") -> "dict[str, tuple[str, Any]]":
    """Property -> (D-Bus type, value) for what control files say, defaults left out."""
    found = of(settings)
    for name in IO.values():
        if name in found:
            kind, entries = found[name]
            found[name] = kind, [entry for entry in entries if entry[1] != NO_LIMIT]
    return {name: pair for name, pair in found.items() if pair[1] != DEFAULTS.get(name, NO_LIMIT)}


def of(settings: "dict[str, str]") -> "dict[str, tuple[str, Any]]":
    """Property -> (D-Bus type, value) for the text of control files. "No limit" is a value too."""
    found: "dict[str, tuple[str, Any]]" = {}
    for file, name in BYTES.items():
        text = settings.get(file, "").strip()
        if text:
            found[name] = ("t", _number(text))
    for file, name in SETS.items():
        if file in settings:
            found[name] = ("ay", _mask(settings[file]))
    if settings.get("cpu.idle", "0").strip() == "1":
        found["CPUWeight"] = ("t", 0)
    elif "cpu.weight" in settings:
        found["CPUWeight"] = ("t", int(settings["cpu.weight"]))
    if "cpu.max" in settings:
        quota, _, period = settings["cpu.max"].strip().partition(" ")
        found["CPUQuotaPerSecUSec"] = ("t", NO_LIMIT)
        if quota != "max":
            found["CPUQuotaPerSecUSec"] = ("t", int(quota) * 1000000 // int(period))
            found["CPUQuotaPeriodUSec"] = ("t", int(period))
    for line in settings.get("io.weight", "").splitlines():
        device, _, value = line.partition(" ")
        if device == "default":
            found["IOWeight"] = ("t", int(value))
    for line in settings.get("io.max", "").splitlines():
        device, *pairs = line.split()
        for pair in pairs:
            key, _, value = pair.partition("=")
            if key in IO:
                list_of = found.setdefault(IO[key], ("a(st)", []))[1]
                list_of.append([f"/dev/block/{device}", _number(value)])
    return found


def whole_percent(quota: int, period: int) -> int:
    """The quota that the runtimes take instead: systemd keeps it as a percentage of a CPU without
    a fraction, so they round up (opencontainers/cgroups, systemd/common.go, addCPUQuota)."""
    percent = -(-(quota * 1000000 // period) // 10000)
    return percent * period // 100


def _number(text: str) -> int:
    return NO_LIMIT if text == "max" else int(text)


def _mask(ranges: str) -> "list[int]":
    """A kernel list such as 0-3,8 as a bit mask, lowest byte first."""
    number = 0
    for item in hierarchies.numbers(ranges):
        number |= 1 << item
    return list(number.to_bytes((number.bit_length() + 7) // 8, "little"))
