"""What we did for each container, on disk before we do it.

A record is a line of JSON, and a line more each time that something has changed, whose keys replace
those before. A hook may be killed at any moment. From its record poststop, or the next create of
the same container, sends `delete` to the plugins that were called and removes what the move made.
"""

import errno
import fcntl
import os
import stat
import time

from nri_hook import procfs, strictjson
from nri_hook.cgroups import controlfile
from nri_hook.errors import HookError, Left
from nri_hook.hook import runtimes, state_directory
from nri_hook.hook.options import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Optional, TypedDict, Union

    from nri_hook.cgroups.plan import PlacementDocument
    from nri_hook.hook.report import Report

    class Creator(TypedDict):
        """The runtime's process that created the container: its pid and start time."""

        pid: int
        start: int

    class RecordDocument(TypedDict, total=False):
        """What is known of one container.

        version: VERSION; missing in records of 0.1.0.
        id, bundle, runtime, runtimeRoot: whose it is; empty as long as no runtime knows it.
        creator, pid, start: the runtime's process, and the first one of the container.
        privatePids: whether the container has a pid namespace of its own.
        entries, folders: the plugins of the configuration, and the directories they are looked for
        in, as they were at the creation.
        called: indexes into `entries` of those that got setup or create, in order.
        results: their answers.
        request: of the creation, without `conf` and `results`.
        origin, cgroupsPath: before the first hook, and now.
        cgroups: hierarchy -> path of the container's cgroup.
        placements: what poststop removes.
        outcome: "chain" while the chain is called, then "moved", "adopted", "stays" or "left".
        reason: why it was left.
        """

        version: int
        id: str
        bundle: str
        runtime: str
        runtimeRoot: str
        creator: Creator
        pid: int
        start: int
        privatePids: bool
        entries: "list[dict[str, Any]]"
        folders: "list[str]"
        called: "list[int]"
        results: "list[dict[str, Any]]"
        request: "dict[str, Any]"
        origin: str
        cgroupsPath: str
        cgroups: "dict[str, str]"
        placements: "list[PlacementDocument]"
        outcome: str
        reason: str


# Of the format, in the key "version". A record without one is of nri-hook 0.1.0.
VERSION = 1
MAX_SIZE = 64 << 20
# A record holds what others wrote some levels below its own top.
MAX_DEPTH = strictjson.MAX_DEPTH + 10
LOCK_PAUSE = 0.02
# A record has one of these modes. With the sticky bit, which means nothing on a file, poststart has
# nothing to do for its container: the launcher looks for it before it starts Python. (It would not
# see an x where /run is mounted noexec.)
PLAIN, SETTLED = 0o600, 0o1600
TO_ADOPT = "moved"  # the only outcome of a record without it
# It is there where the container before was moved.
MOVING = "moving"
# More than some plugins have to say; each line has all of the answers so far, or of the placement.
MAX_ADDED = 64 << 10


class TooNew(HookError):
    """A record that a later version of nri-hook wrote: it is left as it is."""


