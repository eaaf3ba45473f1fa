"""Records: one process at a time, whole or not at all, found again, in a folder of our own."""

import binascii
import os
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time

import psutil
import pytest
from support.users import as_user, in_user_namespace

from nri_hook import journal, log, oci, payload, record, strictjson
from nri_hook.errors import HookError, Left
from nri_hook.options import Options

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STRANGER = 12345
USER = 23456
ROOT = "/run/runc"
SOON = 10.0
DOCUMENT = {"id": "redis", "bundle": "/b", "pid": 0, "start": 0}


@pytest.fixture
def folder(scene):
    path = f"{scene.folder}/state"
    os.mkdir(path, 0o700)
    return path


@pytest.fixture
def options(folder):
    return Options(state_dir=folder)


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


def soon():
    return time.monotonic() + SOON


def opened(folder, name="redis-00000000", deadline=None):
    return record.Record(folder, name, soon() if deadline is None else deadline)


def release(book):
    """What the end of the process does."""
    os.close(book.lock)


def write(folder, name, data):
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(data if isinstance(data, bytes) else strictjson.dumps(data))
    return path


def kept(folder, id="redis", root=ROOT, **document):
    """Leave a record, as a hook that has ended."""
    book = opened(folder, record.name(root, id))
    book.save({"id": id, "runtimeRoot": root, "bundle": "/b", "pid": 0, "start": 0, **document})
    release(book)
    return book.name


def find(options, id="redis", root="", bundle="/b"):
    book = record.find(options, root, id, bundle, soon())
    if book is None:
        return None
    release(book)
    return book.name


# Names


def test_a_name_says_the_id_and_depends_on_the_root():
    names = {record.name(root, "redis") for root in (ROOT, "/run/crun", "", "/run/runc/")}
    assert len(names) == 4
    assert all(re.fullmatch(r"redis-[0-9a-f]{8}", name) for name in names)
    assert record.name(ROOT, "redis") == record.name(ROOT, "redis")
    # Where the two are put together it must still be clear which is which.
    assert record.name("/a", "b")[-8:] != record.name("/a\0b", "")[-8:]


def test_a_long_id_makes_a_name_that_a_filesystem_takes(options, folder):
    ids = ["x" * 1024, "x" * 1023 + "y"]
    assert record.name(ROOT, ids[0]) != record.name(ROOT, ids[1])
    names = [kept(folder, id) for id in ids]
    assert [find(options, id) for id in ids] == names
    assert [find(options, id, ROOT) for id in ids] == names
    for name in (*names, record.setup_name(ids[0])):
        write(folder, name + journal.CUT, b"")


# Two ids of one beginning for which CRC-32, with runc's root before them, is the same.
TWINS = ["x" * 200 + ending for ending in ("008ddf9", "2008894")]


def test_two_long_ids_never_have_one_name(options, folder):
    """Neither would be found where the other is: one's create would end the other."""
    former = {former_name(id) for id in TWINS}
    assert len(former) == 1
    for name_of in (lambda id: record.name(ROOT, id), record.setup_name):
        assert len({name_of(id) for id in TWINS}) == 2
    # No id can be made that looks like what stands for another.
    assert "~" in record.name(ROOT, TWINS[0]) and not oci.is_id("~")


def former_name(id, root=ROOT):
    """What nri-hook 0.1.0 called a record."""
    return f"{id[:200]}-{binascii.crc32(os.fsencode(root) + bytes(1) + id.encode()):08x}"


@pytest.mark.parametrize("id", ["redis", "y" * 200, TWINS[0]], ids=len)
def test_a_record_of_0_1_0_is_found_for_its_end(options, folder, id):
    document = {"id": id, "runtimeRoot": ROOT, "bundle": "/b", "pid": 0, "start": 0}
    write(folder, f"{former_name(id)}.json", document)
    assert find(options, id) == find(options, id, ROOT) == former_name(id)
    write(folder, f"{id[:200]}-setup.json", document)
    book = record.find_setup(options, id, soon())
    assert book.document == document
    book.remove()
    release(book)
    # One of this version goes before: the other is of a container before, and gc's.
    name = kept(folder, id)
    assert find(options, id, ROOT) == name == record.name(ROOT, id)


