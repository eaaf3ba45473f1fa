"""Bad input on stdin and in config.json: one clear line, nothing is called, nothing is left."""

import concurrent.futures
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import cgroups, tree
from support.cases import cases

DATA = Path(tree.DATA)
SHARED = Path(tree.TOP).parent / "shared/samples"
SAMPLES = sorted({path.name: path for path in [*SHARED.glob("*"), *DATA.glob("*")]}.values())
# Those that fail a create. The others must not fail: the container runs, or has ended.
FATAL = ("createRuntime", "precreate")
STDIN = "the state on stdin"
CONFIG = {
    "ociVersion": "1.0.2",
    "root": {"path": "rootfs"},
    "annotations": {"qos.class": "ls"},
    "linux": {
        "cgroupsPath": "/nri-test-bad-input",
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [{"type": "pid"}, {"type": "mount"}],
    },
}


class Desk:
    """A node with one plugin, a bundle and a process, which a state can name.

    We are no runtime, so that nothing could move the process if a bad state were taken for good.
    """

    def __init__(self, scene, node):
        self.scene = scene
        self.node = node
        self.plugin = node.plugin("noted")
        node.configure(self.plugin)
        node.install()
        self.directory = f"{scene.directory}/by-hand"
        self.config = f"{self.directory}/config.json"
        os.mkdir(self.directory)
        self.write(CONFIG)
        self.process = scene.sleeper()
        self.others = []

    def keep_another(self):
        """Have a record of another container: without any, sh ends poststart and poststop."""
        self.others = ["another-00000000.json"]
        os.makedirs(self.node.state_dir, 0o700)
        with open(f"{self.node.state_dir}/{self.others[0]}", "w") as file:
            file.write('{"id":"another"}\n')

    def close(self):
        for name in self.others:
            os.unlink(f"{self.node.state_dir}/{name}")
        self.process.kill()
        self.process.wait()

    def write(self, config):
        with open(self.config, "wb") as file:
            file.write(config if isinstance(config, bytes) else json.dumps(config).encode())

    def state(self, **changes):
        state = {
            "ociVersion": "1.0.2",
            "id": "by-hand",
            "status": "created",
            "pid": self.process.pid,
            "bundle": self.directory,
            "annotations": {},
            **changes,
        }
        return {key: value for key, value in state.items() if value is not ...}

    def refused(self, stdin, stage="createRuntime"):
        """What the hook says about this input, which it must not take."""
        return what_failed(self.node.hook(stage, stdin), stage)

    def assert_untouched(self):
        assert self.node.calls() == []
        assert self.node.left() == self.others


def what_failed(done, stage="createRuntime"):
    """What a hook said that failed, after `nri-hook STAGE: `. It is one line."""
    assert done.status == (1 if stage in FATAL else 0), done
    assert done.out == ""
    assert "Traceback" not in done.err and "fault of nri-hook" not in done.err, done
    lines = done.err.splitlines()
    assert len(lines) == 1 and lines[0].isprintable() and done.err.endswith("\n"), done
    start = f"nri-hook {stage}: "
    assert lines[0].startswith(start)
    return lines[0][len(start) :]


@pytest.fixture
def desk(scene, node):
    desk = Desk(scene, node)
    yield desk
    desk.close()


@pytest.fixture
def untouched(desk):
    """A desk at which nothing may come of any input."""
    yield desk
    desk.assert_untouched()


def test_good_input_is_taken(desk):
    """What the other tests spoil."""
    done = desk.node.hook("createRuntime", desk.state())
    assert (done.status, done.out, done.err) == (0, "", "")
    assert desk.plugin.call("create")["payload"]["pid"] == desk.process.pid
    assert desk.node.hook("poststop", desk.state(pid=0, status="stopped")).status == 0
    assert desk.node.calls() == [("noted", "create"), ("noted", "delete")]


