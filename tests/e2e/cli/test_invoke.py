"""`nri-hook invoke`: what it shows of calls, and of moves that it does not make."""

import contextlib
import io
import json
import os

import pytest
from support import cgroups
from support.node import command
from support.users import as_user
from test_move import KMSG, NOTHING, rule

from nri_hook.cli import main
from nri_hook.validation import schema

pytestmark = pytest.mark.once
MIB = 1 << 20
PAYLOAD = {
    "version": "0.1",
    "state": "create",
    "id": "redis",
    "pid": 44,
    "spec": {
        "resources": {},
        "cgroupsPath": "/default/redis",
        "cgroups": {"": "/default/redis"},
        "namespaces": {"pid": "/proc/44/ns/pid"},
        "annotations": {"qos.class": "ls"},
    },
    "conf": {"recorded": True},
    "results": [{"plugin": "before", "version": "0.1", "metadata": {"a": "b"}}],
    "sandboxID": "pod",
    "labels": {"app": "web"},
}


class Invoke:
    """invoke(*words): the JSON that it shows, with the node's configuration."""

    def __init__(self, scene, node):
        self.scene, self.node = scene, node

    def call(self, *words):
        places = ["--conf-dir", self.node.conf_dir, "--plugin-dir", self.node.plugin_dir]
        return command("invoke", *places, "--state-dir", self.node.state_dir, *words)

    def __call__(self, *words, status=0):
        done = self.call("--json", *words)
        assert (done.status, done.err) == (status, ""), done
        return json.loads(done.out)

    def recorded(self, **changes):
        """--request with a payload."""
        path = f"{self.scene.directory}/payload.json"
        with open(path, "w") as file:
            json.dump({**PAYLOAD, **changes}, file)
        return "--request", path


@pytest.fixture
def invoke(scene, node):
    return Invoke(scene, node)


def one(found):
    (call,) = found["calls"]
    return call


@pytest.mark.parametrize("hosted", [False, True])
def test_one_plugin_without_anything_else(node, invoke, hosted):
    script = {"create": {"result": {"cgroupsPath": "/qos/redis"}, "stderr": "a\nb\n", "exit": 3}}
    plugin = node.plugin("some", script, hosted=hosted)
    found = invoke("--plugin", plugin.path, "--conf", "[1]", "--annotation", "qos.class=ls=1")
    call = one(found)
    assert (call["type"], call["path"], call["hosted"]) == ("some", plugin.path, hosted)
    assert (call["status"], call["verdict"], call["stderr"]) == (3, "good", "a\nb\n")
    assert json.loads(call["answer"]) == {"cgroupsPath": "/qos/redis"} and call["ms"] > 0
    assert call["request"] == plugin.call("create")["payload"]
    assert call["request"]["conf"] == [1]
    assert call["request"]["spec"]["annotations"] == {"qos.class": "ls=1"}
    assert schema.faults("payload", call["request"]) == []
    assert (found["failure"], found["cgroupsPath"]) == ("", "/qos/redis")
    assert found["move"]["outcome"] == ""


def test_a_recorded_payload_is_replayed(node, invoke):
    plugin = node.plugin("some")
    assert one(invoke("--plugin", plugin.path, *invoke.recorded()))["request"] == PAYLOAD
    changed = ("--conf", "{}", "--annotation", "more=1", "--state", "pause")
    request = one(invoke("--plugin", plugin.path, *invoke.recorded(), *changed))["request"]
    assert (request["conf"], request["state"], request["pid"]) == ({}, "pause", 44)
    assert request["spec"]["annotations"] == {"qos.class": "ls", "more": "1"}


def test_a_create_that_failed_is_replayed_from_its_log(scene, node, runc, invoke):
    plugin = node.plugin("some", {"create": {"print": "no json", "exit": 3}})
    node.configure({"type": "some", "conf": {"a": 1}})
    bundle = scene.bundle()
    runc.install(node, bundle)
    runc.create("one", bundle).refused()
    path = f"{scene.directory}/payload"
    with open(path, "w") as file:
        file.write(command("log", "--state-dir", node.state_dir, "--payload", "one").check().out)
    found = invoke("--plugin", plugin.path, "--request", path, status=1)
    assert one(found)["request"] == plugin.calls("create")[0]["payload"]
    line = "plugin some: its answer: no JSON value at character 0"
    assert found["failure"] == line and one(found)["status"] == 3
    plugin.play({"create": {"result": {}}})
    assert invoke("--plugin", plugin.path, "--request", path)["failure"] == ""


