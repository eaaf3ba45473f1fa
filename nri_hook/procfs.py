"""The container's first process, which the runtime keeps blocked while its hooks run."""

from nri_hook.errors import HookError


class Init:
    """A process that stays the same one. pid: in our pid namespace. start: in clock ticks since
    boot, field 22 of /proc/PID/stat (proc_pid_stat(5)); a reused pid has another."""

    def __init__(self, pid: int) -> None:
        """Raises HookError where no such process lives."""
        if pid <= 0:
            # 0 in a cgroup.procs would move whoever writes it.
            raise HookError(f"pid {pid}: expected that of the container's process, above 0")
        self.pid = pid
        self.start = start_time(pid)
        if not self.start:
            raise HookError(f"pid {pid}: no such process lives")

    def check(self) -> None:
        """Raise HookError where the process has ended since."""
        if start_time(self.pid) != self.start:
            raise HookError(f"pid {self.pid}: the container's process has ended")


# Of a process that has begun to end: on cgroup v1 it is in the root already (kernel,
# include/linux/sched.h).
PF_EXITING = 0x4


def is_alive(pid: int, start: int) -> bool:
    """Whether the process `pid` that started at `start` still lives."""
    return start > 0 and start_time(pid) == start


def start_time(pid: int) -> int:
    """When `pid` started, 0 if it does not live; a process that ends or is a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    if fields[0] in (b"Z", b"X") or int(fields[6]) & PF_EXITING:
        return 0
    return int(fields[19])