DEEP = b'{"id":"by-hand","x":' + b"[" * 5000 + b"]" * 5000 + b"}"
# On stdin -> how the line about it begins.
NO_STATES = {
    "empty": (b"", f"{STDIN}: empty, expected a JSON document"),
    "blank": (b" \n\t\n", f"{STDIN}: empty, expected a JSON document"),
    "half": (b'{"ociVersion":"1.0.2","id":"by-h', f"{STDIN}: not JSON: "),
    "half-a-list": (b'{"id":"by-hand","x":[1,', f"{STDIN}: no JSON value at character 23"),
    "two": (b'{"id":"a"}{"id":"b"}', f"{STDIN}: more after the JSON document, at character 10"),
    "a-word": (b"create", f"{STDIN}: no JSON value at character 0"),
    "a-number": (b"7", f"{STDIN}: document: expected an object, found 7"),
    "a-list": (b"[]", f"{STDIN}: document: expected an object, found []"),
    "null": (b"null", f"{STDIN}: document: expected an object, found null"),
    "NaN": (b'{"id":"by-hand","pid":NaN}', f"{STDIN}: NaN is not a JSON number"),
    "infinite": (b'{"id":"by-hand","pid":-Infinity}', f"{STDIN}: -Infinity is not a JSON number"),
    "huge": (b'{"id":"by-hand","pid":1e999}', f"{STDIN}: number 1e999 is out of range"),
    "digits": (
        b'{"id":"a","pid":' + b"9" * 9999 + b"}",
        f"{STDIN}: number {'9' * 40}... is out of",
    ),
    "twice": (b'{"id":"a","pid":1,"pid":2}', f"{STDIN}: key 'pid' appears twice in one object"),
    "latin-1": (b'{"id":"by-hand","x":"caf\xe9"}', f"{STDIN}: byte 24 is not UTF-8"),
    "byte-order-mark": (b'\xef\xbb\xbf{"id":"by-hand"}', f"{STDIN}: no JSON value at character 0"),
    "raw-newline": (b'{"id":"by\nhand"}', f"{STDIN}: not JSON: Invalid control character"),
    "deep": (DEEP, f"{STDIN}: nested more than 100 deep"),
    "20-MB": (b'{"id":"%s"}' % (b"a" * 20_000_000), f"{STDIN}: more than 16777216 bytes"),
}


@pytest.mark.parametrize("stdin, line", cases(NO_STATES, ["half"]))
def test_no_state(untouched, stdin, line):
    assert untouched.refused(stdin).startswith(line)


@pytest.mark.hostonly  # for time
@pytest.mark.parametrize("stage", ["poststart", "poststop"])
@pytest.mark.parametrize("name", ["empty", "half", "a-number"])
def test_no_state_is_no_failure_of_a_container_that_runs_or_has_ended(untouched, stage, name):
    stdin, line = NO_STATES[name]
    untouched.keep_another()
    assert untouched.refused(stdin, stage).startswith(line)


ID = (
    "/id: expected an id of ASCII letters, digits, '_', '+', '.' and '-' that is not '.' or '..',"
    " found "
)
PID = "/pid: expected a process id, or 0 where there is no process, found "
# What is changed in a good state (...: left out) -> the line about it.
BAD_STATES = {
    "no-id": ({"id": ...}, f"{ID}nothing"),
    "id-null": ({"id": None}, "/id: expected a string, found null"),
    "id-empty": ({"id": ""}, f'{ID}""'),
    "id-path": ({"id": "../../x"}, f'{ID}"../../x"'),
    "id-dots": ({"id": ".."}, f'{ID}".."'),
    "id-line": ({"id": "a\nnri-hook"}, rf'{ID}"a\nnri-hook"'),
    "id-number": ({"id": 7}, "/id: expected a string, found 7"),
    "pid-below-0": ({"pid": -1}, f"{PID}-1"),
    "pid-string": ({"pid": "1"}, '/pid: expected an integer, found "1"'),
    "pid-fraction": ({"pid": 1.5}, "/pid: expected an integer, found 1.5"),
    "pid-true": ({"pid": True}, "/pid: expected an integer, found true"),
    "bundle-number": ({"bundle": 7}, "/bundle: expected a string, found 7"),
    "bundlePath-list": ({"bundlePath": []}, "/bundlePath: expected a string, found []"),
    "root-object": ({"root": {}}, "/root: expected a string, found {}"),
    "status-number": ({"status": 1}, "/status: expected a string, found 1"),
    "annotations-list": ({"annotations": []}, "/annotations: expected an object, found []"),
    "annotation-number": ({"annotations": {"a": 1}}, "/annotations/a: expected a string, found 1"),
    "annotation-list": ({"annotations": {"a/b\n": []}}, r"/annotations/a~1b\n: expected a string,"),
}


