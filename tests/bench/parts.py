"""What the start of a stage is made of: from the bare interpreter on, one part after the other."""

from support.tree import TOP

from bench import measure
from bench.life import ENVIRONMENT
from bench.scenes import PYTHON
from bench.usage import Command

ROUNDS = 60
INTERPRETER = "bare interpreter"
END = "import posix; posix._exit(0)"
# Part -> lines of Python, each part on top of those before.
PARTS = {
    "without its own end": "",
    "the shell of the launcher": "",
    "modules of the standard library": "import _json, errno, fcntl, _socket, os, select, time",
    "the modules of every stage": f"""
import gc, sys
gc.disable()
sys.dont_write_bytecode = True
sys.path.append({TOP!r})
from nri_hook import fastimport
fastimport.install("nri_hook")
import nri_hook.hook.stages
""",
    "those of a chain": """
from nri_hook.hook import chain, container, container_log, creation
""",
    "those of a move": """
from nri_hook.cgroups import libc, mounts, move, plan
""",
}
SHELL = 'exec "$0" -IS -c "$1"'


def run(rounds=ROUNDS):
    """Name -> seconds of CPU in each round, of the interpreter with all parts up to this one."""
    commands = {INTERPRETER: Command([PYTHON, "-IS", "-c", "pass"], env=ENVIRONMENT)}
    lines = ""
    for name, more in PARTS.items():
        lines += more + "\n"
        argv = ["/bin/sh", "-c", SHELL, PYTHON, lines + END]
        if name == next(iter(PARTS)):
            argv = [PYTHON, "-IS", "-c", lines + END]
        commands[name] = Command(argv, env=ENVIRONMENT)
    calls = {name: lambda c=command: c.run().cpu for name, command in commands.items()}
    return measure.in_turn(calls, rounds)
