"""The log of a container beside its record: what each of its hooks did, and each plugin in it.

crun throws the stderr of hooks away, and engines say "exit status 1" and no more. One file per
container, one line of JSON per invocation, written when all else is done. It outlives the record,
which a failed create removes at once, until `nri-hook gc`, or until log_space.py needs the room.

Hooks of one container follow one another by the lock of its record. Of two that hold none, both
just at the moment when the file is full, one may lose its line; there is no other lock.
"""

import errno
import os
import time

from nri_hook import strictjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from nri_hook.hook.chain import Call
    from nri_hook.hook.report import Report

SUFFIX = ".log"
# The next one while it is written, where the oldest lines go.
CUT = ".log.cut"
MAX_SIZE = 64 << 10
STRINGS = ("stage", "container", "from", "to", "outcome", "message")
CALL_STRINGS = ("type", "state", "answer", "stderr")
MAX_CALLS = MAX_NOTES = 40
# Characters of each text, and whether the payload is kept: the first that fits.
BOUNDS = ((2000, True), (300, True), (300, False), (20, False))


def append(report: "Report") -> None:
    """Add an invocation to the log of its container, if it has said anything. Raises OSError.

    The keys: time (seconds since the epoch), stage, container, from, to (cgroupsPath), outcome,
    message (of a failure), notes, codes (of the failure, then of what the notes tell), calls. A
    call: type, state, ms, status (exit status, -N for signal N, null where it was killed by us),
    answer, stderr. After a failed create, payload: the last one sent, as text; or payloadBytes
    where it is too large.
    """
    directory, name = report.record
    if not name or not report.outcome:
        return
    line = _line(report)
    path = os.path.join(directory, name + SUFFIX)
    fd = strictjson.open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        size = os.fstat(fd).st_size
        if size + len(line) <= MAX_SIZE:
            _write(fd, line, size)
            return
    finally:
        os.close(fd)
    _rewrite(path, os.path.join(directory, name + CUT), line)


def names(directory: str) -> "list[str]":
    """The names of the records that there are logs of, or were. Raises OSError."""
    stems = {
        e[: -len(end)] for e in os.listdir(directory) for end in (SUFFIX, CUT) if e.endswith(end)
    }
    return sorted(stems)


def read(path: str) -> "list[dict[str, Any]]":
    """The invocations in a log, the oldest first, without lines that are none. Raises OSError."""
    entries = []
    for line in lines(path):
        try:
            entry = strictjson.loads(line)
        except strictjson.JSONError:
            continue
        if _is_entry(entry):
            entries.append(entry)
    return entries


def _is_entry(entry: "Any") -> bool:
    return (
        type(entry) is dict
        and type(entry.get("time")) in (int, float)
        and all(type(entry.get(key)) is str for key in STRINGS)
        and type(entry.get("notes")) is list
        and all(type(note) is str for note in entry["notes"])
        and type(entry.get("codes", [])) is list  # which version 0.1.0 did not write
        and all(type(code) is str for code in entry.get("codes", []))
        and type(entry.get("calls")) is list
        and all(_is_call(call) for call in entry["calls"])
        and type(entry.get("payload", "")) is str
    )


def _is_call(call: "Any") -> bool:
    return (
        type(call) is dict
        and all(type(call.get(key)) is str for key in CALL_STRINGS)
        and type(call.get("ms")) in (int, float)
        and type(call.get("status", "")) in (int, type(None))
    )


def lines(path: str) -> "list[bytes]":
    """The lines of a log, the oldest first, with their ends. Raises OSError."""
    fd = strictjson.open_regular(path)
    try:
        # The end of a file that somebody has made larger; its first line may be half of one.
        start = max(0, os.fstat(fd).st_size - MAX_SIZE)
        found = os.pread(fd, MAX_SIZE, start).splitlines(keepends=True)
    finally:
        os.close(fd)
    return found[1:] if start else found


def _line(report: "Report") -> bytes:
    created = [call for call in report.calls if call.state != "delete"]
    payload = created[-1].payload if created and report.outcome == "failed" else None
    now = round(time.time(), 3)
    for limit, whole in BOUNDS:
        keep = payload if whole and payload and len(payload) <= MAX_SIZE else None
        line = strictjson.dumps(_entry(report, now, limit, payload, keep)) + b"\n"
        if len(line) <= MAX_SIZE:
            break
    return line


def _entry(
    report: "Report", now: float, limit: int, payload: "Optional[bytes]", keep: "Optional[bytes]"
) -> "dict[str, Any]":
    entry: "dict[str, Any]" = {
        "time": now,
        "stage": report.stage,
        "container": report.id,
        "from": report.source[:limit],
        "to": report.target[:limit],
        "outcome": report.outcome,
        "message": report.message[:limit],
        "notes": [note.text[:limit] for note in report.notes[-MAX_NOTES:]],
        "codes": _codes(report),
        "calls": [_call(call, limit) for call in report.calls[-MAX_CALLS:]],
    }
    if keep:
        entry["payload"] = keep.decode("ascii")
    elif payload:
        entry["payloadBytes"] = len(payload)
    return entry


def _codes(report: "Report") -> "list[str]":
    """Each code once, that of the failure first."""
    codes = [report.code, *(note.code for note in report.notes)]
    return [code for code in dict.fromkeys(codes) if code]


def _call(call: "Call", limit: int) -> "dict[str, Any]":
    outcome = call.outcome
    killed = outcome.late or outcome.flooded
    return {
        "type": call.type,
        "state": call.state,
        "ms": round(outcome.seconds * 1000, 1),
        "status": None if killed else outcome.status,
        "answer": outcome.output[:limit].decode("utf-8", "replace").strip(),
        "stderr": outcome.errors[-limit:].decode("utf-8", "replace").strip(),
    }


def _write(fd: int, data: bytes, size: int) -> None:
    """Write all of it, or leave the file at its size: half a line would spoil the next one."""
    written = os.write(fd, data)
    if written < len(data):
        os.ftruncate(fd, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _rewrite(path: str, new_path: str, line: bytes) -> None:
    """The log with `line`, without as many of its oldest lines as it takes."""
    kept = [line]
    size = len(line)
    for older in reversed(lines(path)):
        size += len(older)
        if size > MAX_SIZE:
            break
        kept.append(older)
    fd = strictjson.open_regular(new_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        _write(fd, b"".join(reversed(kept)), 0)
    finally:
        os.close(fd)
    os.rename(new_path, path)
