"""The cells of the table: under which runtime and cgroup manager, and how a container is begun."""

import os

from support import cgroups

from fidelity.environments import version
from fidelity.kinds import ENGINE_KINDS, JOINED, KINDS, OVER_LOCKED_SYS, PLAIN

PIDS = ("private", "shared")

# Way -> whether the container has a cgroup namespace. Each way has its own end too, see drama.py.
WAYS = {"create": True, "detached": False, "foreground": True, "unstarted": True}
# Whether the whole table is played: under one cgroup manager, or "all".
WHOLE = os.environ.get("NRI_TEST_FIDELITY", "")
# What is played otherwise, by the names of cells.
QUICK = ("create-shared", "detached-private", "admin", "over-sys")
# A command of podman takes seconds in a guest.
QUICK_ENGINE = ("create-private",)


class Cell:
    """environment: its name, see environments.py. pids: the pid namespace, one of PIDS. kind: see
    kinds.py. engine: whether podman is between. runtime: "runc" or "crun". manager, version: of
    cgroups. left: whether the container is to be left where it starts."""

    def __init__(self, environment, way, pids, kind=PLAIN):
        self.environment = environment
        self.way = way
        self.pids = pids
        self.kind = kind
        self.engine = environment.startswith("podman")
        self.cgroup_namespace = WAYS[way] or kind is JOINED
        self.runtime = "crun" if "crun" in environment else "runc"
        self.manager = environment.rpartition("-")[2]
        self.version = 2 if cgroups.pure_v2() or "-v2-" in environment else 1
        self.left = self.in_memory or self.could_lift_its_limits

    @property
    def in_memory(self):
        """Whether the runtime keeps the old cgroup in memory, to end the processes in it."""
        return self.way == "foreground" and self.pids == "shared" and not self.engine

    @property
    def could_lift_its_limits(self):
        """Whether they are protected by nothing but the root of its cgroup namespace."""
        could_write = self.runtime in self.kind.could_write
        return self.version == 2 and self.cgroup_namespace and could_write

    @property
    def name(self):
        return f"{self.way}-{self.pids}" if self.kind is PLAIN else self.kind.name

    def __repr__(self):
        return f"{self.environment}-{self.name}"


def cells(environment):
    """Those of one environment that this session plays."""
    if WHOLE not in ("", "all", environment.rpartition("-")[2]):
        return []
    found = [Cell(environment, way, pids) for way in WAYS for pids in PIDS]
    engine = environment.startswith("podman")
    for kind in ENGINE_KINDS if engine else KINDS:
        cell = Cell(environment, kind.way, "private", kind)
        # crun 1.8 binds nothing of what is below /sys in a user namespace: nothing is covered.
        if kind is not OVER_LOCKED_SYS or cell.runtime != "crun" or version("crun")[:4] != "1.8.":
            found.append(cell)
    if WHOLE:
        return found
    return [cell for cell in found if cell.name in (QUICK_ENGINE if engine else QUICK)]
