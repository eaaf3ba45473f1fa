"""The logs of all containers together: failing creates, however many, leave room for good ones."""

import os
import subprocess

import pytest
from support.commands import read
from support.node import command
from unit.hook.test_container_log import call, report

from nri_hook.hook import container_log, log_space

pytestmark = pytest.mark.once

PAYLOAD = b'"%s"' % (b"x" * 50000)
MIB = 1 << 20


@pytest.fixture
def directory(node):
    """The state directory of a node, on a filesystem of 32 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    path = node.state_dir
    os.mkdir(path)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m,mode=0700", "none", path], check=True)
    yield path
    node.keeps = True
    subprocess.run(["umount", path], check=True)


def write(directory, name, age, payload=PAYLOAD, lines=1, **changes):
    """The log of a container that last changed so many seconds ago."""
    for number in range(lines):
        made = report(directory, [call(payload=payload)], message=str(number), **changes)
        made.record = (directory, name)
        container_log.append(made)
    status = os.stat(f"{directory}/{name}.log")
    os.utime(f"{directory}/{name}.log", (status.st_mtime - age,) * 2)


def used(directory):
    """Bytes on the disk of all logs."""
    return sum(os.stat(f"{directory}/{name}").st_blocks * 512 for name in os.listdir(directory))


def texts(directory):
    return {name: read(f"{directory}/{name}") for name in os.listdir(directory)}


def test_the_smaller_of_two_bounds(directory):
    """16 MiB, or an eighth of the filesystem."""
    assert log_space.MAX_SIZE == 16 * MIB
    for number in range(70):
        write(directory, f"c{number}", 0)
    before = texts(directory)
    assert 3 * MIB < used(directory) < 4 * MIB
    log_space.make_room(directory)
    assert texts(directory) == before
    subprocess.run(["mount", "-o", "remount,size=16m", directory], check=True)
    log_space.make_room(directory)
    assert used(directory) <= 2 * MIB


def test_the_oldest_payloads_go_first(directory):
    """All that has been said is kept, and when."""
    for number in range(90):
        write(directory, f"c{number}", 1000 - number)
    changed = {name: os.stat(f"{directory}/{name}").st_mtime_ns for name in os.listdir(directory)}
    log_space.make_room(directory)
    assert 2.9 * MIB < used(directory) <= 3 * MIB
    found = [container_log.read(f"{directory}/c{number}.log")[0] for number in range(90)]
    with_payload = [number for number, entry in enumerate(found) if "payload" in entry]
    assert with_payload == list(range(with_payload[0], 90))
    assert {entry["message"] for entry in found} == {"0"}
    assert found[0]["payloadBytes"] == len(PAYLOAD)
    assert changed == {name: os.stat(f"{directory}/{name}").st_mtime_ns for name in changed}


def test_then_the_oldest_logs(directory):
    for number in range(1100):
        write(directory, f"c{number}", 2000 - number, payload=b"{}")
    log_space.make_room(directory)
    assert used(directory) <= 3 * MIB
    left = sorted(int(name[1:-4]) for name in os.listdir(directory))
    assert left == list(range(left[0], 1100)) and len(left) > 700


def test_the_last_lines_of_containers_that_are_there_go_last(directory):
    """Older than all the others, and with more to say; a setup is not the container's own log."""
    for number in range(20):
        write(directory, f"there{number}", 5000, payload=b"{}", lines=20)
        os.mknod(f"{directory}/there{number}.json")
    for number in range(1100):
        write(directory, f"gone{number}", 2000 - number, payload=b"{}")
    log_space.make_room(directory)
    for number in range(20):
        assert len(container_log.read(f"{directory}/there{number}.log")) == 20
    left = [name for name in os.listdir(directory) if name.startswith("gone")]
    for name in left:
        os.unlink(f"{directory}/{name}")
    for number in range(20, 1100):
        write(directory, f"there{number}", 5000 - number, payload=b"{}", outcome="stays")
        os.mknod(f"{directory}/there{number}.json")
    log_space.make_room(directory)
    for number in range(20):
        if os.path.exists(f"{directory}/there{number}.log"):
            (last,) = container_log.read(f"{directory}/there{number}.log")
            assert last["message"] == "19"
    assert used(directory) <= 3 * MIB


def test_what_is_no_log_is_let_be(directory):
    os.mkfifo(f"{directory}/fifo.log")
    os.mkdir(f"{directory}/directory.log")
    os.symlink(f"{directory}/fifo.log", f"{directory}/link.log")
    with open(f"{directory}/huge.log", "wb") as file:
        file.write(b"x" * 8 * MIB)
    log_space.make_room(directory)
    assert sorted(os.listdir(directory)) == ["directory.log", "fifo.log", "link.log"]


def test_on_a_full_filesystem(directory):
    """Where there is no room to write anything anew."""
    for number in range(90):
        write(directory, f"c{number}", 1000 - number)
    with open(f"{directory}/full", "wb") as file, pytest.raises(OSError):
        while True:
            file.write(b"x" * MIB)
            file.flush()
    log_space.make_room(directory)
    os.unlink(f"{directory}/full")
    assert used(directory) <= 3 * MIB and len(os.listdir(directory)) == 90


def test_gc_says_it_and_does_it(directory):
    for number in range(90):
        write(directory, f"c{number}", 1000 - number)
    write(directory, "there", 0, payload=b"{}")
    before = texts(directory)
    done = command("gc", "--dry-run", "--state-dir", directory).check()
    lines = done.out.splitlines()
    assert lines[0] == f"{directory}/c0.log: the logs take too much room: removing its payloads"
    assert texts(directory) == before
    assert command("gc", "--state-dir", directory).check().out == done.out
    assert used(directory) <= 3 * MIB
    assert command("gc", "--state-dir", directory).check().out == ""


@pytest.mark.hostonly
def test_a_good_create_after_many_that_failed(scene, node, runc, directory):
    """What they leave would fill the filesystem nearly twice."""
    bundle = scene.bundle()
    runc.install(node, bundle)
    plugin = node.plugin("picky", {"create": {"result": {"error": "no"}}})
    node.configure(plugin)
    for number in range(1000):
        write(directory, f"c{number}", 0)
        if number % 50 == 0:
            assert "No space" not in runc.create("one", bundle).refused()
            runc.delete("one")
            assert used(directory) <= 4.1 * MIB
    plugin.play({})
    runc.run("one", bundle).check()
    assert runc.status("one") == "running"
    assert command("log", "--state-dir", directory, "one").check().out.count("FAILED") <= 20
    runc.delete("one").check()
