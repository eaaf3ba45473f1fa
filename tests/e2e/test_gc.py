"""`nri-hook gc`: what killed hooks and forgetful runtimes left is finished, adopted or killed, by
its record; what lives is left alone."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from support import cgroups, runtimes
from support.commands import read, run
from support.node import command
from support.tree import TOP
from support.waiting import is_alive, wait_until

# Init and a child that stays: that one does not end with init in a pid namespace of somebody else.
FAMILY = ("sh", "-c", "sleep 1000 & trap 'exit 0' TERM; while :; do sleep 0.1; done")
# What the cgroups are makes no difference to most of what follows.
BINARIES = [name for name in runtimes.binaries() if name != "runc-v2"]
SAYS = {
    "adopt": "moved, and its runtime was not told: adopting it",
    "finish": "its container is gone: delete for its plugins, and away with its cgroups",
    "kill": "its runtime has forgotten it and it still runs: killing it",
}
WHOLE = [("mover", "create"), ("mover", "delete")]


class Moved:
    """A container that a plugin sends to `target`.

    stages: the hooks that its bundle has, all by default. target: a cgroup of its own by default.
    """

    def __init__(self, scene, node, runtime, stages=None, id="one", target="", edit=None):
        self.scene, self.node, self.runtime, self.id = scene, node, runtime, id
        self.target = target or f"{scene.cgroup}/target/{id}"
        self.plugin = node.plugin("mover", {"create": {"result": {"cgroupsPath": self.target}}})
        node.configure(self.plugin)
        self.bundle = scene.bundle(FAMILY, edit)
        runtime.install(node, self.bundle)
        hooks = self.bundle.config["hooks"]
        self.bundle.config["hooks"] = {stage: hooks[stage] for stage in stages or hooks}
        self.bundle.save()
        self.pids = []
        self.record = ""

    def create(self):
        self.runtime.create(self.id, self.bundle).check()
        self.pids = [self.runtime.pid(self.id)]
        (name,) = [name for name in self.node.records() if name.startswith(f"{self.id}-")]
        self.record = name[: -len(".json")]
        self.assert_in_place()

    def start(self):
        """Create and start it, and wait for its child."""
        self.create()
        self.runtime.start(self.id).check()
        wait_until(lambda: "sleep\x001000\0" in "".join(map(command_line, self.processes())))
        self.pids += [pid for pid in self.processes() if command_line(pid) == "sleep\x001000\0"]
        assert len(self.pids) == 2

    def delete(self):
        """Delete it by force; the newer runc may refuse (see refuses())."""
        done = self.runtime.delete(self.id)
        assert done.status == 0 or refuses(self.runtime), done
        return done

    def processes(self):
        """The pids in its new cgroup."""
        mount = next(iter(self.runtime.hierarchies().values()))
        return [int(pid) for pid in read(f"{mount}{self.target}/cgroup.procs").split()]

    def alive(self):
        return [pid for pid in self.pids if is_alive(pid)]

    def gc(self, *flags):
        """What gc says that it did with the container, "" if nothing."""
        printed = gc(self.runtime, self.node, *flags).check()
        assert printed.err == ""
        if not printed.out:
            return ""
        assert printed.out.startswith(f"{self.record}: ")
        (word,) = [word for word, text in SAYS.items() if f": {text}\n" in printed.out]
        assert printed.out.count("\n") == 1
        return word

    def outcome(self):
        return self.node.records()[f"{self.record}.json"]["outcome"]

    def assert_in_place(self):
        now = cgroups.membership(self.pids[0])
        assert {now[name] for name in self.runtime.hierarchies()} == {self.target}

    def assert_ended(self):
        wait_until(lambda: not self.alive())

    def assert_gone(self):
        """Nothing of it is left anywhere."""
        self.assert_ended()
        assert self.scene.left_cgroups() == []
        assert self.node.left() == []
        assert not os.path.exists(f"{self.runtime.root}/{self.id}")
        assert self.node.calls() == WHOLE


@pytest.fixture(params=BINARIES)
def each(scene, request):
    """runc and crun."""
    return scene.runtime(request.param)


def gc(runtime, node, *flags):
    """`nri-hook gc` where the runtime's cgroups are seen as the hook has seen them."""
    argv = [sys.executable, "-m", "nri_hook", "gc", "--state-dir", node.state_dir, *flags]
    environment = {**os.environ, "PYTHONPATH": TOP}
    return run([*runtime.prefix, *argv], f"{runtime.directory}/gc", cwd="/", env=environment)


