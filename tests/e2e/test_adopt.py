"""Adopt: after poststart the runtime finds the container where it was moved to, and the container
finds itself there."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from support import cgroups, runtimes
from support.commands import read
from support.node import command
from support.waiting import is_alive, wait_until

MIB = 1 << 20
COUNT = ("sh", "-c", "trap 'exit 0' TERM; while :; do echo >>/tmp/count; sleep 0.02; done")
# All pass in the guests too, which have time for the few that depend most on the runtime.
hostonly = pytest.mark.hostonly
LIMIT = {1: "memory.limit_in_bytes", 2: "memory.max"}


class Moved:
    """A container that a plugin sends to `target`."""

    def __init__(self, scene, node, runtime, id="one", **bundle):
        self.scene, self.node, self.runtime, self.id = scene, node, runtime, id
        self.target = f"{scene.cgroup}/target/{id}"
        answer = {"cgroupsPath": f"{scene.cgroup}/target/{{id}}"}
        self.plugin = node.plugin("mover", {"create": {"result": answer}})
        node.configure(self.plugin)
        self.bundle = scene.bundle(**bundle)
        runtime.install(node, self.bundle)

    def start(self):
        self.runtime.create(self.id, self.bundle).check()
        assert self.is_at_target(self.pid())
        self.runtime.start(self.id).check()
        assert self.node.record()["outcome"] == "adopted"

    def pid(self):
        return self.runtime.pid(self.id)

    def is_at_target(self, pid):
        now = cgroups.membership(pid)
        return all(now[name] == self.target for name in self.runtime.hierarchies())

    def directory(self, file):
        """The directory of the new cgroup that has this file, None where there is none."""
        directories = [mount + self.target for mount in self.runtime.hierarchies().values()]
        return next(
            (directory for directory in directories if os.path.exists(f"{directory}/{file}")), None
        )

    def record(self):
        """The path of the runtime's own record."""
        name = "status" if self.runtime.binary == "crun" else "state.json"
        return f"{self.runtime.root}/{self.id}/{name}"

    def assert_works(self):
        """What a runtime does with a running container, it does with this one."""
        runtime, id = self.runtime, self.id
        pid = self.pid()
        assert runtime.status(id) == "running"
        old = cgroups.places(self.bundle.cgroups_path)
        assert len(old) == len(runtime.hierarchies())
        assert not any(cgroups.read(f"{directory}/cgroup.procs") for directory in old)

        lines = runtime.exec(id, "cat", "/proc/self/cgroup").check().out.splitlines()
        found = dict(line.split(":", 2)[1:] for line in lines)
        assert {found[name] for name in runtime.hierarchies()} == {self.target}
        pids = json.loads(runtime.call("ps", "--format", "json", id).check().out)
        assert pid in pids

        runtime.call("pause", id).check()
        assert runtime.status(id) == "paused"
        stands = self.count()
        time.sleep(0.2)
        assert self.count() == stands
        runtime.call("resume", id).check()
        assert runtime.status(id) == "running"
        wait_until(lambda: self.count() > stands)

        if "memory" in runtime.controllers():
            limit = LIMIT[runtime.version]
            runtime.call("update", "--memory", str(48 * MIB), id).check()
            assert cgroups.read(f"{self.directory(limit)}/{limit}") == str(48 * MIB)

    def assert_ends(self):
        """It can be killed and deleted, and nothing of it is left."""
        pid = self.pid()
        self.runtime.kill(self.id, "KILL").check()
        wait_until(lambda: not is_alive(pid))
        self.assert_deleted()

    def assert_deleted(self):
        self.runtime.delete(self.id).check()
        assert self.scene.left_cgroups() == []
        assert self.node.left() == []
        assert not os.path.exists(os.path.dirname(self.record()))
        assert self.node.calls() == [("mover", "create"), ("mover", "delete")]

    def count(self):
        """How far the container has counted."""
        return os.path.getsize(f"{self.bundle.rootfs}/tmp/count")


def plain(config):
    """An edit: the container counts, and sees the names of its cgroups as they are."""
    config["process"]["args"] = list(COUNT)
    namespaces = config["linux"]["namespaces"]
    config["linux"]["namespaces"] = [n for n in namespaces if n["type"] != "cgroup"]


