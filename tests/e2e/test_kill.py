"""SIGKILL of the hook between any two of its system calls: what follows cleans up.

strace kills the hook as it enters a system call, which is then not carried out. So a kill at every
call that has an effect, and at the exit, meets every state that a hook can leave. By default only
a part of the calls is tried, so that the tests end in time; NRI_TEST_KILL=all tries each.
"""

import concurrent.futures
import os
import re
import shutil
import subprocess
import time

import pytest
from support import cgroups

from nri_hook.hook import record


def strace_works():
    if not shutil.which("strace"):
        return False
    return subprocess.run(["strace", "-D", "-o", "/dev/null", "true"]).returncode == 0


pytestmark = pytest.mark.skipif(not strace_works(), reason="needs strace")

# All pass in the guests too, which have no time for them.
hostonly = pytest.mark.hostonly
ALL = os.environ.get("NRI_TEST_KILL") == "all"
# Of the calls by one name only every so many is tried, but the first and the last always.
STRIDE = 1 if ALL else 15
SAMPLE = 12 if ALL else 2
WORKERS = 2
SECONDS = 3

EFFECTS = set(
    "mkdir chmod fchmod chown fchown lchown fchownat setxattr write rename unlink rmdir flock"
    " clone clone3 vfork bpf open_tree umount2 move_mount mount mount_setattr setns kill"
    " exit_group".split()
)
# The number of these calls is the same in every run, which cannot be said of reads and waits.
STEADY = {"openat", "openat2", "close", "newfstatat", "getdents64", "lseek", "ioctl"}

CHAIN = ("first", "second")
# Cheaper than the programmable plugin, for it is called very often. Each container has a parent of
# its own, which is ours to make and to remove.
PLUGIN = """\
#!/bin/sh
payload=$(cat)
id=${payload#*'"id":"'} state=${payload#*'"state":"'}
id=${id%%'"'*} state=${state%%'"'*}
echo "TYPE $state" >>"NOTES/$id"
case $state in
create) echo "{\\"cgroupsPath\\": \\"TARGET\\"}" ;;
*) echo "{}" ;;
esac
"""


