"""The directory of the records: where it is, whose, and what is done without one."""

import fcntl
import os
import shutil
import stat
import time

import pytest
from support import cgroups
from support.records import DOCUMENT, release, soon, write
from support.users import as_user, in_user_namespace

from nri_hook.cgroups import directories, hierarchies
from nri_hook.errors import HookError, Left
from nri_hook.hook import record, state_directory
from nri_hook.hook.options import Options
from nri_hook.hook.report import Report

STRANGER = 12345
USER = 23456


def test_it_is_made(scene):
    path = f"{scene.directory}/a/b"
    umask = os.umask(0o077)
    try:
        assert state_directory.make(Options(state_dir=path)) == path
        assert state_directory.make(Options(state_dir=path)) == path
    finally:
        os.umask(umask)
    for place in (path, os.path.dirname(path)):
        assert stat.S_IMODE(os.stat(place).st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777, 0o720, 0o755, 0o711])
def test_one_that_is_open_to_others(directory, options, mode):
    os.chmod(directory, mode)
    with pytest.raises(HookError) as caught:
        state_directory.make(options)
    said = f"belongs to uid 0, mode {mode:04o}, expected 0700 of our own"
    assert str(caught.value) == f"{directory}: no state directory: {said}"


def test_nobody_else_holds_a_move_up(directory, options, scene):
    """A directory that anybody may open is one that anybody may lock, for as long as they like."""
    os.chmod(scene.directory, 0o755)
    os.chmod(directory, 0o755)
    holder = os.open(directory, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    hierarchy = hierarchies.mounted(hierarchies.membership(os.getpid()))[cgroups.V2]
    cgroup = f"{scene.cgroup}/x"
    begin = time.monotonic()
    with pytest.raises(
        HookError, match=f"{directory}: is open to others, expected a directory of our"
    ):
        directories.make(hierarchy, cgroup, "claim", [], directory)
    # The mark of a cgroup may name a directory that has been another's since.
    (path,) = scene.parent(cgroup, [cgroups.V2])
    directories.mark(path, "claim", directory)
    directories.remove_empty(path, lambda path: path.startswith(hierarchy.directory(scene.cgroup)))
    assert time.monotonic() - begin < directories.MARKING
    assert not os.path.exists(path)
    os.close(holder)


def test_one_of_another_owner(directory, options):
    os.chown(directory, STRANGER, STRANGER)
    with pytest.raises(HookError, match="no state directory: belongs to uid 12345, mode 0700"):
        state_directory.make(options)


def test_no_directory_at_all(scene):
    path = write(scene.directory, "file", b"")
    for place in (path, f"{path}/below"):
        with pytest.raises(HookError, match=f"^{place}: no state directory: "):
            state_directory.make(Options(state_dir=place))


def test_without_a_directory_the_chain_runs_and_nothing_moves(directory, options):
    report = Report("createRuntime")
    os.chown(directory, STRANGER, STRANGER)
    book = record.open_or_none(options, "redis-00000000", "redis", soon(), report)
    (note,) = report.notes
    assert note.text.startswith(
        f"no record is kept: {directory}: no state directory: belongs to uid 12345"
    )
    book.save(DOCUMENT)
    assert (book.name, book.document) == ("", {})
    assert not book.is_stale("redis-00000000")
    with pytest.raises(Left, match="there is no record of it: .*no state directory"):
        book.check_kept()
    book.remove()
    assert os.listdir(directory) == []


def test_with_a_directory_the_record_is_kept(options, directory):
    report = Report("createRuntime")
    book = record.open_or_none(options, "redis-00000000", "redis", soon(), report)
    book.check_kept()
    assert (book.name, report.notes) == ("redis-00000000", [])
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


def made():
    path = state_directory.make(Options())
    status = os.stat(path)
    return path, status.st_uid, stat.S_IMODE(status.st_mode)


def test_root_keeps_them_in_run(scene):
    assert not os.path.lexists(Options().state_dir), "in use on this machine"
    assert made() == ("/run/nri-hook", 0, 0o700)
    os.rmdir("/run/nri-hook")


def test_another_user_keeps_them_in_his_own(runtime_dir):
    assert as_user(USER, made) == (f"{runtime_dir}/nri-hook", USER, 0o700)


def test_root_of_a_user_namespace_keeps_them_in_the_users_own(runtime_dir):
    assert in_user_namespace(USER, made) == (f"{runtime_dir}/nri-hook", 0, 0o700)
    assert os.stat(f"{runtime_dir}/nri-hook").st_uid == USER


def test_a_directory_that_was_given_is_taken_in_a_user_namespace_too(scene):
    path = f"{scene.directory}/state"
    os.mkdir(path, 0o700)
    os.chown(path, USER, USER)
    options = Options(state_dir=path)
    assert in_user_namespace(USER, lambda: state_directory.make(options)) == path


def test_a_user_without_a_runtime_dir_has_none():
    for enter in (as_user, in_user_namespace):
        with pytest.raises(
            HookError, match=f"^/run/user/{USER}/nri-hook: no state directory: Perm"
        ):
            enter(USER, made)