def refuses(runtime):
    """Whether it looks for the processes of a shared pid namespace in the container's cgroup
    alone: then `delete -f` of one that was moved and not adopted fails after ten seconds."""
    version = re.search(r"version (\d+)\.(\d+)", runtime.call("--version").check().out)
    return runtime.binary == "runc" and (int(version[1]), int(version[2])) >= (1, 2)


def command_line(pid):
    try:
        return read(f"/proc/{pid}/cmdline")
    except OSError:
        return ""


# A container in somebody else's pid namespace, moved; poststart, which would adopt it, never ran


def of_host(config):
    """An edit: the pid namespace of the host."""
    namespaces = config["linux"]["namespaces"]
    config["linux"]["namespaces"] = [n for n in namespaces if n["type"] != "pid"]


class Host:
    """The pid namespace of the host."""

    def __init__(self, scene, runtime):
        self.edit = of_host

    def end(self):
        pass


class Pod:
    """The pid namespace of another container, which is none of our business."""

    def __init__(self, scene, runtime):
        self.runtime = runtime
        runtime.create("pod", scene.bundle()).check()
        runtime.start("pod").check()
        self.pid = runtime.pid("pod")

    def edit(self, config):
        (namespace,) = [n for n in config["linux"]["namespaces"] if n["type"] == "pid"]
        namespace["path"] = f"/proc/{self.pid}/ns/pid"

    def end(self):
        assert is_alive(self.pid)
        self.runtime.delete("pod").check()


@pytest.fixture(params=[Host, Pod])
def shared(scene, each, request):
    """A pid namespace that the container shares."""
    return request.param(scene, each)


def test_delete_by_force(scene, node, each, shared):
    """The older runc kills init, crun perhaps nothing; both call poststop, which ends the rest.
    The newer runc fails and calls nothing: a second time, after gc, it does not."""
    moved = Moved(scene, node, each, ["createRuntime", "poststop"], edit=shared.edit)
    moved.start()
    if moved.delete().status:
        assert moved.alive() == moved.pids
        assert moved.gc() == "adopt"
        assert moved.outcome() == "adopted"
        moved.delete().check()
    moved.assert_ended()
    shared.end()
    moved.assert_gone()


def test_target_was_there(scene, node, each, shared):
    """A cgroup that somebody else has made stays, but nobody of the container's stays in it."""
    target = f"{scene.cgroup}-there"
    scene.parent(target)
    stages = ["createRuntime", "poststop"]
    moved = Moved(scene, node, each, stages, edit=shared.edit, target=target)
    moved.start()
    if moved.delete().status:
        assert moved.gc() == "adopt"
        moved.delete().check()
    moved.assert_ended()
    shared.end()
    moved.assert_gone()


def test_delete_by_force_without_poststop(scene, node, each, shared):
    """gc does what poststop would have done, and kills what the runtime forgot."""
    moved = Moved(scene, node, each, ["createRuntime"], edit=shared.edit)
    moved.start()
    refused = moved.delete().status != 0
    child = moved.pids[1]
    assert is_alive(child)
    if refused:
        assert moved.gc() == "adopt"
        moved.delete().check()
        assert not moved.alive()
    forgotten = is_alive(moved.pids[0])
    assert moved.gc() == ("kill" if forgotten else "finish")
    moved.assert_ended()
    shared.end()
    moved.assert_gone()


