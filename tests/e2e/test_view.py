"""What a moved container sees at /sys/fs/cgroup is what one sees that was created there, and no
mount but its own is touched, whatever lies over its cgroups and whoever shares them."""

import os
import re
import subprocess

import pytest
from support import cgroups, public, runtimes
from support.bundle import make_rootfs
from support.namespaces import MountNamespace
from support.observer import Observer

FIRST_ID = 100000
NAMESPACES = ("private", "host")
v1 = pytest.mark.skipif(cgroups.pure_v2(), reason="needs cgroup v1")


class World:
    """A node on which something may go wrong: a guest, or a mount namespace in which all mounts
    are shared, as systemd makes them. prefix: words before a command on it."""

    def __init__(self):
        self.namespace = None
        self.prefix = []
        if not os.path.isdir("/run/systemd/system"):
            self.namespace = MountNamespace("mount --make-rshared /")
            self.prefix = self.namespace.prefix
        self.observer = Observer(self.namespace and self.namespace.keeper.pid)

    def assert_unharmed(self):
        assert self.observer.changes() == []

    def close(self):
        if self.namespace:
            self.namespace.close()


@pytest.fixture
def world():
    world = World()
    yield world
    world.close()


@pytest.fixture(params=runtimes.binaries() if cgroups.pure_v2() else ["runc"])
def runtime(scene, world, request):
    """Every runtime on the node's own cgroups."""
    yield from on(world, scene.runtime(request.param))


@pytest.fixture
def podman(scene, world):
    if runtimes.Podman.lacks():
        pytest.skip(runtimes.Podman.lacks())
    yield from on(world, scene.runtime("podman"))


def on(world, runtime):
    """Have a runtime called on that node; its containers end before the node does."""
    runtime.prefix = world.prefix
    yield runtime
    runtime.close()


class Pair:
    """Two containers, alike but for their cgroup: "native" was created at its place, "moved" was
    moved there."""

    def __init__(self, scene, node, runtime, edit=None):
        self.node, self.runtime = node, runtime
        parent = self.parent = f"{scene.cgroup}/there"
        scene.runtime_made(scene.cgroup)
        scene.runtime_made(parent)
        # As deep as the other: how far it is from a namespace's root to that of the hierarchy.
        scene.runtime_made(f"{scene.cgroup}-start")
        start = f"{scene.cgroup}-start/one"
        by_podman = runtime.binary == "podman"
        answer = {"cgroupsPath": f"{parent}/{'libpod-{id}' if by_podman else '{id}'}"}
        node.configure(node.plugin("mover", {"create": {"result": answer}}))
        path = parent if by_podman else f"{parent}/native"
        self.bundles = {
            "native": scene.bundle(edit=edit, cgroups_path=path),
            "moved": scene.bundle(edit=edit, cgroups_path=start),
        }
        for bundle in self.bundles.values():
            # Who is not root may make no mount points.
            os.makedirs(f"{bundle.rootfs}/sys/fs/cgroup")

    def start(self, id):
        """Create and start one."""
        if id == "moved":
            self.runtime.install(self.node, self.bundles[id])
        self.runtime.create(id, self.bundles[id]).check()
        self.runtime.start(id).check()

    def outcome(self):
        document = self.node.record()
        return document["outcome"], document["reason"]

    def sees(self, id):
        """The mounts of cgroups and what is on them, as the container lists them, in any order:
        what it is on, and all but the ids and the name of its source."""
        lines = self.runtime.exec(id, "cat", "/proc/self/mountinfo").check().out.splitlines()
        # The root of a cgroup namespace remains where it was made.
        place = rf"(/\.\.)*{self.parent}/[^ ]*{self.runtime.hook_id(id)}|/(?= /sys/fs/cgroup)"
        lines = [re.sub("(shared|master):[0-9]+", r"\1", line) for line in lines]
        fields = [re.sub(place, "PLACE", line).split(" ") for line in lines]
        shown = {line[0]: (line[3], line[4]) for line in fields}
        return sorted(
            (shown.get(line[1]), *line[3:-2], line[-1])
            for line in fields
            if line[4].startswith("/sys/fs/cgroup")
        )

    def assert_alike(self):
        self.start("native")
        self.start("moved")
        assert self.outcome() == ("adopted", "")
        assert self.sees("moved") == self.sees("native")

    def assert_harmless(self):
        """It was moved, unless it sees the node's cgroups and could write to them on v2. crun 1.8
        mounts the node's /sys without them in a user namespace."""
        outcome, reason = self.outcome()
        if cgroups.pure_v2() and self.runtime.exec("moved", "ls", "/sys/fs/cgroup").check().out:
            assert outcome == "left" and "writable" in reason
        else:
            assert outcome == "adopted"

    def delete(self):
        for id in list(self.runtime.ids):
            self.runtime.delete(id).check()


