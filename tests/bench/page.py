"""docs/performance.md from the numbers of a run."""

import os

from bench import measure, move

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGE = f"{TOP}/docs/performance.md"
SCENES = {
    "v1": "runc on cgroup v1, each hierarchy mounted in the container",
    "v2": "runc on cgroup v2, in a mount namespace of its own where the machine has v1 too",
}


def write(document):
    with open(PAGE, "w") as file:
        file.write("\n".join([*_head(document), "", *_move(document["move"])]) + "\n")


def missed(document):
    """A line for each target that was missed."""
    return [
        f"{scene}: a move costs {move.more(found):.2f} x the bare interpreter more than its bare"
        f" writes, expected at most {move.TARGET}"
        for scene, found in document["move"].items()
        if move.more(found) > move.TARGET
    ]


def _head(document):
    quiet = document["quiet"]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    return [
        "# Performance",
        "",
        "This page is written by `make bench` from what that run has measured. Times are CPU"
        " seconds (user and system) of a process and all its children, as `wait4` gives them;"
        " medians, with the middle half in brackets. Everything is measured in turn, each round in"
        " an order of its own, and what is compared is compared within the round. The unit is the"
        " bare interpreter, `python3 -IS -c pass`: ratios travel, milliseconds do not.",
        "",
        f"{versions}; {quiet['cpus']} CPUs, load {quiet['load before']:.2f} before the run, during"
        f" which others used {100 * quiet['others']:.0f} % of the CPU time.",
    ]


def _move(scenes):
    yield "## A move"
    yield ""
    yield (
        f"{move.ROUNDS} real moves of each kind by `runc create`, with one small plugin in sh. The"
        " hook of each row is the real one, out of which the steps that are not named were taken"
        " (`tests/bench/move.py`). Bare writes: the chain, the record, the new cgroups made and"
        " the process written into them. Carry: all settings read, compared, written, read back."
        " Filter: the device list of v1, the device programs of v2. View: the container's cgroup"
        " mounts. Filter and view both need the C library (`_ctypes`), which is loaded once."
    )
    for name, found in scenes.items():
        unit = measure.middle(found[move.INTERPRETER])
        yield from ("", f"{SCENES[name]}:", "")
        yield "| | ms of CPU | x interpreter | more than bare writes, x interpreter |"
        yield "|---|---|---|---|"
        for variant, values in found.items():
            middle = measure.middle(values)
            first, third = measure.spread(values)
            others = variant not in (move.INTERPRETER, move.BARE)
            more = f"{move.more(found, variant):.2f}" if others else ""
            yield (
                f"| {variant} | {1000 * middle:.2f} ({1000 * first:.2f} to {1000 * third:.2f})"
                f" | {middle / unit:.2f} | {more} |"
            )
    yield ""
    results = ", ".join(f"{move.more(found):.2f} on {name}" for name, found in scenes.items())
    yield (
        f"Target: carry, filter and view together cost at most {move.TARGET} x the bare interpreter"
        f" more than the bare writes. Measured: {results}."
    )
