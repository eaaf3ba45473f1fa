"""The log of a container: what is in it, what it costs, and that it never stops a container."""

import json
import os
import re
import shutil
import stat
import time

import pytest
from support.commands import read

SECRET = "Traceback\n  no such class\n"


@pytest.fixture
def bundle(scene, node, oci):
    bundle = scene.bundle()
    oci.install(node, bundle)
    return bundle


def path_of_log(node):
    (name,) = node.logs()
    return f"{node.state_dir}/{name}"


def test_a_life(scene, node, oci, bundle):
    """One line per stage that did anything, in one file that has the record's name."""
    target = f"{scene.cgroup}/target"
    begin = time.time()
    plain = node.plugin("plain", {"create": {"stderr": "hello\n", "exit": 3}})
    node.configure(plain, node.plugin("mover", {"create": {"result": {"cgroupsPath": target}}}))
    oci.run("one", bundle).check()
    (record,) = node.records()
    (name,) = node.logs()
    assert name == record.replace(".json", ".log")
    assert stat.S_IMODE(os.stat(path_of_log(node)).st_mode) == 0o600
    oci.delete("one").check()

    create, poststart, poststop = node.log()
    stages = [entry["stage"] for entry in (create, poststart, poststop)]
    assert stages == ["createRuntime", "poststart", "poststop"]
    outcomes = [entry["outcome"] for entry in (create, poststart, poststop)]
    assert outcomes == ["moved", "adopted", "removed"]
    assert {entry["container"] for entry in node.log()} == {"one"}
    assert (create["from"], create["to"]) == (bundle.cgroups_path, target)
    assert create["notes"] == ["plugin plain: a good answer, exit status 3"]
    first, second = create["calls"]
    assert 0 < first.pop("ms") < 60000
    assert first == {
        **{"type": "plain", "state": "create", "status": 3},
        **{"answer": "{}", "stderr": "hello"},
    }
    assert json.loads(second["answer"]) == {"cgroupsPath": target}
    ends = [(call["type"], call["state"], call["status"]) for call in poststop["calls"]]
    assert ends == [("mover", "delete", 0), ("plain", "delete", 0)]
    assert poststart["calls"] == []
    times = [entry["time"] for entry in node.log()]
    assert begin - 1 < times[0] <= times[1] <= times[2] < time.time() + 1
    assert not any("payload" in entry for entry in node.log())
    assert node.left() == []


def test_a_failed_create(scene, node, oci, bundle):
    """Its record is gone, its log is there, and so is what the last plugin was sent."""
    good = node.plugin("good", {"create": {"result": {"metadata": {"a": "b"}}}})
    bad = node.plugin("bad", {"create": {"print": "no JSON", "stderr": SECRET, "exit": 1}})
    node.configure(good, {"type": "bad", "conf": {"level": 1}})
    oci.create("one", bundle).refused()
    oci.delete("one")
    assert node.records() == {}
    (entry,) = node.log()
    assert (entry["stage"], entry["outcome"]) == ("createRuntime", "failed")
    assert entry["message"].startswith("plugin bad: its answer: no JSON value")
    assert "no such class" in entry["message"]
    assert [(call["type"], call["state"], call["status"]) for call in entry["calls"]] == [
        ("good", "create", 0),
        ("bad", "create", 1),
        ("bad", "delete", 0),
        ("good", "delete", 0),
    ]
    assert entry["calls"][1]["answer"] == "no JSON"
    assert entry["calls"][1]["stderr"] == SECRET.strip()
    assert entry["payload"] == bad.call("create")["raw"]
    assert json.loads(entry["payload"])["conf"] == {"level": 1}


def test_one_that_was_killed_has_no_status(node, oci, bundle):
    node.plugin("slow", {"create": {"stderr": "waiting", "sleep": 60}})
    node.configure({"type": "slow", "timeout": 3})
    oci.create("one", bundle).refused()
    (entry,) = node.log()
    call = entry["calls"][0]
    assert (call["status"], call["stderr"]) == (None, "waiting")
    assert call["ms"] >= 3000


# What goes wrong before there is a record: configuration -> what the log says of it.
EARLY = {
    "{": "not JSON",
    '{"version": "2.0"}': "/version",
    '{"plugins": [{"type": "../x"}]}': "/plugins/0/type",
}