def test_adopted_by_gc(scene, node, each):
    """Once: it is what poststart would have made of it."""
    moved = Moved(scene, node, each, ["createRuntime", "poststop"], edit=of_host)
    moved.start()
    assert moved.gc("--dry-run") == "adopt"
    assert moved.outcome() == "moved"
    assert moved.gc() == "adopt"
    assert moved.outcome() == "adopted"
    assert len(cgroups.places(moved.bundle.cgroups_path)) == len(each.hierarchies())
    assert moved.gc() == ""
    assert each.exec("one", "echo", "here").check().out == "here\n"
    assert moved.alive() == moved.pids
    moved.assert_in_place()
    moved.delete().check()
    moved.assert_gone()


def test_init_has_ended_and_its_child_has_not(scene, node, each):
    """As long as the runtime knows the container it is the runtime that ends it."""
    moved = Moved(scene, node, each, ["createRuntime"], edit=of_host)
    moved.start()
    init, child = moved.pids
    os.kill(init, signal.SIGKILL)
    wait_until(lambda: moved.alive() == [child])
    assert moved.gc() == ""
    moved.delete()
    assert moved.gc() == "finish"
    moved.assert_gone()


# Forgotten without a delete


def forget(moved):
    """What is left of a container whose runtime's record was lost."""
    shutil.rmtree(f"{moved.runtime.root}/{moved.id}")
    moved.runtime.ids.remove(moved.id)


def test_forgotten_where_the_target_was_there(scene, node, oci):
    """What was moved there is killed; the cgroup is not ours and stays."""
    target = f"{scene.cgroup}-there"
    directories = scene.parent(target)
    moved = Moved(scene, node, oci, ["createRuntime"], target=target, edit=of_host)
    moved.start()
    forget(moved)
    assert moved.gc("--dry-run") == "kill"
    assert moved.alive() == moved.pids
    assert moved.gc() == "kill"
    moved.assert_gone()
    assert all(map(os.path.isdir, directories))


@pytest.mark.parametrize("edit", [None, of_host])
def test_forgotten_when_its_runtime_had_been_told(scene, node, oci, edit):
    """As where systemd-tmpfiles has removed the runtime's directory: without us it would live on.
    The doctor says what can be done."""
    moved = Moved(scene, node, oci, edit=edit)
    moved.start()
    assert moved.outcome() == "adopted"
    forget(moved)
    for _ in range(2):
        assert moved.gc() == ""
        assert moved.alive() == moved.pids
    moved.assert_in_place()
    done = command("doctor", "--state-dir", node.state_dir, prefix=oci.prefix)
    pid = moved.pids[0]
    assert f"{moved.record}: it runs as process {pid}, and {oci.binary} has no record" in done.out
    assert f"kill {pid}; nri-hook gc --state-dir {node.state_dir}" in done.out

    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: pid not in moved.alive())
    assert moved.gc() == "finish"
    moved.assert_gone()


def test_forgotten_with_all_of_the_runtime_s_records(scene, node, runc):
    """Perhaps they are only not to be seen from here: nothing is killed."""
    moved = Moved(scene, node, runc)
    moved.start()
    os.rename(runc.root, f"{runc.root}.away")
    assert moved.gc() == ""
    assert moved.alive() == moved.pids
    os.rename(f"{runc.root}.away", runc.root)
    moved.delete()
    moved.assert_gone()


# The living


def test_nothing_to_do(scene, node, runc):
    """Also where nri-hook never ran."""
    for _ in range(2):
        done = gc(runc, node).check()
        assert done.text == ""
    assert node.left() == []


def test_the_living_are_left_alone(scene, node, runc):
    """One that was moved, one that stays, one that has a record and is gone."""
    moved = Moved(scene, node, runc, id="moved")
    moved.start()
    stays = Moved(scene, node, runc, id="stays")
    stays.plugin.play({})
    runc.create("stays", stays.bundle).check()
    gone = Moved(scene, node, runc, ["createRuntime"], id="gone")
    gone.create()
    gone.delete()
    before = node.records()
    places = cgroups.membership(moved.pids[0]), cgroups.membership(runc.pid("stays"))

    assert gone.gc() == "finish"
    assert (cgroups.membership(moved.pids[0]), cgroups.membership(runc.pid("stays"))) == places
    assert moved.alive() == moved.pids
    before.pop(f"{gone.record}.json")
    assert node.records() == before
    assert [runc.status(id) for id in ("moved", "stays")] == ["running", "created"]
    assert node.calls("moved") == node.calls("stays") == [("mover", "create")]


