"""The first half of the launcher, in sh: what is settled before Python starts, and what is not.

In the place of Python stands a script that notes how it was called and what it gets on stdin.
"""

import json
import os
import resource
import shutil
import subprocess

import pytest
from support.commands import read
from support.users import as_user

from nri_hook.hook import host_config, options, record, state_directory
from nri_hook.registration import launcher

# All of its shells are here.
pytestmark = pytest.mark.hostonly

ID = "0123456789abcdef" * 4
STATE = {"ociVersion": "1.0.2-dev", "id": ID, "pid": 7, "status": "stopped", "bundle": "/b"}
PYTHON = """#!/bin/sh
printf '%s\\n' "$@" >{directory}/called
[ ! -e /proc/self/fd/0 ] || /bin/cat >{directory}/stdin
"""
SHELLS = [shell for shell in ("dash", "bash", "busybox") if os.path.exists(f"/bin/{shell}")]


class Front:
    """call(stage, stdin): the words that Python got, None if it was not started. stdin, out: what
    it got and what was printed. status: of the whole."""

    def __init__(self, directory, shell=""):
        self.directory = directory
        self.conf, self.state = f"{directory}/conf", f"{directory}/state"
        python = f"{directory}/python"
        for path in (directory, self.conf, self.state):
            os.makedirs(path, 0o755, exist_ok=True)
        with open(python, "w") as file:
            file.write(PYTHON.format(directory=directory))
        os.chmod(python, 0o755)
        self.path = f"{directory}/nri-hook"
        with open(self.path, "wb") as file:
            file.write(launcher.render(python, []))
        os.chmod(self.path, 0o755)
        self.words = [self.path]
        if shell:  # which knows by its name that it is to be sh
            sh = f"{directory}/{shell}/sh"
            os.makedirs(os.path.dirname(sh), exist_ok=True)
            os.symlink(f"/bin/{shell}", sh)
            self.words = [sh, self.path]

    def __call__(self, stage, stdin, *flags, environment=None, fails=False, **options):
        """stdin: bytes, a document, or None for a closed one. fails: whether it may."""
        for name in ("called", "stdin"):
            if os.path.exists(f"{self.directory}/{name}"):
                os.unlink(f"{self.directory}/{name}")
        flags = flags or ("--conf-dir", self.conf, "--state-dir", self.state, "--timeout", "30")
        data = stdin if isinstance(stdin, bytes) else json.dumps(stdin, separators=",:").encode()
        if stdin is None:
            options["preexec_fn"] = lambda: os.close(0)
        # By a pipe that is full before it starts: who does not read to the end is found out.
        process = subprocess.Popen(
            [*self.words, stage, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin"} if environment is None else environment,
            **options,
        )
        self.out, err = process.communicate(data if stdin is not None else b"", timeout=60)
        self.status = process.returncode
        assert fails or (self.status, err) == (0, b"")
        if not os.path.exists(f"{self.directory}/called"):
            return None
        if stdin is not None:
            with open(f"{self.directory}/stdin", "rb") as file:
                self.stdin = file.read()
        return read(f"{self.directory}/called").splitlines()

    def touch(self, path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").close()


@pytest.fixture(params=SHELLS)
def front(scene, request):
    return Front(f"{scene.directory}/front", request.param)


@pytest.fixture
def plain(scene):
    return Front(f"{scene.directory}/front")


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
        os.symlink("/proc/nothing", f"{front.conf}/conf.json")
    else:
        front.touch(f"{front.conf}/{name}")
    for stage in ("createRuntime", "precreate"):
        assert front(stage, STATE)[2] == stage
        assert json.loads(front.stdin) == STATE and front.out == b""


def test_the_environment_decides_nothing(front):
    environment = {"SHELLOPTS": "noglob", "PATH": "/proc/nothing", "IFS": "/"}
    assert front("createRuntime", STATE, environment=environment) is None
    front.touch(f"{front.conf}/resource.d/a.conf")
    front.touch(f"{front.state}/{state_directory.name('/run/runc', ID)}.json")
    for stage in ("createRuntime", "poststop"):
        assert front(stage, STATE, environment=environment)[2] == stage


AFTER = pytest.mark.parametrize("stage", ["poststart", "poststop"])


@AFTER
def test_without_a_record_python_does_not_start(front, stage):
    assert front(stage, STATE) is None
    name = state_directory.name("/run/runc", ID)
    for other in (f"{name}.log", f"{name}.log.cut", record.MOVING, "x.txt", ".hidden"):
        front.touch(f"{front.state}/{other}")
    assert front(stage, STATE) is None
    os.rename(front.state, f"{front.state}-gone")
    assert front(stage, STATE) is None


@pytest.mark.parametrize("ending", state_directory.ENDINGS)
def test_with_a_record_it_does(front, ending):
    """Whosever it is: the state is not read."""
    front.touch(f"{front.state}/{state_directory.name('/run/runc', 'other')}{ending}")
    assert front("poststop", STATE)[2] == "poststop"
    assert json.loads(front.stdin) == STATE


def test_after_the_start_only_where_there_may_be_something_to_do(front):
    path, other = (f"{front.state}/{state_directory.name('/run/runc', id)}" for id in (ID, "other"))
    for one in (path, other):
        front.touch(f"{one}.json")
        os.chmod(f"{one}.json", record.SETTLED)
    for ending in (".lock", ".new", ".log"):
        front.touch(f"{path}{ending}")
    assert front("poststart", STATE) is None
    assert front("poststop", STATE)[2] == "poststop"
    for one in (path, other):
        os.chmod(f"{one}.json", record.PLAIN)
        assert front("poststart", STATE)[2] == "poststart"
        assert json.loads(front.stdin) == STATE
        os.chmod(f"{one}.json", record.SETTLED)


ODD = "`id` $HOME $(id) \\ ' \" % * ~ é☃ \x7f" + "x" * 300_000
STATES = {
    "odd": json.dumps({**STATE, "annotations": {"odd": ODD, "id": "other"}}).encode(),
    "lines": json.dumps(STATE, indent=2, ensure_ascii=False).encode() + b"\n\n",
    "nothing": b"",
    "no-json": b"{",
    "bytes": bytes(range(256)) * 300,
    "id-after-annotations": b'{"annotations":{"id":"two"},"id":"one"}',
}


@AFTER
@pytest.mark.parametrize("name", STATES)
def test_the_state_is_python_s_alone(front, stage, name):
    """Nobody reads it without a record; with one it arrives as it was sent."""
    assert front(stage, STATES[name]) is None
    front.touch(f"{front.state}/{state_directory.name('/run/runc', ID)}.json")
    assert front(stage, STATES[name])[2] == stage
    assert front.stdin == STATES[name]


def test_16_mib_of_state_take_no_time(front):
    """Once half a minute, byte by byte."""
    state = b"{%s}" % (b" " * (16 << 20))
    for stage in ("createRuntime", "poststart", "poststop"):
        before = os.times()
        assert front(stage, state) is None
        after = os.times()
        assert sum(after[2:4]) - sum(before[2:4]) < 1


# What a shell cannot see


def test_a_link_on_the_way_is_followed_before_its_parent_is_taken(front):
    """/link/../conf is beside what the link leads to; the text alone says /conf."""
    os.makedirs(f"{front.directory}/elsewhere/inner")
    os.symlink("elsewhere/inner", f"{front.directory}/link")
    front.touch(f"{front.directory}/elsewhere/conf/conf.json")
    front.touch(f"{front.directory}/elsewhere/state/{state_directory.name('', ID)}.json")
    flags = [f"--{name}-dir={front.directory}/link/../{name}" for name in ("conf", "state")]
    chosen = options.parse(flags)
    assert host_config.paths(chosen.conf_dir) and state_directory.names(
        state_directory.place(chosen)
    )
    words = [word for flag in flags for word in flag.split("=")]
    for stage in ("createRuntime", "precreate", "poststart", "poststop"):
        assert front(stage, STATE, *words)[2] == stage


@pytest.mark.parametrize("files", [4, 5, 8, 11])
def test_a_shell_without_descriptors(front, files):
    """It cannot open a directory, and its globs find nothing."""
    front.touch(f"{front.conf}/resource.d/a.conf")
    front.touch(f"{front.state}/{state_directory.name('/run/runc', ID)}.json")
    limits = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))}
    for stage in ("createRuntime", "poststart", "poststop"):
        # There may be too few for a shell to begin with: then it fails.
        found = front(stage, STATE, fails=True, **limits)
        assert front.status != 0 or found is not None


