"""What root's commands open may have been put there by anybody: a FIFO that nobody writes, a link
to elsewhere, a file of a stranger. They do not wait for it, follow it or execute it; they name it,
do the rest of their work, and end with 1."""

import json
import os
import socket
import stat

import pytest
from support.forked import command

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.once,
]

STRANGER = 65321
CANARY = "not to be changed, nor to be read\n"
RECORD = "state/one-01234567"
HOOK_FILE = "hooks.d/90-nri-hook-createRuntime.json"


class Node:
    """All that the commands read, in `folder`, as it should be; and `canary`, a stranger's aim."""

    def __init__(self, folder):
        self.folder = folder
        self.canary = f"{folder}/canary"
        self.ran = f"{folder}/ran"
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
        return f"{self.folder}/{name}"

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
        words = [word.replace("DIR", self.folder) for word in words.split()]
        done = command(*words, environment=search)
        assert done.status is not None, f"{words}: it hangs"
        assert "Traceback" not in done.text, done
        with open(self.canary) as file:
            assert file.read() == CANARY
        assert CANARY.strip() not in done.text, done
        return done


@pytest.fixture
def node(scene):
    return Node(scene.folder)


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
    os.mkfifo(f"{node.folder}/fifo")
    os.symlink(f"{node.folder}/fifo", path)


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
# What validate can do without: the schema of a plugin's conf, which lies beside the plugin.
SPARED = {("plugins/quiet", "validate"), ("plugins/quiet.schema.json", "validate")}
CASES = [(place, words) for place, lines in READERS.items() for words in lines]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("place", "words"), CASES)
def test_it_is_named_and_the_rest_goes_on(node, place, words, kind):
    node.take(place)
    kind(node.path(place), node)
    done = node.run(words)
    if kind is huge and place.endswith(".log"):
        return  # its end is read, in which there is nothing
    assert node.path(place) in done.text, done
    assert done.status == (0 if (place, words.split()[0]) in SPARED else 1), done
    assert not os.path.exists(node.ran)
