"""The grace period that the kernel lets the first move of a process wait for, kept from coming.

A write to any cgroup.procs takes cgroup_threadgroup_rwsem, of which every fork is a reader. A
writer waits for an RCU grace period, some 8 to 16 ms, unless there was another one a moment ago.
The runtime has just been one when its hook begins, so a write every few milliseconds that changes
nothing lets the move itself be quick, whatever the plugins take in between.
Sources: kernel, kernel/cgroup/cgroup.c (cgroup_attach_lock), kernel/locking/percpu-rwsem.c,
kernel/rcu/sync.c.
"""

import os
import time

from nri_hook.cgroups import hierarchies
from nri_hook.errors import HookError

# Seconds. A writer is quick for as long as a grace period after the one before, which is 14 ms on
# an idle machine with 250 ticks a second; the preparations of a move take up to 8.
PAUSE = 0.003
# A start that takes longer is not felt to be 10 ms slower.
LONGEST = 0.5


class Grace:
    """Holds it off from now on, as long as renew() is called every few milliseconds."""

    def __init__(self) -> None:
        self._procs = _own_procs()
        self._end = time.monotonic() + LONGEST
        self._next = 0.0
        self.renew()

    def renew(self) -> bool:
        """Write again where it is time to; whether to go on."""
        now = time.monotonic()
        if self._procs < 0 or now > self._end:
            return False
        if now >= self._next:
            self._next = now + PAUSE
            try:
                os.write(self._procs, b"0")  # whoever writes, who is there already
            except OSError:  # where such a cgroup takes no processes; it had the lock all the same
                pass
        return True


def _own_procs() -> int:
    """The cgroup.procs of this process in one of its hierarchies, open; -1 where none is there."""
    try:
        for name, cgroup in hierarchies.membership(os.getpid()).items():
            hierarchy = hierarchies.mounted({name: cgroup}).get(name)
            if hierarchy and hierarchy.reaches(cgroup):
                path = f"{hierarchy.folder(cgroup)}/cgroup.procs"
                return os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except (HookError, OSError):
        pass
    return -1
