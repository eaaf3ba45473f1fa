"""The plan of a live move: from where, to where, and whether it may be.

Nothing is changed here. Two outcomes are no plan: refused, the answer itself is wrong; left, this
container cannot be moved at all.
"""

import os

from nri_hook.cgroups import controlfile, directories, hierarchies, parent_limits, paths
from nri_hook.errors import FROZEN, OCCUPIED, PARENT_LIMIT, Left, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, TypedDict

    from nri_hook.cgroups import systemd
    from nri_hook.cgroups.hierarchies import Hierarchy

    class UnitDocument(TypedDict):
        """The scope that a live move started.

        slice, prefix, name: as in slice:prefix:name.
        folder: its directory.
        pins: (old, new) path of each pinned device program.
        """

        slice: str
        prefix: str
        name: str
        folder: str
        pins: "list[tuple[str, str]]"

    class PlacementDocument(TypedDict, total=False):
        """One placement of a container, as its record has it. What follows `parents` is of MOVED.

        kind: MOVED or NATIVE.
        claim: the name of the record, which marks on directories repeat.
        leaves: the container's new cgroups, the innermost first.
        made: directories that were not there before.
        unmarked: those of `made` that may have no mark, since a hook was killed.
        parents: the directories above the container's, to be removed if they are empty.
        old: the old cgroups that stay until the container is deleted; missing in 0.1.0.
        carried: (old directory, new one, control file -> value) for what was copied.
        moves: [old directory, new one] for each cgroup, the innermost first.
        former, cgroups: hierarchy -> old and new path of init's cgroup.
        delegated: the end of these paths that is not the runtime's; see paths.delegated().
        unit: under systemd's cgroup manager alone.
        """

        kind: str
        claim: str
        leaves: "list[str]"
        made: "list[str]"
        unmarked: "list[str]"
        parents: "list[str]"
        old: "list[str]"
        carried: "list[tuple[str, str, dict[str, str]]]"
        moves: "list[list[str]]"
        former: "dict[str, str]"
        cgroups: "dict[str, str]"
        delegated: str
        unit: UnitDocument


# Kinds of placements: by a live move, and natively, by the runtime.
MOVED = "moved"
NATIVE = "native"


class Step:
    """The move in one hierarchy. old_cgroup, new_cgroup: paths as in /proc/PID/cgroup; old, new:
    their directories. inner: what of these paths lies below the cgroup that is the container's as a
    whole: crun puts init into <scope>/container, and deeper if the container asks for it."""

    def __init__(self, hierarchy: "Hierarchy", old: str, new: str, inner: str = "") -> None:
        self.hierarchy = hierarchy
        self.old_cgroup, self.new_cgroup, self.inner = old, new, inner
        self.old, self.new = hierarchy.directory(old), hierarchy.directory(new)

    def outer(self) -> "Step":
        """The same for the cgroup that is the container's as a whole."""
        return self.levels()[0]

    def levels(self) -> "list[Step]":
        """The same for each of the container's cgroups, from the outermost to that of init."""
        cut = len(self.inner)
        old = self.old_cgroup[: len(self.old_cgroup) - cut]
        new = self.new_cgroup[: len(self.new_cgroup) - cut]
        steps, inner = [Step(self.hierarchy, old, new)], ""
        for part in self.inner.split("/")[1:]:
            inner += "/" + part
            steps.append(Step(self.hierarchy, old + inner, new + inner, inner))
        return steps


