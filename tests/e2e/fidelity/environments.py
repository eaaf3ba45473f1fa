"""The environments of the table: a runtime with a cgroup manager, and more verbs for it."""

import functools
import json
import os
import platform
import re
import subprocess
import time

from support import cgroups, runtimes
from support.commands import run
from support.namespaces import MountNamespace

from fidelity.container import PREFIX, disk
from fidelity.kinds import JOINED

HAS_SYSTEMD = os.path.isdir("/run/systemd/system") and cgroups.pure_v2()
MANAGERS = ("cgroupfs", "systemd") if HAS_SYSTEMD else ("cgroupfs",)
SECONDS = 20


def names():
    """Of all that this machine has: RUNTIME-MANAGER."""
    found = [name for name in runtimes.available() if name != "podman"]
    if "podman" in runtimes.available():
        # podman's crun on v1 would need a mount namespace of its own.
        found += ["podman-runc", "podman-crun"] if cgroups.pure_v2() else ["podman-runc"]
    return [f"{name}-{manager}" for manager in MANAGERS for name in found]


def make(name, scene):
    """The environment of that name, for a scene."""
    runtime, _, manager = name.rpartition("-")
    attributes = {"manager": manager, "name": name}
    base, verbs = runtimes.ALL.get(runtime), Binary
    if base is None:
        base, verbs = runtimes.Podman, Engine
        attributes["oci_runtime"] = runtime.partition("-")[2]
    environment = type(base.__name__, (verbs, base), attributes)(f"{scene.directory}/{name}")
    scene.runtimes.append(environment)
    return environment


class Common:
    """manager: "cgroupfs" or "systemd"."""

    def managed(self):
        """The controllers that the runtime can set; on hybrid machines not those of v2."""
        if self.version == 2:
            return self.controllers()
        return {part for name in self.hierarchies() for part in name.split(",")}


class Binary(Common):
    """runc and crun."""

    engine = False

    def command(self):
        return [*super().command(), *(["--systemd-cgroup"] if self.manager == "systemd" else [])]

    def cgroups_path(self, parent, prefix, id):
        """The cgroupsPath of a container of that parent, a path or a slice."""
        return f"{parent}:{prefix}:{id}" if self.manager == "systemd" else f"{parent}/{id}"

    def answer(self, parent):
        """What a plugin says to have a container below that parent; {id} is filled in."""
        return self.cgroups_path(parent, PREFIX, "{id}")

    def dress(self, bundle, container):
        """Have the bundle of a container go to this environment."""

    def do_without_hooks(self):
        """Have none called for what begins now: they are in a bundle, or not."""

    def create(self, id, bundle):
        if not any(mount["type"] == "bind" for mount in bundle.config["mounts"]):
            return super().create(id, bundle)
        self.ids.append(id)
        words = [*self.apart.prefix, *self.command(), "create", "--bundle", bundle.directory, id]
        return run(words, self._output(id), cwd=self.directory)

    @functools.cached_property
    def apart(self):
        """Where a container with mounts of the machine's is created: a mount namespace whose
        mounts are shared as systemd has them, but with none of the machine itself, whose cgroups
        it could take away otherwise."""
        return MountNamespace("mount --make-rshared /", self.prefix)

    def witnesses(self):
        """Processes in the mount namespaces that could be harmed."""
        return [os.getpid(), self.apart.keeper.pid]

    def close(self):
        super().close()
        if "apart" in vars(self):
            self.apart.close()

    def foreground_words(self, id, bundle):
        return [*self.prefix, *self.command(), "run", "--bundle", bundle.directory, id]

    def start_all(self, containers):
        return {c: self.start(c.id) for c in containers}

    def states(self, containers):
        """Container -> the runtime's state, {} where it knows none."""
        return {c: self.state(c.id) or {} for c in containers}

    def pause_all(self, containers):
        return {c: self._each("pause", c) for c in containers}

    def resume_all(self, containers):
        return {c: self._each("resume", c) for c in containers}

    def kill_all(self, containers):
        return {c: self.kill(c.id) for c in containers}

    def delete_all(self, containers, force):
        if force:
            return {c: self.delete(c.id) for c in containers}
        return {c: self._each("delete", c) for c in containers}

    def update(self, container, memory):
        return self.call("update", "--memory", str(memory), container.id, out=self._out(container))

    def processes(self, container):
        """The pids that the runtime lists, on the host, or what it said instead."""
        done = self.call("ps", "--format", "json", container.id, out=self._out(container))
        try:
            return [int(pid) for pid in json.loads(done.out) or []]
        except ValueError:
            return f"status {done.status}: {done.text}"

    def exec_words(self, container):
        return [*self.prefix, *self.command(), "exec", container.id]

    def known_dirs(self):
        return [self.root]

    def _each(self, verb, container):
        return self.call(verb, container.id, out=self._out(container))

    def _out(self, container):
        return f"{self.directory}/{container.id}.said"


