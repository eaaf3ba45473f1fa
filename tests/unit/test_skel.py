"""nri_hook.skel: what an author's function gets, and what becomes of what it does.

The plugins are executables, called as containerd's client and nri-hook call them.
"""

import json
import os
import subprocess
import sys

import pytest
from support.tree import TOP

from nri_hook import skel
from nri_hook.validation import schema

# What containerd's 0.1 client sends: no keys for what is empty, the runtime's words for namespaces.
CONTAINERD = {
    "conf": {"a": [1]},
    "version": "0.1",
    "state": "create",
    "id": "redis",
    "sandboxID": "pod",
    "pid": 44,
    "spec": {
        "resources": {"memory": {"limit": 1024}},
        "namespaces": {"pid": "", "network": "/var/run/netns/x"},
        "cgroupsPath": "/default/redis",
        "annotations": {"qos.class": "ls"},
    },
    "labels": {"app": "web"},
    "results": [
        {"plugin": "before", "version": "0.1", "error": "", "metadata": {"k": "v"}},
        {"cgroupsPath": "/qos/redis"},
    ],
}
SPARSE = {"version": "0.1", "state": "delete", "id": "redis", "spec": {"resources": None}}
PROGRAM = """
from nri_hook import skel
{body}
skel.run({plugin})
"""


class Answered:
    """status, result: decoded stdout. errors: stderr."""

    def __init__(self, done):
        self.status = done.returncode
        self.text = done.stdout
        self.errors = done.stderr.decode()

    @property
    def result(self):
        return json.loads(self.text)


@pytest.fixture
def call(tmp_path):
    """Call a plugin made of this body."""

    def call(body, plugin="invoke", payload=CONTAINERD, arguments=("invoke",)):
        path = f"{tmp_path}/some"
        with open(path, "w") as file:
            file.write(f"#!{os.path.realpath(sys.executable)} -IS\nimport sys\n")
            file.write(f"sys.path.append({TOP!r})\n{PROGRAM.format(body=body, plugin=plugin)}")
        os.chmod(path, 0o755)
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return Answered(subprocess.run([path, *arguments], input=data, capture_output=True))

    return call


SEES = """
def invoke(request):
    result = request.new_result("some")
    result.metadata["seen"] = repr({what})
    return result
"""


def seen(call, what, payload=CONTAINERD):
    return eval(call(SEES.format(what=what), payload=payload).result["metadata"]["seen"])


@pytest.mark.parametrize(
    "what, full, sparse",
    [
        ("request.version", "0.1", "0.1"),
        ("request.state", skel.State.CREATE, skel.State.DELETE),
        ("request.id", "redis", "redis"),
        ("request.pid", 44, None),
        ("request.sandbox_id", "pod", ""),
        ("request.labels", {"app": "web"}, {}),
        ("request.conf", {"a": [1]}, None),
        ("request.is_sandbox", False, False),
        ("request.spec.resources", {"memory": {"limit": 1024}}, {}),
        ("request.spec.cgroups_path", "/default/redis", ""),
        ("request.spec.cgroups", {}, {}),
        ("request.spec.namespaces", {"pid": "", "network": "/var/run/netns/x"}, {}),
        ("request.spec.annotations", {"qos.class": "ls"}, {}),
        ("[r.plugin for r in request.results]", ["before", ""], []),
        ("[r.metadata for r in request.results]", [{"k": "v"}, {}], []),
        ("[r.cgroups_path for r in request.results]", ["", "/qos/redis"], []),
    ],
)
def test_what_a_request_says(call, what, full, sparse):
    assert seen(call, what) == full
    assert seen(call, what, SPARSE) == sparse


@pytest.mark.parametrize("pid", [None, 0, -1])
def test_no_process_is_no_number(call, pid):
    """Whatever the caller says for it: a plugin may signal what it finds."""
    assert seen(call, "request.pid", dict(CONTAINERD, pid=pid)) is None
    assert skel.NO_PID is None


def test_a_sandbox(call):
    assert seen(call, "request.is_sandbox", dict(CONTAINERD, sandboxID="redis"))


