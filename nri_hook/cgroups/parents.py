"""The cgroups above a place at which the runtime itself will make a cgroup: a native placement."""

import os

from nri_hook.cgroups import directories, hierarchies, paths, plan
from nri_hook.errors import RELATIVE_PATH, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nri_hook.cgroups.hierarchies import Hierarchy
    from nri_hook.cgroups.plan import PlacementDocument


class Parents:
    """The cgroups above a place that the runtime itself will make a cgroup at.

    steps: (hierarchy, path of the parent; "" if it is the root, or systemd's to make).
    made: directories that do not exist yet.
    is_marked: as of plan.Placement.
    cgroups: hierarchy -> path of the place.
    """

    def __init__(self) -> None:
        self.steps: "list[tuple[Hierarchy, str]]" = []
        self.made: "list[str]" = []
        self.is_marked = False
        self.cgroups: "dict[str, str]" = {}

    def make(self, claim: str, guard: str) -> None:
        """Make those that are missing. claim, guard: as for directories.make(). Raises Left,
        Refused or HookError."""
        for hierarchy, cgroup in self.steps:
            if cgroup:
                directories.make(hierarchy, cgroup, claim, [], guard)
        self.is_marked = True

    def document(self, claim: str) -> "PlacementDocument":
        """What cleanup.clean_up() takes."""
        parents = [hierarchy.directory(cgroup) for hierarchy, cgroup in self.steps if cgroup]
        return {
            "kind": plan.NATIVE,
            "claim": claim,
            "leaves": [],
            "made": self.made,
            "unmarked": [] if self.is_marked else self.made,
            "parents": parents,
        }


def find(cgroups_path: str, answer: str, leave_parent: bool) -> Parents:
    """Find what is above the place of a container that does not exist yet; nothing is changed.

    cgroups_path: of its config, `answer` has the same form. Raises Refused.
    """
    unit = paths.is_unit(cgroups_path)
    is_below_base = not unit and not cgroups_path.startswith("/")
    if is_below_base:
        _check_base(cgroups_path, answer, leave_parent)
    old_path, new_path = (_absolute(path) for path in (cgroups_path, answer))
    if not is_below_base and (new_path + "/").startswith(old_path + "/"):
        raise Refused(f"{new_path} lies inside the container's present cgroup {old_path}")
    found = Parents()
    for hierarchy in hierarchies.mounted(hierarchies.membership(os.getpid())).values():
        new = hierarchy.absolute(new_path)
        step = plan.Step(hierarchy, hierarchy.absolute(old_path), new)
        plan.check_new(step)
        if not leave_parent:
            plan.check_limits(step)
        parent = "" if unit else os.path.dirname(new).rstrip("/")
        found.steps.append((hierarchy, parent))
        found.made += directories.missing(hierarchy, parent) if parent else []
        found.cgroups[hierarchy.name] = new
    return found


def _check_base(cgroups_path: str, answer: str, leave_parent: bool) -> None:
    """Raise Refused if the answer cannot be followed without knowing where the runtime puts a
    relative path. It is refused and not left: whoever asks for the container chooses its path."""
    if not answer.startswith("/"):
        reason = f"only the runtime knows what {answer!r} is below, expected an absolute one"
        raise Refused(reason, code=RELATIVE_PATH)
    if not leave_parent:
        raise Refused(
            f"only the runtime knows which parent is left, since {cgroups_path!r} is relative,"
            ' expected an absolute one, or "leaveParent": true',
            code=RELATIVE_PATH,
        )


def _absolute(cgroups_path: str) -> str:
    """A cgroupsPath of any form as one that begins with a slash."""
    if paths.is_unit(cgroups_path):
        from nri_hook.cgroups import systemd

        return systemd.Unit.named(cgroups_path).cgroup
    return "/" + "/".join(part for part in cgroups_path.split("/") if part)