def test_a_record_of_0_1_0_of_another_container_is_not_taken(options, folder):
    document = {"id": TWINS[0], "runtimeRoot": ROOT, "bundle": "/b", "pid": 0, "start": 0}
    write(folder, f"{former_name(TWINS[1])}.json", document)
    write(folder, f"{TWINS[1][:200]}-setup.json", document)
    assert find(options, TWINS[1]) is find(options, TWINS[1], ROOT) is None
    assert record.find_setup(options, TWINS[1], soon()) is None
    assert find(options, TWINS[0], ROOT) == former_name(TWINS[0])


def test_the_record_of_another_container_under_our_name(options, folder):
    """By whatever accident: it is not ended, not written over, and told of."""
    name = record.name(ROOT, "redis")
    path = write(folder, f"{name}.json", dict(DOCUMENT, id="other", runtimeRoot=ROOT))
    write(folder, f"{record.setup_name('redis')}.json", dict(DOCUMENT, id="other"))
    said = f"^{re.escape(path)}: is the record of container 'other', expected redis$"
    with pytest.raises(HookError, match=said):
        find(options, root=ROOT)
    with pytest.raises(HookError, match=said):
        record.open_or_none(options, name, "redis", soon(), [])
    with pytest.raises(HookError, match="is the record of container 'other', expected redis"):
        record.find_setup(options, "redis", soon())
    assert find(options) is None
    release(opened(folder, name, 0))  # nobody holds it
    assert record.read(path)["id"] == "other"


def test_a_root_that_is_no_text(folder, options):
    root = os.fsdecode(b"/r\xff")
    name = kept(folder, root=root)
    assert find(options, root=root) == name


def test_the_checksum_in_a_name():
    every = os.fsdecode(bytes(range(1, 256)))
    for root, id in (("/run/runc", "a"), ("", "x" * 200), (f"/é/{every}", "0.-_+")):
        checksum = binascii.crc32(os.fsencode(root) + b"\0" + id.encode())
        assert record.name(root, id) == f"{id}-{checksum:08x}"
        assert record.setup_name(id) == f"{id}-setup"


# One record


def test_it_is_saved_read_again_and_removed(folder):
    book = opened(folder)
    assert book.document == {}
    for document in (DOCUMENT, dict(DOCUMENT, more=[1, "é\ud800"])):
        book.save(document)
        assert book.document == document
        with open(book.path, "rb") as file:
            assert strictjson.loads(file.read()) == document
    release(book)
    book = opened(folder)
    assert book.document == document
    book.remove()
    assert os.listdir(folder) == []
    book.remove()
    release(book)


def test_what_could_be_added_in_part_alone(folder):
    """As where the disk is full: the next one does not follow half a line."""
    book = opened(folder)
    book.save(DOCUMENT)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(book.path) + 5, limits[1]))
    try:
        with pytest.raises(HookError, match="cannot be written: File too large"):
            book.add(outcome="moved")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert record.read(book.path) == DOCUMENT
    book.add(reason="none")
    assert record.read(book.path) == dict(DOCUMENT, outcome="moved", reason="none")
    book.remove()
    release(book)


def test_what_is_added_counts_from_its_end_on(folder):
    book = opened(folder)
    book.save(DOCUMENT)
    book.add(called=[0], more="é\ud800\n")
    book.add(called=[0, 1])
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
    book.add(called=[0])
    assert record.read(book.path) == dict(DOCUMENT, called=[0])
    release(book)


@pytest.mark.parametrize("line", [b"", b"[]", b"{", b"\xff", b"1"])
def test_a_line_that_is_none(folder, line):
    name = kept(folder)
    with open(f"{folder}/{name}.json", "ab") as file:
        file.write(line + b"\n")
    with pytest.raises(HookError, match="is no record"):
        record.read(f"{folder}/{name}.json")


