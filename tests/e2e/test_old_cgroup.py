"""The cgroup that a container was moved out of stays, empty, until the container is deleted: it is
the root of its cgroup namespace, engines look for the container there, and it may go back to it."""

import os
import subprocess
import sys

import pytest
from support import cgroups, runtimes
from support.bundle import LOOP
from support.commands import read
from support.node import command
from support.terminal import on_terminal
from support.tree import TOP
from support.waiting import is_alive, wait_until
from test_adopt import Moved, of_host, plain
from test_move import limited

hostonly = pytest.mark.hostonly


def old_directories(moved):
    """The directories of the cgroup that the container was created in."""
    mounts = moved.runtime.hierarchies().values()
    return [mount + moved.bundle.cgroups_path for mount in mounts]


def processes(directories):
    return [
        pid
        for directory in directories
        for pid in cgroups.read(f"{directory}/cgroup.procs").split()
    ]


# It stays


@pytest.mark.parametrize("edit", [pytest.param(plain, marks=hostonly), of_host])
def test_the_path_of_the_config_is_there_until_delete(scene, node, oci, edit):
    """Engines look there: CRI-O for statistics, and to write to it before the start."""

    def with_limits(config):
        edit(config)
        limited(oci)(config)

    moved = Moved(scene, node, oci, edit=with_limits)
    oci.create("one", moved.bundle).check()
    directories = old_directories(moved)
    before = {directory: texts(directory) for directory in directories}
    oci.start("one").check()
    assert node.record()["outcome"] == "adopted"
    assert {directory: texts(directory) for directory in directories} == before
    assert processes(directories) == []
    moved.assert_ends()


def texts(directory):
    """What a cgroup allows its processes."""
    names = ("pids.max", "memory.max", "memory.limit_in_bytes", "cpu.shares", "devices.list")
    return {
        n: cgroups.read(f"{directory}/{n}") for n in names if os.path.exists(f"{directory}/{n}")
    }


def private(config):
    """An edit: a cgroup namespace of its own."""
    plain(config)
    config["linux"]["namespaces"].append({"type": "cgroup"})


def test_another_container_joins_its_cgroup_namespace(scene, node, oci):
    """As --cgroupns=container:ID has it; what it mounts there shows the old cgroup."""
    moved = Moved(scene, node, oci, edit=private)
    moved.start()

    def joining(config):
        config["process"]["args"] = ["sh", "-c", "cat /proc/self/mountinfo"]
        namespaces = [n for n in config["linux"]["namespaces"] if n["type"] != "cgroup"]
        path = f"/proc/{moved.pid()}/ns/cgroup"
        config["linux"]["namespaces"] = [*namespaces, {"type": "cgroup", "path": path}]

    oci.run("two", scene.bundle(edit=joining)).check()
    oci.wait("two")
    assert " - cgroup" in oci.output("two")
    oci.delete("two").check()
    moved.assert_ends()


def test_cgroup2_mounted_in_its_cgroup_namespace(scene, node, oci):
    moved = Moved(scene, node, oci, edit=private)
    moved.start()
    look = "mount -t cgroup2 none /mnt && ls -d /mnt/cgroup.procs"
    if oci.version == 1:
        look = "mount -t cgroup -o pids none /mnt && ls -d /mnt/cgroup.procs"
    words = ["nsenter", f"--cgroup=/proc/{moved.pid()}/ns/cgroup", "unshare", "-m"]
    done = subprocess.run([*words, "sh", "-c", look], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "/mnt/cgroup.procs\n"), done.stderr
    moved.assert_ends()


@pytest.mark.guest
def test_podman_joins_its_cgroup_namespace(scene, node):
    podman = scene.runtime("podman")
    mover = node.plugin("mover")
    mover.play({"create": {"result": {"cgroupsPath": f"{scene.cgroup}/target/{{id}}"}}})
    node.configure(mover)
    bundle = scene.bundle()
    podman.install(node, bundle)
    podman.run("one", bundle).check()
    assert node.record()["outcome"] == "adopted"
    flags = podman._flags
    podman._flags = lambda id, bundle: ["--cgroupns", "container:one", *flags(id, bundle)]
    podman.hooks_dir = f"{podman.directory}/no-hooks"
    words = ("cat", "/proc/self/mountinfo")
    podman.run("two", scene.bundle(words), detach=False).check()
    assert " - cgroup2" in podman.output("two")
    podman.delete("two").check()
    podman.hooks_dir = node.hooks_dir
    podman.delete("one").check()
    assert scene.left_cgroups() == []
    assert node.left() == []


