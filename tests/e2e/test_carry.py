"""The new cgroup has every setting of the old one, whoever made it and whatever it is called."""

import glob
import json
import os
import stat

import pytest
from support import cgroups

MIB = 1 << 20
# What is no setting but a state, a counter or an action. An alias is compared all the same.
STATES = {
    *("cgroup.procs", "cgroup.threads", "tasks", "cgroup.freeze", "freezer.state", "cgroup.kill"),
    *("cgroup.type", "cgroup.subtree_control", "memory.peak", "memory.swap.peak"),
    *("memory.reclaim", "cpu.pressure", "memory.pressure", "io.pressure", "irq.pressure"),
}
DISK = next((cgroups.read(path) for path in sorted(glob.glob("/sys/block/[!lrz]*/dev"))), None)
# Hierarchy -> control file -> what a plugin writes to the old cgroup, in this order.
V1 = {
    "cpu": {
        "cpu.shares": 333,
        "cpu.cfs_period_us": 50000,
        "cpu.cfs_quota_us": 25000,
        "cpu.cfs_burst_us": 1000,
    },
    "cpuset": {
        "cpuset.cpus": os.cpu_count() - 1,
        "cpuset.memory_migrate": 1,
        "cpuset.memory_spread_page": 1,
        "cpuset.sched_load_balance": 0,
        "cpuset.sched_relax_domain_level": 1,
    },
    "memory": {
        "memory.limit_in_bytes": 200 * MIB,
        "memory.memsw.limit_in_bytes": 300 * MIB,
        "memory.soft_limit_in_bytes": 100 * MIB,
        "memory.swappiness": 7,
        "memory.oom_control": 1,
        "memory.kmem.tcp.limit_in_bytes": 50 * MIB,
    },
    "pids": {"pids.max": 123, "notify_on_release": 1, "cgroup.clone_children": 1},
    "blkio": {
        "blkio.bfq.weight": 200,
        "blkio.throttle.read_bps_device": f"{DISK} 1048576",
        "blkio.throttle.write_iops_device": f"{DISK} 100",
    },
}
V2 = {
    "": {
        "memory.max": 200 * MIB,
        "memory.high": 150 * MIB,
        "memory.low": 50 * MIB,
        "memory.min": 10 * MIB,
        "memory.oom.group": 1,
        "memory.swap.max": 20 * MIB,
        "memory.zswap.max": 10 * MIB,
        "memory.zswap.writeback": 0,
        "cpu.weight": 150,
        "cpu.max": "25000 50000",
        "cpu.max.burst": 1000,
        "pids.max": 123,
        "io.max": f"{DISK} rbps=1048576 wiops=100",
        "hugetlb.2MB.max": 4 * MIB,
        "cgroup.max.depth": 5,
        "cgroup.max.descendants": 10,
        "cgroup.pressure": 0,
        "cpuset.cpus": os.cpu_count() - 1,
    }
}
# The plugin: write SETTINGS, then note all of the old cgroup.
PLUGIN = """
import json
for hierarchy, files in json.loads(SETTINGS).items():
    place = directory(hierarchy, payload["spec"]["cgroups"][hierarchy])
    for name, value in files.items():
        if os.path.exists(place + "/" + name):
            with open(place + "/" + name, "w") as file:
                file.write(str(value))
{more}
found = {{}}
for hierarchy, path in payload["spec"]["cgroups"].items():
    if path.endswith(payload["spec"]["cgroupsPath"]):
        place = found[hierarchy] = {{}}
        for name in os.listdir(directory(hierarchy, path)):
            path_ = directory(hierarchy, path) + "/" + name
            status = os.stat(path_)
            text = None
            if status.st_mode & 0o100600 == 0o100600:
                try:
                    with open(path_) as file:
                        text = file.read()
                except OSError as error:
                    text = error.strerror
            place[name] = [text, status.st_uid, status.st_gid, status.st_mode]
        status = os.stat(directory(hierarchy, path))
        place[""] = [None, status.st_uid, status.st_gid, status.st_mode]
with open(NOTES, "w") as file:
    json.dump(found, file)
"""


