"""What we did for each container, on disk before we do it.

A record is a line of JSON, and a line more each time that something has changed, whose keys replace
those before. A hook may be killed at any moment. From its record poststop, or the next create of
the same container, sends `delete` to the plugins that were called and removes what the move made.
"""

import errno
import fcntl
import os
import time

from nri_hook import init, runtimes, strictjson, trust
from nri_hook.cgroups import files
from nri_hook.errors import HookError, Left
from nri_hook.options import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, Union

MAX_SIZE = 64 << 20
# A record holds what others wrote some levels below its own top.
MAX_DEPTH = strictjson.MAX_DEPTH + 10
SUFFIX = ".json"
LOCK = ".lock"
# The record, the next one while it is written, and what is locked.
ENDINGS = (SUFFIX, ".new", LOCK)
LOCK_PAUSE = 0.02
# The remainders of CRC-32 for the four low bits (polynomial 0xEDB88320).
HALF_BYTES = (
    *(0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158),
    *(0x5005713C, 0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4),
    *(0xA00AE278, 0xBDBDF21C),
)
# Outcomes after which poststart may have something to do. A record of any other has a mode that
# tells so: the sticky bit, which means nothing on a file, and for which the launcher looks before
# it starts Python (an x would not be seen where /run is mounted noexec).
TO_ADOPT = ("chain", "moved")
PLAIN, SETTLED = 0o600, 0o1600
# It is there where the container before was moved.
MOVING = "moving"
# More than some plugins have to say; each line has all of the answers so far, or of the placement.
MAX_ADDED = 64 << 10