def test_one_of_an_earlier_version(folder):
    """Without the end of a line."""
    write(folder, "old-setup.json", b'{"id": "old"}')
    assert record.read(f"{folder}/old-setup.json") == {"id": "old"}


def test_the_mode_tells_poststart(folder):
    book = opened(folder)

    def mode():
        return stat.S_IMODE(os.stat(book.path).st_mode)

    for outcome in ("chain", "stays", "chain", "moved", "adopted", "chain", "left"):
        # What a hook has left that was killed.
        write(folder, os.path.basename(book.new_path), b"{")
        os.chmod(book.new_path, record.SETTLED)
        book.save(dict(DOCUMENT, outcome=outcome))
        assert mode() == (0o600 if outcome == "moved" else 0o1600)
    for outcome in ("stays", "moved"):
        book.save(dict(DOCUMENT, outcome="chain"))
        book.add(called=[0])
        assert mode() == 0o1600
        book.add(called=[0], outcome=outcome)
        assert mode() == (0o600 if outcome == "moved" else 0o1600)
    release(book)


def test_it_does_not_grow_and_grow(folder):
    """Each line has all answers so far: that is their number squared."""
    book = opened(folder)
    book.save(DOCUMENT)
    results = []
    for number in range(40):
        results.append({"plugin": "x" * 10_000})
        book.add(results=results)
        assert record.read(book.path)["results"] == results
        assert os.path.getsize(book.path) < 10_000 * (number + 2) + 2 * record.MAX_ADDED
    release(book)


def test_nobody_else_may_read_it(folder):
    umask = os.umask(0)
    try:
        book = opened(folder)
        book.save(DOCUMENT)
        write(folder, "other.new", b"")
    finally:
        os.umask(umask)
    for path in (book.path, book.lock_path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    release(book)


def test_a_hook_that_was_killed_while_it_wrote(folder):
    """What it left beside the record is no record, and is written over."""
    name = kept(folder)
    write(folder, f"{name}.new", b'{"id": "red')
    book = opened(folder, name)
    assert book.document["id"] == "redis"
    book.save(DOCUMENT)
    assert not os.path.exists(book.new_path)
    release(book)


def big_file(path):
    """Far more than fits into memory; nothing on the disk."""
    with open(path, "wb") as file:
        file.truncate(1 << 40)


def device(number):
    return lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, number))


def fifo_with_a_reader(path):
    os.mkfifo(path)
    os.open(path, os.O_RDWR)


def listener(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(path))  # which must be short


OBSTACLES = {
    "directory": os.mkdir,
    "fifo": os.mkfifo,
    "fifo with a reader": fifo_with_a_reader,
    "socket": listener,
    "null": device(3),
    "zero": device(5),
    "full": device(7),
    "link": lambda path: os.symlink(f"{path}-victim", path),
    "link to itself": lambda path: os.symlink(path, path),
    "huge": big_file,
    "unreadable lines": lambda path: write("/", path, b"\n" * 10),
}


@pytest.fixture(params=OBSTACLES)
def obstacle(request, folder, monkeypatch):
    """Puts something of every kind in the place of a file of the state folder."""
    monkeypatch.chdir(folder)
    return OBSTACLES[request.param]


def told(function, *args):
    """The error, or what it gives; within moments."""
    begin = time.monotonic()
    try:
        return function(*args)
    except HookError as error:
        return error
    finally:
        assert time.monotonic() - begin < SOON


def test_something_else_in_the_place_of_a_record(folder, options, obstacle):
    """Nobody takes it for no record: a create is refused, and what ended is told of."""
    name = record.name(ROOT, "redis")
    path = f"{folder}/{name}.json"
    obstacle(path)
    for function in (
        lambda: record.read(path),
        lambda: record.open_or_none(options, name, "redis", soon(), []),
        lambda: find(options, root=ROOT),
        lambda: find(options),
        lambda: record.find_to_adopt(options, ROOT, "redis", "/b", soon()),
    ):
        error = told(function)
        assert isinstance(error, HookError) and str(error).startswith(f"{path}: ")
    assert os.lstat(path)
    assert not os.path.exists(f"{path}-victim")


