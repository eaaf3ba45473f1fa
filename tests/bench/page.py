"""docs/performance.md from the numbers of a run."""

import os

from bench import chain, crowd, doings, grace, hooks, life, measure, move, parts, runs
from bench.table import brief, milliseconds, table

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGE = f"{TOP}/docs/performance.md"
SCENES = {
    "v1": "runc on cgroup v1, each hierarchy mounted in the container",
    "v2": "runc on cgroup v2, in a mount namespace of its own where the machine has v1 too",
}
MEASUREMENTS = {
    **{"chain": chain, "doings": doings, "move": move},
    **{"runs": runs, "crowd": crowd, "grace": grace},
}
# Where the time of a missed target goes, by a part of its name; each was looked at with
# `perf stat -e task-clock,page-faults`, `strace -f` and `-X importtime`.
REASONS = {
    "each native plugin": "The rest is the hook's own part, some 45 system calls: three pipes for"
    " payload and answer, a line more in the record, a look at the plugin's file.",
    "each hosted plugin": "Forking a process of this size and reaping it, with nothing done in"
    " between, takes half of the target. In the child some 260 pages are touched for the first time"
    " (`perf record -e page-faults`), each of them copied or mapped at 1.5 to 3 us; the hook"
    " copies some 40 anew after each fork.",
    "a chain of three": "As for each hosted plugin.",
    "createRuntime for three": "What a container with plugins costs at all is in it, more than one"
    " without any: a dozen modules of nri-hook, the reading of config.json, the record and the log"
    " are a third of what three hosted plugins cost.",
    "a config.json": "Decoding: it has 4300 objects and lists; each object becomes a dictionary,"
    " which is looked at for a key that appears twice, and all are looked through for their depth.",
    "podman run": "A stage that has started is above this already, before any work: the shell of"
    " the launcher, a handful of the standard library's modules and 16 of ours (What a start is"
    " made of). On top come a dozen modules more for a chain and another for a move, a child for"
    " the plugin, and the move.",
    "runc run": "As for podman, of which the runs are dearer and the hooks the same.",
    "crun run": "As for podman, of which the runs are dearer and the hooks the same.",
    "creates at once": "createRuntime alone counts here, which has the chain and the move, and"
    " whose start alone is above this; both CPUs are busy, so what a hook costs is what it adds.",
    "createRuntime without": "The shell that finds that there is nothing to do.",
    "poststart with nothing": "The same.",
    "poststop with nothing": "The same.",
    "peak memory": "The code of the modules.",
    "the first write of a move": "The grace period is paid, here or before; see the last section.",
    "more than its bare writes": "About 300 control files are read on v1, in ten hierarchies.",
    "bare writes and carry": "The modules that move cost two thirds of that before anything is done"
    " (What a start is made of). Then in each hierarchy, of which v1 has ten, cgroups are made and"
    " marked behind a lock, the settings of the old one are looked at and read, those of"
    " the new one filled in and read, and the process is written: some 900 system calls.",
    "view and filter on top": "Loading the C library, and in the container's mount namespace a"
    " mount copied and attached for each hierarchy.",
}


def write(document):
    sections = [_head, _targets, _chain, _parts, _doings, _move, _runs, _crowd, _grace]
    lines = [line for section in sections for line in (*section(document), "")]
    with open(PAGE, "w") as file:
        file.write("\n".join(lines[:-1]) + "\n")


def targets(document):
    """(what, limit, measured) of all measurements."""
    return [target for name, one in MEASUREMENTS.items() for target in one.targets(document[name])]


def missed(document):
    """A line for each target that was missed."""
    return [
        f"{what}: {measured:.2f}, expected at most {limit}"
        for what, limit, measured in targets(document)
        if measured > limit
    ]


def _head(document):
    quiet = document["quiet"]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    return [
        "# Performance",
        "",
        "This page is written by `make bench` from what that run has measured. Times are CPU"
        " seconds (user and system) of a process and all its children, as `wait4` gives them, or"
        " where it is said those of the clock; medians, with the middle half in brackets."
        " Everything is measured in turn, each round in an order of its own, and what is compared"
        " is compared within the round. The unit is the bare interpreter, `python3 -IS -c pass`:"
        " ratios travel, milliseconds do not.",
        "",
        f"{versions}; {quiet['cpus']} CPUs, load {quiet['load before']:.2f} before the run, during"
        f" which others used {100 * quiet['others']:.0f} % of the CPU time."
        " Times of the clock grow with what others use; those of the CPU grow less.",
    ]


