"""clearcfs: class ls runs without a CFS quota, all others keep theirs."""

import pytest

from plugins.samples import Case, entry, environments, reload

QUOTA = {"quota": 30000, "period": 100000}
LS, BE = {"qos.class": "ls"}, {"qos.class": "be"}


@pytest.fixture(params=environments("cpu"))
def runtime(scene, request):
    return scene.runtime(request.param)


def quota(case, id):
    """The quota in the container's own control file, None for none."""
    found = case.value(id, "cpu.max", "cpu.cfs_quota_us").split()[0]
    return None if found in ("max", "-1") else int(found)


def test_only_class_ls_runs_without_a_quota(scene, node, runtime):
    case = Case(scene, node, runtime, entry("clearcfs"))
    for id, annotations in (("ls", LS), ("be", BE), ("none", {})):
        case.create(id, annotations, cpu=QUOTA).check()
        runtime.start(id).check()
    assert [quota(case, id) for id in ("ls", "be", "none")] == [None, 30000, 30000]
    for id in ("ls", "be", "none"):
        runtime.delete(id).check()


def test_annotation_and_classes_are_configurable(scene, node, runc):
    conf = {"annotation": "example.com/class", "classes": ["system", "gold"]}
    case = Case(scene, node, runc, entry("clearcfs", conf))
    for id, annotations in (
        ("gold", {"example.com/class": "gold"}),
        ("system", {"example.com/class": "system"}),
        ("ls", {"example.com/class": "ls"}),
        ("other", {"qos.class": "gold"}),
    ):
        case.create(id, annotations, cpu=QUOTA).check()
    assert [quota(case, id) for id in ("gold", "system")] == [None, None]
    assert [quota(case, id) for id in ("ls", "other")] == [30000, 30000]


def test_a_container_without_a_quota(scene, node, runc):
    case = Case(scene, node, runc, entry("clearcfs"))
    case.create("free", LS).check()
    assert quota(case, "free") is None


@pytest.mark.guest
def test_a_daemon_reload_does_not_bring_it_back(scene, node, oci):
    case = Case(scene, node, oci, entry("clearcfs"), systemd=True)
    case.create("ls", LS, cpu=QUOTA).check()
    case.create("be", BE, cpu=QUOTA).check()
    reload()
    oci.start("ls").check()
    assert [quota(case, id) for id in ("ls", "be")] == [None, 30000]
    reload()
    assert [quota(case, id) for id in ("ls", "be")] == [None, 30000]
