"""What root's commands open may have been put there by anybody: a FIFO that nobody writes, a link
to elsewhere, a file of a stranger. They do not wait for it, follow it or execute it; they name it,
do the rest of their work, and end with 1."""

import json
import os
import socket
import stat

import pytest
from support.forked import command
from support.users import as_user

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.hostonly,
]

STRANGER = 65321
CANARY = "not to be changed, nor to be read\n"
RECORD = "state/one-01234567"
HOOK_FILE = "hooks.d/90-nri-hook-createRuntime.json"


class Node:
    """All that the commands read, in `directory`, as it should be; and `canary`, a stranger's
    aim."""

    def __init__(self, directory):
        self.directory = directory
        self.canary = f"{directory}/canary"
        self.ran = f"{directory}/ran"
        self.write("canary", CANARY)
        self.write("state/")
        os.chmod(self.path("state"), 0o700)
        self.write("conf/conf.json", {"plugins": [{"type": "quiet", "conf": {}}]})
        self.write("plugins/quiet", f"#!/bin/sh\ncat >/dev/null\ntouch {self.ran}\necho {{}}\n")
        self.write("plugins/quiet.schema.json", {"type": "object"})
        config = {"root": {"path": "rootfs"}, "linux": {"cgroupsPath": "/default/one"}}
        self.write("bundle/config.json", config)
        hook = {"path": "/bin/true"}
        other = {"version": "1.0.0", "hook": hook, "when": {"always": True}, "stages": ["poststop"]}
        self.write("hooks.d/10-other.json", other)
        spec = {"resources": {}, "cgroupsPath": "/default/one", "annotations": {}}
        request = {"version": "0.1", "state": "create", "id": "one", "spec": spec, "results": []}
        self.write("request.json", {**request, "labels": {}})

    def path(self, name):
        return f"{self.directory}/{name}"

    def write(self, name, content=""):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if name.endswith("/"):
            return
        with open(path, "w") as file:
            file.write(content if isinstance(content, str) else json.dumps(content))
        os.chmod(path, 0o755)

    def take(self, name):
        """The text of a file, which is removed; "" if there is none."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not os.path.exists(path):
            return ""
        with open(path) as file:
            text = file.read()
        os.unlink(path)
        return text

    def run(self, words):
        """A command line in which DIR stands for our directory; where the doctor has no need of
        them, it finds no engine and no runtime, which take their time."""
        search = {} if "--hooks-dir" in words else {"PATH": self.path("plugins")}
        words = [word.replace("DIR", self.directory) for word in words.split()]
        done = command(*words, environment=search)
        assert done.status is not None, f"{words}: it hangs"
        assert "Traceback" not in done.text, done
        with open(self.canary) as file:
            assert file.read() == CANARY
        assert CANARY.strip() not in done.text, done
        return done


@pytest.fixture
def node(scene):
    return Node(scene.directory)


def fifo(path, node):
    os.mkfifo(path, 0o666)


def directory(path, node):
    os.mkdir(path)


def device(path, node):
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # what is behind /dev/zero


def link(path, node):
    os.symlink(node.canary, path)
    os.lchown(path, STRANGER, STRANGER)


def link_to_fifo(path, node):
    os.mkfifo(f"{node.directory}/fifo")
    os.symlink(f"{node.directory}/fifo", path)


def huge(path, node):
    with open(path, "w"):
        os.truncate(path, 1 << 36)


def unix_socket(path, node):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)


KINDS = [fifo, directory, device, link, link_to_fifo, huge, unix_socket]
PLACES = "--conf-dir DIR/conf --plugin-dir DIR/plugins"
STATE = "--state-dir DIR/state"
DOCTOR = f"doctor --bundle DIR/bundle {PLACES} {STATE}"
INVOKE = f"invoke {PLACES} {STATE}"
# What lies somewhere -> the commands that come upon it.
READERS = {
    f"{RECORD}.json": [
        *(f"{words} {STATE}" for words in ("status", "status --tree", "gc", "gc --dry-run")),
        DOCTOR,
        f"{INVOKE} --bundle DIR/bundle",
    ],
    f"{RECORD}.lock": [f"gc {STATE}", DOCTOR],
    f"{RECORD}.log": [f"log {STATE}", f"log one {STATE}", f"gc {STATE}", DOCTOR],
    "conf/conf.json": [f"validate {PLACES}", DOCTOR, INVOKE],
    "conf/resource.d/a.conf": [f"validate {PLACES}", DOCTOR, INVOKE],
    "plugins/quiet": [f"validate {PLACES}", DOCTOR, INVOKE, f"{INVOKE} --plugin DIR/plugins/quiet"],
    "plugins/quiet.py": [f"{INVOKE} --plugin DIR/plugins/quiet.py"],
    "plugins/quiet.schema.json": [f"validate {PLACES}"],
    "request.json": ["validate DIR/request.json", f"{INVOKE} --request DIR/request.json"],
    "bundle/config.json": [
        DOCTOR,
        f"{INVOKE} --bundle DIR/bundle",
        "install --bundle DIR/bundle --launcher DIR/launcher",
        "uninstall --bundle DIR/bundle --launcher DIR/launcher",
    ],
    "launcher": [
        f"{DOCTOR} --launcher DIR/launcher",
        "install --bundle DIR/bundle --launcher DIR/launcher",
        "uninstall --bundle DIR/bundle --launcher DIR/launcher",
    ],
    HOOK_FILE: [
        f"doctor --hooks-dir DIR/hooks.d {PLACES} {STATE}",
        "install --hooks-dir DIR/hooks.d --launcher DIR/launcher",
        "uninstall --hooks-dir DIR/hooks.d --launcher DIR/launcher",
    ],
    "hooks.d/10-other.json": [
        f"doctor --hooks-dir DIR/hooks.d {PLACES} {STATE}",
        "install --hooks-dir DIR/hooks.d --launcher DIR/launcher",
    ],
}
# What a command can do without: the schema of a plugin's conf, which lies beside the plugin; one
# record of many.
SPARED = {
    ("plugins/quiet", "validate"),
    ("plugins/quiet.schema.json", "validate"),
    (f"{RECORD}.json", "invoke"),
}
CASES = [(place, words) for place, lines in READERS.items() for words in lines]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("place", "words"), CASES)
def test_it_is_named_and_the_rest_goes_on(node, place, words, kind):
    node.take(place)
    kind(node.path(place), node)
    done = node.run(words)
    assert not os.path.exists(node.ran)
    if kind is huge and place.endswith((".log", ".lock")):
        return  # of a log the end is read, of a lock nothing
    spared = (place, words.split()[0]) in SPARED
    assert done.status == (0 if spared else 1), done
    assert spared or node.path(place) in done.text, done


# Whole directories

OF_STATE = ["status", "status --tree", "status one", "log", "log one", "gc", "gc --dry-run"]


@pytest.mark.parametrize("words", [f"{words} {STATE}" for words in OF_STATE] + [DOCTOR])
def test_a_state_directory_of_a_stranger(node, words):
    """What is in it would tell root which processes to kill, and which plugins to call."""
    with open(node.path(f"{RECORD}.json"), "w") as file:
        json.dump({"id": "one", "pid": os.getpid()}, file)
    os.mkfifo(node.path("state/two-01234567.json"))
    os.chown(node.path("state"), STRANGER, STRANGER)
    before = sorted(os.listdir(node.path("state")))
    done = node.run(words)
    assert done.status == 1
    assert node.path("state") in done.text and f"belongs to uid {STRANGER}" in done.text, done
    assert "one-01234567" not in done.text and "two-01234567" not in done.text
    assert sorted(os.listdir(node.path("state"))) == before


@pytest.mark.parametrize("words", [f"{words} {STATE}" for words in OF_STATE] + [DOCTOR])
def test_a_state_directory_that_a_stranger_may_replace(node, words):
    os.mkdir(node.path("home"))
    os.rename(node.path("state"), node.path("home/state"))
    os.chown(node.path("home"), STRANGER, STRANGER)
    done = node.run(words.replace("DIR/state", "DIR/home/state"))
    assert done.status == 1 and f"directory home belongs to uid {STRANGER}" in done.text, done


@pytest.mark.parametrize("kind", [fifo, device, link, link_to_fifo, unix_socket])
@pytest.mark.parametrize("words", [f"{words} {STATE}" for words in OF_STATE] + [DOCTOR])
def test_something_else_in_the_place_of_the_state_directory(node, words, kind):
    os.rmdir(node.path("state"))
    kind(node.path("state"), node)
    done = node.run(words)
    assert done.status == 1 and node.path("state") in done.text, done


@pytest.mark.parametrize("kind", [fifo, device, link, link_to_fifo, huge, unix_socket])
@pytest.mark.parametrize("place", ["conf", "conf/resource.d", "plugins", "bundle", "hooks.d"])
def test_something_else_in_the_place_of_a_directory(node, place, kind):
    """No command hangs, whatever it makes of that."""
    os.system(f"rm -rf {node.path(place)}")
    kind(node.path(place), node)
    for words in (f"validate {PLACES}", DOCTOR, INVOKE, f"{INVOKE} --bundle DIR/bundle"):
        node.run(words)
    for name in ("doctor", "install", "uninstall"):
        node.run(f"{name} --hooks-dir DIR/hooks.d --launcher DIR/launcher")
    assert not os.path.exists(node.ran)


# What is in a file

ODD = [
    "{}", "[]", "null", '"x"', "1", "{", "\xff", "[" * 100000,
    '{"id": 1}',
    '{"id": "one", "pid": "x", "start": []}',
    '{"id": "one", "pid": -1, "start": 1e300, "bundle": "DIR/bundle"}',
    '{"id": "one", "pid": 0, "start": 0, "creator": [], "placements": 5, "cgroups": []}',
    '{"bundle": "DIR/bundle", "start": 1, "outcome": {}, "entries": {}, "called": [7]}',
]  # fmt: skip
EVERYWHERE = {
    f"{RECORD}.json": [
        *(f"{words} {STATE}" for words in ("status", "status --tree", "status one", "gc")),
        DOCTOR,
        f"{INVOKE} --bundle DIR/bundle",
    ],
    f"{RECORD}.log": [f"{words} {STATE}" for words in ("log", "log one", "log --json", "gc")],
    "conf/conf.json": [f"validate {PLACES}", DOCTOR, INVOKE],
    "plugins/quiet.schema.json": [f"validate {PLACES}"],
    "request.json": ["validate DIR/request.json", f"{INVOKE} --request DIR/request.json"],
    "bundle/config.json": [
        DOCTOR,
        f"{INVOKE} --bundle DIR/bundle",
        "install --bundle DIR/bundle --launcher DIR/launcher",
    ],
    "hooks.d/10-other.json": [
        f"doctor --hooks-dir DIR/hooks.d {PLACES} {STATE}",
        "install --hooks-dir DIR/hooks.d --launcher DIR/launcher",
    ],
}


@pytest.mark.parametrize("place", EVERYWHERE)
@pytest.mark.parametrize("text", ODD, ids=lambda text: text[:40])
def test_no_text_is_too_odd(node, place, text):
    """Node.run() fails where there is a traceback."""
    node.take(place)
    node.write(place, text.replace("DIR", node.directory))
    for words in EVERYWHERE[place]:
        done = node.run(words)
        assert done.status in (0, 1), done


def test_lines_of_a_log_that_are_odd(node):
    """What is a line of ours is shown all the same."""
    call = {"type": "a", "state": "create", "ms": 1, "status": 0, "answer": "", "stderr": ""}
    good = {"time": 1, "stage": "gc", "container": "one", "from": "", "to": "", "outcome": "x"}
    good.update(message="", notes=[], calls=[call], payload="{")
    odd = {"time": "x", "stage": 1, "notes": "x", "calls": [1], "container": None, "payload": 1}
    lines = [good, *({**good, key: value} for key, value in odd.items())]
    lines += [{**good, "calls": [{**call, key: []}]} for key in call]
    node.write(f"{RECORD}.log", "\n".join(map(json.dumps, lines)) + "\n")
    assert len(node.run(f"log {STATE}").check().out.splitlines()) == 3
    assert len(json.loads(node.run(f"log --json one {STATE}").check().out)) == 1


def test_what_would_keep_root_busy(node):
    """An expression, or a list, that would take minutes."""
    hook = {"path": "/bin/true"}
    other = {"version": "1.0.0", "hook": hook, "when": {}, "stages": ["poststop"]}
    for pattern in ("(" * 400000, "a" * 900000, "(a+)+$" * 1000):
        node.write("hooks.d/10-other.json", {**other, "when": {"commands": [pattern]}})
        node.run(f"doctor --hooks-dir DIR/hooks.d {PLACES} {STATE}")
    node.write("hooks.d/10-other.json", {**other, "when": {"commands": ["a"] * 500000}})
    done = node.run(f"doctor --hooks-dir DIR/hooks.d {PLACES} {STATE}")
    assert "10-other.json: cannot be read: more than 1048576 bytes" in done.out
    node.write("conf/conf.json", {"plugins": [{}] * 1000000})
    os.chown(node.path("conf/conf.json"), STRANGER, STRANGER)
    assert len(node.run(DOCTOR).out) < 10000


# A file of a stranger

STRANGERS = {
    "conf/conf.json": [DOCTOR, INVOKE],
    "conf/resource.d/a.conf": [DOCTOR, INVOKE],
    "plugins/quiet": [DOCTOR, INVOKE, f"{INVOKE} --plugin DIR/plugins/quiet"],
    "plugins/quiet.schema.json": [f"validate {PLACES}"],
    "bundle/config.json": [DOCTOR],
    "hooks.d/10-other.json": [f"doctor --hooks-dir DIR/hooks.d {PLACES} {STATE}"],
}
OWNED = [(place, words) for place, lines in STRANGERS.items() for words in lines]


@pytest.mark.parametrize("whose", ["file", "directory"])
@pytest.mark.parametrize(("place", "words"), OWNED)
def test_a_file_of_a_stranger(node, place, words, whose):
    """It is not gone by, and nothing of it is executed. The fix does not make it root's."""
    path = node.path(place)
    if not os.path.exists(path):
        node.write(place, {"plugins": [{"type": "quiet"}]})
    os.chmod(path, 0o777)
    os.chown(path if whose == "file" else os.path.dirname(path), STRANGER, STRANGER)
    done = node.run(words)
    assert f"belongs to uid {STRANGER}" in done.text, done
    assert done.status == 1 or words.startswith("validate")
    assert not os.path.exists(node.ran)
    if whose == "file":
        assert f"chown -h root: {path}" not in done.text
        assert "doctor" not in words or "fix: look at " in done.text


