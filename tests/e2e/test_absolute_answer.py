"""An answer that begins with a slash is absolute, whatever the container's own cgroupsPath is.

runc puts a relative cgroupsPath below its own cgroup, crun below the root. Whoever says
`podman run --cgroup-parent` has that choice, so it must not decide where `/jail/x` is.
"""

import json
import os

import pytest
from support import cgroups


@pytest.fixture
def below(scene, oci, monkeypatch):
    """Have the runtime in a cgroup of its own, of this scene; that cgroup."""
    path = f"{scene.cgroup}/engine/conmon"
    directories = scene.parent(path, oci.hierarchies())
    scene.runtime_made(f"{scene.cgroup}/engine")
    scene.runtime_made(scene.cgroup)
    enter = "".join(f"echo $$ >{directory}/cgroup.procs && " for directory in directories)
    prefix = ("sh", "-c", f'{enter}exec "$@"', "sh", *oci.prefix)
    monkeypatch.setattr(type(oci), "prefix", prefix)
    return path


def places(oci, id):
    """Where the container is in the hierarchies of its runtime."""
    now = cgroups.membership(oci.pid(id))
    return {now[name] for name in oci.hierarchies()}


def base_of(oci, below):
    """What the runtime puts before a relative path; runc has none in the v2 hierarchy of v1."""
    if oci.binary == "crun":
        return ""
    return below if oci.version == 1 else os.path.dirname(below)


def create(scene, node, oci, answer, path):
    """Create a container at `path` that a plugin wants at `answer`; what came of it."""
    node.plugin("mover", {"create": {"result": {"cgroupsPath": answer}}})
    node.configure("mover")
    bundle = scene.bundle(cgroups_path=path)
    oci.install(node, bundle)
    return oci.create("one", bundle)


def test_an_absolute_answer_for_a_relative_path(scene, node, oci, below):
    jail = f"{scene.cgroup}/jail/one"
    create(scene, node, oci, jail, f"{scene.name}-own/one").check()
    scene.runtime_made(f"{scene.name}-own")
    assert places(oci, "one") == {jail}
    oci.start("one").check()
    record = node.record()
    assert (record["outcome"], record["cgroupsPath"]) == ("adopted", jail)
    assert "here" in oci.exec("one", "echo", "here").check().out


def test_a_relative_answer_keeps_the_base(scene, node, oci, below):
    create(scene, node, oci, f"{scene.name}-qos/one", f"{scene.name}-own/one").check()
    scene.runtime_made(f"{scene.name}-own")
    own = f"/{scene.name}-own/one"
    before = node.plugin("mover").call("create")["membership"]
    now = cgroups.membership(oci.pid("one"))
    bases = {name: before[name][: -len(own)] for name in oci.hierarchies()}
    assert all(now[name] == f"{base}/{scene.name}-qos/one" for name, base in bases.items())
    assert base_of(oci, below) in bases.values()


def test_an_answer_without_a_slash_for_an_absolute_path(scene, node, oci, below):
    create(scene, node, oci, f"{scene.name}/jail/one", f"{scene.cgroup}-own/one").check()
    scene.runtime_made(f"{scene.name}-own")
    assert places(oci, "one") == {f"{scene.cgroup}/jail/one"}


def test_the_absolute_name_of_the_present_place_is_no_move(scene, node, oci, below):
    """Told by where it is: the two names differ in more than the slash under runc."""
    own = f"{scene.name}-own/one"
    answer = f"{base_of(oci, below)}/{own}"
    create(scene, node, oci, answer, own).check()
    scene.runtime_made(f"{scene.name}-own")
    before = node.plugin("mover").call("create")["membership"]
    stays = all(before[name] == answer for name in oci.hierarchies())
    assert node.record()["outcome"] == ("stays" if stays else "adopted")
    assert places(oci, "one") == {answer}


# precreate


def precreate(scene, node, answer, path, **entry):
    node.plugin("mover", {"setup": {"result": {"cgroupsPath": answer}}})
    node.configure({"type": "mover", **entry})
    node.install()
    done = node.hook("precreate", {"linux": {"cgroupsPath": path}})
    id = path.rpartition("-")[2]
    node.hook("poststop", {"id": id, "bundle": ""})
    return done


@pytest.mark.hostonly
def test_a_native_place_for_a_relative_path(scene, node):
    """The config says the answer; what of its parents it would leave, nobody can know."""
    jail, own = f"{scene.cgroup}/jail/one", f"{scene.name}/libpod-one"
    done = precreate(scene, node, jail, own, leaveParent=True).check()
    assert json.loads(done.out)["linux"]["cgroupsPath"] == jail
    done = precreate(scene, node, jail, own)
    assert (done.status, done.out) == (1, "")
    assert 'expected an absolute one, or "leaveParent": true' in done.err


@pytest.mark.hostonly
def test_no_native_place_below_what_only_the_runtime_knows(scene, node):
    done = precreate(scene, node, f"{scene.name}/jail", f"{scene.name}/libpod-one")
    assert (done.status, done.out) == (1, "")
    assert "only the runtime knows what" in done.err
