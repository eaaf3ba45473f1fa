"""What the tests of the samples share."""

import re
import subprocess

from support import cgroups, runtimes
from support.commands import read

from nri_hook.cgroups import hierarchies

MIB = 1 << 20


def environments(*controllers):
    """The environments of this machine that have these controllers."""
    return [n for n in runtimes.available() if set(controllers) <= runtimes.ALL[n].controllers()]


def entry(type, conf=None, **more):
    """A sample as an entry of the host configuration."""
    return {"type": type, **({} if conf is None else {"conf": conf}), **more}


class Case:
    """A node with these plugins, and containers of a runtime. systemd: whether that manages
    their cgroups."""

    def __init__(self, scene, node, runtime, *entries, systemd=False):
        self.scene, self.node, self.runtime, self.systemd = scene, node, runtime, systemd
        node.configure(*entries)
        if systemd:
            words = [*runtime.command(), "--systemd-cgroup"]
            runtime.command = lambda: words

    def create(self, id, annotations=None, path="", **resources):
        """Create a container; what came of it."""

        def edit(config):
            config["annotations"] = {**config.get("annotations", {}), **(annotations or {})}
            for key, values in resources.items():
                config["linux"]["resources"].setdefault(key, {}).update(values)

        if self.systemd and not path:
            path = f"system.slice:{self.scene.name}:{id}"
        rootfs = self.scene.bundles[0].rootfs if self.scene.bundles else None
        bundle = self.scene.bundle(edit=edit, rootfs=rootfs, cgroups_path=path)
        self.runtime.install(self.node, bundle)
        return self.runtime.create(id, bundle)

    def pid(self, id):
        return self.runtime.pid(id)

    def value(self, id, *files):
        """The text of the first of these control files, in the container's cgroup."""
        return cgroups.value(self.pid(id), *files)

    def inside(self, id, *words):
        """What a command says that is executed in it."""
        return self.runtime.exec(id, *words).check().out.strip()


def allowed(status):
    """The CPUs on which a process may run, by the text of its /proc/PID/status."""
    (found,) = re.findall(r"Cpus_allowed_list:\s*(\S+)", status)
    return hierarchies.numbers(found)


def here():
    """The CPUs that this process may run on."""
    return allowed(read("/proc/self/status"))


def reload():
    subprocess.run(["systemctl", "daemon-reload"], check=True)
