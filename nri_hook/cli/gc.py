"""`nri-hook gc`: finishes or undoes what killed hooks and forgetful runtimes left."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from nri_hook import adoption, deletion, init, log, options, record
from nri_hook.cgroups import files
from nri_hook.errors import HookError, printable

if TYPE_CHECKING:
    from nri_hook.cli.install import Commands

# A setup without a create: podman creates within a second, if it does.
SETUP_SECONDS = 600.0
# What processes get to end after they were killed.
PATIENCE = 3.0


def add_parser(commands: Commands) -> None:
    """Add the command and its flags."""
    default = options.Options()
    parser = commands.add_parser(
        "gc",
        help="clean up after containers that are gone",
        description="Looks at each record. Of a container that is gone, the plugins get `delete`, "
        "and the cgroups that its move made are removed. A moved container whose runtime was not "
        "told is adopted. A process that its runtime has forgotten is killed. Nothing else is "
        "touched; one line for each thing that is done.",
        allow_abbrev=False,
    )
    parser.add_argument("--state-dir", default=default.state_dir, metavar="DIR")
    parser.add_argument("--timeout", default=default.timeout, type=float, metavar="SECONDS")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Go through the records; 1 where something could not be finished. Raises HookError."""
    folder = record.folder(options.Options(state_dir=args.state_dir))
    failures = 0
    for name in record.names(folder):
        try:
            failures += _collect(record.Record(folder, name, time.monotonic()), args)
        except HookError as error:
            failures += 1
            print(printable(f"nri-hook gc: {name}: {error}"), file=sys.stderr)
    return 1 if failures else 0


def _collect(book: record.Record, args: argparse.Namespace) -> int:
    document = book.document
    todo = what_to_do(document, book.path)
    if todo == "keep":
        return 0
    print(printable(f"{book.name}: {SAYS[todo]}"))
    if args.dry_run:
        return 0
    if todo == "adopt":
        adoption.adopt(document, document["runtime"], document["runtimeRoot"])
        book.save(dict(document, outcome="adopted"))
        return 0
    if todo == "kill":
        kill(document)
    report = log.Report("gc")
    errors = []
    if document:
        deadline = time.monotonic() + args.timeout
        errors = deletion.finish(document, deadline, PATIENCE, report)
        deletion.forget(document)
    for line in [*report.notes, *map(str, errors)]:
        print(printable(f"nri-hook gc: {book.name}: {line}"), file=sys.stderr)
    if not errors:
        book.remove()
    return len(errors)


SAYS = {
    "finish": "its container is gone: delete for its plugins, and away with its cgroups",
    "adopt": "moved, and its runtime was not told: adopting it",
    "kill": "its runtime has forgotten it and it still runs: killing it",
}


def what_to_do(document: dict[str, Any], path: str) -> str:
    """ "keep", or a key of SAYS. document: of a record, empty where a hook was killed before it
    wrote one; path: where it lies."""
    if not document:
        return "finish"
    if not document["pid"]:
        age = time.time() - os.stat(path).st_mtime
        return "finish" if age > SETUP_SECONDS else "keep"
    alive = init.start_time(document["pid"]) == document["start"]
    known = runtime_record(document) is not None
    if not alive:
        return "keep" if known else "finish"
    if known:
        return "adopt" if document["outcome"] == "moved" else "keep"
    creator = document["creator"]
    # Between create and its record the runtime itself is still there.
    creating = init.start_time(creator["pid"]) == creator["start"]
    # Where the runtime's folder is not there either, we do not know enough to kill anything.
    forgotten = document["placements"] and os.path.isdir(document["runtimeRoot"])
    return "kill" if forgotten and not creating else "keep"


def runtime_record(document: dict[str, Any]) -> str | None:
    """The path of the runtime's own record of the container, None where it has none."""
    folder = os.path.join(document["runtimeRoot"], document["id"])
    names = {"runc": "state.json", "crun": "status"}
    path = os.path.join(folder, names.get(document["runtime"], ""))
    return path if os.path.isfile(path) else None


def kill(document: dict[str, Any]) -> None:
    """Kill init, and whatever is in the cgroups that its move made."""
    _kill(document["pid"], document["start"])
    for placed in document["placements"]:
        unit = [placed["unit"]["folder"]] if "unit" in placed else []
        for folder in unit + placed["leaves"]:
            for top, _, _ in os.walk(folder):
                for pid in files.read(f"{top}/cgroup.procs").split():
                    _kill(int(pid), init.start_time(int(pid)))


def _kill(pid: int, start: int) -> None:
    """Kill a process unless its pid is another's by now."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if init.start_time(pid) == start:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)
