#!/usr/bin/env python3
"""Write docs/fidelity.md from the results of the last whole run (`make fidelity`)."""

import collections
import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
PAGE = f"{TOP}/docs/fidelity.md"
EXPECTED = ("host-bookworm", "uml-bookworm", "uml-trixie", "uml-sid")

PIDS = ("private", "shared")
WAYS = {
    "create": "create, start",
    "detached": "run -d",
    "foreground": "run",
    "unstarted": "create, delete -f",
}
MACHINES = {"host": "the machine itself", "uml": "User-Mode Linux", "qemu": "QEMU"}

INTRO = """\
# Fidelity

A container that was moved, beside one that its runtime created at the same place. Both go through
the same, from create to delete, and all that can be seen of them must be equal, or stand in a list
of differences with its cause (`tests/fidelity/known.py`); anything else fails the test.

This page is written by `make fidelity` from what that run has seen. No cell is typed by hand.
systemd's cgroup manager on v1 is not in it: a container stays where it is there
([placement.md](placement.md#left)). Nor is CRI-O.
"""

LEGEND = """\
Each cell: how many fields are equal and, in brackets, the differences below that there are. Each
way is gone with a pid namespace of its own and with the host's; where that makes a difference
there are two results, in this order. `create, start` has a cgroup namespace and a cgroup mount
that is read-only, `run -d` no cgroup namespace, the foreground `run` a cgroup namespace and a mount
that can be written (under podman it is read-only always). The last column is of a container that
was never started.
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
    notes = number(documents)
    lines = [INTRO, sum_of(documents, notes), "", "## Versions\n", *versions(documents)]
    lines += ["", "## The table\n", LEGEND, *table(documents, notes)]
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


def sum_of(documents, notes):
    cells = [cell for document in documents for cell in document["cells"]]
    equal, differing = (sum(len(cell[key]) for cell in cells) for key in ("equal", "explained"))
    return (
        f"{len(cells)} pairs of containers: {equal} fields are equal, {differing} differ for one"
        f" of {len(notes)} reasons, none for another."
    )


def table(documents, notes):
    yield f"| Debian | runtime | cgroups | {' | '.join(WAYS.values())} |"
    yield "|" + "---|" * (len(WAYS) + 3)
    for document in documents:
        rows = collections.defaultdict(dict)
        for cell in document["cells"]:
            rows[cell["environment"]][cell["way"], cell["pids"]] = cell
        for environment, cells in rows.items():
            runtime, cgroups = described(environment, document["versions"])
            values = [both(cells, way, notes) for way in WAYS]
            yield f"| {document['suite']} | {runtime} | {cgroups} | {' | '.join(values)} |"


def described(environment, versions):
    """The runtime with its version, and the cgroups."""
    runtime, _, manager = environment.rpartition("-")
    version = "v2" if versions["cgroups"] == "v2" else "v1"
    if runtime.endswith("-v2"):
        runtime, version = runtime[: -len("-v2")], "v2 without controllers"
    names = runtime.split("-")
    return ", ".join(f"{name} {versions[name]}" for name in names), f"{version}, {manager}"


def both(cells, way, notes):
    """What came of one way with each pid namespace."""
    results = [text(cells[way, pids], notes) for pids in PIDS]
    return " / ".join(dict.fromkeys(results))


def text(cell, notes):
    numbers = sorted({notes[why] for _, _, why in cell["explained"].values()})
    return f"{len(cell['equal'])}" + (f" ({', '.join(map(str, numbers))})" if numbers else "")


def differences(documents, notes):
    for why, count in notes.items():
        found = {}
        for document in documents:
            for cell in document["cells"]:
                for field, (native, moved, cause) in cell["explained"].items():
                    if cause == why:
                        found.setdefault(field, (native, moved))
        field, (native, moved) = next(iter(found.items()))
        yield f"{count}. {why}"
        yield f"   - Fields: {', '.join(f'`{name}`' for name in short(found))}."
        yield f"   - For example `{field}`: natively {clip(native)}, moved {clip(moved)}."


def short(fields):
    """The names of fields, with those that differ in their last word alone as one."""
    stems = collections.OrderedDict()
    for name in sorted(fields):
        stems.setdefault(name.split(" ")[0], []).append(name)
    for stem, names in stems.items():
        yield names[0] if len(names) == 1 else f"{stem} ..."


def clip(value, length=120):
    """A value as code, without what is of one run alone."""
    words = re.sub(r"nri-test(-\d+)*", "TEST", " ".join(str(value).split()))
    if not words:
        return "nothing"
    return f"`{words}`" if len(words) <= length else f"`{words[:length]}`..."


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
    yield "| group | what | fields, at most |"
    yield "|---|---|---|"
    for group, what in GROUPS.items():
        yield f"| {group} | {what} | {counts.pop(group, 0)} |"
    assert not counts, f"groups without a description: {sorted(counts)}"


if __name__ == "__main__":
    main()
