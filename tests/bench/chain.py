"""What the stages of a container cost, with plugins of each kind and number."""

import os
import sys

from support.tree import TOP

from bench import life, measure, noops
from bench.life import LARGE, SMALL
from bench.usage import Command

ROUNDS = 24
INTERPRETER, PLUGIN = "bare interpreter", "a native plugin alone"
NOTHING, EMPTY, USUAL, USUAL_PLUGIN = (
    "no configuration",
    "an empty configuration",
    "the usual way",
    "the usual way, 1 native",
)
# Without a container and its hook: what comes from the plugins alone.
CHAINS = {f"a chain of 3 {kind}": kind for kind in (noops.PLAIN, noops.EXECUTABLE, noops.LEAN)}
# So many spawns that what one costs is told from the noise of the rest.
SPAWNS = 10
SPAWN = """
import os, sys
null = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
for _ in range(int(sys.argv[2])):
    os.waitpid(os.posix_spawn(sys.argv[1], [sys.argv[1], "invoke"], {}, file_actions=null), 0)
"""


def name_of(kind, count, size=SMALL):
    return f"{count} {kind}" + (f", config.json of {size} KB" if size != SMALL else "")


PLUGINS = [(kind, count) for kind in (noops.NATIVE, noops.PLAIN) for count in (1, 3, 10)]
PLUGINS += [(noops.EXECUTABLE, 3), (noops.LEAN, 3)]


def run(rounds=ROUNDS):
    """Variant -> in each round {stage: [seconds of CPU, seconds of wall]}; for what is no hook the
    stage is ""."""
    stand = life.Stand()
    try:
        return measure.in_turn(_variants(stand), rounds)
    finally:
        stand.close()


def _variants(stand):
    lives = {
        NOTHING: stand.life(),
        EMPTY: stand.life(noops.NATIVE, 0),
        name_of(noops.NATIVE, 1, LARGE): stand.life(noops.NATIVE, 1, LARGE),
        USUAL: stand.other(_usual(stand), 0),
        USUAL_PLUGIN: stand.other(_usual(stand), 1),
    }
    for kind, count in PLUGINS:
        lives[name_of(kind, count)] = stand.life(kind, count)
    plugin = f"{stand.scene.directory}/plugin"
    noops.native(plugin)
    bare = stand.interpreter()
    spawning, idle = (
        Command([*bare.argv[:2], "-c", SPAWN, plugin, str(times)], env=life.ENVIRONMENT)
        for times in (SPAWNS, 0)
    )

    def alone():
        many, none = spawning.run(), idle.run()
        return {"": [(many.cpu - none.cpu) / SPAWNS, (many.wall - none.wall) / SPAWNS]}

    def whole(command):
        used = command.run()
        return {"": [used.cpu, used.wall]}

    def passing(one):
        return {stage: [used.cpu, used.wall] for stage, used in one.pass_by().items()}

    variants = {INTERPRETER: lambda: whole(bare), PLUGIN: alone}
    chains = {name: stand.chain(kind, 3) for name, kind in CHAINS.items()}
    variants.update({name: lambda one=one: {"": [one()]} for name, one in chains.items()})
    variants.update({name: lambda one=one: passing(one) for name, one in lives.items()})
    return variants


def _usual(stand):
    path = f"{stand.scene.directory}/usual"
    here = os.path.dirname(os.path.abspath(__file__))
    with open(f"{here}/usual.py") as file, open(path, "w") as copy:
        copy.write(f"#!{sys.executable}\nSCHEMAS = {TOP + '/schemas'!r}\n{file.read()}")
    os.chmod(path, 0o755)
    return path


def values(found, variant, stage="createRuntime", of=0):
    """Seconds in each round. of: 0 for CPU, 1 for wall."""
    return [used[stage if stage in used else ""][of] for used in found[variant]]


def unit(found):
    """The bare interpreter's seconds of CPU."""
    return measure.middle(values(found, INTERPRETER))


def ratio(found, variant, stage="createRuntime"):
    return measure.middle(values(found, variant, stage)) / unit(found)


def more(found, variant, than, stage="createRuntime"):
    """Seconds of CPU, the middle of the differences within a round."""
    return measure.difference(values(found, variant, stage), values(found, than, stage))


def each(found, kind, stage="createRuntime"):
    """What each further plugin of a kind adds: seconds of CPU."""
    return more(found, name_of(kind, 10), name_of(kind, 1), stage) / 9


def targets(found):
    """(what, limit, measured) of each target that this measurement decides."""
    bare = unit(found)
    hosted, executable, lean = (measure.middle(values(found, name)) for name in CHAINS)
    whole = [more(found, name_of(kind, 3), EMPTY) for kind in (noops.PLAIN, noops.EXECUTABLE)]
    large = more(found, name_of(noops.NATIVE, 1, LARGE), name_of(noops.NATIVE, 1))
    yield "createRuntime without plugins, x interpreter", 0.3, ratio(found, NOTHING)
    yield "poststart with nothing to do, x interpreter", 0.2, ratio(found, NOTHING, "poststart")
    yield "poststop with nothing to do, x interpreter", 0.2, ratio(found, NOTHING, "poststop")
    own = measure.middle(values(found, PLUGIN))
    yield "each native plugin adds, x its own", 1.2, each(found, noops.NATIVE) / own
    yield "each hosted plugin adds, x interpreter", 0.15, each(found, noops.PLAIN) / bare
    yield "a chain of three hosted, x the same as executables", 0.2, hosted / executable
    yield "a chain of three hosted, x the same under -IS", 0.2, hosted / lean
    yield "createRuntime for three hosted, x for executables", 0.2, whole[0] / whole[1]
    yield "a config.json of 200 KB adds, x interpreter", 0.3, large / bare