def test_a_chain_gets_its_own_conf_and_results(node, invoke):
    first = node.plugin("first", {"create": {"result": {"metadata": {"k": "v"}}}})
    second = node.plugin("second", {"create": {"result": {"cgroupsPath": "/qos"}}})
    node.configure({"type": "first", "conf": 1}, second)
    found = invoke(*invoke.recorded())
    assert [call["type"] for call in found["calls"]] == ["first", "second"]
    requests = [call["request"] for call in found["calls"]]
    assert requests[0]["conf"] == 1 and requests[0]["results"] == []
    assert "conf" not in requests[1]
    assert requests[1]["results"] == [{"plugin": "first", "version": "0.1", "metadata": {"k": "v"}}]
    assert requests[0]["labels"] == {"app": "web"} and found["cgroupsPath"] == "/qos"
    assert first.call("create")["cwd"] == "/"


def test_delete_goes_backward_without_a_process(node, invoke):
    plugins = node.plugin("first"), node.plugin("second")
    node.configure(*plugins)
    found = invoke(*invoke.recorded(), "--state", "delete")
    assert [call["type"] for call in found["calls"]] == ["second", "first"]
    request = found["calls"][0]["request"]
    assert "pid" not in request and request["spec"]["namespaces"] == {}
    assert request["spec"]["cgroups"] == {"": "/default/redis"}


def test_what_the_hook_would_say(node, invoke):
    plugin = node.plugin("some", {"create": {"print": '{"pid": "x"}', "exit": 1}})
    found = invoke("--plugin", plugin.path, status=1)
    line = 'plugin some: its answer: /pid: expected an integer, found "x"'
    assert (one(found)["verdict"], found["failure"]) == (line, line)
    plugin.play({"create": {"result": {"error": "no room"}}})
    assert invoke("--plugin", plugin.path, status=1)["failure"] == "says: no room"
    plugin.play({"create": {"sleep": 60}})
    found = invoke("--plugin", plugin.path, "--timeout", "0.5", status=1)
    assert found["failure"] == "killed: no answer in time"
    node.configure(plugin)
    found = invoke("--timeout", "0.5", status=1)
    assert found["failure"].startswith(f"plugin some: {plugin.path}: killed: no answer within 0.")


def test_a_plugin_that_others_may_write(node, invoke):
    """Root executes nothing that others could have written; who is not root is warned that the
    hook would not run it."""
    path = node.executable("some", "#!/bin/sh\ncat >/dev/null\necho {}\n")
    os.chmod(path, 0o775)
    why = f"plugin some: {path}: file some may be written by others (mode 0775)"
    done = invoke.call("--plugin", path)
    assert (done.status, done.err) == (1, f"nri-hook invoke: {why}, so it is not run [untrusted]\n")
    node.configure("some")
    assert invoke(status=1)["failure"] == why

    def call():
        with contextlib.redirect_stdout(io.StringIO()) as out:
            main(["invoke", "--json", "--plugin", path])
        return json.loads(out.getvalue())

    found = as_user(12345, call)
    assert found["warning"] == f"the hook would not run it: {why}"
    assert one(found)["verdict"] == "good"


@pytest.mark.parametrize(
    "words, line",
    [
        (("--conf", "1"), "--conf: expected --plugin with it"),
        (("--pid", "1"), "--pid: expected --bundle with it"),
        (("--plugin", "x", "--conf", "{"), "--conf: "),
        (("--plugin", "x", "--annotation", "x"), "--annotation 'x': expected KEY=VALUE"),
    ],
)
def test_wrong_usage(invoke, words, line):
    done = invoke.call(*words)
    assert done.status == 2 and f"nri-hook invoke: {line}" in done.err


def test_what_cannot_be_read(scene, node, invoke):
    done = invoke.call()
    assert (done.status, "configures no plugin" in done.err) == (1, True)
    done = invoke.call("--plugin", "x", "--bundle", scene.directory)
    assert f"{scene.directory}/config.json: does not exist, expected a bundle" in done.err
    done = invoke.call("--plugin", "x", *invoke.recorded(pid="x"))
    assert "/pid: expected an integer" in done.err and "payload.json" in done.err
    done = invoke.call("--plugin", "x", "--request", f"{scene.directory}/nothing")
    assert done.status == 1 and "No such file" in done.err


# What a container that is there would become.


def limited(runtime):
    """An edit of config.json: as many limits as there are controllers."""

    def edit(config):
        resources = config["linux"].setdefault("resources", {})
        resources["devices"] = [NOTHING, rule(True, KMSG)]
        if "memory" in runtime.controllers():
            resources["memory"] = {"limit": 64 * MIB}
        if "pids" in runtime.controllers():
            resources["pids"] = {"limit": 77}
        if "cpu" in runtime.controllers():
            resources["cpu"] = {"shares": 512, "quota": 50000, "period": 100000}

    return edit


