"""Where it is played: the two parents of all containers."""

import subprocess

from support import cgroups
from support.commands import read

# The mounts of cgroup v2 with their options, before a test has had a runtime mount it once more.
CGROUP2 = [line.split() for line in read("/proc/self/mounts").splitlines() if " cgroup2 " in line]


class Stage:
    """start, target: the parents, cgroups or slices, from and to which containers are moved."""

    def __init__(self, scene, environment):
        self.name = scene.name
        self.directory = scene.directory
        self.slices = environment.manager == "systemd"
        self.delegate()
        if self.slices:
            self.start, self.target = (f"{scene.name}-{n}.slice" for n in ("start", "qos"))
            subprocess.run(["systemctl", "start", self.start, self.target], check=True)
        else:
            self.start, self.target = (f"{scene.cgroup}-{n}" for n in ("start", "qos"))
            scene.parent(self.start)
            scene.parent(self.target)

    def delegate(self):
        """Have the kernel protect the roots of cgroup namespaces. A runtime that mounts the cgroups
        in the node's own cgroup namespace takes that option of systemd's from all."""
        if cgroups.pure_v2():
            _, mount, _, options, *_ = CGROUP2[0]
            subprocess.run(["mount", "-o", f"remount,{options}", mount], check=True)

    def close(self):
        if self.slices:
            top = f"{self.name.split('-')[0]}.slice"
            subprocess.run(["systemctl", "stop", top], check=True)
