"""`nri-hook log`: what the hooks of a container did, from its log."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from nri_hook.cli import remedies, screen, state
from nri_hook.errors import HookError, printable
from nri_hook.hook import container_log

if TYPE_CHECKING:
    from nri_hook.cli.install import Commands

# Invocations that are shown of all containers together.
MANY = 20
STDERR_LINES = 10
WORDS = {
    ("precreate", "moved"): "moved: its config now names the new place",
    ("precreate", "failed"): "FAILED: podman did not create it",
    ("createRuntime", "moved"): "moved before it started",
    ("createRuntime", "failed"): "FAILED: it did not start",
    ("poststart", "adopted"): "its runtime was told where it is",
    ("poststart", "failed"): "FAILED: its runtime was not told where it is",
    ("poststop", "removed"): "it has ended, and nothing of it is left",
    ("poststop", "failed"): "FAILED: it has ended, and something of it is left",
    ("gc", "adopted"): "its runtime was told where it is",
    ("gc", "removed"): "it was gone, and nothing of it is left",
    ("gc", "killed"): "its runtime had forgotten it: killed, and nothing of it is left",
    ("gc", "failed"): "FAILED: something of it is left",
    ("", "stays"): "no plugin wanted it anywhere else",
    ("", "left"): "left where it was",
    ("", "failed"): "FAILED",
}


def add_parser(commands: Commands) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "log",
        help="show what the hooks of a container did, and why one failed",
        description="Show what the hooks of a container did, the last invocation at the end; "
        f"without an ID the last {MANY} of all containers. For each: the outcome, the plugins "
        "with time, exit status, answer and the end of stderr, and what to do about a failure. "
        "A log is kept until the `nri-hook gc` after the end of its container, or for a day if "
        "the container did not end by its runtime's delete, for instance after a failed create.",
        allow_abbrev=False,
    )
    parser.add_argument("id", metavar="ID", nargs="?", help="a container's id, or its beginning")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON document")
    form.add_argument(
        "--payload",
        action="store_true",
        help="print the last payload of a failed create, for `nri-hook invoke --request`",
    )
    state.add_flag(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show what the command line asks for; 1 if a log cannot be read. Raises HookError."""
    entries, failures = invocations(state.directory(args), args.id)
    if args.payload:
        sys.stdout.write(payload(entries) + "\n")
    elif args.json:
        screen.document([_with_object(entry) for entry in entries])
    else:
        for entry in entries:
            _show(entry)
    return 1 if failures else 0


def invocations(directory: str, wanted: str | None) -> tuple[list[dict[str, Any]], int]:
    """The invocations for one container, or the last for all, the oldest first; see
    container_log.append(). And the number of logs that cannot be read, each with a line on stderr.
    Raises HookError where the wanted one has none."""
    try:
        names = container_log.names(directory)
    except FileNotFoundError:
        names = []
    paths = [os.path.join(directory, n + container_log.SUFFIX) for n in state.listed(names, wanted)]
    if wanted is None:
        paths = sorted(paths, key=_changed)[-MANY:]
    entries = []
    failures = 0
    for path in paths:
        try:
            entries += container_log.read(path)
        except FileNotFoundError:  # removed meanwhile
            pass
        except OSError as error:
            failures += 1
            print(printable(f"nri-hook log: {path}: {error.strerror}"), file=sys.stderr)
    entries.sort(key=lambda entry: entry["time"])
    if wanted is None:
        return entries[-MANY:], failures
    id = state.pick(wanted, (entry["container"] for entry in entries))
    return [entry for entry in entries if entry["container"] == id], failures


def payload(entries: list[dict[str, Any]]) -> str:
    """The last payload in these invocations. Raises HookError where there is none."""
    for entry in reversed(entries):
        if "payload" in entry:
            return str(entry["payload"])
        if "payloadBytes" in entry:
            raise HookError(f"the payload had {entry['payloadBytes']} bytes, too many to be kept")
    raise HookError("no payload is kept, expected a create that failed after a plugin was called")


def _changed(path: str) -> float:
    try:
        return os.lstat(path).st_mtime
    except FileNotFoundError:
        return 0.0


def _with_object(entry: dict[str, Any]) -> dict[str, Any]:
    try:
        return dict(entry, payload=json.loads(entry["payload"]))
    except (KeyError, ValueError):  # none; or somebody has been at the log
        return entry


def _show(entry: dict[str, Any]) -> None:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry["time"]))
    stage, outcome = entry["stage"], entry["outcome"]
    words = WORDS.get((stage, outcome)) or WORDS.get(("", outcome)) or outcome
    style = "bold red" if outcome == "failed" else "bold"
    screen.line(f"{when}  {screen.short(entry['container'])}  {stage}: {words}", style)
    if entry["message"]:
        screen.line(f"  why: {entry['message']}")
    for note in entry["notes"]:
        screen.line(f"  note: {note}")
    for code in entry.get("codes", ()):
        if code in remedies.REMEDIES:
            screen.line(f"  what to do: {remedies.REMEDIES[code]}")
    if entry["to"] and entry["to"] != entry["from"]:
        screen.line(f"  from {screen.short(entry['from'])}")
        screen.line(f"  to   {screen.short(entry['to'])}")
    elif entry["from"]:
        screen.line(f"  at {screen.short(entry['from'])}")
    for call in entry["calls"]:
        _show_call(call)


def _show_call(call: dict[str, Any]) -> None:
    status = call["status"]
    if status is None:
        end = "killed by nri-hook"
    elif status < 0:
        end = f"killed by signal {-status}"
    else:
        end = f"exit status {status}"
    screen.line(f"  plugin {call['type']}: {call['state']}, {call['ms']} ms, {end}")
    screen.line(f"    answer: {call['answer'] or 'none'}")
    for text in call["stderr"].splitlines()[-STDERR_LINES:]:
        screen.line(f"    stderr: {text}")
