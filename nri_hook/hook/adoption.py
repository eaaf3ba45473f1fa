"""Adopt: tell the runtime where its container went.

A runtime writes its own record after the createRuntime hooks, with the cgroup that it made.
exec, ps, pause, update, kill and delete all go by that record. Once it is corrected they act on
the new cgroup, and it is for us to remove the old one when the container is deleted.
"""

import os

from nri_hook import atomicfile, procfs, strictjson
from nri_hook.cgroups import controlfile as cgroup_files
from nri_hook.cgroups import hierarchies, old_cgroups, settings
from nri_hook.errors import LEFT, HookError
from nri_hook.hook import runtimes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from nri_hook.cgroups.plan import PlacementDocument
    from nri_hook.hook.record import Record, RecordDocument
    from nri_hook.hook.report import Report


def adopt(book: "Record", report: "Report") -> str:
    """Correct the record that the runtime keeps of a container, then ours; may be repeated.

    book: of a container that was moved. Returns its outcome from then on: "adopted", or "left" if
    init has gone elsewhere meanwhile. Raises HookError if the runtime's record does not exist or
    has a shape that is not known; it is left alone then.
    """
    document = book.document
    placed = document["placements"][-1]
    path = runtimes.record_of(document)
    if path is None:
        directory = os.path.join(document["runtimeRoot"], document["id"])
        raise HookError("the runtime's record does not exist", path=directory)
    elsewhere = _elsewhere(document["pid"], document["start"], placed)
    if elsewhere:
        _leave(book, elsewhere, report)
        return "left"
    if "unit" not in placed and "old" not in placed:  # moved by version 0.1.0
        placed["old"] = _mark_old(document, placed, book.directory)
    correct = _correct_runc if document["runtime"] == "runc" else _correct_crun
    _rewrite(path, lambda found: correct(found, placed))
    try:
        # A scope has gone by now, with what it allowed; what is at its path was made anew.
        for old, new, before in placed["carried"] if "unit" not in placed else ():
            settings.catch_up(old, new, before)
    finally:
        book.save({**document, "outcome": "adopted"})
        forget(placed)
    # createRuntime has done it, unless systemd was late or the hook was killed.
    report.note_all(old_cgroups.make_anew(placed, document["pid"], book.directory))
    return "adopted"


def forget(placed: "PlacementDocument") -> None:
    """Remove what the runtime made for the container and has forgotten, but for the old cgroups
    that stay; may be repeated.

    placed: the document of the move.
    """
    for old, _ in placed["moves"]:
        if old not in placed.get("old", ()):  # a scope's; or version 0.1.0 has moved it
            _remove_old(old)
    for old, _ in placed.get("unit", {}).get("pins", []):
        cgroup_files.unlink(old)  # the program stays in force, and pinned under the new name


def _elsewhere(pid: int, start: int, placed: "PlacementDocument") -> "dict[str, str]":
    """Hierarchy -> cgroup of init, if that is neither the container's new one nor below it. crun
    calls poststart when init runs already, and what may write to its cgroups may go back at once.
    """
    try:
        now = hierarchies.membership(pid)
    except HookError:
        return {}
    if not procfs.is_alive(pid, start):  # it has ended: where it was says nothing
        return {}
    delegated = placed.get("delegated", "")
    return {
        name: now.get(name, "")
        for name, cgroup in placed["cgroups"].items()
        if not hierarchies.is_within(now.get(name, ""), cgroup.removesuffix(delegated))
    }


def _mark_old(document: "RecordDocument", placed: "PlacementDocument", guard: str) -> "list[str]":
    """Mark the old cgroups as a move does; those that are there."""
    marked = []
    for directory, _ in placed["moves"]:
        try:
            old_cgroups.mark(directory, placed["claim"], document["pid"], document["start"], guard)
            marked.append(directory)
        except FileNotFoundError:
            pass
    return marked


def _leave(book: "Record", elsewhere: "dict[str, str]", report: "Report") -> None:
    """Write down that init has gone back, and leave the runtime's record as it is."""
    document = book.document
    name, cgroup = next(iter(elsewhere.items()))
    others = f" and {len(elsewhere) - 1} more" if len(elsewhere) > 1 else ""
    reason = f"its process has left its new cgroup for {cgroup} ({name or 'v2'}{others})"
    report.target = ""
    report.note(f"left where it is: {reason}", LEFT)
    book.save(
        {
            **document,
            "outcome": "left",
            "reason": reason,
            "cgroupsPath": document["request"]["spec"]["cgroupsPath"],
            "cgroups": {**document["cgroups"], **elsewhere},
        }
    )


def _correct_runc(state: "Any", placed: "PlacementDocument") -> bool:
    """runc, libcontainer State: cgroup_paths is subsystem -> directory; under systemd its manager
    makes the unit's name from config.cgroups."""
    moves = dict(placed["moves"])
    paths = state["cgroup_paths"]
    known = set(paths.values())
    missed = [old for old, new in moves.items() if not known.intersection((old, new))]
    if missed:
        raise KeyError(f"cgroup_paths without {missed[0]}")
    corrected = {name: moves.get(path, path) for name, path in paths.items()}
    changed: bool = corrected != paths
    state["cgroup_paths"] = corrected
    if "unit" in placed:
        unit, ours = placed["unit"], state["config"]["cgroups"]
        wanted = {"parent": unit["slice"], "scope_prefix": unit["prefix"], "name": unit["name"]}
        changed = changed or any(ours[key] != value for key, value in wanted.items())
        ours.update(wanted)
    return changed


def _correct_crun(status: "Any", placed: "PlacementDocument") -> bool:
    """crun, src/libcrun/status.c: cgroup-path is one path for all hierarchies, from their root;
    scope the unit's name."""
    delegated = placed.get("delegated", "")  # which the record does not know
    paths = {
        placed["former"][name].removesuffix(delegated): cgroup.removesuffix(delegated)
        for name, cgroup in placed["cgroups"].items()
    }
    former_scope = status["scope"]
    if status["cgroup-path"] in paths.values():
        return False
    status["cgroup-path"] = paths[status["cgroup-path"]]
    if former_scope:
        status["scope"] = f"{placed['unit']['prefix']}-{placed['unit']['name']}.scope"
    return True


def _rewrite(path: str, correct: "Callable[[Any], bool]") -> None:
    """Replace a record of a runtime by its corrected form, if `correct` changes anything."""
    found = atomicfile.read(path)
    if found is None:
        raise HookError("the runtime's record does not exist", path=path)
    try:
        document = strictjson.loads(found.data)
        changed = correct(document)
    except strictjson.JSONError as error:
        raise HookError(f"the runtime's record: {error}", path=path) from None
    except (AttributeError, KeyError, StopIteration, TypeError, ValueError) as error:
        raise HookError(
            f"the runtime's record has an unknown shape: {error!r}", path=path
        ) from None
    if changed:
        atomicfile.write(path, strictjson.dumps(document), found.mode, found)


def _remove_old(directory: str) -> None:
    try:
        os.rmdir(directory)
    except OSError:  # systemd has removed it already, or somebody uses it
        pass
