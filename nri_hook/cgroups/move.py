"""A live move: apply the plan, undo it.

A container that was moved must be like one that was created there. So the new cgroup gets every
setting and the device rules of the old one before the process arrives, in every hierarchy in
which the container has a cgroup of its own, the container's view is turned to it, and when
anything fails, everything is put back.
"""

import errno
import os
import time

from nri_hook import procfs
from nri_hook.cgroups import (
    cleanup,
    controlfile,
    devices,
    directories,
    hierarchies,
    old_cgroups,
    settings,
)
from nri_hook.errors import OCCUPIED, HookError, Left, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from nri_hook.cgroups.mounts import Config as Seen
    from nri_hook.cgroups.mounts import View
    from nri_hook.cgroups.plan import Placement, Step

    class Config(Seen, Protocol):
        """What a config.json says that a cgroup v1 does not tell."""

        def denied_devices(self) -> "list[str]":
            """The exceptions of a device list that allows the rest, as lines of devices.deny."""

        def asked_settings(self) -> "set[str]":
            """The control files, of those that are handed down, that it has a value for."""


# A process that is just being forked cannot be moved for an instant (EINVAL).
ATTACH_TRIES = 5
ATTACH_PAUSE = 0.03
# What a fresh cgroup beside a target that was there already is called, for an instant.
SAMPLE = ".nri-hook-fresh"


def apply(
    placement: "Placement",
    config: "Config",
    view: "View",
    is_stale: "Callable[[str], bool]",
    save: "Callable[[], None]",
) -> None:
    """Carry out the plan.

    config: of the container, for what a cgroup v1 does not tell. view: what will change of it.
    is_stale: whether a claim on a directory is of nobody any more. save: puts the placement, which
    it is also called before, where a later run finds it.
    Raises Left, Refused or HookError; then undo() is due.
    """
    save()
    if placement.unit:
        _apply_unit(placement, save)
    else:
        for step in placement.steps:
            for level in step.levels():
                _prepare(level, placement, config, is_stale, save)
        _mark_old(placement)
        _move(placement)
    placement.is_marked = True
    for step, wanted in placement.partitions:
        settings.carry_partition(step.old, step.new, wanted, _giving_up(placement, save))
    view.turn()


def settle(placement: "Placement") -> "list[HookError]":
    """Let go of the old scope: nothing can take the process back to it any more. What of its path
    is not there again though it should be."""
    _release(placement)
    return old_cgroups.make_anew(placement.document(), placement.pid, placement.guard)


def _release(placement: "Placement") -> None:
    for holder in placement.holders:
        holder.release()
    placement.holders = []


def undo(placement: "Placement", deadline: float) -> "list[HookError]":
    """Put everything back, in reverse; what failed. deadline: of time.monotonic()."""
    errors = []
    for step in reversed(placement.moved):
        try:
            _attach(f"{step.old}/cgroup.procs", placement.pid)
        except HookError as error:
            errors.append(HookError(str(error), code=error.code))
    for directory in placement.old():
        old_cgroups.unmark(directory)
    _release(placement)
    errors += cleanup.clean_up(placement.document(), deadline)
    # Only now does nobody else have what it gave up.
    for path, value in reversed(placement.given_up):
        try:
            controlfile.write(path, value)
        except OSError as error:
            errors.append(controlfile.failed(error, path, f"cannot take {value.strip()!r} back"))
    return errors


def _prepare(
    step: "Step",
    placement: "Placement",
    config: "Config",
    is_stale: "Callable[[str], bool]",
    save: "Callable[[], None]",
) -> None:
    """Make the new cgroup what the old one is."""
    controllers = _controllers(step)
    try:
        _clear(step, placement.claim, is_stale)
        present = settings.look(step.old)
        if _make(step, placement, controllers):
            if step.new not in placement.made:  # a stale one stood there at the time of the plan
                placement.made.append(step.new)
                save()
            fresh = settings.read(step.new, settings.texts(present))
        else:
            _check_free(step, placement.claim)  # again: another may just have made it
            directories.hold(step.new, placement.claim)
            fresh = _sample(step, placement, present, controllers, save)
        inherited: "set[str]" = set()
        if step.hierarchy.name != hierarchies.V2:
            asked = config.asked_settings()
            inherited = settings.inherited(step.old, present, fresh, asked)
        _carry(step, placement, present, fresh, inherited, save)
        if "devices" in step.hierarchy.name.split(","):
            devices.carry_list(step.old, step.new, config.denied_devices())
    except OSError as error:
        raise controlfile.failed(
            error, error.filename or step.new, "copying the settings"
        ) from None


def _apply_unit(placement: "Placement", save: "Callable[[], None]") -> None:
    """The same for a scope: started with a child in it, while another one keeps the old scope
    from being empty until the move has been checked."""
    from nri_hook.cgroups import systemd

    assert placement.unit
    step = placement.steps[0]
    scope = step.outer()
    placement.holders = [systemd.Holder(), systemd.Holder()]
    in_old, in_new = placement.holders
    try:
        controlfile.write(f"{step.old}/cgroup.procs", str(in_old.pid))
        present = os.path.basename(scope.old)
        known = systemd.properties(present)
        placement.pins = systemd.pins(placement.unit, present, known)
        save()
        for old, new in placement.pins:
            devices.pin(old, new)
        levels = step.levels()
        present_settings = [settings.look(level.old) for level in levels]
        texts = settings.texts(present_settings[0])
        systemd.start(placement.unit, in_new, known, texts, placement.pins)
        directories.mark(scope.new, placement.claim)
        # As the runtimes do: systemd enables none that it does not know, such as hugetlb.
        above = os.path.dirname(scope.new_cgroup)
        directories.enable(scope.hierarchy, above, _controllers(scope))
        for level in levels[1:]:
            os.mkdir(level.new)
            os.chmod(level.new, 0o755)
        if step.inner:
            # A cgroup with processes of its own enables no controllers for those below.
            controlfile.write(f"{step.new}/cgroup.procs", str(in_new.pid))
            _make(step, placement, _controllers(step))
        for level, wanted in zip(levels, present_settings):
            fresh = settings.read(level.new, settings.texts(wanted))
            _carry(level, placement, wanted, fresh, set(), save)
        _move(placement)
    except OSError as error:
        raise controlfile.failed(
            error, error.filename or step.new, "moving into the scope"
        ) from None


