"""A plugin that goes wrong: one clear line, nothing moved, nothing left, `delete` to those called.

The containers are real; most of them never start. Every chain is first, bad, last.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from support import cgroups
from support.cases import cases
from support.commands import read

import nri_hook

hostonly = pytest.mark.hostonly  # for time
# What a plugin may take where it is to be late: a guest is slow.
TIMEOUT = 4 if cgroups.pure_v2() else 1
# More than any create here needs, less than the 40 after which runc itself ends a hook.
SECONDS = 25
FOREVER = 600
# The plugins that come with the package are looked for last.
OWN = os.path.join(os.path.dirname(nri_hook.__file__), "plugins")
CREATED = [("first", "create"), ("bad", "create"), ("last", "create")]
ALL_DELETED = [("last", "delete"), ("bad", "delete"), ("first", "delete")]
TYPE = (
    "expected a name of ASCII letters, digits, '.', '_' and '-' that starts with a letter, digit"
    " or '_'"
)


class Trial:
    """One container with the chain first, bad, last, and what becomes of its create.

    bad: a script or None for a plugin that the test puts there itself. canary: a file that
    self.trap() executables write. hosted: whether bad is a Python plugin that the hook hosts.
    """

    def __init__(self, scene, node, runtime, log, hosted=False):
        self.scene, self.node, self.runtime, self.log = scene, node, runtime, log
        self.id = scene.name
        self.installed = False
        self.bundle = scene.bundle()
        self.hosted = hosted
        self.path = f"{node.plugin_dir}/bad" + (".py" if hosted else "")
        self.canary = f"{scene.directory}/canary"
        self.first, self.last = node.plugin("first"), node.plugin("last")

    def bad(self, script):
        return self.node.plugin("bad", script, hosted=self.hosted)

    def answers(self, cgroups_path):
        return self.bad({"create": {"result": {"cgroupsPath": cgroups_path}}})

    def trap(self, path):
        """An executable that must not run."""
        with open(path, "w") as file:
            file.write(f"#!/bin/sh\necho {path} >> {self.canary}\necho '{{}}'\n")
        os.chmod(path, 0o755)

    def configure(self, **bad):
        self.node.configure(self.first, {"type": "bad", **bad}, self.last)

    def install(self):
        if not self.installed:
            self.runtime.install(self.node, self.bundle)
        self.installed = True

    def create(self, within=SECONDS):
        """Create the container, which must not take longer."""
        self.install()
        begin = time.monotonic()
        done = self.runtime.create(self.id, self.bundle)
        assert time.monotonic() - begin < within, done
        return done

    def fails(self, within=SECONDS):
        """Create the container, which must fail as a whole; what the hook says about it."""
        done = self.create(within)
        said = self.said(done)
        assert self.runtime.state(self.id) is None
        assert_soon(lambda: not self.scene.left_processes(), self.scene.left_processes)
        assert self.scene.left_cgroups() == []
        assert self.node.left() == []
        assert not os.path.exists(self.canary), read(self.canary)
        return said

    def said(self, done):
        """The one line of a hook that failed, after `container ID: `: in the log, and from runc."""
        text = done.refused()
        (logged,) = self.log.lines(self.id)
        found = re.search(r" outcome=failed(?: code=([a-z-]+))?; (.*)$", logged)
        assert found, done
        code, line = found.groups()
        end = f" [{code}]" if code else ""
        if self.runtime.binary != "crun":  # which keeps it to itself
            said = stderr_of_hook(text)
            assert said == f"nri-hook createRuntime: container {self.id}: {line}{end}\n"
        return line

    def calls(self):
        return self.node.calls()


def stderr_of_hook(text):
    """What the hook printed to stderr, out of the error of runc, or of podman that has it."""
    (message,) = re.findall(r'msg="((?:[^"\\]|\\.)*stderr: (?:[^"\\]|\\.)*)"', text)
    message = json.loads(f'"{message}"')
    assert "exit status 1, stdout: , stderr: " in message
    return message.partition(", stdout: , stderr: ")[2]


def assert_soon(holds, found, seconds=3):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, found()
        time.sleep(0.02)


@pytest.fixture
def trial(scene, node, runc, log, request):
    return Trial(scene, node, runc, log, is_hosted(request))


@pytest.fixture
def impatient(scene, runc, log, request):
    """A trial whose whole chain has little time; after 10 seconds more runc ends the hook."""
    node = scene.node(["--timeout", f"{2 * TIMEOUT}"])
    return Trial(scene, node, runc, log, is_hosted(request))


def is_hosted(request):
    return getattr(request, "param", "executable") == "hosted"


def either(fixture="trial"):
    """For a test with an executable, and with a hosted plugin that does the same."""
    kinds = ["executable", pytest.param("hosted", marks=hostonly)]
    return pytest.mark.parametrize(fixture, kinds, indirect=True)


NO_JSON = "its answer: empty, expected a JSON document"
OBJECT = "its answer: document: expected an object, found"
# What bad does in create -> what the line says about it. {id} is filled in.
BAD_ANSWERS = {
    "exit-1": ({"print": "", "exit": 1}, f"{NO_JSON}, exit status 1"),
    "exit-1-and-why": (
        {"print": "", "stderr": "no\nluck \x1b[31m\n", "exit": 1},
        rf"{NO_JSON}, exit status 1, stderr: no\nluck \x1b[31m",
    ),
    "exit-1-and-text": (
        {"print": "usage: bad invoke\n", "exit": 1},
        "its answer: no JSON value at character 0, exit status 1",
    ),
    "crash": ({"print": "", "signal": 11}, f"{NO_JSON}, killed by signal 11"),
    "error": ({"result": {"error": "no room"}}, "says: no room"),
    "error-and-exit-1": ({"result": {"error": "no room"}, "exit": 1}, "says: no room"),
    "error-and-place": (
        {"result": {"error": "no room", "cgroupsPath": "{path}-x"}},
        "says: no room",
    ),
    "error-of-lines": ({"result": {"error": "a\nb\r\x1b[0m"}}, r"says: a\nb\r\x1b[0m"),
    "error-of-1-MB": ({"result": {"error": "x" * 1_000_000}}, f"says: {'x' * 400}"),
    "nothing": ({"print": ""}, NO_JSON),
    "blank": ({"print": " \n"}, NO_JSON),
    "half": ({"print": '{"cgroupsPath":'}, "its answer: no JSON value at character 15"),
    "half-and-exit-1": (
        {"print": '{"cgroupsPath":', "exit": 1},
        "its answer: no JSON value at character 15, exit status 1",
    ),
    "two": ({"print": "{}\n{}"}, "its answer: more after the JSON document, at character 3"),
    "number": ({"print": "7"}, f"{OBJECT} 7"),
    "list": ({"print": "[]"}, f"{OBJECT} []"),
    "NaN": ({"print": '{"pid": NaN}'}, "its answer: NaN is not a JSON number"),
    "twice": (
        {"print": '{"error": "x", "error": ""}'},
        "its answer: key 'error' appears twice in one object",
    ),
    "no-text": ({"print": '{"error": "\udcff"}'}, "its answer: byte 11 is not UTF-8"),
    "deep": ({"print": '{"x":' + "[" * 9999}, "its answer: nested more than 100 deep"),
    "twice-by-case": (
        {"print": '{"error": "", "Error": "x"}'},
        "its answer: /Error: the same key as 'error', expected one of the two",
    ),
    "error-in-another-case": ({"result": {"Error": "NO"}}, "says: NO"),
    "version": ({"result": {"version": 0.1}}, "its answer: /version: expected a string, found 0.1"),
    "cgroupsPath-list": (
        {"result": {"cgroupsPath": ["/"]}},
        'its answer: /cgroupsPath: expected a string, found ["/"]',
    ),
    "metadata-number": (
        {"result": {"metadata": {"a": 1}}},
        "its answer: /metadata/a: expected a string, found 1",
    ),
    "state": (
        {"result": {"state": "delete", "cgroupsPath": "{path}-x"}},
        "its answer: /state: expected 'create', found 'delete'",
    ),
    "id-of-another": (
        {"result": {"id": "another", "cgroupsPath": "{path}-x"}},
        "its answer: /id: expected '{id}', found 'another'",
    ),
    "stderr-of-100-MB": (
        {"python": "for _ in range(1600): os.write(2, b'x' * 65536)", "print": "", "exit": 1},
        f"{NO_JSON}, exit status 1, stderr: {'x' * 400}",
    ),
}


@either()
@pytest.mark.parametrize("script, line", cases(BAD_ANSWERS, ["half"]))
def test_a_bad_answer(trial, script, line):
    trial.bad({"create": script})
    trial.configure()
    line = line.replace("{id}", trial.id)
    assert trial.fails() == f"plugin bad: {line}; undone: delete sent to bad, first"
    assert trial.calls() == [*CREATED[:2], *ALL_DELETED[1:]]


@hostonly
def test_an_answer_about_another_process(trial):
    bad = trial.bad({"create": {"result": {"pid": 1, "cgroupsPath": "{path}-x"}}})
    trial.configure()
    said = trial.fails()
    pid = bad.call("create")["payload"]["pid"]
    assert said.startswith(f"plugin bad: its answer: /pid: expected {pid}, found 1; undone: ")
    assert trial.calls() == [*CREATED[:2], *ALL_DELETED[1:]]


@either()
def test_an_answer_of_100_MB(trial):
    trial.bad({"create": {"flood": 100_000_000, "linger": FOREVER}})
    trial.configure()
    assert trial.fails() == (
        f"plugin bad: {trial.path}: killed: its answer is larger than 1048576 bytes;"
        " undone: delete sent to bad, first"
    )
    assert trial.calls() == [*CREATED[:2], *ALL_DELETED[1:]]


@either()
@hostonly
def test_what_fails_in_delete_too(trial):
    """The others still get theirs, and the line says both."""
    trial.bad({"create": {"result": {"error": "no"}}, "delete": {"print": "", "exit": 3}})
    trial.configure()
    assert trial.fails() == (
        "plugin bad: says: no; undone: delete sent to bad, first;"
        f" delete: plugin bad: {NO_JSON}, exit status 3"
    )
    assert trial.calls() == [*CREATED[:2], *ALL_DELETED[1:]]


def test_every_runtime_fails_the_container(scene, node, runtime, log):
    """Under all of them nothing runs, and the line gets as far as it can."""
    mover = node.plugin("mover", {"create": {"result": {"cgroupsPath": f"{scene.cgroup}/x"}}})
    bad = node.plugin("bad", {"create": {"print": "", "stderr": "no luck", "exit": 1}})
    node.configure(mover, bad)
    bundle = scene.bundle()
    runtime.install(node, bundle)
    text = runtime.create("one", bundle).refused()
    line = f"plugin bad: {NO_JSON}, exit status 1, stderr: no luck; undone: delete sent to bad,"
    if "crun" not in (runtime.binary, getattr(runtime, "oci_runtime", "")):
        assert line in text
    id = bad.call("create")["payload"]["id"]
    (logged,) = [entry for entry in log.lines(id) if scene.cgroup in entry]
    assert f"outcome=failed code=bad-answer; {line} mover" in logged
    assert node.calls() == [
        ("mover", "create"),
        ("bad", "create"),
        ("bad", "delete"),
        ("mover", "delete"),
    ]
    runtime.delete("one")
    assert scene.left_processes() == scene.left_cgroups() == node.left() == []


NAMES_ONLY = "expected names only"
ROOT = "names the root, expected a cgroup below it"
NAME = "a name must be printable and at most 255 bytes"
CONTROL = "cgroup.procs: is a control file, expected a cgroup"
LONG = "is longer than 3000 characters"
# cgroupsPath that bad answers -> why it is refused. {cgroup} and {path} are filled in.
NO_PLACES = {
    "../..": ("../../etc", f"cgroupsPath '../../etc' has the part '..', {NAMES_ONLY}"),
    "..": ("{cgroup}/../x", f"cgroupsPath '{{cgroup}}/../x' has the part '..', {NAMES_ONLY}"),
    ".": ("{cgroup}/./x", f"cgroupsPath '{{cgroup}}/./x' has the part '.', {NAMES_ONLY}"),
    "/": ("/", f"cgroupsPath '/' {ROOT}"),
    "//": ("//", f"cgroupsPath '//' {ROOT}"),
    "newline": ("{cgroup}/a\nb", rf"cgroupsPath '{{cgroup}}/a\nb': {NAME}"),
    "NUL": ("{cgroup}/a\0b", rf"cgroupsPath '{{cgroup}}/a\x00b': {NAME}"),
    "long-name": (
        "{cgroup}/" + "x" * 256,
        f"cgroupsPath '{{cgroup}}/{'x' * 256}': {NAME}",
    ),
    "many-slashes": ("/" * 3001, f"cgroupsPath '{'/' * 40}'... {LONG}"),
    "many-names": ("/x" * 499_999, f"cgroupsPath '{'/x' * 20}'... {LONG}"),
    "long-unit": ("x" * 3000 + ":y:z", f"cgroupsPath '{'x' * 40}'... {LONG}"),
    "unit": (
        "a.slice:b:c",
        "cgroupsPath 'a.slice:b:c' has systemd's form, expected a path as '{path}'",
    ),
    "inside-itself": (
        "{path}/inner",
        "{path}/inner lies inside the container's present cgroup {path}",
    ),
    "control-file-of-the-root": ("/cgroup.procs", f"<mount>/{CONTROL}"),
    "control-file": ("{cgroup}-x/cgroup.procs", f"<mount>{{cgroup}}-x/{CONTROL}"),
    "control-file-above": ("{cgroup}-x/cgroup.procs/y", f"<mount>{{cgroup}}-x/{CONTROL}"),
}


@either()
@pytest.mark.parametrize("answer, line", cases(NO_PLACES, ["/", "control-file-above"]))
def test_an_answer_that_is_no_place(trial, answer, line):
    def filled(text):
        text = text.replace("{cgroup}", trial.scene.cgroup)
        return text.replace("{path}", trial.bundle.cgroups_path)

    trial.answers(filled(answer))
    trial.configure()
    said = trial.fails()
    line = filled(line)
    mounts = [mount for mount in cgroups.mounts().values() if line.startswith("<mount>")]
    lines = [line.replace("<mount>", mount) for mount in mounts] or [line]
    assert any(said.startswith(f"plugin bad: {line}") for line in lines), said
    assert said.endswith("delete sent to last, bad, first")
    assert trial.calls() == [*CREATED, *ALL_DELETED]


@hostonly
def test_the_answer_of_a_plugin_that_may_fail_is_refused_all_the_same(trial):
    trial.answers("../../etc")
    trial.configure(onError="ignore")
    assert "'../../etc' has the part '..'" in trial.fails()
    assert trial.calls() == [*CREATED, *ALL_DELETED]


@pytest.mark.skipif(cgroups.pure_v2(), reason="needs several hierarchies")
def test_a_control_file_of_one_hierarchy_only(trial):
    """In the others the directory has been made before; it goes again."""
    directories = trial.scene.parent(f"{trial.scene.cgroup}-parent")
    trial.answers(f"{trial.scene.cgroup}-parent/memory.limit_in_bytes")
    trial.configure()
    said = trial.fails()
    assert "/memory.limit_in_bytes: is a control file, expected a cgroup; undone: the move," in said
    assert all(not os.path.isdir(f"{directory}/memory.limit_in_bytes") for directory in directories)
    assert trial.calls() == [*CREATED, *ALL_DELETED]


@hostonly
def test_an_occupied_cgroup(trial):
    path = f"{trial.scene.cgroup}-taken"
    directories = trial.scene.parent(path)
    process = trial.scene.sleeper()
    try:
        cgroups.write(f"{directories[-1]}/cgroup.procs", process.pid)
        trial.answers(path)
        trial.configure()
        line = f"{directories[-1]}: is occupied by another process, expected an empty cgroup"
        assert trial.create().refused()
        (logged,) = trial.log.lines(trial.id)
        assert (
            f"outcome=failed code=occupied; plugin bad: {line}; undone: delete sent to last, bad"
            in logged
        )
        assert cgroups.read(f"{directories[-1]}/cgroup.procs") == str(process.pid)
    finally:
        process.kill()
        process.wait()
    assert all(os.path.isdir(directory) for directory in directories)
    assert trial.calls() == [*CREATED, *ALL_DELETED]
    assert trial.node.left() == trial.scene.left_cgroups() == trial.scene.left_processes() == []


@hostonly
def test_a_cgroup_that_has_cgroups(trial):
    path = f"{trial.scene.cgroup}-parent"
    trial.scene.parent(path)
    (*_, inner) = trial.scene.parent(f"{path}/inner")
    trial.answers(path)
    trial.configure()
    said = trial.fails()
    assert f"{path}: holds the cgroup inner, expected an empty one; undone: " in said
    assert os.path.isdir(inner)
    assert trial.calls() == [*CREATED, *ALL_DELETED]


@pytest.mark.parametrize("moved", [pytest.param(False, marks=hostonly), True])
def test_the_cgroup_of_another_container(trial, moved):
    """It stays what it is, whether the runtime put it there or we did."""
    scene, node = trial.scene, trial.node
    other = scene.bundle(rootfs=trial.bundle.rootfs)
    path = f"{scene.cgroup}-other" if moved else other.cgroups_path
    trial.answers(path)
    trial.configure()
    if moved:
        trial.runtime.install(node, other)
    trial.runtime.create("other", other).check()
    before = cgroups.membership(trial.runtime.pid("other"))
    assert path in before.values()
    calls, records = node.calls(), node.records()
    assert trial.create().refused()
    (logged,) = trial.log.lines(trial.id)
    assert f"{path}: is occupied by another process, expected an empty cgroup; undone:" in logged
    assert cgroups.membership(trial.runtime.pid("other")) == before
    assert node.calls(trial.id) == [*CREATED, *ALL_DELETED]
    assert len(node.calls()) == len(calls) + 6 and node.records() == records
    trial.runtime.start("other").check()
    assert trial.runtime.exec("other", "true").check()
    trial.runtime.delete("other").check()
    assert scene.left_cgroups() == node.left() == []


@pytest.mark.parametrize("above", [pytest.param(False, marks=hostonly), True])
@pytest.mark.parametrize(
    "switch, frozen, thawed", [("freezer.state", "FROZEN", "THAWED"), ("cgroup.freeze", "1", "0")]
)
def test_a_frozen_place(trial, switch, frozen, thawed, above):
    """A process that was moved there would stop, and the runtime with it."""
    path = f"{trial.scene.cgroup}-frozen"
    files = [f"{directory}/{switch}" for directory in trial.scene.parent(path)]
    files = [file for file in files if os.path.exists(file)]
    if not files:
        pytest.skip(f"no cgroup here has {switch}")
    (file,) = files
    trial.answers(f"{path}/inner" if above else path)
    trial.configure()
    cgroups.write(file, frozen)
    assert cgroups.read(file) == frozen
    assert trial.fails() == (
        f"plugin bad: {file}: is frozen, expected {thawed}; undone: delete sent to last, bad, first"
    )
    assert trial.calls() == [*CREATED, *ALL_DELETED]


@either()
@hostonly
def test_a_plugin_that_kills_the_container(trial):
    bad = trial.bad(
        {
            "create": {
                "python": "os.kill(payload['pid'], 9)",
                "result": {"cgroupsPath": f"{trial.scene.cgroup}-x"},
            }
        }
    )
    trial.configure()
    said = trial.fails()
    pid = bad.call("create")["payload"]["pid"]
    assert said == (
        f"pid {pid}: the container's process has ended; undone: delete sent to last, bad, first"
    )
    assert trial.calls() == [*CREATED, *ALL_DELETED]


@hostonly
@pytest.mark.parametrize("answer", ["", None, ...], ids=["empty", "null", "absent"])
def test_no_opinion(trial, answer):
    trial.bad({"create": {"result": {} if answer is ... else {"cgroupsPath": answer}}})
    trial.configure()
    trial.create().check()
    assert trial.node.record()["outcome"] == "stays"
    path = trial.bundle.cgroups_path
    assert path in cgroups.membership(trial.runtime.pid(trial.id)).values()
    trial.runtime.start(trial.id).check()
    trial.runtime.delete(trial.id).check()
    assert trial.calls() == [*CREATED, *ALL_DELETED]


def linked(trial, directory=0o755, file=0o755):
    """A link in the place of bad, to a trap in a directory elsewhere."""
    outside = f"{trial.scene.directory}/outside"
    os.mkdir(outside)
    trial.trap(f"{outside}/target")
    os.chmod(f"{outside}/target", file)
    os.chmod(outside, directory)
    replaced(trial, lambda path: os.symlink(f"{outside}/target", path))


def linked_by_a_stranger(trial):
    linked(trial)
    os.lchown(trial.path, 1000, 1000)


def replaced(trial, make):
    if os.path.exists(trial.path):
        os.unlink(trial.path)
    make(trial.path)


# How the trap in the place of bad is spoilt -> what is said.
UNSAFE = {
    "missing": (lambda t: os.unlink(t.path), "not found in {plugins}, {own}"),
    "written-by-all": (
        lambda t: os.chmod(t.path, 0o777),
        "{bad}: file bad may be written by others (mode 0777)",
    ),
    "written-by-group": (
        lambda t: os.chmod(t.path, 0o775),
        "{bad}: file bad may be written by others (mode 0775)",
    ),
    "of-a-stranger": (
        lambda t: os.chown(t.path, 1000, 1000),
        "{bad}: file bad belongs to uid 1000, expected root",
    ),
    "link-to-a-loose-file": (
        lambda t: linked(t, file=0o777),
        "{bad}: file target may be written by others (mode 0777)",
    ),
    "link-into-a-loose-directory": (
        lambda t: linked(t, directory=0o777),
        "{bad}: directory outside may be written by others (mode 0777)",
    ),
    "link-into-a-sticky-directory": (
        lambda t: linked(t, directory=0o1777),
        "{bad}: the directory of this file may be written by others",
    ),
    "link-by-a-stranger": (
        linked_by_a_stranger,
        "{bad}: link bad belongs to uid 1000, expected root",
    ),
    "link-to-nothing": (
        lambda t: replaced(t, lambda path: os.symlink("nothing", path)),
        "{bad}: No such file or directory",
    ),
    "link-to-itself": (
        lambda t: replaced(t, lambda path: os.symlink("bad", path)),
        "{bad}: too many symbolic links",
    ),
    "not-executable": (lambda t: os.chmod(t.path, 0o644), "{bad}: Permission denied"),
    "directory": (lambda t: replaced(t, os.mkdir), "{bad}: expected a regular file"),
    "fifo": (lambda t: replaced(t, os.mkfifo), "{bad}: expected a regular file"),
    "no-interpreter": (
        lambda t: t.node.executable("bad", "#!/proc/nothing/there\n"),
        "{bad}: cannot be run: No such file or directory",
    ),
    "no-format": (
        lambda t: t.node.executable("bad", "echo {}\n"),
        "{bad}: cannot be run: Exec format error",
    ),
}


@pytest.mark.parametrize("spoil, line", cases(UNSAFE, ["link-to-a-loose-file"]))
def test_a_plugin_that_must_not_or_cannot_run(trial, spoil, line):
    """It was never called, so it gets no delete either."""
    trial.trap(trial.path)
    spoil(trial)
    trial.configure()
    line = line.replace("{bad}", trial.path)
    line = line.replace("{plugins}", trial.node.plugin_dir).replace("{own}", OWN)
    assert trial.fails() == f"plugin bad: {line}; undone: delete sent to first"
    assert trial.calls() == [("first", "create"), ("first", "delete")]


@hostonly
def test_the_good_link_that_the_bad_ones_are_made_from(trial):
    linked(trial)
    trial.configure()
    trial.create().check()
    assert read(trial.canary)
    trial.runtime.delete(trial.id).check()


@hostonly
@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
@pytest.mark.parametrize("above", [False, True])
def test_plugins_in_a_directory_that_others_may_write(trial, mode, above):
    """In one above, a sticky bit is enough to keep others from replacing what is root's."""
    plugins, upper = trial.node.plugin_dir, f"{trial.scene.directory}/upper"
    trial.trap(trial.path)
    os.mkdir(upper)
    os.rename(plugins, f"{upper}/plugins")
    os.symlink(f"{upper}/plugins", plugins)
    directory = upper if above else f"{upper}/plugins"
    os.chmod(directory, mode)
    trial.node.configure("bad")
    if above and mode == 0o1777:
        trial.create().check()
        assert read(trial.canary)
        trial.runtime.delete(trial.id).check()
        return
    reason = f"directory {os.path.basename(directory)} may be written by others (mode {mode:04o})"
    if mode == 0o1777:
        reason = "the directory of this file may be written by others"
    assert trial.fails() == f"plugin bad: {trial.path}: {reason}; nothing to undo"


