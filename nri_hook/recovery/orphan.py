"""A container that runs, and that its runtime has lost because of a move."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from nri_hook import procfs
from nri_hook.cgroups import directories, members

if TYPE_CHECKING:
    from nri_hook.hook.record import RecordDocument


def kill(document: RecordDocument) -> None:
    """Kill its first process, and all in the cgroups that it was moved to, whoever made them.

    document: of its record. Raises HookError, OSError.
    """
    _kill_init(document["pid"], document["start"])
    for placed in document["placements"]:
        unit = [placed["unit"]["folder"]] if "unit" in placed else []
        for directory in unit + placed["leaves"]:
            if placed["claim"] in (
                directories.mark_of(directory),
                directories.holder_of(directory),
            ):
                members.kill(directory)


def _kill_init(pid: int, start: int) -> None:
    """Kill it unless its pid is another's by now; it may have been moved on since, by others."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if procfs.start_time(pid) == start:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)
