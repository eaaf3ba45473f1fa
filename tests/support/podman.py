"""podman as users have it: a private one with no flag about hooks, and Debian's with systemd."""

import contextlib
import glob
import json
import shutil
import subprocess
import tempfile

from support.commands import read
from support.node import command
from support.waiting import wait_until


@contextlib.contextmanager
def alone(hooks=()):
    """The words of `podman run --rm` with cgroupfs and runc, all private; hooks: more flags of
    podman itself."""
    # podman takes no runroot of more than 50 characters.
    directory = tempfile.mkdtemp(prefix="nri-test-")
    try:
        yield [
            *("podman", "--root", f"{directory}/root", "--runroot", f"{directory}/runroot"),
            *("--tmpdir", f"{directory}/tmp", "--storage-driver", "vfs", *hooks),
            *("--cgroup-manager", "cgroupfs", "--runtime", "runc", "run", "--rm"),
            *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--network", "none"),
        ]
    finally:
        # conmon calls `podman container cleanup` once more, and podman does not wait for that.
        wait_until(lambda: not any(directory in words for words in _command_lines()))
        shutil.rmtree(directory)


def _command_lines():
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield read(path)


class Plain:
    """podman as Debian has it, systemd as cgroup manager: nothing is said to it but which runtime
    and where the hooks are. node: installed for createRuntime and what comes after. slice: where
    its container, which has the name of the scene, is to go."""

    def __init__(self, scene, node, runtime="crun"):
        self.node, self.name, self.runtime = node, scene.name, runtime
        self.slice = f"{scene.name}-qos.slice"
        subprocess.run(["systemctl", "start", self.slice], check=True)
        node.install()

    def install_precreate(self):
        """Install what `nri-hook install --engine podman` has besides."""
        node = self.node
        words = ["install", "--engine", "podman", "--launcher", node.launcher, *node.options()]
        with open(f"{node.hooks_dir}/90-nri-hook-precreate.json", "w") as file:
            file.write(command(*words, "--print", "precreate").check().out)

    def answer(self, state):
        """Configure a plugin that says in this state that the container shall be in the slice."""
        answer = {"cgroupsPath": f"{self.slice}:libpod:{{id}}"}
        self.node.configure(self.node.plugin("mover", {state: {"result": answer}}))

    def run(self, rootfs, *words, flags=()):
        """Run a container in the background; what `podman inspect` says of it."""
        flags = ["--name", self.name, "--network", "none", *flags]
        self.podman("run", "-d", *flags, "--rootfs", rootfs, *words)
        (document,) = json.loads(self.podman("inspect", self.name))
        return document

    def exec(self, *words):
        """What a command in the container prints."""
        return self.podman("exec", self.name, *words).strip()

    def podman(self, *words):
        done = self.call(*words)
        assert done.returncode == 0, f"{words}: {done.stdout}"
        return done.stdout

    def call(self, *words):
        """Run podman with these words, whatever comes of it."""
        return subprocess.run(
            ["podman", "--runtime", self.runtime, "--hooks-dir", self.node.hooks_dir, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def close(self):
        self.call("rm", "-f", "-t", "0", self.name)
        subprocess.run(["systemctl", "stop", f"{self.name.split('-')[0]}.slice"], check=True)
