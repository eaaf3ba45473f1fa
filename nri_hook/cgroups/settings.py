"""Carry: every setting of one cgroup to another that is fresh.

Carried is what the owner may read and write and what differs from a fresh cgroup, whatever its
name, so that a controller of tomorrow is carried too. Left out by name are only states, counters,
actions and second names of a setting.
Sources: kernel, admin-guide/cgroup-v2.rst and admin-guide/cgroup-v1/*.rst.
"""

import os
import stat

from nri_hook.cgroups import controlfile
from nri_hook.errors import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Optional

STATES = {
    "cgroup.procs",
    "cgroup.threads",
    "cgroup.freeze",
    "cgroup.kill",
    "cgroup.type",
    "cgroup.subtree_control",
    "cgroup.event_control",
    "tasks",
    "freezer.state",
    "cpu.pressure",
    "memory.pressure",
    "io.pressure",
    "irq.pressure",
    "memory.peak",
    "memory.swap.peak",
    "memory.reclaim",
    "memory.force_empty",
    "memory.pressure_level",
    "blkio.reset_stats",
    "devices.allow",
    "devices.deny",
}
# v1 counters; some accept a write, which resets them.
COUNTERS = ("cpuacct.usage", "max_usage_in_bytes", "failcnt")
# Second names: cpu.weight read through a nice value and written back is another weight.
ALIASES = {"cpu.weight.nice"}

# What tells a setting from what only reports: a regular file that its owner reads and writes.
OWNED = 0o170600
# Owner and modes that the kernel gives to what it makes.
ROOT = (0, 0)
MODES = (0o755, 0o644, 0o444, 0o200)

# What the kernel wants written in an order; everything else follows by name.
ORDER = (
    "cgroup.clone_children",
    "memory.use_hierarchy",
    "cpu.idle",
    "cpuset.cpus",
    "cpuset.mems",
    "cpu.rt_period_us",
    "cpu.cfs_period_us",
    "cpu.cfs_quota_us",
    "cpu.cfs_burst_us",
    "cpu.max",
    "memory.limit_in_bytes",
)
PARTITION = "cpuset.cpus.partition"
# What only one of two cgroups can have; the old one falls back to the second value first.
EXCLUSIVE = {
    PARTITION: "member",
    "cpuset.cpus.exclusive": "\n",
    "cpuset.cpu_exclusive": "0",
    "cpuset.mem_exclusive": "0",
    "cpu.rt_runtime_us": "0",
}
# What a cgroup v1 hands down to those made in it, by the kernel or (cpuset) by the runtimes. On v2
# a setting that says nothing reads as empty.
HANDED_DOWN = (
    "cgroup.clone_children",
    "notify_on_release",
    "cpuset.cpus",
    "cpuset.mems",
    "memory.oom_control",
    "memory.swappiness",
    "memory.use_hierarchy",
)


class File:
    """A file of a cgroup: its owner and mode; text: of a setting, None of anything else."""

    def __init__(self, status: os.stat_result, text: "Optional[str]") -> None:
        self.owner = status.st_uid, status.st_gid
        self.mode = status.st_mode & 0o7777
        self.text = text


def look(directory: str) -> "dict[str, File]":
    """File name -> all that there is to carry of it, "" for the directory. Raises OSError."""
    # By descriptor: the kernel walks one name instead of the whole path, some 300 times.
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = {"": File(os.fstat(fd), None)}
        for name in os.listdir(
            directory
        ):  # by the path, for which it needs no copy of the descriptor
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            is_setting = status.st_mode & OWNED == stat.S_IFREG | 0o600 and not _is_state(name)
            found[name] = File(status, _text(name, fd) if is_setting else None)
        return found
    finally:
        os.close(fd)


def texts(files: "dict[str, File]") -> "dict[str, str]":
    """File name -> text of the settings among `files`."""
    return {name: file.text for name, file in files.items() if file.text is not None}


def inherited(
    directory: str, present: "dict[str, File]", given: "dict[str, str]", asked: "set[str]"
) -> "set[str]":
    """What a cgroup v1 has from its parent, and not from whoever made it, of the settings that
    differ from a fresh cgroup's.

    directory: of the cgroup. present: look() of it; given: read() of the fresh one. asked: what its
    container's config asks for. Raises OSError.
    """
    names = [n for n in HANDED_DOWN if n in present and n not in asked]
    differing = [n for n in names if present[n].text != given.get(n)]
    if not differing:
        return set()
    above = read(os.path.dirname(directory), differing)
    return {n for n, text in above.items() if text == present[n].text}


def read(directory: str, names: "Iterable[str]") -> "dict[str, str]":
    """File name -> text for those of `names` that are in the cgroup at `directory`. Raises
    OSError."""
    found = {}
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in names:
            try:
                found[name] = _text(name, fd)
            except FileNotFoundError:
                pass
        return found
    finally:
        os.close(fd)


