"""Which control files of a real cgroup bound what is below it."""

import os

import pytest
from support import cgroups

from nri_hook.cgroups import parent_limits

MIB = 1 << 20
# File -> a limit, and what takes it away. Which of them there are depends on the machine.
LIMITS = {
    "memory.limit_in_bytes": (64 * MIB, -1),
    "cpu.cfs_quota_us": (50000, -1),
    "pids.max": (100, "max"),
    "memory.max": (64 * MIB, "max"),
    "memory.high": (64 * MIB, "max"),
    "memory.swap.max": (0, "max"),
    "cpu.max": ("50000 100000", "max 100000"),
    "hugetlb.2MB.limit_in_bytes": (2 * MIB, 2**63 - 1),
    "hugetlb.2MB.rsvd.limit_in_bytes": (0, 2**63 - 1),
    "hugetlb.2MB.max": (2 * MIB, "max"),
    "hugetlb.2MB.rsvd.max": (0, "max"),
}
# These bound nothing below: shares, requests and protections.
NO_LIMITS = {
    "cpu.shares": 100,
    "cpu.cfs_period_us": 50000,
    "cpu.weight": 10,
    "memory.soft_limit_in_bytes": MIB,
    "memory.swappiness": 10,
    "memory.low": MIB,
    "memory.min": MIB,
    "blkio.bfq.weight": 200,
    "io.weight": 50,
    "net_cls.classid": 1,
}
IO = {
    "blkio.throttle.read_bps_device": ("1048576", "0"),
    "blkio.throttle.write_bps_device": ("1048576", "0"),
    "blkio.throttle.read_iops_device": ("100", "0"),
    "blkio.throttle.write_iops_device": ("100", "0"),
    "io.max": ("wiops=120", "wiops=max"),
}
CPUSETS = ("cpuset.cpus", "cpuset.mems")


@pytest.fixture
def directories(scene):
    """A fresh cgroup in every hierarchy."""
    return scene.parent(scene.cgroup)


def holder(directories, file):
    """The one of these directories that has the control file; skips where there is none."""
    for directory in directories:
        if os.path.exists(f"{directory}/{file}"):
            return directory
    pytest.skip(f"no hierarchy here has {file}")


def finite(directory):
    return parent_limits.finite(directory, os.path.dirname(directory))


def test_a_fresh_cgroup_bounds_nothing(directories):
    assert {directory: finite(directory) for directory in directories} == dict.fromkeys(directories)


def test_every_limit_that_this_machine_has(directories):
    tried = {}
    for file, (limit, none) in LIMITS.items():
        for directory in directories:
            path = f"{directory}/{file}"
            if os.path.exists(path):
                cgroups.write(path, limit)
                tried[file] = finite(directory) == (path, str(limit))
                assert [
                    other for other in directories if other != directory and finite(other)
                ] == []
                cgroups.write(path, none)
                assert finite(directory) is None
    assert tried and set(tried.values()) == {True}, tried


def test_a_limit_of_swap_comes_with_one_of_memory(directories):
    directory = holder(directories, "memory.memsw.limit_in_bytes")
    for file in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
        cgroups.write(f"{directory}/{file}", 64 * MIB)
    assert finite(directory) == (f"{directory}/memory.limit_in_bytes", str(64 * MIB))
    for file in ("memory.memsw.limit_in_bytes", "memory.limit_in_bytes"):
        cgroups.write(f"{directory}/{file}", -1)
    assert finite(directory) is None


def test_what_is_no_limit(directories):
    written = []
    for file, value in NO_LIMITS.items():
        for directory in directories:
            if os.path.exists(f"{directory}/{file}"):
                cgroups.write(f"{directory}/{file}", value)
                written.append(directory)
    assert written
    assert [finite(directory) for directory in written] == [None] * len(written)


def block_device():
    """MAJOR:MINOR of a whole disk, which is what the kernel throttles."""
    for name in sorted(os.listdir("/sys/block")):
        if not name.startswith(("loop", "ram", "zram")):
            return cgroups.read(f"/sys/block/{name}/dev")
    pytest.skip("there is no disk here")


def test_a_limit_of_one_device(directories):
    device = block_device()
    tried = []
    for file, (limit, none) in IO.items():
        for directory in directories:
            if os.path.exists(f"{directory}/{file}"):
                cgroups.write(f"{directory}/{file}", f"{device} {limit}")
                path, value = finite(directory)
                assert path == f"{directory}/{file}"
                assert value.startswith(device) and limit in value
                cgroups.write(f"{directory}/{file}", f"{device} {none}")
                assert finite(directory) is None
                tried.append(file)
    if not tried:
        pytest.skip("no hierarchy here has limits of devices")


@pytest.mark.parametrize("file", CPUSETS)
def test_a_narrower_cpuset(directories, file):
    """It counts where it is narrower than the cgroup that old and new place have in common."""
    directory = holder(directories, file)
    outer = os.path.dirname(directory)
    effective = "cpuset.effective_" + file[len("cpuset.") :]
    if not os.path.exists(f"{directory}/{effective}"):
        effective = f"{file}.effective"
    every = cgroups.read(f"{outer}/{effective}")
    first = every.replace(",", "-").split("-")[0]
    if every == first:
        pytest.skip(f"this machine has but one of what {file} is about")
    cgroups.write(f"{directory}/{file}", first)
    assert finite(directory) == (f"{directory}/{effective}", first)
    assert parent_limits.finite(directory, directory) is None
    cgroups.write(f"{directory}/{file}", every)
    assert finite(directory) is None


def test_a_cgroup_that_is_gone(directories):
    with pytest.raises(FileNotFoundError):
        parent_limits.finite(f"{directories[0]}/missing", directories[0])
