"""A container as its record says that it is, and as /proc says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nri_hook import procfs
from nri_hook.cgroups import hierarchies
from nri_hook.errors import HookError
from nri_hook.hook import container_log, record, state_directory

if TYPE_CHECKING:
    from nri_hook.hook.record import RecordDocument


class Placed:
    """A container whose chain has run, or runs.

    since: when it was placed, or adopted, in seconds since the epoch. source, target: cgroupsPath
    before and after, the same where it stays. alive: whether its first process is. cgroups, now:
    hierarchy -> where it was put, where it is. drift: hierarchy -> (where we put it, where it is
    now), of a living one that is neither there nor below. The record itself, which is large, is
    not kept.
    """

    def __init__(self, directory: str, name: str, document: RecordDocument, since: float) -> None:
        self.since = since
        self.record = os.path.join(directory, name + state_directory.SUFFIX)
        self.log = os.path.join(directory, name + container_log.SUFFIX)
        self.id: str = document["id"]
        self.runtime: str = document["runtime"]
        self.root: str = document["runtimeRoot"]
        self.bundle: str = document["bundle"]
        self.pid: int = document["pid"]
        self.outcome: str = document["outcome"]
        self.reason: str = document["reason"]
        self.source: str = document["origin"]
        self.target: str = document["cgroupsPath"]
        self.plugins = [document["entries"][index]["type"] for index in document["called"]]
        self.cgroups: dict[str, str] = document["cgroups"]
        moves = [made["cgroups"] for made in document["placements"] if made["kind"] == "moved"]
        self.moved: list[str] = list(moves[-1]) if moves else []
        found = self._membership(document["start"])
        self.alive = found is not None
        self.now = found or self.cgroups
        self.drift = {
            hierarchy: (cgroup, self.now.get(hierarchy, ""))
            for hierarchy, cgroup in self.cgroups.items()
            if not hierarchies.is_within(self.now.get(hierarchy, ""), cgroup)
        }

    def place(self) -> str:
        """The path of its cgroup, in the hierarchies in which it has one of its own."""
        last = self.target.replace(":", "/").rpartition("/")[2]
        own = self.moved or [name for name, cgroup in self.cgroups.items() if last in cgroup]
        names = sorted(own or self.now, key=lambda name: ("memory" not in name, name))
        return self.now.get(names[0], "/") if names else "/"

    def _membership(self, start: int) -> dict[str, str] | None:
        """Hierarchy -> its cgroup, empty if nobody can tell; None if it does not live."""
        if not self.pid or procfs.start_time(self.pid) != start:
            return None
        try:
            return hierarchies.membership(self.pid)
        except HookError:  # it has just ended; or its cgroup is too deep for a path to tell
            return {} if procfs.start_time(self.pid) == start else None


def load(directory: str, name: str) -> Placed | None:
    """The container of a record, None where a hook has not written one. Raises HookError; another
    exception where it is no record of ours."""
    path = os.path.join(directory, name + state_directory.SUFFIX)
    document = record.read(path)
    if document is None:
        return None
    try:
        return Placed(directory, name, document, os.stat(path).st_mtime)
    except FileNotFoundError:  # removed meanwhile
        return None
