"""A container that nests more cgroups than Python can recurse into, or than a path can name. What
looks at cgroups, kills in them or removes them gets to their end, and other containers are served.

In guests alone: on a shared machine every other test would come upon them.
"""

import json
import os
import signal
import sys

import pytest
from support import cgroups
from support.commands import run
from support.tree import TOP
from support.waiting import wait_until

from nri_hook.cgroups import members, nested

pytestmark = pytest.mark.guest

# Deeper than Python <= 3.11 recurses, and than a path of 4096 bytes leads.
DEPTHS = (1200, 3000)


class Nest:
    """Cgroups in a cgroup in a cgroup, each called "n"."""

    def __init__(self, directory, depth):
        self.directory = directory
        here = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        for _ in range(depth):
            os.mkdir("n", dir_fd=here)
            inner = os.open("n", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
            os.close(here)
            here = inner
        self.deepest = here

    def put(self, pid):
        """Put a process into the deepest."""
        fd = os.open("cgroup.procs", os.O_WRONLY, dir_fd=self.deepest)
        os.write(fd, str(pid).encode())
        os.close(fd)

    def close(self):
        """Remove them, with what a test has left in them."""
        os.close(self.deepest)
        if os.path.isdir(f"{self.directory}/n"):
            members.kill(f"{self.directory}/n")
            wait_until(self._is_removed)

    def _is_removed(self):
        try:
            nested.remove(f"{self.directory}/n")
        except OSError:  # what was killed has not ended yet
            return False
        return True


@pytest.fixture
def nest(request):
    nests = []

    def nest(directory, depth):
        nests.append(Nest(directory, depth))
        return nests[-1]

    yield nest
    for found in nests:
        found.close()


@pytest.fixture
def cgroup(scene):
    (directory,) = scene.parent(f"{scene.cgroup}-deep")
    return directory


@pytest.mark.parametrize("depth", DEPTHS)
def test_each_is_come_upon(cgroup, nest, sleeper, depth):
    nest(cgroup, depth).put(sleeper.pid)
    os.mkdir(f"{cgroup}/n/beside")
    found = [cgroups.read(f"/proc/self/fd/{fd}/cgroup.procs") for fd in nested.walk(cgroup)]
    assert len(found) == depth + 2
    assert [text for text in found if text] == [str(sleeper.pid)]
    os.rmdir(f"{cgroup}/n/beside")


@pytest.mark.parametrize("depth", DEPTHS)
def test_all_are_removed_with_what_is_in_them(cgroup, nest, sleeper, depth):
    nest(cgroup, depth).put(sleeper.pid)
    os.makedirs(f"{cgroup}/a/b")
    with pytest.raises(OSError):
        nested.remove(cgroup)
    assert os.path.isdir(f"{cgroup}/n")
    members.kill(cgroup)
    assert sleeper.wait() == -signal.SIGKILL
    nested.remove(cgroup)
    assert not os.path.exists(cgroup)


def test_kill_without_the_kernels_help(cgroup, nest, sleeper, monkeypatch):
    """Where there is no cgroup.kill: on v1, and before Linux 5.14."""
    nest(cgroup, DEPTHS[-1]).put(sleeper.pid)
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda p: "cgroup.kill" not in str(p) and exists(p))
    members.kill(cgroup)
    assert sleeper.wait() == -signal.SIGKILL


class Deep:
    """A moved container in whose cgroup there are many, and a second one beside it."""

    def __init__(self, scene, node, runtime, nest, depth):
        self.node, self.runtime = node, runtime
        self.target = f"{scene.cgroup}/target"
        answer = {"cgroupsPath": self.target + "/{id}"}
        node.configure(node.plugin("mover", {"create": {"result": answer}}))
        for id in ("deep", "flat"):
            bundle = scene.bundle(("sleep", "1000"))
            runtime.install(node, bundle)
            runtime.run(id, bundle).check()
        self.pid = runtime.pid("deep")
        self.nest = nest(f"/sys/fs/cgroup{self.target}/deep", depth)

    def nri_hook(self, *args):
        argv = [sys.executable, "-m", "nri_hook", *args, "--state-dir", self.node.state_dir]
        environment = {**os.environ, "PYTHONPATH": TOP}
        out = f"{self.runtime.directory}/out"
        return run([*self.runtime.prefix, *argv], out, cwd="/", env=environment).check()


@pytest.fixture(params=DEPTHS)
def deep(scene, node, runc, nest, request):
    return Deep(scene, node, runc, nest, request.param)


def test_what_root_looks_at(deep):
    """With the container's process in its own cgroup, and in the deepest."""
    for _ in range(2):
        deep.nri_hook("gc")
        rows = [line.split() for line in deep.nri_hook("status").out.splitlines()]
        assert sorted((row[0], row[7]) for row in rows[1:]) == [("deep", "yes"), ("flat", "yes")]
        text = deep.nri_hook("status", "--tree").out
        assert max(map(len, text.splitlines())) < 300
        for id in ("deep", "flat"):
            assert f"container {id} (alive)" in text
        assert f" {deep.pid} sleep  cpu" in text
        tree = json.loads(deep.nri_hook("status", "--tree", "--json").out)
        assert containers(tree) == {"deep", "flat"}
        deep.nest.put(deep.pid)
    for id in ("deep", "flat"):
        deep.runtime.kill(id).check()
        wait_until(lambda id=id: deep.runtime.status(id) == "stopped")
    # Of 3000 the runtime cannot remove any: runc 1.1 goes on, later ones fail, as natively.
    for id in ("deep", "flat"):
        done = deep.runtime.delete(id)
        if done.status != 0 and "file name too long" in done.text:
            nested.remove(f"/sys/fs/cgroup{deep.target}/{id}/n")
            done = deep.runtime.delete(id)
        done.check()
    assert [entries[-1]["outcome"] for entries in deep.node.logs().values()] == ["removed"] * 2


def containers(node):
    found = set(node["containers"])
    for inner in node["below"]:
        found |= containers(inner)
    return found
