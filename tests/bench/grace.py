"""What the writes of a move wait for the kernel's grace period."""

import json

from bench import measure, scenes

ROUNDS = 15
# What a plugin takes before it answers, in seconds.
PLUGINS = {"answers at once": 0, "takes 50 ms": 0.05}
# Where the writes of the process into its new cgroups are timed.
TIMED = """
import time
from nri_hook.cgroups import files, placement
move, write, taken = placement._move, files.write, []

def timed(path, value):
    begin = time.perf_counter()
    write(path, value)
    taken.append(time.perf_counter() - begin)

def moving(planned):
    files.write = timed
    move(planned)
    files.write = write
    with open({note!r}, "w") as file:
        file.write(f"{{taken[0]}} {{sum(taken[1:])}}")

placement._move = moving
"""
# Milliseconds: more is a grace period that was paid.
TARGET = 1.0
WORDS = (
    "Tried, and not built in: a write that changes nothing, by a thread, as soon as the chain has"
    " asked for a move, so that the wait overlaps with the preparations. The move's own first write"
    " then took 0.04 ms instead of 12; but from the end of the chain to the end of the writes it"
    " was only 0.7 ms faster (60 pairs, middle half from 9 ms faster to 4 ms slower, Linux 6.18)."
    " The preparations may be too short for it, or wait themselves: by its source the kernel holds"
    " `cgroup_mutex` meanwhile, which making a cgroup needs; a trace has not shown that. Started"
    " with the chain it would be paid by containers that are not moved, and be over again behind a"
    " plugin that takes longer than some 10 ms."
)


def run(rounds=ROUNDS):
    """Plugin -> (seconds of the first write, seconds of all others), medians."""
    runtime = next(iter(scenes.all_scenes().values()))
    return {name: _measured(runtime, seconds, rounds) for name, seconds in PLUGINS.items()}


def _measured(runtime, seconds, rounds):
    moving = scenes.Moving(runtime)
    try:
        answer = json.dumps({"cgroupsPath": moving.target})
        text = f"#!/bin/sh\nsleep {seconds}\necho '{answer}'\n"
        moving.node.executable("mover", text)
        note = f"{moving.scene.folder}/writes"
        moving.add("timed", TIMED.format(note=note))
        found = []
        for _ in range(rounds):
            moving.create("timed")
            with open(note) as file:
                found.append([float(word) for word in file.read().split()])
        return [measure.middle(column) for column in zip(*found)]
    finally:
        moving.close()


def targets(found):
    """(what, limit, measured) of each target that this measurement decides."""
    for plugin, (first, _) in found.items():
        yield f"the first write of a move, where the plugin {plugin}, ms", TARGET, 1000 * first