def fails_early(trial):
    """What is said of a create that fails before the hook has even read whose it is."""
    line = stderr_of_hook(trial.create().refused())
    assert trial.runtime.state(trial.id) is None
    assert trial.calls() == trial.node.left() == trial.scene.left_cgroups() == []
    assert not os.path.exists(trial.canary)
    assert line.count("\n") == 1 and line.startswith("nri-hook createRuntime: ")
    return line.partition(": ")[2][:-1].removesuffix(" [bad-configuration]")


@hostonly
@pytest.mark.parametrize(
    "type", ["../bad", "a/bad", "./bad", "/bin/true", "", ".", "..", ".bad", "-bad"]
)
def test_a_type_that_is_no_name(trial, type):
    """Nothing is run that such a type could name."""
    os.mkdir(f"{trial.node.plugin_dir}/a")
    for place in ("bad", "../bad", "a/bad", ".bad", "-bad"):
        trial.trap(f"{trial.node.plugin_dir}/{place}")
    path = trial.node.configure(trial.first, {"type": type})
    line = f"{path}: /plugins/1/type: {TYPE}, found {json.dumps(type)}"
    assert fails_early(trial) == line


@hostonly
def test_a_configuration_that_others_may_write(trial):
    """They could name any program of the plugin directories, with any conf."""
    path = trial.node.configure(trial.first)
    os.chmod(path, 0o666)
    line = f"{path}: file conf.json may be written by others (mode 0666) [untrusted]"
    assert fails_early(trial) == line
    os.chmod(path, 0o600)
    os.chmod(trial.node.conf_dir, 0o775)
    line = f"{path}: directory conf may be written by others (mode 0775) [untrusted]"
    assert fails_early(trial) == line
    os.chmod(trial.node.conf_dir, 0o700)
    os.chown(path, 1000, 1000)
    line = f"{path}: file conf.json belongs to uid 1000, expected root [untrusted]"
    assert fails_early(trial) == line


