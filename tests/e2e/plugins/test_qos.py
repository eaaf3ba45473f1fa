"""qos: each class has a cgroup, or a slice, with settings of its own, and its containers in it."""

import fcntl
import importlib.util
import json
import os
import subprocess
import sys
import time

import pytest
from support import cgroups
from support.commands import read
from support.tree import TOP
from support.waiting import wait_until
from test_adopt import install_precreate

from nri_hook.cgroups import cleanup, directories, hierarchies
from nri_hook.cgroups.controls import Controls
from nri_hook.skel_conf import Conf
from plugins.samples import MIB, Case, entry, environments, reload

LS, BE = {"qos.class": "ls"}, {"qos.class": "be"}
CLASSES = {"ls": {"cpu.weight": 800, "memory.low": 64 * MIB}, "be": {"cpu.idle": True}}
# The same as raw files, in all versions that have them.
FILES = {
    "ls": {
        "cpu.weight": "800",
        "cpu.shares": "13460",
        "memory.low": str(64 * MIB),
        "memory.soft_limit_in_bytes": str(64 * MIB),
        "cpu.idle": "0",
    },
    "be": {"cpu.idle": "1"},
}


@pytest.fixture(params=environments("cpu", "memory"))
def runtime(scene, request):
    return scene.runtime(request.param)


class Qos(Case):
    """A Case with this sample, whose classes are below cgroups of this scene."""

    def __init__(self, scene, node, runtime, classes=CLASSES, systemd=False, **conf):
        self.prefix = f"{scene.name}-qos-"
        self.conf = {"classes": classes, "prefix": self.prefix, **conf}
        super().__init__(scene, node, runtime, entry("qos", self.conf), systemd=systemd)
        for name in classes:
            scene.runtime_made(f"/{self.prefix}{name}")

    def below(self, id, wanted):
        """Whether the container is in the tree of that class in all that its runtime manages."""
        now = cgroups.membership(self.pid(id))
        start = f"/{self.prefix}{wanted}/"
        return all(now[name].startswith(start) for name in self.runtime.hierarchies())

    def files(self, wanted):
        """The settings of FILES that the class's cgroup has."""
        found = {}
        for directory in cgroups.places(f"/{self.prefix}{wanted}"):
            for file in FILES[wanted]:
                if os.path.exists(f"{directory}/{file}"):
                    found[file] = read(f"{directory}/{file}").strip()
        return found


def expected(case, wanted):
    return {file: FILES[wanted][file] for file in case.files(wanted)}


def test_each_class_has_its_tree(scene, node, runtime):
    case = Qos(scene, node, runtime)
    for id, annotations in (("ls", LS), ("be", BE), ("none", {})):
        case.create(id, annotations).check()
        runtime.start(id).check()
    assert case.below("ls", "ls") and case.below("be", "be")
    assert not case.below("none", "ls") and not case.below("none", "be")
    for wanted in ("ls", "be"):
        found = case.files(wanted)
        assert len(found) >= {"ls": 3, "be": 1}[wanted]
        assert found == expected(case, wanted)
        now = cgroups.membership(case.pid(wanted))
        inside = case.inside(wanted, "cat", "/proc/self/cgroup")
        for name in runtime.hierarchies():
            assert any(line.endswith(now[name]) for line in inside.splitlines())
    for id in ("ls", "be", "none"):
        runtime.delete(id).check()
    # The class stays, with what is set; what the hook has made for a container goes with it.
    assert case.files("ls") == expected(case, "ls") != {}
    left = [f for w in ("ls", "be") for f in cgroups.places(f"/{case.prefix}{w}")]
    assert all(cgroups.mark(directory) is None for directory in left)
    settings = {file for w in ("ls", "be") for file in FILES[w]}
    assert all(settings & set(os.listdir(directory)) for directory in left)


def test_a_container_that_is_in_its_class(scene, node, runc):
    """It is answered its own path, and nothing moves; the class is set all the same."""
    case = Qos(scene, node, runc)
    place = f"/{case.prefix}ls/{scene.name}-x"
    case.create("x", LS, path=place).check()
    now = cgroups.membership(case.pid("x"))
    assert all(now[name] == place for name in runc.hierarchies())
    assert node.record()["outcome"] == "stays"
    (answer,) = node.record()["results"]
    assert (answer["cgroupsPath"], answer["metadata"]["qos.class"]) == (place, "ls")
    assert case.files("ls") == expected(case, "ls")


def test_a_relative_path_leads_into_the_cgroup_of_the_class_too(scene, node, runc):
    """It begins below runc's own cgroup, where its caller wants it, and the class does not."""
    case = Qos(scene, node, runc)
    case.create("r", LS, path=f"{scene.name}-r").check()
    assert node.record()["cgroupsPath"] == f"/{case.prefix}ls/{scene.name}-r"
    assert case.below("r", "ls")