def _targets(document):
    yield from ("## Targets", "")
    rows = [
        [what, str(limit), brief(measured), "yes" if measured <= limit else "**no**"]
        for what, limit, measured in targets(document)
    ]
    yield from table(["", "at most", "measured", "met"], rows)
    lost = [what for what, limit, measured in targets(document) if measured > limit]
    if lost:
        yield from ("", "Where the time goes, for those that are missed:", "")
    for what in lost:
        (reason,) = (reason for part, reason in REASONS.items() if part in what)
        yield f"- {what}: {reason}"


def _chain(document):
    found = document["chain"]
    yield from ("## The stages", "")
    yield (
        f"{len(found[chain.INTERPRETER])} rounds of calls as a runtime makes them, for a container"
        f" that stays where it is; its config.json has {chain.SMALL} KB where nothing else is said."
        f" The plugins do nothing; native ones are in {document['language']}. In Python:"
        " the same file as an executable, as [plugins.md](plugins.md) has it, with the interpreter"
        " that has nri-hook in its first line; and with the leanest first line that Python allows."
        " A chain: what the calls of the plugins take, in a hook's interpreter that does nothing"
        " else."
        " The usual way: a hook that does the same with"
        " `json`, `subprocess`, `argparse`, `logging` and `jsonschema` imported at its top"
        " (`tests/bench/usual.py`)."
    )
    yield ""
    unit = chain.unit(found)
    rows = []
    for name, rounds in found.items():
        cells = [name]
        for stage in life.STAGES:
            if stage in rounds[0]:
                middle = measure.middle(chain.values(found, name, stage))
                cells.append(f"{milliseconds(middle)} = {middle / unit:.2f} x")
            elif stage == life.STAGES[0]:
                middle = measure.middle(chain.values(found, name))
                cells.append(f"{milliseconds(middle)} = {middle / unit:.2f} x")
            else:
                cells.append("")
        walls = [] if name in chain.CHAINS else chain.values(found, name, life.STAGES[0], of=1)
        ends = [measure.middle(walls), measure.high(walls)] if walls else []
        cells += [milliseconds(end) for end in ends] or ["", ""]
        rows.append(cells)
    head = ["ms of CPU", *life.STAGES, "createRuntime on the clock, ms: p50", "p99"]
    yield from table(head, rows)


def _parts(document):
    found = document["parts"]
    unit = measure.middle(found[parts.INTERPRETER])
    yield from ("## What a start is made of", "")
    yield (
        f"{parts.ROUNDS} rounds; each row has all that those above it have. A stage ends without"
        " what an interpreter does at its end, which the bare one does. What is missing to the"
        " stages above is their work: reading, asking, writing down, and the plugins."
    )
    yield ""
    rows, before = [], 0.0
    for name, values in found.items():
        middle = measure.middle(values)
        rows.append(
            [name, milliseconds(middle), f"{middle / unit:.2f}", f"{(middle - before) / unit:+.2f}"]
        )
        before = middle
    head = ["and", "ms of CPU", "x interpreter", "more than the row above, x interpreter"]
    yield from table(head, rows)


def _doings(document):
    yield from ("## What a stage does", "")
    yield (
        "System calls of the hook itself and processes that it starts, by `strace -f`; modules of"
        " ours that it imports; its peak memory (`VmHWM`). A stage without a memory ends in the"
        " launcher, before Python. `tests/e2e/test_cost.py` has the names, and fails when one comes"
        " new."
    )
    yield ""
    rows = [
        [
            f"{name}, {stage}" if stage else name,
            *(str(one[key]) for key in ("calls", "processes", "modules")),
            f"{one['memory'] / 1024:.1f}" if one["memory"] else "",
        ]
        for name, stages in document["doings"].items()
        for stage, one in stages.items()
    ]
    yield from table(["", "system calls", "processes", "modules", "memory, MB"], rows)


