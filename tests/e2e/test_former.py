"""What the next create of an id finds of a former container: it is cleaned up only if it is gone,
and only what is its own."""

import os
import shutil

import pytest
from support import cgroups
from support.commands import read
from support.node import command
from support.waiting import is_alive, wait_until
from test_gc import BINARIES, Moved, forget, of_host

from nri_hook import procfs, strictjson
from nri_hook.cgroups import cleanup, directories
from nri_hook.hook import state_directory


@pytest.fixture(params=BINARIES)
def each(scene, request):
    """runc and crun."""
    return scene.runtime(request.param)


# Records that are not of a former container


def refused(runtime, node, bundle, said):
    """Create "one", which fails with these words, and changes no record."""
    before = {name: read(f"{node.state_dir}/{name}") for name in node.records()}
    text = runtime.create("one", bundle).refused()
    runtime.delete("one")
    assert {name: read(f"{node.state_dir}/{name}") for name in node.records()} == before
    (log,) = (entries for name, entries in node.logs().items() if not name.endswith("-setup.log"))
    assert said in log[-1]["message"]
    assert said in text or runtime.binary == "crun"  # which does not show what a hook says


def write(node, name, document):
    os.makedirs(node.state_dir, 0o700, exist_ok=True)
    with open(f"{node.state_dir}/{name}.json", "wb") as file:
        file.write(strictjson.dumps(document) + b"\n")
    os.chmod(f"{node.state_dir}/{name}.json", 0o600)


def crafted(id, process=None, **others):
    """The record of a container whose init is that process, or has ended."""
    pid = process.pid if process else 0
    return {
        **{"id": id, "runtime": "runc", "runtimeRoot": "/run/runc", "bundle": "", "pid": pid},
        **{"start": procfs.start_time(pid), "creator": {"pid": 0, "start": 0}, "entries": []},
        **{"folders": [], "called": [], "results": [], "placements": [], "outcome": "stays"},
        **{"reason": "", "origin": "/x", "cgroupsPath": "/x", "cgroups": {}},
        "request": {"state": "create", "id": id, "spec": {}},
        **others,
    }


def plain(scene, node, runtime):
    node.configure(node.plugin("plain"))
    bundle = scene.bundle()
    runtime.install(node, bundle)
    return bundle


def test_the_record_of_another_container(scene, node, each, sleeper):
    """As if the names of two had become one: it lives, and would be killed."""
    bundle = plain(scene, node, each)
    directories_of_other = scene.parent(f"{scene.cgroup}-other")
    name = state_directory.name(each.root, "one")
    for directory in directories_of_other:
        cgroups.write(f"{directory}/cgroup.procs", sleeper.pid)
        directories.mark(directory, name)
    placed = {
        "claim": name,
        "leaves": directories_of_other,
        "made": directories_of_other,
        "parents": [],
    }
    write(node, name, crafted("other", sleeper, placements=[placed], outcome="moved"))
    refused(each, node, bundle, "is the record of container 'other', expected one")
    assert sleeper.poll() is None
    assert node.calls() == []
    sleeper.kill()
    sleeper.wait()
    os.unlink(f"{node.state_dir}/{name}.json")
    each.create("one", bundle).check()


def test_the_setup_of_another_container(scene, node, each):
    bundle = plain(scene, node, each)
    write(node, state_directory.setup_name("one"), crafted("other"))
    refused(each, node, bundle, "is the record of container 'other', expected one")
    assert node.calls() == []
    for name in node.left():
        os.unlink(f"{node.state_dir}/{name}")


def test_a_container_that_still_runs(scene, node, each):
    """Its runtime's record was removed, so that its id seems to be free."""
    first = Moved(scene, node, each, edit=of_host)
    first.start()
    forget(first)
    refused(each, node, first.bundle, f"still runs as process {first.pids[0]}, expected it to have")
    assert first.alive() == first.pids
    first.assert_in_place()
    assert node.calls() == [("mover", "create")]

    os.kill(first.pids[0], 15)
    wait_until(lambda: first.pids[0] not in first.alive())
    second = Moved(scene, node, each)
    second.start()
    first.assert_ended()
    assert node.calls() == [("mover", "create"), ("mover", "delete"), ("mover", "create")]
    second.delete()
    assert node.left() == []
    assert scene.left_cgroups() == []


def test_a_container_that_its_runtime_knows(scene, node, runc):
    bundle = plain(scene, node, runc)
    os.makedirs(f"{scene.directory}/root/one")
    path = f"{scene.directory}/root/one/state.json"
    open(path, "w").close()
    name = state_directory.name(runc.root, "one")
    write(node, name, crafted("one", runtimeRoot=f"{scene.directory}/root"))
    refused(runc, node, bundle, f"the container is still there: {path}, expected none")
    os.unlink(path)
    runc.create("one", bundle).check()
    assert node.record()["runtimeRoot"] == runc.root


