"""What hooks add to a whole `run`, of each runtime."""

import os

from support import runtimes
from support.scene import Scene

from bench import hooks, measure
from bench.scenes import PYTHON

# Runtime -> rounds: the dearer a run the fewer.
ROUNDS = {"runc": 24, "crun": 24, "podman": 12}
# What such hooks may add to podman's run, x what bare interpreters do.
TARGET, GOAL = 1.3, 1.1
TREE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tree.py")


class Runs:
    """A runtime, and a bundle for each kind of hooks."""

    def __init__(self, name, kinds=hooks.ALL):
        self.scene = Scene()
        self.name = name
        self.target = f"{self.scene.cgroup}-qos"
        self.scene.runtime_made(self.target)
        self.runtimes = {}
        self.bundles = {}
        self.numbers = 0
        for kind in kinds:
            self._add(kind)

    def run(self, kind):
        """One container from its creation to its end: [seconds, seconds of CPU of all].

        podman in the foreground. runc and crun detached, then deleted: a crun that runs in the
        foreground can miss the end of a hook when its container ends meanwhile.
        """
        runtime, id = self.runtimes[kind], self._id()
        runtime.note = f"{self.scene.directory}/note"
        runtime.run(id, self.bundles[kind], detach=self.name != "podman").check()
        if self.name == "podman":
            runtime.note, note = "", runtime.note
            runtime.delete(id)
        else:
            runtime.delete(id)
            runtime.note, note = "", runtime.note
        with open(note) as file:
            lines = [[float(word) for word in line.split()] for line in file]
        os.unlink(note)
        return [sum(column) for column in zip(*lines)]

    def close(self):
        left = self.scene.close()
        assert not left, "left behind:\n" + "\n".join(left)

    def _id(self):
        self.numbers += 1
        return f"{self.scene.name}-{self.numbers}"

    def _add(self, kind):
        number = len(self.runtimes)
        runtime = _noting(runtimes.ALL[self.name])(f"{self.scene.directory}/runtime{number}")
        self.scene.runtimes.append(runtime)
        node = self.scene.node()
        args = ["true"] if self.name == "podman" else ["sleep", "60"]
        bundle = self.scene.bundle(args)
        self.scene.runtime_made(bundle.cgroups_path)
        hooks.install(kind, node, None if self.name == "podman" else bundle, self.target)
        if self.name == "podman":
            runtime.hooks_dir = node.hooks_dir
        self.runtimes[kind] = runtime
        self.bundles[kind] = bundle


def _noting(environment):
    class Noting(environment):
        """note: the file for what tree.py says of a command, "" for none."""

        note = ""

        def command(self):
            words = super().command()
            which = "all" if environment.binary == "podman" else "one"
            return [PYTHON, "-IS", TREE, which, self.note, *words] if self.note else words

    return Noting


def measured(name, rounds):
    """Kind of hooks -> in each round [seconds, seconds of CPU]."""
    runs = Runs(name)
    try:
        variants = {kind: lambda kind=kind: runs.run(kind) for kind in hooks.ALL}
        return measure.in_turn(variants, rounds)
    finally:
        runs.close()


def run():
    """Runtime -> kind of hooks -> in each round [seconds, seconds of CPU]."""
    there = [name for name in ROUNDS if name in runtimes.available()]
    return {name: measured(name, ROUNDS[name]) for name in there}


def adds(found, kind, of=1):
    """What hooks of a kind add to a run: seconds of CPU; of=0: of the clock."""
    values, others = ([run[of] for run in found[k]] for k in (kind, hooks.NONE))
    return measure.difference(values, others)


def targets(found):
    """(what, limit, measured) of each target that this measurement decides."""
    for name, one in found.items():
        ratio = adds(one, hooks.MOVING) / adds(one, hooks.BARE)
        yield f"{name} run with 1 hosted and a move, x bare interpreters", TARGET, ratio
