"""Records: one process at a time, whole or not at all, found again."""

import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time

import psutil
import pytest
from support.records import DOCUMENT, ROOT, SOON, find, kept, opened, release, soon, write
from support.tree import TOP
from support.users import in_child

from nri_hook import strictjson
from nri_hook.errors import HookError
from nri_hook.hook import payload, record, state_directory


class Other:
    """A process that does something with records; wait() is for its end, kill() its end."""

    def __init__(self, function):
        self.read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                function(lambda: os.write(write, b"x"))
                status = 0
            finally:
                os._exit(status)
        os.close(write)

    def wait_for_word(self):
        assert os.read(self.read, 1) == b"x"

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self):
        os.close(self.read)
        _, status = os.waitpid(self.pid, 0)
        return status


# One record


def test_it_is_saved_read_again_and_removed(directory):
    book = opened(directory)
    assert book.document == {}
    for document in (DOCUMENT, dict(DOCUMENT, more=[1, "é\ud800"])):
        book.save(document)
        assert book.document == document
        with open(book.path, "rb") as file:
            assert strictjson.loads(file.read()) == document
    release(book)
    book = opened(directory)
    assert book.document == document
    book.remove()
    assert os.listdir(directory) == []
    book.remove()
    release(book)


def test_what_could_be_added_in_part_alone(directory):
    """As where the disk is full: the next one does not follow half a line."""
    book = opened(directory)
    book.save(DOCUMENT)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(book.path) + 5, limits[1]))
    try:
        with pytest.raises(HookError, match="cannot be written: File too large"):
            book.add({"outcome": "moved"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert record.read(book.path) == DOCUMENT
    book.add({"reason": "none"})
    assert record.read(book.path) == dict(DOCUMENT, outcome="moved", reason="none")
    book.remove()
    release(book)


def test_what_is_added_counts_from_its_end_on(directory):
    book = opened(directory)
    book.save(DOCUMENT)
    book.add({"called": [0], "more": "é\ud800\n"})
    book.add({"called": [0, 1]})
    document = dict(DOCUMENT, called=[0, 1], more="é\ud800\n")
    assert book.document == document == record.read(book.path)
    with open(book.path, "ab") as file:  # a hook is killed
        for byte in b'{"called":[0,1,2]}':
            file.write(bytes([byte]))
            file.flush()
            assert record.read(book.path) == document
        file.write(b"\n")
    assert record.read(book.path)["called"] == [0, 1, 2]
    book.save(DOCUMENT)
    assert record.read(book.path) == DOCUMENT
    os.unlink(book.path)  # by hand
    book.add({"called": [0]})
    assert record.read(book.path) == dict(DOCUMENT, called=[0])
    release(book)


@pytest.mark.parametrize("line", [b"", b"[]", b"{", b"\xff", b"1"])
def test_a_line_that_is_none(directory, line):
    name = kept(directory)
    with open(f"{directory}/{name}.json", "ab") as file:
        file.write(line + b"\n")
    with pytest.raises(HookError, match="is not a record"):
        record.read(f"{directory}/{name}.json")


@pytest.mark.parametrize("version", ["2", "1.5", '"1"', "true", "null", "[]"])
def test_one_of_a_later_version(directory, version):
    text = f'{{"id": "later", "version": {version}}}\n'.encode()
    write(directory, "later-setup.json", text)
    with pytest.raises(record.TooNew, match="was written by a later nri-hook"):
        record.read(f"{directory}/later-setup.json")


def test_one_of_an_earlier_version(directory):
    """Without the end of a line."""
    write(directory, "old-setup.json", b'{"id": "old"}')
    assert record.read(f"{directory}/old-setup.json") == {"id": "old"}


@pytest.mark.parametrize("placed, kind", [({"moves": []}, "moved"), ({"leaves": []}, "native")])
def test_the_kind_of_an_earlier_placement(directory, placed, kind):
    write(directory, "old-setup.json", strictjson.dumps({"id": "old", "placements": [placed]}))
    document = record.read(f"{directory}/old-setup.json")
    assert document["placements"] == [dict(placed, kind=kind)]


@pytest.mark.parametrize("placements", ["5", "[5]", '["x"]'])
def test_placements_of_an_unknown_shape(directory, placements):
    write(directory, "old-setup.json", f'{{"id": "old", "placements": {placements}}}'.encode())
    with pytest.raises(HookError, match="is not a record: expected objects in its placements"):
        record.read(f"{directory}/old-setup.json")


def test_the_mode_tells_poststart(directory):
    book = opened(directory)

    def mode():
        return stat.S_IMODE(os.stat(book.path).st_mode)

    for outcome in ("chain", "stays", "chain", "moved", "adopted", "chain", "left"):
        # What a hook has left that was killed.
        write(directory, os.path.basename(book.new_path), b"{")
        os.chmod(book.new_path, record.SETTLED)
        book.save(dict(DOCUMENT, outcome=outcome))
        assert mode() == (0o600 if outcome == "moved" else 0o1600)
    for outcome in ("stays", "moved"):
        book.save(dict(DOCUMENT, outcome="chain"))
        book.add({"called": [0]})
        assert mode() == 0o1600
        book.add({"called": [0], "outcome": outcome})
        assert mode() == (0o600 if outcome == "moved" else 0o1600)
    release(book)


def test_it_does_not_grow_and_grow(directory):
    """Each line has all answers so far: that is their number squared."""
    book = opened(directory)
    book.save(DOCUMENT)
    results = []
    for number in range(40):
        results.append({"plugin": "x" * 10_000})
        book.add({"results": results})
        assert record.read(book.path)["results"] == results
        assert os.path.getsize(book.path) < 10_000 * (number + 2) + 2 * record.MAX_ADDED
    release(book)


def test_nobody_else_may_read_it(directory):
    umask = os.umask(0)
    try:
        book = opened(directory)
        book.save(DOCUMENT)
        write(directory, "other.new", b"")
    finally:
        os.umask(umask)
    for path in (book.path, book.lock_path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    release(book)


def test_a_hook_that_was_killed_while_it_wrote(directory):
    """What it left beside the record is no record, and is written over."""
    name = kept(directory)
    write(directory, f"{name}.new", b'{"id": "red')
    book = opened(directory, name)
    assert book.document["id"] == "redis"
    book.save(DOCUMENT)
    assert not os.path.exists(book.new_path)
    release(book)


def test_a_directory_that_has_gone(directory):
    book = opened(directory)
    shutil.rmtree(directory)
    with pytest.raises(HookError, match=f"^{book.new_path}: cannot be written: No such file"):
        book.save(DOCUMENT)
    release(book)
    with pytest.raises(HookError, match="cannot be opened: No such file"):
        opened(directory)


def test_a_spoiled_record_is_an_error_that_names_it(directory, options):
    name = state_directory.name(ROOT, "redis")
    path = f"{directory}/{name}.json"
    for data in (b"", b"{", b"[]", b'"x"', b"null", b"\xff", b'{"a":1,"a":1}'):
        write(directory, f"{name}.json", data)
        for read in (
            lambda: find(options, root=ROOT),
            lambda: find(options),
            lambda: opened(directory, name),
        ):
            with pytest.raises(HookError, match=f"^{re.escape(path)}: is not a record: "):
                in_child(read)  # the lock goes with it


def test_a_spoiled_record_of_another_container_is_its_own_matter(directory, options):
    write(directory, f"{state_directory.name(ROOT, 'other')}.json", b"{")
    write(directory, f"{state_directory.name(ROOT, 'redis-2')}.json", b"{")
    write(directory, "redis.json", b"{")
    name = kept(directory)
    assert find(options) == find(options, root=ROOT) == name


def test_what_was_accepted_can_be_read_back(directory):
    """A record holds documents inside of others; it must not be too deep for its own reader."""
    answer = b'{"x":' + b"[" * 99 + b"]" * 99 + b"}"
    result = payload.read_result(answer, "deep", {"id": "redis", "pid": 1, "state": "create"})
    book = opened(directory)
    book.save(dict(DOCUMENT, results=[result], request={"spec": {"resources": result}}))
    release(book)
    book = opened(directory)
    assert book.document["results"] == [result]
    release(book)


# The lock


def test_another_process_waits_for_its_end(directory):
    def hold(say):
        book = opened(directory)
        book.save(dict(DOCUMENT, by="other"))
        say()
        time.sleep(0.5)

    other = Other(hold)
    other.wait_for_word()
    begin = time.monotonic()
    book = opened(directory)
    assert 0.3 <= time.monotonic() - begin < SOON
    assert book.document["by"] == "other"
    assert other.wait() == 0
    release(book)


def test_nobody_waits_beyond_the_deadline(directory, options):
    def hold(say):
        book = opened(directory, state_directory.name(ROOT, "redis"))
        book.save(DOCUMENT)
        say()
        time.sleep(60)

    other = Other(hold)
    other.wait_for_word()
    begin = time.monotonic()
    with pytest.raises(HookError, match="cannot be locked: Resource temporarily unavailable"):
        opened(directory, state_directory.name(ROOT, "redis"), begin + 0.3)
    with pytest.raises(HookError, match="cannot be locked"):
        record.find(options, ROOT, "redis", "/b", begin)
    assert 0.3 <= time.monotonic() - begin < SOON
    book = opened(directory, state_directory.name("/run/crun", "redis"), begin)  # another container
    release(book)
    other.kill()
    # Its lock has gone with it, what it wrote has not.
    book = opened(directory, state_directory.name(ROOT, "redis"), begin)
    assert book.document == DOCUMENT
    release(book)


def test_it_was_removed_while_another_waited(directory):
    """The lock of a file that has no name any more would lock nobody out."""

    def remove(say):
        book = opened(directory)
        book.save(DOCUMENT)
        say()
        time.sleep(0.3)
        book.remove()
        time.sleep(0.3)

    other = Other(remove)
    other.wait_for_word()
    book = opened(directory)
    assert book.document == {}
    assert os.fstat(book.lock).st_ino == os.stat(book.lock_path).st_ino
    with pytest.raises(HookError, match="cannot be locked"):
        opened(directory, deadline=0)
    assert other.wait() == 0
    release(book)


LATE = f"""
import os, sys, time
sys.path.append({TOP!r})
from nri_hook.hook import record, state_directory
book = record.Record(sys.argv[1], "redis-00000000", time.monotonic() + {SOON})
print(os.fstat(book.lock).st_ino == os.stat(book.lock_path).st_ino, book.document)
"""


def test_it_is_removed_between_the_opening_and_the_locking(directory):
    """strace holds another process at its first flock(2), with the file open."""
    if not shutil.which("strace"):
        pytest.skip("there is no strace here")
    book = opened(directory)
    book.save(DOCUMENT)
    hold = ["strace", "-qq", "-o", "/dev/null", "-e", "inject=flock:delay_enter=1000000:when=1"]
    python = [os.path.realpath(sys.executable), "-IS", "-c", LATE, directory]
    with subprocess.Popen([*hold, *python], stdout=subprocess.PIPE) as process:
        deadline = soon()
        while book.lock_path not in open_files(process.pid):
            assert process.poll() is None and time.monotonic() < deadline
        book.remove()
        release(book)
        assert process.stdout.read() == b"True {}\n"


def open_files(parent):
    """What the children of a process have open."""
    found = []
    for child in psutil.Process(parent).children():
        try:
            directory = f"/proc/{child.pid}/fd"
            found += [os.readlink(f"{directory}/{fd}") for fd in os.listdir(directory)]
        except OSError:  # just closed
            pass
    return found


def test_at_no_time_do_two_have_it(tmp_path, directory):
    """Four processes that take, write, remove and let go as fast as they can."""
    inside = f"{tmp_path}/inside"

    def work(say):
        for number in range(100):
            book = opened(directory)
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails where somebody else is in
            book.save(dict(DOCUMENT, number=number))
            os.unlink(inside)
            if number % 3:
                book.remove()
            release(book)

    workers = [Other(work) for _ in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4


def test_killed_at_any_moment_it_locks_nobody_out(directory):
    def work(say):
        say()
        while True:
            book = opened(directory)
            book.save(DOCUMENT)
            book.remove()
            release(book)

    for pause in (0, 0.001, 0.003, 0.007, 0.013):
        worker = Other(work)
        worker.wait_for_word()
        time.sleep(pause)
        worker.kill()
        book = opened(directory)
        assert book.document in ({}, DOCUMENT)
        book.remove()
        release(book)
        assert os.listdir(directory) == []


# To find one again


def test_by_the_root(directory, options):
    names = [kept(directory, root=root) for root in (ROOT, "/run/crun")]
    assert [find(options, root=root) for root in (ROOT, "/run/crun", "/other")] == [*names, None]
    assert find(options, root=ROOT, bundle="/another") == names[0]


def test_by_the_bundle_where_the_parent_is_no_runtime(directory, options):
    name = kept(directory)
    assert find(options, bundle="/b") == name
    assert find(options, bundle="/another") is None
    assert find(options, id="redi") is None
    assert find(options, id="redis2") is None


def test_a_record_without_a_bundle_fits_every_bundle(directory, options):
    """crun does not always tell the bundle."""
    name = kept(directory, bundle="")
    assert find(options, bundle="/b") == name


def test_the_bundle_decides_between_two(directory, options):
    one = kept(directory, root="/one", bundle="/one")
    two = kept(directory, root="/two", bundle="/two")
    assert [find(options, bundle=bundle) for bundle in ("/one", "/two", "/b")] == [one, two, None]


def test_several_that_fit_are_an_error(directory, options):
    names = sorted(kept(directory, root=root) for root in ("/one", "/two"))
    with pytest.raises(HookError) as caught:
        find(options)
    assert str(caught.value) == f"{directory}: several records fit: {', '.join(names)}"


def test_ids_that_look_like_names_of_records(directory, options):
    """The id of one is the beginning of the other's file name."""
    id = state_directory.name(ROOT, "redis")
    names = [kept(directory, "redis"), kept(directory, id)]
    assert [find(options, "redis"), find(options, id)] == names
    assert find(options, "redis", ROOT) == names[0]


def test_precreates_record_is_found_by_the_id_alone(directory, options):
    book = opened(directory, state_directory.setup_name("redis"))
    book.save(DOCUMENT)
    release(book)
    assert find(options) is None
    book = record.find_setup(options, "redis", soon())
    assert book.document == DOCUMENT
    book.remove()
    release(book)
    assert record.find_setup(options, "redis", soon()) is None


@pytest.mark.parametrize("root", [ROOT, ""])
def test_poststart_goes_by_the_mode_before_it_reads(directory, options, root):
    """As the launcher does: then the two cannot disagree, and it waits for no lock."""

    def find_to_adopt():
        found = record.find_to_adopt(options, root, "redis", "/b", soon())
        if found:
            release(found)
        return found and found.name

    name = kept(directory, outcome="moved")
    path = f"{directory}/{name}.json"
    assert find_to_adopt() == name
    kept(directory, outcome="adopted")
    book = opened(directory, name)
    for data in (b"{}", b"{", b""):
        assert find_to_adopt() is None
        write(directory, f"{name}.json", data)
    release(book)
    os.unlink(path)
    assert find_to_adopt() is None
    os.rename(directory, f"{directory}-gone")
    assert find_to_adopt() is find(options, root=root) is None
    assert not os.path.exists(directory)
    os.rename(f"{directory}-gone", directory)


@pytest.mark.parametrize("ending", [".new", ".lock"])
def test_what_a_killed_hook_left_before_its_first_record(directory, options, ending):
    write(directory, state_directory.name(ROOT, "redis") + ending, b"")
    assert find(options, root=ROOT) is None
    assert os.listdir(directory) == []


# Whether its container is gone


def test_a_record_is_stale_once_its_process_is_gone(directory):
    from nri_hook import procfs

    book = opened(directory)
    me = os.getpid()
    names = {
        "alive": {"pid": me, "start": procfs.start_time(me)},
        "reused": {"pid": me, "start": procfs.start_time(me) + 1},
        "none yet": {"pid": 0, "start": 0},
    }
    child = os.fork()
    if child == 0:
        signal.pause()
    names["child"] = {"pid": child, "start": procfs.start_time(child)}
    names["ended"] = dict(names["reused"], id="ended", runtime="crun", runtimeRoot=directory)
    os.makedirs(f"{directory}/ended")
    write(f"{directory}/ended", "status", b"{}")
    for name, document in names.items():
        write(directory, f"{name}.json", {"id": name, "runtime": "", "runtimeRoot": "", **document})
    write(directory, "spoiled.json", b"{")
    assert not book.is_stale("alive")
    assert book.is_stale("reused")
    assert not book.is_stale("none yet")
    assert book.is_stale("missing")
    assert not book.is_stale("spoiled")
    assert not book.is_stale("child")
    assert not book.is_stale("ended")  # its runtime has not deleted it yet
    os.kill(child, signal.SIGKILL)
    deadline = soon()
    while not book.is_stale("child"):  # a zombie from now on
        assert time.monotonic() < deadline
    os.waitpid(child, 0)
    assert book.is_stale("child")
    release(book)
