"""What a record needs after a hook or a runtime that did not end its work."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from nri_hook import procfs
from nri_hook.hook import record, runtimes

if TYPE_CHECKING:
    from nri_hook.hook.record import RecordDocument

# Nothing: the container is there, or may still come.
KEEP = "keep"
# Its container is gone: `delete` for the plugins, and what the placement made is removed.
FINISH = "finish"
# Moved, and its runtime was not told.
ADOPT = "adopt"
# It runs, and its runtime lost it because of a move that it was not told of.
KILL = "kill"
# It runs, its runtime has no record of it, and no move is to blame: it is kept, and doctor says so.
FORGOTTEN = "forgotten"

# Seconds after which a setup without a create is over: podman creates within a second, if it does.
SETUP_SECONDS = 600.0


def of(document: RecordDocument, path: str) -> str:
    """Say which of these a record needs.

    document: of the record, empty if a hook was killed before it wrote one. path: of its file.
    """
    if not document:
        return FINISH
    if not document["pid"]:
        age = time.time() - os.stat(path).st_mtime
        return FINISH if age > SETUP_SECONDS else KEEP
    creator = document["creator"]
    # Between create and its record the runtime itself is still there; delete ends init before the
    # record. Both may happen while we look: in this order neither looks like a forgotten one.
    creating = procfs.is_alive(creator["pid"], creator["start"])
    known = runtimes.record_of(document) is not None
    if not procfs.is_alive(document["pid"], document["start"]):
        return KEEP if known else FINISH
    if known:
        return ADOPT if document["outcome"] == "moved" else KEEP
    if creating or not document["runtime"]:
        return KEEP
    # A runtime that was told of the move finds its container: somebody else has removed its record,
    # and would have done so without us. Where its directory is not there either, perhaps it is only
    # not to be seen from here.
    untold = document["outcome"] in ("chain", record.TO_ADOPT) and document["placements"]
    return KILL if untold and os.path.isdir(document["runtimeRoot"]) else FORGOTTEN