class Carry:
    """A container whose plugin changes its first cgroup; old: hierarchy -> file -> [text or None,
    uid, gid, mode], with "" for the directory."""

    def __init__(self, scene, node, oci):
        self.scene = scene
        self.node = node
        self.oci = oci
        self.notes = f"{scene.directory}/notes.json"
        self.target = f"{scene.cgroup}/new/place"

    def create(self, settings, more="", witnesses=()):
        code = f"NOTES = {self.notes!r}\nSETTINGS = {json.dumps(settings)!r}\n"
        code += PLUGIN.format(more=more)
        answer = {"result": {"cgroupsPath": self.target}}
        self.node.configure(
            self.node.plugin("mover", {"create": answer}),
            self.node.plugin("changer", {"create": {"python": code}}),
            *witnesses,
        )
        bundle = self.scene.bundle()
        self.oci.install(self.node, bundle)
        return self.oci.create("one", bundle)

    def old(self):
        with open(self.notes) as file:
            return json.load(file)

    def new(self):
        """The same of where it is now."""
        found = {}
        for hierarchy, place in cgroups.directories(self.oci.pid("one")).items():
            if place.endswith(self.target):
                found[hierarchy] = {name: look(f"{place}/{name}") for name in os.listdir(place)}
                found[hierarchy][""] = look(place)
        return found


def look(path):
    status = os.stat(path)
    text = None
    if stat.S_ISREG(status.st_mode) and status.st_mode & 0o600 == 0o600:
        try:
            with open(path) as file:
                text = file.read()
        except OSError as error:
            text = error.strerror
    return [text, status.st_uid, status.st_gid, status.st_mode]


def is_setting(name):
    counters = ("cpuacct.usage", "max_usage_in_bytes", "failcnt")
    return name and name not in STATES and not any(word in name for word in counters)


@pytest.fixture
def carry(scene, node, oci):
    return Carry(scene, node, oci)


def test_every_setting_is_carried(scene, carry):
    settings = V1 if carry.oci.version == 1 else V2
    carry.create(settings).check()
    old, new = carry.old(), carry.new()
    assert set(old) == set(new) == set(carry.oci.hierarchies())
    for hierarchy in old:
        assert set(old[hierarchy]) == set(new[hierarchy])
        for name in filter(is_setting, old[hierarchy]):
            assert new[hierarchy][name][0] == old[hierarchy][name][0], name

    # None of this means anything unless these values are unlike those of a fresh cgroup.
    carried = []
    scene.parent(f"{scene.cgroup}-fresh")
    for hierarchy, files in settings.items():
        fresh = cgroups.mounts()[hierarchy] + f"{scene.cgroup}-fresh"
        for name in files:
            if name in old[hierarchy]:
                assert old[hierarchy][name][0] != look(f"{fresh}/{name}")[0], name
                carried.append(name)
    assert len(carried) >= 4


def test_owner_and_mode_are_carried(carry):
    """A cgroup that was delegated to a user."""
    more = """
for hierarchy, path in payload["spec"]["cgroups"].items():
    if path.endswith(payload["spec"]["cgroupsPath"]):
        place = directory(hierarchy, path)
        for name in ("", "cgroup.procs", "tasks", "cgroup.subtree_control"):
            if os.path.exists(place + "/" + name):
                os.chown(place + "/" + name, 12345, 54321)
        os.chmod(place, 0o775)
        os.chmod(place + "/cgroup.procs", 0o664)
"""
    carry.create({}, more).check()
    old, new = carry.old(), carry.new()
    assert set(old) == set(new) == set(carry.oci.hierarchies())
    for hierarchy in old:
        assert old[hierarchy][""][1:] == [12345, 54321, stat.S_IFDIR | 0o775]
        for name in old[hierarchy]:
            assert new[hierarchy][name][1:] == old[hierarchy][name][1:], name


def test_what_comes_from_the_parent_comes_from_the_new_one(scene, node, oci):
    """A container that asks for nothing itself has, like one that was created there, what the
    parent there hands down: on v1 these CPUs and this swappiness."""
    for directory in scene.parent(f"{scene.cgroup}/strict"):
        for file, value in {"cpuset.cpus": 0, "memory.swappiness": 10}.items():
            if oci.version == 1 and os.path.exists(f"{directory}/{file}"):
                cgroups.write(f"{directory}/{file}", value)
    scene.runtime_made(scene.cgroup)
    native = scene.bundle(cgroups_path=f"{scene.cgroup}/strict/native")
    oci.create("native", native).check()
    carry = Carry(scene, node, oci)
    carry.target = f"{scene.cgroup}/strict/moved"
    carry.create({}).check()
    found = carry.new()
    assert set(found) == set(oci.hierarchies())
    for hierarchy, place in cgroups.directories(oci.pid("native")).items():
        for name in filter(is_setting, found.get(hierarchy, ())):
            assert found[hierarchy][name][0] == look(f"{place}/{name}")[0], name


