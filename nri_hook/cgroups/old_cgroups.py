"""The cgroup that a container was moved out of. It stays, empty, until the container is deleted.

It is the root of the container's cgroup namespace, engines look for the container there, and the
container may go back to it. The runtime, which made it, forgets it when it is told of the move.
Then we are the ones to remove it, and a mark on it says whose it is: what somebody else has made
anew at its path has none.

Under systemd it is a scope, which goes with its last process. For an engine that looks there all
the same a plain directory is made in its place, as CRI-O makes one for a pod in the pod's slice.
"""

import os
import time

from nri_hook import procfs
from nri_hook.cgroups import controlfile, directories, hierarchies, members
from nri_hook.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nri_hook.cgroups.plan import PlacementDocument

# Its text: the name of the container's record, pid and start time of its init, and the guard of
# directories.make(), separated by spaces.
MARK = "trusted.nri_hook.old"
# Seconds for systemd to remove an empty scope: milliseconds, unless it is busy.
SCOPE_GONE = 4.0
PAUSE = 0.002


def mark(directory: str, claim: str, pid: int, start: int, guard: str) -> None:
    """Say in a cgroup that holds nothing but init whose it is. Raises Left where that cannot be
    said, OSError where the directory has gone."""
    controlfile.label(directory, MARK, f"{claim} {pid} {start} {guard}")


def make_anew(document: "PlacementDocument", pid: int, guard: str) -> "list[HookError]":
    """Make the directory of an old scope anew, if there shall be one, once systemd has removed the
    scope; may be repeated. What failed.

    document, guard: of Placement. pid: of init.
    """
    if "unit" not in document:
        return []
    errors = []
    end = time.monotonic() + SCOPE_GONE
    for directory in document.get("old", ()):
        try:
            if _make(directory, document["claim"], end):
                mark(directory, document["claim"], pid, procfs.start_time(pid), guard)
        except OSError as error:
            errors.append(controlfile.failed(error, directory, "cannot be made anew"))
        except HookError as error:
            errors.append(error)
    return errors


def _make(directory: str, claim: str, deadline: float) -> bool:
    """Whether the directory is new, and not made anew before. Raises HookError, OSError."""
    while True:
        try:
            os.mkdir(directory, 0o755)
            os.chmod(directory, 0o755)
            return True
        except FileExistsError:
            if claim_of(directory) == claim:
                return False
            if time.monotonic() > deadline:
                raise HookError("systemd has not removed the scope", path=directory) from None
            time.sleep(PAUSE)


def unmark(directory: str) -> None:
    """Leave the cgroup to the runtime again: its container is back in it."""
    controlfile.unlabel(directory, MARK)


def claim_of(directory: str) -> str:
    """The record of the container that was moved out of the cgroup, "" if none was."""
    return _read(directory)[0]


def clean_up(
    document: "PlacementDocument", deadline: float, by_force: bool, present: int = 0
) -> "list[HookError]":
    """Remove the old cgroups of a container that its runtime has deleted; what failed.

    document: of Placement. deadline: of time.monotonic(), for processes that are about to end.
    by_force: whether the processes in them are killed, never those in cgroups below. present: init
    of a new container with the same id; the cgroups that it is in are its own now.
    """
    errors = []
    spared = [directory for directory in document.get("old", ()) if _holds(directory, present)]
    for directory in document.get("old", ()):
        if claim_of(directory) != document["claim"]:
            continue
        if any(hierarchies.is_within(own, directory) for own in spared):
            continue
        try:
            directories.remove_tree(directory, deadline, members.kill_members if by_force else None)
        except HookError as error:
            errors.append(error)
    return errors


def occupied(document: "PlacementDocument") -> "tuple[str, str]":
    """(an old cgroup of a container, what is in it or below it), ("", "") if all are empty."""
    for directory in document.get("old", ()):
        if claim_of(directory) == document["claim"]:
            found = members.occupant(directory)
            if found:
                return directory, found
    return "", ""


def whose(directory: str) -> "tuple[str, str]":
    """(record, guard) of the container that was moved out of the cgroup and has ended, ("", "")
    if there is none."""
    claim, pid, start, guard = _read(directory)
    return ("", "") if procfs.is_alive(pid, start) else (claim, guard)


def _read(directory: str) -> "tuple[str, int, int, str]":
    claim, _, rest = controlfile.label_of(directory, MARK).partition(" ")
    try:
        pid, start, guard = rest.split(" ", 2)
        return claim, int(pid), int(start), guard
    except ValueError:
        return "", 0, 0, ""


def _holds(directory: str, pid: int) -> bool:
    try:
        return str(pid) in controlfile.read(f"{directory}/cgroup.procs").split()
    except OSError:
        return False
