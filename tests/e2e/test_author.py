"""Whoever asks for a container cannot have it left: what its author, its pod or the flags of the
engine can arrange is refused, so that no policy is passed by.

What the node or the engine is to blame for is left; see test_left.py.
"""

import shutil

import pytest
from support import cgroups
from support.commands import read
from test_left import Case, one_line

hostonly = pytest.mark.hostonly
# What runc before 1.5 warns of, and later ones refuse before any hook is called.
NOT_EMPTY = "container's cgroup is not empty"


def refused(case, reason):
    """Create it: it does not start, its plugin hears of the end, and nothing is left of it."""
    text = case.runtime.create(case.id, case.bundle).refused()
    if NOT_EMPTY in text and case.node.calls() == []:
        pytest.skip("the runtime itself refuses it")
    said = one_line(read(case.errors("createRuntime")))
    assert reason in said and "undone: delete sent to mover" in said
    assert case.runtime.state(case.id) is None
    assert case.node.calls() == [("mover", "create"), ("mover", "delete")]
    assert case.node.left() == []
    assert [f for f in case.scene.left_cgroups() if f"{case.scene.cgroup}/" in f] == []


@pytest.mark.parametrize("parent", ["../{0}-x", "/../{0}-x", "/{0}-x/../{0}-y", "/{0}-x/./y"])
def test_a_cgroups_path_that_leads_elsewhere(scene, node, oci, parent):
    """podman run --cgroup-parent ../x; each runtime takes it in its own way."""
    if oci.binary == "crun" and parent.split("{")[0].endswith("../"):
        pytest.skip("crun goes where it says, out of the hierarchy")
    for made in ("-x", "-y", "-x/y"):
        scene.runtime_made(scene.cgroup + made)
    path = parent.format(scene.name) + "/one"
    case = Case(scene, node, oci, cgroups_path=path)
    refused(case, f"the container's own cgroupsPath {path!r} has the part '.")


@hostonly
@pytest.mark.skipif(not shutil.which("podman"), reason="needs podman")
def test_podmans_cgroup_parent_that_leads_elsewhere(scene, node):
    podman = scene.runtime("podman")
    node.plugin("mover", {"create": {"result": {"cgroupsPath": f"{scene.cgroup}/target"}}})
    node.configure("mover")
    bundle = scene.bundle(cgroups_path=f"../{scene.name}-x")
    podman.install(node, bundle)
    scene.runtime_made(f"{scene.cgroup}-x")
    scene.runtime_made(f"{scene.cgroup}-x/conmon")
    try:
        assert f"../{scene.name}-x/libpod-" in podman.create("one", bundle).refused()
        assert podman.status("one") != "running"
    finally:  # on v1 podman makes conmon's beside the hierarchies, where it is no cgroup
        shutil.rmtree(f"/sys/fs/cgroup/{scene.name}-x", ignore_errors=True)


@hostonly
def test_a_process_is_in_its_cgroup_already(scene, node, oci, sleeper):
    case = Case(scene, node, oci)
    path = case.bundle.cgroups_path
    scene.parent(path, oci.hierarchies())
    for mount in oci.hierarchies().values():
        cgroups.write(f"{mount}{path}/cgroup.procs", sleeper.pid)
    refused(case, f"its cgroup is not its own: process {sleeper.pid} is in")


def test_a_process_that_its_config_puts_into_its_cgroup(scene, node, oci, sleeper):
    """podman run --cgroup-conf cgroup.procs=PID."""
    if oci.version == 1:
        pytest.skip("linux.resources.unified is for cgroup v2")
    case = Case(scene, node, oci)
    case.bundle.resources["unified"] = {"cgroup.procs": str(sleeper.pid)}
    case.bundle.save()
    refused(case, f"its cgroup is not its own: process {sleeper.pid} is in")
    scene.runtime_made(case.bundle.cgroups_path)


@hostonly
def test_two_containers_at_one_place(scene, node, oci):
    """The second one is refused. crun then kills all that is in the cgroup of its failed create."""
    first = scene.bundle()
    oci.create("first", first).check()
    oci.start("first").check()
    case = Case(scene, node, oci, cgroups_path=first.cgroups_path)
    refused(case, f"its cgroup is not its own: process {oci.pid('first')} is in")
    assert oci.status("first") == ("stopped" if oci.binary == "crun" else "running")


@hostonly
def test_its_cgroup_has_cgroups_below_it(scene, node, oci):
    case = Case(scene, node, oci)
    name, mount = next(iter(oci.hierarchies().items()))
    path = f"payload['spec']['cgroups'][{name!r}]"
    make = f"os.mkdir(directory({name!r}, {path}) + '/below')"
    answer = {"cgroupsPath": f"{scene.cgroup}/target/one"}
    case.plugin.play({"create": {"python": make, "result": answer}})
    refused(case, "its cgroup has cgroups below it: ")


# systemd and crun's annotations


@pytest.fixture
def crun(scene):
    runtime = scene.runtime("crun")
    command = runtime.command()
    runtime.command = lambda: [*command, "--systemd-cgroup"]
    return runtime