def test_classes_of_containers(scene, node, runc):
    case = Qos(scene, node, runc)
    said = case.create("odd", {"qos.class": "gold"}).refused()
    assert "says: annotation qos.class: unknown class 'gold', expected ls or be" in said
    case = Qos(scene, node, runc, default="be", unknown="ls", annotation="example.com/class")
    case.create("none").check()
    case.create("gold", {"example.com/class": "gold"}).check()
    case.create("other", {"qos.class": "ls"}).check()
    case.create("be", {"example.com/class": "be"}).check()
    assert [case.below(id, "be") for id in ("none", "gold", "other", "be")] == [1, 0, 1, 1]
    assert case.below("gold", "ls")


def test_settings_follow_the_configuration(scene, node, runc):
    """What conf has changed is set with the next container of the class."""
    case = Qos(scene, node, runc)
    case.create("one", BE).check()
    parent = os.path.dirname(cgroups.find(case.pid("one"), "cpu.idle")) + "/.."
    assert read(f"{parent}/cpu.idle").strip() == "1"
    case = Qos(scene, node, runc, {"ls": {}, "be": {"cpu.weight": 59}})
    case.create("two", BE).check()
    assert read(f"{parent}/cpu.idle").strip() == "0"
    weights = {"cpu.weight": "59", "cpu.shares": "521"}
    (found,) = [f for f in weights if os.path.exists(f"{parent}/{f}")]
    assert read(f"{parent}/{found}").strip() == weights[found]
    assert case.below("one", "be") and case.below("two", "be")


def test_a_cgroup_that_was_the_hooks_becomes_the_nodes(scene, node, runc):
    """The hook had made the parent for a container, and would remove it when it is empty."""
    case = Qos(scene, node, runc, {"ls": {}})
    case.create("one", LS).check()
    (*marked,) = [f for f in cgroups.places(f"/{case.prefix}ls") if cgroups.mark(f) is not None]
    assert marked
    case = Qos(scene, node, runc, {"ls": {"cpu.weight": 800}})
    case.create("two", LS).check()
    runc.delete("one").check()
    runc.delete("two").check()
    assert case.files("ls")
    left = cgroups.places(f"/{case.prefix}ls")
    assert all(cgroups.mark(directory) is None for directory in left)


@pytest.mark.hostonly
def test_what_v1_does_not_have(scene, node, runc):
    classes = {"ls": {"memory.min": 4 * MIB, "memory.high": 8 * MIB, "cpu.weight": 200}}
    case = Qos(scene, node, runc, classes)
    said = case.create("x", LS).refused()
    assert "says: class ls: " in said
    assert (
        'memory_min: cgroup v1 has no such control; \\"missing\\": \\"ignore\\" allows it' in said
    )
    case = Qos(scene, node, runc, classes, missing="ignore")
    case.create("x", LS).check()
    assert case.below("x", "ls")
    (answer,) = node.record()["results"]
    missing = answer["metadata"]["qos.missing"]
    assert "memory_min: " in missing and "memory_high: " in missing
    assert "cpu" not in missing.replace("process", "")


def test_a_place_of_its_parents_limit_is_not_left(scene, node, runc):
    """The hook refuses it, unless the entry says that it may be."""
    parent = f"{scene.cgroup}-limited"
    for directory in scene.parent(parent):
        if os.path.exists(f"{directory}/pids.max"):
            cgroups.write(f"{directory}/pids.max", "100")
    if cgroups.pure_v2():
        cgroups.write("/sys/fs/cgroup/cgroup.subtree_control", "+pids")
        cgroups.write(f"/sys/fs/cgroup{parent}/pids.max", "100")
    case = Qos(scene, node, runc)
    said = case.create("x", LS, path=f"{parent}/x").refused()
    assert "the move leaves the limit '100' of a parent" in said
    node.configure(entry("qos", case.conf, leaveParent=True))
    case.create("x", LS, path=f"{parent}/x").check()
    assert case.below("x", "ls")


def test_precreate_makes_it_too(scene, node):
    """podman's stage: the class is there before the runtime makes the container's cgroup."""
    case = Qos(scene, node, scene.runtime("runc"))
    node.install()
    path = f"{scene.cgroup}/libpod-{'ab' * 32}"
    config = {"annotations": LS, "linux": {"cgroupsPath": path}}
    printed = json.loads(node.hook("precreate", config).check().out)
    assert printed["linux"]["cgroupsPath"] == f"/{case.prefix}ls{path}"
    assert case.files("ls") == expected(case, "ls") != {}
    node.keeps = True
    for directory in cgroups.places(f"/{case.prefix}ls{scene.cgroup}"):
        os.rmdir(directory)