def test_podman_removes_a_pod_with_a_moved_member(scene, node):
    """The pod's cgroup holds the cgroup that its member was moved out of."""
    if runtimes.ALL["podman"].lacks():
        pytest.skip(runtimes.ALL["podman"].lacks())
    podman = scene.runtime("podman")
    mover = node.plugin("mover")
    mover.play({"create": {"result": {"cgroupsPath": f"{scene.cgroup}/target/{{id}}"}}})
    node.configure({"type": "mover", "leaveParent": True})
    bundle = scene.bundle()
    podman.install(node, bundle)
    parent = bundle.cgroups_path
    podman.parents.add(parent)
    podman.call("pod", "create", "--infra=false", "--cgroup-parent", parent, "--name", "p").check()
    words = ["run", "-d", "--pod", "p", "--name", "one", "--network", "none", *LIMITS]
    podman.call(*words, "--rootfs", bundle.rootfs, *LOOP).check()
    pid = podman.pid("one")
    (record,) = node.records().values()
    assert record["outcome"] == "adopted"
    assert any("/target/" in path for path in cgroups.membership(pid).values())
    podman.call("pod", "rm", "--force", "--time", "0", "p").check()
    assert not is_alive(pid)
    assert node.left() == []
    assert scene.left_cgroups() == []


LIMITS = ("--log-driver", "k8s-file", *runtimes.PODMAN_LIMITS)


# What else may be in it