def of_host(config):
    """An edit: the same in the host's pid namespace."""
    plain(config)
    namespaces = config["linux"]["namespaces"]
    config["linux"]["namespaces"] = [n for n in namespaces if n["type"] != "pid"]


# The runtime's record


@hostonly
def test_everything_works_in_a_private_pid_namespace(scene, node, oci):
    moved = Moved(scene, node, oci, edit=plain)
    moved.start()
    moved.assert_works()
    moved.assert_ends()


@hostonly
def test_everything_works_in_the_pid_namespace_of_the_host(scene, node, oci):
    moved = Moved(scene, node, oci, edit=of_host)
    moved.start()
    moved.assert_works()
    moved.assert_ends()


@hostonly
@pytest.mark.parametrize("edit", [plain, of_host])
def test_delete_by_force_while_it_runs(scene, node, oci, edit):
    moved = Moved(scene, node, oci, edit=edit)
    moved.start()
    pid = moved.pid()
    moved.assert_deleted()
    assert not is_alive(pid)


# How the runtime is told where its records are -> its words, of its name, root and directory.
ROOTS = {
    "--root=DIR": lambda r: [r.binary, f"--root={r.root}"],
    "after other flags": lambda r: [r.binary, "--log", f"{r.directory}/log", "--root", r.root],
    "twice": lambda r: [r.binary, "--root", "/nowhere", "--root", r.root],
    "default": lambda r: [r.binary],
}


@hostonly
@pytest.mark.parametrize("name", ROOTS)
def test_the_root_of_the_runtime(scene, node, oci, name):
    words = ROOTS[name](oci)
    if name == "default":
        oci.root = f"/run/{oci.binary}"
    oci.command = lambda: words
    # With the default root it must be a name that nobody else has.
    moved = Moved(scene, node, oci, id=scene.name, edit=plain)
    moved.start()
    assert node.record()["runtimeRoot"] == oci.root
    moved.assert_works()
    moved.assert_ends()


@pytest.mark.parametrize("edit", [pytest.param(plain, marks=hostonly), of_host])
def test_created_and_deleted_without_a_start(scene, node, oci, edit):
    """crun calls poststart at the start, so under it nothing is adopted."""
    moved = Moved(scene, node, oci, edit=edit)
    oci.create("one", moved.bundle).check()
    pid = moved.pid()
    assert moved.is_at_target(pid)
    moved.assert_deleted()
    assert not is_alive(pid)


@hostonly
def test_poststart_twice(scene, node, oci):
    moved = Moved(scene, node, oci, edit=plain)
    moved.bundle.config["hooks"]["poststart"] *= 2
    moved.bundle.save()
    moved.start()
    moved.assert_works()
    moved.assert_ends()


# What is done to the runtime's record before the hook meets it -> the new text.
SHAPES = {
    "no JSON": "text[:-9]",
    "a list": "json.dumps([document])",
    "no place": "json.dumps({key: document[key] for key in document if key != KEY})",
    "another kind of place": "json.dumps(dict(document, **{KEY: 7}))",
    "a list of places": "json.dumps(dict(document, **{KEY: list(document[KEY])}))",
    "another place": "text.replace('-start-', '-elsewhere-')",
}
SPOIL = """
import json
with open({path!r}) as file:
    text = file.read()
document, KEY = json.loads(text), {key!r}
with open({path!r}, "w") as file:
    file.write({change})
"""


class Spoiled(Moved):
    """Its runtime's record is another when poststart comes; runc writes it just before.

    change: Python, as in SHAPES.
    """

    def __init__(self, scene, node, runtime, change):
        super().__init__(scene, node, runtime, scene.name, edit=plain)
        path, directory = self.record(), self.bundle.directory
        self.good, self.before, self.errors = (
            f"{directory}/{n}" for n in ("good", "before", "err")
        )
        self.key = "cgroup-path" if runtime.binary == "crun" else "cgroup_paths"
        with open(f"{directory}/spoil.py", "w") as file:
            file.write(SPOIL.format(path=path, key=self.key, change=change))
        (hook,) = self.bundle.config["hooks"]["poststart"]
        with open(f"{directory}/hook", "w") as file:
            file.write(
                f"#!/bin/sh\nset -e\nexec 2>{self.errors}\ncp -p {path} {self.good}\n"
                f"{sys.executable} {directory}/spoil.py\ncp -p {path} {self.before}\n"
                f'exec {hook["path"]} "$@"\n'
            )
        os.chmod(f"{directory}/hook", 0o755)
        hook["path"] = f"{directory}/hook"
        self.bundle.save()

    def begin(self):
        """Have poststart called, by create (the older runc) or by start."""
        self.runtime.create(self.id, self.bundle).check()
        if not os.path.exists(self.before):
            self.runtime.start(self.id).check()