def _move(document):
    scenes = document["move"]
    yield "## A move"
    yield ""
    yield (
        f"{move.ROUNDS} real moves of each kind by `runc create`, with one small plugin in sh. The"
        " hook of each row is the real one, out of which the steps that are not named were taken"
        " (`tests/bench/move.py`). No move: the plugin's answer is"
        " passed over. Bare writes: the chain, the record, the new cgroups made and"
        " the process written into them. Carry: all settings read, compared, written, read back."
        " Filter: the device list of v1, the device programs of v2. View: the container's cgroup"
        " mounts. Filter and view both need the C library (`_ctypes`), which is loaded once."
    )
    for name, found in scenes.items():
        unit = measure.middle(found[move.INTERPRETER])
        yield from ("", f"{SCENES[name]}:", "")
        rows = []
        for variant, values in found.items():
            middle = measure.middle(values)
            first, third = measure.spread(values)
            others = variant not in (move.INTERPRETER, move.STAYS, move.BARE)
            rows.append(
                [
                    variant,
                    f"{milliseconds(middle)} ({milliseconds(first)} to {milliseconds(third)})",
                    f"{middle / unit:.2f}",
                    f"{move.more(found, variant):.2f}" if others else "",
                ]
            )
        head = ["", "ms of CPU", "x interpreter", "more than bare writes, x interpreter"]
        yield from table(head, rows)


def _runs(document):
    yield from ("## Whole runs", "")
    yield (
        "What the hooks of all three stages add to a container's life: `podman run` in the"
        " foreground; `runc run` and `crun run` detached, and `delete --force`. The least there"
        f" is: an executable in {document['language']} that reads stdin and ends. Bare"
        " interpreters: `python3 -IS` that reads stdin and ends. Differences to the same life"
        " without hooks, within the round. Of what a process uses that its parent does not wait"
        " for, the CPU time is seen for podman alone: where three bare interpreters seem to cost"
        " less than three times the unit, as under crun, the clock has all of it."
    )
    for name, found in document["runs"].items():
        none = found[hooks.NONE]
        wall, cpu = (measure.middle([one[of] for one in none]) for of in (0, 1))
        yield from (
            "",
            f"{name}, {len(none)} rounds; without hooks {milliseconds(wall)} ms of the clock and"
            f" {milliseconds(cpu)} ms of CPU:",
            "",
        )
        bare = runs.adds(found, hooks.BARE)
        rows = [
            [
                kind,
                milliseconds(runs.adds(found, kind)),
                f"{runs.adds(found, kind) / bare:.2f}",
                milliseconds(runs.adds(found, kind, of=0)),
            ]
            for kind in found
            if kind != hooks.NONE
        ]
        yield from table(["adds", "ms of CPU", "x bare interpreters", "ms of the clock"], rows)


def _crowd(document):
    yield from ("## Many creates at once", "")
    yield (
        "So many `create` at the same moment, each for a container of its own; the hooks are those"
        " above, of which createRuntime alone runs here (and poststart under runc 1.1). All: until"
        " the last one is there. Each: of the creates, one by one."
    )
    for name, sizes in document["crowd"].items():
        yield from ("", f"{name}:", "")
        rows = []
        for size, found in sizes.items():
            for kind, rounds in found.items():
                each = [seconds for one in rounds for seconds in one[2]]
                more = "" if kind == hooks.NONE else milliseconds(crowd.adds(found, kind))
                whole = measure.middle([one[0] for one in rounds])
                cells = [f"{size}, {kind}", more, milliseconds(whole)]
                cells += [milliseconds(measure.middle(each)), milliseconds(measure.high(each))]
                rows.append(cells)
        yield from table(
            ["at once", "adds, ms of CPU", "all, ms of the clock", "each, p50", "each, p99"], rows
        )


def _grace(document):
    yield from ("## The kernel's grace period", "")
    yield (
        "The first write of a process into a `cgroup.procs` after a quiet spell waits for an RCU"
        " grace period (`cgroup_threadgroup_rwsem`), whichever cgroup it goes to and whatever"
        " process it is; it costs no CPU time. What the first write of a move took, those before"
        " it that hold the grace period off, and all others, by the clock, in the hook of a real"
        " `runc create` after 100 ms of quiet, behind a plugin that takes so long:"
    )
    yield ""
    rows = [[plugin, *map(milliseconds, taken)] for plugin, taken in document["grace"].items()]
    yield from table(["plugin", "before, ms", "first write, ms", "all others together, ms"], rows)
    yield ""
    yield grace.WORDS
