"""`nri-hook gc`: finishes or undoes what killed hooks and forgetful runtimes left."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING

from nri_hook import trust
from nri_hook.cli import state
from nri_hook.errors import HookError, printable
from nri_hook.hook import adoption, container_log, deletion, options, record, state_directory
from nri_hook.hook.report import Report
from nri_hook.recovery import leftovers, need, orphan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nri_hook.cli.install import Commands

# What processes get to end after they were killed, and a hook to end that is at work on a record.
PATIENCE = 3.0


def add_parser(commands: Commands) -> None:
    """Add the command and its flags."""
    default = options.Options()
    parser = commands.add_parser(
        "gc",
        help="clean up after containers that are gone",
        description="Go through the records. If a container is gone, call its plugins with "
        "`delete` and remove the cgroups that its move created. If a container was moved and "
        "its runtime was not told, tell it; if the runtime lost the container because of that, "
        "kill it. Then remove empty cgroups that nri-hook created and no record names, and the "
        "logs of containers that have ended. The log of a container that did not end by its "
        "runtime's delete is kept for a day. Nothing else is touched. Print one line for each "
        "thing done.",
        allow_abbrev=False,
    )
    parser.add_argument("--state-dir", default=default.state_dir, metavar="DIR")
    parser.add_argument(
        "--timeout", default=default.timeout, type=options.seconds, metavar="SECONDS"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be done, do nothing"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Go through the records; 1 where something could not be finished. Raises HookError."""
    place = trust.absolute(args.state_dir)
    directory = state.checked(state_directory.make(options.Options(state_dir=place)))
    os.chdir("/")  # where plugins run
    failures = 0
    for name in state_directory.names(directory):
        try:
            failures += _collect(directory, name, args)
        except Exception as error:  # the other records are not to blame for what is in this one
            failures += 1
            print(printable(f"nri-hook gc: {name}: {state.reason(error)}"), file=sys.stderr)
    if not failures:  # a record that cannot be read may know of any cgroup
        try:
            failures += _tidy(leftovers.cgroups(directory), args.dry_run)
        except HookError as error:
            failures += 1
            _complain(error)
    errors: list[Exception] = []
    failures += _tidy(leftovers.logs(directory, errors), args.dry_run)
    failures += _tidy(leftovers.crowded(directory), args.dry_run)
    for unread in errors:
        _complain(unread)
    return 1 if failures or errors else 0


def _tidy(found: Iterable[leftovers.Leftover], dry_run: bool) -> int:
    """Remove leftovers, with a line for each; how many could not be removed."""
    failures = 0
    for path, says, remove in found:
        print(printable(f"{path}: {says}"), flush=True)
        try:
            if not dry_run:
                remove()
        except (HookError, OSError) as error:
            failures += 1
            _complain(error)
    return failures


def _complain(error: Exception) -> None:
    print(printable(f"nri-hook gc: {state.reason(error)}"), file=sys.stderr)


def _collect(directory: str, name: str, args: argparse.Namespace) -> int:
    book = record.Record(directory, name, time.monotonic() + PATIENCE)
    try:
        return _settle(book, args)
    finally:
        book.close()  # the container's next hook must not wait for the other records


def _settle(book: record.Record, args: argparse.Namespace) -> int:
    document = book.document
    todo = need.of(document, book.path)
    if todo not in SAYS:
        return 0
    print(printable(f"{book.name}: {SAYS[todo]}"), flush=True)
    if args.dry_run:
        return 0
    report = Report("gc")
    report.record = (book.directory, book.name)
    errors = []
    if document:
        report.id, report.source = document["id"], document["cgroupsPath"]
        errors = _do(todo, book, time.monotonic() + args.timeout, report)
    lines = [*(note.text for note in report.notes), *map(str, errors)]
    try:
        container_log.append(report)
    except OSError as error:
        lines.append(f"no log of this is kept: {error.strerror}")
    for line in lines:
        print(printable(f"nri-hook gc: {book.name}: {line}"), file=sys.stderr)
    if todo != need.ADOPT and not errors:
        book.remove()
    return len(errors)


def _do(todo: str, book: record.Record, deadline: float, report: Report) -> list[HookError]:
    """Do it, and have the report say so; what failed."""
    document = book.document
    errors = []
    report.outcome = OUTCOMES[todo]
    if todo == need.ADOPT:
        try:
            report.outcome = adoption.adopt(book, report)
        except HookError as error:
            errors.append(error)
    else:
        if todo == need.KILL:
            orphan.kill(document)
        errors = deletion.finish(document, deadline, PATIENCE, report)
        deletion.forget(document)
    if errors:
        report.outcome, report.message = "failed", "; ".join(map(str, errors))
        report.code = errors[0].code
    return errors


SAYS = {
    need.FINISH: "its container is gone: delete for its plugins, and away with its cgroups",
    need.ADOPT: "moved, and its runtime was not told: adopting it",
    need.KILL: "its runtime has forgotten it and it still runs: killing it",
}


# What the log calls it.
OUTCOMES = {need.FINISH: "removed", need.ADOPT: "adopted", need.KILL: "killed"}