# Records of a former container


@pytest.mark.parametrize("how", ["killed", "deleted"])
def test_a_poststop_that_never_came(scene, node, each, how):
    """The engine has crashed, or its hook was killed."""
    first = Moved(scene, node, each, ["createRuntime", "poststart"])
    first.start()
    if how == "killed":
        os.kill(first.pids[0], 9)
        first.assert_ended()
        forget(first)
    else:
        first.delete().check()
    second = Moved(scene, node, each)
    second.start()
    second.assert_in_place()
    states = [state for _, state in node.calls()]
    assert states == ["create", "delete", "create"]
    second.delete()
    assert node.left() == []
    assert scene.left_cgroups() == []


# As version 0.1.0 (commit 7249751) wrote it: a line for the chain, one before the move, one after.
LINES = (
    '{"id":"one","runtime":"runc","runtimeRoot":"ROOT","creator":{"pid":2152,"start":245012},'
    '"bundle":"BUNDLE","pid":PID,"start":START,"entries":[{"type":"mover"}],"folders":["PLUGINS"],'
    '"request":{"version":"0.1","state":"create","id":"one","pid":PID,"spec":{"resources":'
    '{"devices":[{"allow":false,"access":"rwm"}]},"cgroupsPath":"OLD","cgroups":{"":"OLD"},'
    '"namespaces":{"pid":"/proc/PID/ns/pid","mount":"/proc/PID/ns/mnt"},"annotations":{}}},'
    '"origin":"OLD","called":[0],"results":[],"cgroupsPath":"OLD","cgroups":{"":"OLD"},'
    '"placements":[],"outcome":"chain","reason":""}',
    '{"called":[0],"results":[{"cgroupsPath":"NEW","plugin":"mover","version":"0.1"}],'
    '"cgroupsPath":"OLD","cgroups":{"":"OLD"},"placements":[{"claim":"NAME","leaves":["MOUNTNEW"],'
    '"made":["MOUNTTOP","MOUNTNEW"],"parents":[],"carried":[],"moves":[["MOUNTOLD","MOUNTNEW"]],'
    '"former":{"":"OLD"},"cgroups":{"":"NEW"}}],"outcome":"chain","reason":""}',
    '{"called":[0],"results":[{"cgroupsPath":"NEW","plugin":"mover","version":"0.1"}],'
    '"cgroupsPath":"NEW","cgroups":{"":"NEW"},"placements":[{"claim":"NAME","leaves":["MOUNTNEW"],'
    '"made":["MOUNTTOP","MOUNTNEW"],"parents":[],"carried":[["MOUNTOLD","MOUNTNEW",'
    '{"cgroup.max.descendants":"max\\n","cgroup.max.depth":"max\\n"}]],"moves":[["MOUNTOLD",'
    '"MOUNTNEW"]],"former":{"":"OLD"},"cgroups":{"":"NEW"}}],"outcome":"moved","reason":""}',
)


class Earlier:
    """A container that version 0.1.0 has moved, or was about to. lines: how many it wrote."""

    def __init__(self, scene, node, lines):
        # Where v1 is, runc on v2 has a mount of its own, which its commands see.
        runc = self.runc = scene.runtime("runc" if cgroups.pure_v2() else "runc-v2")
        self.node, self.new, self.mount = node, f"{scene.cgroup}/one", runc.hierarchies()[""]
        node.plugin("mover")
        self.bundle = scene.bundle()
        runc.install(node, self.bundle)
        hooks = self.bundle.config["hooks"]
        self.bundle.config["hooks"] = {"poststop": hooks["poststop"]}
        self.bundle.save()
        runc.create("one", self.bundle).check()
        self.pid = runc.pid("one")

        self.name = state_directory.name(runc.root, "one")
        for directory in (self.mount + scene.cgroup, self.mount + self.new):
            os.mkdir(directory)
            directories.mark(directory, self.name, node.state_dir)
        cgroups.write(f"{self.mount}{self.new}/cgroup.procs", self.pid)
        text = "".join(line + "\n" for line in LINES[:lines])
        seen = self.mount if cgroups.pure_v2() else "/sys/fs/cgroup"
        words = {
            **{"MOUNTTOP": seen + scene.cgroup, "MOUNT": seen, "NEW": self.new},
            **{"OLD": self.bundle.cgroups_path, "NAME": self.name, "ROOT": runc.root},
            **{"BUNDLE": self.bundle.directory, "PLUGINS": node.plugin_dir, "PID": str(self.pid)},
            "START": str(procfs.start_time(self.pid)),
        }
        for word, value in words.items():
            text = text.replace(word, value)
        os.makedirs(node.state_dir, 0o700)
        with open(f"{node.state_dir}/{self.name}.json", "w") as file:
            file.write(text)

    def add(self, **keys):
        with open(f"{self.node.state_dir}/{self.name}.json", "ab") as file:
            file.write(strictjson.dumps(keys) + b"\n")

    def gc(self):
        words = ["gc", "--state-dir", self.node.state_dir]
        return command(*words, prefix=self.runc.prefix).check().out