@pytest.mark.parametrize("changes, line", cases(BAD_STATES, ["id-path"]))
def test_a_bad_state(untouched, changes, line):
    assert untouched.refused(untouched.state(**changes)).startswith(f"{STDIN}: {line}")


def test_a_pid_of_nobody(untouched):
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    expected = "expected that of the container's process, above 0"
    gone = "no such process lives"
    cases = [
        (..., f"pid 0: {expected}"),
        (None, f"pid 0: {expected}"),
        (0, f"pid 0: {expected}"),
        (0.0, f"pid 0: {expected}"),
        (2**22 + 1, f"pid {2**22 + 1}: {gone}"),  # above the kernel's own limit
        (2**64, f"pid {2**64}: {gone}"),
        (zombie.pid, f"pid {zombie.pid}: {gone}"),
    ]
    for pid, line in cases:
        assert untouched.refused(untouched.state(pid=pid)) == f"container by-hand: {line}"
    zombie.wait()


# A bundle, in which {} is a good one -> the line about it.
BUNDLES = {
    "none": ("", "/config.json: there is no config.json in the bundle"),
    "root": ("/", "/config.json: there is no config.json in the bundle"),
    "missing": ("{}/x", "{}/x/config.json: there is no config.json in the bundle"),
    "a-file": ("{}/config.json", "{}/config.json/config.json: there is no config.json in the"),
    "long": ("/" + "x" * 300, "/" + "x" * 300 + "/config.json: File name too long"),
    "NUL": ("{}\0x", r"{}\x00x/config.json: "),
    "surrogate": ("{}\ud800", r"{}\ud800/config.json: "),
    "line": ("{}/a\nb", r"{}/a\nb/config.json: there is no config.json in the bundle"),
}


@pytest.mark.parametrize("bundle, line", cases(BUNDLES, ["missing"]))
def test_a_bundle_that_is_none(untouched, bundle, line):
    bundle, line = (text.replace("{}", untouched.directory) for text in (bundle, line))
    said = untouched.refused(untouched.state(bundle=bundle))
    assert said.startswith(f"container by-hand: {line}")


@pytest.mark.hostonly  # for time
def test_a_root_that_is_no_path(untouched):
    for root in ("a\0b", "a\ud800"):
        said = untouched.refused(untouched.state(root=root))
        assert said.startswith(f"container by-hand: {untouched.directory}/a")
        untouched.write({**CONFIG, "root": {"path": root}})
        assert untouched.refused(untouched.state()) == said
        untouched.write(CONFIG)


def linux(**section):
    return {"linux": section}


def device(**rule):
    return linux(resources={"devices": [rule]})