def without(*capabilities):
    """Words before a command that it is run by, as root without these."""
    dropped = ",".join(f"-{name}" for name in capabilities)
    return ["setpriv", f"--inh-caps={dropped}", f"--bounding-set={dropped}", "--"]


@pytest.mark.parametrize("mode", [0, 0o111, 0o444], ids=oct)
def test_a_directory_that_cannot_be_read(front, mode):
    """Root without the capabilities that make it root to files."""
    front.words = without("dac_override", "dac_read_search") + front.words
    for directory in (front.conf, f"{front.conf}/resource.d", front.state):
        os.makedirs(directory, exist_ok=True)
        for stage in ("createRuntime", "precreate", "poststart", "poststop"):
            assert front(stage, STATE) is None
        os.chmod(directory, mode)
        after = directory == front.state
        for stage in ("poststart", "poststop") if after else ("createRuntime", "precreate"):
            assert front(stage, STATE)[2] == stage
        os.chmod(directory, 0o755)


def test_a_directory_above_that_cannot_be_read(front):
    front.words = without("dac_override", "dac_read_search") + front.words
    flags = [
        "--conf-dir",
        f"{front.directory}/above/conf",
        "--state-dir",
        f"{front.directory}/above/s",
    ]
    os.mkdir(f"{front.directory}/above")
    for stage in ("createRuntime", "poststart", "poststop"):
        assert front(stage, STATE, *flags) is None
        os.chmod(f"{front.directory}/above", 0o000)
        assert front(stage, STATE, *flags)[2] == stage
        os.chmod(f"{front.directory}/above", 0o755)


