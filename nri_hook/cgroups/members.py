"""The processes in a cgroup: who is there, and how they are killed."""

import _signal  # type: ignore[import-not-found]
import os

from nri_hook.cgroups import controlfile


def kill(directory: str) -> None:
    """Kill the processes in a cgroup and below it, as far as they are there now."""
    try:
        if os.path.exists(f"{directory}/cgroup.kill"):
            controlfile.write(f"{directory}/cgroup.kill", "1")
            return
        from nri_hook.cgroups import nested

        for here in nested.walk(directory):
            _kill_members(here)
    except OSError:  # the cgroup has gone, and its processes with it
        pass


def kill_members(directory: str) -> None:
    """Kill the processes in a cgroup, but not those in cgroups below, as far as they are there
    now."""
    try:
        here = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        _kill_members(here)
    finally:
        os.close(here)


def _kill_members(here: int) -> None:
    """The same for a descriptor of the cgroup."""
    try:
        try:
            controlfile.write("freezer.state", "THAWED", here)
        except FileNotFoundError:  # there is no freezer in this hierarchy
            pass
        for pid in controlfile.read("cgroup.procs", here).split():
            _kill_member(here, pid)
    except OSError:
        pass


def _kill_member(here: int, pid: str) -> None:
    """Kill a process that is in an open cgroup, and none that has its pid by now."""
    try:
        fd = os.pidfd_open(int(pid))
    except OSError:  # it has ended
        return
    try:
        if pid in controlfile.read("cgroup.procs", here).split():
            _signal.pidfd_send_signal(fd, _signal.SIGKILL)
    except OSError:
        pass
    finally:
        os.close(fd)


def occupant(directory: str) -> str:
    """A process that is in a cgroup or below it, and where, in words; "" if there is none."""
    waiting = [directory]
    while waiting:
        place = waiting.pop()
        try:
            processes = controlfile.read(f"{place}/cgroup.procs").split()
            with os.scandir(place) as entries:
                waiting += [entry.path for entry in entries if entry.is_dir()]
        except OSError:  # it has gone
            continue
        if processes:
            return f"process {processes[0]} is in {'it' if place == directory else place}"
    return ""