class Placement:
    """What a move changes; as a document in the record it is enough to clean up after it.

    claim: what marks say, the name of the container's record. guard: as for directories.make().
    unit: the scope that is started for it, None on cgroupfs. moved: the steps whose process has
    been written. made: directories that were not there before. samples: those of them that are
    temporary. is_marked: whether all of them have their marks by now; a hook may be killed before.
    given_up: (file, value) of exclusive settings taken from the old cgroup. partitions: (step,
    settings) of those that are carried once the process is there. holders: our children that keep
    scopes from being empty. pins: (old, new) paths of pinned device programs. carried: (old, new,
    settings) for each directory, file -> text that was left in the old one. cgroups, former:
    hierarchy -> path of the new and the old cgroup. delegated: the end of all of these that is not
    the runtime's, as paths.delegated() says. keeps_scope: whether the path of the old scope stays.
    """

    def __init__(
        self, pid: int, steps: "list[Step]", claim: str, unit: "Optional[systemd.Unit]" = None
    ) -> None:
        self.pid = pid
        self.steps = steps
        self.claim = claim
        self.guard = ""
        self.delegated = ""
        self.unit = unit
        self.keeps_scope = False
        self.moved: "list[Step]" = []
        self.made: "list[str]" = []
        self.is_marked = False
        self.samples: "list[str]" = []
        self.given_up: "list[tuple[str, str]]" = []
        self.partitions: "list[tuple[Step, dict[str, str]]]" = []
        self.holders: "list[systemd.Holder]" = []
        self.pins: "list[tuple[str, str]]" = []
        self.carried: "list[tuple[str, str, dict[str, str]]]" = []
        self.cgroups = {step.hierarchy.name: step.new_cgroup for step in steps}
        self.former = {step.hierarchy.name: step.old_cgroup for step in steps}

    def shown(self) -> "dict[str, str]":
        """The old cgroups as mountinfo names them, and the directories that shall be shown instead:
        what View.find_windows() takes."""
        found = {}
        for step in self.steps:
            device = os.stat(step.hierarchy.mount).st_dev
            for level in step.levels():
                found[f"{os.major(device)}:{os.minor(device)} {level.old_cgroup}"] = level.new
        return found

    def outward(self) -> "list[Step]":
        """The move of each cgroup, before that of the one around it."""
        return [level for step in self.steps for level in reversed(step.levels())]

    def old(self) -> "list[str]":
        """The directories that init is moved out of, which are the runtime's for this container
        alone and stay; under systemd they vanish, and the scope's is made anew if it shall stay."""
        if self.unit:
            return [self.steps[0].outer().old] if self.keeps_scope else []
        return [level.old for level in self.outward()]

    def document(self) -> "PlacementDocument":
        """What cleanup.clean_up() takes, and what a runtime's record is corrected by."""
        levels = self.outward()
        document: "PlacementDocument" = {
            "kind": MOVED,
            "claim": self.claim,
            "leaves": [] if self.unit else self.samples + [level.new for level in levels],
            "made": self.made,
            "unmarked": [] if self.is_marked else self.made,
            "parents": [],
            "old": self.old(),
            "carried": self.carried,
            "moves": [[level.old, level.new] for level in levels],
            "former": self.former,
            "cgroups": self.cgroups,
            "delegated": self.delegated,
        }
        if self.unit:
            scope = self.steps[0].outer().new
            document["unit"] = {
                "slice": self.unit.slice,
                "prefix": self.unit.prefix,
                "name": self.unit.name,
                "folder": scope,
                "pins": self.pins,
            }
        return document


def plan(
    pid: int,
    membership: "dict[str, str]",
    cgroups_path: str,
    answer: str,
    claim: str,
    guard: str,
    leave_parent: bool,
    started: bool = False,
    delegated: str = "",
) -> "Optional[Placement]":
    """Plan the move of `pid` to where `answer` says; None if it is there. Nothing is changed.

    membership: of `pid` in every hierarchy. cgroups_path: what the runtime put it by; `answer`
    has the same form. claim: the name of the container's record. guard: as for
    directories.make(). started: whether the container may have other processes by now, which could
    not be moved along. delegated: as paths.delegated() says, if the runtime is crun. Raises Left,
    Refused, or HookError.
    """
    mounted = hierarchies.mounted(membership)
    if paths.in_scope(cgroups_path, membership):
        placement = _plan_unit(pid, membership, cgroups_path, answer, claim, mounted)
    else:
        placed = paths.own_places(cgroups_path, membership, delegated)
        placement = _plan_directories(pid, placed, cgroups_path, answer, claim, mounted)
    if not placement.steps:
        return None
    placement.guard, placement.delegated = guard, delegated
    for step in placement.steps if not started else ():
        _check_old(step, pid)
    for step in placement.steps:
        check_new(step.outer())
        if not leave_parent:
            check_limits(step.outer())
    for step in placement.steps:
        placement.made += directories.missing(step.hierarchy, step.new_cgroup)
    return placement


