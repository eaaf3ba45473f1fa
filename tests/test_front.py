"""The first half of the launcher, in sh: what is settled before Python starts, and what is not.

In the place of Python stands a script that notes how it was called and what it gets on stdin.
"""

import json
import os
import subprocess

import pytest
from support.commands import read
from support.users import as_user

from nri_hook import launcher, record

# All of its shells are here.
pytestmark = pytest.mark.hostonly

ID = "0123456789abcdef" * 4
STATE = {"ociVersion": "1.0.2-dev", "id": ID, "pid": 7, "status": "stopped", "bundle": "/b"}
PYTHON = """#!/bin/sh
printf '%s\\n' "$@" >{folder}/called
cat >{folder}/stdin
"""
SHELLS = [shell for shell in ("/bin/dash", "/bin/bash", "/bin/busybox") if os.path.exists(shell)]


class Front:
    """call(stage, stdin): the exit status, and the words that Python got, None where it was not
    started. stdin, out: what it got and what was printed."""

    def __init__(self, folder, shell=""):
        self.folder = folder
        self.conf, self.state = f"{folder}/conf", f"{folder}/state"
        python = f"{folder}/python"
        for path in (folder, self.conf, self.state):
            os.makedirs(path, 0o755, exist_ok=True)
        with open(python, "w") as file:
            file.write(PYTHON.format(folder=folder))
        os.chmod(python, 0o755)
        self.path = f"{folder}/nri-hook"
        with open(self.path, "wb") as file:
            file.write(launcher.render(python, []))
        os.chmod(self.path, 0o755)
        self.words = [self.path]
        if shell:
            self.words = [shell, *(["sh"] if shell.endswith("busybox") else []), self.path]

    def __call__(self, stage, stdin, *flags, environment=None, **options):
        for name in ("called", "stdin"):
            if os.path.exists(f"{self.folder}/{name}"):
                os.unlink(f"{self.folder}/{name}")
        flags = flags or ("--conf-dir", self.conf, "--state-dir", self.state, "--timeout", "30")
        data = stdin if isinstance(stdin, bytes) else json.dumps(stdin, separators=",:").encode()
        # By a pipe that is full before it starts: who does not read to the end is found out.
        process = subprocess.Popen(
            [*self.words, stage, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin"} if environment is None else environment,
            **options,
        )
        self.out, err = process.communicate(data, timeout=30)
        assert (process.returncode, err) == (0, b"")
        if not os.path.exists(f"{self.folder}/called"):
            return None
        with open(f"{self.folder}/stdin", "rb") as file:
            self.stdin = file.read()
        return read(f"{self.folder}/called").splitlines()

    def touch(self, path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").close()


@pytest.fixture(params=SHELLS)
def front(scene, request):
    return Front(f"{scene.folder}/front", request.param)


@pytest.fixture
def plain(scene):
    return Front(f"{scene.folder}/front")


def test_python_gets_the_words_of_the_hook(plain):
    plain.touch(f"{plain.conf}/conf.json")
    flags = ["--conf-dir", plain.conf, "--plugin-dir", "/a b", "--plugin-dir", "/c"]
    assert plain("createRuntime", STATE, *flags) == ["-IS", plain.path, "createRuntime", *flags]
    assert json.loads(plain.stdin) == STATE


@pytest.mark.parametrize("stage", ["createRuntime", "precreate"])
def test_without_a_configuration_python_does_not_start(front, stage):
    config = json.dumps({"linux": {"cgroupsPath": "/x"}, "é": "☃\\n" * 50_000}).encode()
    assert front(stage, config) is None
    assert front.out == (config if stage == "precreate" else b"")
    os.mkdir(f"{front.conf}/resource.d")
    front.touch(f"{front.conf}/resource.d/.hidden.conf")
    front.touch(f"{front.conf}/resource.d/a.json")
    assert front(stage, config) is None


@pytest.mark.parametrize("name", ["conf.json", "resource.d/a b.conf", "dangling"])
def test_with_a_configuration_it_does(front, name):
    if name == "dangling":
        os.symlink("/nothing", f"{front.conf}/conf.json")
    else:
        front.touch(f"{front.conf}/{name}")
    for stage in ("createRuntime", "precreate"):
        assert front(stage, STATE)[2] == stage
        assert json.loads(front.stdin) == STATE and front.out == b""


def test_the_environment_decides_nothing(front):
    environment = {"SHELLOPTS": "noglob", "PATH": "/nothing", "IFS": "/"}
    assert front("createRuntime", STATE, environment=environment) is None
    front.touch(f"{front.conf}/resource.d/a.conf")
    front.touch(f"{front.state}/{record.name('/run/runc', ID)}.json")
    for stage in ("createRuntime", "poststop"):
        environment["PATH"] = "/usr/bin:/bin"
        assert front(stage, STATE, environment=environment)[2] == stage


AFTER = pytest.mark.parametrize("stage", ["poststart", "poststop"])


@AFTER
def test_without_a_record_python_does_not_start(front, stage):
    assert front(stage, STATE) is None
    other = record.name("/run/runc", ID[:-1])
    for name in (f"{other}.json", f"{record.name('/run/runc', ID)}.log", "x.json"):
        front.touch(f"{front.state}/{name}")
    assert front(stage, STATE) is None
    os.rename(front.state, f"{front.state}-gone")
    assert front(stage, STATE) is None


@pytest.mark.parametrize("ending", record.ENDINGS)
def test_with_a_record_it_does(front, ending):
    front.touch(f"{front.state}/{record.name('/run/runc', ID)}{ending}")
    assert front("poststop", STATE)[2] == "poststop"
    assert json.loads(front.stdin) == STATE


def test_after_the_start_only_where_there_may_be_something_to_do(front):
    path = f"{front.state}/{record.name('/run/runc', ID)}"
    front.touch(f"{path}.lock")
    assert front("poststart", STATE) is None
    front.touch(f"{path}.json")
    assert front("poststart", STATE)[2] == "poststart"
    assert json.loads(front.stdin) == STATE
    os.chmod(f"{path}.json", record.SETTLED)
    assert front("poststart", STATE) is None
    assert front("poststop", STATE)[2] == "poststop"
    front.touch(f"{path}.new")
    assert front("poststart", STATE)[2] == "poststart"


def test_the_state_arrives_whatever_is_in_it(front):
    front.touch(f"{front.state}/{record.name('/run/runc', ID)}.json")
    odd = "`id` $HOME $(id) \\ ' \" % * ~ é☃ \x7f" + "x" * 300_000
    state = {**STATE, "annotations": {"odd": odd, "id": "other"}}
    assert front("poststop", state) and json.loads(front.stdin) == state
    assert front("poststop", json.dumps(state, indent=2, ensure_ascii=False).encode())
    assert json.loads(front.stdin) == state


IN_DOUBT = {
    "nothing": b"",
    "no-json": b"{",
    "no-id": b'{"pid":1}',
    "spaces": b'{"id": "one"}',
    "id-after-annotations": b'{"annotations":{"id":"two"},"id":"one"}',
    "empty": b'{"id":""}',
    "path": b'{"id":"../../etc"}',
    "pattern": b'{"id":"*"}',
    "escaped": rb'{"id":"\u006fne"}',
    "long": b'{"id":"%s"}' % (b"x" * 201),
}


@AFTER
@pytest.mark.parametrize("name", IN_DOUBT)
def test_in_doubt_python_decides(front, stage, name):
    assert front(stage, IN_DOUBT[name])[2] == stage
    assert front.stdin.strip() == IN_DOUBT[name]


@pytest.mark.parametrize(
    "flags",
    [
        ("--bad",),
        ("--conf-dir",),
        ("--conf-dir", "relative"),
        ("--conf-dir=/nothing",),
        ("--timeout", "0"),
        ("--timeout", "x"),
        ("--timeout", "1.5"),
        ("--timeout", ""),
        ("--state-dir", ""),
        ("more",),
    ],
)
@pytest.mark.parametrize("stage", ["createRuntime", "poststop"])
def test_flags_that_it_does_not_know_are_python_s(plain, stage, flags):
    assert plain(stage, STATE, *flags) == ["-IS", plain.path, stage, *flags]
    assert json.loads(plain.stdin) == STATE


@pytest.mark.parametrize("stage", ["", "start", "create Runtime", "--help"])
def test_other_stages_are_python_s(plain, stage):
    assert plain(stage, STATE)[2] == stage


def test_for_others_than_root_python_decides(plain):
    """They may not see what is there, and keep their records elsewhere."""
    os.chmod(plain.folder, 0o777)
    for stage in ("createRuntime", "poststop"):
        assert as_user(1234, lambda stage=stage: plain(stage, STATE))[2] == stage
