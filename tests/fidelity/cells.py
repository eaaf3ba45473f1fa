"""The cells of the table: under which runtime and cgroup manager, and how a container is begun."""

import os

PIDS = ("private", "shared")

# Way -> (whether the container has a cgroup namespace, whether its cgroup mount can be written).
# Each way has its own end too, see drama.py.
WAYS = {
    "create": (True, False),
    "detached": (False, False),
    "foreground": (True, True),
    "unstarted": (True, False),
}
ALL = os.environ.get("NRI_TEST_FIDELITY") == "all"
# What is played otherwise.
QUICK = (("create", "shared"), ("detached", "private"))
# A command of podman takes seconds in a guest.
QUICK_ENGINE = (("create", "private"),)


class Cell:
    """environment: its name, see environments.py. pids: the pid namespace, one of PIDS. engine:
    whether podman is between. kind: the runtime, "runc" or "crun". manager: of cgroups."""

    def __init__(self, environment, way, pids):
        self.environment = environment
        self.way = way
        self.pids = pids
        self.engine = environment.startswith("podman")
        self.cgroup_namespace, writable = WAYS[way]
        self.writable = writable and not self.engine  # podman's is never
        self.kind = "crun" if "crun" in environment else "runc"
        self.manager = environment.rpartition("-")[2]

    @property
    def name(self):
        return f"{self.way}-{self.pids}"

    def __repr__(self):
        return f"{self.environment}-{self.name}"


def cells(environment):
    """Those of one environment that this session plays."""
    found = [Cell(environment, way, pids) for way in WAYS for pids in PIDS]
    if ALL:
        return found
    return [
        cell for cell in found if (cell.way, cell.pids) in (QUICK_ENGINE if cell.engine else QUICK)
    ]