class Record:
    """The record of one container, locked as long as this process lives.

    name: see state_directory.name(). document: what is written, in creation.py; empty for a new
    one.
    """

    def __init__(self, directory: str, name: str, deadline: float) -> None:
        """Lock and read. deadline: of time.monotonic(). Raises HookError."""
        self.directory = directory
        self.name = name
        self.path, self.new_path, self.lock_path = (
            os.path.join(directory, name + ending) for ending in state_directory.ENDINGS
        )
        self.added = 0  # bytes, since the last save()
        self.torn = False  # the last line may be part of one
        self.lock = self._take_lock(deadline)
        try:
            self.document = read(self.path) or {}
        except HookError:
            self.close()
            raise

    def save(self, document: "RecordDocument") -> None:
        """Write the record, whole or not at all. Raises HookError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        try:
            _write(self.new_path, flags, _line(document), document)
            os.rename(self.new_path, self.path)
        except OSError as error:
            raise HookError(f"cannot be written: {error.strerror}", path=self.new_path) from None
        self.document = document
        self.added = 0
        self.torn = False

    def add(self, changes: "RecordDocument") -> None:
        """Write down what has changed of a saved record, as a line of its own, which is cheaper
        than the whole. It counts as soon as the line has its end. Raises HookError."""
        self.document = {**self.document, **changes}
        line = _line(changes)
        self.added += len(line)
        if self.torn or self.added > MAX_ADDED:
            self.save(self.document)
            return
        try:
            _write(self.path, os.O_WRONLY | os.O_APPEND, line, changes)
        except FileNotFoundError:  # somebody has removed it
            self.save(self.document)
        except OSError as error:
            self.torn = True
            raise HookError(f"cannot be written: {error.strerror}", path=self.path) from None

    def remove(self) -> None:
        """Remove the record; the container is nothing to us any more. Raises HookError."""
        for path in (self.path, self.new_path, self.lock_path):
            controlfile.unlink(path)

    def check_is_of(self, id: str) -> None:
        """Raise HookError if it is the record of another container, by whatever accident."""
        if self.document and self.document.get("id") != id:
            self.close()
            other = self.document.get("id")
            raise HookError(f"is the record of container {other!r}, expected {id}", path=self.path)

    def close(self) -> None:
        """Let others have it. A hook ends, and need not."""
        os.close(self.lock)

    def check_kept(self) -> None:
        """A move needs a record: this is one."""

    def expects_move(self) -> bool:
        """Whether the container before was moved, as most likely this one will be."""
        return os.path.exists(os.path.join(self.directory, MOVING))

    def expect_move(self, expected: bool) -> None:
        """Say it to the next one."""
        path = os.path.join(self.directory, MOVING)
        try:
            if expected and not os.path.exists(path):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, PLAIN))
            elif not expected:
                os.unlink(path)
        except OSError:  # it is no more than a guess
            pass

    def is_stale(self, name: str) -> bool:
        """Whether the container of another record is gone, or has no record."""
        try:
            document = read(os.path.join(self.directory, name + state_directory.SUFFIX))
        except HookError:
            return False
        if document is None:
            return True
        return is_gone(document)

    def _take_lock(self, deadline: float) -> int:
        while True:
            try:
                fd = strictjson.open_regular(self.lock_path, os.O_RDWR | os.O_CREAT)
            except OSError as error:
                message = f"cannot be opened: {error.strerror}"
                raise HookError(message, path=self.lock_path) from None
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_ino == os.stat(self.lock_path).st_ino:
                    return fd
            except FileNotFoundError:  # whoever held it removed the record: start again
                pass
            except OSError as error:
                if error.errno != errno.EWOULDBLOCK or time.monotonic() > deadline:
                    os.close(fd)
                    message = f"cannot be locked: {error.strerror}"
                    raise HookError(message, path=self.lock_path) from None
                time.sleep(LOCK_PAUSE)
            os.close(fd)


class NoRecord:
    """Stands for the record where no state directory can be had: the chain runs, nothing moves."""

    def __init__(self, reason: HookError) -> None:
        self.directory = self.name = self.path = ""
        self.document: "RecordDocument" = {}
        self.reason = reason

    def save(self, document: "RecordDocument") -> None:
        pass

    def add(self, changes: "RecordDocument") -> None:
        pass

    def remove(self) -> None:
        pass

    def check_kept(self) -> None:
        raise Left(f"there is no record of it: {self.reason}")

    def expects_move(self) -> bool:
        return False

    def expect_move(self, expected: bool) -> None:
        pass

    def is_stale(self, name: str) -> bool:
        return False


def open_or_none(
    options: Options, name: str, id: str, deadline: float, report: "Report"
) -> "Union[Record, NoRecord]":
    """The record of that name for container `id`, or its stand-in with a note why. Raises HookError
    if it is locked, unreadable, or another container's."""
    try:
        path = state_directory.make(options)
    except HookError as error:
        report.note(f"no record is kept: {error}", error.code)
        return NoRecord(error)
    record = Record(path, name, deadline)
    record.check_is_of(id)
    return record


def find_setup(options: Options, id: str, deadline: float) -> "Optional[Record]":
    """The record that precreate left of a container, None if there is none. Raises HookError."""
    path = state_directory.place(options)
    found = [
        n
        for n in _names_for(state_directory.setup_name(id), id, path)
        if state_directory.is_there(path, n)
    ]
    return _existing(options, found[0], id, deadline) if found else None


def find(
    options: Options, runtime_root: str, id: str, bundle: str, deadline: float
) -> "Optional[Record]":
    """The record of a container that has ended, None if there is none.

    runtime_root: "" if our parent is not a runtime (podman's poststop); then it is the one
    record of that id and bundle. Raises HookError, also if there are several.
    """
    return _find(options, runtime_root, id, bundle, deadline, state_directory.is_there)


def find_to_adopt(
    options: Options, runtime_root: str, id: str, bundle: str, deadline: float
) -> "Optional[Record]":
    """The same for poststart: None also if the record's mode says that there is nothing to do."""
    return _find(options, runtime_root, id, bundle, deadline, _awaits_adoption)


