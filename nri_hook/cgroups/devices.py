"""Which devices a cgroup may use: the list of v1, the programs of v2.

Sources: kernel, admin-guide/cgroup-v1/devices.rst; bpf(2), include/uapi/linux/bpf.h.
"""

import errno
import os

from nri_hook.cgroups import controlfile, syscalls
from nri_hook.cgroups.syscalls import memory, u32, u64
from nri_hook.errors import HookError, Refused

EVERYTHING = "a *:* rwm"

OBJ_PIN, OBJ_GET, PROG_ATTACH, PROG_DETACH = 6, 7, 8, 9
PROG_GET_FD_BY_ID, OBJ_GET_INFO, PROG_QUERY = 13, 15, 16
CGROUP_DEVICE = 6
EFFECTIVE = 1
ALLOW_MULTI = 2
MAX_PROGRAMS = 64
PROG_INFO_SIZE = 56


def carry_list(old: str, new: str, denied: "list[str]") -> None:
    """Give the v1 cgroup `new` the device list of `old`.

    denied: the exceptions of a list that starts from "all allowed", which the kernel does not
    show. Raises Refused, e.g. where the parent of `new` denies what `old` allows.
    """
    wanted = controlfile.read(f"{old}/devices.list").splitlines()
    try:
        if wanted == [EVERYTHING]:
            for line in denied:
                controlfile.write(f"{new}/devices.deny", line)
        elif set(controlfile.read(f"{new}/devices.list").splitlines()) != set(wanted):
            controlfile.write(f"{new}/devices.deny", "a")
            for line in wanted:
                controlfile.write(f"{new}/devices.allow", line)
    except OSError as error:
        raise Refused(f"cannot take the device list: {error.strerror}", path=new) from None
    found = controlfile.read(f"{new}/devices.list").splitlines()
    if set(found) != set(wanted):
        raise Refused(f"reads {found}, expected {wanted}", path=f"{new}/devices.list")


def carry_programs(old: str, new: str, scope: str) -> None:
    """Have the device programs that rule in the v2 cgroup `old` rule in `new`.

    scope: `new`, or the directory above it that is the container's too. All programs on the way to
    the root must allow an access, so their order does not matter; the runtime may have put them on
    `old` or above it. systemd has given the scope one of its own. Where that is the old scope's
    with another id it stays and need not be carried; else it goes, as when a runtime, or a hook
    for some device, puts another in its place. Raises Refused.
    """
    wanted, there = programs(old), programs(new)
    missing = [program for program in wanted if program not in there]
    made = {program for directory in {scope, new} for program in programs(directory, directly=True)}
    made.difference_update(wanted)
    if made:
        contents = {_content(program) for program in made} - {b""}
        missing = [program for program in missing if _content(program) not in contents]
    try:
        for program in missing:
            _attach(new, program)
        if made:
            contents = {_content(program) for program in wanted} - {b""}
            for program in made.intersection(programs(new, directly=True)):
                if _content(program) not in contents:
                    _detach(new, program)
    except OSError as error:
        raise Refused(f"cannot take the device filter: {error.strerror}", path=new) from None
    lost = [program for program in missing if program not in programs(new)]
    if lost:
        raise Refused(f"device programs {lost} are not in force after attaching", path=new)


def _content(program: int) -> bytes:
    """The kernel's checksum of a program's instructions; b"" where data beside them counts too,
    or where it cannot be told."""
    info = memory(bytes(PROG_INFO_SIZE))
    try:
        fd = syscalls.bpf(PROG_GET_FD_BY_ID, memory(u32(program, 0, 0)))
        try:
            # bpf_fd, info_len, u64 info
            syscalls.bpf(OBJ_GET_INFO, memory(u32(fd, info.size) + u64(info.address)))
        finally:
            os.close(fd)
    except OSError:
        return b""
    # struct bpf_prog_info: the tag of 8 bytes at 8, nr_map_ids at 52
    return b"" if info.u32(52) else u32(info.u32(8), info.u32(12))


def pin(old: str, new: str) -> None:
    """Pin the program that is pinned at `old` at `new` too. Raises Refused."""
    source, target = (memory(os.fsencode(path) + b"\0") for path in (old, new))
    try:
        fd = syscalls.bpf(OBJ_GET, memory(u64(source.address) + u32(0, 0)))
        try:
            syscalls.bpf(OBJ_PIN, memory(u64(target.address) + u32(fd, 0)))
        finally:
            os.close(fd)
    except OSError as error:
        raise Refused(f"cannot be pinned again: {error.strerror}", path=old) from None


def programs(directory: str, directly: bool = False) -> "list[int]":
    """The ids of the device programs in force in the v2 cgroup at `directory`, or only of those
    that are attached there. Raises HookError."""
    ids = memory(bytes(4 * MAX_PROGRAMS))
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # target_fd, attach_type, query_flags, attach_flags, u64 prog_ids, prog_cnt
        query = memory(
            u32(fd, CGROUP_DEVICE, 0 if directly else EFFECTIVE, 0)
            + u64(ids.address)
            + u32(MAX_PROGRAMS, 0)
        )
        syscalls.bpf(PROG_QUERY, query)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EINVAL):  # a kernel without such programs
            return []
        raise HookError(f"device programs: {error.strerror}", path=directory) from None
    finally:
        os.close(fd)
    return [ids.u32(4 * index) for index in range(query.u32(24))]


def _attach(directory: str, program: int) -> None:
    # target_fd, attach_bpf_fd, attach_type, attach_flags, replace_bpf_fd
    _on_directory(PROG_ATTACH, directory, program, u32(CGROUP_DEVICE, ALLOW_MULTI, 0))


def _detach(directory: str, program: int) -> None:
    _on_directory(PROG_DETACH, directory, program, u32(CGROUP_DEVICE, 0, 0))


def _on_directory(command: int, directory: str, program: int, rest: bytes) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        program_fd = syscalls.bpf(PROG_GET_FD_BY_ID, memory(u32(program, 0, 0)))
        try:
            syscalls.bpf(command, memory(u32(fd, program_fd) + rest))
        finally:
            os.close(program_fd)
    finally:
        os.close(fd)