class Record:
    """The record of one container, locked as long as this process lives.

    name: see name(). document: what is written, in creation.py; empty for a new one.
    """

    def __init__(self, folder: str, name: str, deadline: float) -> None:
        """Lock and read. deadline: of time.monotonic(). Raises HookError."""
        self.folder = folder
        self.name = name
        self.path, self.new_path, self.lock_path = (
            os.path.join(folder, name + ending) for ending in ENDINGS
        )
        self.added = 0  # bytes, since the last save()
        self.torn = False  # the last line may be part of one
        self.lock = self._take_lock(deadline)
        try:
            self.document = read(self.path) or {}
        except HookError:
            self.close()
            raise

    def save(self, document: "dict[str, Any]") -> None:
        """Write the record, whole or not at all. Raises HookError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        try:
            _write(self.new_path, flags, _line(document), document)
            os.rename(self.new_path, self.path)
        except OSError as error:
            raise HookError(f"cannot be written: {error.strerror}", path=self.path) from None
        self.document = document
        self.added = 0
        self.torn = False

    def add(self, **changes: "Any") -> None:
        """Write down what has changed of a saved record, as a line of its own, which is cheaper
        than the whole. It counts as soon as the line has its end. Raises HookError."""
        self.document = dict(self.document, **changes)
        line = _line(changes)
        self.added += len(line)
        if self.torn or self.added > MAX_ADDED:
            self.save(self.document)
            return
        try:
            _write(self.path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW, line, changes)
        except FileNotFoundError:  # somebody has removed it
            self.save(self.document)
        except OSError as error:
            self.torn = True
            raise HookError(f"cannot be written: {error.strerror}", path=self.path) from None

    def remove(self) -> None:
        """Remove the record; the container is nothing to us any more. Raises HookError."""
        for path in (self.path, self.new_path, self.lock_path):
            files.unlink(path)

    def close(self) -> None:
        """Let others have it. A hook ends, and need not."""
        os.close(self.lock)

    def check_kept(self) -> None:
        """A move needs a record: this is one."""

    def expects_move(self) -> bool:
        """Whether the container before was moved, as most likely this one will be."""
        return os.path.exists(os.path.join(self.folder, MOVING))

    def expect_move(self, expected: bool) -> None:
        """Say it to the next one."""
        path = os.path.join(self.folder, MOVING)
        try:
            if expected and not os.path.exists(path):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, PLAIN))
            elif not expected:
                os.unlink(path)
        except OSError:  # it is no more than a guess
            pass

    def is_stale(self, name: str) -> bool:
        """Whether the container of another record is gone, or has no record. One that has ended
        is there until its runtime has deleted it."""
        try:
            document = read(os.path.join(self.folder, name + SUFFIX))
        except HookError:
            return False
        if document is None:
            return True
        alive = init.start_time(document["pid"]) == document["start"]
        return not alive and runtimes.record_of(document) is None

    def _take_lock(self, deadline: float) -> int:
        while True:
            try:
                fd = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
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
    """Stands for the record where no state folder can be had: the chain runs, nothing moves."""

    def __init__(self, reason: HookError) -> None:
        self.folder = self.name = ""
        self.document: "dict[str, Any]" = {}
        self.reason = reason

    def save(self, document: "dict[str, Any]") -> None:
        pass

    def add(self, **changes: "Any") -> None:
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
    options: Options, name: str, deadline: float, notes: "list[str]"
) -> "Union[Record, NoRecord]":
    """The record of that name, or its stand-in with a note why. Raises HookError where it is
    locked or unreadable."""
    try:
        path = folder(options)
    except HookError as error:
        notes.append(f"no record is kept: {error}")
        return NoRecord(error)
    return Record(path, name, deadline)


def names(folder: str) -> "list[str]":
    """The names of all records, of those too that a hook was killed before it wrote."""
    stems = {e[: -len(end)] for e in os.listdir(folder) for end in ENDINGS if e.endswith(end)}
    return sorted(stems)


def is_there(folder: str, name: str) -> bool:
    """Whether there is such a record, if only one that a hook has not written yet."""
    return any(os.path.exists(os.path.join(folder, name + ending)) for ending in ENDINGS)


def find_setup(options: Options, id: str, deadline: float) -> "Optional[Record]":
    """The record that precreate left of a container, None where there is none. Raises HookError."""
    return _existing(folder(options), setup_name(id), deadline)


def find(
    options: Options, runtime_root: str, id: str, bundle: str, deadline: float
) -> "Optional[Record]":
    """The record of a container that has ended, None where there is none.

    runtime_root: "" where our parent is no runtime (podman's poststop); then it is the one
    record of that id and bundle. Raises HookError, also where there are several.
    """
    path = folder(options)
    found = [name(runtime_root, id)] if runtime_root else _names(path, id, bundle)
    if len(found) > 1:
        raise HookError(f"several records fit: {', '.join(found)}", path=path)
    return _existing(path, found[0], deadline) if found else None


def _existing(path: str, name: str, deadline: float) -> "Optional[Record]":
    if not is_there(path, name):
        return None
    record = Record(path, name, deadline)
    if not record.document:  # a hook was killed before it had anything to write
        record.remove()
        return None
    return record


def place(options: Options) -> str:
    """Where the state folder is, whether it is there or not."""
    path = options.state_dir
    if path == Options().state_dir and (os.geteuid() != 0 or trust.in_user_namespace()):
        path = f"/run/user/{_outer_uid()}/nri-hook"
    return path


def folder(options: Options) -> str:
    """The state folder, made where it is missing. Raises HookError where none can be had."""
    path = place(options)
    try:
        os.makedirs(path, 0o700, exist_ok=True)
        status = os.stat(path)
    except OSError as error:
        raise HookError(f"no state folder: {error.strerror}", path=path) from None
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise HookError(
            f"no state folder: belongs to uid {status.st_uid}, mode"
            f" {status.st_mode & 0o7777:04o}, expected 0700 of our own",
            path=path,
        )
    if not os.access(path, os.W_OK):
        raise HookError("no state folder: cannot be written", path=path)
    return path


def name(runtime_root: str, id: str) -> str:
    """The name of a container's record: <id>-<8 hex digits of the CRC-32 of root and id>, since
    ids are unique only below one runtime root."""
    checksum = _crc32(os.fsencode(runtime_root) + b"\0" + id.encode())
    return f"{id[:200]}-{checksum:08x}"


def _crc32(data: bytes) -> int:
    """As binascii.crc32() has it, whose import costs twenty times as much where that is a file of
    its own: zlib's library comes with it."""
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum ^= byte
        for _ in range(2):
            checksum = (checksum >> 4) ^ HALF_BYTES[checksum & 15]
    return checksum ^ 0xFFFFFFFF


def setup_name(id: str) -> str:
    """The name of the record of a container that no runtime knows yet."""
    return f"{id[:200]}-setup"


def _names(folder: str, id: str, bundle: str) -> "list[str]":
    """The names of the records of container `id` in `bundle`, under any runtime root."""
    found = []
    for stem in names(folder):
        if stem[:-9] == id[:200]:
            document = read(os.path.join(folder, stem + SUFFIX))
            if document and document["id"] == id and document["bundle"] in ("", bundle):
                found.append(stem)
    return found


def read(path: str) -> "Optional[dict[str, Any]]":
    """The document of a record, None where it is not there. Raises HookError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HookError(f"cannot be read: {error.strerror}", path=path) from None
    try:
        # What follows the last end of a line was never whole.
        first, *changes = strictjson.read(fd, MAX_SIZE).split(b"\n")
        documents = [strictjson.loads(line, MAX_DEPTH) for line in (first, *changes[:-1])]
    except strictjson.JSONError as error:
        raise HookError(f"is no record: {error}", path=path) from None
    finally:
        os.close(fd)
    if not all(type(document) is dict for document in documents):
        raise HookError("is no record: expected objects", path=path)
    record: "dict[str, Any]" = {}
    for document in documents:
        record.update(document)
    return record


def _line(document: "dict[str, Any]") -> bytes:
    return strictjson.dumps(document) + b"\n"


def _write(path: str, flags: int, line: bytes, document: "dict[str, Any]") -> None:
    fd = os.open(path, flags, PLAIN)
    try:
        data = memoryview(line)
        while data:
            data = data[os.write(fd, data) :]
        if "outcome" in document:
            os.fchmod(fd, PLAIN if document["outcome"] in TO_ADOPT else SETTLED)
    finally:
        os.close(fd)


def _outer_uid() -> int:
    """Our uid as the namespace above sees it (user_namespaces(7), uid_map)."""
    uid = os.geteuid()
    with open("/proc/self/uid_map", "rb") as file:
        for line in file.read().splitlines():
            inner, outer, count = (int(field) for field in line.split())
            if inner <= uid < inner + count:
                return outer + uid - inner
    return uid