def with_environment(trial, *words):
    """Have runc call the hooks with these NAME=VALUE."""
    trial.install()
    for hooks in trial.bundle.config["hooks"].values():
        for hook in hooks:
            hook["env"] = list(words)
    trial.bundle.save()


@hostonly
def test_plugins_do_not_come_from_path(trial):
    evil = f"{trial.scene.directory}/evil"
    os.mkdir(evil)
    for name in ("bad", "first", "nri-hook", "python3", "sh", "env"):
        trial.trap(f"{evil}/{name}")
    with_environment(trial, f"PATH={evil}:/usr/bin:/bin")
    trial.configure()
    line = f"plugin bad: not found in {trial.node.plugin_dir}, {OWN}"
    assert trial.fails() == f"{line}; undone: delete sent to first"
    assert trial.first.call("create")["environment"]["PATH"] == f"{evil}:/usr/bin:/bin"


def test_what_makes_loaders_and_interpreters_run_other_code_is_kept_from_plugins(trial):
    """A shell, an interpreter and the program of the test itself are called without it."""
    evil = f"{trial.scene.directory}/evil"
    os.mkdir(evil)
    with open(f"{evil}/sitecustomize.py", "w") as file:
        file.write(f"open({trial.canary!r}, 'a').write('python')\n")
    with open(f"{evil}/rc", "w") as file:
        file.write(f"echo bash >> {trial.canary}\n")
    with_environment(
        trial,
        "PATH=/usr/bin:/bin",
        "KEPT=1",
        f"LD_PRELOAD={evil}/nothing.so",
        f"LD_LIBRARY_PATH={evil}",
        f"LD_AUDIT={evil}/nothing.so",
        f"PYTHONPATH={evil}",
        "PYTHONHOME=/nothing",
        f"BASH_ENV={evil}/rc",
    )
    trial.node.executable("bad", "#!/bin/bash\necho {}\n")
    python = os.path.realpath(sys.executable)
    trial.node.executable("python", f"#!{python}\nprint({{}})\n")
    trial.node.configure(trial.first, "bad", "python")
    trial.create().check()
    assert not os.path.exists(trial.canary), read(trial.canary)
    environment = trial.first.call("create")["environment"]
    assert environment["KEPT"] == "1" and environment["PATH"] == "/usr/bin:/bin"
    assert [name for name in environment if name.startswith(("LD_", "PYTHON", "BASH"))] == []
    trial.runtime.delete(trial.id).check()