def in_unit(scene, node, crun, unit="", **annotations):
    """A container at slice:prefix:name that a plugin wants in another slice."""
    return Case(
        scene,
        node,
        crun,
        cgroups_path=unit or f"system.slice:{scene.name}:one",
        answer=f"{scene.name}.slice:{scene.name}:two",
        edit=lambda config: config.update(annotations=annotations),
    )


@pytest.mark.guest
@pytest.mark.parametrize("subgroup", ["../{0}-x", "../{0}.slice/{0}-one.scope/container"])
def test_a_subgroup_that_leads_out_of_the_scope(scene, node, crun, subgroup):
    """An init that is in no scope has no limits: the runtime has set them on the scope."""
    annotation = {"run.oci.systemd.subgroup": subgroup.format(scene.name)}
    case = in_unit(scene, node, crun, **annotation)
    refused(case, f"its cgroup is not at its cgroupsPath 'system.slice:{scene.name}:one'")
    for directory in cgroups.named(scene.name):
        cgroups.remove(directory)


@pytest.mark.guest
def test_a_slice_with_a_colon(scene, node, crun):
    """podman run --cgroup-parent a.slice:b.slice: three colons, which crun splits at the first."""
    unit = f"system.slice:b.slice:{scene.name}:one"
    case = in_unit(scene, node, crun, unit)
    case.plugin.play({"create": {"result": {"cgroupsPath": f"{scene.cgroup}/target/one"}}})
    refused(case, f"its cgroup is not at its cgroupsPath {unit!r}")


# Containers that are placed right


MIB = 1 << 20
LIMITS = {"memory.max": str(64 * MIB), "pids.max": "20"}


def limited(annotations):
    """An edit: limits, and a view of no cgroup namespace, in which a live move is exact."""

    def edit(config):
        config["linux"]["resources"]["memory"] = {"limit": 64 * MIB}
        config["linux"]["resources"]["pids"] = {"limit": 20}
        config["annotations"] = annotations
        namespaces = config["linux"]["namespaces"]
        config["linux"]["namespaces"] = [n for n in namespaces if n["type"] != "cgroup"]

    return edit


def assert_limited(pid, place, inner):
    """It is at `inner` below its place, and has its limits there or above: crun 1.8 has none on
    the scope."""
    assert cgroups.membership(pid)[cgroups.V2] == place + inner
    parts = inner.split("/")
    levels = [place + "/".join(parts[: count + 1]) for count in range(len(parts))]
    for file, value in LIMITS.items():
        assert value in [cgroups.read(f"/sys/fs/cgroup{level}/{file}") for level in levels], file


DELEGATED = ["foo", "init.scope", "a.scope/b"]


@pytest.mark.guest
@pytest.mark.parametrize("name", DELEGATED)
def test_a_delegated_cgroup_moves_with_its_limits(scene, node, name):
    """crun, cgroupfs: the runtime limits the cgroup above the one that init is in."""
    crun = scene.runtime("crun")
    bundle = scene.bundle(edit=limited({"run.oci.delegate-cgroup": name}))
    create_and_delete(scene, node, crun, bundle, f"{scene.cgroup}/target/one", f"/{name}")


@pytest.mark.guest
@pytest.mark.parametrize("subgroup", ["container", "", "x.scope"])
@pytest.mark.parametrize("name", ["", *DELEGATED])
def test_a_delegated_cgroup_moves_with_its_scope(scene, node, crun, subgroup, name):
    """Nothing limits what it is moved into, so the limits are those of its own cgroups."""
    annotations = {"run.oci.delegate-cgroup": name, "run.oci.systemd.subgroup": subgroup}
    bundle = scene.bundle(cgroups_path=f"system.slice:{scene.name}:one", edit=limited(annotations))
    inner = "".join(f"/{part}" for part in (subgroup, name) if part)
    stem = scene.name.replace("-", "_")
    place = f"/{stem}.slice/{scene.name}-two.scope"
    create_and_delete(scene, node, crun, bundle, f"{stem}.slice:{scene.name}:two", inner, place)


def create_and_delete(scene, node, crun, bundle, answer, inner, place=""):
    """Create, start, exec in and delete a container that a plugin wants at `answer`."""
    place = place or answer
    mover = node.plugin("mover", {"create": {"result": {"cgroupsPath": answer}}})
    node.configure({"type": "mover", "leaveParent": True})
    crun.install(node, bundle)
    crun.create("one", bundle).check()
    pid = crun.pid("one")
    assert mover.call("create")["membership"][cgroups.V2].endswith(inner)
    assert_limited(pid, place, inner)
    crun.start("one").check()
    assert node.record()["outcome"] == "adopted"
    assert_limited(pid, place, inner)
    # exec joins the cgroup of the runtime's record, or init's where that takes no process.
    said = crun.exec("one", "cat", "/proc/self/cgroup").check().out
    assert f"0::{place}" in said
    crun.call("pause", "one").check()
    assert cgroups.read(f"/sys/fs/cgroup{place}/cgroup.events").split()[-1] == "1" or inner
    crun.call("resume", "one").check()
    crun.delete("one").check()
    assert node.left() == []
    assert scene.left_cgroups() == []