class Trap:
    """The hook of one stage of a bundle, to be run under strace.

    strace -D makes the tracer the grandchild: the hook stays the runtime's own child, by which it
    knows the runtime.
    """

    def __init__(self, bundle, stage):
        (hook,) = bundle.config["hooks"][stage]
        self.launcher = hook["path"]
        self.script = f"{bundle.directory}/strace-{stage}"
        self.trace = f"{bundle.directory}/{stage}.trace"
        hook["path"] = self.script
        bundle.save()
        self.disarm()

    def arm(self, *flags):
        self._write(["strace", "-D", "-s", "80", "-o", self.trace, *flags, self.launcher])

    def kill_at(self, point, *flags):
        name, number = point[:2]
        self.arm("-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={number}", *flags)

    def disarm(self):
        self._write([self.launcher])

    def calls(self):
        """(name, which of its name, line) of each system call, in order."""
        numbers, found = {}, []
        for line in self.lines():
            name = re.match(r"(\w+)\(", line)
            if name:
                numbers[name[1]] = numbers.get(name[1], 0) + 1
                found.append((name[1], numbers[name[1]], line))
        return found

    def lines(self):
        with open(self.trace, errors="replace") as file:
            return file.read().splitlines()

    def has_killed(self):
        """strace says so last, and nobody waits for strace."""
        deadline = time.monotonic() + SECONDS
        while self.lines()[-1:] != ["+++ killed by SIGKILL +++"]:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _write(self, words):
        with open(self.script, "w") as file:
            file.write(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n')
        os.chmod(self.script, 0o755)


def has_effect(call):
    name, _, line = call
    failed = re.search(r"\) += -1 ", line)
    return not failed and (name in EFFECTS or (name == "openat" and "O_CREAT" in line))


def points(calls, begin=None):
    """Where to kill: at the calls with an effect, and at some of the others, behind `begin`."""
    calls = calls[calls.index(begin) + 1 if begin else 0 :]
    effects = [call for call in calls if has_effect(call)]
    chosen = {}
    for call in effects:
        chosen.setdefault(call[0], []).append(call)
    found = []
    for same in chosen.values():
        found += same[:-1:STRIDE] + same[-1:]
    calls = calls[calls.index(effects[0]) :]
    others = [call for call in calls if call[0] in STEADY and call not in found]
    found += others[:: len(others) // SAMPLE + 1]
    # What is left unsaid is found at once: a trace that ends early has no exit.
    assert calls[-1][0] == "exit_group", calls[-3:]
    return sorted(found, key=calls.index)


class Range:
    """What the containers of one test have in common: node, chain, runtime, the rootfs.

    systemd: whether that manages their cgroups.
    """

    def __init__(self, scene, node, runtime, systemd=False):
        self.scene, self.node, self.runtime, self.systemd = scene, node, runtime, systemd
        self.notes = f"{node.directory}/notes"
        os.mkdir(self.notes)
        text = PLUGIN.replace("NOTES", self.notes).replace("TARGET", self.place("new", "$id"))
        for type in CHAIN:
            node.executable(type, text.replace("TYPE", type))
        node.configure(*CHAIN)
        # No hint can be kept: what holds off the grace period makes calls by the clock.
        os.makedirs(node.state_dir, 0o700)
        os.symlink("missing", f"{node.state_dir}/{record.MOVING}")
        if systemd:
            words = [*runtime.command(), "--systemd-cgroup"]
            runtime.command = lambda: words

    def place(self, which, id):
        """The cgroupsPath of a container, "old" or "new"."""
        if self.systemd:
            return f"system.slice:{self.scene.name}-{which}:{id}"
        return f"{self.scene.cgroup}-{id}-{which}" + ("/target" if which == "new" else "")

    def tops(self, id):
        """The paths of the cgroups that are there for a container alone."""
        names = (f"{self.scene.name}-{which}-{id}.scope" for which in ("old", "new"))
        if self.systemd:
            return [f"/system.slice/{name}" for name in names]
        return [f"{self.scene.cgroup}-{id}-{which}" for which in ("old", "new")]

    def container(self, id, stage):
        return Target(self, id, stage)

    def each(self, targets, attempt):
        """Run `attempt` on all targets, some at a time; fail with all that was wrong."""
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            found = [problem for problems in pool.map(attempt, targets) for problem in problems]
        assert not found, f"{len(found)} problems\n" + "\n".join(found)


class Target:
    """A container whose hook of one stage is to be killed at `point`."""

    def __init__(self, range, id, stage, point=None):
        self.range, self.id, self.point = range, id, point
        self.scene, self.node, self.runtime = range.scene, range.node, range.runtime

        def edit(config):
            # So that what it sees at /sys/fs/cgroup is its own cgroup, and is turned to the new.
            namespaces = config["linux"]["namespaces"]
            if {"type": "cgroup"} not in namespaces:
                namespaces.append({"type": "cgroup"})

        bundles = self.scene.bundles
        rootfs = bundles[0].rootfs if bundles else None
        place = range.place("old", id)
        self.bundle = self.scene.bundle(edit=edit, rootfs=rootfs, cgroups_path=place)
        self.runtime.install(self.node, self.bundle)
        self.trap = Trap(self.bundle, stage)

    def create(self):
        return self.runtime.create(self.id, self.bundle)

    def delete(self):
        return self.runtime.delete(self.id)

    def is_moved(self):
        now = cgroups.membership(self.runtime.pid(self.id))
        target = self.range.tops(self.id)[1] + "/"
        return all(f"{now[name]}/".startswith(target) for name in self.runtime.hierarchies())

    def files(self):
        """The files of its record."""
        return [name for name in self.node.left() if name.startswith(f"{self.id}-")]

    def cgroups(self):
        """The directories of its cgroups, old, new and the new one's parent."""
        return [
            directory for path in self.range.tops(self.id) for directory in cgroups.places(path)
        ]

    def units(self):
        """What systemd and crun, with its pinned device programs, know of its scopes."""
        if not self.range.systemd:
            return []
        names = [os.path.basename(path) for path in self.range.tops(self.id)]
        command = ["systemctl", "list-units", "--all", "--plain", "--no-legend", *names]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        pins = {name.replace(".", "_") for name in names}
        found = [
            f"{top}/{n}" for top, _, inner in os.walk("/sys/fs/bpf") for n in inner if n in pins
        ]
        return done.stdout.splitlines() + found

    def left(self):
        """What there is of it anywhere."""
        found = self.files() + self.cgroups() + self.units()
        directory = f"{self.runtime.root}/{self.id}"
        found += [directory] if os.path.exists(directory) else []
        return [f"left: {name}" for name in found]

    def calls(self):
        """(type, state) of what the plugins were called with."""
        try:
            with open(f"{self.range.notes}/{self.id}") as file:
                return [tuple(line.split()) for line in file]
        except FileNotFoundError:
            return []

    def judge(self, *expectations):
        """The problems that are left when time has run out, each with where it was killed."""
        deadline = time.monotonic() + SECONDS
        while True:
            problems = [problem for expect in expectations for problem in expect()]
            if not problems or time.monotonic() > deadline:
                name, number, line = self.point
                return [f"{self.id}: killed at {name} #{number} {line}: {p}" for p in problems]
            time.sleep(0.05)

    def recreate(self):
        """Create it again, without a trap, and delete it; the problems."""
        self.trap.disarm()
        done = self.create()
        if done.status != 0:
            return [f"the next create: {done}"]
        problems = [] if self.is_moved() else ["the next create did not move it"]
        done = self.delete()
        return problems + ([f"the next delete: {done}"] if done.status != 0 else [])


def was_ended(calls, both):
    """What is wrong with the calls of one container's chain that was cut off: `delete` goes, in
    reverse, to all that were called, and perhaps to the one that was just about to be.

    both: whether the whole chain had been called. The first round of deletes may itself have been
    cut off; then all are sent again.
    """
    called = [type for type, state in calls if state == "create"]
    deleted = [type for type, state in calls if state == "delete"]
    if called != list(CHAIN[: len(called)]) or (both and len(called) < len(CHAIN)):
        return [f"the calls {calls}"]
    for count in {len(called), min(len(called) + 1, len(CHAIN))}:
        whole = list(reversed(CHAIN[:count]))
        if deleted == whole or (
            deleted[-count:] == whole and deleted[:-count] == whole[: len(deleted) - count]
        ):
            return []
    return [f"the calls {calls}"]


WHOLE = [(type, "create") for type in CHAIN] + [(type, "delete") for type in reversed(CHAIN)]


def survey(range, stage, *flags):
    """The system calls of a hook of this stage that is not killed; its target."""
    target = range.container("survey", stage)
    target.trap.arm(*flags)
    done = target.create()
    if not flags:
        done.check()
        # The hook knew its runtime, so strace did not come between.
        assert target.node.record()["runtimeRoot"] == range.runtime.root
        assert target.is_moved()
        range.runtime.start(target.id).check()
    range.runtime.delete(target.id)
    assert target.left() == []
    return target.trap.calls()


def targets(range, stage, where):
    found = []
    for number, point in enumerate(where):
        target = range.container(f"c{number:03}", stage)
        target.point = point
        found.append(target)
    return found


def end_of_killed_create(target, done):
    """What is wrong after a create whose hook was killed. runc calls poststop by itself, crun
    does not; the next create of the same id finds all in order under both."""
    problems = [] if done.status != 0 else [f"create went well: {done}"]
    if not target.trap.has_killed():
        problems.append("the hook was not killed")
    if target.runtime.binary == "runc":
        return problems + target.judge(target.left, lambda: was_ended(target.calls(), both=False))
    problems += target.recreate()
    return target.judge(
        lambda: problems,
        target.left,
        lambda: [] if target.calls()[-4:] == WHOLE else [f"the calls {target.calls()}"],
        lambda: was_ended(target.calls()[:-4], both=False),
    )


@hostonly
def test_a_killed_create(scene, node, oci):
    range = Range(scene, node, oci)
    calls = survey(range, "createRuntime")

    def attempt(target):
        target.trap.kill_at(target.point)
        return end_of_killed_create(target, target.create())

    range.each(targets(range, "createRuntime", points(calls)), attempt)


@pytest.mark.guest
def test_a_killed_create_under_systemd(scene, node, oci):
    range = Range(scene, node, oci, systemd=True)
    calls = survey(range, "createRuntime")
    where = points(calls) if ALL else calls[-1:]

    def attempt(target):
        target.trap.kill_at(target.point)
        return end_of_killed_create(target, target.create())

    range.each(targets(range, "createRuntime", where), attempt)


@hostonly
def test_a_killed_undo(scene, node, oci):
    """The move fails at its very end, where the container's view is turned."""
    range = Range(scene, node, oci)
    calls = survey(range, "createRuntime")
    name, number, _ = next(call for call in calls if call[0] == "setns")
    fails = ("-e", f"inject={name}:error=EPERM:when={number}")
    calls = survey_undo(range, fails)
    (failed,) = (call for call in calls if call[:2] == (name, number))

    def attempt(target):
        words = ("-e", f"trace={name},{target.point[0]}", *fails)
        target.trap.kill_at(target.point, *words)
        return end_of_killed_create(target, target.create())

    chosen = points(calls, failed)
    assert {"write", "rmdir", "unlink", "exit_group"} <= {point[0] for point in chosen}
    range.each(targets(range, "createRuntime", chosen), attempt)


def survey_undo(range, fails):
    target = range.container("undo", "createRuntime")
    target.trap.arm(*fails)
    text = target.create().refused()
    if range.runtime.binary == "runc":
        assert "undone: the move, delete sent to second, first" in text
    assert target.left() == []
    assert target.calls() == WHOLE
    return target.trap.calls()


@hostonly
def test_a_killed_delete(scene, node, oci):
    range = Range(scene, node, oci)
    calls = survey(range, "poststop")

    def attempt(target):
        target.create().check()
        target.trap.kill_at(target.point)
        target.delete()
        state = {"ociVersion": "1.0.2", "id": target.id, "status": "stopped"}
        problems = [] if target.trap.has_killed() else ["the hook was not killed"]
        state["bundle"] = target.bundle.directory
        second = node.hook("poststop", state, prefix=oci.prefix)
        if second.status != 0 or second.text:
            problems.append(f"the second poststop: {second}")
        problems += [f"the second poststop left {name}" for name in target.cgroups()]
        # It does not know the runtime's root: of a record that is gone it finds no empty lock.
        problems += [
            f"the second poststop left {name}" for name in target.files() if name.endswith(".json")
        ]
        problems += was_ended(target.calls(), both=True) + target.recreate()
        return target.judge(lambda: problems, target.left)

    range.each(targets(range, "poststop", points(calls)), attempt)


@hostonly
def test_a_killed_adoption(scene, node, oci):
    range = Range(scene, node, oci)
    calls = survey(range, "poststart")

    def attempt(target):
        target.trap.kill_at(target.point)
        done = target.create()
        if oci.status(target.id) == "created":
            done = oci.start(target.id)
        problems = []
        if not target.trap.has_killed():
            problems.append(f"{target.id}: the hook was not killed at {target.point}")
        if done.status == 0:
            # The older crun goes on. Adopted or not, the container is where it was moved to.
            if not target.is_moved() or oci.status(target.id) != "running":
                problems.append(f"after the start: {oci.state(target.id)}")
            target.delete()
        return problems + target.judge(target.left, lambda: was_ended(target.calls(), both=True))

    range.each(targets(range, "poststart", points(calls)), attempt)


@hostonly
def test_a_view_that_cannot_be_turned(scene, node, oci):
    """The hook comes back from the container's mount namespace and undoes the move; even where it
    cannot come back, for what it has to undo is there too."""
    range = Range(scene, node, oci)
    # Before it joins the namespace it has looked at what is there.
    opens = [call for call in survey(range, "createRuntime") if call[0] == "openat2"]
    where = [(name, 1, "which fails") for name in ("setns", "umount2", "move_mount", "mount")]
    where += [("setns", 2, "which fails"), opens[-1]]

    def attempt(target):
        name, number, _ = target.point
        flags = ["-e", f"trace={name},setns"]
        target.trap.arm(*flags, "-e", f"inject={name}:error=EPERM:when={number}")
        text = target.create().refused()
        calls = target.trap.calls()
        problems = [] if any("(INJECTED)" in line for _, _, line in calls) else ["nothing failed"]
        entered = [line for kind, _, line in calls if kind == "setns"]
        if len(entered) != (1 if target.point[:2] == ("setns", 1) else 2):
            problems.append(f"the namespaces that it joined: {entered}")
        if oci.binary == "runc" and "the container's view cannot be turned" not in text:
            problems.append(text)
        if target.calls() != WHOLE:
            problems.append(f"the calls {target.calls()}")
        return problems + target.judge(target.left)

    range.each(targets(range, "createRuntime", where), attempt)


# System call that an older kernel lacks -> whether the container is moved all the same.
OLDER = {"openat2": False, "statx": False, "mount_setattr": True}


@hostonly
@pytest.mark.parametrize("name", OLDER)
def test_an_older_kernel(scene, node, oci, name):
    target = Range(scene, node, oci).container("one", "createRuntime")
    target.trap.arm("-e", f"trace={name}", "-e", f"inject={name}:error=ENOSYS")
    target.create().check()
    assert any("(INJECTED)" in line for _, _, line in target.trap.calls())
    assert target.is_moved() is OLDER[name]
    if not OLDER[name]:
        document = node.record()
        reason = "its mounts cannot be told apart: Linux 5.8 or later is needed"
        assert (document["outcome"], document["reason"]) == ("left", reason)
    target.delete().check()
    assert target.left() == []


@hostonly
def test_a_root_filesystem_that_cannot_be_opened(scene, node, oci):
    target = Range(scene, node, oci).container("one", "createRuntime")
    target.trap.arm("-e", "trace=openat2,setns", "-e", "inject=openat2:error=EPERM:when=1")
    text = target.create().refused()
    if oci.binary == "runc":
        assert f"{target.bundle.rootfs}: cannot be opened in the container" in text
    assert [name for name, _, _ in target.trap.calls()] == ["openat2"]
    assert target.calls() == WHOLE
    assert target.left() == []
