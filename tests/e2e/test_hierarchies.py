"""Where the cgroup hierarchies are, on a node whose mounts anybody may have named."""

import os
import subprocess
import sys

import pytest
from support import cgroups
from support.tree import TOP

from nri_hook.cgroups import controlfile, hierarchies

COUNT = """
import os
from nri_hook.cgroups import hierarchies
names = hierarchies.membership(os.getpid())
print(sorted(names), sorted(hierarchies.mounted(names)))
"""


@pytest.mark.parametrize("name", ["a\fb", "a\x1cb", "a\u2028b", "a\x85b", "a b", "a\nb"])
def test_odd_names_of_other_mounts(scene, name):
    """The kernel escapes space, tab, newline and backslash in mountinfo, nothing else."""
    script = 'mount -t tmpfs "$1" "$2"; exec "$3" -c "$4"'
    words = [name, scene.directory, sys.executable, COUNT]
    found = [
        subprocess.run(
            ["unshare", "-m", "--propagation", "private", "sh", "-ec", line, "sh", *words],
            check=True,
            capture_output=True,
            text=True,
            cwd=TOP,
        ).stdout
        for line in (script, script.partition("; ")[2])
    ]
    assert found[0] == found[1]


THREADS = """
import threading
threading.stack_size(1 << 16)
wait = threading.Event().wait
for _ in range(1200):
    threading.Thread(target=wait, daemon=True).start()
print(flush=True)
input()
"""


def test_a_list_of_more_than_a_page():
    """The kernel hands it out by pages."""
    argv = [sys.executable, "-c", THREADS]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        path = cgroups.find(child.pid, "tasks") or cgroups.find(child.pid, "cgroup.threads")
        threads = os.listdir(f"/proc/{child.pid}/task")
        assert len(threads) > 1200
        assert set(threads) <= set(controlfile.read(path).split())
    finally:
        child.kill()
        child.communicate()


def test_what_a_mount_shows():
    of_root = hierarchies.Hierarchy("cpu", "/sys/fs/cgroup/cpu", "/")
    assert of_root.directory("/a/b") == "/sys/fs/cgroup/cpu/a/b"
    assert of_root.reaches("/a")
    assert of_root.absolute("/a/b") == "/a/b"
    nested = hierarchies.Hierarchy("cpu", "/sys/fs/cgroup/cpu", "/docker/1")
    assert nested.directory("/docker/1/a") == "/sys/fs/cgroup/cpu/a"
    assert nested.reaches("/docker/1") and nested.reaches("/docker/1/a")
    assert nested.absolute("/a/b") == "/docker/1/a/b"
    assert not nested.reaches("/docker/12") and not nested.reaches("/a")