@pytest.mark.parametrize("ending", [".lock", ".new"])
def test_something_else_beside_a_record(folder, options, obstacle, ending):
    """What cannot be written down does not happen."""
    name = kept(folder)
    path = f"{folder}/{name}{ending}"
    if ending == ".lock":
        os.unlink(path)
    obstacle(path)
    regular = os.path.isfile(path) and not os.path.islink(path)

    def change():
        book = record.open_or_none(options, name, "redis", soon(), [])
        book.save(dict(DOCUMENT, changed=True))
        release(book)

    error = told(change)
    assert (error is None) == regular
    assert regular or str(error).startswith(f"{path}: cannot be ")
    assert record.read(f"{folder}/{name}.json").get("changed", False) == regular
    assert not os.path.exists(f"{path}-victim")


def test_something_else_in_the_place_of_the_guess(folder, obstacle):
    book = opened(folder)
    obstacle(f"{folder}/{record.MOVING}")
    for expected in (True, False, True):
        told(book.expects_move)
        told(book.expect_move, expected)
    assert not os.path.exists(f"{folder}/{record.MOVING}-victim")
    release(book)


def test_something_else_in_the_place_of_a_log(folder, obstacle):
    """It is an error that is told of, or a log without a line that is one."""
    path = f"{folder}/{record.name(ROOT, 'redis')}.log"
    report = log.Report("poststop")
    report.record, report.outcome = (folder, record.name(ROOT, "redis")), "removed"
    obstacle(path)
    regular = os.path.isfile(path) and not os.path.islink(path)
    for function, args in ((journal.read, (path,)), (journal.append, (report,))):
        if regular:
            told(function, *args)
        else:
            with pytest.raises(OSError):
                told(function, *args)
    assert not os.path.exists(f"{path}-victim")


def test_something_else_in_the_place_of_the_folder(scene, obstacle):
    path = f"{scene.folder}/other"
    obstacle(path)
    options = Options(state_dir=path)
    notes = []
    if os.path.isdir(path):  # by a link, or a folder with 0755: not ours alone
        os.chmod(path, 0o755)
    book = told(lambda: record.open_or_none(options, "redis-00000000", "redis", soon(), notes))
    assert book.name == "" and len(notes) == 1
    assert notes[0].startswith(f"no record is kept: {path}: no state folder: ")
    for root in (ROOT, ""):
        found = told(lambda root=root: find(options, root=root))
        assert found is None or isinstance(found, HookError)
    assert not os.path.exists(f"{path}-victim")


def test_a_folder_that_has_gone(folder):
    book = opened(folder)
    shutil.rmtree(folder)
    with pytest.raises(HookError, match=f"^{book.new_path}: cannot be written: No such file"):
        book.save(DOCUMENT)
    release(book)
    with pytest.raises(HookError, match="cannot be opened: No such file"):
        opened(folder)


def test_a_spoiled_record_is_an_error_that_names_it(folder, options):
    name = record.name(ROOT, "redis")
    path = f"{folder}/{name}.json"
    for data in (b"", b"{", b"[]", b'"x"', b"null", b"\xff", b'{"a":1,"a":1}'):
        write(folder, f"{name}.json", data)
        for read in (
            lambda: find(options, root=ROOT),
            lambda: find(options),
            lambda: opened(folder, name),
        ):
            with pytest.raises(HookError, match=f"^{re.escape(path)}: is no record: "):
                as_user(0, read)  # in a process of its own: the lock goes with it


def test_a_spoiled_record_of_another_container_is_its_own_matter(folder, options):
    write(folder, f"{record.name(ROOT, 'other')}.json", b"{")
    write(folder, f"{record.name(ROOT, 'redis-2')}.json", b"{")
    write(folder, "redis.json", b"{")
    name = kept(folder)
    assert find(options) == find(options, root=ROOT) == name