class Stranger:
    """A process of somebody else in these cgroups."""

    def __init__(self, directories):
        self.process = subprocess.Popen(["sleep", "60"])
        try:
            for directory in directories:
                cgroups.write(f"{directory}/cgroup.procs", self.process.pid)
        except OSError:
            self.end()
            raise

    def lives(self):
        return self.process.poll() is None

    def end(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def stranger():
    """Puts a Stranger into cgroups."""
    made = []

    def put(directories):
        made.append(Stranger(directories))
        return made[-1]

    yield put
    for one in made:
        one.end()


def test_what_outlives_init_in_it_is_killed(scene, node, oci, stranger):
    """As the runtime does with what is in a container's cgroup, if the pid namespace is shared."""
    moved = Moved(scene, node, oci, edit=of_host)
    moved.start()
    inside = stranger(old_directories(moved))
    moved.assert_deleted()
    wait_until(lambda: not inside.lives())


@pytest.mark.parametrize("where", ["in it", "below it"])
def test_what_is_not_the_container_s_stays(scene, node, oci, stranger, where):
    """Its own processes have ended with init; in a cgroup below they have never been. The record
    stays until it can be finished, and the doctor says why."""
    moved = Moved(scene, node, oci, edit=plain if where == "in it" else of_host)
    moved.start()
    directories = old_directories(moved)
    if where == "below it":
        directories = cgroups.make(f"{moved.bundle.cgroups_path}/inner", oci.hierarchies())
    other = stranger(directories)
    oci.delete("one").check()
    assert other.lives()
    assert set(processes(directories)) == {str(other.process.pid)}
    (name,) = node.records()

    said = nri_hook(oci, "doctor", "--state-dir", node.state_dir).out
    assert f"{name[:-5]}: " in said and f"in use: process {other.process.pid} is in " in said
    done = nri_hook(oci, "gc", "--state-dir", node.state_dir)
    assert done.status == 1 and f"cannot be removed: process {other.process.pid} is in" in done.err
    assert other.lives()
    other.end()
    nri_hook(oci, "gc", "--state-dir", node.state_dir).check()
    assert scene.left_cgroups() == []
    assert node.left() == []


def nri_hook(runtime, *words):
    """A command where the runtime's cgroups are seen as the hook has seen them."""
    return command(*words, prefix=runtime.prefix)


def test_what_was_made_anew_at_its_path_is_not_ours(scene, node, oci, stranger):
    moved = Moved(scene, node, oci, edit=of_host)
    moved.start()
    for directory in old_directories(moved):
        os.rmdir(directory)
    directories = scene.parent(moved.bundle.cgroups_path, oci.hierarchies())
    other = stranger(directories)
    oci.delete("one").check()
    assert other.lives()
    assert node.left() == []


def test_it_is_no_place_for_another_container(scene, node, oci):
    """Which would be killed with the one that has left it, and have its limits."""
    moved = Moved(scene, node, oci)
    moved.start()
    moved.plugin.play({"create": {"result": {"cgroupsPath": moved.bundle.cgroups_path}}})
    bundle = scene.bundle()
    oci.install(node, bundle)
    done = oci.create("two", bundle)
    oci.delete("two")
    assert done.status != 0
    if oci.binary == "runc":  # crun does not show what a hook says
        assert "is taken by the container of record one-" in done.text
    assert node.calls("two") == [("mover", "create"), ("mover", "delete")]
    assert oci.status("one") == "running"
    oci.delete("one").check()
    assert scene.left_cgroups() == []


def test_the_next_container_is_created_in_it(scene, node, oci):
    """The poststop of the former one never came, and the runtime does not care."""
    moved = Moved(scene, node, oci, edit=of_host)
    moved.bundle.config["hooks"].pop("poststop")
    moved.bundle.save()
    for _ in range(2):
        moved.start()
        pid = moved.pid()
        oci.delete("one").check()
        wait_until(lambda pid=pid: not is_alive(pid))
    moved.start()
    states = [state for _, state in node.calls()]
    assert states == ["create", "delete", "create", "delete", "create"]
    oci.delete("one").check()
    nri_hook(oci, "gc", "--state-dir", node.state_dir).check()
    assert scene.left_cgroups() == []
    assert node.left() == []


def test_gc_removes_it_where_the_record_is_lost(scene, node, oci):
    """Not before the container has ended."""
    moved = Moved(scene, node, oci)
    moved.start()
    directories = old_directories(moved)
    for name in node.left():
        os.unlink(f"{node.state_dir}/{name}")
    nri_hook(oci, "gc", "--state-dir", node.state_dir).check()
    assert all(map(os.path.isdir, directories))
    oci.delete("one").check()
    said = nri_hook(oci, "gc", "--state-dir", node.state_dir).check().out
    assert said.count("an empty cgroup made by nri-hook that no record names") >= len(directories)
    assert scene.left_cgroups() == []


# Init goes back before the runtime is told


def before_poststart(moved, script):
    """Have a script run before our poststart hook, where the test's own mounts are to be seen;
    $pid is init's."""
    (hook,) = moved.bundle.config["hooks"]["poststart"]
    path, state = f"{moved.bundle.directory}/poststart", f"{moved.bundle.directory}/poststart.state"
    with open(path, "w") as file:
        file.write(
            f"#!/bin/sh\ncat >{state}\n"
            f"export pid=$(grep -o '\"pid\": *[0-9]*' {state} | grep -o '[0-9]*')\n"
            f"nsenter --mount=/proc/{os.getpid()}/ns/mnt sh -ec '{script}'\n"
            f'exec {hook["path"]} "$@" <{state} 2>{moved.bundle.directory}/said\n'
        )
    os.chmod(path, 0o755)
    hook["path"] = path
    moved.bundle.save()


def begin(moved):
    """Create and start it."""
    moved.runtime.create(moved.id, moved.bundle).check()
    moved.runtime.start(moved.id).check()


def assert_left(moved, place, seen):
    """It is at `place`, its runtime's record names the cgroup that it was created in, which is at
    `seen` for what is executed in it, and we say that it was left."""
    runtime, node, id = moved.runtime, moved.node, moved.id
    pid = moved.pid()
    now = cgroups.membership(pid)
    assert {now[name] for name in runtime.hierarchies()} == {place}
    reason = f"its process has left its new cgroup for {place} ("
    record = node.record()
    assert (record["outcome"], record["cgroupsPath"]) == ("left", moved.bundle.cgroups_path)
    assert reason in record["reason"] and record["cgroups"] == now
    assert read(f"{moved.bundle.directory}/said").count(f"left where it is: {reason}") == 1
    assert node.log()[-1]["outcome"] == "left" and reason in node.log()[-1]["notes"][0]
    status = ["status", "--state-dir", node.state_dir]
    assert reason in nri_hook(runtime, *status, id).check().out
    argv = [sys.executable, "-m", "nri_hook", *status]
    shown = on_terminal([*runtime.prefix, *argv], columns=200, PYTHONPATH=TOP).check().out
    assert "(has left its new cgroup)" in shown and "DRIFTED" not in shown
    assert moved.target not in read(moved.record())
    lines = runtime.exec(id, "cat", "/proc/self/cgroup").check().out.splitlines()
    found = dict(line.split(":", 2)[1:] for line in lines)
    assert {found[name] for name in runtime.hierarchies()} == {seen}
    again = nri_hook(runtime, "gc", "--state-dir", node.state_dir).check()
    assert again.text == ""


@pytest.mark.parametrize("where", ["back", "elsewhere"])
def test_init_is_moved_away_before_it_is_adopted(scene, node, oci, where):
    moved = Moved(scene, node, oci, edit=plain)
    place = moved.bundle.cgroups_path
    if where == "elsewhere":
        place = f"{scene.cgroup}-elsewhere"
        scene.parent(place, oci.hierarchies())
    directories = [mount + place for mount in oci.hierarchies().values()]
    before_poststart(
        moved, "\n".join(f"echo $pid >{directory}/cgroup.procs" for directory in directories)
    )
    begin(moved)
    assert_left(moved, place, moved.bundle.cgroups_path)
    moved.assert_deleted()


def test_init_is_below_its_new_cgroup(scene, node, oci):
    """As where systemd is what runs in the container."""
    moved = Moved(scene, node, oci, edit=plain)
    mounts = oci.hierarchies()
    name = cgroups.V2 if oci.version == 2 else "pids"
    inner = f"{mounts[name]}{moved.target}/inner"
    before_poststart(moved, f"mkdir {inner}; echo $pid >{inner}/cgroup.procs")
    begin(moved)
    assert cgroups.membership(moved.pid())[name] == f"{moved.target}/inner"
    assert node.record()["outcome"] == "adopted"
    moved.assert_deleted()


@pytest.mark.guest
def test_init_is_beside_what_was_delegated(scene, node):
    """Inside its new cgroup all the same; crun's record does not name what is delegated."""

    def edit(config):
        plain(config)
        config["annotations"] = {"run.oci.delegate-cgroup": "inner"}

    moved = Moved(scene, node, scene.runtime("crun"), edit=edit)
    beside = f"/sys/fs/cgroup{moved.target}/beside"
    before_poststart(moved, f"mkdir {beside}; echo $pid >{beside}/cgroup.procs")
    begin(moved)
    assert cgroups.membership(moved.pid())[cgroups.V2] == f"{moved.target}/beside"
    assert node.record()["outcome"] == "adopted"
    moved.assert_deleted()


def test_gc_does_not_adopt_what_has_gone_elsewhere(scene, node, oci):
    moved = Moved(scene, node, oci, edit=plain)
    moved.bundle.config["hooks"].pop("poststart")
    moved.bundle.save()
    begin(moved)
    for directory in old_directories(moved):
        cgroups.write(f"{directory}/cgroup.procs", moved.pid())
    done = nri_hook(oci, "gc", "--state-dir", node.state_dir).check()
    assert "left where it is: its process has left its new cgroup" in done.err
    assert node.record()["outcome"] == node.log()[-1]["outcome"] == "left"
    assert nri_hook(oci, "gc", "--state-dir", node.state_dir).check().text == ""
    assert moved.target not in read(moved.record())
    moved.assert_deleted()


GO_BACK = """
for c in CONTROLLERS; do
  busybox mkdir /tmp/$c
  busybox mount -t cgroup -o $c none /tmp/$c && echo 1 >/tmp/$c/cgroup.procs
done
echo back >/tmp/back
trap 'exit 0' TERM; while :; do sleep 0.1; done
"""


@hostonly
def test_crun_s_init_goes_back_by_itself(scene, node):
    """crun calls poststart when the process runs already; this one may mount its old cgroups."""
    if "crun" not in runtimes.available() or cgroups.pure_v2():
        pytest.skip("needs crun on cgroup v1")
    crun = scene.runtime("crun")
    names = [n if "=" not in n else f"none,{n}" for n in crun.hierarchies()]

    def edit(config):
        config["process"]["args"] = ["sh", "-c", GO_BACK.replace("CONTROLLERS", " ".join(names))]
        for capabilities in config["process"]["capabilities"].values():
            capabilities.append("CAP_SYS_ADMIN")
        config["linux"]["namespaces"].append({"type": "cgroup"})

    moved = Moved(scene, node, crun, edit=edit)
    before_poststart(moved, f"until [ -e {moved.bundle.rootfs}/tmp/back ]; do sleep 0.05; done")
    begin(moved)
    assert_left(moved, moved.bundle.cgroups_path, "/")
    moved.assert_deleted()
