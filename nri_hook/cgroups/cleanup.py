"""Remove what a placement made, by its document in the record."""

import os

from nri_hook.cgroups import controlfile, directories
from nri_hook.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nri_hook.cgroups.plan import PlacementDocument, UnitDocument


def clean_up(
    document: "PlacementDocument", deadline: float, by_force: bool = False
) -> "list[HookError]":
    """Remove what a placement made, once it is empty; what failed.

    deadline: of time.monotonic(), for processes that are about to end.
    by_force: whether they are killed: the runtime kills what is in a container's cgroup when it
    deletes it, but if it was not told of the move it looks into the old one.
    """
    claim, unmarked = document["claim"], document.get("unmarked", ())
    errors = []
    if "unit" in document:
        errors += _clean_up_unit(document["unit"], claim, deadline, by_force)

    def is_ours(directory: str) -> bool:
        if directories.mark_of(directory):
            return True
        free = directories.holder_of(directory) in ("", claim) and not directories.is_kept(
            directory
        )
        return directory in unmarked and free

    for leaf in document["leaves"]:
        owner = directories.mark_of(leaf)
        try:
            if owner == claim:
                directories.remove(leaf, is_ours, deadline, by_force)
            elif directories.holder_of(leaf) == claim:
                directories.release(leaf, deadline, by_force)
            elif not owner and leaf in unmarked:
                directories.remove_empty(leaf, is_ours)
            elif not os.path.isdir(leaf):  # the runtime has removed it
                directories.remove_empty(os.path.dirname(leaf), is_ours)
        except HookError as error:
            errors.append(error)
    for parent in document["parents"]:
        directories.remove_empty(parent, is_ours)
    return errors


def _clean_up_unit(
    unit: "UnitDocument", claim: str, deadline: float, by_force: bool
) -> "list[HookError]":
    if os.path.isdir(unit["folder"]) and directories.mark_of(unit["folder"]) != claim:
        return []  # of somebody who asked for the same name, and was first
    from nri_hook.cgroups import systemd

    error = systemd.wait_gone(unit["folder"], deadline, by_force)
    for _, pin in unit["pins"]:
        controlfile.unlink(pin)
    return [error] if error else []
