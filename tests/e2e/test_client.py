"""nri_hook.client, for consumers: the chain without a hook. The plugins are real executables."""

import json
import os
import resource
import subprocess
import sys

import pytest
from support.plugin import notes
from support.tree import TOP

from nri_hook.client import Client, HookError, Sandbox, State, Task

CONFIG = {
    "annotations": {"qos.class": "ls"},
    "linux": {
        "cgroupsPath": "/nri-test-x/redis",
        "resources": {"memory": {"limit": 1024}},
        "namespaces": [{"type": "pid"}, {"type": "network"}],
    },
}


@pytest.fixture
def client(node):
    """Make a client for this configuration."""

    def client(*entries, **options):
        node.configure(*entries)
        return Client(node.conf_dir, (node.plugin_dir,), **options)

    return client


@pytest.fixture
def sleeper(scene):
    return scene.sleeper().pid


def test_the_answers_of_all_in_order(node, client, sleeper):
    first = node.plugin("first", {"create": {"result": {"metadata": {"a": "b"}}}})
    second = node.plugin("second", {"create": {"result": {"cgroupsPath": "/qos"}}}, hosted=True)
    found = client({"type": "first", "conf": [1]}, second)
    assert found.plugins() == ["first", "second"]
    results = found.invoke(Task("redis", sleeper, CONFIG), State.CREATE)
    assert [(r.plugin, r.metadata, r.cgroups_path) for r in results] == [
        ("first", {"a": "b"}, ""),
        ("second", {}, "/qos"),
    ]
    payload = first.call("create")["payload"]
    assert (payload["id"], payload["pid"], payload["conf"]) == ("redis", sleeper, [1])
    assert payload["spec"]["namespaces"]["net"] == f"/proc/{sleeper}/ns/net"
    assert payload["spec"]["cgroups"] and "sandboxID" not in payload
    results = second.call("create")["payload"]["results"]
    assert results == [{"plugin": "first", "version": "0.1", "metadata": {"a": "b"}}]


@pytest.mark.parametrize("state", [State.PAUSE, State.RESUME, State.UPDATE, State.SETUP])
def test_every_other_state_goes_forward(node, client, state):
    plugins = node.plugin("first"), node.plugin("second")
    client(*plugins).invoke(Task("redis", None, CONFIG), state)
    assert node.calls() == [("first", state), ("second", state)]
    payload = plugins[0].call(state)["payload"]
    spec = payload["spec"]
    assert "pid" not in payload
    assert (spec["namespaces"], spec["cgroups"]) == ({}, {})


def test_delete_goes_backward_and_to_all(node, client):
    script = {"delete": {"result": {"metadata": {"gone": "yes"}}}}
    plugins = node.plugin("first", script), node.plugin("second")
    results = client(*plugins).invoke(Task("redis", None, CONFIG), State.DELETE)
    assert [(r.plugin, r.metadata) for r in results] == [("second", {}), ("first", {"gone": "yes"})]
    plugins[1].play({"delete": {"exit": 1, "print": ""}})
    with pytest.raises(HookError, match="plugin second: its answer: empty"):
        client(*plugins).invoke(Task("redis", None, CONFIG), State.DELETE)
    assert node.calls()[2:] == [("second", "delete"), ("first", "delete")]


@pytest.mark.parametrize("pid", [None, 0, -1])
def test_a_task_without_a_process(node, client, pid):
    plugin = node.plugin("some")
    client(plugin).invoke(Task("redis", pid, CONFIG), State.UPDATE)
    assert "pid" not in plugin.call("update")["payload"]


@pytest.mark.parametrize("state, undone", [(State.CREATE, True), (State.UPDATE, False)])
def test_the_first_failure_ends_it(node, client, sleeper, state, undone):
    script = {state: {"result": {"error": "no room"}}}
    plugins = node.plugin("first"), node.plugin("bad", script), node.plugin("last")
    with pytest.raises(HookError, match="plugin bad: says: no room") as caught:
        client(*plugins).invoke(Task("redis", sleeper, CONFIG), state)
    assert caught.value.plugin == "bad"
    for call in plugins[0].calls("delete"):
        payload = call["payload"]
        assert "pid" not in payload and payload["spec"]["namespaces"] == {}
    deleted = [("bad", "delete"), ("first", "delete")] if undone else []
    assert node.calls() == [("first", state), ("bad", state), *deleted]


