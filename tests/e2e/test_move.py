"""A real container is moved by a plugin, under every runtime, and is none the worse for it."""

import pytest
from support import cgroups

MIB = 1 << 20
# Opens devices by their numbers: "1:11 opens" or "1:11 MESSAGE".
PROBE = """
probe() {
  mknod /dev/probe-$1-$2 c $1 $2
  said=$( { : >>/dev/probe-$1-$2; } 2>&1 ) && echo "$1:$2 opens" || echo "$1:$2 $said"
}
"""
KMSG, UNUSED, NULL = (1, 11), (240, 7), (1, 3)
NOTHING = {"allow": False, "access": "rwm"}
EVERYTHING = {"allow": True, "access": "rwm"}


def rule(allow, device):
    # Without "m": the container makes its nodes itself.
    return {"allow": allow, "type": "c", "major": device[0], "minor": device[1], "access": "rw"}


# Name -> (the rules of config.json, which of KMSG, UNUSED and NULL open; None: as the runtime
# likes). Both runtimes add rules for NULL and its like.
DEVICES = {
    "one allowed": ([NOTHING, rule(True, KMSG)], [True, False, True]),
    "all denied": ([NOTHING], [False, False, True]),
    "all allowed": ([EVERYTHING], [True, True, True]),
    "all allowed but one": ([EVERYTHING, rule(False, KMSG)], [False, True, True]),
    "no list": (None, None),
}


def probing(rules):
    """An edit of config.json for a container that prints which devices open, and ends."""
    script = PROBE + "".join(f"probe {a} {b}\n" for a, b in (KMSG, UNUSED, NULL))

    def edit(config):
        config["process"]["args"] = ["sh", "-c", script]
        for names in config["process"]["capabilities"].values():
            names.append("CAP_MKNOD")
        if rules is None:
            config["linux"]["resources"].pop("devices")
        else:
            config["linux"]["resources"]["devices"] = rules

    return edit


def opened(output):
    """Which devices open. Another error than this one comes from the driver, not from a cgroup."""
    lines = output.splitlines()
    assert [line.split()[0] for line in lines] == ["1:11", "240:7", "1:3"], output
    return ["Operation not permitted" not in line for line in lines]


def mover(scene, node):
    """A plugin that sends every container below one parent."""
    target = f"{scene.cgroup}/qos/{{id}}"
    plugin = node.plugin("mover", {"create": {"result": {"cgroupsPath": target}}})
    node.configure(plugin)
    return plugin


def assert_moved(scene, runtime, id):
    """It is at the new place in all hierarchies that the runtime manages."""
    path = f"{scene.cgroup}/qos/{runtime.hook_id(id)}"
    now = cgroups.membership(runtime.pid(id))
    assert {name for name, place in now.items() if place == path} == set(runtime.hierarchies())


def test_a_container_is_moved_and_runs_to_the_end(scene, node, oci):
    plugin = mover(scene, node)
    bundle = scene.bundle()
    oci.install(node, bundle)
    oci.create("one", bundle).check()
    assert_moved(scene, oci, "one")
    start = oci.start_path("one", bundle)
    oci.start("one").check()
    assert_moved(scene, oci, "one")
    oci.kill("one", "TERM").check()
    oci.wait("one")
    oci.delete("one").check()

    assert node.calls() == [("mover", "create"), ("mover", "delete")]
    before = plugin.call("create")["membership"]
    assert {name for name, path in before.items() if path == start} == set(oci.hierarchies())
    assert scene.left_cgroups() == []
    assert node.left() == []


def test_a_place_that_is_there_already(scene, node, oci):
    """An empty cgroup that somebody made serves; nothing of ours stays beside it."""
    mover(scene, node)
    scene.parent(f"{scene.cgroup}/qos/one")
    scene.runtime_made(f"{scene.cgroup}/qos")
    scene.runtime_made(scene.cgroup)
    bundle = scene.bundle(edit=limited(oci))
    oci.install(node, bundle)
    oci.create("one", bundle).check()
    assert_moved(scene, oci, "one")
    for file in set(limit_files(oci)).intersection(VALUES):
        assert cgroups.value(oci.pid("one"), file) == VALUES[file]
    oci.delete("one").check()
    assert scene.left_cgroups() == []


@pytest.mark.hostonly
def test_without_a_cgroups_path(scene, node, oci):
    """The runtime's default is the container's id, below wherever it likes."""
    plugin = node.plugin("mover", {"create": {"result": {"cgroupsPath": f"{scene.name}-new"}}})
    node.configure(plugin)
    bundle = scene.bundle(cgroups_path=None)
    oci.install(node, bundle)
    oci.create(scene.name, bundle).check()
    create = plugin.call("create")
    assert create["payload"]["spec"]["cgroupsPath"] == scene.name
    old = {name: create["membership"][name] for name in oci.hierarchies()}
    now = cgroups.membership(oci.pid(scene.name))
    assert all(path.endswith(f"/{scene.name}") for path in old.values())
    assert {name: now[name] for name in old} == {name: f"{old[name]}-new" for name in old}
    oci.delete(scene.name).check()
    assert scene.left_cgroups() == []


