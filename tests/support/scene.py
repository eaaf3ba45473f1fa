"""What one test has to itself, and whether it left anything when it ended."""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import time

from support import cgroups
from support.bundle import LOOP, Bundle
from support.node import Node
from support.runtimes import ALL

_numbers = itertools.count()
SECONDS = 2


class Scene:
    """A name that nothing else has: of `directory`, root's in /tmp, and of `cgroup`,
    "/nri-test-...", with which all cgroups of the test must begin."""

    def __init__(self):
        self.name = f"nri-test-{os.getpid()}-{next(_numbers)}"
        self.directory = f"/tmp/{self.name}"
        self.cgroup = f"/{self.name}"
        self.nodes = []
        self.runtimes = []
        self.bundles = []
        self.parents = []
        self.sleepers = []
        os.mkdir(self.directory, 0o755)

    def node(self, flags=()):
        """A new node. flags: more for `install`."""
        self.nodes.append(Node(f"{self.directory}/node{len(self.nodes)}", flags))
        return self.nodes[-1]

    def runtime(self, name):
        """A runtime of runtimes.ALL with a root of its own."""
        self.runtimes.append(ALL[name](f"{self.directory}/runtime{len(self.runtimes)}"))
        return self.runtimes[-1]

    def bundle(self, args=LOOP, edit=None, cgroups_path="", rootfs=None):
        """A new bundle at a cgroupsPath of its own, or at this one (None: without one)."""
        number = len(self.bundles)
        if cgroups_path == "":
            cgroups_path = f"{self.cgroup}-start-{number}"
        directory = f"{self.directory}/bundle{number}"
        self.bundles.append(Bundle(directory, cgroups_path, args, edit, rootfs))
        return self.bundles[-1]

    def parent(self, path, hierarchies=None):
        """Make a cgroup for the length of the test, unmarked; its directories."""
        self.parents.append(path)
        return cgroups.make(path, hierarchies)

    def runtime_made(self, path):
        """Say that a runtime makes this parent of its containers and leaves it; a relative path
        is one below any cgroup."""
        self.parents.append(path)

    def sleeper(self):
        """Start a process that is nobody's business, for the length of the test."""
        self.sleepers.append(subprocess.Popen(["sleep", "infinity"]))
        return self.sleepers[-1]

    def left_cgroups(self):
        """The directories of cgroups that begin with our name, but for those that parent() and
        runtime_made() told of and the runtime's own."""
        found = cgroups.named(self.name)
        known = {directory for runtime in self.runtimes for directory in runtime.own_cgroups()}
        for path in self.parents:
            ending = "/" + path.strip("/")
            known.update(directory for directory in found if directory.endswith(ending))
        return [directory for directory in found if directory not in known]

    def left_processes(self):
        """(pid, command line) of processes that have our name in it, in their cgroup, or in where
        their root filesystem comes from."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                words = _text(f"/proc/{pid}/cmdline").replace("\0", " ")
                texts = [words, _text(f"/proc/{pid}/cgroup")]
                mounts = (line.split(" ") for line in _text(f"/proc/{pid}/mountinfo").splitlines())
                texts += [fields[3] for fields in mounts if fields[4] == "/"]
                is_zombie = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()[0] == "Z"
            except (OSError, IndexError):  # it ends: its files are not there, empty, or cut off
                continue
            # A zombie is for the machine's first process to reap, which takes its time here.
            if not is_zombie and any(map(self._is_ours, texts)):
                found.append((int(pid), words))
        return found

    def close(self):
        """Delete the containers, remove what is left; say what should not have been."""
        found = []
        for sleeper in self.sleepers:
            sleeper.kill()
            sleeper.wait()
        for runtime in self.runtimes:
            runtime.close()
        deadline = time.monotonic() + SECONDS
        while (processes := self.left_processes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        found += [f"process {pid}: {words}" for pid, words in processes]
        for node in self.nodes:
            if not node.keeps:
                found += [f"record {node.state_dir}/{name}" for name in node.left()]
        found += [f"cgroup {directory}" for directory in self.left_cgroups()]
        for pid, _ in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for directory in cgroups.named(self.name):
            if os.path.isdir(directory):
                cgroups.remove(directory)
        shutil.rmtree(self.directory)
        return found

    def _is_ours(self, text):
        start = text.find(self.name)
        return start >= 0 and not text[start + len(self.name) :][:1].isdigit()


def _text(path):
    with open(path, errors="replace") as file:
        return file.read()
