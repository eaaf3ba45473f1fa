"""Which cgroups bound what is below them."""

import os

from nri_hook.cgroups import controlfile, hierarchies

# Below this v1 prints "no limit" as the largest multiple of a page that a long holds.
UNLIMITED = 1 << 62
V2 = ("memory.max", "memory.high", "memory.swap.max", "cpu.max", "pids.max", "io.max")
V1 = (
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "cpu.cfs_quota_us",
    "pids.max",
    "blkio.throttle.read_bps_device",
    "blkio.throttle.write_bps_device",
    "blkio.throttle.read_iops_device",
    "blkio.throttle.write_iops_device",
)
CPUSETS = (
    "cpuset.cpus.effective",
    "cpuset.mems.effective",
    "cpuset.effective_cpus",
    "cpuset.effective_mems",
)


def finite(directory: str, common: str) -> "tuple[str, str] | None":
    """The first (file, value) by which the cgroup at `directory` bounds its children, or None.

    common: the directory above it that bounds old and new place alike; a cpuset counts where it is
    narrower than there. Source: kernel, cgroup-v2.rst, cgroup-v1/*.rst.
    """
    names = set(os.listdir(directory))
    for name in sorted(names):
        hugetlb = name.startswith("hugetlb.") and name.endswith((".max", ".limit_in_bytes"))
        if name in V2 or name in V1 or hugetlb:
            value = controlfile.read(f"{directory}/{name}").strip()
            if _is_finite(value):
                return f"{directory}/{name}", value
    for name in CPUSETS:
        if name in names:
            inner, outer = (
                controlfile.read(f"{place}/{name}").strip() for place in (directory, common)
            )
            if not hierarchies.numbers(outer) <= hierarchies.numbers(inner):
                return f"{directory}/{name}", inner
    return None


def _is_finite(value: str) -> bool:
    first = value.split(" ", 1)[0]
    if first.isdigit():
        return int(first) < UNLIMITED or ":" in value
    return first not in ("", "max", "-1")
