"""The life of a container as its hook sees it: three calls, by us and not by a runtime."""

import json
import os
import subprocess

from support.scene import Scene
from support.tree import TOP

from bench import noops
from bench.scenes import PYTHON
from bench.usage import Command
from nri_hook.registration import hookfile

STAGES = ("createRuntime", "poststart", "poststop")
SMALL, LARGE = 20, 200
# What a hook file gives its hook.
ENVIRONMENT = dict(entry.split("=", 1) for entry in hookfile.ENVIRONMENT)

# The chain and nothing else, in an interpreter as the hook's is: what it uses itself and what all
# of its plugins use, in seconds of CPU.
CHAIN = f"""
import gc, resource, sys, time
gc.disable()
sys.dont_write_bytecode = True
sys.path.append({TOP!r})
from nri_hook import fastimport
fastimport.install("nri_hook")
from nri_hook.hook import host_config, payload
from nri_hook.hook.chain import Chain

def used():
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)

chain = Chain(host_config.load(sys.argv[1]), [sys.argv[2]])
request = payload.request("create", "redis", 7, {{"cgroupsPath": "/redis"}}, None)
before = used()
chain.invoke(request, time.monotonic() + 60, lambda: None)
print(used() - before)
"""


class Stand:
    """Where hooks are called: a process that stands for init, and nodes."""

    def __init__(self):
        self.scene = Scene()
        self.init = self.scene.sleeper()
        self.numbers = 0

    def interpreter(self):
        """The bare interpreter, as a Command."""
        return Command([PYTHON, "-IS", "-c", "pass"], env=ENVIRONMENT)

    def life(self, kind=None, count=0, size=SMALL):
        """A Life with so many plugins of a kind, and a config.json of so many KB; kind None:
        without any configuration."""
        node = self.scene.node()
        node.install()
        if kind is not None:
            noops.add(node, kind, count)
        return self.of(node, size)

    def of(self, node, size=SMALL):
        """A Life under this node."""
        return Life(self._state(node.directory, size), node.options(), node.launcher)

    def chain(self, kind, count):
        """A function that calls a chain of so many plugins once; its seconds of CPU."""
        node = self.scene.node()
        noops.add(node, kind, count)
        argv = [PYTHON, "-IS", "-c", CHAIN, node.conf_dir, node.plugin_dir]

        def call():
            out = subprocess.run(argv, stdout=subprocess.PIPE, check=True, env=ENVIRONMENT).stdout
            return float(out)

        return call

    def other(self, launcher, plugins):
        """A Life with another hook in place of ours, which gets the native plugins as flags."""
        node = self.scene.node()
        flags = []
        for number in range(plugins):
            noops.native(f"{node.plugin_dir}/noop-{number}")
            flags += ["--plugin", f"{node.plugin_dir}/noop-{number}"]
        return Life(self._state(node.directory, SMALL), flags, launcher)

    def close(self):
        self.init.kill()
        self.init.wait()
        left = self.scene.close()
        assert not left, "left behind:\n" + "\n".join(left)

    def _state(self, directory, size):
        """The file of a state whose bundle has a config.json of so many KB."""
        self.numbers += 1
        bundle = f"{directory}/bundle"
        os.makedirs(bundle)
        with open(f"{bundle}/config.json", "w") as file:
            file.write(config(self.scene.cgroup, size << 10))
        state = {
            "ociVersion": "1.0.2",
            "id": f"{self.scene.name}-{self.numbers}",
            "status": "created",
            "pid": self.init.pid,
            "bundle": bundle,
            "annotations": {"qos.class": "ls"},
        }
        path = f"{directory}/state.json"
        with open(path, "w") as file:
            json.dump(state, file, separators=(",", ":"))  # as runc and crun write it
        return path


class Life:
    """The hooks of one container. calls: stage -> Command."""

    def __init__(self, state, flags, launcher):
        self.out = f"{state}.out"
        self.calls = {
            stage: Command([launcher, stage, *flags], state, self.out, ENVIRONMENT)
            for stage in STAGES
        }

    def pass_by(self):
        """Call all stages in order; stage -> Usage."""
        used = {}
        for stage, command in self.calls.items():
            used[stage] = command.run()
            with open(self.out) as file:
                said = file.read()
            assert not said, f"{stage}: {said}"
        return used


def config(cgroup, size):
    """The text of a config.json of about this many bytes: grown as real ones are, by mounts and by
    the system calls of a seccomp profile."""
    with open(f"{TOP}/tests/data/crio-1.36.3-config.json") as file:
        document = json.load(file)
    document["linux"]["cgroupsPath"] = f"{cgroup}/x"
    document["annotations"] = {"qos.class": "ls", "io.container.manager": "libpod"}
    names = document["linux"].setdefault("seccomp", {"defaultAction": "SCMP_ACT_ERRNO"})
    rules = names.setdefault("syscalls", [])
    mounts = document.setdefault("mounts", [])
    while len(text := json.dumps(document)) < size:
        number = len(mounts)
        for _ in range(max(1, (size - len(text)) // 400)):
            number += 1
            mounts.append(
                {
                    "destination": f"/var/lib/data/{number}",
                    "type": "bind",
                    "source": f"/srv/volumes/{number}/_data",
                    "options": ["rbind", "rprivate", "nosuid", "nodev", "ro"],
                }
            )
            rules.append(
                {
                    "names": [f"call_{number}", "clone"],
                    "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 0, "value": number, "valueTwo": 0, "op": "SCMP_CMP_EQ"}],
                }
            )
    return text