def _find(
    options: Options,
    runtime_root: str,
    id: str,
    bundle: str,
    deadline: float,
    matters: "Callable[[str, str], bool]",
) -> "Optional[Record]":
    """matters: of the directory and the name of a record, before it is read."""
    path = state_directory.place(options)
    if runtime_root:
        wanted = state_directory.name(runtime_root, id)
        found = [n for n in _names_for(wanted, id, path) if matters(path, n)][:1]
    else:
        found = [n for n in _names(path, id) if matters(path, n) and _is_of(path, n, id, bundle)]
    if len(found) > 1:
        raise HookError(f"several records fit: {', '.join(found)}", path=path)
    return _existing(options, found[0], id, deadline) if found else None


def is_gone(document: "RecordDocument") -> bool:
    """Whether the container of a record is gone. One that has ended is there until its runtime has
    deleted it."""
    alive = procfs.start_time(document["pid"]) == document["start"]
    return not alive and runtimes.record_of(document) is None


def _existing(options: Options, name: str, id: str, deadline: float) -> "Optional[Record]":
    record = Record(state_directory.make(options), name, deadline)
    if not record.document:  # a hook was killed before it had anything to write
        record.remove()
        return None
    record.check_is_of(id)
    return record


def _awaits_adoption(directory: str, name: str) -> bool:
    path = os.path.join(directory, name + state_directory.SUFFIX)
    try:
        return not os.stat(path).st_mode & stat.S_ISVTX
    except OSError:  # of what is there all the same, whoever opens it says more
        return state_directory.status_of(path) is not None


def _names_for(name: str, id: str, directory: str) -> "list[str]":
    """The names that a record may have: this one, and for a long id that of nri-hook 0.1.0, which
    only cut it, if that record is of this container."""
    if len(id) <= state_directory.LONGEST_ID:
        return [name]
    former = id[: state_directory.LONGEST_ID] + name[name.rindex("-") :]
    document = read(os.path.join(directory, former + state_directory.SUFFIX))
    return [name, former] if document and document.get("id") == id else [name]


def _names(directory: str, id: str) -> "list[str]":
    """The names of the records that may be of container `id`, under any runtime root."""
    try:
        stems = state_directory.names(directory)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HookError(f"cannot be read: {error.strerror}", path=directory) from None
    return [
        stem
        for stem in stems
        if stem[:-9] in (state_directory.short(id), id[: state_directory.LONGEST_ID])
    ]


def _is_of(directory: str, name: str, id: str, bundle: str) -> bool:
    """Whether a record is of container `id` in `bundle`. Raises HookError."""
    document = read(os.path.join(directory, name + state_directory.SUFFIX)) or {}
    return document.get("id") == id and document.get("bundle") in ("", bundle)


def read(path: str) -> "Optional[RecordDocument]":
    """The document of a record, None if it is not there. Raises HookError, and TooNew of them."""
    try:
        fd = strictjson.open_regular(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HookError(f"cannot be read: {error.strerror}", path=path) from None
    try:
        # What follows the last end of a line was never whole.
        first, *changes = strictjson.read(fd, MAX_SIZE).split(b"\n")
        documents = [strictjson.loads(line, MAX_DEPTH) for line in (first, *changes[:-1])]
    except strictjson.JSONError as error:
        raise HookError(f"is not a record: {error}", path=path) from None
    except OSError as error:
        raise HookError(f"cannot be read: {error.strerror}", path=path) from None
    finally:
        os.close(fd)
    if not all(type(document) is dict for document in documents):
        raise HookError("is not a record: expected objects", path=path)
    record: "RecordDocument" = {}
    for document in documents:
        record.update(document)
    version = record.get("version", 0)
    if type(version) is not int or version > VERSION:
        found = f"version {version!r:.20}"
        message = f"was written by a later nri-hook: {found}, expected {VERSION} at most"
        raise TooNew(message, path=path)
    _complete(record, path)
    return record


def _complete(record: "RecordDocument", path: str) -> None:
    """Give each placement a kind; 0.1.0 wrote none. Raises HookError."""
    try:
        for placed in record.get("placements", ()):
            if "kind" not in placed:
                placed["kind"] = "moved" if "moves" in placed else "native"
    except TypeError:
        raise HookError("is not a record: expected objects in its placements", path=path) from None


def _line(document: "RecordDocument") -> bytes:
    return strictjson.dumps(document) + b"\n"


def _write(path: str, flags: int, line: bytes, document: "RecordDocument") -> None:
    fd = strictjson.open_regular(path, flags)
    try:
        if "outcome" in document:  # the mode first: poststart must not miss what is written
            os.fchmod(fd, PLAIN if document["outcome"] == TO_ADOPT else SETTLED)
        data = memoryview(line)
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)
