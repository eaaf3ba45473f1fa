"""Write docs/fidelity.md from the results of the last whole run (`make fidelity`)."""

import collections
import json
import os
import re
import sys

from support.tree import TOP

from fidelity.kinds import ENGINE_KINDS, KINDS, PLAIN

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = f"{TOP}/docs/fidelity.md"
EXPECTED = "host-bookworm-all uml-bookworm-all uml-trixie-all uml-sid-cgroupfs uml-sid-systemd"

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
of differences with its cause (`tests/e2e/fidelity/known.py`); anything else fails the test. A
container that cannot be moved alive is left: it is beside one that was created where it starts.
What the node itself has, its mounts, the limits of other cgroups and its units, must be the same
in the end as before.

This page is written by `make fidelity` from what that run has seen. No cell is typed by hand.
systemd's cgroup manager on v1 is not in it: a container stays where it is there
([placement.md](placement.md#left)). Nor is CRI-O.
"""

LEGEND = """\
Each cell: how many fields are equal and, in brackets, the differences below that there are. Each
way is gone with a pid namespace of its own and with the host's; where that makes a difference
there are two results, in this order. `create, start` and the foreground `run` have a cgroup
namespace, `run -d` has none; the cgroup mount is read-only. The last column is of a container that
was never started.
"""

KINDS_LEGEND = """\
With a cgroup namespace and a pid namespace of its own. `rw`: the cgroup mount can be written.
`/sys, shared` and `/sys/fs, ro`: those of the node, bound over the cgroup mount as a hostPath is,
the one with `rshared`, the other with read-only cgroups; with a user namespace and the node's
network it is CRI-O that binds `/sys` so. On v2 the first process of `--systemd=always` is systemd;
`--cgroupns=container:` joins the container of `create, start`. All but the plain ones try to lift
their limits, as things are, after a remount and in a mount of their own. *left*: it was not moved.
"""

GROUPS = {
    "begin": "whether it is created at all",
    "place": "whether it is where it was asked for, and why it was left",
    "membership": "the cgroup of its process in each hierarchy",
    "settings": "the text of each file in its cgroup, but for counters",
    "owner": "owner and mode of its directory and of each file in it",
    "devices": "which devices open and which are refused; the device programs in force (v2)",
    "unit": "all properties of its scope, but for times and counters",
    "inside": "what it finds itself: /proc/self/cgroup, its cgroup mounts with flags and "
    "propagation, the limits there, whether it can write there",
    "tries": "whether it can write its limits and go into a cgroup below, as things are, after a "
    "remount and in a mount of its own",
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
    documents = [load(name) for name in EXPECTED.split()]
    notes = number(documents)
    lines = [INTRO, sum_of(documents, notes), "", "## Versions\n", *versions(documents)]
    lines += ["", "## The table\n", LEGEND, *table(documents, notes)]
    lines += ["", "## Kinds of containers\n", KINDS_LEGEND]
    lines += [
        *kinds_table(documents, notes, KINDS),
        "",
        *kinds_table(documents, notes, ENGINE_KINDS),
    ]
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
            name = " ".join(cell[key] for key in ("environment", "kind", "way", "pids"))
            sys.exit(f"{path}: {name} has failed")
    return document


def versions(documents):
    keys = list(documents[0]["versions"])
    yield f"| Debian | kernel runs on | {' | '.join(keys)} |"
    yield "|" + "---|" * (len(keys) + 2)
    # A machine has as many documents as it took runs.
    yield from dict.fromkeys(
        f"| {document['suite']} | {MACHINES[document['machine']]} | {' | '.join(values)} |"
        for document in documents
        for values in [[document["versions"][key] or "-" for key in keys]]
    )


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
    yield from header(WAYS.values())
    for row, cells in rows(documents):
        found = {(cell["way"], cell["pids"]): cell for cell in cells if cell["kind"] == PLAIN.name}
        yield f"{row} | {' | '.join(both(found, way, notes) for way in WAYS)} |"


def kinds_table(documents, notes, kinds):
    """Of those environments that have containers of these kinds."""
    yield from header(kind.title for kind in kinds)
    for row, cells in rows(documents):
        found = {cell["kind"]: text(cell, notes) for cell in cells}
        if kinds[0].name in found:
            yield f"{row} | {' | '.join(found.get(kind.name, '-') for kind in kinds)} |"


def header(titles):
    titles = ["Debian", "runtime", "cgroups", *titles]
    yield f"| {' | '.join(titles)} |"
    yield "|" + "---|" * len(titles)


def rows(documents):
    """(the first fields of a row, the cells) of each environment."""
    for document in documents:
        found = collections.defaultdict(list)
        for cell in document["cells"]:
            found[cell["environment"]].append(cell)
        for environment, cells in found.items():
            runtime, cgroups = described(environment, document["versions"])
            yield f"| {document['suite']} | {runtime} | {cgroups}", cells


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
    count = f"{'*left* ' if cell['left'] else ''}{len(cell['equal'])}"
    return count + (f" ({', '.join(map(str, numbers))})" if numbers else "")


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
