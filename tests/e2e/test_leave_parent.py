"""A container is not moved out of a parent that has a limit, unless its operator says so."""

import glob
import os

import pytest
from support import cgroups

MIB = 1 << 20
# Control file -> a value that is a limit.
LIMITS = {
    1: {
        "memory.limit_in_bytes": 256 * MIB,
        "pids.max": 100,
        "cpu.cfs_quota_us": 50000,
        "cpuset.cpus": 0,
    },
    2: {
        "memory.max": 256 * MIB,
        "memory.high": 256 * MIB,
        "pids.max": 100,
        "cpu.max": "50000 100000",
        "io.max": "{disk} wbps=1048576",
    },
}[2 if cgroups.pure_v2() else 1]
FILE = next(iter(LIMITS))


class Pod:
    """A container that starts in POD/middle/start, with a plugin that wants it elsewhere."""

    def __init__(self, scene, node, runtime):
        self.scene = scene
        self.path = f"{scene.cgroup}/pod"
        self.directories = scene.parent(self.path)
        self.middle = scene.parent(f"{self.path}/middle")
        scene.runtime_made(scene.cgroup)
        self.node = node
        self.runtime = runtime
        self.mover = node.plugin("mover")
        self.other = node.plugin("other")
        self.bundle = scene.bundle(cgroups_path=f"{self.path}/middle/start")
        runtime.install(node, self.bundle)

    def create(self, target, **entry):
        """Create the container, whose plugin answers `target` and has this in its entry."""
        self.mover.play({"create": {"result": {"cgroupsPath": target}}})
        self.node.configure({"type": "mover", **entry}, {"type": "other", "leaveParent": True})
        return self.runtime.create("one", self.bundle)

    def places(self):
        """Where the container is in the hierarchies of its runtime."""
        now = cgroups.membership(self.runtime.pid("one"))
        return {now[hierarchy] for hierarchy in self.runtime.hierarchies()}


@pytest.fixture
def pod(scene, node, runc):
    return Pod(scene, node, runc)


def limit(directories, file):
    """Set the limit `file` in that of these directories which has it; its path."""
    (disk, *_) = [*glob.glob("/sys/block/[!lr]*/dev"), ""]
    value = str(LIMITS[file]).format(disk=cgroups.read(disk) if disk else "")
    if cgroups.pure_v2():
        (directory,) = directories
        parts = directory.split("/")
        for count in range(len("/sys/fs/cgroup".split("/")), len(parts)):
            above = "/".join(parts[:count])
            cgroups.write(f"{above}/cgroup.subtree_control", "+" + file.split(".")[0])
    (path,) = [
        f"{directory}/{file}" for directory in directories if os.path.exists(f"{directory}/{file}")
    ]
    if file == "cpuset.cpus":  # a cpuset is not wider than what is above it
        for inner in sorted(glob.glob(f"{os.path.dirname(path)}/**/{file}"), reverse=True):
            cgroups.write(inner, value)
    cgroups.write(path, value)
    return path


@pytest.mark.parametrize("file", LIMITS)
def test_each_limit_holds_it(scene, pod, file):
    """The line names the limit and what to say; nothing is moved, not in one hierarchy."""
    path = limit(pod.directories, file)
    text = pod.create(f"{scene.cgroup}/elsewhere").refused()
    assert os.path.dirname(path) in text and file.split(".")[0] in text
    assert '"leaveParent": true' in text.replace("\\", "")  # runc quotes it
    assert pod.runtime.state("one") is None
    both = [("mover", "create"), ("other", "create")]
    assert pod.node.calls() == [*both, ("other", "delete"), ("mover", "delete")]
    last = pod.mover.call("delete")["payload"]["spec"]
    assert last["cgroupsPath"] == f"{pod.path}/middle/start"
    assert last["cgroups"] == pod.mover.call("create")["membership"]
    assert scene.left_cgroups() == []
    assert pod.node.left() == []


def test_leave_parent_lets_it_go(scene, pod):
    limit(pod.directories, FILE)
    target = f"{scene.cgroup}/elsewhere"
    pod.create(target, leaveParent=True).check()
    assert pod.places() == {target}


@pytest.mark.hostonly
def test_leave_parent_of_another_plugin_does_not(scene, pod):
    """It belongs to the plugin whose answer won, not to the chain."""
    limit(pod.directories, FILE)
    assert "leaveParent" in pod.create(f"{scene.cgroup}/elsewhere", leaveParent=False).refused()


@pytest.mark.hostonly
def test_a_parent_in_between_counts(scene, pod):
    path = limit(pod.middle, FILE)
    assert path in pod.create(f"{pod.path}/elsewhere").refused()


def test_a_common_parent_does_not_count(scene, pod):
    limit(pod.directories, FILE)
    pod.create(f"{pod.path}/elsewhere").check()
    assert pod.places() == {f"{pod.path}/elsewhere"}


@pytest.mark.hostonly
def test_a_parent_without_a_limit_does_not_count(scene, pod):
    pod.create(f"{scene.cgroup}/elsewhere").check()
    assert pod.places() == {f"{scene.cgroup}/elsewhere"}


@pytest.mark.hostonly
def test_a_limited_parent_may_be_entered(scene, pod):
    limit(scene.parent(f"{scene.cgroup}/strict"), FILE)
    pod.create(f"{scene.cgroup}/strict/one").check()
    assert pod.places() == {f"{scene.cgroup}/strict/one"}


def test_the_container_s_own_limit_does_not_count(scene, pod):
    pod.bundle.resources["memory"] = {"limit": 64 * MIB}
    pod.bundle.resources["pids"] = {"limit": 50}
    pod.bundle.save()
    pod.create(f"{scene.cgroup}/elsewhere").check()
    assert pod.places() == {f"{scene.cgroup}/elsewhere"}


@pytest.mark.hostonly
def test_a_wide_cpuset_does_not_count(scene, pod):
    """A cpuset of v1 is never empty; as wide as the common parent's it is no limit."""
    paths = [f"{directory}/cpuset.cpus" for directory in pod.directories]
    if not any(os.path.exists(path) and cgroups.read(path) for path in paths):
        pytest.skip("no cpuset here")
    pod.create(f"{scene.cgroup}/elsewhere").check()
    assert pod.places() == {f"{scene.cgroup}/elsewhere"}


@pytest.mark.hostonly
def test_a_limit_of_another_controller_holds_it(scene, node):
    """On v2 without controllers there is hugetlb; any *.max of its bounds."""
    runtime = scene.runtime("runc-v2")
    pod = Pod(scene, node, runtime)
    (mount,) = runtime.hierarchies().values()
    for above in (mount, f"{mount}{scene.cgroup}"):
        cgroups.write(f"{above}/cgroup.subtree_control", "+hugetlb")
    path = f"{pod.path}/hugetlb.2MB.max"
    cgroups.write(f"{mount}{path}", 4 * MIB)
    assert f"{path}: the move leaves" in pod.create(f"{scene.cgroup}/elsewhere").refused()