@hostonly
@pytest.mark.parametrize("name", SHAPES)
def test_an_unknown_shape_of_record_is_left_alone(scene, node, oci, log, name):
    moved = Spoiled(scene, node, oci, SHAPES[name])
    moved.begin()
    path = moved.record()
    names = os.listdir(os.path.dirname(path))
    assert read(path) == read(moved.before) != read(moved.good)
    shutil.copy2(moved.good, path)

    assert [name for name in names if name.endswith(".tmp")] == []
    assert path in read(moved.errors) and read(moved.errors).count("\n") == 1
    assert [line for line in log.lines(scene.name) if "stage=poststart" in line and path in line]
    assert node.record()["outcome"] == "moved"
    assert moved.is_at_target(moved.pid())
    moved.assert_deleted()


def test_nothing_but_the_place_changes_in_the_record(scene, node, oci):
    moved = Spoiled(scene, node, oci, "text")
    moved.begin()
    before, after = (json.loads(read(path)) for path in (moved.before, moved.record()))
    assert before.pop(moved.key) != after.pop(moved.key)
    assert before == after
    statuses = [os.stat(path) for path in (moved.before, moved.record())]
    assert len({(status.st_mode, status.st_uid, status.st_gid) for status in statuses}) == 1
    moved.assert_deleted()


# What the container sees


def seeing(namespace, *options):
    """An edit: whether it has a cgroup namespace, and the options of its cgroup mount, None for
    no mount."""

    def edit(config):
        plain(config)
        if namespace:
            config["linux"]["namespaces"].append({"type": "cgroup"})
        mounts = [m for m in config["mounts"] if m["destination"] != "/sys/fs/cgroup"]
        if options != (None,):
            mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}
            mounts.append({**mount, "options": ["nosuid", "noexec", "nodev", *options]})
        config["mounts"] = mounts

    return edit


VIEWS = {
    # Without relatime, which a newer crun turns into nosymfollow when it makes a mount read-only.
    "read-only": ["ro"],
    "private": ["rw", "private"],
    "slave": ["rw", "rslave"],
}


def windows(runtime, id):
    """The cgroup mounts in a container: where -> (options, propagation, kind, root)."""
    found = {}
    for line in runtime.exec(id, "cat", "/proc/self/mountinfo").check().out.splitlines():
        fields, _, rest = line.partition(" - ")
        root, place, options, *tags = fields.split()[3:]
        kind = rest.split()[0]
        if kind in ("cgroup", "cgroup2"):
            propagation = sorted(tag.partition(":")[0] for tag in tags)
            found[place] = (options, propagation, kind, root)
    return found