DEEP_CONFIG = b'{"linux":{"x":' + b"[" * 5000 + b"]" * 5000 + b"}}"
# What is in the file -> what is said about it.
BAD_CONFIGS = {
    "empty": (b"", "empty, expected a JSON document"),
    "half": (json.dumps(CONFIG).encode()[:-30], "not JSON: "),
    "no-text": (b"\x7fELF\x02\x01\x01\0\0\xff", "byte 9 is not UTF-8"),
    "NaN": (b'{"linux":{"resources":{"x":NaN}}}', "NaN is not a JSON number"),
    "twice": (b'{"linux":{},"linux":{}}', "key 'linux' appears twice in one object"),
    "deep": (DEEP_CONFIG, "nested more than 100 deep"),
    "20-MB": (b"[" + b"1," * 10_000_000 + b"1]", "more than 16777216 bytes"),
    "a-list": ([], "document: expected an object, found []"),
    "no-linux": ({"root": {"path": "rootfs"}}, "/linux: expected an object, found nothing"),
    "linux-null": ({"linux": None}, "/linux: expected an object, found null"),
    "linux-list": ({"linux": []}, "/linux: expected an object, found []"),
    "path-number": (linux(cgroupsPath=7), "/linux/cgroupsPath: expected a string, found 7"),
    "resources": (linux(resources=[]), "/linux/resources: expected an object, found []"),
    "devices": (
        linux(resources={"devices": {}}),
        "/linux/resources/devices: expected a list, found {}",
    ),
    "allow": (
        device(allow="yes"),
        '/linux/resources/devices/0/allow: expected true or false, found "yes"',
    ),
    "major": (
        device(allow=True, major="1"),
        '/linux/resources/devices/0/major: expected an integer, found "1"',
    ),
    "namespaces": (linux(namespaces={}), "/linux/namespaces: expected a list, found {}"),
    "namespace": (
        linux(namespaces=["pid"]),
        '/linux/namespaces/0: expected an object, found "pid"',
    ),
    "namespace-type": (
        linux(namespaces=[{}]),
        "/linux/namespaces/0/type: expected a string, found nothing",
    ),
    "root": ({"root": "rootfs", **linux()}, '/root: expected an object, found "rootfs"'),
    "root-path": ({"root": {"path": 7}, **linux()}, "/root/path: expected a string, found 7"),
    "annotations": (
        {"annotations": {"a": []}, **linux()},
        "/annotations/a: expected a string, found []",
    ),
}


@pytest.mark.parametrize("config, line", cases(BAD_CONFIGS, ["no-linux"]))
def test_a_bad_config(untouched, config, line):
    untouched.write(config)
    said = untouched.refused(untouched.state())
    assert said.startswith(f"container by-hand: {untouched.config}: {line}")


@pytest.mark.hostonly  # for time
@pytest.mark.parametrize("name", ["empty", "half", "no-text", "no-linux", "20-MB"])
def test_a_bad_config_on_stdin(untouched, name):
    """Nothing may come back: podman would take it for the config."""
    config, line = BAD_CONFIGS[name]
    untouched.write(config)
    with open(untouched.config, "rb") as file:
        said = untouched.refused(file.read(), "precreate")
    where = STDIN if "bytes" in line else "the config on stdin"
    assert said.startswith(f"{where}: {line}")


def test_something_else_in_the_place_of_config_json(untouched):
    """None of it may hold the hook: a fifo has no end, and perhaps nobody ever writes to it."""

    kinds = {
        "missing": (lambda path: None, "there is no config.json in the bundle"),
        "directory": (os.mkdir, "Is a directory"),
        "fifo": (os.mkfifo, "empty, expected a JSON document"),
        "endless": (
            lambda path: os.symlink("/dev/zero", path),
            "more than 16777216 bytes",
        ),
        "link-to-itself": (
            lambda path: os.symlink("config.json", path),
            "Too many levels of symbolic links",
        ),
        "link-to-nothing": (
            lambda path: os.symlink("nothing", path),
            "there is no config.json in the bundle",
        ),
    }
    for number, (make, line) in enumerate(kinds.values()):
        directory = f"{untouched.directory}/{number}"
        os.mkdir(directory)
        make(f"{directory}/config.json")
        said = untouched.refused(untouched.state(bundle=directory))
        assert said == f"container by-hand: {directory}/config.json: {line}"