def test_a_whole_answer(call):
    body = """
def invoke(request):
    result = request.new_result("some")
    result.metadata["cpus"] = "2-7"
    result.cgroups_path = "/qos-ls/redis"
    return result
"""
    done = call(body)
    assert done.result == {
        "plugin": "some",
        "version": "0.1",
        "error": "",
        "metadata": {"cpus": "2-7"},
        "cgroupsPath": "/qos-ls/redis",
    }
    assert schema.faults("result", done.result) == []
    assert (done.status, done.errors) == (0, "")


@pytest.mark.parametrize(
    "body, plugin, name",
    [
        ("class Some:\n  type='named'\n  def invoke(self, request): pass", "Some()", "named"),
        ("def invoke(request): pass", "invoke, 'named'", "named"),
        ("def invoke(request): pass", "invoke", "some"),
    ],
)
def test_a_plugin_without_an_opinion(call, body, plugin, name):
    expected = {"plugin": name, "version": "0.1", "error": "", "metadata": {}}
    assert call(body, plugin).result == expected


def error(done):
    assert done.status == 0 and schema.faults("result", done.result) == []
    assert done.result["plugin"] == "some"
    return done.result["error"]


def test_an_error_of_its_own_is_one_line(call):
    done = call('def invoke(request): raise skel.PluginError("no\\nroom", path="/sys/x")')
    assert error(done) == r"/sys/x: no\nroom"
    assert done.errors == ""


@pytest.mark.parametrize(
    "body, message",
    [
        ("def invoke(request): 1 / 0", "ZeroDivisionError: division by zero"),
        ("def invoke(request): raise MemoryError", "MemoryError: "),
        ("def invoke(request): return {}", "returned {}, expected a Result or None"),
        ("def invoke(request): return skel.Result('some', metadata={'a': {1}})", "TypeError: "),
        ("def invoke(request): return skel.Result('some', metadata={'a': float('nan')})", "Value"),
    ],
)
def test_what_it_raises_is_its_error(call, body, message):
    assert error(call(body)).startswith(message)


def test_an_exception_leaves_its_traceback_on_stderr(call):
    assert "ZeroDivisionError: division by zero" in call("def invoke(request): 1 / 0").errors


def test_what_it_prints_is_no_answer(call):
    done = call("def invoke(request): print('hello')")
    assert done.result["plugin"] == "some" and done.errors == "hello\n"


@pytest.mark.parametrize("arguments", [(), ("Invoke",), ("invoke", "more")])
def test_another_argument(call, arguments):
    done = call("def invoke(request): print('called')", arguments=arguments)
    assert error(done) == f"called with {list(arguments)}, expected ['invoke']"
    assert done.errors == ""


@pytest.mark.parametrize(
    "payload, message",
    [
        (b"", "the payload on stdin: empty, expected a JSON document"),
        (b"{", "the payload on stdin: "),
        (b"[]", "the payload on stdin: expected an object"),
        (dict(CONTAINERD, id=1), "the payload: /id: expected a string, found 1"),
        (dict(CONTAINERD, pid="1"), "the payload: /pid: expected an integer, found '1'"),
        (dict(CONTAINERD, spec=[]), "the payload: /spec: expected an object, found []"),
        (dict(CONTAINERD, labels={"a": 1}), "the payload: /labels/a: expected a string, found 1"),
        (
            dict(CONTAINERD, spec={"cgroupsPath": 7}),
            "the payload: /spec/cgroupsPath: expected a string, found 7",
        ),
        (dict(CONTAINERD, results={}), "the payload: /results: expected a list of objects"),
        (dict(CONTAINERD, results=[1]), "the payload: /results: expected a list of objects"),
    ],
)
def test_a_payload_that_is_none(call, payload, message):
    assert error(call("def invoke(request): pass", payload=payload)).startswith(message)


def test_conf_is_any_json(call):
    for conf in ("text", 0, [1, {"a": None}], False):
        assert seen(call, "request.conf", dict(CONTAINERD, conf=conf)) == conf


def test_the_schema_s_examples_are_requests():
    for example in schema.load("payload")["examples"]:
        request = skel.Request(example)
        assert request.id == example["id"] and request.state == example["state"]


def test_it_imports_next_to_nothing():
    code = f"import os, sys; sys.path.append({TOP!r}); before = set(sys.modules)\n"
    code += "import nri_hook.skel\nprint(' '.join(sorted(set(sys.modules) - before)))"
    words = [os.path.realpath(sys.executable), "-IS", "-c", code]
    found = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    assert {name for name in found if not name.startswith("nri_hook")} <= {"_json", "errno"}
