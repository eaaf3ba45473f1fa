"""The kernel's grace period is held off for a container that is most likely moved."""

import os
import subprocess
import sys

import pytest
from bench import life
from support import cgroups
from support.tree import TOP

from nri_hook.cgroups import grace
from nri_hook.hook import record

WRITE = """
import os, sys
from nri_hook.cgroups.grace import Grace
print(Grace().renew(), os.getpid())
"""


def write(*prefix):
    """What a process of its own says that holds it off, and what strace saw it write."""
    trace = ["strace", "-qq", "-y", "-e", "trace=write", "-e", "signal=none"]
    words = [*prefix, *trace, sys.executable, "-c", WRITE]
    done = subprocess.run(words, cwd=TOP, capture_output=True, text=True, check=True)
    return done.stdout.split()[0], [x for x in done.stderr.splitlines() if "/cgroup.procs>" in x]


def test_a_write_that_changes_nothing():
    before = cgroups.membership(os.getpid())
    held = grace.Grace()
    assert held.renew()
    assert cgroups.membership(os.getpid()) == before
    said, writes = write()
    assert said == "True"
    assert writes and all('"0", 1) = 1' in line for line in writes)


def test_it_ends(monkeypatch):
    for longest, goes_on in ((60, True), (0, False)):
        monkeypatch.setattr(grace, "LONGEST", longest)
        assert grace.Grace().renew() is goes_on


def test_somebody_else_moves_the_hook(scene):
    """It does not go back."""
    script = """
import time
from nri_hook.cgroups import grace
grace.LONGEST = 60
held = grace.Grace()
print(held.renew(), flush=True)
input()
time.sleep(grace.PAUSE)
print(held.renew(), flush=True)
input()
"""
    argv = [sys.executable, "-c", script]
    hook = subprocess.Popen(argv, cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert hook.stdout.readline() == "True\n"
        scene.parent(scene.cgroup)
        for directory in cgroups.places(scene.cgroup):
            cgroups.write(f"{directory}/cgroup.procs", hook.pid)
        places = cgroups.membership(hook.pid)
        assert places != cgroups.membership(os.getpid())
        hook.stdin.write("\n")
        hook.stdin.flush()
        assert hook.stdout.readline() == "False\n"
        assert cgroups.membership(hook.pid) == places
    finally:
        hook.kill()
        hook.communicate()


SLOW = {
    "native": "#!/bin/sh\nsleep 0.2\necho '{}'\n",
    "hosted": "import time\n\ntime.sleep(0.2)\nprint('{}')\n",
}


@pytest.mark.hostonly
@pytest.mark.parametrize("kind", SLOW)
def test_as_long_as_a_plugin_runs(kind):
    """For a container after one that was moved."""
    stand = life.Stand()
    try:
        node = stand.scene.node()
        node.install()
        add = node.executable if kind == "native" else node.hosted
        add("slow", SLOW[kind])
        node.configure("slow")
        calls = stand.of(node).calls
        os.makedirs(node.state_dir, 0o700)
        with open(f"{node.state_dir}/{record.MOVING}", "w"):
            pass
        create = calls["createRuntime"]
        trace = ["strace", "-qq", "-y", "-e", "trace=write", "-e", "signal=none"]
        with open(create.stdin) as stdin:
            words = [*trace, *create.argv]
            done = subprocess.run(words, stdin=stdin, capture_output=True, text=True, check=True)
        calls["poststop"].run()
        lines = done.stderr.splitlines()
        writes = [index for index, line in enumerate(lines) if "/cgroup.procs>" in line]
        (payload,) = [index for index, line in enumerate(lines) if "pipe:" in line]
        assert len([index for index in writes if index > payload]) >= 5
    finally:
        stand.close()


def test_where_no_cgroup_is_mounted():
    script = 'umount -R /sys/fs/cgroup; exec "$@"'
    prefix = ["unshare", "-m", "--propagation", "private", "sh", "-ec", script, "sh"]
    assert write(*prefix) == ("False", [])


@pytest.mark.hostonly
def test_the_container_before_tells(scene, node, runc):
    """Each says to the next one whether it was moved."""
    moved = {"create": {"result": {"cgroupsPath": f"{scene.cgroup}/moved/one"}}}
    mover, idle = node.plugin("mover", moved), node.plugin("idle")
    bundle = scene.bundle()
    node.install(bundle)
    expected = []
    for plugin in (idle, mover, mover, idle):
        node.configure(plugin)
        runc.create("one", bundle).check()
        runc.delete("one").check()
        expected.append(os.path.exists(f"{node.state_dir}/{record.MOVING}"))
    assert expected == [False, True, True, False]
