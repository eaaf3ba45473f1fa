"""What no record knows any more: cgroups that have our mark, and logs."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from nri_hook import atomicfile
from nri_hook.cgroups import controlfile as cgroup_files
from nri_hook.cgroups import directories, hierarchies, old_cgroups
from nri_hook.errors import HookError
from nri_hook.hook import container_log, log_space, record, state_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # What is left, what there is to say of it, what takes it away.
    Leftover = tuple[str, str, Callable[[], object]]

# How long the log of a container is kept that did not end in the ordinary way, in seconds.
LOG_SECONDS = 86400.0
SETUP = state_directory.setup_name("")


def cgroups(directory: str) -> list[Leftover]:
    """The empty cgroups that were made for a record in this state directory which is gone, and that
    no other record knows; those inside before those around them. Raises HookError."""
    found: list[Leftover] = []
    known = _known(directory)

    def is_orphan(path: str) -> bool:
        claim, guard = _whose(path)
        return (
            claim != ""
            and not state_directory.is_there(directory, claim)
            and _is_same(guard, directory)
        )

    def remover(path: str) -> Callable[[], object]:
        return lambda: directories.remove_orphan(path, directory, lambda: is_orphan(path))

    for hierarchy in hierarchies.mounted(hierarchies.membership(os.getpid())).values():
        gone: set[str] = set()
        for path, inside in _tree(hierarchy.mount):
            if path in known or not gone.issuperset(inside):
                continue
            if is_orphan(path) and _is_empty(path):
                gone.add(path)
                says = "an empty cgroup made by nri-hook that no record names: removing it"
                found.append((path, says, remover(path)))
    return found


def logs(directory: str, errors: list[Exception]) -> Iterator[Leftover]:
    """The logs of containers that have ended. errors: for those that cannot be read."""
    records = state_directory.names(directory)
    for name in container_log.names(directory):
        if name in records or (name.endswith(SETUP) and _of_id(name, records)):
            continue
        path = os.path.join(directory, name + container_log.SUFFIX)
        try:
            if _is_over(path):
                says = "the log of a container that is gone: removing it"
                yield path, says, _remover(directory, name)
        except OSError as error:
            errors.append(error)


def crowded(directory: str) -> Iterator[Leftover]:
    """What has to go because the logs of all containers together are too large. Raises OSError."""
    for step in log_space.steps(directory):
        yield step.path, f"the logs take too much room: {step.says}", step.take


def _remover(directory: str, name: str) -> Callable[[], object]:
    paths = [
        os.path.join(directory, name + ending)
        for ending in (container_log.SUFFIX, container_log.CUT)
    ]
    return lambda: [atomicfile.remove(path) for path in paths]


def _known(directory: str) -> set[str]:
    """The directories of cgroups that stand in records, with all above them. Raises HookError."""
    found: set[str] = set()
    for name in state_directory.names(directory):
        document = record.read(os.path.join(directory, name + state_directory.SUFFIX)) or {}
        try:
            named: list[str] = []
            for placed in document.get("placements", []):
                named += placed.get("leaves", []) + placed.get("made", [])
                named += placed.get("parents", []) + placed.get("old", [])
            for path in named:
                while path not in found and path != "/":
                    found.add(path)
                    path = os.path.dirname(path)
        except (AttributeError, TypeError) as error:
            raise HookError(f"not a record of nri-hook: {error!r}", path=name) from None
    return found


def _whose(path: str) -> tuple[str, str]:
    """(record, state directory) of the container that a cgroup was made for, or that has left it
    and ended; "" for both if it is nobody's that we know of."""
    claim = directories.mark_of(path)
    return (claim, directories.guard_of(path)) if claim else old_cgroups.whose(path)


def _tree(top: str) -> list[tuple[str, list[str]]]:
    """(path, paths of those in it) of each cgroup, those inside before those around them. Not of
    what is too deep for a path to name, which is none of ours."""
    found: list[tuple[str, list[str]]] = []
    waiting = [top]
    while waiting:
        path = waiting.pop()
        try:
            with os.scandir(path) as entries:
                inside = [e.path for e in entries if e.is_dir(follow_symlinks=False)]
        except OSError:  # gone, or too deep
            inside = []
        found.append((path, inside))
        waiting += inside
    return found[::-1]


def _is_empty(path: str) -> bool:
    try:
        return not cgroup_files.read(f"{path}/cgroup.procs").strip()
    except OSError:  # gone, or of threads
        return False


def _is_same(guard: str, directory: str) -> bool:
    return guard != "" and os.path.realpath(guard) == os.path.realpath(directory)


def _of_id(name: str, records: list[str]) -> bool:
    """Whether the container of a setup has a record under any runtime root."""
    id = name[: -len(SETUP)]
    return any(other[:-9] == id for other in records)


def _is_over(path: str) -> bool:
    try:
        entries = container_log.read(path)
        age = time.time() - os.lstat(path).st_mtime
    except FileNotFoundError:  # there is only what a killed hook was writing
        return True
    return age > LOG_SECONDS or (bool(entries) and _is_ordinary(entries[-1]))


def _is_ordinary(last: dict[str, Any]) -> bool:
    """Whether this is how a life ends, or how that of a setup goes on in another log."""
    stage, outcome = last.get("stage"), last.get("outcome")
    return (stage, outcome) == ("poststop", "removed") or (
        stage == "precreate" and outcome != "failed"
    )
