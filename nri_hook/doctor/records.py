"""The state directory and its records: what is left of containers that are gone, who has moved."""

from __future__ import annotations

import fcntl
import os
import shlex
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nri_hook import procfs, strictjson, trust
from nri_hook.cgroups import hierarchies, old_cgroups
from nri_hook.doctor import owners
from nri_hook.doctor.finding import FAIL, OK, WARN, Finding, removal
from nri_hook.errors import HookError
from nri_hook.hook import container_log, record, state_directory
from nri_hook.hook.options import Options
from nri_hook.recovery import need

if TYPE_CHECKING:
    from nri_hook.hook.record import RecordDocument

# So many are named; of more, the number is told.
NAMED = 5
WORDS = {
    need.FINISH: "whose container is gone",
    need.ADOPT: "of a move that its runtime was not told of (as it is before the start)",
    need.KILL: "of a container that runs and that its runtime has forgotten",
}


def check(chosen: Options) -> Iterator[Finding]:
    """Check the state directory, then its records."""
    directory = state_directory.place(chosen)
    fix = _unusable(directory)
    if fix:
        yield Finding(FAIL, "records", f"{fix[0]}, so no container is moved", fix[1])
        return
    if not os.path.isdir(directory):
        yield Finding(OK, "records", f"{directory}: not there yet")
        return
    try:
        trust.Directory(directory)
        names = state_directory.names(directory)
    except HookError as error:
        yield Finding(FAIL, "records", str(error), owners.fix(directory))
        return
    except OSError as error:
        yield Finding(FAIL, "records", f"{directory}: {error.strerror}", "run this command as root")
        return
    flag = (
        ""
        if directory == state_directory.place(Options())
        else f" --state-dir {shlex.quote(directory)}"
    )
    stale: dict[str, list[str]] = {}
    kept = 0
    for name in names:
        path = os.path.join(directory, name + state_directory.SUFFIX)
        try:
            if _is_locked(os.path.join(directory, name + state_directory.LOCK)):
                continue
            document = record.read(path) or {}
            todo = need.of(document, path)
            special = _special(todo, document, flag)
        except record.TooNew as error:
            yield Finding(FAIL, "records", str(error), "install that version again")
            continue
        except HookError as error:
            yield Finding(FAIL, "records", str(error), removal(path))
            continue
        except Exception as error:  # the others are not to blame for what is in this one
            what = f"{path}: not a record of nri-hook: {error!r}"
            yield Finding(FAIL, "records", what, removal(path))
            continue
        if special:
            yield Finding(WARN, "records", f"{name}: {special[0]}", special[1])
        if todo in WORDS:
            stale.setdefault(todo, []).append(name)
        else:
            kept += 1
    for todo, found in stale.items():
        named = ", ".join(found[:NAMED]) + (", ..." if len(found) > NAMED else "")
        count = f"{len(found)} record" + "s" * (len(found) > 1)
        what = f"{directory}: {count} {WORDS[todo]}: {named}"
        yield Finding(WARN, "records", what, f"nri-hook gc{flag}")
    yield Finding(OK, "records", f"{directory}: {kept} of containers that are there")
    yield from _odd(directory)


def _odd(directory: str) -> Iterator[Finding]:
    """What lies in the place of a file of ours other than a record, and cannot be one."""
    endings = (state_directory.LOCK, state_directory.NEW, container_log.SUFFIX, container_log.CUT)
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if name.endswith(endings) and not _is_file(path):
            yield Finding(FAIL, "records", f"{path}: expected a regular file", removal(path))


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:  # removed meanwhile
        return True


def _is_locked(path: str) -> bool:
    """Whether a hook is at work on the container just now."""
    try:
        fd = strictjson.open_regular(path)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _unusable(directory: str) -> tuple[str, str] | None:
    """(why no record can be kept there, the fix), None where one can."""
    quoted = shlex.quote(directory)
    if not os.path.lexists(directory):
        above = os.path.dirname(directory)
        while not os.path.exists(above):
            above = os.path.dirname(above)
        if os.access(above, os.W_OK):
            return None
        return f"{directory}: cannot be made, {above} cannot be written", _writable(above)
    if not os.path.isdir(directory):
        return f"{directory}: is not a directory", removal(directory)
    status = os.stat(directory)
    # Records of others would have gc kill, call and remove what they name.
    aside = f"look at what is in it, then mv {quoted} {shlex.quote(directory + '.off')}"
    if status.st_uid != os.geteuid():
        return f"{directory}: belongs to uid {status.st_uid}, expected {os.geteuid()}", aside
    if status.st_mode & 0o077:
        what = f"{directory}: is open to others (mode {status.st_mode & 0o7777:04o}), expected 0700"
        return what, aside if status.st_mode & 0o022 else f"chmod 0700 {quoted}"
    if not os.access(directory, os.W_OK):
        return f"{directory}: cannot be written", _writable(directory)
    return None


def _writable(directory: str) -> str:
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        return f"mount -o remount,rw $(findmnt -no TARGET -T {shlex.quote(directory)})"
    return f"chmod u+w {shlex.quote(directory)}"


def _special(todo: str, document: RecordDocument, flag: str) -> tuple[str, str] | None:
    """(what is wrong with one container, what to do), None if nothing is, or gc takes care of it.

    todo: as of need.of(). flag: of gc, for this directory.
    """
    if todo == need.KEEP:
        return _drift(document)
    if todo == need.FORGOTTEN:
        pid, runtime = document["pid"], document["runtime"]
        what = (
            f"it runs as process {pid}, and {runtime} has no record of it in"
            f" {document['runtimeRoot']}, as if it had been removed: {runtime} cannot end it"
        )
        return what, f"kill {pid}; nri-hook gc{flag}"
    if todo == need.FINISH:
        for placed in document.get("placements", []):
            directory, occupant = old_cgroups.occupied(placed)
            if directory:
                what = f"{directory}, which its container was moved out of, is in use: {occupant}"
                return what, f"cat {shlex.quote(directory + '/cgroup.procs')}"
    return None


def _drift(document: RecordDocument) -> tuple[str, str] | None:
    """(where a container is that should be elsewhere, how to put it back), None where it is where
    its record says."""
    if not document["placements"] or procfs.start_time(document["pid"]) != document["start"]:
        return None
    try:
        now = hierarchies.membership(document["pid"])
    except HookError:  # it has ended just now
        return None
    moved = {
        name: path
        for name, path in document["cgroups"].items()
        if now.get(name) != path and name in now
    }
    if not moved:
        return None
    name, path = next(iter(moved.items()))
    mounted = hierarchies.mounted({name: path}).get(name)
    directory = mounted.directory(path) if mounted else path
    others = f", and so in {len(moved) - 1} more" if len(moved) > 1 else ""
    what = f"moved again by somebody else: in {now[name]}, expected {path} ({name or 'v2'}){others}"
    return what, f"echo {document['pid']} >{shlex.quote(directory + '/cgroup.procs')}"
