"""`"onLeft": "fail"`: no container starts that could not be placed where a plugin wants it."""

import json

import pytest
from support import cgroups
from test_left import write_hook

hostonly = pytest.mark.hostonly


class Demand:
    """A container that `mover` wants elsewhere, and whose hook is no child of the runtime, which
    leaves it. `other` is called after it, and has no opinion."""

    def __init__(self, scene, node, runtime):
        self.node, self.runtime = node, runtime
        self.target = f"{scene.cgroup}/target/{{id}}"
        self.mover = node.plugin("mover", {"create": {"result": {"cgroupsPath": self.target}}})
        self.other = node.plugin("other")
        self.bundle = scene.bundle()
        runtime.install(node, self.bundle)
        self.errors = f"{self.bundle.directory}/errors"
        path = f"{self.bundle.directory}/not-the-runtime"
        write_hook(path, self.errors, "HOOK\nexit $?", node.launcher)
        for (hook,) in self.bundle.config["hooks"].values():
            hook["path"] = path
        self.bundle.save()

    def create(self, mover=None, other=None):
        """Create the container; these are in the plugins' entries."""
        entries = {"type": "mover", **(mover or {})}, {"type": "other", **(other or {})}
        self.node.configure(*entries)
        return self.runtime.create("one", self.bundle)

    def assert_starts(self):
        assert self.node.record()["outcome"] == "left"
        self.runtime.start("one").check()
        assert self.runtime.status("one") == "running"


REASON = "the hook's parent is not runc or crun"


@pytest.fixture
def demand(scene, node, runc):
    return Demand(scene, node, runc)


def test_a_container_that_is_left_does_not_start(scene, node, oci, log):
    """Every plugin hears of its end, nothing is left of it, and the line says who wanted it."""
    demand = Demand(scene, node, oci)
    demand.create({"onLeft": "fail"}).refused()
    assert oci.state("one") is None
    calls = [("mover", "create"), ("other", "create"), ("other", "delete"), ("mover", "delete")]
    assert node.calls() == calls
    assert node.left() == [] and scene.left_cgroups() == []
    with open(demand.errors) as file:
        (said,) = file
    assert f'plugin mover: it must not start where it is ("onLeft": "fail"): {REASON}' in said
    assert "undone: delete sent to other, mover" in said


@hostonly
def test_start_is_the_default(demand):
    demand.create({"onLeft": "start"}).check()
    demand.assert_starts()


@hostonly
def test_the_entry_whose_answer_won_decides(demand):
    demand.create(other={"onLeft": "fail"}).check()
    demand.assert_starts()


@hostonly
def test_the_last_answer_wins_and_decides(demand):
    demand.other.play({"create": {"result": {"cgroupsPath": demand.target}}})
    demand.create({"onLeft": "start"}, {"onLeft": "fail"}).refused()
    assert demand.runtime.state("one") is None


@hostonly
def test_no_opinion_stops_nothing(demand):
    demand.mover.play({"create": {"result": {"cgroupsPath": ""}}})
    demand.create({"onLeft": "fail"}, {"onLeft": "fail"}).check()
    assert demand.node.record()["outcome"] == "stays"


@hostonly
def test_an_ignored_error_does_not_cover_a_container_that_is_left(demand):
    demand.create({"onLeft": "fail", "onError": "ignore"}).refused()
    assert demand.runtime.state("one") is None


@hostonly
def test_no_record_can_be_kept(scene, runc):
    node = scene.node(["--state-dir", "/proc/nri-hook"])
    answer = {"cgroupsPath": f"{scene.cgroup}/target"}
    node.plugin("mover", {"create": {"result": answer}})
    bundle = scene.bundle()
    runc.install(node, bundle)
    node.configure({"type": "mover", "onLeft": "fail"})
    text = runc.create("one", bundle).refused()
    assert "it must not start where it is" in text and "there is no record of it: " in text
    assert node.calls() == [("mover", "create"), ("mover", "delete")]
    node.plugin("mover")
    runc.create("one", bundle).check()


# precreate


READ_ONLY = """
for mount in $(awk '$3 ~ /^cgroup/ { print $2 }' /proc/self/mounts); do
  mount -o remount,ro,bind "$mount"
done
exec "$@"
"""


def precreate(node, cgroups_path, **entry):
    """What precreate makes of a config with this cgroupsPath, where no cgroup can be made."""
    node.configure("other", {"type": "mover", **entry})
    linux = {"cgroupsPath": cgroups_path} if cgroups_path else {}
    prefix = ["unshare", "-m", "--propagation", "private", "sh", "-ec", READ_ONLY, "sh"]
    return node.hook("precreate", {"linux": linux}, prefix=prefix)


@pytest.fixture
def native(scene, node):
    """A node whose plugin answers to setup alone."""
    node.plugin("mover", {"setup": {"result": {"cgroupsPath": f"{scene.cgroup}/target/x"}}})
    node.plugin("other")
    node.install()
    return node


@hostonly
def test_any_entry_decides_if_no_plugin_can_be_asked(native):
    """podman gives a container no cgroupsPath if it has no cgroup of its own, and then no id."""
    assert json.loads(precreate(native, "").out) == {"linux": {}}
    done = precreate(native, "", onLeft="fail")
    assert (done.status, done.out) == (1, "")
    assert 'plugin mover: it must not start where it is ("onLeft": "fail"): ' in done.err
    assert "its config has no cgroupsPath" in done.err
    assert native.calls() == []


@hostonly
def test_precreate_prints_nothing_for_a_container_that_must_not_start(scene, native):
    own = f"{scene.cgroup}/libpod-one"
    assert json.loads(precreate(native, own).out) == {"linux": {"cgroupsPath": own}}
    native.hook("poststop", {"id": "one", "bundle": ""})
    done = precreate(native, own, onLeft="fail")
    assert (done.status, done.out) == (1, "")
    assert "cannot be made: Read-only file system" in done.err
    assert native.calls()[-2:] == [("mover", "delete"), ("other", "delete")]


@hostonly
@pytest.mark.parametrize("answers_again", [True, False])
def test_what_precreate_has_left_is_not_moved(scene, native, runc, answers_again):
    """Its create would find it movable. Whatever is answered there, it stays."""
    native.keeps = True  # nobody is podman here, so nobody calls poststop
    answer = {"result": {"cgroupsPath": f"{scene.cgroup}/target/x"}}
    native.plugin("mover", {"setup": answer, "create": answer if answers_again else {}})
    bundle = scene.bundle(cgroups_path=f"{scene.cgroup}/libpod-one")
    scene.runtime_made(scene.cgroup)
    precreate(native, bundle.cgroups_path)
    (setup,) = native.records()
    with open(f"{native.state_dir}/{setup}", "a") as file:
        file.write('{"later": [1]}\n')
    runc.install(native, bundle)
    runc.create("one", bundle).check()
    document = native.record()
    assert (document["outcome"], document["later"]) == ("left", [1])
    assert document["reason"].startswith("precreate left it: ")
    now = cgroups.membership(runc.pid("one"))
    assert all(now[name] == bundle.cgroups_path for name in runc.hierarchies())
    runc.delete("one").check()
    assert native.left() == []
