"""The space that the logs of all containers take together, which is bounded.

A create that fails leaves a log with its payload, and may be tried again for ever, by an id of its
own each time. On /run, where the logs are, a full filesystem stops every container of the node. So
before a failure is logged, and in gc, the logs are made to fit again: the oldest payloads go
first, then the oldest logs of containers that are gone, then all but the last lines of the others.
"""

import os

from nri_hook import strictjson
from nri_hook.hook import container_log, state_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

    # The lines of a log, as they shall be.
    Shorten = Callable[["list[bytes]"], "list[bytes]"]

# Bytes on the disk, and the part of the filesystem, that the logs may take: the smaller counts.
MAX_SIZE = 16 << 20
MAX_PART = 1 / 8
# What is left of them once they were too large, so that it is not done again at once.
AFTERWARDS = 3 / 4
BLOCK = 4096


class Log:
    """One log. size: bytes on the disk. changed: when, in nanoseconds. is_there: whether its
    container has a record."""

    def __init__(self, path: str, status: os.stat_result, is_there: bool) -> None:
        self.path = path
        self.size = status.st_blocks * 512
        self.changed = status.st_mtime_ns
        self.is_there = is_there


class Step:
    """What is done with one log. says: the same in words. kept: its lines from then on, none if it
    is removed."""

    def __init__(self, log: Log, says: str, kept: "list[bytes]") -> None:
        self.path = log.path
        self.says = says
        self.kept = kept
        self._changed = log.changed

    def take(self) -> None:
        """Do it. Raises OSError."""
        if not self.kept:
            os.unlink(self.path)
            return
        # In place, which needs no room; a line that a hook adds at this moment may be lost.
        fd = strictjson.open_regular(self.path, os.O_WRONLY)
        try:
            os.ftruncate(fd, os.pwrite(fd, b"".join(self.kept), 0))
            os.utime(fd, ns=(self._changed, self._changed))
        finally:
            os.close(fd)


def make_room(directory: str) -> None:
    """Make the logs in a state directory fit, as far as that is possible."""
    try:
        for step in steps(directory):
            try:
                step.take()
            except OSError:  # another hook does the same
                pass
    except OSError:  # the logs cannot be looked at
        pass


def steps(directory: str) -> "Iterator[Step]":
    """What has to be done so that the logs fit, in this order. Raises OSError."""
    found = _logs(directory)
    limit = _limit(directory)
    size = sum(log.size for log in found)
    if size <= limit:
        return
    gone = [log for log in found if not log.is_there]
    there = [log for log in found if log.is_there]
    ways: "list[tuple[str, list[Log], Shorten]]" = [
        ("removing its payloads", found, _without_payloads),
        ("removing it", gone, _nothing),
        ("removing all but its last line", there, _last_line),
        ("removing it", there, _nothing),
    ]
    for says, logs, shorten in ways:
        for log in logs:
            if size <= limit * AFTERWARDS:
                return
            try:
                lines = container_log.lines(log.path)
            except OSError:  # removed meanwhile, or not a log
                continue
            kept = shorten(lines)
            rest = -(-sum(map(len, kept)) // BLOCK) * BLOCK
            if rest < log.size:
                yield Step(log, says, kept)
                size -= log.size - rest
                log.size = rest


def _logs(directory: str) -> "list[Log]":
    """All logs, the oldest first."""
    found = []
    with os.scandir(directory) as listing:
        entries = [entry for entry in listing if entry.is_file(follow_symlinks=False)]
    names = {entry.name for entry in entries}
    for entry in entries:
        if entry.name.endswith(container_log.SUFFIX):
            name = entry.name[: -len(container_log.SUFFIX)]
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # removed meanwhile
                continue
            found.append(Log(entry.path, status, name + state_directory.SUFFIX in names))
    return sorted(found, key=lambda log: log.changed)


def _limit(directory: str) -> float:
    status = os.statvfs(directory)
    part = status.f_blocks * status.f_frsize * MAX_PART
    return min(MAX_SIZE, part or MAX_SIZE)  # a filesystem may have no size


def _nothing(lines: "list[bytes]") -> "list[bytes]":
    return []


def _last_line(lines: "list[bytes]") -> "list[bytes]":
    return lines[-1:]


def _without_payloads(lines: "list[bytes]") -> "list[bytes]":
    return [_without_payload(line) if b'"payload":' in line else line for line in lines]


def _without_payload(line: bytes) -> bytes:
    try:
        entry = strictjson.loads(line)
        size = len(entry.pop("payload"))
    except (strictjson.JSONError, AttributeError, KeyError, TypeError):  # not a line of ours
        return line
    return strictjson.dumps(dict(entry, payloadBytes=size)) + b"\n"