@pytest.mark.parametrize("name", ["a b", "é", "new\nline", "*", "[a]", "x" * 201])
def test_a_directory_with_an_odd_name_is_python_s(front, name):
    directory = f"{front.directory}/{name}"
    os.mkdir(directory)
    for stage in ("createRuntime", "poststop"):
        flags = ["--conf-dir", directory, "--state-dir", directory]
        assert front(stage, STATE, *flags)[2:] == "\n".join([stage, *flags]).split("\n")


@pytest.mark.parametrize("what", ["file", "fifo", "link", "self"])
def test_something_else_in_the_place_of_a_directory(front, what):
    for directory in (front.conf, f"{front.conf}/resource.d", front.state):
        shutil.rmtree(directory, ignore_errors=True)
        {
            "file": front.touch,
            "fifo": os.mkfifo,
            "link": lambda path: os.symlink("/proc/nothing", path),
            "self": lambda path: os.symlink(path, path),
        }[what](directory)
        after = directory == front.state
        for stage in ("poststart", "poststop") if after else ("createRuntime", "precreate"):
            assert front(stage, STATE)[2] == stage
        os.unlink(directory)
        os.mkdir(directory)


# Every command of the launcher, and what is not one.
FUNCTIONS = "[ can_list command exec false read return set shopt true unmatched unset".split()
ENVIRONMENTS = {
    "nothing": {},
    "empty-path": {"PATH": ""},
    "options": {"SHELLOPTS": "errexit:nounset:noglob:allexport:noclobber:pipefail"},
    "globs": {"BASHOPTS": "nullglob:dotglob:nocaseglob:extglob:globstar"},
    "failing-globs": {"BASHOPTS": "failglob"},
    "case": {"BASHOPTS": "nocasematch"},
    "ignored-globs": {"GLOBIGNORE": "*"},
    "locale": {"LC_ALL": "C.UTF-8"},
    "posix": {"POSIXLY_CORRECT": "1"},
    "startup": {"ENV": "/startup", "BASH_ENV": "/startup"},
    "functions": {f"BASH_FUNC_{name}%%": "() { return 0; }" for name in FUNCTIONS},
    "failing-functions": {f"BASH_FUNC_{name}%%": "() { return 1; }" for name in FUNCTIONS},
    "no-bash": {"BASH_VERSION": "5", "PWD": "/proc/nothing", "OLDPWD": "x", "CDPATH": "/"},
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_no_environment_makes_it_miss_something(front, name):
    front.touch(f"{front.conf}/resource.d/a.conf")
    front.touch(f"{front.state}/{state_directory.name('/run/runc', ID)}.json")
    python = {"PATH": ENVIRONMENTS[name].get("PATH", "/usr/bin:/bin")}
    environment = {**ENVIRONMENTS[name], **python}
    for stage in ("createRuntime", "precreate", "poststart", "poststop", "other"):
        assert front(stage, STATE, environment=environment)[2] == stage


def test_no_command_of_the_bundle_is_run(front):
    """A PATH that is empty means the current directory, which is the bundle."""
    trap = f"{front.directory}/cat"
    with open(trap, "w") as file:
        file.write(f"#!/bin/sh\n>{front.directory}/trapped\n")
    os.chmod(trap, 0o755)
    for environment in ({}, {"PATH": ""}, {"PATH": "."}, {"PATH": front.directory}):
        for stage in ("createRuntime", "precreate", "poststart", "poststop"):
            assert front(stage, STATE, environment=environment, cwd=front.directory) is None
    assert not os.path.exists(f"{front.directory}/trapped")


@pytest.mark.parametrize("stage", ["createRuntime", "precreate", "poststart", "poststop"])
def test_without_a_stdin_python_decides(front, stage):
    """cat would fail, and so would the container."""
    assert front(stage, None)[2] == stage


def test_in_a_directory_that_has_gone(front):
    directory = f"{front.directory}/gone"

    def leave():
        os.mkdir(directory)
        os.chdir(directory)
        os.rmdir(directory)

    for stage in ("createRuntime", "poststart", "poststop"):  # bash says so on stderr
        assert front(stage, STATE, fails=True, preexec_fn=leave) is None
        assert front.status == 0


@pytest.mark.parametrize(
    "flags",
    [
        ("--bad",),
        ("--conf-dir",),
        ("--conf-dir", "relative"),
        ("--conf-dir=/proc/nothing",),
        ("--timeout", "0"),
        ("--timeout", "x"),
        ("--timeout", "1.5"),
        ("--timeout", ""),
        ("--timeout", "86401"),
        ("--timeout", "\u0663"),
        ("--state-dir", "/run//nri-hook", "--conf-dir", "x"),
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


def test_in_a_user_namespace_python_decides(plain):
    """Whose root may own / and everything else that sh can see; the records are elsewhere."""
    plain.words = ["unshare", "--user", "--map-root-user", *plain.words]
    for stage in ("createRuntime", "precreate", "poststart", "poststop"):
        assert plain(stage, STATE)[2] == stage


def test_for_others_than_root_python_decides(plain):
    """They may not see what is there, and keep their records elsewhere."""
    os.chmod(plain.directory, 0o777)
    for stage in ("createRuntime", "poststop"):
        assert as_user(1234, lambda stage=stage: plain(stage, STATE))[2] == stage