@hostonly
@pytest.mark.parametrize("namespace", [False, True])
@pytest.mark.parametrize("name", VIEWS)
def test_it_sees_its_new_cgroup(scene, node, oci, name, namespace):
    if oci.version == 2 and namespace and "rw" in VIEWS[name]:
        pytest.skip("is left: test_delegation.py")
    edit = seeing(namespace, *VIEWS[name])
    scene.runtime_made(scene.cgroup)
    scene.runtime_made(f"{scene.cgroup}/native")
    native = scene.bundle(edit=edit, cgroups_path=f"{scene.cgroup}/native/one")
    oci.create("native", native).check()
    oci.start("native").check()
    moved = Moved(scene, node, oci, edit=edit)
    moved.start()

    expected, found = windows(oci, "native"), windows(oci, "one")
    oci.delete("native").check()
    assert found and {place: view[:3] for place, view in found.items()} == {
        place: view[:3] for place, view in expected.items()
    }
    if not namespace:
        assert {place: view[3] for place, view in found.items()} == {
            place: view[3].replace("/native/", "/target/") for place, view in expected.items()
        }
    # Without a cgroup namespace the mount of v2 shows the whole hierarchy.
    below = moved.target if oci.version == 2 and not namespace else ""
    for place in found:
        assert "1" in oci.exec("one", "cat", f"{place}{below}/cgroup.procs").check().out.split()

    file, value = ("memory.limit_in_bytes", 32 * MIB) if oci.version == 1 else ("pids.max", 77)
    if oci.version == 2 and "pids" not in oci.controllers():
        file, value = "cgroup.max.depth", 7
    place = next(p for p in found if oci.version == 2 or "memory" in p)
    directory = f"{place}{below}"
    cgroups.write(f"{moved.directory(file)}/{file}", value)
    assert oci.exec("one", "cat", f"{directory}/{file}").check().out.strip() == str(value)
    made = oci.exec("one", "busybox", "mkdir", f"{directory}/inner")
    if "ro" in found[place][0].split(","):
        assert "Read-only file system" in made.refused()
    else:
        made.check()
        os.rmdir(f"{moved.directory(file)}/inner")
    moved.assert_ends()


# precreate


class Draft:
    """A container of podman that precreate gives a place, before there is anything to move.

    answer: of the plugin for `setup`.
    """

    def __init__(self, scene, node, runtime, answer=None):
        self.scene, self.node, self.runtime = scene, node, runtime
        self.target = f"{scene.cgroup}/native/{{id}}"
        answer = {"result": {"cgroupsPath": self.target}} if answer is None else answer
        self.plugin = node.plugin("mover", {"setup": answer})
        node.configure(self.plugin)
        self.bundle = scene.bundle()
        runtime.install(node, self.bundle)
        install_precreate(node)

    def place(self):
        return self.target.replace("{id}", self.runtime.hook_id("one"))

    def create(self):
        """Create and start it with a cgroup namespace, which is not podman's default on v1."""
        words = self.runtime._flags("one", self.bundle)
        self.runtime.ids.append("one")
        return self.runtime.call("run", "--detach", "--cgroupns", "private", *words)

    def assert_is_in_place(self):
        now = cgroups.membership(self.runtime.pid("one"))
        hierarchies = self.runtime.hierarchies()
        assert {name for name, path in now.items() if path == self.place()} == set(hierarchies)
        seen = self.runtime.exec("one", "cat", "/proc/self/cgroup").check().out
        found = dict(line.split(":", 2)[1:] for line in seen.splitlines())
        assert {found[name] for name in hierarchies} == {"/"}
        record = self.node.record()
        assert record["outcome"] == "stays"
        assert all("moves" not in placed for placed in record["placements"])
        assert record["id"] == self.runtime.hook_id("one")


def install_precreate(node):
    """Install that stage, which only `install --engine podman` does, for podman's own directory."""
    with open(f"{node.hooks_dir}/90-nri-hook-poststop.json") as file:
        text = file.read()
    with open(f"{node.hooks_dir}/90-nri-hook-precreate.json", "w") as file:
        file.write(text.replace('"poststop"', '"precreate"'))


@pytest.fixture
def podman(scene):
    lacks = runtimes.ALL["podman"].lacks()
    if lacks:
        pytest.skip(lacks)
    return scene.runtime("podman")


@hostonly
def test_podman_makes_it_where_precreate_says(scene, node, podman):
    draft = Draft(scene, node, podman)
    draft.create().check()
    draft.assert_is_in_place()
    assert node.calls() == [("mover", "setup"), ("mover", "create")]
    create = draft.plugin.call("create")["payload"]
    assert create["spec"]["cgroupsPath"] == draft.place()
    assert create["id"] == draft.plugin.call("setup")["payload"]["id"] == podman.hook_id("one")

    podman.call("restart", "--time", "0", "one").check()
    draft.assert_is_in_place()
    states = [state for _, state in node.calls()]
    assert states == ["setup", "create", "delete", "setup", "create"]
    podman.delete("one").check()
    assert [state for _, state in node.calls()] == [*states, "delete"]
    delete = draft.plugin.calls("delete")[-1]["payload"]
    assert delete["spec"]["cgroupsPath"] == create["spec"]["cgroupsPath"]
    assert node.left() == []
    assert scene.left_cgroups() == []