def test_what_was_accepted_can_be_read_back(folder):
    """A record holds documents inside of others; it must not be too deep for its own reader."""
    answer = b'{"x":' + b"[" * 99 + b"]" * 99 + b"}"
    result = payload.read_result(answer, "deep", {"id": "redis", "pid": 1, "state": "create"})
    book = opened(folder)
    book.save(dict(DOCUMENT, results=[result], request={"spec": {"resources": result}}))
    release(book)
    book = opened(folder)
    assert book.document["results"] == [result]
    release(book)


# The lock


def test_another_process_waits_for_its_end(folder):
    def hold(say):
        book = opened(folder)
        book.save(dict(DOCUMENT, by="other"))
        say()
        time.sleep(0.5)

    other = Other(hold)
    other.wait_for_word()
    begin = time.monotonic()
    book = opened(folder)
    assert 0.3 <= time.monotonic() - begin < SOON
    assert book.document["by"] == "other"
    assert other.wait() == 0
    release(book)


def test_nobody_waits_beyond_the_deadline(folder, options):
    def hold(say):
        book = opened(folder, record.name(ROOT, "redis"))
        book.save(DOCUMENT)
        say()
        time.sleep(60)

    other = Other(hold)
    other.wait_for_word()
    begin = time.monotonic()
    with pytest.raises(HookError, match="cannot be locked: Resource temporarily unavailable"):
        opened(folder, record.name(ROOT, "redis"), begin + 0.3)
    with pytest.raises(HookError, match="cannot be locked"):
        record.find(options, ROOT, "redis", "/b", begin)
    assert 0.3 <= time.monotonic() - begin < SOON
    book = opened(folder, record.name("/run/crun", "redis"), begin)  # another container
    release(book)
    other.kill()
    # Its lock has gone with it, what it wrote has not.
    book = opened(folder, record.name(ROOT, "redis"), begin)
    assert book.document == DOCUMENT
    release(book)


def test_it_was_removed_while_another_waited(folder):
    """The lock of a file that has no name any more would lock nobody out."""

    def remove(say):
        book = opened(folder)
        book.save(DOCUMENT)
        say()
        time.sleep(0.3)
        book.remove()
        time.sleep(0.3)

    other = Other(remove)
    other.wait_for_word()
    book = opened(folder)
    assert book.document == {}
    assert os.fstat(book.lock).st_ino == os.stat(book.lock_path).st_ino
    with pytest.raises(HookError, match="cannot be locked"):
        opened(folder, deadline=0)
    assert other.wait() == 0
    release(book)


LATE = f"""
import os, sys, time
sys.path.append({TOP!r})
from nri_hook import record
book = record.Record(sys.argv[1], "redis-00000000", time.monotonic() + {SOON})
print(os.fstat(book.lock).st_ino == os.stat(book.lock_path).st_ino, book.document)
"""


def test_it_is_removed_between_the_opening_and_the_locking(folder):
    """strace holds another process at its first flock(2), with the file open."""
    if not shutil.which("strace"):
        pytest.skip("there is no strace here")
    book = opened(folder)
    book.save(DOCUMENT)
    hold = ["strace", "-qq", "-o", "/dev/null", "-e", "inject=flock:delay_enter=1000000:when=1"]
    python = [os.path.realpath(sys.executable), "-IS", "-c", LATE, folder]
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
            folder = f"/proc/{child.pid}/fd"
            found += [os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)]
        except OSError:  # just closed
            pass
    return found


