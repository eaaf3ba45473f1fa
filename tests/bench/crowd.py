"""Many creates at once."""

import time

from support import runtimes
from support.scene import Scene

from bench import hooks, measure
from bench.usage import Command

# How many at once -> rounds.
ROUNDS = {1: 12, 4: 8, 16: 4, 64: 2}
RUNTIMES = ("runc", "crun")
TARGET = 1.3


class Crowd:
    """A runtime and so many bundles, with one kind of hooks."""

    def __init__(self, scene, name, kind, number):
        self.runtime = scene.runtime(name)
        self.kind = kind
        node = scene.node()
        target = f"{scene.cgroup}-qos{len(scene.nodes)}"
        rootfs = scene.bundles[0].rootfs if scene.bundles else None
        self.bundles = {}
        for _ in range(number):
            bundle = scene.bundle(["sleep", "60"], rootfs=rootfs)
            rootfs = bundle.rootfs
            hooks.install(kind, node, bundle, target)
            self.bundles[f"{scene.name}-{len(scene.bundles)}"] = bundle

    def create(self):
        """Create all at once, then delete them: [seconds until the last is there, seconds of CPU
        of all, seconds of each]."""
        words = [*self.runtime.prefix, *self.runtime.command(), "create", "--bundle"]
        commands = [Command([*words, bundle.directory, id]) for id, bundle in self.bundles.items()]
        self.runtime.ids += self.bundles
        begin = time.perf_counter()
        started = [command.start() for command in commands]
        used = [command.wait(*one) for command, one in zip(commands, started)]
        passed = max(one.end for one in used) - begin
        for one in used:
            one.check(self.kind)
        self._delete()
        return [passed, sum(one.cpu for one in used), sorted(one.wall for one in used)]

    def _delete(self):
        words = [*self.runtime.prefix, *self.runtime.command(), "delete", "--force"]
        commands = [Command([*words, id]) for id in self.bundles]
        for command, started in zip(commands, [command.start() for command in commands]):
            command.wait(*started).check(command.argv)
        self.runtime.ids = []


def measured(name, number, rounds):
    """Kind of hooks -> in each round what Crowd.create() gives."""
    scene = Scene()
    try:
        crowds = {kind: Crowd(scene, name, kind, number) for kind in hooks.FEW}
        variants = {kind: crowd.create for kind, crowd in crowds.items()}
        return measure.in_turn(variants, rounds, warm_up=1)
    finally:
        left = scene.close()
        assert not left, "left behind:\n" + "\n".join(left)


def run():
    """Runtime -> how many -> kind of hooks -> in each round what Crowd.create() gives."""
    there = [name for name in RUNTIMES if name in runtimes.available()]
    return {
        name: {str(n): measured(name, n, rounds) for n, rounds in ROUNDS.items()} for name in there
    }


def adds(found, kind, of=1):
    """What hooks of a kind add to all creates: seconds of CPU; of=0: of the clock."""
    values, others = ([one[of] for one in found[k]] for k in (kind, hooks.NONE))
    return measure.difference(values, others)


def targets(found):
    """(what, limit, measured) of each target that this measurement decides."""
    for name, sizes in found.items():
        most = sizes[max(sizes, key=int)]
        ratio = adds(most, hooks.MOVING) / adds(most, hooks.BARE)
        yield f"{max(sizes, key=int)} creates at once by {name}, x bare interpreters", TARGET, ratio