def _mark_old(placement: "Placement") -> None:
    """Say whose the old cgroups are, while the plan's word for it holds that they are init's alone:
    once the runtime has forgotten them, they are ours to remove."""
    start = procfs.start_time(placement.pid)
    for directory in placement.old():
        old_cgroups.mark(directory, placement.claim, placement.pid, start, placement.guard)


def _make(step: "Step", placement: "Placement", controllers: "list[str]") -> bool:
    return directories.make(
        step.hierarchy, step.new_cgroup, placement.claim, controllers, placement.guard
    )


def _controllers(step: "Step") -> "list[str]":
    if step.hierarchy.name != hierarchies.V2:
        return []
    return controlfile.read(f"{step.old}/cgroup.controllers").split()


def _giving_up(placement: "Placement", save: "Callable[[], None]") -> "Callable[[str, str], None]":
    def giving_up(path: str, value: str) -> None:
        placement.given_up.append((path, value))
        save()

    return giving_up


def _carry(
    step: "Step",
    placement: "Placement",
    present: "dict[str, settings.File]",
    fresh: "dict[str, str]",
    inherited: "set[str]",
    save: "Callable[[], None]",
) -> None:
    """Give the new cgroup what of the old one differs from `fresh` and is not `inherited`, its
    owner, and its device programs (v2)."""

    settings.carry(step.old, step.new, present, fresh, inherited, _giving_up(placement, save))
    settings.own(step.new, present)
    wanted = settings.texts(present)
    given_up = {path for path, _ in placement.given_up}
    if wanted.get(settings.PARTITION) != fresh.get(settings.PARTITION):
        placement.partitions.append((step, wanted))
        given_up.add(f"{step.old}/cpuset.cpus")
    left = {name: wanted[name] for name in wanted if f"{step.old}/{name}" not in given_up}
    placement.carried.append((step.old, step.new, left))
    if step.hierarchy.name == hierarchies.V2:
        devices.carry_programs(step.old, step.new, step.outer().new)


def _clear(step: "Step", claim: str, is_stale: "Callable[[str], bool]") -> None:
    """Remove what a container that is gone left at the target: its settings are nobody's."""
    if not os.path.isdir(step.new):
        return
    owner = directories.mark_of(step.new) or old_cgroups.claim_of(step.new)
    holder = directories.holder_of(step.new)
    if owner and owner != claim and is_stale(owner):
        directories.remove_tree(step.new, 0)
    elif holder and holder != claim and is_stale(holder):
        directories.release(step.new, 0, by_force=False)
    _check_free(step, claim)


def _check_free(step: "Step", claim: str) -> None:
    owners = (
        directories.mark_of(step.new),
        directories.holder_of(step.new),
        old_cgroups.claim_of(step.new),
    )
    for owner in owners:
        if owner and owner != claim:
            reason = f"is taken by the container of record {owner}"
            raise Refused(reason, path=step.new, code=OCCUPIED)


def _sample(
    step: "Step",
    placement: "Placement",
    present: "dict[str, settings.File]",
    controllers: "list[str]",
    save: "Callable[[], None]",
) -> "dict[str, str]":
    """The settings of a fresh cgroup beside a target that somebody else made."""
    directory = step.new + SAMPLE
    if step.new in placement.made:
        placement.made.remove(step.new)
    placement.made.append(directory)
    placement.samples.append(directory)
    save()
    directories.make(
        step.hierarchy, step.new_cgroup + SAMPLE, placement.claim, controllers, placement.guard
    )
    fresh = settings.read(directory, settings.texts(present))
    directories.remove_tree(directory, 0)
    return fresh


def _move(placement: "Placement") -> None:
    """Write init into its new cgroups, and look whether it is there, and alone."""
    for step in placement.steps:
        placement.moved.append(step)
        _attach(f"{step.new}/cgroup.procs", placement.pid)
    found = hierarchies.membership(placement.pid)
    for step in placement.steps:
        if found.get(step.hierarchy.name) != step.new_cgroup:
            raise HookError(
                f"the process is in {found.get(step.hierarchy.name)} after the move,"
                f" expected {step.new_cgroup}",
                path=step.new,
            )
        others = set(controlfile.read(f"{step.new}/cgroup.procs").split())
        others.difference_update([str(placement.pid), *(str(h.pid) for h in placement.holders)])
        if others:
            reason = f"is occupied by process {min(others)}"
            raise Refused(reason, path=step.new, code=OCCUPIED)


def _attach(path: str, pid: int) -> None:
    """Write `pid` into a cgroup.procs. Raises Left, Refused or HookError."""
    for attempt in range(ATTACH_TRIES):
        try:
            controlfile.write(path, str(pid))
            return
        except OSError as error:
            if error.errno == errno.EINVAL and attempt < ATTACH_TRIES - 1:
                time.sleep(ATTACH_PAUSE)
            elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise Left(f"{path}: cannot be written: {error.strerror}") from None
            elif error.errno == errno.ESRCH:
                raise HookError("the container's process has ended", path=path) from None
            else:
                raise Refused(f"does not take the process: {error.strerror}", path=path) from None
