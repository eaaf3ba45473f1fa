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

from nri_hook.cgroups import controlfile, hierarchies

OWN = "/proc/self/cgroup"
# Seconds. A writer is quick for as long as a grace period after the one before, which is 14 ms on
# an idle machine with 250 ticks a second, and may be less with more of them.
PAUSE = 0.003
# A start that takes longer is not felt to be 10 ms slower.
LONGEST = 0.5


class Grace:
    """Holds it off from now on, as long as renew() is called every few milliseconds."""

    def __init__(self) -> None:
        self._own = controlfile.read_bytes(OWN)
        self._procs = _own_procs()
        self._end = time.monotonic() + LONGEST
        self._next = 0.0
        self.renew()

    def renew(self) -> bool:
        """Write again where it is time to; whether to go on."""
        now = time.monotonic()
        if self._procs < 0 or now > self._end:
            return False
        if now < self._next:
            return True
        self._next = now + PAUSE
        if (
            controlfile.read_bytes(OWN) != self._own
        ):  # somebody has moved us, who is not to be undone
            return False
        try:
            os.write(self._procs, b"0")  # whoever writes, who is there already
        except OSError:  # where such a cgroup takes no processes; it had the lock all the same
            pass
        return True


def _own_procs() -> int:
    """The cgroup.procs of this process in one of its hierarchies, open; -1 where none is there."""
    for name, cgroup in hierarchies.membership(os.getpid()).items():
        hierarchy = hierarchies.mounted({name: cgroup}).get(name)
        # In a cgroup namespace it may be above what is mounted: /../x.
        if hierarchy and hierarchy.reaches(cgroup) and ".." not in cgroup.split("/"):
            path = f"{hierarchy.directory(cgroup)}/cgroup.procs"
            try:
                return os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            except OSError:
                pass
    return -1