def test_one_that_version_0_1_0_moved(scene, node):
    """gc tells the runtime. Keys that nobody knows any more, or yet, stay."""
    earlier = Earlier(scene, node, 3)
    earlier.add(later={"a": [1]})
    assert "adopting it" in earlier.gc()
    document = node.record()
    assert (document["outcome"], document["later"]) == ("adopted", {"a": [1]})
    assert cgroups.membership(earlier.pid)[""] == earlier.new
    assert os.path.isdir(earlier.mount + earlier.bundle.cgroups_path)
    assert earlier.runc.exec("one", "echo", "here").check().out == "here\n"
    earlier.runc.delete("one").check()
    assert node.calls() == [("mover", "delete")]
    assert node.left() == []
    assert scene.left_cgroups() == []


def test_one_that_version_0_1_0_adopted(scene, node):
    earlier = Earlier(scene, node, 3)
    earlier.gc()
    os.rmdir(earlier.mount + earlier.bundle.cgroups_path)
    (placed,) = node.record()["placements"]
    del placed["old"]
    earlier.add(placements=[placed])
    earlier.runc.delete("one").check()
    assert node.calls() == [("mover", "delete")]
    assert node.left() == []
    assert scene.left_cgroups() == []


@pytest.mark.parametrize("lines", [2, 3])
def test_one_that_its_runtime_forgot_before_it_was_told(scene, node, lines):
    """With two lines the hook was killed."""
    earlier = Earlier(scene, node, lines)
    shutil.rmtree(f"{earlier.runc.root}/one")
    earlier.runc.ids.remove("one")
    assert "killing it" in earlier.gc()
    wait_until(lambda: not is_alive(earlier.pid))
    assert node.calls() == [("mover", "delete")]
    assert node.left() == []
    if lines == 2:  # version 0.1.0 did not mark it, nor did it remove it
        os.rmdir(earlier.mount + earlier.bundle.cgroups_path)
    assert scene.left_cgroups() == []


# What somebody else has made anew where the container's cgroup was


def finish_by_gc(first):
    command("gc", "--state-dir", first.node.state_dir, prefix=first.runtime.prefix).check()


def finish_by_poststop(first):
    state = {"id": "one", "bundle": first.bundle.directory, "status": "stopped"}
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
        del document["version"]
        for placed in document["placements"]:
            del placed["unmarked"], placed["old"], placed["kind"]
        write(node, first.record, document)
    for directory in cgroups.places(scene.cgroup):
        cgroups.remove(directory)
    scene.runtime_made(scene.cgroup)
    scene.runtime_made(os.path.dirname(first.target))
    made = scene.parent(first.target)
    for directory in made:
        cgroups.write(f"{directory}/cgroup.procs", sleeper.pid)
    ENDS[end](first)
    assert sleeper.poll() is None
    assert all(read(f"{directory}/cgroup.procs") == f"{sleeper.pid}\n" for directory in made)
    assert node.left() == []
    assert ("mover", "delete") in node.calls()


@pytest.mark.parametrize("used", [False, True])
def test_a_cgroup_that_a_killed_hook_made(scene, sleeper, used):
    """It may have been killed before it could mark it; whoever is in it is not the container's."""
    made = scene.parent(f"{scene.cgroup}-x")
    for directory in made if used else ():
        cgroups.write(f"{directory}/cgroup.procs", sleeper.pid)
    document = {"claim": "one", "leaves": made, "made": made, "unmarked": made, "parents": []}
    assert cleanup.clean_up(document, 0, by_force=True) == []
    assert [directory for directory in made if os.path.isdir(directory)] == (made if used else [])
    assert sleeper.poll() is None


def test_a_cgroup_that_another_hook_has_marked_since(scene):
    made = scene.parent(f"{scene.cgroup}-x")
    document = {"claim": "one", "leaves": made, "made": made, "unmarked": made, "parents": []}
    for directory in made:
        directories.mark(directory, "two")
    assert cleanup.clean_up(document, 0, by_force=True) == []
    assert all(map(os.path.isdir, made))