@pytest.mark.hostonly
@pytest.mark.parametrize("name", environments("cpu", "memory")[-1:])
def test_podman_makes_a_container_in_its_class(scene, node, name):
    """With precreate nothing is moved, and another start of the container finds it there."""
    podman = scene.runtime(name)
    assert podman.binary == "podman"
    case = Qos(scene, node, podman)
    bundle = scene.bundle(edit=lambda config: config.update(annotations=dict(LS)))
    podman.install(node, bundle)
    install_precreate(node)
    podman.run("one", bundle).check()
    for _ in range(2):
        place = f"/{case.prefix}ls{bundle.cgroups_path}/libpod-{podman.hook_id('one')}"
        now = cgroups.membership(podman.pid("one"))
        assert {now[hierarchy] for hierarchy in podman.hierarchies()} == {place}
        assert node.record()["outcome"] == "stays"
        assert case.files("ls") == expected(case, "ls") != {}
        podman.call("restart", "--time", "0", "one").check()
    podman.delete("one").check()


REMOVER = """
import sys
from nri_hook.cgroups import cleanup, directories
while True:
    directories.remove_empty(sys.argv[1], lambda path: directories.mark_of(path) == "somebody")
"""


def sample():
    """The plugin's file as a module."""
    place = importlib.util.spec_from_file_location("qos", f"{TOP}/nri_hook/plugins/qos.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


@pytest.fixture
def guard(scene):
    """A state directory: whoever makes a cgroup locks it."""
    path = f"{scene.directory}/guard"
    os.mkdir(path, 0o700)
    return path


def test_a_class_is_the_nodes_whoever_made_it(scene, guard):
    """Also to the container whose record says that it has made the directory, and whatever lock a
    stranger holds on it."""
    mounted = hierarchies.mounted(hierarchies.membership(os.getpid()))
    name = "cpu" if "cpu" in mounted else hierarchies.V2
    cgroup = f"/{scene.name}-ls"
    directory = mounted[name].directory(cgroup)
    scene.runtime_made(cgroup)
    directories.make(mounted[name], cgroup, "somebody", [], guard)
    fd = os.open(directory, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    begin = time.monotonic()
    directories.keep(mounted[name], cgroup, [])
    parts = {"claim": "somebody", "made": [directory]}
    for part in ({"leaves": [directory], "parents": []}, {"leaves": [], "parents": [directory]}):
        assert cleanup.clean_up(dict(parts, **part), 0) == []
        assert os.path.isdir(directory) and directories.mark_of(directory) == ""
    os.rmdir(directory)
    # Without keep() it goes.
    directories.make(mounted[name], cgroup, "somebody", [], guard)
    assert cleanup.clean_up(dict(parts, leaves=[], parents=[directory]), 0) == []
    assert not os.path.exists(directory)
    assert time.monotonic() - begin < 2
    os.close(fd)


def test_a_class_is_made_while_the_hook_removes_it(scene, guard):
    """The hook of another container removes its marked parent the moment it is empty."""
    qos = sample()
    wanted = qos.Class("ls", Conf({"cpu.weight": 800}, ("cpu.weight",)))
    mounted = hierarchies.mounted(hierarchies.membership(os.getpid()))
    name = "cpu" if "cpu" in mounted else hierarchies.V2
    file = "cpu.weight" if name == hierarchies.V2 else "cpu.shares"
    cgroup = f"/{scene.name}-ls"
    directory = mounted[name].directory(cgroup)
    scene.runtime_made(cgroup)
    remover = subprocess.Popen([sys.executable, "-c", REMOVER, directory], env={"PYTHONPATH": TOP})
    try:
        directories.make(mounted[name], cgroup, "somebody", [], guard)
        wait_until(lambda: not os.path.exists(directory))
        for _ in range(600):
            directories.make(mounted[name], cgroup, "somebody", [], guard)
            assert qos._make_directories(cgroup, wanted, {name: mounted[name]}) == []
            assert read(f"{directory}/{file}").strip() == FILES["ls"][file]
            assert directories.mark_of(directory) == ""
            os.rmdir(directory)
    finally:
        remover.kill()
        remover.wait()


# systemd


@pytest.fixture
def slices(scene):
    """Stops the slices of the scene at the end."""
    yield
    top = f"{scene.name.split('-')[0]}.slice"
    # A container that was created and never started has no ears for a SIGTERM.
    subprocess.run(["systemctl", "kill", "--signal=KILL", top], check=True)
    subprocess.run(["systemctl", "stop", top], check=True)


def slice_directory(case, wanted):
    parts = f"{case.prefix}{wanted}".split("-")
    names = ["-".join(parts[: count + 1]) + ".slice" for count in range(len(parts))]
    return "/sys/fs/cgroup/" + "/".join(names)


def slice_files(case, wanted):
    directory = slice_directory(case, wanted)
    return {
        f: read(f"{directory}/{f}").strip()
        for f in FILES[wanted]
        if os.path.exists(f"{directory}/{f}")
    }


V2_FILES = {
    "ls": {"cpu.weight": "800", "memory.low": str(64 * MIB), "cpu.idle": "0"},
    "be": {"cpu.idle": "1"},
}


@pytest.mark.guest
def test_each_class_has_its_slice(scene, node, oci, slices):
    case = Qos(scene, node, oci, systemd=True)
    for id, annotations in (("ls", LS), ("be", BE), ("none", {})):
        case.create(id, annotations).check()
        oci.start(id).check()
    for wanted in ("ls", "be"):
        (now,) = cgroups.membership(case.pid(wanted)).values()
        start = slice_directory(case, wanted)[len("/sys/fs/cgroup") :]
        assert now.startswith(f"{start}/{scene.name}-{wanted}.scope") or now.startswith(
            f"{start}/{scene.name}-nri-{wanted}.scope"
        )
        assert slice_files(case, wanted) == V2_FILES[wanted]
    # Where it is now, under the name that a moved scope has, it is still its own.
    moved = f"{case.prefix}ls.slice:{scene.name}:ls"
    Controls(moved, None, case.pid("ls")).cpu_weight = 321
    assert case.value("ls", "cpu.weight") == "321"
    reload()
    assert case.value("ls", "cpu.weight") == "321"
    assert [slice_files(case, wanted) for wanted in ("ls", "be")] == list(V2_FILES.values())
    oci.delete("ls").check()
    assert slice_files(case, "ls") == V2_FILES["ls"]


@pytest.mark.guest
def test_a_slice_that_is_there(scene, node, runc, slices):
    """Started by somebody else, with other settings; then changed by a new configuration."""
    case = Qos(scene, node, runc, systemd=True)
    unit = f"{case.prefix}ls.slice"
    subprocess.run(["systemctl", "start", unit], check=True)
    subprocess.run(["systemctl", "set-property", "--runtime", unit, "CPUWeight=20"], check=True)
    case.create("one", LS).check()
    assert slice_files(case, "ls") == V2_FILES["ls"]
    changed = {"ls": {"cpu.weight": 70, "memory.low": 0}, "be": {}}
    case = Qos(scene, node, runc, changed, systemd=True)
    case.create("two", LS).check()
    reload()
    assert slice_files(case, "ls") == {"cpu.weight": "70", "memory.low": "0", "cpu.idle": "0"}


@pytest.mark.guest
def test_a_container_that_is_in_its_slice(scene, node, oci, slices):
    case = Qos(scene, node, oci, systemd=True)
    path = f"{case.prefix}ls.slice:{scene.name}:x"
    case.create("x", LS, path=path).check()
    assert node.record()["outcome"] == "stays"
    (answer,) = node.record()["results"]
    assert answer["cgroupsPath"] == path
    assert slice_files(case, "ls") == V2_FILES["ls"]


@pytest.mark.guest
def test_precreate_starts_the_slice(scene, node, slices):
    case = Qos(scene, node, scene.runtime("runc"), systemd=True)
    node.install()
    id = "ab" * 32
    config = {"annotations": LS, "linux": {"cgroupsPath": f"machine.slice:libpod:{id}"}}
    printed = json.loads(node.hook("precreate", config).check().out)
    assert printed["linux"]["cgroupsPath"] == f"{case.prefix}ls.slice:libpod:{id}"
    assert slice_files(case, "ls") == V2_FILES["ls"]
    node.keeps = True


def test_no_systemd_manages_it(scene, node, runc):
    """To a runtime on cgroupfs this is the name of a directory. There is no slice for it."""
    case = Qos(scene, node, runc)
    said = case.create("plain", LS, path=f"{scene.name}.slice:x:plain").refused()
    assert f"cgroupsPath '{scene.name}.slice:x:plain' names a slice, but no systemd manages" in said


@pytest.mark.tcg
def test_io_weight_of_a_class(scene, node, oci):
    case = Qos(scene, node, oci, {"ls": {"io.weight": 700, "memory.min": 4 * MIB}})
    case.create("x", LS).check()
    directory = f"/sys/fs/cgroup/{case.prefix}ls"
    assert read(f"{directory}/io.weight").split()[:2] == ["default", "700"]
    assert read(f"{directory}/memory.min").strip() == str(4 * MIB)


@pytest.mark.tcg
def test_io_weight_of_a_slice(scene, node, oci, slices):
    case = Qos(scene, node, oci, {"ls": {"io.weight": 700, "memory.min": 4 * MIB}}, systemd=True)
    case.create("x", LS).check()
    reload()
    directory = slice_directory(case, "ls")
    assert read(f"{directory}/io.weight").split()[:2] == ["default", "700"]
    assert read(f"{directory}/memory.min").strip() == str(4 * MIB)