class Engine(Common):
    """podman, whose containers are called by their names in all at once where it can be."""

    engine = True

    def __init__(self, directory):
        super().__init__(directory)
        self.flags = {}

    def command(self):
        words = super().command()
        words[words.index("--cgroup-manager") + 1] = self.manager
        return words

    def cgroups_path(self, parent, prefix, id):
        return parent

    def answer(self, parent):
        if self.manager == "systemd":
            return f"{parent}:libpod:{{id}}"
        return f"{parent}/libpod-{{id}}"

    def dress(self, bundle, container):
        cell = container.cell
        flags = ["--cap-add", "MKNOD", "--memory-reservation", str(24 << 20)]
        if cell.kind is not JOINED:
            flags += ["--cgroupns", "private" if cell.cgroup_namespace else "host"]
        if disk():
            flags += ["--device-read-bps", f"/dev/{disk()}:99mb"]
        if cell.pids == "shared":
            flags += ["--pid", "host"]
        if container.has_systemd:
            flags += ["--volume", "/usr:/usr:ro"]
        plain = f"{container.stage.name}-create-private-{container.role}"
        flags += [flag.format(plain=plain) for flag in cell.kind.flags]
        self.flags[bundle.directory] = flags

    def do_without_hooks(self):
        self.hooks_dir = f"{self.directory}/no-hooks"

    def _flags(self, id, bundle):
        return [*self.flags[bundle.directory], *super()._flags(id, bundle)]

    def foreground_words(self, id, bundle):
        return [*self.prefix, *self.command(), "run", *self._flags(id, bundle)]

    def start_all(self, containers):
        return self._all("start", containers)

    def states(self, containers):
        """Container -> its status and what else `inspect` says of where it is and what it may."""
        done = self._call(["inspect", "--type", "container"], containers)
        documents = {d["Name"]: d for d in json.loads(done.out or "[]")}
        return {c: _short(documents.get(c.id)) for c in containers}

    def pause_all(self, containers):
        return self._all("pause", containers)

    def resume_all(self, containers):
        return self._all("unpause", containers)

    def kill_all(self, containers):
        done = self._all("kill", containers)
        self.wait_ended(containers)
        return done

    def delete_all(self, containers, force):
        flags = ["--force", "--time", "0"] if force else []
        done = self._call(["rm", *flags], containers)
        for container in containers:
            self.ids.remove(container.id)
        return dict.fromkeys(containers, done)

    def update(self, container, memory):
        words = ["update", "--memory", str(memory), container.id]
        return self.call(*words, out=f"{self.directory}/{container.id}.update")

    def processes(self, container):
        # In the host's own pid namespace podman knows no hpid but ?, in one with systemd some.
        column = "hpid" if container.cell.pids == "private" else "pid"
        done = self.call("top", container.id, column, out=f"{self.directory}/{container.id}.top")
        if done.status != 0:
            return f"status {done.status}: {done.text}"
        return [int(line) for line in done.out.splitlines() if line.isdigit()]

    def exec_words(self, container):
        return [*self.prefix, *self.command(), "exec", container.id]

    def known_dirs(self):
        return []

    def witnesses(self):
        return [os.getpid()]

    def _all(self, verb, containers):
        done = self._call([verb], containers)
        return dict.fromkeys(containers, done)

    def _call(self, words, containers):
        return self.call(
            *words, *(c.id for c in containers), out=f"{self.directory}/{words[0]}.all"
        )

    def wait_ended(self, containers):
        """Until conmon has told podman, which a state right after the end need not know, and
        podman has cleaned up."""
        deadline = time.monotonic() + SECONDS
        while any(s["status"] != "exited" for s in self.states(containers).values()):
            assert time.monotonic() < deadline, f"{[c.id for c in containers]} do not end"


def _short(document):
    if not document:
        return {}
    state, host = document["State"], document["HostConfig"]
    return {
        "id": document["Id"],
        "pid": state["Pid"],
        "status": state["Status"],
        "running": state["Running"],
        "paused": state["Paused"],
        "oom-killed": state["OOMKilled"],
        "exit-code": state["ExitCode"],
        "error": state["Error"],
        "cgroup-path": state.get("CgroupPath", ""),
        "cgroup-parent": host["CgroupParent"],
        "cgroup-manager": host["CgroupManager"],
        "memory": host["Memory"],
    }


def versions():
    """What of all this runs here: name -> version."""
    return {
        "kernel": os.uname().release,
        "cgroups": "v2" if cgroups.pure_v2() else "v1 (hybrid)",
        "systemd": version("systemctl") if "systemd" in MANAGERS else "",
        **{name: version(name) for name in ("runc", "crun", "podman")},
        "Python": platform.python_version(),
    }


@functools.cache
def version(command):
    done = subprocess.run([command, "--version"], stdout=subprocess.PIPE, text=True)
    return re.search(r"\d[\w.+~-]*", done.stdout)[0] if done.returncode == 0 else ""


def said(done, container):
    """What came of a command, for comparison: its status, and what it said if that was not 0."""
    return 0 if done.status == 0 else f"{done.status}: {container.normal(done.text.strip())}"
