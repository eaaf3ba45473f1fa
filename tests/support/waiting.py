"""Waiting for what will be so in a moment."""

import time

from support.commands import read

SECONDS = 10


def wait_until(holds, seconds=SECONDS):
    """Wait until `holds()` is true; fail the test where that takes too long."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "that takes too long"
        time.sleep(0.02)


def is_alive(pid):
    """Whether there is such a process, and not only its status for a parent that has not asked."""
    try:
        return read(f"/proc/{pid}/stat").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