def test_at_no_time_do_two_have_it(scene, folder):
    """Four processes that take, write, remove and let go as fast as they can."""
    inside = f"{scene.folder}/inside"

    def work(say):
        for number in range(100):
            book = opened(folder)
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails where somebody else is in
            book.save(dict(DOCUMENT, number=number))
            os.unlink(inside)
            if number % 3:
                book.remove()
            release(book)

    workers = [Other(work) for _ in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4


def test_killed_at_any_moment_it_locks_nobody_out(folder):
    def work(say):
        say()
        while True:
            book = opened(folder)
            book.save(DOCUMENT)
            book.remove()
            release(book)

    for pause in (0, 0.001, 0.003, 0.007, 0.013):
        worker = Other(work)
        worker.wait_for_word()
        time.sleep(pause)
        worker.kill()
        book = opened(folder)
        assert book.document in ({}, DOCUMENT)
        book.remove()
        release(book)
        assert os.listdir(folder) == []


# To find one again


def test_by_the_root(folder, options):
    names = [kept(folder, root=root) for root in (ROOT, "/run/crun")]
    assert [find(options, root=root) for root in (ROOT, "/run/crun", "/other")] == [*names, None]
    assert find(options, root=ROOT, bundle="/another") == names[0]


def test_by_the_bundle_where_the_parent_is_no_runtime(folder, options):
    name = kept(folder)
    assert find(options, bundle="/b") == name
    assert find(options, bundle="/another") is None
    assert find(options, id="redi") is None
    assert find(options, id="redis2") is None


def test_a_record_without_a_bundle_fits_every_bundle(folder, options):
    """crun does not always tell the bundle."""
    name = kept(folder, bundle="")
    assert find(options, bundle="/b") == name


def test_the_bundle_decides_between_two(folder, options):
    one = kept(folder, root="/one", bundle="/one")
    two = kept(folder, root="/two", bundle="/two")
    assert [find(options, bundle=bundle) for bundle in ("/one", "/two", "/b")] == [one, two, None]


def test_several_that_fit_are_an_error(folder, options):
    names = sorted(kept(folder, root=root) for root in ("/one", "/two"))
    with pytest.raises(HookError) as caught:
        find(options)
    assert str(caught.value) == f"{folder}: several records fit: {', '.join(names)}"


def test_ids_that_look_like_names_of_records(folder, options):
    """The id of one is the beginning of the other's file name."""
    id = record.name(ROOT, "redis")
    names = [kept(folder, "redis"), kept(folder, id)]
    assert [find(options, "redis"), find(options, id)] == names
    assert find(options, "redis", ROOT) == names[0]


def test_precreates_record_is_found_by_the_id_alone(folder, options):
    book = opened(folder, record.setup_name("redis"))
    book.save(DOCUMENT)
    release(book)
    assert find(options) is None
    book = record.find_setup(options, "redis", soon())
    assert book.document == DOCUMENT
    book.remove()
    release(book)
    assert record.find_setup(options, "redis", soon()) is None


@pytest.mark.parametrize("ending", [".new", ".lock"])
def test_what_a_killed_hook_left_before_its_first_record(folder, options, ending):
    write(folder, record.name(ROOT, "redis") + ending, b"")
    assert find(options, root=ROOT) is None
    assert os.listdir(folder) == []


# Whether its container is gone


def test_a_record_is_stale_once_its_process_is_gone(folder):
    from nri_hook import init

    book = opened(folder)
    me = os.getpid()
    names = {
        "alive": {"pid": me, "start": init.start_time(me)},
        "reused": {"pid": me, "start": init.start_time(me) + 1},
        "none yet": {"pid": 0, "start": 0},
    }
    child = os.fork()
    if child == 0:
        signal.pause()
    names["child"] = {"pid": child, "start": init.start_time(child)}
    names["ended"] = dict(names["reused"], id="ended", runtime="crun", runtimeRoot=folder)
    os.makedirs(f"{folder}/ended")
    write(f"{folder}/ended", "status", b"{}")
    for name, document in names.items():
        write(folder, f"{name}.json", {"id": name, "runtime": "", "runtimeRoot": "", **document})
    write(folder, "spoiled.json", b"{")
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


# The state folder


def test_it_is_made(scene):
    path = f"{scene.folder}/a/b"
    umask = os.umask(0o077)
    try:
        assert record.folder(Options(state_dir=path)) == path
        assert record.folder(Options(state_dir=path)) == path
    finally:
        os.umask(umask)
    for place in (path, os.path.dirname(path)):
        assert stat.S_IMODE(os.stat(place).st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777, 0o720, 0o755, 0o711])
