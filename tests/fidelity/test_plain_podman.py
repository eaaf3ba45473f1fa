"""podman and crun as Debian has them, systemd as cgroup manager: nothing is said to podman but
where the hooks are."""

import json
import subprocess

import pytest
from support import cgroups
from support.bundle import LOOP, make_rootfs
from support.node import command

pytestmark = pytest.mark.guest


class Plain:
    """A container of podman without any settings of ours. node: installed for createRuntime and
    what comes after."""

    def __init__(self, scene, node):
        self.scene, self.node = scene, node
        self.slice = f"{scene.name}-qos.slice"
        self.rootfs = f"{scene.folder}/rootfs"
        make_rootfs(self.rootfs)
        subprocess.run(["systemctl", "start", self.slice], check=True)
        node.install()

    def podman(self, *words):
        words = ["podman", "--hooks-dir", self.node.hooks_dir, *words]
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert done.returncode == 0, f"{words}: {done.stdout.decode()}"
        return done.stdout.decode()

    def run(self, name):
        """Its pid, once it runs."""
        self.podman(
            "run", "-d", "--name", name, "--network", "none", "--rootfs", self.rootfs, *LOOP
        )
        (document,) = json.loads(self.podman("inspect", name))
        return document

    def close(self):
        subprocess.run(["podman", "rm", "-f", "-t", "0", self.scene.name], capture_output=True)
        top = f"{self.scene.name.split('-')[0]}.slice"
        subprocess.run(["systemctl", "stop", top], check=True)


@pytest.fixture
def plain(scene, node):
    plain = Plain(scene, node)
    yield plain
    plain.close()


def answering(node, state, answer):
    plugin = node.plugin("mover", {state: {"result": {"cgroupsPath": answer}}})
    node.configure(plugin)
    return plugin


def assert_works(plain, document, scope, view):
    """It is in that scope below the slice, and so is what is executed in it. view: what it reads
    in /proc/self/cgroup."""
    (place,) = cgroups.membership(document["State"]["Pid"]).values()
    assert place.endswith(f"/{plain.slice}/{scope}/container")
    assert document["HostConfig"]["CgroupManager"] == "systemd"
    assert document["OCIRuntime"] == "crun"
    seen = plain.podman("exec", plain.scene.name, "cat", "/proc/self/cgroup").strip()
    assert seen == f"0::{view(place)}"
    plain.podman("stop", "-t", "5", plain.scene.name)
    plain.podman("rm", plain.scene.name)
    assert plain.node.calls()[-1] == ("mover", "delete")


def test_podman_makes_it_in_the_slice_that_precreate_says(scene, node, plain):
    words = ["install", "--engine", "podman", "--launcher", node.launcher, *node.options()]
    with open(f"{node.hooks_dir}/90-nri-hook-precreate.json", "w") as file:
        file.write(command(*words, "--print", "precreate").check().out)
    answering(node, "setup", f"{plain.slice}:libpod:{{id}}")
    document = plain.run(scene.name)
    assert_works(plain, document, f"libpod-{document['Id']}.scope", lambda place: "/")


def test_it_is_moved_into_the_slice_that_createruntime_says(scene, node, plain):
    answering(node, "create", f"{plain.slice}:libpod:{{id}}")
    document = plain.run(scene.name)
    scope = f"libpod-nri-{document['Id']}.scope"
    # From machine.slice/libpod-ID.scope/container, the root of its namespace.
    assert_works(plain, document, scope, lambda place: f"/../../..{place}")
