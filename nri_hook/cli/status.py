"""`nri-hook status`: the containers that plugins were called for, and where they are."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from nri_hook.cli import placed, screen, state
from nri_hook.errors import printable
from nri_hook.hook import state_directory

if TYPE_CHECKING:
    from nri_hook.cli.install import Commands
    from nri_hook.cli.placed import Placed

STYLES = {"alive": "green", "gone": "dim", "DRIFTED": "bold red", "yes": "green", "no": "dim"}
# Seconds -> what they are called, the largest first.
AGES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
MOVED = ("moved", "adopted")


def add_parser(commands: Commands) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "status",
        help="show which containers were placed, and where they are",
        description="List the containers that have a record: their plugins, where they were and "
        "where they were placed, since when, whether they are alive, and whether they have "
        "drifted, that is, whether /proc shows them in another cgroup than nri-hook or their "
        "runtime put them in. With an ID, show one container in full.",
        allow_abbrev=False,
    )
    parser.add_argument("id", metavar="ID", nargs="?", help="a container's id, or its beginning")
    parser.add_argument(
        "--tree",
        action="store_true",
        help="show their cgroups as a tree, with the CPU time, memory and pids they use",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    state.add_flag(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show what the command line asks for; 1 where a record cannot be read. Raises HookError."""
    found, failures = containers(state.directory(args), args.id)
    if args.tree:
        from nri_hook.cli import forest

        root = forest.grow(found)
        if args.json:
            screen.document(root.document())
        else:
            screen.tree([root.branch()])
    elif args.json:
        documents = [document(container) for container in found]
        screen.document(documents)
    elif args.id:
        for container in found:
            _show_one(container)
    elif screen.is_folded(found):
        heads = ["ID", "RUNTIME", "PLUGINS", "PLACE", "SINCE", "STATE"]
        screen.table(heads, map(_narrow_row, found), STYLES)
    else:
        heads = ["ID", "RUNTIME", "PLUGINS", "FROM", "TO", "OUTCOME", "SINCE", "ALIVE", "DRIFT"]
        screen.table(heads, map(_wide_row, found), STYLES)
    return 1 if failures else 0


def containers(directory: str, wanted: str | None) -> tuple[list[Placed], int]:
    """The containers that have a record, the latest at the end, and the number of records that
    cannot be read, each with a line on stderr. Raises HookError where the wanted one has none."""
    try:
        names = state_directory.names(directory)
    except FileNotFoundError:
        names = []
    found = []
    failures = 0
    for name in state.listed(names, wanted):
        try:
            container = placed.load(directory, name)
        except Exception as error:  # the others are not to blame for what is in this one
            failures += 1
            line = f"nri-hook status: {name}: {state.reason(error)}"
            print(printable(line), file=sys.stderr)
            continue
        if container:
            found.append(container)
    if wanted is not None:
        id = state.pick(wanted, (container.id for container in found))
        found = [container for container in found if container.id == id]
    found.sort(key=lambda container: container.since)
    return found, failures


def document(container: Placed) -> dict[str, Any]:
    """A container as JSON has it. since: seconds since the epoch. drift: hierarchy -> where we put
    it, where it is."""
    return {
        "id": container.id,
        "runtime": container.runtime,
        "runtimeRoot": container.root,
        "bundle": container.bundle,
        "pid": container.pid,
        "alive": container.alive,
        "plugins": container.plugins,
        "from": container.source,
        "to": container.target,
        "since": container.since,
        "outcome": container.outcome,
        "reason": container.reason,
        "cgroups": container.now,
        "drift": {
            hierarchy: {"expected": expected, "found": found}
            for hierarchy, (expected, found) in container.drift.items()
        },
        "record": container.record,
        "log": container.log,
    }


def _narrow_row(container: Placed) -> list[str]:
    """What fits into 80 columns: folded, with short ids."""
    place = container.source
    if container.target != container.source:
        place = f"{container.source} -> {container.target}"
    elif container.outcome == "left":
        where = "has left its new cgroup" if container.moved else "left there"
        place = f"{container.source} ({where})"
    drifted = _drifted(container)
    if drifted:
        place += f", now at {drifted}"
    return [
        screen.short(container.id),
        container.runtime or "none yet",
        ", ".join(container.plugins),
        screen.short(place),
        _age(container.since),
        "DRIFTED" if drifted else _life(container),
    ]


def _wide_row(container: Placed) -> list[str]:
    target = container.target if container.target != container.source else ""
    return [
        container.id,
        container.runtime,
        ",".join(container.plugins),
        container.source,
        target,
        container.outcome,
        time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(container.since)),
        "yes" if container.alive else "no",
        _drifted(container),
    ]


def _drifted(container: Placed) -> str:
    """Where it is now, if it has drifted; once for each place."""
    return ", ".join(dict.fromkeys(found for _, found in container.drift.values()))


def _life(container: Placed) -> str:
    if not container.pid:
        return "setup"
    return "alive" if container.alive else "gone"


def _age(since: float) -> str:
    seconds = max(0.0, time.time() - since)
    unit, name = next(((u, n) for u, n in AGES if seconds >= u), AGES[-1])
    return f"{seconds // unit:.0f} {name}"


def _show_one(container: Placed) -> None:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(container.since))
    same = container.target == container.source
    pairs = [
        ("id", container.id),
        ("runtime", f"{container.runtime}, {container.root}" if container.runtime else ""),
        ("bundle", container.bundle),
        ("pid", str(container.pid) if container.pid else ""),
        ("state", _life(container)),
        ("plugins", ", ".join(container.plugins)),
        ("from", container.source),
        ("to", "" if same else container.target),
        ("outcome", container.outcome),
        ("reason", container.reason),
        ("since", f"{when}, {_age(container.since)}"),
    ]
    pairs += [(f"cgroup {name or 'v2'}", cgroup) for name, cgroup in container.cgroups.items()]
    pairs += [(f"DRIFT {name or 'v2'}", now) for name, (_, now) in container.drift.items()]
    pairs += [("record", container.record), ("log", container.log)]
    screen.fields(pairs, STYLES)
