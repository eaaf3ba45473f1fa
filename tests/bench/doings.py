"""What each stage does beside taking time: system calls, processes, modules, memory."""

import os

from support.tree import TOP

from bench import life, noops, trace
from bench.scenes import PYTHON
from bench.usage import Command

INTERPRETER = "bare interpreter"
# Peak memory of a stage, x the bare interpreter's.
TARGET = 1.25
KINDS = {
    "no configuration": (None, 0),
    "1 native": (noops.NATIVE, 1),
    "3 native": (noops.NATIVE, 3),
    "1 hosted": (noops.PLAIN, 1),
    "3 hosted": (noops.PLAIN, 3),
}
# The most memory that this program had: unlike the ru_maxrss of a child, it does not begin with
# what the parent had.
PEAK = """\
peak = open("/proc/self/status").read().split("VmHWM:")[1].split()[0]
open({note!r}, "w").write(peak)
"""
LAST = """
import os
end = os._exit

def noting(status):
    {body}
    end(status)

os._exit = noting
"""


def run():
    """What -> stage ("" for the interpreter) -> {"calls", "processes", "modules", "memory"}."""
    stand = life.Stand()
    try:
        bare = stand.interpreter()
        found = {INTERPRETER: {"": _doing(bare, _memory_of_interpreter(stand))}}
        for name, (kind, count) in KINDS.items():
            # A container for each: called twice, a stage has nothing to do.
            traced, noting = (stand.life(kind, count) for _ in range(2))
            found[name] = {
                stage: _doing(command, _memory(stand, noting.calls[stage]) if kind else 0)
                for stage, command in traced.calls.items()
            }
        return found
    finally:
        stand.close()


def _doing(command, memory):
    found = trace.of(command.argv, command.stdin)
    names = [name for name in trace.modules(found, TOP) if name.startswith("nri_hook/")]
    return {
        "calls": found.total(),
        "processes": found.processes,
        "modules": len(names),
        "memory": memory,
    }


def _memory_of_interpreter(stand):
    note = f"{stand.scene.directory}/peak"
    Command([PYTHON, "-IS", "-c", PEAK.format(note=note)]).run()
    with open(note) as file:
        return int(file.read())


def _memory(stand, command):
    """Of a stage: KB at its end."""
    note = f"{stand.scene.directory}/peak"
    launcher = f"{command.argv[0]}-noting"
    with open(command.argv[0]) as file:
        head, call, _ = file.read().partition("main(sys.argv)")
    body = PEAK.format(note=note).replace("\n", "; ")
    with open(launcher, "w") as file:
        file.write(f"{head}{LAST.format(body=body)}\n{call}\n")
    os.chmod(launcher, 0o755)
    Command([launcher, *command.argv[1:]], command.stdin, command.out).run()
    with open(note) as file:
        return int(file.read())


def targets(found):
    """(what, limit, measured) of each target that this measurement decides."""
    bare = found[INTERPRETER][""]["memory"]
    most = max(one["memory"] for stages in found.values() for one in stages.values())
    yield "peak memory of a stage without a move, x interpreter", TARGET, most / bare