def test_what_a_move_would_do(scene, node, oci, invoke):
    """All that it says is what a real move then does, and until then nothing has changed."""
    target = f"{scene.cgroup}/qos/{{id}}"
    node.configure(node.plugin("mover", {"create": {"result": {"cgroupsPath": target}}}))
    bundle = scene.bundle(edit=limited(oci))
    oci.create("one", bundle).check()
    pid = oci.pid("one")
    before = cgroups.membership(pid)
    words = ["invoke", "--json", "--conf-dir", node.conf_dir, "--plugin-dir", node.plugin_dir]
    words += ["--state-dir", node.state_dir, "--bundle", bundle.directory, "--pid", str(pid)]
    found = node_command(oci, *words)
    assert cgroups.membership(pid) == before and scene.left_cgroups()
    move = found["move"]
    assert (move["outcome"], move["from"]) == ("moved", bundle.cgroups_path)
    oci.delete("one").check()
    assert scene.left_cgroups() == []

    other = scene.bundle(edit=limited(oci))
    oci.install(node, other)
    id = os.path.basename(bundle.directory)
    oci.create(id, other).check()
    made = cgroups.membership(oci.pid(id))
    assert {made[hierarchy] for hierarchy in oci.hierarchies()} == {f"{scene.cgroup}/qos/{id}"}
    by = {}
    for change in move["changes"]:
        by.setdefault(change["what"], {}).setdefault(change["where"], []).append(change["value"])
    for path, values in by.get("write", {}).items():
        if "/devices." not in path:
            assert cgroups.read(path) == values[0], path
    written = {os.path.basename(path) for path in by.get("write", {})}
    if "memory" in oci.controllers():
        assert written & {"memory.max", "memory.limit_in_bytes"}
    assert len(by["move"]) == len(oci.hierarchies())
    assert all(path.endswith(f"/qos/{id}/cgroup.procs") for path in by["move"])
    assert any(directory.endswith(f"/qos/{id}") for directory in by["make"])
    if oci.version == 2:
        assert by["attach"]
    else:
        (allowed,) = (values for path, values in by["write"].items() if path.endswith("allow"))
        assert any("1:11" in line for line in allowed)
    oci.delete(id).check()


def node_command(runtime, *words):
    """nri-hook in the runtime's mount namespace; its JSON."""
    done = command(*words, prefix=runtime.prefix).check()
    return json.loads(done.out)


def test_a_container_that_runs(scene, node, runc, invoke):
    """Its record says which it is, and where."""
    target = f"{scene.cgroup}/qos/{{id}}"
    plugin = node.plugin("mover", {"create": {"result": {"cgroupsPath": target}}})
    node.configure(plugin)
    family = "sleep 100 & trap 'exit 0' TERM; while :; do sleep 0.1; done"
    bundle = scene.bundle(("sh", "-c", family))
    runc.install(node, bundle)
    runc.run("one", bundle).check()
    found = invoke("--bundle", bundle.directory)
    request = found["calls"][0]["request"]
    assert (request["id"], request["pid"]) == ("one", runc.pid("one"))
    assert request["spec"]["cgroupsPath"] == f"{scene.cgroup}/qos/one"
    assert (found["move"]["outcome"], found["move"]["changes"]) == ("stays", [])
    plugin.play({"create": {"result": {"cgroupsPath": f"{scene.cgroup}/other"}}})
    move = invoke("--bundle", bundle.directory)["move"]
    assert (move["outcome"], move["to"]) == ("moved", f"{scene.cgroup}/other")
    plugin.play({"create": {"result": {"cgroupsPath": "/"}}})
    move = invoke("--bundle", bundle.directory)["move"]
    assert move["outcome"] == "refused" and "names the root" in move["reason"]
    plugin.play({"create": {}})
    assert invoke("--bundle", bundle.directory)["move"]["outcome"] == "stays"
    plugin.play({})
    runc.delete("one").check()


def test_a_container_that_could_not_be_moved(scene, node, invoke):
    """One of its own cgroup it has none."""
    node.configure(node.plugin("mover", {"create": {"result": {"cgroupsPath": "/x"}}}))
    bundle = scene.bundle()
    sleeper = scene.sleeper()
    move = invoke("--bundle", bundle.directory, "--pid", str(sleeper.pid))["move"]
    sleeper.kill()
    sleeper.wait()
    assert move["outcome"] == "left" and "is not its own" in move["reason"]


def test_in_a_pipe(node, invoke):
    plugin = node.plugin("some", {"create": {"stderr": "a\n\x1b[31mb\n"}})
    done = invoke.call("--plugin", plugin.path)
    lines = [line.split("  ")[0] for line in done.out.splitlines()]
    assert lines == ["plugin", "request", "answer", "stderr", "stderr", "verdict", "status", ""]
    assert "\x1b" not in done.out and r"\x1b[31mb" in done.out
