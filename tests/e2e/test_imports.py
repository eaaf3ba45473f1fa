"""What a stage imports. It runs for every container of the node: a module costs milliseconds."""

import json
import os
import re
import subprocess
import sys

import pytest
from support.tree import TOP

# What the launcher does.
CODE = f"""
import sys
sys.dont_write_bytecode = True
sys.path += [{TOP!r}, {os.path.dirname(os.path.dirname(os.path.abspath(pytest.__file__)))!r}]
"""
MAIN = """
from nri_hook import fastimport
fastimport.install("nri_hook")
from nri_hook.hook.stages import main
main(["nri-hook", *sys.argv[1:]])
"""
# Beyond what the interpreter itself has when it begins. The second half is what `import os` needs.
ALLOWED = {
    *("_ctypes", "_json", "_signal", "binascii", "_socket", "errno", "fcntl", "marshal", "select"),
    "time",
    *(
        "os",
        "posix",
        "posixpath",
        "genericpath",
        "stat",
        "_stat",
        "_collections_abc",
        "abc",
        "_abc",
    ),
}
# What must never be there without a reason, by name: each costs more than the interpreter's start,
# or is the way to one that does.
DEAR = {
    *("json", "re", "subprocess", "argparse", "logging", "typing", "dataclasses", "pathlib"),
    *("ctypes", "jsonschema", "psutil", "enum", "signal", "socket", "tempfile", "functools"),
    *("collections", "contextlib", "threading", "traceback", "warnings", "site", "inspect"),
    # For terminals alone.
    "rich",
}


def imported(code, *args, stdin=b""):
    """The modules that the interpreter imported for this program, and the finished process."""
    done = subprocess.run(
        [os.path.realpath(sys.executable), "-IS", "-X", "importtime", "-c", code, *args],
        input=stdin,
        capture_output=True,
        timeout=60,
    )
    lines = done.stderr.decode().splitlines()
    return {
        line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")
    }, done


@pytest.fixture(scope="module")
def start():
    """What is imported before the first line of ours."""
    names, done = imported(CODE)
    assert done.returncode == 0 and "encodings" in names
    return names


@pytest.fixture
def container(scene):
    """The state of a container whose process is one of ours: its parent is no runtime."""
    bundle = f"{scene.directory}/bundle"
    os.mkdir(bundle)
    config = {
        "root": {"path": "rootfs"},
        "annotations": {"qos.class": "ls"},
        "linux": {
            "cgroupsPath": f"{scene.cgroup}/x",
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": "pid"}, {"type": "network"}],
        },
    }
    with open(f"{bundle}/config.json", "w") as file:
        json.dump(config, file)
    return {
        "id": scene.name,
        "pid": scene.sleeper().pid,
        "bundle": bundle,
        "annotations": {"a": "b"},
    }


class Stage:
    """Runs the stages of a node; what each imported beyond the start, without our own modules."""

    def __init__(self, node, start):
        self.node = node
        self.start = start

    def __call__(self, name, document, status=0):
        stdin = document if isinstance(document, bytes) else json.dumps(document).encode()
        names, done = imported(CODE + MAIN, name, *self.node.options(), stdin=stdin)
        assert done.returncode == status, done.stderr.decode()
        self.out = done.stdout
        self.said = re.sub(rb"(?m)^import time:.*\n", b"", done.stderr).decode()
        assert "nri_hook.hook.stages" in names
        return {module for module in names - self.start if module.split(".")[0] != "nri_hook"}


@pytest.fixture
def stage(node, start):
    return Stage(node, start)


def test_the_dear_modules_are_not_allowed(start):
    assert not DEAR & (ALLOWED | start)


@pytest.mark.parametrize("name", ["createRuntime", "poststart", "poststop"])
def test_a_stage_without_a_configuration(stage, container, name):
    assert stage(name, container) <= ALLOWED
    assert stage.said == ""


