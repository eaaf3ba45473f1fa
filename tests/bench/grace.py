"""What the writes of a move wait for the kernel's grace period."""

import json
import time

from bench import measure, scenes

ROUNDS = 15
# Seconds in which nobody moves a process, after which the next one waits.
QUIET = 0.1
# What a plugin takes before it answers, in seconds.
PLUGINS = {"answers at once": 0, "takes 50 ms": 0.05}
# Where the writes of the process into its new cgroups are timed, and those before that hold the
# grace period off.
TIMED = """
import time
from nri_hook.cgroups import controlfile, grace
from nri_hook.cgroups import move as moves
move, write, taken = moves._move, controlfile.write, []
renew, held_off = grace.Grace.renew, [0]

def renewing(self):
    begin = time.perf_counter()
    goes_on = renew(self)
    held_off[0] += time.perf_counter() - begin
    return goes_on

def timed(path, value):
    begin = time.perf_counter()
    write(path, value)
    taken.append(time.perf_counter() - begin)

def moving(planned):
    controlfile.write = timed
    move(planned)
    controlfile.write = write
    with open({note!r}, "w") as file:
        file.write(f"{{held_off[0]}} {{taken[0]}} {{sum(taken[1:])}}")

grace.Grace.renew = renewing
moves._move = moving
"""
# Milliseconds: more is a grace period that was paid.
TARGET = 1.0
WORDS = (
    "The runtime itself has just written one when the hook begins, and as long as a grace period"
    " has not passed since, the next write is free. So the hook writes its own process into the"
    " cgroup that it is in, which changes nothing, every 3 ms until the chain has ended, for half a"
    " second at most; the table has what these writes took, all together. It does so where the"
    " container before was moved: one that is not to be moved needs none of it. For the first one,"
    " and where a hook begins late (a start of the interpreter that takes longer than the grace"
    " period, a runtime that writes nothing), the wait is what it always was."
)


def run(rounds=ROUNDS):
    """Plugin -> (seconds of the writes that hold the grace period off, of the first write of the
    move, of all others), medians."""
    runtime = next(iter(scenes.all_scenes().values()))
    return {name: _measured(runtime, seconds, rounds) for name, seconds in PLUGINS.items()}


def _measured(runtime, seconds, rounds):
    moving = scenes.Moving(runtime)
    try:
        answer = json.dumps({"cgroupsPath": moving.target})
        text = f"#!/bin/sh\nsleep {seconds}\necho '{answer}'\n"
        moving.node.executable("mover", text)
        note = f"{moving.scene.directory}/writes"
        moving.add("timed", TIMED.format(note=note), measured=False)
        moving.live("timed")
        found = []
        for _ in range(rounds):
            time.sleep(QUIET)
            moving.live("timed")
            with open(note) as file:
                found.append([float(word) for word in file.read().split()])
        return [measure.middle(column) for column in zip(*found)]
    finally:
        moving.close()


def targets(found):
    """(what, limit, measured) of each target that this measurement decides."""
    for plugin, (before, first, _) in found.items():
        what = f"the first write of a move and those before it, where the plugin {plugin}, ms"
        yield what, TARGET, 1000 * (before + first)
