"""The scenes: a runtime on some cgroups, with a hook that is measured."""

import functools
import json
import os
import subprocess
import sys

from support import cgroups, runtimes
from support.namespaces import MountNamespace
from support.scene import Scene

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = os.path.realpath(sys.executable)
MIB = 1 << 20
# Where runc keeps its containers unless it is told: all that the hook can know of `runc-measured`.
ROOT = "/run/runc"
PRIVATE_ROOT = f"mkdir -p {ROOT} && mount -t tmpfs none {ROOT}"
DEVICES = [
    {"allow": False, "access": "rwm"},
    {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rw"},
]


class Default:
    """A runtime with its default root, which is of this scene alone."""

    setup = PRIVATE_ROOT

    @functools.cached_property
    def namespace(self):
        return MountNamespace(self.setup)

    @property
    def prefix(self):
        return self.namespace.prefix

    def command(self):
        return [self.binary]

    def close(self):
        super().close()
        self.namespace.close()


class RuncV1(Default, runtimes.Runc):
    """runc on the machine's own cgroup v1."""

    resources = {
        "memory": {"limit": 64 * MIB, "reservation": 32 * MIB},
        "pids": {"limit": 64},
        "cpu": {"shares": 512, "quota": 100000, "period": 50000},
        "devices": DEVICES,
    }
    namespaces = ()


class RuncV2(Default, runtimes.RuncV2):
    """runc on v2; where the machine has v1, without controllers but what v1 does not take."""

    setup = f"mount -t cgroup2 none /sys/fs/cgroup && {PRIVATE_ROOT}"
    resources = {"devices": DEVICES}
    namespaces = ("cgroup",)


def all_scenes():
    """Name -> runtime, those that this machine has."""
    found = {} if cgroups.pure_v2() else {"v1": RuncV1}
    return {**found, "v2": RuncV2}


class Moving:
    """Containers that are moved by a hook. The container is what podman makes by default: a cgroup
    mount that is read-only, on v2 in a cgroup namespace; limits and a device list."""

    def __init__(self, runtime):
        self.scene = Scene()
        self.node = self.scene.node()
        self.runtime = runtime(f"{self.scene.directory}/runtime")
        self.scene.runtimes.append(self.runtime)
        self.scene.runtime_made(self.scene.cgroup)
        self.target = f"{self.scene.cgroup}/qos/moved"
        self.node.executable("mover", answering({"cgroupsPath": self.target}))
        self.node.configure("mover")
        self.note = f"{self.scene.directory}/note"
        self.wrapper = self._wrapper()
        self.bundles = {}

    def add(self, name, change, measured=True):
        """A variant of the hook. change: lines of Python that its launcher executes before it
        calls the stage, once all modules are there. measured: whether create() can tell its CPU
        time, for which an interpreter has to start before it."""
        bundle = self.scene.bundle(edit=self._edit)
        self.node.install(bundle)
        launcher = f"{self.node.launcher}-{len(self.bundles)}"
        with open(self.node.launcher) as file:
            head, call, rest = file.read().partition("main(sys.argv)")
        assert call and not rest.strip(), "the launcher has another shape"
        with open(launcher, "w") as file:
            file.write(f"{head}{change}\n{call}\n")
        os.chmod(launcher, 0o755)
        (hook,) = bundle.config["hooks"]["createRuntime"]
        _, *words = hook["args"]
        words = [self.wrapper, self.note, launcher, *words] if measured else [launcher, *words]
        hook.update(path=words[0], args=words)
        bundle.save()
        self.bundles[name] = bundle

    def create(self, name, moves=True):
        """What live() does: the seconds of CPU of the hook."""
        self.live(name, moves)
        return self._noted()

    def live(self, name, moves=True):
        """Create a container that is moved or stays, and delete it."""
        runtime, bundle = self.runtime, self.bundles[name]
        id = f"{self.scene.name}-{len(self.bundles)}"
        runtime.create(id, bundle).check()
        places = cgroups.membership(runtime.pid(id))
        moved = {hierarchy for hierarchy, place in places.items() if place == self.target}
        assert moved == (set(runtime.hierarchies()) if moves else set()), f"{name}: {places}"
        runtime.delete(id).check()

    def interpreter(self):
        """The seconds of CPU of an interpreter that does nothing."""
        subprocess.run([self.wrapper, self.note, PYTHON, "-IS", "-c", "pass"], check=True)
        return self._noted()

    def close(self):
        left = self.scene.close()
        assert not left, "left behind:\n" + "\n".join(left)

    def _wrapper(self):
        path = f"{self.scene.directory}/runc-measured"
        with open(f"{HERE}/measured.py") as file, open(path, "w") as copy:
            copy.write(f"#!{PYTHON} -IS\n{file.read()}")
        os.chmod(path, 0o755)
        return path

    def _edit(self, config):
        linux = config["linux"]
        linux["resources"] = self.runtime.resources
        kinds = [entry for entry in linux["namespaces"] if entry["type"] != "cgroup"]
        linux["namespaces"] = kinds + [{"type": name} for name in self.runtime.namespaces]

    def _noted(self):
        with open(self.note) as file:
            (line,) = file
        os.unlink(self.note)
        return float(line)


def answering(result):
    """The text of the cheapest plugin that needs no compiler."""
    return f"#!/bin/sh\necho '{json.dumps(result)}'\n"


def versions():
    """Of what takes part."""
    found = {"Python": ".".join(map(str, sys.version_info[:3]))}
    for binary in ("runc", "crun", "podman"):
        words = [binary, "--version"]
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
        found[binary] = done.stdout.split("\n")[0].split()[2]
    return {**found, "kernel": os.uname().release}