# A plugin that sleeps, and what that leaves in the line.
def late(path, seconds):
    return f"plugin bad: {path}: killed: no answer within {seconds} s"


@either("impatient")
@hostonly
def test_a_plugin_that_sleeps_for_ever(impatient):
    """The chain's time is what it gets, and one second for its delete."""
    impatient.bad({"*": {"sleep": FOREVER}})
    impatient.configure()
    said = impatient.fails(within=2 * TIMEOUT + 9)
    killed = rf"plugin bad: {impatient.path}: killed: no answer within (\S+) s"
    found = re.fullmatch(f"{killed}; undone: delete sent to bad, first; delete: {killed}", said)
    assert found, said
    assert 0 < float(found[1]) <= 2 * TIMEOUT and 0.8 < float(found[2]) <= 1
    assert impatient.calls() == [*CREATED[:2], *ALL_DELETED[1:]]


@hostonly
def test_a_timeout_of_one_plugin(trial):
    trial.bad({"create": {"sleep": FOREVER}})
    trial.configure(timeout=TIMEOUT)
    said = trial.fails()
    assert said == f"{late(trial.path, TIMEOUT)}; undone: delete sent to bad, first"
    assert trial.calls() == [*CREATED[:2], *ALL_DELETED[1:]]


@hostonly
def test_a_timeout_is_of_one_plugin_only(trial):
    trial.bad({"create": {"sleep": 1.2 * TIMEOUT}})
    first, last = ({"type": type, "timeout": TIMEOUT} for type in ("first", "last"))
    trial.node.configure(first, "bad", last)
    trial.create().check()
    assert trial.calls() == CREATED
    trial.runtime.delete(trial.id).check()


