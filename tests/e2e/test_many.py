"""Many containers at the same time: they share parents and nothing else."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import cgroups

CROWD = 32
# The guests have one slow CPU.
WORKERS, ROUNDS = (3, 2) if cgroups.pure_v2() else (6, 3)


def crowd(scene, node, runtime, target, count):
    """That many bundles with one rootfs whose containers go to `target`."""
    mover = node.plugin("mover", {"create": {"result": {"cgroupsPath": target}}})
    node.configure(mover)
    first = scene.bundle()
    bundles = [first] + [scene.bundle(rootfs=first.rootfs) for _ in range(count - 1)]
    for bundle in bundles:
        runtime.install(node, bundle)
    return mover, bundles


def at_once(work, items):
    """Do the work for all items in a thread each, and raise what any of them raised."""
    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(work, items))


@pytest.mark.hostonly
def test_32_at_once(scene, node, oci):
    """All of them make the same parents, and remove them."""
    target = f"{scene.cgroup}/a/b/{{id}}"
    mover, bundles = crowd(scene, node, oci, target, CROWD)
    names = [f"c{number}" for number in range(CROWD)]
    at_once(lambda pair: oci.create(*pair).check(), list(zip(names, bundles)))
    for name in names:
        now = cgroups.membership(oci.pid(name))
        for hierarchy in oci.hierarchies():
            assert now[hierarchy] == f"{scene.cgroup}/a/b/{name}"
    assert len(mover.calls("create")) == len(node.records()) == CROWD

    at_once(lambda name: oci.delete(name).check(), names)
    assert len(mover.calls("delete")) == CROWD
    assert scene.left_cgroups() == []
    assert node.left() == []


def test_parents_that_come_and_go(scene, node, oci):
    """Each create may find the parents there, half there, or just vanishing."""
    target = f"{scene.cgroup}/a/b/{{id}}"
    mover, bundles = crowd(scene, node, oci, target, WORKERS)

    def live(number):
        for turn in range(ROUNDS):
            name = f"c{number}-{turn}"
            oci.create(name, bundles[number]).check()
            now = cgroups.membership(oci.pid(name))
            for hierarchy in oci.hierarchies():
                assert now[hierarchy] == f"{scene.cgroup}/a/b/{name}"
            oci.delete(name).check()

    at_once(live, list(range(WORKERS)))
    assert len(mover.calls("create")) == len(mover.calls("delete")) == WORKERS * ROUNDS
    assert scene.left_cgroups() == []
    assert node.left() == []


@pytest.mark.hostonly
def test_one_id_under_two_roots(scene, node):
    """Ids are unique only below one root: neither's delete is the other's."""
    pair = [scene.runtime("runc"), scene.runtime("runc")]
    mover = node.plugin("mover")
    node.configure(mover)
    bundles = [scene.bundle(), scene.bundle()]
    targets = [f"{scene.cgroup}/{number}" for number in range(2)]
    for runtime, bundle, target in zip(pair, bundles, targets):
        mover.play({"create": {"result": {"cgroupsPath": target}}})
        runtime.install(node, bundle)
        runtime.create("same", bundle).check()
    assert len(node.records()) == 2
    places = [set(cgroups.membership(runtime.pid("same")).values()) for runtime in pair]
    assert targets[0] in places[0] and targets[1] in places[1]

    pair[0].delete("same").check()
    assert mover.call("delete")["payload"]["spec"]["cgroupsPath"] == targets[0]
    assert cgroups.places(targets[0]) == []
    assert node.record()["cgroupsPath"] == targets[1]
    assert targets[1] in cgroups.membership(pair[1].pid("same")).values()
    pair[1].delete("same").check()
    assert node.left() == []


@pytest.mark.hostonly
def test_two_cannot_have_one_place(scene, node, runc):
    """The second is refused and its plugins are told; the first stays as it is."""
    target = f"{scene.cgroup}/the-only"
    mover, bundles = crowd(scene, node, runc, target, 2)
    runc.create("first", bundles[0]).check()
    text = runc.create("second", bundles[1]).refused()
    assert f"{target}" in text and "occupied" in text
    assert node.calls("second") == [("mover", "create"), ("mover", "delete")]
    assert node.calls("first") == [("mover", "create")]
    assert target in cgroups.membership(runc.pid("first")).values()
    runc.delete("first").check()
    assert scene.left_cgroups() == []


def test_two_at_once_for_one_place(scene, node, oci):
    """Whoever comes second is refused; if both come at the same moment perhaps both are."""
    target = f"{scene.cgroup}/the-only"
    mover, bundles = crowd(scene, node, oci, target, 4)
    done = at_once(lambda n: oci.create(f"c{n}", bundles[n]), range(4))
    there = [number for number in range(4) if done[number].status == 0]
    assert len(there) <= 1
    for number in there:
        now = cgroups.membership(oci.pid(f"c{number}"))
        assert all(now[hierarchy] == target for hierarchy in oci.hierarchies())
        oci.delete(f"c{number}").check()
    assert scene.left_cgroups() == []
    assert node.left() == []


@pytest.mark.hostonly
@pytest.mark.parametrize("when", ["create", "delete"])
def test_one_that_fails_leaves_the_others_alone(scene, node, oci, when):
    """Its undo, or its delete, takes no parent from under the others."""
    target = f"{scene.cgroup}/a/{{id}}"
    mover, bundles = crowd(scene, node, oci, target, WORKERS)
    bad = node.plugin("bad", {when: {"python": "if payload['id'] == 'c0': os._exit(3)"}})
    node.configure(mover, bad)
    done = at_once(lambda n: oci.create(f"c{n}", bundles[n]), range(WORKERS))
    good = [n for n in range(WORKERS) if done[n].status == 0]
    assert good == list(range(1 if when == "create" else 0, WORKERS))
    at_once(lambda n: oci.delete(f"c{n}").check(), good)
    assert scene.left_cgroups() == []
    assert node.left() == []


# Delays the hook, our parent, at its next mark on a directory that it has just made.
HOLD = """
import subprocess, time
if payload["id"] == "slow":
    words = "strace -o /dev/null -e inject=setxattr:delay_enter=3000000:when=1 -p".split()
    none = subprocess.DEVNULL
    subprocess.Popen([*words, str(os.getppid())], stdin=none, stdout=none, stderr=none)
    while "TracerPid:\\t0\\n" in open(f"/proc/{os.getppid()}/status").read():
        time.sleep(0.01)
"""


@pytest.mark.hostonly
def test_a_place_that_another_is_just_making(scene, node, oci):
    """Between a directory and its mark it looks like anybody's. Whoever is refused, or deleted,
    takes nothing from the other."""
    target = f"{scene.cgroup}-the-only"
    mover, bundles = crowd(scene, node, oci, target, 2)
    mover.play({"create": {"python": HOLD, "result": {"cgroupsPath": target}}})
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(oci.create, "slow", bundles[0])
        deadline = time.monotonic() + 20
        while not cgroups.places(target) and time.monotonic() < deadline:
            time.sleep(0.01)
        done = {"quick": oci.create("quick", bundles[1]), "slow": slow.result()}
    there = [id for id in done if done[id].status == 0]
    for id in set(done).difference(there):
        oci.delete(id)
    assert len(there) == 1
    for id in there:
        now = cgroups.membership(oci.pid(id))
        assert {now[hierarchy] for hierarchy in oci.hierarchies()} == {target}
        oci.delete(id).check()
    assert scene.left_cgroups() == []
    assert node.left() == []
