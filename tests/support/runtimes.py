"""The environments: each runtime with the kind of cgroups that it can have on this machine.

All have the same verbs. An id is what the test calls a container; hook_id(id) what the hook does.
"""

import functools
import json
import os
import shutil
import time

from support import cgroups
from support.commands import read, run
from support.namespaces import MountNamespace

# For a machine without CAP_SYS_RESOURCE.
PODMAN_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")


class Runtime:
    """runc or crun as they are.

    binary: its name. prefix: words before every command. version: 1 or 2, of the cgroups that it
    manages. hierarchies: their names, as in /proc/PID/cgroup.
    """

    binary = "runc"
    prefix = ()
    version = 2

    def __init__(self, directory):
        self.directory = directory
        self.root = f"{directory}/root"
        self.ids = []
        os.makedirs(directory)

    @classmethod
    def lacks(cls):
        """What this machine lacks for it, "" if nothing."""
        return "" if shutil.which(cls.binary) else f"{cls.binary} is not installed"

    @classmethod
    def hierarchies(cls):
        """Hierarchy -> its mount here, those that this runtime manages."""
        return {
            name: mount
            for name, mount in cgroups.mounts().items()
            if cls.version == 1 or name == cgroups.V2
        }

    @classmethod
    def controllers(cls):
        """The controllers that it has, as names of cgroup v1 or v2."""
        found = set()
        for name, mount in cls.hierarchies().items():
            found.update(name.split(","))
            if name == cgroups.V2:
                found.update(cgroups.read(f"{mount}/cgroup.controllers").split())
        return found - {""}

    def install(self, node, bundle):
        """Have the hooks of a node called for the containers of this bundle."""
        node.install(bundle)

    def call(self, *args, out=None):
        """Run the runtime with these words."""
        return run(
            [*self.prefix, *self.command(), *args],
            out or f"{self.directory}/out",
            cwd=self.directory,
        )

    def command(self):
        return [self.binary, "--root", self.root]

    def create(self, id, bundle):
        self.ids.append(id)
        return self.call("create", "--bundle", bundle.directory, id, out=self._output(id))

    def start(self, id):
        return self.call("start", id, out=f"{self.directory}/{id}.start")

    def run(self, id, bundle, detach=True):
        self.ids.append(id)
        flags = ["--detach"] if detach else []
        return self.call("run", *flags, "--bundle", bundle.directory, id, out=self._output(id))

    def state(self, id):
        """The runtime's state of a container, None where it knows none."""
        done = self.call("state", id, out=f"{self.directory}/{id}.state")
        return json.loads(done.out) if done.status == 0 else None

    def status(self, id):
        state = self.state(id)
        return state and state["status"]

    def pid(self, id):
        return self.state(id)["pid"]

    def exec(self, id, *args):
        return self.call("exec", id, *args, out=f"{self.directory}/{id}.exec")

    def kill(self, id, signal="KILL"):
        return self.call("kill", id, signal, out=f"{self.directory}/{id}.kill")

    def delete(self, id):
        """Delete by force, running or not."""
        if id in self.ids:
            self.ids.remove(id)
        return self.call("delete", "--force", id, out=f"{self.directory}/{id}.delete")

    def output(self, id):
        """What the container has printed so far."""
        return read(self._output(id)) + read(f"{self._output(id)}.err")

    def wait(self, id, seconds=10):
        """Wait for the container's process to end."""
        deadline = time.monotonic() + seconds
        while self.status(id) == "running":
            assert time.monotonic() < deadline, f"{id} still runs: {self.output(id)}"
            time.sleep(0.02)

    def hook_id(self, id):
        return id

    def start_path(self, id, bundle):
        """The cgroupsPath that a container starts with."""
        return bundle.cgroups_path

    def own_cgroups(self):
        """Directories that it makes and leaves itself, parents of its containers."""
        return []

    def close(self):
        """Delete what the test left."""
        # The last one first: podman keeps a container as long as another has joined it.
        for id in reversed(self.ids[:]):
            self.delete(id)

    def _output(self, id):
        return f"{self.directory}/{id}.out"


class Runc(Runtime):
    """runc on the machine's own cgroups: hybrid v1, or v2."""

    version = 2 if cgroups.pure_v2() else 1


class Crun(Runc):
    """crun on the machine's own cgroup v2."""

    binary = "crun"


class CrunV1(Runtime):
    """crun on v1: it refuses hybrid, so it does not see the v2 mount. The directory below that it
    takes for one and fills with plain files is a tmpfs of its own."""

    binary = "crun"
    version = 1

    @property
    def prefix(self):
        return _crun_v1().prefix

    @classmethod
    def hierarchies(cls):
        found = super().hierarchies()
        found.pop(cgroups.V2, None)
        return found


class RuncV2(Runtime):
    """runc on v2 in a private mount namespace: no controllers but hugetlb, device filters."""

    @property
    def prefix(self):
        return _runc_v2().prefix