@pytest.mark.hostonly  # for time
def test_a_fifo_that_somebody_holds_open(untouched):
    os.unlink(untouched.config)
    os.mkfifo(untouched.config)
    holder = os.open(untouched.config, os.O_RDWR)
    said = untouched.refused(untouched.state())
    os.close(holder)
    assert said == f"container by-hand: {untouched.config}: Resource temporarily unavailable"


@pytest.mark.hostonly  # for time
def test_without_a_configuration_no_input_is_looked_at(desk):
    os.unlink(f"{desk.node.conf_dir}/conf.json")
    for stdin in (b"", b"{", b"\xff\0", b"x" * 100_000):
        done = desk.node.hook("createRuntime", stdin)
        assert (done.status, done.text) == (0, "")
        argv = [desk.node.launcher, "precreate", *desk.node.options()]
        done = subprocess.run(argv, input=stdin, capture_output=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, stdin, b"")
    desk.assert_untouched()


@pytest.mark.hostonly  # for time
@pytest.mark.parametrize("stage", ["poststart", "poststop"])
def test_without_a_record_no_input_is_looked_at(untouched, stage):
    for stdin in (b"", b"{", b"\xff\0", b"x" * 100_000):
        done = untouched.node.hook(stage, stdin)
        assert (done.status, done.text) == (0, "")


@pytest.mark.hostonly  # for time
def test_input_that_never_ends_is_not_waited_for_after_16_MB(untouched):
    with open("/dev/zero") as zeros:
        done = subprocess.run(
            [untouched.node.launcher, "createRuntime", *untouched.node.options()],
            stdin=zeros,
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"nri-hook createRuntime: {STDIN}: more than 16777216 bytes\n"


def at_once(function, items):
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(function, items))


def assert_cuts_are_refused(desk, path, step):
    """Give what the sample was given to, without its end, of every length in steps."""
    data = path.read_bytes().rstrip()
    lengths = range(step, len(data), step)
    if "poststop" in path.name:
        desk.keep_another()

    def as_stdin(length):
        stage = "poststop" if "poststop" in path.name else "createRuntime"
        return desk.refused(data[:length], "precreate" if "precreate" in path.name else stage)

    def as_config(length):
        directory = f"{desk.directory}/{path.name}-{length}"
        os.mkdir(directory)
        (Path(directory) / "config.json").write_bytes(data[:length])
        said = desk.refused(desk.state(bundle=directory))
        start = f"container by-hand: {directory}/config.json"
        assert said.startswith(start)
        return said[len(start) :]

    is_config = path.name.endswith("config.json")
    start = ": " if is_config else "the config on stdin: " if "precreate" in path.name else STDIN
    said = at_once(as_config if is_config else as_stdin, lengths)
    assert said and all(line.startswith(start) for line in said)


@pytest.mark.hostonly
@pytest.mark.parametrize("path", sorted(DATA.glob("*.json")), ids=lambda path: path.name)
def test_a_sample_cut_at_every_100th_byte(untouched, path):
    assert_cuts_are_refused(untouched, path, 100)


