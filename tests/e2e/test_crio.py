"""CRI-O looks for a container's cgroup at the path that it computes from the id. Some of its
versions die if there is none, and for some pods it writes there itself."""

import os
import subprocess

import pytest
from support import cgroups
from test_move import limited

from nri_hook.cgroups import old_cgroups

CRIO = {"io.container.manager": "cri-o"}
MEMORY = "memory.max"


class Scope:
    """A container under systemd that is sent from one scope to another.

    old: the directory of the first.
    """

    def __init__(self, scene, node, runtime, annotations):
        self.scene, self.node, self.runtime = scene, node, runtime
        words = [*runtime.command(), "--systemd-cgroup"]
        runtime.command = lambda: words
        answer = {"cgroupsPath": f"system.slice:{scene.name}-new:{{id}}"}
        node.configure(node.plugin("mover", {"create": {"result": answer}}))

        def edit(config):
            limited(runtime)(config)
            config["annotations"] = annotations

        path = f"system.slice:{scene.name}-old:one"
        self.bundle = scene.bundle(edit=edit, cgroups_path=path)
        runtime.install(node, self.bundle)
        self.old = f"{cgroups.mounts()[cgroups.V2]}/system.slice/{scene.name}-old-one.scope"

    def create(self):
        self.runtime.create("one", self.bundle).check()

    def start(self):
        self.runtime.start("one").check()
        assert self.node.record()["outcome"] == "adopted"

    def limits(self):
        """Of the cgroup that init is in: below the scope under crun, which may have none itself."""
        pid = self.runtime.pid("one")
        assert f"/{self.scene.name}-new-one.scope" in cgroups.membership(pid)[cgroups.V2]
        return {name: cgroups.value(pid, name) for name in (MEMORY, "pids.max")}

    def asked(self):
        resources = self.bundle.config["linux"]["resources"]
        return {
            MEMORY: str(resources["memory"]["limit"]),
            "pids.max": str(resources["pids"]["limit"]),
        }

    def assert_ends(self):
        self.runtime.delete("one").check()
        assert self.scene.left_cgroups() == []
        assert self.node.left() == []


@pytest.mark.guest
@pytest.mark.parametrize("name", ["runc", "crun"])
def test_the_computed_path_is_there_until_delete(scene, node, name):
    """Empty, and what is written there by default is not taken for an update of the container."""
    scope = Scope(scene, node, scene.runtime(name), CRIO)
    scope.create()
    assert os.listdir(scope.old)
    scope.start()
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert cgroups.read(f"{scope.old}/cgroup.procs") == ""
    assert cgroups.read(f"{scope.old}/{MEMORY}") == "max"
    assert scope.limits() == scope.asked()
    scope.runtime.call("update", "--memory", str(48 << 20), "one").check()
    assert scope.limits()[MEMORY] == str(48 << 20)
    scope.assert_ends()
    assert not os.path.exists(scope.old)


@pytest.mark.guest
def test_a_path_that_was_not_made_anew_is_at_poststart(scene, node):
    """createRuntime was killed before, or systemd was too slow for it."""
    scope = Scope(scene, node, scene.runtime("crun"), CRIO)
    scope.create()
    os.rmdir(scope.old)
    scope.start()
    assert cgroups.read(f"{scope.old}/cgroup.procs") == ""
    scope.assert_ends()


@pytest.mark.guest
def test_no_other_engine_has_a_path_made_anew(scene, node):
    scope = Scope(scene, node, scene.runtime("crun"), {"io.container.manager": "libpod"})
    scope.create()
    scope.start()
    assert not os.path.exists(scope.old)
    scope.assert_ends()


def test_a_scope_that_stays(tmp_path, monkeypatch):
    """systemd has not removed it in time: it is not ours to mark."""
    monkeypatch.setattr(old_cgroups, "SCOPE_GONE", 0.05)
    document = {"unit": {}, "claim": "one-00000000", "old": [str(tmp_path)]}
    (error,) = old_cgroups.make_anew(document, os.getpid(), "/run/nri-hook")
    assert str(error) == f"{tmp_path}: systemd has not removed the scope"
    assert old_cgroups.claim_of(str(tmp_path)) == ""


def test_a_slice_that_has_gone(tmp_path):
    document = {"unit": {}, "claim": "one-00000000", "old": [f"{tmp_path}/a.slice/b.scope"]}
    (error,) = old_cgroups.make_anew(document, os.getpid(), "/run/nri-hook")
    assert str(error).endswith("b.scope: cannot be made anew: No such file or directory")


@pytest.mark.parametrize(
    "annotation",
    ["cpu-load-balancing.crio.io", "cpu-quota.crio.io", "cpu-shared.crio.io/redis"],
)
def test_what_crio_writes_to_itself_is_refused(scene, node, runc, annotation):
    """Under systemd CRI-O's StartContainer fails after a move, on cgroupfs what CRI-O writes goes
    to the old cgroup. The annotation is the pod's, so nobody shall get past a policy by it."""
    bundle = moved_bundle(scene, node, runc, dict(CRIO, **{annotation: "disable"}))
    said = runc.create("one", bundle).refused()
    assert f"CRI-O does what the pod's annotation {annotation!r} asks in the cgroup" in said
    assert "undone: delete sent to mover" in said
    assert node.left() == []


@pytest.mark.parametrize(
    "annotations",
    [{"cpu-quota.crio.io": "disable"}, dict(CRIO, **{"cpu-c-states.crio.io": "disable"})],
    ids=["not of CRI-O", "of no cgroup"],
)
def test_what_crio_does_not_write_to_is_moved(scene, node, runc, annotations):
    bundle = moved_bundle(scene, node, runc, annotations)
    runc.create("one", bundle).check()
    runc.start("one").check()
    assert node.record()["outcome"] == "adopted"
    runc.delete("one").check()
    assert node.left() == []


def moved_bundle(scene, node, runc, annotations):
    answer = {"cgroupsPath": f"{scene.cgroup}/target/{{id}}"}
    node.configure(node.plugin("mover", {"create": {"result": answer}}))
    bundle = scene.bundle(edit=lambda config: config.update(annotations=annotations))
    runc.install(node, bundle)
    return bundle
