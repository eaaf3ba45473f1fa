"""The end of a container: `delete` for its plugins, then away with what its move made."""

import time

from nri_hook.hook import payload
from nri_hook.hook.chain import Chain
from nri_hook.hook.host_config import Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nri_hook.errors import HookError
    from nri_hook.hook.record import RecordDocument
    from nri_hook.hook.report import Report


def finish(
    document: "RecordDocument", deadline: float, patience: float, report: "Report", present: int = 0
) -> "list[HookError]":
    """Carry out the deletion that a record asks for; may be repeated. What could not be removed.

    The runtime has deleted the container, or forgotten it. deadline: of time.monotonic(), for the
    plugins. patience: seconds to wait for processes that are about to end. present: init of a new
    container with the same id, 0 if there is none. A plugin that fails is noted in `report` and
    changes nothing.
    """
    report.note_all(send(document, deadline, report), "delete: ")
    errors = []
    end = time.monotonic() + patience
    # Natively the runtime ends what outlives init; in a pid namespace of its own nothing does.
    outlived = not document.get("privatePids", True) and not present
    for made in document["placements"]:
        from nri_hook.cgroups import cleanup, old_cgroups

        errors += cleanup.clean_up(made, end, by_force=True)
        errors += old_cgroups.clean_up(made, end, outlived, present)
    return errors


def forget(document: "RecordDocument") -> None:
    """Remove what adoption.forget() does, if the adoption was cut off.

    Not if a container of this id is there again: its runtime has made the same anew.
    """
    for made in document["placements"]:
        if document["outcome"] == "moved" and made["kind"] == "moved":
            from nri_hook.hook import adoption

            adoption.forget(made)


def send(document: "RecordDocument", deadline: float, report: "Report") -> "list[HookError]":
    """Send the `delete` that a record asks for; what failed."""
    chain = Chain([Entry(entry) for entry in document["entries"]], document["folders"])
    request = payload.deletion(document["request"], document["cgroupsPath"], document["cgroups"])
    _, errors = chain.delete(request, document["called"], document["results"], deadline)
    report.calls += chain.calls
    report.notes += chain.notes
    return errors