@pytest.mark.skipif(cgroups.pure_v2(), reason="needs real-time budgets of cgroup v1")
def test_what_cannot_be_carried_refuses_the_move(scene, node, runc):
    """A real-time budget, of which the parent that is made for the new place has none. The line
    names the file; all is undone before the deletes, and what the old one gave up is back."""
    carry = Carry(scene, node, runc)
    look = f"{scene.directory}/after-the-undo"
    after = f"""
place = directory("cpu", payload["spec"]["cgroups"]["cpu"])
with open(place + "/cpu.rt_runtime_us") as source, open({look!r}, "w") as file:
    file.write(source.read())
"""
    witness = node.plugin("witness", {"delete": {"python": after}})
    text = carry.create({"cpu": {"cpu.rt_runtime_us": 1000}}, witnesses=[witness]).refused()
    assert f"{scene.cgroup}/new/place/cpu.rt_runtime_us: cannot take '1000'" in text
    assert cgroups.read(look) == "1000"
    assert runc.state("one") is None
    names = ["mover", "changer", "witness"]
    creates, deletes = ([(name, state) for name in names] for state in ("create", "delete"))
    assert node.calls() == [*creates, *reversed(deletes)]
    assert scene.left_cgroups() == []
    assert node.left() == []


# A budget that was just given back is free only after a while.
TAKE_BUDGET = """
import time
place = directory("cpu", payload["spec"]["cgroups"]["cpu"])
for attempt in range(100):
    try:
        with open(place + "/cpu.rt_runtime_us", "w") as file:
            file.write("500000")
        break
    except OSError:
        time.sleep(0.1)
"""


@pytest.mark.skipif(cgroups.pure_v2(), reason="needs real-time budgets of cgroup v1")
def test_what_only_one_can_have(scene, node, runc):
    """Of the root's real-time budget there is not enough for two: the old one lets go first."""
    assert int(cgroups.read("/sys/fs/cgroup/cpu/cpu.rt_runtime_us")) < 2 * 500000
    carry = Carry(scene, node, runc)
    carry.target = f"{scene.cgroup}-new"
    carry.create({}, TAKE_BUDGET).check()
    assert cgroups.value(runc.pid("one"), "cpu.rt_runtime_us") == "500000"


# Not where other tests run at the same time: none of their cpusets may have this CPU.
@pytest.mark.v1
def test_exclusive_cpus_refuse_the_move(scene, node, runc):
    """No cpuset beside this one may have such a CPU, and init cannot leave before the new place
    has it."""
    cpu = os.cpu_count() - 1
    carry = Carry(scene, node, runc)
    carry.target = f"{scene.cgroup}-new"
    after = f"""
place = directory("cpuset", payload["spec"]["cgroups"]["cpuset"])
look = {scene.directory!r} + "/after"
with open(place + "/cpuset.cpu_exclusive") as source, open(look, "w") as file:
    file.write(source.read())
"""
    witness = node.plugin("witness", {"delete": {"python": after}})
    settings = {"cpuset": {"cpuset.cpus": cpu, "cpuset.cpu_exclusive": 1}}
    text = carry.create(settings, witnesses=[witness]).refused()
    assert f"{scene.cgroup}-new/cpuset.cpus: cannot take" in text
    assert "NOT undone" not in text
    with open(f"{scene.directory}/after") as file:
        assert file.read() == "1\n"


@pytest.mark.guest
def test_a_parent_with_processes_refuses_the_move(scene, node, runc):
    """On v2 it can have no controllers below it, so no limits."""
    (directory,) = scene.parent(f"{scene.cgroup}/busy")
    carry = Carry(scene, node, runc)
    carry.target = f"{scene.cgroup}/busy/between/one"
    sleeper = scene.sleeper()
    try:
        cgroups.write(f"{directory}/cgroup.procs", sleeper.pid)
        text = carry.create({"": {"pids.max": 77}}).refused()
        assert f"{directory}/cgroup.subtree_control: cannot take" in text
    finally:
        sleeper.kill()
        sleeper.wait()
    assert runc.state("one") is None
    scene.runtime_made(scene.cgroup)
    assert scene.left_cgroups() == []
    assert node.left() == []


@pytest.mark.tcg
def test_a_partition_moves(scene, node, runc):
    """CPUs that the old cgroup has for itself: it lets go first, then the new one has them."""
    carry = Carry(scene, node, runc)
    carry.target = f"{scene.cgroup}-new"
    settings = {"": {"cpuset.cpus": os.cpu_count() - 1, "cpuset.cpus.partition": "root"}}
    carry.create(settings).check()
    assert carry.old()[""]["cpuset.cpus.partition"][0] == "root\n"
    pid = runc.pid("one")
    assert cgroups.value(pid, "cpuset.cpus.partition") == "root"
    assert cgroups.value(pid, "cpuset.cpus.effective") == str(os.cpu_count() - 1)
