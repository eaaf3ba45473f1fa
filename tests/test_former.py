"""What the next create of an id finds of a former container: it is cleaned up only if it is gone,
and only what is its own."""

import os
import subprocess

import pytest
from support import cgroups
from support.commands import read
from support.node import command
from test_gc import BINARIES, Moved

from nri_hook import strictjson
from nri_hook.cgroups import folders, placement


@pytest.fixture(params=BINARIES)
def each(scene, request):
    """runc and crun."""
    return scene.runtime(request.param)


@pytest.fixture
def sleeper():
    """A process that is nobody's business."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def write(node, name, document):
    os.makedirs(node.state_dir, 0o700, exist_ok=True)
    with open(f"{node.state_dir}/{name}.json", "wb") as file:
        file.write(strictjson.dumps(document) + b"\n")
    os.chmod(f"{node.state_dir}/{name}.json", 0o600)


# What somebody else has made anew where the container's cgroup was


def finish_by_gc(first):
    command("gc", "--state-dir", first.node.state_dir, prefix=first.runtime.prefix).check()


def finish_by_poststop(first):
    state = {"id": "one", "bundle": first.bundle.folder, "status": "stopped"}
    done = first.node.hook("poststop", state, prefix=first.runtime.prefix).check()
    assert done.text == ""


def finish_by_create(first):
    first.plugin.play({})
    first.runtime.create("one", first.bundle).check()
    first.runtime.delete("one").check()
    finish_by_gc(first)


ENDS = {"gc": finish_by_gc, "poststop": finish_by_poststop, "create": finish_by_create}


@pytest.mark.parametrize("version", ["now", "0.1.0"])
@pytest.mark.parametrize("end", ENDS)
def test_a_cgroup_that_was_made_anew(scene, node, each, sleeper, end, version):
    """It has no mark, whatever the record says."""
    first = Moved(scene, node, each, ["createRuntime"])
    first.create()
    first.delete().check()
    if version == "0.1.0":
        (document,) = node.records().values()
        for placed in document["placements"]:
            del placed["unmarked"]
        write(node, first.record, document)
    for folder in cgroups.places(scene.cgroup):
        cgroups.remove(folder)
    scene.runtime_made(scene.cgroup)
    scene.runtime_made(os.path.dirname(first.target))
    made = scene.parent(first.target)
    for folder in made:
        cgroups.write(f"{folder}/cgroup.procs", sleeper.pid)
    ENDS[end](first)
    assert sleeper.poll() is None
    assert all(read(f"{folder}/cgroup.procs") == f"{sleeper.pid}\n" for folder in made)
    assert node.left() == []
    assert ("mover", "delete") in node.calls()


@pytest.mark.parametrize("used", [False, True])
def test_a_cgroup_that_a_killed_hook_made(scene, sleeper, used):
    """It may have been killed before it could mark it; whoever is in it is not the container's."""
    made = scene.parent(f"{scene.cgroup}-x")
    for folder in made if used else ():
        cgroups.write(f"{folder}/cgroup.procs", sleeper.pid)
    document = {"claim": "one", "leaves": made, "made": made, "unmarked": made, "parents": []}
    assert placement.clean_up(document, 0, by_force=True) == []
    assert [folder for folder in made if os.path.isdir(folder)] == (made if used else [])
    assert sleeper.poll() is None


def test_a_cgroup_that_another_hook_has_marked_since(scene):
    made = scene.parent(f"{scene.cgroup}-x")
    document = {"claim": "one", "leaves": made, "made": made, "unmarked": made, "parents": []}
    for folder in made:
        folders.mark(folder, "two")
    assert placement.clean_up(document, 0, by_force=True) == []
    assert all(map(os.path.isdir, made))
