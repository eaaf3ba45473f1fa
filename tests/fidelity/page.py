#!/usr/bin/env python3
"""Write docs/fidelity.md from the results of the last whole run (`make fidelity`)."""

import collections
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
PAGE = f"{TOP}/docs/fidelity.md"
EXPECTED = ("host-bookworm", "uml-bookworm", "uml-trixie", "uml-sid")

COLUMNS = [
    (way, pids)
    for way in ("create", "detached", "foreground", "unstarted")
    for pids in ("private", "shared")
]
HEADINGS = {
    "create": "create, start",
    "detached": "run -d",
    "foreground": "run",
    "unstarted": "create, delete -f",
}
MACHINES = {"host": "the machine itself", "uml": "User-Mode Linux", "qemu": "QEMU"}

INTRO = """\
# Fidelity

A container that was moved, beside one that its runtime created at the same place. Both are looked
at in every way below, and every field must be equal, or stand in a list of differences with its
cause (`tests/fidelity/known.py`); anything else fails the test.

This page is written by `make fidelity` from what that run has seen. No cell is typed by hand.
"""

GROUPS = {
    "place": "whether it is where it was asked for",
    "membership": "the cgroup of its process in each hierarchy",
    "settings": "the text of each file in its cgroup, but for counters",
    "owner": "owner and mode of its folder and of each file in it",
    "devices": "which devices open and which are refused; the device programs in force (v2)",
    "unit": "all properties of its scope, but for times and counters",
    "inside": "what it finds itself: /proc/self/cgroup, its cgroup mounts with flags and "
    "propagation, the limits there, whether it can write there",
    "exec": "where `exec` goes, what it finds there, which devices open",
    "state": "`state`, or `podman inspect`",
    "pause": "whether the status is paused and a counter stands still",
    "resume": "whether the counter goes on",
    "update": "`update --memory`: what it says and all that it changes",
    "reload": "all that `systemctl daemon-reload` changes",
    "oom": "a process that uses up the memory: counted, told by `runc events`",
    "events": "`runc events`",
    "kill": "`kill`",
    "ended": "its state after the end, what `podman inspect` says of used up memory, what of its "
    "processes goes on",
    "foreground": "the status with which a foreground run ends",
    "delete": "`delete`, or `rm`",
    "left": "what is there afterwards: cgroups, processes, units, pinned programs, files",
    "created": "between create and start: `state`, `ps`, `update`, `exec`",
}


def main():
    documents = [load(name) for name in EXPECTED]
    lines = [INTRO, "## Versions\n", *versions(documents)]
    notes = number(documents)
    lines += ["", "## The table\n", *legend(), "", *table(documents, notes)]
    lines += ["", "## What differs and why\n", *differences(documents, notes)]
    lines += ["", "## What is compared\n", *groups(documents)]
    with open(PAGE, "w") as file:
        file.write("\n".join(lines) + "\n")


def load(name):
    path = f"{HERE}/results/{name}.json"
    if not os.path.exists(path):
        sys.exit(f"{path} is not there: run `make fidelity`")
    with open(path) as file:
        document = json.load(file)
    for cell in document["cells"]:
        if cell["unexplained"] or cell["stale"]:
            sys.exit(f"{path}: {cell['environment']} {cell['way']} {cell['pids']} has failed")
    return document


def versions(documents):
    keys = list(documents[0]["versions"])
    yield f"| Debian | kernel runs on | {' | '.join(keys)} |"
    yield "|" + "---|" * (len(keys) + 2)
    for document in documents:
        values = [document["versions"][key] or "-" for key in keys]
        machine = MACHINES[document["machine"]]
        yield f"| {document['suite']} | {machine} | {' | '.join(values)} |"


def number(documents):
    """Cause -> its number, in the order of their list."""
    found = {}
    for document in documents:
        for cell in document["cells"]:
            for _, _, why in cell["explained"].values():
                found.setdefault(why, len(found) + 1)
    return found


def legend():
    yield (
        "Each cell: how many fields are equal, and the numbers of the differences below that are "
        "there. Of the two columns of a way the first is with a pid namespace of its own, the "
        "second with the host's. `create, start` has a cgroup namespace and a cgroup mount that "
        "is read-only, `run -d` no cgroup namespace, the foreground `run` both and a mount that "
        "can be written."
    )


def table(documents, notes):
    yield (
        "| Debian | runtime | cgroups | "
        + " | ".join(
            f"{HEADINGS[way]}{'' if pids == 'private' else ' (host pid)'}" for way, pids in COLUMNS
        )
        + " |"
    )
    yield "|" + "---|" * (len(COLUMNS) + 3)
    for document in documents:
        rows = collections.defaultdict(dict)
        for cell in document["cells"]:
            rows[cell["environment"]][cell["way"], cell["pids"]] = cell
        for environment, cells in rows.items():
            runtime, cgroups = described(environment, document)
            values = [text(cells.get(column), notes) for column in COLUMNS]
            yield f"| {document['suite']} | {runtime} | {cgroups} | {' | '.join(values)} |"


def described(environment, document):
    runtime, _, manager = environment.rpartition("-")
    version = "v1" if document["versions"]["cgroups"] != "v2" else "v2"
    if runtime.endswith("-v2"):
        runtime, version = runtime[: -len("-v2")], "v2 without controllers"
    if runtime.startswith("podman"):
        runtime = f"podman with {runtime.partition('-')[2]}"
    return runtime, f"{version}, {manager}"


def text(cell, notes):
    if cell is None:
        return "-"
    numbers = sorted({notes[why] for _, _, why in cell["explained"].values()})
    differing = f"; {', '.join(map(str, numbers))}" if numbers else ""
    return f"{len(cell['equal'])} equal{differing}"


def differences(documents, notes):
    for why, count in notes.items():
        fields, places = collections.Counter(), {}
        for document in documents:
            for cell in document["cells"]:
                for field, (native, moved, cause) in cell["explained"].items():
                    if cause == why:
                        fields[field] += 1
                        place = f"{document['suite']} {cell['environment']}"
                        places.setdefault(place, (field, native, moved))
        yield f"{count}. {why}"
        yield f"   - Fields: {', '.join(f'`{name}`' for name in short(fields))}."
        yield f"   - Seen under: {', '.join(places)}."
        field, native, moved = next(iter(places.values()))
        yield f"   - For example `{field}`: natively `{clip(native)}`, moved `{clip(moved)}`."


def short(fields):
    """The names of fields, with those that differ in their last word alone as one."""
    stems = collections.OrderedDict()
    for name in sorted(fields):
        stems.setdefault(name.split(" ")[0], []).append(name)
    for stem, names in stems.items():
        yield names[0] if len(names) == 1 else f"{stem} ..."


def clip(value, length=120):
    words = " ".join(str(value).split())
    return words if len(words) <= length else words[:length] + "..."


def groups(documents):
    counts = collections.Counter()
    for document in documents:
        seen = collections.Counter()
        for cell in document["cells"]:
            here = collections.Counter(
                name.replace(" ", ".").split(".")[0]
                for name in (*cell["equal"], *cell["explained"])
            )
            for group, count in here.items():
                seen[group] = max(seen[group], count)
        for group, count in seen.items():
            counts[group] = max(counts[group], count)
    yield "| group | what | most fields in one cell |"
    yield "|---|---|---|"
    for group, what in GROUPS.items():
        yield f"| {group} | {what} | {counts.pop(group, 0)} |"
    assert not counts, f"groups without a description: {sorted(counts)}"


if __name__ == "__main__":
    main()