@pytest.mark.parametrize("text", EARLY)
def test_a_failure_before_there_is_a_record(node, oci, bundle, text):
    path = node.configure()
    with open(path, "w") as file:
        file.write(text)
    oci.create("one", bundle).refused()
    (entry,) = node.log()
    assert (entry["container"], entry["outcome"]) == ("one", "failed")
    assert path in entry["message"] and EARLY[text] in entry["message"]
    # It is the one in which its next create writes.
    node.configure(node.plugin("plain"))
    oci.create("one", bundle).check()
    assert [entry["outcome"] for entry in node.log()] == ["failed", "stays"]
    oci.delete("one").check()


def test_nothing_to_do_nothing_written(node, runc, scene):
    bundle = scene.bundle()
    runc.install(node, bundle)
    runc.run("one", bundle).check()
    runc.delete("one").check()
    assert node.logs() == {}
    node.configure(node.plugin("bad", {"create": {"exit": 1, "print": ""}}))
    runc.create("one", bundle).refused()
    runc.delete("one")
    assert len(node.log()) == 1


def test_who_nobody_knows_has_none(node):
    """Not even an empty file."""
    node.install()
    node.configure("plain")
    for stage in ("precreate", "createRuntime", "poststart", "poststop"):
        node.hook(stage, b"no JSON")
        node.hook(stage, {"id": "../../x", "linux": {"cgroupsPath": "/a/../.."}})
    assert node.logs() == {}


def test_precreate(scene, node):
    node.install()
    config = {"linux": {"cgroupsPath": f"{scene.cgroup}/libpod-{'ab' * 32}"}}
    node.configure(node.plugin("bad", {"setup": {"result": {"error": "not today"}}}))
    node.hook("precreate", config).refused()
    (entry,) = node.logs()[f"{'ab' * 32}-setup.log"]
    assert entry["message"] == "plugin bad: says: not today; undone: delete sent to bad"
    assert json.loads(entry["payload"])["state"] == "setup"
    node.configure("absent")
    node.hook("precreate", config).refused()
    last = node.log()[-1]
    assert "plugin absent: not found in" in last["message"]
    assert last["calls"] == [] and "payload" not in last


def test_two_of_one_id(scene, node):
    """Below two roots of one runtime."""
    node.configure(node.plugin("plain"))
    for _ in range(2):
        runtime, bundle = scene.runtime("runc"), scene.bundle()
        runtime.install(node, bundle)
        runtime.create("one", bundle).check()
    assert [len(entries) for entries in node.logs().values()] == [1, 1]
    for runtime in scene.runtimes:
        runtime.delete("one").check()


# No reason for a container not to start


def link(path):
    os.symlink("../../elsewhere", path)
    with open(f"{os.path.dirname(path)}/../../elsewhere", "w"):
        pass


def device(path):
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 7))  # what is behind /dev/full


# What is in the log's place -> what is said about it.
OBSTACLES = {
    link: "Too many levels of symbolic links",
    device: "expected a regular file",
    os.mkdir: "Is a directory",
    os.mkfifo: "expected a regular file",
}


@pytest.mark.hostonly  # a guest's /tmp has no devices
@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_no_log_can_be_had(node, runc, scene, log, obstacle):
    bundle = scene.bundle()
    runc.install(node, bundle)
    node.configure(node.plugin("plain"))
    runc.create("one", bundle).check()
    path = path_of_log(node)
    runc.delete("one").check()
    os.unlink(path)
    obstacle(path)
    before = os.lstat(path)

    done = runc.run("one", bundle).check()
    assert runc.status("one") == "running"
    assert done.err == ""
    lines = [line for line in log.lines("one") if "no log" in line]
    assert len(lines) == 1
    assert f"; no log of this is kept: {node.state_dir}: {OBSTACLES[obstacle]}" in lines[0]
    runc.delete("one").check()
    assert os.lstat(path) == before
    if obstacle is link:
        assert read(f"{scene.directory}/elsewhere") == ""
    shutil.rmtree(path) if obstacle is os.mkdir else os.unlink(path)


@pytest.mark.hostonly
def test_what_it_costs(node, scene):
    """Five system calls, whether the file is there or not."""
    init = scene.sleeper()
    bundle = scene.bundle()
    node.install()
    node.configure(node.plugin("plain"))
    state = {"id": "one", "pid": init.pid, "bundle": bundle.directory}
    trace = f"{scene.directory}/trace"
    for _ in range(2):
        node.hook("createRuntime", state, prefix=("strace", "-y", "-o", trace)).check()
        calls = re.findall(r"(?m)^(\w+)\(.*\.log", read(trace).replace("newfstatat", "fstat"))
        assert calls == ["openat", "fstat", "fstat", "write", "close"]
        assert node.hook("poststop", state).check().err == ""
    assert len(node.log()) == 4