class Podman(Runtime):
    """podman with cgroupfs and a runtime of its, all private; start and stop are its own.

    A bundle is only read: rootfs, args, annotations, CAP_MKNOD, memory.limit, pids.limit,
    cpu.shares, cpu.quota and cpu.period, and each allowing device rule with type and numbers. A
    container is at PARENT/libpod-ID, PARENT being the bundle's cgroupsPath. more_flags: of
    `podman create`.
    """

    more_flags = ()

    binary = "podman"
    version = Runc.version
    oci_runtime = "crun" if cgroups.pure_v2() else "runc"

    def __init__(self, directory):
        super().__init__(directory)
        self.hooks_dir = f"{directory}/no-hooks"
        self.parents = set()

    def install(self, node, bundle):
        node.install()
        self.hooks_dir = node.hooks_dir

    def command(self):
        return [
            "podman",
            *("--root", f"{self.directory}/storage"),
            *("--runroot", f"{self.directory}/run"),
            *("--tmpdir", f"{self.directory}/tmp"),
            *("--storage-driver", "vfs"),
            *("--cgroup-manager", "cgroupfs"),
            *("--runtime", self.oci_runtime),
            *("--hooks-dir", self.hooks_dir),
            *("--events-backend", "none"),
        ]

    def create(self, id, bundle):
        self.ids.append(id)
        done = self.call("create", *self._flags(id, bundle), out=f"{self.directory}/{id}.create")
        if done.status == 0:
            done = self.call("init", id, out=f"{self.directory}/{id}.init")
        return done

    def run(self, id, bundle, detach=True):
        self.ids.append(id)
        flags = ["--detach"] if detach else []
        return self.call("run", *flags, *self._flags(id, bundle), out=f"{self.directory}/{id}.run")

    def state(self, id):
        done = self.call("inspect", "--type", "container", id, out=f"{self.directory}/{id}.inspect")
        if done.status != 0:
            return None
        (document,) = json.loads(done.out)
        return {
            "id": document["Id"],
            "pid": document["State"]["Pid"],
            "status": document["State"]["Status"],
            "inspect": document,
        }

    def kill(self, id, signal="KILL"):
        return self.call("kill", "--signal", signal, id, out=f"{self.directory}/{id}.kill")

    def delete(self, id):
        if id in self.ids:
            self.ids.remove(id)
        return self.call("rm", "--force", "--time", "0", id, out=f"{self.directory}/{id}.rm")

    def output(self, id):
        return self.call("logs", id, out=f"{self.directory}/{id}.logs").text

    def hook_id(self, id):
        return self.state(id)["id"]

    def start_path(self, id, bundle):
        return f"{bundle.cgroups_path}/libpod-{self.hook_id(id)}"

    def own_cgroups(self):
        """The parent, and conmon's cgroup beside the container's."""
        return [
            directory
            for parent in self.parents
            for directory in [*cgroups.places(f"{parent}/conmon"), *cgroups.places(parent)]
            if cgroups.mark(directory) is None
        ]

    def _flags(self, id, bundle):
        self.parents.add(bundle.cgroups_path)
        flags = ["--name", id, "--network", "none", "--log-driver", "k8s-file", *PODMAN_LIMITS]
        flags += self.more_flags
        flags += ["--cgroup-parent", bundle.cgroups_path]
        for key, value in (bundle.config.get("annotations") or {}).items():
            flags += ["--annotation", f"{key}={value}"]
        if "CAP_MKNOD" in bundle.config["process"]["capabilities"]["bounding"]:
            flags += ["--cap-add", "MKNOD"]
        resources = bundle.resources
        for group, key, flag in (
            ("memory", "limit", "--memory"),
            ("pids", "limit", "--pids-limit"),
            ("cpu", "shares", "--cpu-shares"),
            ("cpu", "quota", "--cpu-quota"),
            ("cpu", "period", "--cpu-period"),
        ):
            value = resources.get(group, {}).get(key)
            if value is not None:
                flags += [flag, str(value)]
        for rule in resources.get("devices") or []:
            if rule["allow"] and {"type", "major", "minor"} <= set(rule):
                words = f"{rule['type']} {rule['major']}:{rule['minor']} {rule['access']}"
                flags += ["--device-cgroup-rule", words]
        return [*flags, "--rootfs", bundle.rootfs, *bundle.config["process"]["args"]]


if cgroups.pure_v2():
    ALL = {"runc": Runc, "crun": Crun, "podman": Podman}
else:
    ALL = {"runc": Runc, "crun": CrunV1, "runc-v2": RuncV2, "podman": Podman}


def available():
    """The names of the environments that this machine has."""
    return [name for name, runtime in ALL.items() if not runtime.lacks()]


def binaries():
    """Those of them in which the runtime is called directly, on the machine's own bundles."""
    return [name for name in available() if not name.startswith("podman")]


@functools.cache
def _crun_v1():
    unified = cgroups.mounts().get(cgroups.V2)
    return _remember(
        MountNamespace(f"umount {unified} && mount -t tmpfs none {unified}" if unified else "true")
    )


@functools.cache
def _runc_v2():
    return _remember(MountNamespace("mount -t cgroup2 none /sys/fs/cgroup"))


_namespaces = []


def _remember(namespace):
    _namespaces.append(namespace)
    return namespace


def close_all():
    """End the mount namespaces of this session."""
    for namespace in _namespaces:
        namespace.close()
