"""The pod of a container, as the hook finds it."""

import os
import shutil

import pytest
from support.bundle import Bundle
from unit.hook.test_pod import (
    CONTAINER,
    CRI,
    CRIO,
    LABELS,
    MANAGER,
    SANDBOX,
    Storage,
    crio,
    of_sandbox,
)


@pytest.mark.hostonly
@pytest.mark.skipif(not shutil.which("podman"), reason="needs podman")
def test_podman_run_with_crios_manager(scene, node):
    podman = scene.runtime("podman")
    node.configure(node.plugin("quiet"))
    forged = {MANAGER: "cri-o", f"{CRIO}SandboxID": SANDBOX}
    bundle = scene.bundle(
        cgroups_path=f"{scene.cgroup}-p", edit=lambda config: config.update(annotations=forged)
    )
    podman.install(node, bundle)
    assert f"annotation {MANAGER} says cri-o" in podman.create("one", bundle).refused()
    assert node.calls() == []


class Pod:
    """A container of CRI-O's, as far as a runtime sees it, and a plugin that notes its payload."""

    def __init__(self, scene, node, runc, annotations):
        self.storage, self.runc = Storage(scene.directory), runc
        self.plugin = node.plugin("policy")
        node.configure(self.plugin)
        os.makedirs(f"{self.storage.directory}/{CONTAINER}")
        self.bundle = Bundle(
            self.storage.bundle(CONTAINER),
            f"{scene.cgroup}/crio-{CONTAINER}",
            edit=lambda config: config.update(annotations=annotations),
        )
        scene.runtime_made(scene.cgroup)
        node.install(self.bundle)

    def create(self):
        return self.runc.create(CONTAINER, self.bundle)


@pytest.mark.hostonly
def test_a_policy_by_label_sees_every_pod(scene, node, runc):
    """Neither a forged sandbox nor a missing config of the true one hides the labels."""
    pod = Pod(scene, node, runc, {**crio(), f"{CRI}sandbox-id": "made-up"})
    assert "does not exist, expected that of the pod" in pod.create().refused()
    assert pod.plugin.calls() == [] and node.left() == []
    pod.storage.write(SANDBOX, of_sandbox(LABELS))
    pod.create().check()
    payload = pod.plugin.call("create")["payload"]
    assert (payload["sandboxID"], payload["labels"]) == (SANDBOX, LABELS)
