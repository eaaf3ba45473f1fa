"""A plugin's view of a container's control files, on the cgroups of real containers."""

import os
import re
import subprocess

import pytest
from support import cgroups
from support.commands import read

from nri_hook.cgroups import hierarchies
from nri_hook.cgroups.controls import Controls, weights
from nri_hook.errors import ControlError, HookError, NoControl, Refused

MIB = 1 << 20
V1_UNLIMITED = str((1 << 63) - os.sysconf("SC_PAGE_SIZE"))


def disk():
    """The number of a disk of this machine that a throttle takes, "" where it has none."""
    for name in sorted(os.listdir("/sys/block")):
        if not name.startswith(("loop", "ram", "zram")):
            return read(f"/sys/block/{name}/dev").strip()
    return ""


DISK = disk()
LIMITS = {"rbps": 5 * MIB, "wiops": 70}
# (control, value, the raw files on v1, on v2), in an order that the kernel takes.
STEPS = [
    ("cpu_quota", (50000, 200000), {"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "200000"}),
    ("cpu_quota", (40000, 50000), {"cpu.cfs_quota_us": "40000", "cpu.cfs_period_us": "50000"}),
    ("cpu_quota", None, {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "50000"}),
    ("cpu_weight", 59, {"cpu.shares": "521"}),
    ("cpu_weight", 10000, {"cpu.shares": "262144"}),
    ("cpu_weight", 1, {"cpu.shares": "2"}),
    ("cpu_idle", True, {"cpu.idle": "1"}),
    ("cpu_idle", False, {"cpu.idle": "0", "cpu.shares": "1024"}),
    ("cpuset_cpus", {0}, {"cpuset.cpus": "0"}),
    ("cpuset_mems", {0}, {"cpuset.mems": "0"}),
    ("memory_max", 64 * MIB, {"memory.limit_in_bytes": str(64 * MIB)}),
    ("swap_max", 32 * MIB, {"memory.memsw.limit_in_bytes": str(96 * MIB)}),
    (
        "memory_max",
        128 * MIB,
        {
            "memory.limit_in_bytes": str(128 * MIB),
            "memory.memsw.limit_in_bytes": str(160 * MIB),
        },
    ),
    (
        "memory_max",
        48 * MIB,
        {"memory.limit_in_bytes": str(48 * MIB), "memory.memsw.limit_in_bytes": str(80 * MIB)},
    ),
    ("swap_max", 0, {"memory.memsw.limit_in_bytes": str(48 * MIB)}),
    ("swap_max", None, {"memory.memsw.limit_in_bytes": V1_UNLIMITED}),
    ("memory_max", None, {"memory.limit_in_bytes": V1_UNLIMITED}),
    ("memory_low", 8 * MIB, {"memory.soft_limit_in_bytes": str(8 * MIB)}),
    ("memory_low", 0, {"memory.soft_limit_in_bytes": V1_UNLIMITED}),
    ("memory_min", 4 * MIB, {}),
    ("memory_min", None, {}),
    ("memory_min", 0, {}),
    ("memory_high", 72 * MIB, {}),
    ("memory_high", None, {}),
    ("pids_max", 77, {"pids.max": "77"}),
    ("pids_max", None, {"pids.max": "max"}),
    ("io_weight", 4500, {"blkio.bfq.weight": "500"}),
    ("io_weight", 60, {"blkio.bfq.weight": "60"}),
    (
        "io_max",
        {DISK: LIMITS},
        {
            "blkio.throttle.read_bps_device": f"{DISK} {5 * MIB}",
            "blkio.throttle.write_iops_device": f"{DISK} 70",
            "blkio.throttle.write_bps_device": "",
        },
    ),
    (
        "io_max",
        {DISK: {"wbps": 9 * MIB}},
        {
            "blkio.throttle.read_bps_device": "",
            "blkio.throttle.write_iops_device": "",
            "blkio.throttle.write_bps_device": f"{DISK} {9 * MIB}",
        },
    ),
    ("io_max", {}, {"blkio.throttle.write_bps_device": ""}),
]


def bytes_or_max(value):
    return "max" if value is None else str(value)


# Control -> the same for v2, from its value.
V2 = {
    "cpu_quota": lambda value: {"cpu.max": "{} {}".format(*(value or ("max", "*")))},
    "cpu_weight": lambda value: {"cpu.weight": str(value)},
    "cpu_idle": lambda value: {"cpu.idle": str(int(value)), **({} if value else NO_LONGER_IDLE)},
    "cpuset_cpus": lambda value: {"cpuset.cpus": "-".join(map(str, sorted(value)))},
    "cpuset_mems": lambda value: {"cpuset.mems": "-".join(map(str, sorted(value)))},
    "memory_max": lambda value: {"memory.max": bytes_or_max(value)},
    "memory_high": lambda value: {"memory.high": bytes_or_max(value)},
    "memory_low": lambda value: {"memory.low": bytes_or_max(value)},
    "memory_min": lambda value: {"memory.min": bytes_or_max(value)},
    "swap_max": lambda value: {"memory.swap.max": bytes_or_max(value)},
    "pids_max": lambda value: {"pids.max": bytes_or_max(value)},
    "io_weight": lambda value: {"io.weight": f"default {value}"},
    "io_max": lambda value: {"io.max": io_max(value)},
}
NO_LONGER_IDLE = {"cpu.weight": "100"}


def io_max(value):
    return "\n".join(
        " ".join([d, *(f"{k}={limits.get(k, 'max')}" for k in ("rbps", "wbps", "riops", "wiops"))])
        for d, limits in value.items()
    )


def levels(pid):
    """Hierarchy -> the directories of a container from its scope down, or its only one."""
    found = {}
    for name, directory in cgroups.directories(pid).items():
        if "/nri-test-" not in directory:  # not its own
            continue
        head, scope, rest = directory.partition(".scope")
        found[name] = [head + scope]
        for part in rest.strip("/").split("/"):
            if part:
                found[name].append(f"{found[name][-1]}/{part}")
    return found


def problems(pid, control, files):
    """What is wrong in the raw files of all levels."""
    found = []
    for file, text in files.items():
        (directories,) = [f for f in levels(pid).values() if os.path.exists(f"{f[-1]}/{file}")]
        for directory in directories:
            raw = read(f"{directory}/{file}").strip()
            # Without a quota its period says nothing: the kernel leaves it, systemd resets it.
            if raw != text and not (text == "max *" and raw.startswith("max ")):
                found.append(f"{control}: {directory}/{file} is {raw!r}, expected {text!r}")
    return found


def play(controls, pid):
    """Set and read every control of STEPS that is there; those that are not, and what is wrong."""
    lacking, wrong = set(), []
    for control, value, v1 in STEPS:
        files = v1 if "cpu" in levels(pid) else V2[control](value)
        own = [directories[-1] for directories in levels(pid).values()]
        is_there = files and all(any(os.path.exists(f"{f}/{n}") for f in own) for n in files)
        if control == "io_max" and not DISK:
            continue
        if not is_there:
            lacking.add(control)
            with pytest.raises(NoControl, match=f"{control}: "):
                setattr(controls, control, value)
            continue
        setattr(controls, control, value)
        wrong += problems(pid, control, files)
        if getattr(controls, control) != value:
            wrong.append(f"{control} reads {getattr(controls, control)!r}, expected {value!r}")
    return lacking, wrong


def test_every_control(scene, oci):
    bundle = scene.bundle()
    oci.create("every", bundle).check()
    pid = oci.pid("every")
    controls = Controls(bundle.cgroups_path, None, pid, creating=True)
    lacking, wrong = play(controls, pid)
    assert not wrong, "\n".join(wrong)
    if "cpu" in levels(pid):
        assert lacking == {"memory_high", "memory_min"}
        assert DISK


# systemd

HALF = {
    "cpu_quota": (25500, 50000),
    "cpu_weight": 59,
    "memory_max": 64 * MIB,
    "memory_high": 48 * MIB,
    "memory_low": 8 * MIB,
    "memory_min": 4 * MIB,
    "swap_max": 16 * MIB,
    "pids_max": 77,
    "io_max": {DISK: LIMITS},
}
IDLE = {"cpu_idle": True}
NONE = {
    "cpu_idle": False,
    "cpu_quota": None,
    "memory_max": None,
    "memory_high": None,
    "memory_low": 0,
    "memory_min": 0,
    "swap_max": None,
    "pids_max": None,
    "io_max": {},
}


def under_systemd(runtime):
    words = [*runtime.command(), "--systemd-cgroup"]
    runtime.command = lambda: words


def reload():
    subprocess.run(["systemctl", "daemon-reload"], check=True)


def differences(pid, wanted):
    return [
        p for control, value in wanted.items() for p in problems(pid, control, V2[control](value))
    ]


def set_all(controls, pid, wanted):
    for control, value in wanted.items():
        setattr(controls, control, value)
    assert differences(pid, wanted) == []
    reload()
    assert differences(pid, wanted) == []
    assert {control: getattr(controls, control) for control in wanted} == wanted


@pytest.fixture
def in_scope(scene, oci):
    """The pid of a container in a scope with limits, and its controls."""
    under_systemd(oci)

    def edit(config):
        resources = config["linux"]["resources"]
        resources["cpu"] = {"quota": 30000, "period": 100000, "shares": 2048}
        resources["memory"] = {"limit": 32 * MIB, "swap": 40 * MIB}
        resources["pids"] = {"limit": 20}

    path = f"system.slice:{scene.name}:scoped"
    oci.create("scoped", scene.bundle(edit=edit, cgroups_path=path)).check()
    pid = oci.pid("scoped")
    return pid, Controls(path, None, pid, creating=True)


@pytest.mark.guest
def test_a_daemon_reload_undoes_nothing(in_scope, oci):
    pid, controls = in_scope
    (directories,) = levels(pid).values()
    assert len(directories) == (2 if oci.binary == "crun" else 1)
    set_all(controls, pid, HALF)
    set_all(controls, pid, IDLE)
    assert controls.cpu_quota == HALF["cpu_quota"]
    with pytest.raises(ControlError, match="cpu_weight: an idle cgroup takes none"):
        controls.cpu_weight = 70
    set_all(controls, pid, NONE)
    assert controls.cpu_weight == 100
    set_all(controls, pid, {"cpu_weight": 300})
    assert not controls.cpu_idle


@pytest.mark.guest
def test_a_quota_in_a_scope_is_whole_percents(in_scope):
    pid, controls = in_scope
    controls.cpu_quota = (33333, 100000)
    assert controls.cpu_quota == (34000, 100000)
    reload()
    assert differences(pid, {"cpu_quota": (34000, 100000)}) == []


@pytest.mark.tcg
def test_cpusets_and_io_weight_in_a_scope(in_scope, oci):
    pid, controls = in_scope
    assert controls.parent_cpus == {0, 1}
    assert controls.parent_mems == {0}
    set_all(controls, pid, {"cpuset_cpus": {1}, "cpuset_mems": {0}, "io_weight": 4500})
    assert allowed(pid) == {1}
    oci.start("scoped").check()
    done = oci.exec("scoped", "grep", "Cpus_allowed_list", "/proc/self/status").check()
    assert done.out.split()[-1] == "1"
    set_all(controls, pid, {"cpuset_cpus": {0, 1}, "cpuset_mems": {0}, "io_weight": 100})
    assert allowed(pid) == {0, 1}
    with pytest.raises(ControlError, match="cpuset_cpus: cannot be emptied, expected numbers"):
        controls.cpuset_cpus = set()
    set_all(controls, pid, {"cpuset_cpus": {0}})


@pytest.mark.tcg
def test_every_control_where_all_are_there(scene, oci):
    bundle = scene.bundle()
    oci.create("every", bundle).check()
    pid = oci.pid("every")
    controls = Controls(bundle.cgroups_path, None, pid, creating=True)
    assert play(controls, pid) == (set(), [])
    controls.cpuset_cpus = {1}
    assert allowed(pid) == {1}


def allowed(pid):
    """The CPUs on which a process may run."""
    (found,) = re.findall(r"Cpus_allowed_list:\s*(\S+)", read(f"/proc/{pid}/status"))
    return hierarchies.numbers(found)


# What is refused


@pytest.mark.hostonly
def test_a_cpuset_is_of_what_the_parent_has(scene, runc):
    bundle = scene.bundle()
    runc.create("c", bundle).check()
    pid = runc.pid("c")
    controls = Controls(bundle.cgroups_path, None, pid)
    assert controls.parent_cpus == allowed(os.getpid())
    controls.cpuset_cpus -= {0}
    assert allowed(pid) == allowed(os.getpid()) - {0}
    with pytest.raises(ControlError, match=r"cpuset\.cpus: cpuset_cpus: cannot take '4000'"):
        controls.cpuset_cpus = {4000}
    with pytest.raises(ControlError, match="cpuset_mems: cannot be emptied, expected numbers"):
        controls.cpuset_mems = set()


def refused(message, *arguments, **options):
    with pytest.raises(Refused, match=message):
        Controls(*arguments, **options)


def test_not_its_own(scene, runc):
    """shared: a container that was given the cgroup of another. disabled, root: it stands where
    whoever started it does."""
    bundle = scene.bundle()
    runc.create("first", bundle).check()
    pid = runc.pid("first")
    for path in (f"{scene.cgroup}-elsewhere", "start-0", "/", "", "machine.slice:runc:first"):
        refused("its cgroup is not at its cgroupsPath", path, None, pid)
    refused("its cgroup is not its own", bundle.cgroups_path, None, os.getpid())
    refused("its cgroup is not at its cgroupsPath", "/", {"cpu": "/", "": "/"}, None)
    for path in ("/..", f"{scene.cgroup}/../x", "x"):
        refused("not below what is mounted", path, {"cpu": path}, None)
    refused("no cgroup yet", bundle.cgroups_path, {}, None)
    refused("no cgroup yet", bundle.cgroups_path, None, None)

    guest = scene.sleeper()
    for directory in cgroups.places(bundle.cgroups_path):
        cgroups.write(f"{directory}/cgroup.procs", guest.pid)
    refused(f"is shared with process {guest.pid}", bundle.cgroups_path, None, pid, True)
    Controls(bundle.cgroups_path, None, pid, creating=False).pids_max = 50


def test_a_name_below_the_own_is_not_taken_for_it(scene, runc):
    """x is a cgroup below another, not the container's of that name."""
    path = f"{scene.cgroup}/x"
    bundle = scene.bundle(cgroups_path=path)
    scene.runtime_made(scene.cgroup)
    runc.create("x", bundle).check()
    Controls(path, None, runc.pid("x"), creating=True).pids_max = 40
    file = cgroups.find(runc.pid("x"), "pids.max")
    assert read(file).strip() == "40"
    assert read(f"{os.path.dirname(file)}/../pids.max").strip() == "max"


@pytest.mark.guest
def test_a_scope_that_is_not_its_own(in_scope, scene):
    """The scope of a session, in which a container without a cgroup of its own stands."""
    pid, _ = in_scope
    refused("its cgroup is not at its cgroupsPath", "system.slice:runc:other", None, pid)
    refused("its cgroup is not at its cgroupsPath", "/system.slice", None, pid)


def test_the_process_has_ended(scene, runc):
    bundle = scene.bundle()
    runc.create("ends", bundle).check()
    pid = runc.pid("ends")
    controls = Controls(bundle.cgroups_path, None, pid, creating=True)
    runc.kill("ends").check()
    runc.wait("ends")
    with pytest.raises(HookError, match="the container's process has ended"):
        controls.pids_max = 12
    with pytest.raises(HookError, match="no such process"):
        Controls(bundle.cgroups_path, None, pid)
    runc.delete("ends").check()
    with pytest.raises(ControlError, match="pids_max: the cgroup has gone"):
        _ = controls.pids_max


def test_a_name_that_is_no_control(scene, runc):
    bundle = scene.bundle()
    runc.create("typo", bundle).check()
    controls = Controls(bundle.cgroups_path, None, runc.pid("typo"))
    with pytest.raises(AttributeError):
        controls.cpu_qouta = None
    with pytest.raises(AttributeError):
        controls.parent_cpus = {0}


@pytest.mark.parametrize(
    ("control", "value", "message"),
    [
        ("cpu_weight", 0, "cpu_weight: 0 is none, expected 1 to 10000"),
        ("cpu_quota", (5, 100000), "cpu_quota: cannot take '5.*': Invalid argument"),
        ("pids_max", -3, "pids_max: cannot take '-3': Invalid argument"),
        ("io_max", {"8:0": {"bps": 1}}, "io_max: unknown 'bps', expected rbps, wbps, riops, wiops"),
    ],
)
def test_values_that_are_none(scene, runc, control, value, message):
    bundle = scene.bundle()
    runc.create("odd", bundle).check()
    controls = Controls(bundle.cgroups_path, None, runc.pid("odd"))
    with pytest.raises(ControlError, match=message):
        setattr(controls, control, value)


@pytest.mark.hostonly
def test_swap_on_v1_needs_a_limit_of_memory(scene, runc):
    bundle = scene.bundle()
    runc.create("swap", bundle).check()
    controls = Controls(bundle.cgroups_path, None, runc.pid("swap"))
    with pytest.raises(ControlError, match="swap_max: v1 needs a memory_max for it"):
        controls.swap_max = 1 << 20
    controls.memory_max = 64 * MIB
    controls.swap_max = 0
    controls.memory_max = None
    assert controls.swap_max is None
    with pytest.raises(NoControl, match="memory_low: a soft limit protects so many bytes"):
        controls.memory_low = None


# Weights


def test_the_runtimes_own_examples():
    """opencontainers/cgroups, utils_test.go; the defaults and ends of both scales."""
    for shares, weight in ((1, 1), (2, 1), (3, 2), (1024, 100), (1025, 101), (262144, 10000)):
        assert weights.from_shares(shares) == weight
    assert [weights.to_shares(w) for w in (1, 100, 10000)] == [2, 1024, 262144]
    assert [weights.from_blkio(b) for b in (10, 1000)] == [1, 10000]
    assert [weights.to_blkio(w) for w in (1, 10000)] == [10, 1000]
    assert [weights.from_bfq(b) for b in (1, 100, 1000)] == [1, 100, 10000]


@pytest.mark.hostonly
def test_what_is_set_is_read():
    for weight in range(1, 10001):
        assert weights.from_shares(weights.to_shares(weight)) == weight
    for weight in range(10, 1001):
        assert weights.to_blkio(weights.from_blkio(weight)) == weight
    for weight in range(1, 1001):
        assert weights.to_bfq(weights.from_bfq(weight)) == weight