# podman itself says no more than that the hook failed.
FAILURES = {
    "an error": ({"error": "no place on this node"}, "plugin mover: says: no place on this node"),
    "..": ({"cgroupsPath": "../elsewhere"}, "cgroupsPath '../elsewhere' has the part '..'"),
}


@hostonly
@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_in_precreate_fails_the_start(scene, node, podman, log, name):
    result, line = FAILURES[name]
    draft = Draft(scene, node, podman, {"result": result})
    assert "setting up OCI Hooks: executing" in draft.create().refused()
    id = podman.hook_id("one")
    (logged,) = [found for found in log.lines() if f"container={id} " in found]
    assert "stage=precreate" in logged and "outcome=failed" in logged and line in logged
    assert node.calls() == [("mover", "setup"), ("mover", "delete")]
    assert node.left() == []
    assert scene.left_cgroups() == []


CONFIG = b"""
{ "ociVersion":"1.0.2", "x-unknown" : [1.50, -0, 1e3, "\\u00e9\\/", {"b":1,"a":2}],
  "linux": {"cgroupsPath": "PATH"}, "process": {"args": ["\xc3\xa9"]} }
	"""


def config(scene, path=None):
    return CONFIG.replace(b"PATH", (path or f"{scene.cgroup}/libpod-abc").encode())


@hostonly
@pytest.mark.parametrize("configured", [True, False])
def test_precreate_without_an_answer_copies_the_config(scene, node, configured):
    """Byte for byte; without a configuration whatever it is."""
    node.install()
    if configured:
        node.configure(node.plugin("mover"))
        node.keeps = True
    data = config(scene) if configured else b"no JSON \xff\x00\n"
    done = subprocess.run(
        [node.launcher, "precreate", *node.options()], input=data, capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")
    assert node.calls() == ([("mover", "setup")] if configured else [])


@hostonly
def test_precreate_changes_the_place_alone(scene, node):
    node.install()
    answer = {"result": {"cgroupsPath": f"{scene.cgroup}-x/native/abc"}}
    node.configure(node.plugin("mover", {"setup": answer}))
    printed = json.loads(node.hook("precreate", config(scene)).check().out)
    expected = json.loads(config(scene))
    expected["linux"]["cgroupsPath"] = f"{scene.cgroup}-x/native/abc"
    assert printed == expected
    # The parents are there, and ours; create never comes.
    directories = cgroups.places(f"{scene.cgroup}-x/native")
    assert directories and all(cgroups.mark(directory) == "abc-setup" for directory in directories)
    assert list(node.records()) == ["abc-setup.json"]
    # For ten minutes it may come.
    command("gc", "--state-dir", node.state_dir).check()
    assert list(node.records()) == ["abc-setup.json"]
    os.utime(f"{node.state_dir}/abc-setup.json", (0, time.time() - 700))
    command("gc", "--state-dir", node.state_dir).check()
    assert node.calls() == [("mover", "setup"), ("mover", "delete")]


@hostonly
def test_a_setup_that_no_create_followed_ends_at_the_next(scene, node):
    node.install()
    answer = {"result": {"cgroupsPath": f"{scene.cgroup}-x/native/abc"}}
    plugin = node.plugin("mover", {"setup": answer})
    node.configure(plugin)
    node.hook("precreate", config(scene)).check()
    assert cgroups.places(f"{scene.cgroup}-x/native")

    plugin.play({"setup": {"result": {"error": "full"}}})
    text = node.hook("precreate", config(scene)).refused()
    assert "full" in text and "a former container of this id was not deleted" in text
    assert [state for _, state in node.calls()] == ["setup", "delete", "setup", "delete"]
    first, second = plugin.calls("delete")
    assert first["payload"]["spec"]["cgroupsPath"] == f"{scene.cgroup}-x/native/abc"
    assert second["payload"]["spec"]["cgroupsPath"] == f"{scene.cgroup}/libpod-abc"
    assert node.left() == []
    assert scene.left_cgroups() == []
