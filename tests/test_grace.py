"""The kernel's grace period is held off for a container that is most likely moved."""

import os
import subprocess
import sys

import pytest
from support import cgroups
from support.node import TOP

from nri_hook import record
from nri_hook.cgroups import grace

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
    monkeypatch.setattr(grace, "LONGEST", 0)
    assert not grace.Grace().renew()


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