@either()
@hostonly
def test_what_a_late_plugin_said_and_wrote_goes_with_it(trial):
    """A whole answer counts only once the plugin has ended; its last words are shown."""
    answer = json.dumps({"cgroupsPath": f"{trial.scene.cgroup}-x"})
    trial.bad({"create": {"stderr": "waiting for a lock", "print": answer, "linger": FOREVER}})
    trial.configure(timeout=TIMEOUT)
    said = trial.fails()
    assert said.startswith(f"{late(trial.path, TIMEOUT)}, stderr: waiting for a lock; undone: ")


@either()
@hostonly
def test_a_plugin_that_hangs_in_delete_keeps_within_the_hook_s_own_time(trial):
    """8 of the 10 seconds that the hook file's timeout allows beyond the chain's."""
    trial.bad({"delete": {"sleep": FOREVER}})
    trial.last.play({"create": {"result": {"error": "no"}}})
    trial.configure()
    said = trial.fails()
    seconds = time.monotonic() - trial.last.call("create")["begin"] / 1e9
    assert 7.5 < seconds < 10
    assert said.startswith("plugin last: says: no; undone: delete sent to last, bad, first; ")
    assert f"delete: {late(trial.path, '')[:-3]}" in said
    assert "; delete: plugin first: no time is left for it" in said


