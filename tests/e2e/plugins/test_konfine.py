"""konfine: the CPUs that are reserved for the system stay free of containers."""

import os

import pytest
from support import cgroups
from support.commands import read

from plugins.samples import Case, allowed, entry, environments, here, reload

tcg = pytest.mark.tcg
FORMS = [[0], "0", "0-0,0"]


@pytest.fixture(params=environments("cpuset"))
def runtime(scene, request):
    return scene.runtime(request.param)


def cpus(case, id):
    """The CPUs of a container's first process, and of one that is executed in it."""
    first = allowed(read(f"/proc/{case.pid(id)}/status"))
    return first, allowed(case.inside(id, "cat", "/proc/self/status"))


def reserves(scene, node, runtime, **options):
    """A container has no CPU 0, in its first process and in others."""
    for form in FORMS:
        id = f"c{FORMS.index(form)}"
        case = Case(scene, node, runtime, entry("konfine", {"systemReserved": form}))
        case.create(id, **options).check()
        runtime.start(id).check()
        assert cpus(case, id) == (here() - {0}, here() - {0})
        runtime.delete(id).check()


@pytest.mark.hostonly
def test_a_container_has_no_reserved_cpu(scene, node, runtime):
    assert {0, 1} <= here()
    reserves(scene, node, runtime)


@tcg
@pytest.mark.parametrize("name", ["runc", "crun", "podman"])
def test_it_has_none_on_v2(scene, node, name):
    assert here() == {0, 1}
    reserves(scene, node, scene.runtime(name))


@tcg
def test_it_has_none_in_a_scope(scene, node, oci):
    case = Case(scene, node, oci, entry("konfine", {"systemReserved": [0]}), systemd=True)
    case.create("c").check()
    oci.start("c").check()
    assert cpus(case, "c") == ({1}, {1})
    reload()
    assert cpus(case, "c") == ({1}, {1})


def named(scene, node, runtime):
    """A container that names its CPUs is checked, not changed."""
    case = Case(scene, node, runtime, entry("konfine", {"systemReserved": [0]}))
    case.create("good", cpu={"cpus": "1"}).check()
    assert allowed(read(f"/proc/{case.pid('good')}/status")) == {1}
    said = case.create("bad", cpu={"cpus": "0-1"}).refused()
    assert "plugin konfine: says: the container names the CPUs 0-1, of which 0 are reserved" in said
    case.create("worse", cpu={"cpus": "0"}).refused()


@pytest.mark.hostonly
def test_named_cpus_are_checked(scene, node, runc):
    named(scene, node, runc)


@tcg
def test_named_cpus_are_checked_on_v2(scene, node, runc):
    named(scene, node, runc)


def narrow(scene, node, runtime):
    """What the parent may not use the container has not either."""
    for directory in scene.parent(f"{scene.cgroup}-narrow"):
        if os.path.exists(f"{directory}/cpuset.cpus"):
            cgroups.write(f"{directory}/cpuset.cpus", "1")
    path = f"{scene.cgroup}-narrow/c"
    case = Case(scene, node, runtime, entry("konfine", {"systemReserved": [0]}))
    case.create("c", path=path).check()
    assert allowed(read(f"/proc/{case.pid('c')}/status")) == {1}
    runtime.delete("c").check()
    node.configure(entry("konfine", {"systemReserved": [1]}))
    said = case.create("none", path=path).refused()
    assert "says: no CPU is left: the container may have 1, reserved are 1" in said


@pytest.mark.hostonly
def test_nothing_is_left(scene, node, runc):
    narrow(scene, node, runc)


@tcg
def test_nothing_is_left_on_v2(scene, node, runc):
    cgroups.write("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset")
    narrow(scene, node, runc)


@pytest.mark.hostonly
def test_what_an_earlier_plugin_took_stays_taken(scene, node, runc):
    node.plugin("early", {"create": {"settings": {"cpuset.cpus": "1"}}})
    case = Case(scene, node, runc, "early", entry("konfine", {"systemReserved": [0]}))
    case.create("c").check()
    assert case.value("c", "cpuset.cpus") == "1"
    node.configure("early", entry("konfine", {"systemReserved": [1]}))
    assert "no CPU is left" in case.create("none").refused()