def test_a_create_that_goes_on_is_left_alone(scene, node, each):
    """After our hook and before its record the runtime does not know its own container."""
    moved = Moved(scene, node, each)
    words = [sys.executable, "-m", "nri_hook", "gc", "--state-dir", node.state_dir]
    said = f"{scene.directory}/said"
    later = node.executable(
        "later",
        f"#!/bin/sh\nexec >{said} 2>&1\ncd /\nls {each.root}/one\n"
        f"PYTHONPATH={TOP} {' '.join(words)}\necho status $?\n",
        directory=scene.directory,
    )
    moved.bundle.config["hooks"]["createRuntime"].append({"path": later})
    moved.bundle.save()
    moved.start()
    *files, last = read(said).splitlines()
    assert last == "status 0"
    assert not {"state.json", "status"} & set(files)
    assert not [line for line in files if line.startswith(moved.record)]
    assert moved.outcome() == "adopted"
    moved.delete()
    moved.assert_gone()


def test_its_place_has_been_taken(scene, node, runc):
    """What a container left is the next one's, which went to the same place."""
    target = f"{scene.cgroup}/target/same"
    first = Moved(scene, node, runc, ["createRuntime"], id="first", target=target)
    first.create()
    first.delete()
    second = Moved(scene, node, runc, id="second", target=target)
    second.start()
    assert first.gc() == "finish"
    assert second.alive() == second.pids
    second.assert_in_place()
    assert list(node.records()) == [f"{second.record}.json"]
    assert [(call["payload"]["id"]) for call in first.plugin.calls("delete")] == ["first"]
    second.delete().check()
    second.assert_ended()
    assert scene.left_cgroups() == []  # the parent was made for the first


# clone3(2) with set_tid: a process with the pid that it is given.
REUSE = """
import ctypes, os, sys
tid = ctypes.c_int(int(sys.argv[1]))
fields = [0] * 4 + [17] + [0] * 3 + [ctypes.addressof(tid), 1, 0]
arguments = (ctypes.c_uint64 * 11)(*fields)
libc = ctypes.CDLL(None, use_errno=True)
pid = libc.syscall(435, ctypes.byref(arguments), ctypes.sizeof(arguments))
if pid == 0:
    os.execvp("sleep", ["sleep", "60"])
sys.exit(ctypes.get_errno() if pid < 0 else 0)
"""


class Stranger:
    """A process that has the pid of one that has ended."""

    def __init__(self, pid):
        self.pid = pid
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
        subprocess.run([sys.executable, "-c", REUSE, str(pid)], check=True)

    def assert_lives(self):
        assert command_line(self.pid) == "sleep\x0060\0"
        assert is_alive(self.pid)

    def end(self):
        os.kill(self.pid, signal.SIGKILL)


def test_the_pid_is_another_s(scene, node, each):
    """Whether the runtime still knows the container that had it or not."""
    moved = Moved(scene, node, each, ["createRuntime"])
    moved.create()
    each.kill("one").check()
    stranger = Stranger(moved.pids.pop())
    try:
        assert moved.gc() == ""
        stranger.assert_lives()
        moved.delete().check()
        assert moved.gc() == "finish"
        stranger.assert_lives()
    finally:
        stranger.end()
    moved.assert_gone()


# Records of killed hooks, records that cannot be finished


def test_the_hook_was_killed(scene, node, each):
    """By its second plugin; `delete` goes to both."""
    moved = Moved(scene, node, each, ["createRuntime"])
    killer = "os.kill(os.getppid(), 9)"
    node.configure(moved.plugin, node.plugin("killer", {"create": {"python": killer}}), "never")
    each.create("one", moved.bundle).refused()
    (name,) = node.records()
    moved.record = name[: -len(".json")]
    assert moved.outcome() == "chain"
    assert moved.gc() == "finish"
    assert node.left() == []
    ends = [("killer", "delete"), ("mover", "delete")]
    assert node.calls() == [("mover", "create"), ("killer", "create"), *ends]
    each.delete("one")