def test_the_c_half_of_ctypes_waits_for_a_move(stage, node, container):
    """It loads two shared libraries, for system calls that only a move makes."""
    assert "_ctypes" not in stage("createRuntime", container)
    node.configure(node.plugin("plain"))
    assert "_ctypes" not in stage("createRuntime", container)
    assert "_ctypes" not in stage("poststop", container)


def test_a_stage_that_has_plugins(stage, node, container):
    """The chain, the record, and one who asks for a move that cannot be."""
    plugins = [node.plugin("plain"), node.plugin("late", {"create": {"exit": 3}})]
    plugins.append(node.plugin("mover", {"create": {"result": {"cgroupsPath": "/nri-test-x"}}}))
    node.configure(*[{"type": plugin.type, "conf": {"a": [1.5]}} for plugin in plugins])
    assert stage("createRuntime", container) <= ALLOWED
    assert "left where it is" in stage.said
    assert [len(plugin.calls("create")) for plugin in plugins] == [1, 1, 1]
    assert stage("poststart", container) <= ALLOWED
    assert stage("poststop", container) <= ALLOWED
    assert [len(plugin.calls("delete")) for plugin in plugins] == [1, 1, 1]


def test_a_hosted_plugin(stage, node, container):
    """Beside what the plugin itself imports, which is its own matter and in its own process."""
    node.hosted("plain", "from nri_hook import skel\nskel.run(lambda request: None)\n")
    node.configure("plain")
    assert stage("createRuntime", container) - {"gc", "marshal"} <= ALLOWED
    assert stage("poststop", container) - {"gc", "marshal"} <= ALLOWED
    assert stage.said == ""


def test_precreate(stage, node, scene):
    config = {"linux": {"cgroupsPath": f"{scene.cgroup}/libpod-{'ab' * 32}"}}
    assert stage("precreate", config) <= ALLOWED
    assert json.loads(stage.out) == config
    node.configure(node.plugin("plain"))
    assert stage("precreate", config) <= ALLOWED
    assert json.loads(stage.out) == config
    node.keeps = True


def test_a_plugin_that_fails(stage, node, container):
    """Its error, its exit status and an answer to another request need no schema."""
    plugin = node.plugin("bad")
    node.configure(plugin)
    for script in ({"result": {"error": "no"}}, {"print": "", "exit": 1}, {"result": {"id": "x"}}):
        plugin.play({"create": script})
        assert stage("createRuntime", container, status=1) <= ALLOWED
        assert "plugin bad: " in stage.said


def test_half_a_state(stage, node, start):
    """Before Python 3.13 the C code words its error with the help of json.decoder."""
    node.configure("plain")
    found = stage("createRuntime", b'{"id":', status=1)
    assert not found & {"jsonschema", "psutil", "subprocess", "typing", "ctypes"}


def test_a_check_that_fails_loads_the_schema(stage, node, container):
    """The other way round: what is imported is seen here."""
    node.configure(node.plugin("plain"))
    found = stage("createRuntime", dict(container, annotations=[]), status=1)
    assert {"jsonschema", "json", "re"} <= found
    assert "/annotations: expected an object, found []" in stage.said


def test_a_plugin_that_hangs_loads_psutil(stage, node, container):
    node.configure({"type": node.plugin("slow", {"create": {"sleep": 60}}).type, "timeout": 0.5})
    found = stage("createRuntime", container, status=1)
    assert "psutil" in found and "jsonschema" not in found
    assert "killed: no answer within 0.5 s" in stage.said


def test_the_controls_of_a_container(start):
    """For hosted plugins: the interpreter of the hook has all that they need already."""
    names, done = imported(f"{CODE}\nfrom nri_hook.cgroups.controls import Controls")
    assert done.returncode == 0
    ours = {name for name in names if name.startswith("nri_hook")}
    assert names - start - ours <= ALLOWED - {"_ctypes", "_socket", "fcntl"}
    assert "nri_hook.cgroups.controls.home" in ours and "nri_hook.cgroups.systemd" not in ours