LIMITS = {
    "memory": {"limit": 64 * MIB},
    "pids": {"limit": 37},
    "cpu": {"shares": 512, "quota": 30000, "period": 100000},
}
# Controller -> control files of v1, and of v2, that show these limits.
FILES = {
    "memory": (["memory.limit_in_bytes"], ["memory.max"]),
    "pids": (["pids.max"], ["pids.max"]),
    "cpu": (["cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us"], ["cpu.weight", "cpu.max"]),
}
VALUES = {
    "memory.limit_in_bytes": str(64 * MIB),
    "memory.max": str(64 * MIB),
    "pids.max": "37",
    "cpu.shares": "512",
    "cpu.cfs_quota_us": "30000",
    "cpu.cfs_period_us": "100000",
    "cpu.max": "30000 100000",
}


def limited(runtime):
    """An edit of config.json: those of LIMITS that this environment knows."""
    known = {name: LIMITS[name] for name in LIMITS if name in runtime.controllers()}
    return lambda config: config["linux"]["resources"].update(known)


def limit_files(runtime):
    """The control files that this environment has for LIMITS."""
    found = [FILES[name][runtime.version - 1] for name in FILES if name in runtime.controllers()]
    return [file for files in found for file in files]


def test_run_in_the_foreground_with_device_rules(scene, node, runtime):
    """create, start and delete in one command. podman passes on a list of its own, to which
    this rule is added."""
    mover(scene, node)
    bundle = scene.bundle(edit=probing([NOTHING, rule(True, KMSG)]))
    # crun 1.8 may lose the end of a poststart hook where the container ends first.
    bundle.config["process"]["args"][-1] += "sleep 1\n"
    runtime.install(node, bundle)
    runtime.run("one", bundle, detach=False).check()
    assert opened(runtime.output("one")) == [True, False, True]
    runtime.delete("one")
    assert node.calls() == [("mover", "create"), ("mover", "delete")]
    assert scene.left_cgroups() == []
    assert node.left() == []


def test_run_detached_with_limits(scene, node, runtime):
    """create and start in one command; then away with it while it runs."""
    mover(scene, node)
    bundle = scene.bundle(edit=limited(runtime))
    runtime.install(node, bundle)
    runtime.run("one", bundle).check()
    assert_moved(scene, runtime, "one")
    for file in set(limit_files(runtime)).intersection(VALUES):
        assert cgroups.value(runtime.pid("one"), file) == VALUES[file]
    runtime.delete("one").check()
    assert node.calls() == [("mover", "create"), ("mover", "delete")]
    assert scene.left_cgroups() == []
    assert node.left() == []


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "all allowed but one" else pytest.mark.hostonly)
        for name in DEVICES
    ],
)
def test_device_rules_hold(scene, node, oci, name):
    rules, expected = DEVICES[name]
    mover(scene, node)
    output = {}
    for id in ("native", "moved"):
        bundle = scene.bundle(edit=probing(rules))
        if id == "moved":
            oci.install(node, bundle)
        oci.create(id, bundle).check()
        if id == "moved":
            assert_moved(scene, oci, id)
        oci.start(id).check()
        oci.wait(id)
        output[id] = opened(oci.output(id))
    assert output["moved"] == output["native"]
    assert output["native"] == expected or expected is None


def test_limits_are_those_of_a_container_created_there(scene, node, oci):
    mover(scene, node)
    files = limit_files(oci)
    if not files:
        pytest.skip("no controllers here")
    values = {}
    for id in ("native", "moved"):
        bundle = scene.bundle(edit=limited(oci))
        if id == "moved":
            oci.install(node, bundle)
        oci.create(id, bundle).check()
        values[id] = {file: cgroups.value(oci.pid(id), file) for file in files}
    assert_moved(scene, oci, "moved")
    assert values["moved"] == values["native"]


# A shell that cannot fork says so and ends; the memory of a command is taken at once.
EXCEED = """
dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null; echo memory $?
(for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do sleep 5 & done) 2>&1
echo end
"""


def test_limits_hold_in_the_new_cgroup(scene, node, oci):
    """What they forbid fails: by SIGKILL from the kernel, and by a fork that is refused."""
    if not {"memory", "pids"} <= oci.controllers():
        pytest.skip("no controllers here")
    mover(scene, node)

    def edit(config):
        config["process"]["args"] = ["sh", "-c", EXCEED]
        config["linux"]["resources"].update(memory={"limit": 32 * MIB}, pids={"limit": 20})

    bundle = scene.bundle(edit=edit)
    oci.install(node, bundle)
    oci.create("one", bundle).check()
    assert_moved(scene, oci, "one")
    oci.start("one").check()
    oci.wait("one")
    assert "memory 137" in oci.output("one")
    assert "can't fork" in oci.output("one")