GRANDCHILD = """
for name in ("one", "two"):
    if os.fork():
        break
    os.setsid()
else:
    os.execv("/bin/sleep", [{marker!r}, "600"])
if name == "two":
    os.execv("/bin/sleep", [{marker!r}, "600"])
"""


@either()
def test_what_a_late_plugin_started_is_killed_with_it(trial):
    """Children in sessions of their own too, and theirs."""
    marker = f"{trial.id}-descendant"
    trial.bad({"create": {"python": GRANDCHILD.format(marker=marker), "sleep": FOREVER}})
    trial.configure(timeout=TIMEOUT)

    def running():
        return [words for _, words in trial.scene.left_processes() if marker in words]

    trial.install()
    begin = time.monotonic()
    creating = subprocess.Popen(
        [*trial.runtime.command(), "create", "--bundle", trial.bundle.directory, trial.id],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert_soon(lambda: len(running()) == 2, running, SECONDS)
    assert creating.wait(SECONDS) == 1
    assert_soon(lambda: running() == [], running)
    assert time.monotonic() - begin < SECONDS
    assert trial.calls() == [*CREATED[:2], *ALL_DELETED[1:]]
    assert trial.scene.left_processes() == trial.scene.left_cgroups() == trial.node.left() == []


@either("impatient")
@pytest.mark.skipif(cgroups.pure_v2(), reason="needs a v1 freezer, in which nothing can be killed")
def test_a_plugin_that_does_not_even_die(impatient):
    """One in a frozen cgroup of v1, or waiting for a dead file server: it is not waited for."""
    (directory,) = impatient.scene.parent(f"{impatient.scene.cgroup}-ice", ["freezer"])
    cgroups.write(f"{directory}/freezer.state", "FROZEN")
    stuck = f"open('{directory}/cgroup.procs', 'w').write(str(os.getpid()))"
    bad = impatient.bad({"create": {"python": stuck}})
    impatient.configure()
    try:
        done = impatient.create(within=2 * TIMEOUT + 9)
        said = impatient.said(done)
        assert cgroups.read(f"{directory}/cgroup.procs") == str(bad.call("create")["pid"])
    finally:
        cgroups.write(f"{directory}/freezer.state", "THAWED")
    assert said.startswith(f"plugin bad: {impatient.path}: killed: no answer within ")
    assert said.endswith("; undone: delete sent to bad, first")
    assert impatient.calls() == [*CREATED[:2], *ALL_DELETED[1:]]
    assert impatient.runtime.state(impatient.id) is None


@either()
@pytest.mark.parametrize(
    "keep", cases({"stdout": ([1],), "stderr": ([2],), "both": ([1, 2],)}, ["both"])
)
def test_a_child_that_keeps_the_output_is_left_alone(trial, keep):
    """The plugin has answered, so its child may go on; runc, which waits for the end of file of
    the hook's own output, is not held either."""
    path = f"{trial.scene.cgroup}-x"
    result = {"cgroupsPath": path}
    bad = trial.bad({"create": {"fork": {"seconds": 60, "keep": keep}, "result": result}})
    trial.configure()
    trial.create().check()
    assert path in cgroups.membership(trial.runtime.pid(trial.id)).values()
    (pid,) = bad.forks()
    os.kill(pid, signal.SIGKILL)  # it was alive
    trial.runtime.start(trial.id).check()
    trial.runtime.delete(trial.id).check()


def milliseconds(trial, script):
    """The least that the hook needed for bad, of some calls without a runtime; the last status."""
    trial.bad({"create": script})
    sleeper = trial.scene.sleeper()
    state = {"id": trial.id, "pid": sleeper.pid, "bundle": trial.bundle.directory}
    found = []
    for _ in range(4):
        done = trial.node.hook("createRuntime", state)
        line = trial.log.lines(trial.id)[-1]
        found.append(float(line.partition("bad:")[2].partition("ms")[0]))
        for name in trial.node.left():
            os.unlink(f"{trial.node.state_dir}/{name}")
    sleeper.kill()
    sleeper.wait()
    return min(found), done.status


@hostonly
def test_a_child_that_keeps_the_output_delays_by_no_more_than_the_grace(trial):
    """The grace is 100 ms. With a whole answer nobody is waited for at all."""
    trial.install()
    trial.configure()
    plain, _ = milliseconds(trial, {})
    for keep in ([1], [2]):
        kept, status = milliseconds(trial, {"fork": {"seconds": 2, "keep": keep}})
        assert status == 0 and kept < plain + 90, (keep, kept, plain)
    kept, status = milliseconds(trial, {"fork": {"seconds": 2, "keep": [1]}, "print": "{"})
    assert status == 1 and 100 < kept < plain + 190, (kept, plain)
    assert_soon(lambda: not trial.scene.left_processes(), trial.scene.left_processes)


ANSWER_LATER = """
if os.fork() == 0:
    import time
    time.sleep({seconds})
    os.write(1, b'{{}}')
    os._exit(0)
os._exit(0)
"""


@either()
@hostonly
def test_a_child_that_answers_for_its_parent_has_the_grace_for_it(trial):
    trial.bad({"create": {"python": ANSWER_LATER.format(seconds=0.02)}})
    trial.configure()
    trial.create().check()
    trial.runtime.delete(trial.id).check()
    trial.bad({"create": {"python": ANSWER_LATER.format(seconds=FOREVER)}})
    assert trial.create().refused()
    assert f"plugin bad: {NO_JSON}; undone" in trial.log.lines(trial.id)[-1]
    ((pid, _),) = trial.scene.left_processes()
    os.kill(pid, signal.SIGKILL)


@hostonly
def test_children_that_print_for_ever_do_not_hold_the_hook(trial):
    trial.node.executable(
        "bad",
        f"#!/bin/sh\necho {{}}\nfor i in 1 2 3 4; do yes {trial.id} >&2 & done\n",
    )
    trial.configure()
    trial.create().check()
    trial.runtime.delete(trial.id).check()


IGNORED = {
    "exits": {"print": "", "exit": 1},
    "errs": {"result": {"error": "no room"}},
    "silent": {"print": ""},
    "half": {"print": '{"x":'},
    "floods": {"flood": 2_000_000, "linger": FOREVER},
    "sleeps": {"sleep": FOREVER},
}


@hostonly
def test_what_may_be_ignored(trial):
    """Whatever is wrong with one plugin; the chain goes on, and ends where it should."""
    node, path = trial.node, f"{trial.scene.cgroup}-x"
    for type, script in IGNORED.items():
        node.plugin(type, {"create": script})
    trap = f"{node.plugin_dir}/loose"
    trial.trap(trap)
    os.chmod(trap, 0o777)
    trial.last.play({"create": {"result": {"cgroupsPath": path}}})
    types = [*IGNORED, "missing", "loose"]
    ignored = [{"type": type, "onError": "ignore", "timeout": TIMEOUT} for type in types]
    node.configure(trial.first, *ignored, trial.last)
    trial.create().check()
    assert path in cgroups.membership(trial.runtime.pid(trial.id)).values()
    called = ["first", *IGNORED, "last"]
    assert trial.calls() == [(type, "create") for type in called]
    results = trial.last.call("create")["payload"]["results"]
    assert [result["plugin"] for result in results] == ["first"]
    (line,) = [line for line in trial.log.lines(trial.id) if "stage=createRuntime" in line]
    assert " outcome=moved; " in line
    for type in types:
        assert line.count(f"; plugin {type}: ") == 1
    assert line.count(" (ignored)") == len(types)
    assert not os.path.exists(trial.canary)
    trial.runtime.start(trial.id).check()
    trial.runtime.delete(trial.id).check()
    assert trial.calls()[len(called) :] == [(type, "delete") for type in reversed(called)]
    assert trial.scene.left_cgroups() == []


@hostonly
def test_no_runtime_hangs(scene, oci, log):
    """A late plugin and a refused answer under each of them."""
    trial = Trial(scene, scene.node(), oci, log)
    trial.bad({"create": {"sleep": FOREVER}})
    trial.configure(timeout=TIMEOUT)
    assert trial.fails() == f"{late(trial.path, TIMEOUT)}; undone: delete sent to bad, first"


@hostonly
@pytest.mark.parametrize("answer", ["/", "{cgroup}-x/cgroup.procs"])
def test_every_runtime_refuses(scene, oci, log, answer):
    trial = Trial(scene, scene.node(), oci, log)
    trial.answers(answer.replace("{cgroup}", scene.cgroup))
    trial.configure()
    assert trial.fails().endswith("delete sent to last, bad, first")
    assert trial.calls() == [*CREATED, *ALL_DELETED]


STEAL = """
path = payload["spec"]["cgroupsPath"]
old = next(directory(*item) for item in payload["spec"]["cgroups"].items() if path in item[1])
new = old[: -len(path)] + {path!r}
if os.fork() == 0:
    import time
    os.setsid()
    os.closerange(0, 3)
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    while os.path.isdir(old):
        try:
            os.rmdir(old)
        except OSError:
            pass
    with open(new + "/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    time.sleep(600)
"""


@hostonly
@pytest.mark.skipif(cgroups.pure_v2(), reason="needs a move of several steps, to step in between")
def test_an_undo_that_fails(trial):
    """Somebody removes the old cgroup while init is out of it, and enters the new one: there is
    no way back. Both errors are told, everybody gets delete, what follows
    cleans up."""
    path = f"{trial.scene.cgroup}-x"
    trial.bad({"create": {"python": STEAL.format(path=path), "result": {"cgroupsPath": path}}})
    trial.configure()
    for _ in range(5):  # init is out of it for less than a millisecond, which can be missed
        before = len(trial.calls())
        done = trial.create()
        if done.status != 0:
            break
        trial.runtime.delete(trial.id).check()
        for process, _ in trial.scene.left_processes():
            os.kill(process, signal.SIGKILL)
    said = stderr_of_hook(done.refused())
    found = re.search(rf"plugin bad: \S+{path}: is occupied by process (\d+); undone: ", said)
    assert found, said
    assert "; undone: delete sent to last, bad, first; NOT undone: " in said
    assert re.search(r"; NOT undone: \S+/cgroup.procs: does not take the process: No such", said)
    assert re.search(rf"; NOT undone: \S+{path}: cannot be removed: process \d+ is in it", said)
    entries = [entry for log in trial.node.logs().values() for entry in log]
    assert ["occupied", "not-removed"] in [entry["codes"] for entry in entries]
    assert trial.calls()[before : before + 6] == [*CREATED, *ALL_DELETED]
    # runc has called poststop for it, which ends what is in a cgroup that we made.
    assert trial.scene.left_processes() == trial.scene.left_cgroups() == trial.node.left() == []
    assert not os.path.exists(f"/proc/{found[1]}/exe")
