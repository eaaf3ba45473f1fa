"""Something else than a file in the place of a record, or of what lies beside it."""

import os
import socket
import stat
import time

import pytest
from support.node import command
from support.records import DOCUMENT, ROOT, SOON, find, kept, opened, release, soon, write

from nri_hook.errors import HookError
from nri_hook.hook import container_log, record, state_directory
from nri_hook.hook.options import Options
from nri_hook.hook.report import Report


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
def obstacle(request, directory, monkeypatch):
    """Puts something of every kind in the place of a file of the state directory."""
    monkeypatch.chdir(directory)
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


def test_something_else_in_the_place_of_a_record(directory, options, obstacle):
    """Nobody takes it for no record: a create is refused, and what ended is told of."""
    name = state_directory.name(ROOT, "redis")
    path = f"{directory}/{name}.json"
    obstacle(path)
    for function in (
        lambda: record.read(path),
        lambda: record.open_or_none(options, name, "redis", soon(), Report("test")),
        lambda: find(options, root=ROOT),
        lambda: find(options),
        lambda: record.find_to_adopt(options, ROOT, "redis", "/b", soon()),
    ):
        error = told(function)
        assert isinstance(error, HookError) and str(error).startswith(f"{path}: ")
    assert os.lstat(path)
    assert not os.path.exists(f"{path}-victim")


@pytest.mark.parametrize("ending", [".lock", ".new"])
def test_something_else_beside_a_record(directory, options, obstacle, ending):
    """What cannot be written down does not happen."""
    name = kept(directory)
    path = f"{directory}/{name}{ending}"
    if ending == ".lock":
        os.unlink(path)
    obstacle(path)
    regular = os.path.isfile(path) and not os.path.islink(path)

    def change():
        book = record.open_or_none(options, name, "redis", soon(), Report("test"))
        book.save(dict(DOCUMENT, changed=True))
        release(book)

    error = told(change)
    assert (error is None) == regular
    assert regular or str(error).startswith(f"{path}: cannot be ")
    assert record.read(f"{directory}/{name}.json").get("changed", False) == regular
    assert not os.path.exists(f"{path}-victim")


def test_something_else_in_the_place_of_the_guess(directory, obstacle):
    book = opened(directory)
    obstacle(f"{directory}/{record.MOVING}")
    for expected in (True, False, True):
        told(book.expects_move)
        told(book.expect_move, expected)
    assert not os.path.exists(f"{directory}/{record.MOVING}-victim")
    release(book)


def test_something_else_in_the_place_of_a_log(directory, obstacle):
    """It is an error that is told of, or a log without a line that is one."""
    path = f"{directory}/{state_directory.name(ROOT, 'redis')}.log"
    report = Report("poststop")
    report.record, report.outcome = (
        (directory, state_directory.name(ROOT, "redis")),
        "removed",
    )
    obstacle(path)
    regular = os.path.isfile(path) and not os.path.islink(path)
    for function, args in ((container_log.read, (path,)), (container_log.append, (report,))):
        if regular:
            told(function, *args)
        else:
            with pytest.raises(OSError):
                told(function, *args)
    assert not os.path.exists(f"{path}-victim")


def test_something_else_in_the_place_of_the_directory(scene, obstacle):
    path = f"{scene.directory}/other"
    obstacle(path)
    options = Options(state_dir=path)
    report = Report("createRuntime")
    if os.path.isdir(path):  # by a link, or a directory with 0755: not ours alone
        os.chmod(path, 0o755)
    book = told(lambda: record.open_or_none(options, "redis-00000000", "redis", soon(), report))
    assert book.name == "" and len(report.notes) == 1
    assert report.notes[0].text.startswith(f"no record is kept: {path}: no state directory: ")
    for root in (ROOT, ""):
        found = told(lambda root=root: find(options, root=root))
        assert found is None or isinstance(found, HookError)
    assert not os.path.exists(f"{path}-victim")


@pytest.mark.parametrize("ending", [".json", ".lock", ".new"])
def test_a_container_with_a_fifo_in_the_place_of_its_record(node, runc, scene, ending):
    """It does not start, for nobody could undo its move; that is told of, and nothing waits."""
    bundle = scene.bundle()
    runc.install(node, bundle)
    node.configure(node.plugin("mover", {"create": {"result": {"cgroupsPath": scene.cgroup}}}))
    os.mkdir(node.state_dir, 0o700)
    fifo = f"{node.state_dir}/{state_directory.name(os.path.realpath(runc.root), 'one')}{ending}"
    os.mkfifo(fifo)
    said = runc.create("one", bundle).refused()
    assert f"{fifo}: cannot be " in said and "expected a regular file" in said
    assert node.calls() == []
    if os.path.exists(fifo):  # the undo removes what the record has written
        os.unlink(fifo)
    runc.create("one", bundle).check()
    (path,) = (f"{node.state_dir}/{name}" for name in node.records())
    os.rename(path, f"{path}-kept")
    os.mkfifo(path)
    runc.start("one").check()
    runc.delete("one").check()
    assert node.log()[-1]["message"] == f"{path}: cannot be read: expected a regular file"
    os.rename(f"{path}-kept", path)
    command("gc", "--state-dir", node.state_dir).check()