def differing(
    present: "dict[str, File]", given: "dict[str, str]", inherited: "set[str]"
) -> "list[str]":
    """The settings among `present` that have to be carried to a cgroup with the settings `given`,
    in the order in which the kernel wants them. inherited: those that it has from its parent."""
    wanted = texts(present)
    names = [n for n in wanted if wanted[n] != given.get(n) and n not in inherited]
    return sorted(names, key=_order)


def carry(
    old: str,
    new: str,
    present: "dict[str, File]",
    given: "dict[str, str]",
    inherited: "set[str]",
    giving_up: "Callable[[str, str], None]",
) -> None:
    """Write to the directory `new` what of `old` differs from a fresh cgroup, but for a partition.

    present: look() of `old`; given: read() of a cgroup just made beside `new`. inherited: names
    that `new` has from its own parent instead. giving_up: told (file, value) before an exclusive
    setting is taken from `old`. Raises Refused with the name of the file.
    """
    wanted = texts(present)
    names = differing(present, given, inherited)
    for name in names:
        if name not in given:
            raise Refused("does not exist, but the present cgroup has it", path=f"{new}/{name}")
    for name in names:
        if name in EXCLUSIVE:
            _give_up(f"{old}/{name}", wanted[name], EXCLUSIVE[name], giving_up)
    for name in names:
        if name != PARTITION:
            _set(f"{new}/{name}", wanted[name])
    for name in names:
        if name != PARTITION:
            _check(f"{new}/{name}", wanted[name])


def carry_partition(
    old: str, new: str, wanted: "dict[str, str]", giving_up: "Callable[[str, str], None]"
) -> None:
    """The same for a partition (v2), once the process is in `new`: no cgroup beside one may even
    list its CPUs, and one with processes in it cannot stop listing them.

    wanted: texts() of `old` as it was.
    """
    _give_up(f"{old}/cpuset.cpus", wanted["cpuset.cpus"], "\n", giving_up)
    _set(f"{new}/{PARTITION}", wanted[PARTITION])
    _check(f"{new}/{PARTITION}", wanted[PARTITION])


def _check(path: str, wanted: str) -> None:
    found = _text(path)
    if sorted(found.splitlines()) != sorted(wanted.splitlines()):
        message = f"reads {found.strip()!r} after writing, expected {wanted.strip()!r}"
        raise Refused(message, path=path)


def catch_up(old: str, new: str, before: "dict[str, str]") -> None:
    """Write to `new` what has changed in `old` since it was carried: an update of the container
    that came before its runtime knew of the move.

    before: file -> text of `old` as it was left. Raises Refused with the name of the file.
    """
    try:
        now = read(old, before)
    except FileNotFoundError:  # gone, as under systemd: no update could have reached it
        return
    names = [name for name in now if now[name] != before[name]]
    for name in sorted(names, key=_order):
        _set(f"{new}/{name}", now[name])


def own(new: str, present: "dict[str, File]") -> None:
    """Give `new` and its files the owners and modes of `present` (delegation). Raises OSError."""
    for name, file in present.items():
        if file.owner == ROOT and file.mode in MODES:
            continue  # as the kernel makes them
        path = f"{new}/{name}"
        try:
            found = File(os.stat(path, follow_symlinks=False), None)
        except FileNotFoundError:
            continue
        if file.owner != found.owner:
            os.chown(path, *file.owner)
        if file.mode != found.mode:
            os.chmod(path, file.mode)


def _order(name: str) -> "tuple[int, str]":
    return ORDER.index(name) if name in ORDER else len(ORDER), name


def _is_state(name: str) -> bool:
    return name in STATES or name in ALIASES or name.startswith(COUNTERS) or name.endswith(COUNTERS)


def _text(path: str, directory: "Optional[int]" = None) -> str:
    """The setting in a file, as it would be written."""
    try:
        text = controlfile.read(path, directory)
    except FileNotFoundError:
        raise
    except OSError as error:
        # A file that this kernel or this place cannot read: the same text for both sides.
        return f"unreadable: {error.strerror}"
    if path.endswith("memory.oom_control"):  # reads "oom_kill_disable 1\nunder_oom 0...", takes 1
        return text.split()[1] + "\n"
    return text


def _give_up(path: str, value: str, rest: str, giving_up: "Callable[[str, str], None]") -> None:
    giving_up(path, value)
    try:
        controlfile.write(path, rest)
    except OSError as error:
        raise Refused(f"cannot be given up: {error.strerror}", path=path) from None


def _set(path: str, value: str) -> None:
    """Write a setting line by line, lines that stand there already left out."""
    try:
        there = _text(path).splitlines()
        for line in value.splitlines() or [""]:
            if line not in there:
                controlfile.write(path, line + "\n")
    except OSError as error:
        raise Refused(f"cannot take {value.strip()!r}: {error.strerror}", path=path) from None
