"""What a move would do, control file by control file. Nothing is moved."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nri_hook.cgroups import (
    controlfile,
    devices,
    directories,
    hierarchies,
    mounts,
    settings,
    unit_properties,
)

if TYPE_CHECKING:
    from nri_hook.cgroups.move import Config
    from nri_hook.cgroups.plan import Placement, Step

# What the fresh cgroup beside the present one is called, for an instant.
SAMPLE = ".nri-hook-preview"


class Change:
    """One thing that a move would do. what: "make", "write", "set", "attach", "move" or "show".
    where: a directory, a control file, a property of the new unit, or a mount of the container.
    value: what goes there, "" for a directory that is made."""

    def __init__(self, what: str, where: str, value: str = "") -> None:
        self.what = what
        self.where = where
        self.value = value


def changes(placement: Placement, config: Config) -> list[Change]:
    """All that move.apply() would do, in its order. config: as for it. Raises OSError or
    HookError.

    To tell what differs from a fresh cgroup one is made beside the present, and removed at once.
    """
    # It has its root filesystem by now, and the runtime has done all that it does to it.
    with mounts.look(placement, config, "/", "") as seen:
        shown = [Change("show", window.mount.point, window.directory) for window in seen.windows]
    found = [Change("make", directory) for directory in placement.made]
    if placement.unit:
        scope = placement.steps[0].outer()
        texts = settings.texts(settings.look(scope.old))
        found += [
            Change("set", f"{placement.unit.scope} {name}", str(value))
            for name, (_, value) in unit_properties.limits(texts).items()
        ]
    for step in placement.steps:
        for level in step.levels():
            found += _carried(level, config)
    found += [
        Change("move", f"{step.new}/cgroup.procs", str(placement.pid)) for step in placement.steps
    ]
    return found + shown


def _carried(step: Step, config: Config) -> list[Change]:
    """What the new cgroup would be given of the old one."""
    present = settings.look(step.old)
    texts = settings.texts(present)
    fresh = _fresh(step, list(texts))
    inherited: set[str] = set()
    if step.hierarchy.name != hierarchies.V2:
        inherited = settings.inherited(step.old, present, fresh, config.asked_settings())
    found = [
        Change("write", f"{step.new}/{name}", texts[name].strip())
        for name in settings.differing(present, fresh, inherited)
    ]
    if step.hierarchy.name == hierarchies.V2:
        programs = devices.programs(step.old)
        found += [Change("attach", step.new, f"device program {number}") for number in programs]
    elif "devices" in step.hierarchy.name.split(","):
        lines = controlfile.read(f"{step.old}/devices.list").splitlines()
        found += [Change("write", f"{step.new}/devices.allow", line) for line in lines]
        found += [
            Change("write", f"{step.new}/devices.deny", line) for line in config.denied_devices()
        ]
    return found


def _fresh(step: Step, names: list[str]) -> dict[str, str]:
    """The settings of a cgroup that was just made where the old one is."""
    directory = f"{step.old}{SAMPLE}-{os.getpid()}"
    os.mkdir(directory)
    try:
        directories.mark(directory, SAMPLE)  # should we be killed now, it can be told what this is
        return settings.read(directory, names)
    finally:
        os.rmdir(directory)