def test_the_hook_was_killed_before_it_wrote(scene, node, runc):
    """It had locked its record."""
    os.mkdir(node.state_dir, 0o700)
    open(f"{node.state_dir}/one-01234567.lock", "w").close()
    gc(runc, node).check()
    assert node.left() == []


# Name of a record, before and after that of a container -> what makes it one that stays.
BAD = {
    "a-00000000": "no JSON",
    "b-00000000": '{"id": "b"}',
    "z-00000000": '{"id": "z", "pid": "7", "start": [], "creator": {"pid": 1, "start": 1}}',
}


def test_an_error_of_one_record_does_not_stop_the_others(scene, node, runc):
    """Each is named in one line, with what is wrong."""
    moved = Moved(scene, node, runc, ["createRuntime"])
    moved.create()
    moved.delete().check()
    for name, text in BAD.items():
        with open(f"{node.state_dir}/{name}.json", "w") as file:
            file.write(text)
    os.mkdir(f"{node.state_dir}/c-00000000.json")

    done = gc(runc, node)
    assert done.status == 1
    assert done.out == f"{moved.record}: {SAYS['finish']}\n"
    assert re.findall("^nri-hook gc: (.*?): .", done.err, re.M) == sorted([*BAD, "c-00000000"])
    assert done.err.count("\n") == len(BAD) + 1
    # Nobody knows what they stand for, so they stay.
    assert not [name for name in node.left() if name.startswith(moved.record)]
    assert {name for name in node.left() if name.endswith(".json")} == {
        f"{name}.json" for name in [*BAD, "c-00000000"]
    }
    shutil.rmtree(node.state_dir)


def test_an_adoption_that_fails(scene, node, runc):
    """The container lives on, and its record waits for the next time."""
    moved = Moved(scene, node, runc, ["createRuntime", "poststop"])
    moved.start()
    path = f"{runc.root}/one/state.json"
    good = read(path)
    with open(path, "w") as file:
        file.write("no JSON")
    done = gc(runc, node)
    assert done.status == 1
    assert path in done.err and done.err.count("\n") == 1
    assert moved.outcome() == "moved"
    assert moved.alive() == moved.pids
    with open(path, "w") as file:
        file.write(good)
    assert moved.gc() == "adopt"
    moved.delete().check()
    moved.assert_gone()


