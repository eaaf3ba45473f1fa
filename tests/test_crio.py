"""CRI-O looks for a container's cgroup at the path that it computes from the id, and for some pods
it writes there itself."""

import pytest

CRIO = {"io.container.manager": "cri-o"}


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