def test_one_that_is_open_to_others(folder, options, mode):
    os.chmod(folder, mode)
    with pytest.raises(HookError) as caught:
        record.folder(options)
    said = f"belongs to uid 0, mode {mode:04o}, expected 0700 of our own"
    assert str(caught.value) == f"{folder}: no state folder: {said}"


def test_one_of_another_owner(folder, options):
    os.chown(folder, STRANGER, STRANGER)
    with pytest.raises(HookError, match="no state folder: belongs to uid 12345, mode 0700"):
        record.folder(options)


def test_no_folder_at_all(scene):
    path = write(scene.folder, "file", b"")
    for place in (path, f"{path}/below"):
        with pytest.raises(HookError, match=f"^{place}: no state folder: "):
            record.folder(Options(state_dir=place))


def test_without_a_folder_the_chain_runs_and_nothing_moves(folder, options):
    notes = []
    os.chown(folder, STRANGER, STRANGER)
    book = record.open_or_none(options, "redis-00000000", "redis", soon(), notes)
    (note,) = notes
    assert note.startswith(f"no record is kept: {folder}: no state folder: belongs to uid 12345")
    book.save(DOCUMENT)
    assert (book.name, book.document) == ("", {})
    assert not book.is_stale("redis-00000000")
    with pytest.raises(Left, match="there is no record of it: .*no state folder"):
        book.check_kept()
    book.remove()
    assert os.listdir(folder) == []


def test_with_a_folder_the_record_is_kept(options, folder):
    notes = []
    book = record.open_or_none(options, "redis-00000000", "redis", soon(), notes)
    book.check_kept()
    assert (book.name, notes) == ("redis-00000000", [])
    release(book)


@pytest.fixture
def runtime_dir():
    """/run/user/UID as a login makes it."""
    path = f"/run/user/{USER}"
    made = [place for place in ("/run/user", path) if not os.path.isdir(place)]
    for place in made:
        os.mkdir(place)
        os.chmod(place, 0o755)
    os.chown(path, USER, USER)
    os.chmod(path, 0o700)
    yield path
    shutil.rmtree(path)
    if "/run/user" in made:
        os.rmdir("/run/user")


def state_folder():
    path = record.folder(Options())
    status = os.stat(path)
    return path, status.st_uid, stat.S_IMODE(status.st_mode)


def test_root_keeps_them_in_run(scene):
    assert not os.path.lexists(Options().state_dir), "in use on this machine"
    assert state_folder() == ("/run/nri-hook", 0, 0o700)
    os.rmdir("/run/nri-hook")


def test_another_user_keeps_them_in_his_own(runtime_dir):
    assert as_user(USER, state_folder) == (f"{runtime_dir}/nri-hook", USER, 0o700)


def test_root_of_a_user_namespace_keeps_them_in_the_users_own(runtime_dir):
    assert in_user_namespace(USER, state_folder) == (f"{runtime_dir}/nri-hook", 0, 0o700)
    assert os.stat(f"{runtime_dir}/nri-hook").st_uid == USER


def test_a_folder_that_was_given_is_taken_in_a_user_namespace_too(scene):
    path = f"{scene.folder}/state"
    os.mkdir(path, 0o700)
    os.chown(path, USER, USER)
    options = Options(state_dir=path)
    assert in_user_namespace(USER, lambda: record.folder(options)) == path


def test_a_user_without_a_runtime_dir_has_none():
    for enter in (as_user, in_user_namespace):
        with pytest.raises(HookError, match=f"^/run/user/{USER}/nri-hook: no state folder: Perm"):
            enter(USER, state_folder)