def test_a_lock_is_held_no_longer_than_needed(scene, node, runc):
    """While a plugin of another container has its `delete`, hooks of the first go on."""
    first = Moved(scene, node, runc, id="first")
    first.create()
    second = Moved(scene, node, runc, ["createRuntime"], id="second")
    second.create()
    second.delete().check()
    free = (
        f"import fcntl; lock = open({node.state_dir + '/' + first.record + '.lock'!r}); "
        "fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    )
    second.plugin.play({"delete": {"python": free}})
    assert second.gc() == "finish"  # the plugin's failure would be on stderr
    assert [call["payload"]["id"] for call in second.plugin.calls("delete")] == ["second"]


def test_a_hook_that_is_at_work_is_waited_for(scene, node, runc):
    """Its record is locked, for a moment or for longer."""
    moved = Moved(scene, node, runc)
    moved.start()
    lock = open(f"{node.state_dir}/{moved.record}.lock")
    fcntl.flock(lock, fcntl.LOCK_EX)
    timer = threading.Timer(0.3, lock.close)
    timer.start()
    assert moved.gc() == ""
    timer.join()
    moved.delete().check()
    moved.assert_gone()


# Logs


LOG = "the log of a container that is gone: removing it"
DAY = 86400


def log_lines(node, names):
    return [f"{node.state_dir}/{name}: {LOG}" for name in names]


def test_the_log_goes_after_the_container(scene, node, each):
    """Not before, and not in a dry run."""
    moved = Moved(scene, node, each)
    moved.start()
    (name,) = node.logs()
    assert name == f"{moved.record}.log"
    assert gc(each, node).check().text == ""
    moved.delete().check()
    assert list(node.logs()) == [name]
    assert gc(each, node, "--dry-run").check().out.splitlines() == log_lines(node, [name])
    assert list(node.logs()) == [name]
    assert gc(each, node).check().out.splitlines() == log_lines(node, [name])
    assert node.logs() == {}
    moved.assert_gone()


def test_the_log_of_a_failed_create_is_kept_for_a_day(scene, node, each):
    bundle = scene.bundle()
    each.install(node, bundle)
    node.configure("absent")
    each.create("one", bundle).refused()
    each.delete("one")
    (name,) = node.logs()
    path = f"{node.state_dir}/{name}"
    for age, kept in ((DAY - 60, True), (DAY + 60, False)):
        when = time.time() - age
        os.utime(path, (when, when))
        assert gc(each, node).check().out.splitlines() == log_lines(node, [] if kept else [name])
        assert os.path.exists(path) == kept
    assert node.left() == []


def test_what_gc_did_is_in_the_log(scene, node, each):
    """So it is kept for a day too."""
    moved = Moved(scene, node, each, ["createRuntime"], edit=of_host)
    moved.start()
    assert moved.gc() == "adopt"
    moved.delete().check()
    assert moved.gc() == "finish"
    moved.assert_gone()
    said = [(entry["stage"], entry["outcome"]) for entry in node.log()]
    assert said == [("createRuntime", "moved"), ("gc", "adopted"), ("gc", "removed")]
    assert [call["state"] for call in node.log()[-1]["calls"]] == ["delete"]
    assert moved.gc() == ""


def test_what_gc_killed_is_in_the_log(scene, node, each):
    moved = Moved(scene, node, each, ["createRuntime"], edit=of_host)
    moved.start()
    forget(moved)
    assert moved.gc() == "kill"
    moved.assert_gone()
    said = [(entry["stage"], entry["outcome"]) for entry in node.log()]
    assert said == [("createRuntime", "moved"), ("gc", "killed")]
    assert [call["state"] for call in node.log()[-1]["calls"]] == ["delete"]


def test_an_adoption_that_fails_is_in_the_log(scene, node, runc):
    moved = Moved(scene, node, runc, ["createRuntime", "poststop"])
    moved.start()
    os.rename(f"{runc.root}/one/state.json", f"{runc.root}/one/good")
    with open(f"{runc.root}/one/state.json", "w") as file:
        file.write("no JSON")
    gc(runc, node).refused()
    assert node.log()[-1]["message"].startswith(f"{runc.root}/one/state.json: the runtime's record")
    os.rename(f"{runc.root}/one/good", f"{runc.root}/one/state.json")
    moved.delete()
    moved.assert_gone()


def test_the_log_of_a_setup(scene, node, runc):
    """It is over with that of the container, unless podman got no further."""
    node.install()
    id = "ab" * 32
    config = {"linux": {"cgroupsPath": f"{scene.cgroup}/libpod-{id}"}}
    node.configure(node.plugin("plain"))
    node.hook("precreate", config).check()
    setup = f"{id}-setup.log"
    assert gc(runc, node).check().text == ""
    init = scene.sleeper()
    bundle = scene.bundle(cgroups_path=config["linux"]["cgroupsPath"])
    state = {"id": id, "pid": init.pid, "bundle": bundle.directory}
    node.hook("createRuntime", state).check()
    init.kill()
    init.wait()
    assert len(node.logs()) == 2
    (other,) = set(node.logs()) - {setup}
    # The hook's parent was no runtime, so nobody has deleted it for its runtime.
    assert [line.split(": ")[0] for line in gc(runc, node).check().out.splitlines()] == [
        other[: -len(".log")],
        f"{node.state_dir}/{setup}",
    ]
    assert list(node.logs()) == [other]

    node.configure("absent")
    node.hook("precreate", config).refused()
    assert gc(runc, node).check().text == ""
    assert set(node.logs()) == {setup, other}


def test_what_is_no_log_of_ours_stays(node, runc):
    """It is named, and the rest is done."""
    os.mkdir(node.state_dir, 0o700)
    os.mkdir(f"{node.state_dir}/a-00000000.log")
    os.symlink("/etc/passwd", f"{node.state_dir}/b-00000000.log")
    open(f"{node.state_dir}/notes", "w").close()
    # Half of one that a killed hook was writing.
    open(f"{node.state_dir}/c-00000000.log.cut", "w").close()
    done = gc(runc, node)
    assert done.status == 1
    named = [line.split(": ")[1] for line in done.err.splitlines()]
    assert named == [f"{node.state_dir}/{name}-00000000.log" for name in ("a", "b")]
    assert len(os.listdir(node.state_dir)) == 3
    shutil.rmtree(node.state_dir)


# Cgroups that no record knows


ORPHAN = "an empty cgroup made by nri-hook that no record names: removing it"


def lose_record(moved):
    """What is left of a container whose record somebody has removed."""
    moved.delete().check()
    for name in moved.node.left():
        if name.startswith(moved.record):
            os.unlink(f"{moved.node.state_dir}/{name}")


def in_mount(directory):
    return directory[directory.index("/nri-test-") :]


def orphans(done):
    return [line.split(": ")[0] for line in done.check().out.splitlines() if ORPHAN in line]


def test_an_orphan(scene, node, oci):
    """Those inside before those around them."""
    moved = Moved(scene, node, oci, ["createRuntime"])
    moved.create()
    lose_record(moved)
    left = scene.left_cgroups()
    assert len(left) == 3 * len(oci.hierarchies())
    dry = orphans(gc(oci, node, "--dry-run"))
    # Where the runtime's own cgroups are seen, a mount may have another name.
    assert sorted(map(in_mount, dry)) == sorted(map(in_mount, left))
    assert scene.left_cgroups() == left
    assert orphans(gc(oci, node)) == dry
    assert scene.left_cgroups() == []
    assert gc(oci, node).check().out == ""


def test_what_others_made_or_use_is_no_orphan(scene, node, runc):
    """A cgroup without our mark, one with a process, one of another state directory."""
    moved = Moved(scene, node, runc, ["createRuntime"])
    moved.create()
    lose_record(moved)
    inner = scene.parent(f"{moved.target}/inner")
    leaves = [os.path.dirname(directory) for directory in inner]
    assert orphans(gc(runc, node)) == []
    for directory in inner:
        os.rmdir(directory)
    sleeper = scene.sleeper()
    for directory in leaves:
        cgroups.write(f"{directory}/cgroup.procs", sleeper.pid)
    assert orphans(gc(runc, node)) == []
    sleeper.kill()
    sleeper.wait()
    other = scene.node()
    os.mkdir(other.state_dir, 0o700)
    assert orphans(gc(runc, other)) == []
    assert all(map(os.path.isdir, leaves))
    assert len(orphans(gc(runc, node))) == 3 * len(leaves)
    assert scene.left_cgroups() == []


def test_a_cgroup_that_a_record_knows_is_no_orphan(scene, node, runc):
    """A container that is there keeps what the lost one has made, and what was made for itself
    and is empty."""
    lost = Moved(scene, node, runc, ["createRuntime"], id="lost")
    lost.create()
    one = Moved(scene, node, runc, id="one")
    one.start()
    lose_record(lost)
    before = {directory for directory in scene.left_cgroups() if not directory.endswith("/lost")}
    assert {path.rpartition("/")[2] for path in orphans(gc(runc, node))} == {"lost"}
    assert set(scene.left_cgroups()) == before
    one.assert_in_place()
    one.delete().check()
    assert scene.left_cgroups() == []


def test_no_orphan_is_taken_where_a_record_cannot_be_read(scene, node, runc):
    moved = Moved(scene, node, runc, ["createRuntime"])
    moved.create()
    lose_record(moved)
    path = f"{node.state_dir}/bad-00000000.json"
    with open(path, "w") as file:
        file.write("{")
    left = scene.left_cgroups()
    gc(runc, node).refused()
    assert scene.left_cgroups() == left
    os.unlink(path)
    assert len(orphans(gc(runc, node))) == len(left)