def mounted_over(destination, *options, source=None, propagation=None, ids=False):
    """An edit: the node's own mount, here of /sys, over what the runtime has mounted before.

    ids: whether in a user namespace, and with the network of the node.
    """

    def edit(config):
        config["mounts"] = [m for m in config["mounts"] if m["destination"] != "/sys"]
        mount = {"destination": destination, "type": "bind", "source": source or destination}
        config["mounts"].append({**mount, "options": ["rbind", *options]})
        linux = config["linux"]
        # By themselves runtimes would mask what is shared with the node, on the node too.
        linux.update(maskedPaths=[], readonlyPaths=[])
        if propagation:
            linux["rootfsPropagation"] = propagation
        if ids:
            linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] != "network"]
            linux["namespaces"].append({"type": "user"})
            for name in ("uidMappings", "gidMappings"):
                linux[name] = [{"containerID": 0, "hostID": FIRST_ID, "size": 65536}]

    return edit


def test_the_nodes_own_mounts_over_its_cgroups(scene, node, world, runtime):
    """Shared with the node, as a volume of a pod may be: what were done there by the path of its
    cgroups would be done to the node."""
    pair = Pair(scene, node, runtime, mounted_over("/sys", "rshared", propagation="rshared"))
    pair.start("moved")
    world.assert_unharmed()
    pair.assert_harmless()
    pair.delete()
    world.assert_unharmed()


@v1
@pytest.mark.parametrize("option", ["rprivate", "rslave"])
def test_it_keeps_what_hides_its_cgroups(scene, node, world, runtime, option):
    pair = Pair(scene, node, runtime, mounted_over("/sys", option))
    pair.start("native")
    pair.start("moved")
    assert pair.outcome() == ("adopted", "")
    for id in ("native", "moved"):
        shown = runtime.exec(id, "ls", "/sys/fs/cgroup/memory").check().out.splitlines()
        assert {"release_agent", scene.name} <= set(shown)  # as in the node's root
    world.assert_unharmed()


def test_what_hides_its_cgroups_cannot_be_taken_away(scene, node, world, runtime):
    """In a user namespace with the node's network, where there is no other /sys than the node's:
    the kernel locks its mounts to each other."""
    pair = Pair(scene, node, runtime, mounted_over("/sys", ids=True))
    pair.start("native")
    pair.start("moved")
    world.assert_unharmed()
    pair.assert_harmless()


@v1
@pytest.mark.parametrize("namespace", NAMESPACES)
def test_podman_covers_one_of_its_cgroups(scene, node, world, podman, namespace):
    """With --systemd=always the whole hierarchy of systemd lies right on the container's part of
    it, and something on that."""
    podman.more_flags = ["--systemd", "always", "--cgroupns", namespace]
    pair = Pair(scene, node, podman)
    pair.assert_alike()
    assert len([line for line in pair.sees("moved") if line[2] == "/sys/fs/cgroup/systemd"]) == 2
    world.assert_unharmed()


def on_one_cgroup(*mounts):
    """An edit: these mounts, each a destination below /sys/fs/cgroup and a source, without a
    cgroup namespace."""

    def edit(config):
        namespaces = config["linux"]["namespaces"]
        config["linux"]["namespaces"] = [n for n in namespaces if n["type"] != "cgroup"]
        for destination, source in mounts:
            mount = {"destination": f"/sys/fs/cgroup/{destination}", "source": source}
            config["mounts"].append({**mount, "type": "bind", "options": ["bind", "rprivate"]})

    return edit


FREEZER = "/sys/fs/cgroup/freezer"
ON_ONE = {
    "on a file": [("freezer/notify_on_release", "/dev/null")],
    "on two files": [
        ("freezer/notify_on_release", "/dev/null"),
        ("freezer/cgroup.clone_children", "/dev/null"),
    ],
    "right on it": [("freezer", FREEZER)],
    "right on it, and on that": [("freezer", FREEZER), ("freezer/notify_on_release", "/dev/null")],
    "right on two": [("freezer", FREEZER), ("memory", "/sys/fs/cgroup/memory")],
}
CANNOT_BE_KEPT = {
    "right on each other": [("freezer", FREEZER), ("freezer", "/sys/fs/cgroup/memory")],
    "on a file, twice": [("freezer/notify_on_release", "/dev/null")] * 2,
    "on a file, and right on it": [
        ("freezer/notify_on_release", "/dev/null"),
        ("freezer", FREEZER),
    ],
}


@v1
@pytest.mark.parametrize("name", ON_ONE)
def test_what_is_mounted_on_its_cgroup_stays(scene, node, world, runtime, name):
    pair = Pair(scene, node, runtime, on_one_cgroup(*ON_ONE[name]))
    pair.assert_alike()
    world.assert_unharmed()


@v1
@pytest.mark.parametrize("name", CANNOT_BE_KEPT)
def test_what_is_mounted_on_its_cgroup_cannot_be_kept(scene, node, world, runtime, name):
    pair = Pair(scene, node, runtime, on_one_cgroup(*CANNOT_BE_KEPT[name]))
    pair.start("native")
    pair.start("moved")
    reason = "/sys/fs/cgroup/freezer: what is mounted on it is hidden itself, and cannot be kept"
    assert pair.outcome() == ("left", reason)
    assert pair.sees("moved")[:-1] == pair.sees("moved")[:-1]