@pytest.mark.hostonly  # for time
@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_a_sample_cut_here_and_there(untouched, path):
    assert_cuts_are_refused(untouched, path, path.stat().st_size // 5 + 1)


def paths(document, path=()):
    """The ways to all values in a document."""
    found = [path]
    if isinstance(document, (dict, list)):
        for key in document if isinstance(document, dict) else range(len(document)):
            found += paths(document[key], (*path, key))
    return found


def changed(document, path, value):
    """The document with another value there, or without one (...)."""
    if not path:
        return value
    copy = document.copy()
    if value is ... and len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(copy[path[0]], path[1:], value)
    return copy


@pytest.mark.hostonly
@pytest.mark.parametrize("what", ["state", "config"])
def test_mutated_input_is_taken_or_refused(desk, what):
    """Never half of it: either the plugin was called, or one line says why not."""
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    texts = st.sampled_from(["", "/", "..", "a\0", "\ud800", "/proc/self", "\n"]) | st.text()
    numbers = st.sampled_from([-1, 0, 2**31, 2**64, 1.5, 1e300]) | st.integers()
    leaves = st.none() | st.booleans() | numbers | texts
    values = st.recursive(
        leaves, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=5
    )
    name = "podman-pod-member-createRuntime-state.json" if what == "state" else "runc-config.json"
    good = json.loads((DATA / name).read_bytes())
    if what == "state":
        good = {**good, **desk.state(annotations=good["annotations"])}

    @st.composite
    def mutated(draw):
        document = good
        for _ in range(draw(st.integers(1, 2))):
            path = draw(st.sampled_from(paths(document)[1:]))
            document = changed(document, path, draw(st.just(...) | values))
            hypothesis.assume(len(paths(document)) > 1)
        data = json.dumps(document).encode()
        at = draw(st.integers(0, len(data)))
        junk = draw(st.sampled_from([b"", b"", b"", b"\xff", b"\0", b'"', b"{", b"]", b","]))
        return data[:at] + junk + data[at:]

    @hypothesis.settings(max_examples=25, deadline=None, derandomize=True, database=None)
    @hypothesis.given(mutated())
    def holds(data):
        before = len(desk.node.calls())
        if what == "config":
            desk.write(data)
            data = json.dumps(desk.state()).encode()
        done = desk.node.hook("createRuntime", data)
        called = desk.node.calls()[before:]
        if done.status == 0:
            assert (done.text, called) == ("", [("noted", "create")])
        else:
            assert called == desk.node.left() == []
            assert what_failed(done)
        for file in desk.node.left():
            os.unlink(f"{desk.node.state_dir}/{file}")

    holds()


# Hides the bundle from the hook, as crun itself does at times (containers/crun#2025), and
# becomes the launcher: its parent stays crun.
HIDING = """#!{python} -IS
import json, os, sys
state = json.load(sys.stdin)
state["bundle"] = "/"
hidden = os.memfd_create("state")
os.write(hidden, json.dumps(state).encode())
os.lseek(hidden, 0, os.SEEK_SET)
os.dup2(hidden, 0)
os.execv({launcher!r}, [{launcher!r}, *sys.argv[1:]])
"""


def test_crun_s_copy_of_the_config_serves_where_the_bundle_is_hidden(scene, node, oci):
    """For the whole life of a container; runc keeps no copy, so there it is one clear line."""
    path = f"{scene.cgroup}-x"
    node.configure(node.plugin("mover", {"create": {"result": {"cgroupsPath": path}}}))
    bundle = scene.bundle()
    oci.install(node, bundle)
    python = os.path.realpath(sys.executable)
    hiding = node.executable("hiding", HIDING.format(python=python, launcher=node.launcher))
    for hooks in bundle.config["hooks"].values():
        for hook in hooks:
            hook["path"] = hiding
    bundle.config["root"]["path"] = bundle.rootfs  # as podman has it: not below the bundle
    bundle.save()
    done = oci.create("one", bundle)
    if oci.binary == "runc":
        line = "container one: /config.json: there is no config.json in the bundle"
        assert line in done.refused()
        assert node.calls() == node.left() == scene.left_cgroups() == scene.left_processes() == []
        return
    done.check()
    assert node.record()["outcome"] == "moved"
    places = cgroups.membership(oci.pid("one"))
    assert {name for name, place in places.items() if place == path} == set(oci.hierarchies())
    oci.start("one").check()
    assert node.record()["outcome"] == "adopted"
    oci.exec("one", "true").check()
    oci.kill("one", "TERM").check()
    oci.wait("one")
    oci.delete("one").check()
    assert node.calls() == [("mover", "create"), ("mover", "delete")]
    assert node.left() == scene.left_cgroups() == []