def _plan_directories(
    pid: int,
    placed: "list[paths.Place]",
    cgroups_path: str,
    answer: str,
    claim: str,
    mounted: "dict[str, Hierarchy]",
) -> Placement:
    steps = []
    found = False
    for place in placed:
        hierarchy = mounted.get(place.hierarchy)
        if hierarchy is None or not hierarchy.reaches(place.cgroup()):
            continue
        found = True
        if paths.leaves_base(answer, cgroups_path):
            target = hierarchy.absolute(answer)
        else:
            target = place.with_path("/" + answer.strip("/")).cgroup()
        if target == place.cgroup():
            continue
        if (target + "/").startswith(place.cgroup() + "/"):
            raise Refused(f"{target} lies inside the container's present cgroup {place.cgroup()}")
        if not hierarchy.reaches(target):
            raise Left(f"{target} is outside of what is mounted at {hierarchy.mount}")
        inner = place.inner
        steps.append(Step(hierarchy, place.cgroup() + inner, target + inner, inner))
    if not found:
        raise Left("none of its cgroups is mounted here")
    return Placement(pid, steps, claim)


def _plan_unit(
    pid: int,
    membership: "dict[str, str]",
    cgroups_path: str,
    answer: str,
    claim: str,
    mounted: "dict[str, Hierarchy]",
) -> Placement:
    if set(mounted) != {hierarchies.V2}:
        raise Left("systemd's cgroup manager is followed on cgroup v2 alone, and this is v1")
    from nri_hook.cgroups import systemd

    present = membership[hierarchies.V2]
    found = paths.scope_in(present, cgroups_path)
    assert found  # it is in its scope, and v2 is the only hierarchy
    scope, inner = found
    unit = systemd.target(answer, os.path.basename(scope))
    step = Step(mounted[hierarchies.V2], present, unit.cgroup + inner, inner)
    if os.path.isdir(step.outer().new):
        reason = "is a scope already, expected a new one"
        raise Refused(reason, path=step.outer().new, code=OCCUPIED)
    return Placement(pid, [step], claim, unit)


def _check_old(step: Step, pid: int) -> None:
    """Raise Refused unless the present cgroup holds this container's init and nothing else.

    It is refused and not left: whoever asks for the container can name the cgroup of another one,
    or ask for a process to be put into its own (podman run --cgroup-conf cgroup.procs=PID).
    """
    *above, own = [level.old for level in step.levels()]
    for directory in (*above, own):
        members = controlfile.read(f"{directory}/cgroup.procs").split()
        others = [other for other in members if other != str(pid)]
        if others:
            raise Refused(f"its cgroup is not its own: process {others[0]} is in {directory} too")
        inner = directories.first_inside(directory, but=(*above, own))
        if inner:
            raise Refused(f"its cgroup has cgroups below it: {inner}")


def check_new(step: Step) -> None:
    """Raise Refused where the target is in use, or frozen."""
    directory = step.new
    if os.path.isdir(directory):
        if controlfile.read(f"{directory}/cgroup.procs").strip():
            raise Refused(
                "is occupied by another process, expected an empty cgroup",
                path=directory,
                code=OCCUPIED,
            )
        inner = os.path.basename(directories.first_inside(directory))
        if inner:
            reason = f"holds the cgroup {inner}, expected an empty one"
            raise Refused(reason, path=directory, code=OCCUPIED)
    if step.hierarchy.name == hierarchies.V2:
        _check_thawed(step, "cgroup.freeze", "0")
    elif "freezer" in step.hierarchy.name.split(","):
        _check_thawed(step, "freezer.state", "THAWED")


def _check_thawed(step: Step, name: str, thawed: str) -> None:
    directory = step.new
    while len(directory) > len(step.hierarchy.mount):
        try:
            state = controlfile.read(f"{directory}/{name}").strip()
        except (FileNotFoundError, NotADirectoryError):
            state = thawed
        if state != thawed:
            reason = f"is frozen, expected {thawed}"
            raise Refused(reason, path=f"{directory}/{name}", code=FROZEN)
        directory = os.path.dirname(directory)


def check_limits(step: Step) -> None:
    """Raise Refused where the move leaves a parent that has a limit of its own."""
    old, new = step.old_cgroup.split("/"), step.new_cgroup.split("/")
    depth = next(i for i, (a, b) in enumerate(zip(old + [""], new + [""])) if a != b)
    common = step.hierarchy.directory("/".join(old[:depth]) or "/")
    for count in range(depth + 1, len(old)):
        directory = step.hierarchy.directory("/".join(old[:count]))
        if not os.path.isdir(directory):  # of a container that is not there yet
            break
        found = parent_limits.finite(directory, common)
        if found:
            raise Refused(
                f'the move leaves the limit {found[1]!r} of a parent, expected "leaveParent": true',
                path=found[0],
                code=PARENT_LIMIT,
            )
