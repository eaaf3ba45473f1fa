"""A stage as plugins find it, whatever its caller did."""

import json
import os
import shutil
import signal
import stat
import subprocess

import pytest
from unit.test_spawn import SOON, wait_for

from nri_hook import spawn


@pytest.fixture
def state(scene):
    """The state of a container whose process is one of ours: its parent is no runtime."""
    bundle = f"{scene.directory}/bundle"
    os.mkdir(bundle)
    with open(f"{bundle}/config.json", "w") as file:
        json.dump({"linux": {"cgroupsPath": f"{scene.cgroup}/x"}}, file)
    return {"id": scene.name, "pid": scene.sleeper().pid, "bundle": bundle}


def test_a_stage_undoes_what_its_caller_did(scene, node, state):
    """crun blocks the signals and clears the umask, runc lets descriptors of its caller through."""
    plugin = node.plugin("note")
    node.configure(plugin)
    node.install()
    inner, outer = os.pipe()

    def as_runtimes_do():
        os.umask(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    try:
        node.hook(
            "createRuntime",
            state,
            preexec_fn=as_runtimes_do,
            pass_fds=[inner],
            cwd=scene.directory,
            env={"HOME": "/root", "LD_PRELOAD": "", "PYTHONPATH": "/nowhere"},
        ).check()
    finally:
        os.close(inner)
        os.close(outer)
    node.hook("poststop", state).check()
    call = plugin.call("create")
    assert call["argv"] == [plugin.path, "invoke"]
    assert (call["cwd"], call["umask"]) == ("/", 0o022)
    assert (call["blocked"], call["ignored"]) == (0, 0)
    assert set(call["fds"]) <= {"0", "1", "2", "3"}
    assert not [path for fd, path in call["fds"].items() if int(fd) > 2 and "/proc" not in path]
    assert call["session"] == call["pid"]
    # LC_CTYPE is what the plugin's own Python sets.
    environment = {key: value for key, value in call["environment"].items() if key != "LC_CTYPE"}
    assert environment == {"HOME": "/root", "PATH": spawn.PATH}
    assert [call["state"] for call in plugin.calls()] == ["create", "delete"]
    assert stat.S_IMODE(os.stat(node.state_dir).st_mode) == 0o700


def interrupted(node, stage, state):
    """The exit status of a stage that is interrupted while its plugin sleeps."""
    argv = [node.launcher, stage, *node.options()]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as hook:
        hook.stdin.write(json.dumps(state).encode())
        hook.stdin.close()
        wait_for(lambda: os.listdir(f"{node.played}/slow/calls"))
        hook.send_signal(signal.SIGINT)
        assert b"interrupted" in hook.stderr.read().lower()
        return hook.wait(SOON)


def test_an_interrupt_fails_no_stage_that_must_not_fail(node, state):
    """The runtimes kill a container for a poststart that fails, and engines log a poststop."""
    plugin = node.plugin("slow")
    node.configure(plugin)
    node.install()
    node.hook("createRuntime", state).check()
    shutil.rmtree(f"{plugin.directory}/calls")
    os.mkdir(f"{plugin.directory}/calls")
    plugin.play({"delete": {"sleep": 5}})
    status = interrupted(node, "poststop", state)
    plugin.play({})
    node.hook("poststop", state).check()
    assert status == 0