def test_a_sandbox_and_its_labels(node, client):
    plugin = node.plugin("some")
    task = Task("redis", None, CONFIG)
    client(plugin).invoke_with_sandbox(task, State.CREATE, Sandbox("pod", {"app": "web"}))
    payload = plugin.call("create")["payload"]
    assert (payload["sandboxID"], payload["labels"]) == ("pod", {"app": "web"})


def test_a_plugin_runs_as_under_the_hook(node, client, scene, monkeypatch):
    monkeypatch.chdir(scene.directory)
    monkeypatch.setenv("LD_NOTHING", "x")
    plugin = node.plugin("some")
    client(plugin).invoke(Task("redis", None, CONFIG), State.CREATE)
    assert os.getcwd() == scene.directory
    call = plugin.call("create")
    assert (call["cwd"], call["umask"], set(call["fds"])) == ("/", 0o022, {"0", "1", "2"})
    assert "LD_NOTHING" not in call["environment"]


def test_what_is_the_caller_s_own_stays_its_own(node, scene):
    """A hosted plugin is a copy of the caller, and not its end."""
    node.plugin("some", hosted=True)
    node.configure("some")
    code = f"""
import os, signal, tempfile
from nri_hook.client import Client, Task
signal.signal(signal.SIGTERM, lambda *a: None)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
kept = tempfile.TemporaryDirectory(dir={scene.directory!r})
client = Client({node.conf_dir!r}, ({node.plugin_dir!r},))
client.invoke(Task("redis", -1, {CONFIG!r}), "create")
assert os.path.isdir(kept.name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    (call,) = notes(f"{node.played}/some", "call")
    assert (call["blocked"], call["ignored"]) == (0, 0)


def test_a_caller_with_many_descriptors(node, client):
    """More than select(2) can name."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2000:
        pytest.skip("this machine allows too few of them")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    plugins = node.plugin("first"), node.plugin("second", hosted=True)
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(1200)]
    try:
        results = client(*plugins).invoke(Task("redis", None, CONFIG), State.UPDATE)
    finally:
        for fd in fds:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [result.plugin for result in results] == ["first", "second"]


def test_any_timeout(node, client):
    """Also one that poll(2) could not be told."""
    results = client(node.plugin("first"), timeout=1e12).invoke(
        Task("redis", None, CONFIG), State.UPDATE
    )
    assert len(results) == 1


def test_what_is_wrong_is_one_kind_of_error(node, client, scene):
    with pytest.raises(HookError, match="/linux: expected an object"):
        Task("redis", None, {"linux": []})
    with pytest.raises(HookError, match="state 'start': expected one of setup, create, "):
        client().invoke(Task("redis", None, CONFIG), "start")
    for value in (object(), float("nan")):
        task = Task("redis", None, {"linux": {"resources": {"x": value}}})
        with pytest.raises(HookError, match="the task has no JSON form: "):
            client().invoke(task, State.UPDATE)
    with pytest.raises(HookError, match="no such process"):
        client().invoke(Task("redis", 2**22 + 1, CONFIG), State.CREATE)
    with pytest.raises(HookError, match="plugin missing: not found in "):
        client("missing").invoke(Task("redis", None, CONFIG), State.CREATE)
    node.executable("slow", "#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(HookError, match="plugin slow: .*no answer within 0[.][23]"):
        client("slow", timeout=0.3).invoke(Task("redis", None, CONFIG), State.UPDATE)
    with open(f"{node.conf_dir}/conf.json", "w") as file:
        json.dump({"version": "2"}, file)
    with pytest.raises(HookError, match="/version: expected"):
        Client(node.conf_dir, (node.plugin_dir,))


def test_without_a_configuration_there_is_nothing_to_call(scene):
    found = Client(f"{scene.directory}/nothing")
    assert found.plugins() == []
    assert found.invoke(Task("redis", None, CONFIG), State.CREATE) == []