def test_a_name_that_a_stranger_has_chosen(node):
    """It passes for no command that root is to type, and paths in those are quoted."""
    name = "a; fix: touch x; touch y\x1b[2J.json"
    node.write(f"hooks.d/{name}", "{")
    os.chown(node.path("hooks.d"), STRANGER, STRANGER)
    done = node.run(f"doctor --hooks-dir DIR/hooks.d {PLACES} {STATE}")
    assert "\x1b" not in done.text
    for line in done.out.splitlines():
        if "touch" in line:
            cause, fix = line.split("; fix: ", 1)
            assert "touch" in cause and cause.count(r";\x20fix:\x20") == 1
            assert "touch" not in fix or f"'{node.directory}/hooks.d/a; fix: touch x;" in fix


def test_a_file_of_a_stranger_that_root_names(node):
    """It may be looked at: nothing of it is executed."""
    for place in ("request.json", "conf/conf.json", "hooks.d/10-other.json"):
        os.chmod(node.path(place), 0o666)
        os.chown(node.path(place), STRANGER, STRANGER)
        assert "well-formed" in node.run(f"validate DIR/{place}").check().out
    os.chown(node.path("bundle"), STRANGER, STRANGER)
    for words in ("install", "uninstall"):
        node.run(f"{words} --bundle DIR/bundle --launcher DIR/launcher").check()


def test_a_file_that_may_not_be_read(node):
    """As root it may; a user is told which."""
    os.chmod(node.path("conf/conf.json"), 0)
    node.run(f"validate {PLACES}").check()
    os.chmod(node.directory, 0o755)

    def look():
        return [node.run(words) for words in (f"validate {PLACES}", DOCTOR, INVOKE)]

    for done in as_user(STRANGER, look):
        assert (done.status, "Permission denied" in done.text) == (1, True), done
        assert node.path("conf/conf.json") in done.text


# What the shell has opened


def test_a_pipe_that_this_process_was_given(node):
    """`nri-hook log --payload ID | nri-hook validate /dev/stdin`, `invoke --request <(...)`."""
    read, write = os.pipe()
    os.set_inheritable(read, True)
    with open(write, "wb") as pipe, open(node.path("request.json"), "rb") as request:
        pipe.write(request.read())
    try:
        path = f"/dev/fd/{read}"
        done = node.run(f"validate {path}").check()
        assert done.out == f"{path}: well-formed payload\n"
    finally:
        os.close(read)