def propagating(propagation, *options):
    """An edit: how the root filesystem propagates, and more options of the cgroups' mount."""

    def edit(config):
        config["linux"]["rootfsPropagation"] = propagation
        for mount in config["mounts"]:
            if mount["destination"] == "/sys/fs/cgroup":
                mount["options"] += options

    return edit


@pytest.mark.hostonly
@pytest.mark.parametrize("propagation", ["private", "slave", "shared", "rshared"])
@pytest.mark.parametrize("option", ["rprivate", "rslave", "unbindable"])
def test_its_mounts_propagate_as_they_would(scene, node, world, runtime, propagation, option):
    pair = Pair(scene, node, runtime, propagating(propagation, option))
    pair.assert_alike()
    world.assert_unharmed()


def test_its_cgroups_are_mounted_shared(scene, node, world, runtime):
    """With whom, nobody can say. runc passes that over on v2."""
    pair = Pair(scene, node, runtime, propagating("private", "rshared"))
    pair.start("native")
    pair.start("moved")
    outcome, reason = pair.outcome()
    if any("shared" in line for line in pair.sees("native")):
        assert outcome == "left" and reason.endswith(" is mounted shared with others")
    else:
        assert pair.sees("moved") == pair.sees("native")
    world.assert_unharmed()


@pytest.mark.hostonly
def test_its_root_filesystem_is_a_mount_of_the_node(scene, node, world, runtime):
    """As an engine's are. The runtime mounts it on itself once more."""
    pair = Pair(scene, node, runtime)
    for bundle in pair.bundles.values():
        words = [*world.prefix, "mount", "--bind", bundle.rootfs, bundle.rootfs]
        subprocess.run(words, check=True)
    pair.assert_alike()


@pytest.mark.hostonly
def test_it_does_not_pivot(scene, node, world, runtime):
    call = runtime.call

    def without_pivot(verb, *words, **options):
        return call(verb, *(["--no-pivot"] if verb == "create" else []), *words, **options)

    runtime.call = without_pivot
    Pair(scene, node, runtime).assert_alike()
    world.assert_unharmed()


# A hook before ours and one after it: the runtime itself goes by the path too, at other times.
SWAP = """#!{python} -IS
import ctypes, os, signal, time
AT_FDCWD, RENAME_EXCHANGE = -100, 2
stops = []
signal.signal(signal.SIGTERM, lambda *_: stops.append(1))
signal.pthread_sigmask(signal.SIG_SETMASK, [])
if os.fork():
    os._exit(0)
for fd in range(3):
    os.close(fd)
with open("{pid}.new", "w") as file:
    file.write(str(os.getpid()))
os.rename("{pid}.new", "{pid}")
libc = ctypes.CDLL(None)
while not stops:
    for pause in (0.0007, 0.0011):
        libc.renameat2(AT_FDCWD, b"{one}", AT_FDCWD, b"{other}", RENAME_EXCHANGE)
        time.sleep(pause)
os.unlink("{pid}")
"""
STOP = """#!/bin/sh
while [ ! -e {pid} ]; do sleep 0.01; done
kill $(cat {pid})
while [ -e {pid} ]; do sleep 0.01; done
"""
TRIES = 16


def test_a_directory_above_the_root_filesystem_is_renamed(scene, node, world, runtime):
    """Whoever may do that swaps it for a link, so that the path leads to the node's own root."""
    theirs, link = f"{scene.directory}/theirs", f"{scene.directory}/link"
    rootfs = f"{theirs}/rootfs"
    make_rootfs(rootfs)
    os.symlink("elsewhere", link)
    os.mkdir(f"{scene.directory}/elsewhere")
    os.symlink("../" * rootfs.count("/"), f"{scene.directory}/elsewhere/rootfs")
    answer = {"cgroupsPath": f"{scene.cgroup}/there/{{id}}"}
    node.configure(node.plugin("mover", {"create": {"result": answer}}))
    words = {
        "python": public.python(),
        "one": theirs,
        "other": link,
        "pid": f"{scene.directory}/pid",
    }
    bundle = scene.bundle(edit=propagating("shared"), rootfs=rootfs)
    runtime.install(node, bundle)
    hooks = bundle.config["hooks"]["createRuntime"]
    for at, name, script in ((0, "swap", SWAP), (2, "stop", STOP)):
        hooks.insert(at, {"path": node.executable(name, script.format(**words), scene.directory)})
    bundle.save()
    statuses = []
    for number in range(TRIES):
        id = f"{scene.name}-{number}"
        statuses.append(runtime.create(id, bundle).status)
        if os.path.exists(words["pid"]):  # after a failure no other hook is called
            subprocess.run(["sh", "-c", STOP.format(**words)], check=True)
        runtime.delete(id)
        world.assert_unharmed()
    assert 0 in statuses
