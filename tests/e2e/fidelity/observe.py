"""What can be seen of a running container, from outside and from inside: field -> value.

A field is `group.name`. Values hold nothing that differs between two containers only because they
are two: container.normal() has put ID, PARENT and the like in its place.
"""

import ctypes
import os
import re
import stat
import subprocess

from support import cgroups

# What counts, and what says how things are at the moment. Everything else is compared.
COUNTERS = re.compile(
    r"""cgroup\.(procs|threads|stat|stat\.local|event_control|kill) | tasks
    | .*\.(current|peak|pressure|pressure_level|events|events\.local) | .*failcnt
    | (cpu|memory|io|cpuacct|hugetlb\..*|misc|rdma)\.(stat|stat\.local|numa_stat)
    | cpuacct\.usage.* | memory\..*usage_in_bytes | memory\.(kmem\.slabinfo|reclaim|oom_control)
    | blkio\..*(io_|service|sectors|time|wait|merged|queued).* | hugetlb\..*usage_in_bytes
    """,
    re.X,
)
# What of a unit is a time, a count, or its identity.
UNIT_COUNTERS = re.compile(
    r"""[A-Z].*Timestamp(Monotonic)? | InvocationID | ControlGroupId | .*(Current|Peak)
    | CPUUsageNSec | (IO|IP)(Read|Write|Ingress|Egress)(Bytes|Operations|Packets)
    | MemoryAvailable | EffectiveMemory.* | EffectiveTasksMax | Job | Result(Dump)? | Transient
    """,
    re.X,
)
LIMITS = (
    "memory.max memory.limit_in_bytes pids.max cpu.max cpu.weight cpu.shares cpu.cfs_quota_us"
    " cpuset.cpus hugetlb.2MB.max hugetlb.2MB.limit_in_bytes cgroup.controllers"
).split()


def outside(container):
    """The cgroup as the machine sees it."""
    found = {}
    for hierarchy, path in cgroups.membership(container.pid).items():
        found[f"membership.{hierarchy or 'v2'}"] = container.normal(path)
    for hierarchy, directory in container.directories().items():
        found.update(_directory(container, hierarchy or "v2", directory))
        if hierarchy == cgroups.V2:
            found["devices.programs"] = " ".join(programs(directory))
    return found


def _directory(container, hierarchy, directory):
    """Each file of a cgroup: whose it is, and what it says unless it counts."""
    found = {}
    for place in container.levels(directory):
        below = place[len(container.scope(directory)) :]
        for name in sorted(os.listdir(place)):
            path = f"{place}/{name}"
            status = os.stat(path)
            # The names of the general files are the same in each hierarchy of v1.
            field = f"{below.lstrip('/') + '/' if below else ''}{hierarchy}:{name}"
            found[f"owner.{field}"] = _owner(status)
            if stat.S_ISREG(status.st_mode) and not COUNTERS.fullmatch(name):
                found[f"settings.{field}"] = container.normal(_read(path))
        found[f"owner.{below.lstrip('/')}{hierarchy}:"] = _owner(os.stat(place))
    return found


def settings(container):
    """The settings alone, and those of the unit: what a command may change."""
    found = {}
    for hierarchy, directory in container.directories().items():
        fields = _directory(container, hierarchy or "v2", directory)
        found.update({k: v for k, v in fields.items() if k.startswith("settings.")})
    return found


def units(containers):
    """Container -> fields of its scope, all that systemd shows."""
    scopes = [c.unit() for c in containers]
    done = subprocess.run(
        ["systemctl", "show", "--all", *scopes], check=True, stdout=subprocess.PIPE, text=True
    )
    found = {}
    for container, block in zip(containers, done.stdout.split("\n\n")):
        fields = found[container] = {}
        for line in block.strip().splitlines():
            name, _, value = line.partition("=")
            if not UNIT_COUNTERS.fullmatch(name):
                # A list is a line for each of its items.
                _append(fields, f"unit.{name}", container.normal(value))
    return found


def changes(before, after):
    """What of some fields has changed, as one text; not in which files systemd keeps it."""
    names = {n for n in {*before, *after} if before.get(n) != after.get(n)}
    names = sorted(names - {"unit.DropInPaths", "unit.NeedDaemonReload"})
    return "; ".join(f"{name}: {before.get(name)} -> {after.get(name)}" for name in names)


def inside(container):
    """What the container finds out about its own limits. Its report was written by program.sh."""
    report = container.report()
    found = {}
    for line in report["cgroup"]:
        _, name, path = line.split(":", 2)
        found[f"inside.cgroup {name or 'v2'}"] = container.normal(path)
    for line in _from_below(report["mounts"]):
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        root, mount, options = fields[3:6]
        kinds = sorted(tag.partition(":")[0] for tag in fields[6:])
        kind, _, super_options = after.split(" ", 2)
        _append(found, f"inside.mount {mount}", " ".join([options, *kinds, kind, super_options]))
        _append(found, f"inside.root of {mount}", container.normal(root))
        found.update(_limits(container, mount))
        found.update(_joined(container, mount, root, kind, super_options, report["cgroup"]))
    for line in report["devices"]:
        device, _, outcome = line.partition(" ")
        found[f"devices.{device}"] = outcome
    for line in report.get("tries", []):
        what, _, outcome = line.partition(" = ")
        found[f"tries.{what}"] = container.normal(outcome)
    return found


def _from_below(lines):
    """Lines of mountinfo, those of covered mounts before those that cover them."""
    parents = dict(line.split(" ")[:2] for line in lines)

    def depth(id):
        return 1 + depth(parents[id]) if id in parents else 0

    return sorted(lines, key=lambda line: depth(line.split(" ")[0]))


def _append(fields, name, value):
    fields[name] = f"{fields[name]}; {value}" if name in fields else value


def _limits(container, mount):
    """The limits that are read at a mount, and whether the container may make a cgroup there."""
    seen = f"/proc/{container.pid}/root{mount}"
    found = {
        f"inside.{mount}/{name}": _read(f"{seen}/{name}")
        for name in LIMITS
        if os.path.exists(f"{seen}/{name}")
    }
    # The report's own processes, by which a container recognises its cgroup.
    pids = _read(f"{seen}/cgroup.procs").split()
    found[f"inside.{mount}/ holds itself"] = str(container.pid) in pids
    try:
        os.mkdir(f"{seen}/made")
        os.rmdir(f"{seen}/made")
        found[f"inside.{mount}/ can be written"] = True
    except OSError as error:
        found[f"inside.{mount}/ can be written"] = error.strerror
    return found


def _joined(container, mount, root, kind, options, lines):
    """The limits that a program finds which joins a mount with the path in /proc/self/cgroup."""
    for line in lines:
        _, name, path = line.split(":", 2)
        is_v1 = kind == "cgroup" and name and set(name.split(",")) <= set(options.split(","))
        if is_v1 or (kind == "cgroup2" and not name):
            break
    else:
        return {}
    inner = path[len(root) :] if root != "/" and path.startswith(root) else path
    seen = os.path.normpath(f"/proc/{container.pid}/root{mount}/{inner}")
    return {
        f"inside.{mount} joined/{name}": _read(f"{seen}/{name}")
        for name in LIMITS
        if os.path.exists(f"{seen}/{name}")
    }


def _owner(status):
    return f"{status.st_uid}:{status.st_gid} {stat.S_IMODE(status.st_mode):04o}"


def _read(path):
    try:
        return cgroups.read(path)
    except (OSError, UnicodeDecodeError) as error:
        return f"unreadable: {getattr(error, 'strerror', error)}"


# bpf(2): include/uapi/linux/bpf.h.
BPF = 321
GET_FD_BY_ID, OBJ_GET_INFO, PROG_QUERY = 13, 15, 16
CGROUP_DEVICE, EFFECTIVE = 6, 1


def programs(directory):
    """The tags, which are the kernel's checksums, of the device programs in force in a cgroup."""
    ids = (ctypes.c_uint32 * 64)()
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    query = (ctypes.c_uint32 * 8)(fd, CGROUP_DEVICE, EFFECTIVE, 0, 0, 0, 64, 0)
    ctypes.c_uint64.from_buffer(query, 16).value = ctypes.addressof(ids)
    try:
        _bpf(PROG_QUERY, query)
    finally:
        os.close(fd)
    return sorted(_tag(id) for id in ids[: query[6]])


def _tag(id):
    fd = _bpf(GET_FD_BY_ID, (ctypes.c_uint32 * 3)(id, 0, 0))
    info = (ctypes.c_uint8 * 256)()
    question = (ctypes.c_uint32 * 4)(fd, 256, 0, 0)
    ctypes.c_uint64.from_buffer(question, 8).value = ctypes.addressof(info)
    try:
        _bpf(OBJ_GET_INFO, question)
    finally:
        os.close(fd)
    return bytes(info[8:16]).hex()


def _bpf(command, attributes):
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(BPF, command, ctypes.byref(attributes), ctypes.sizeof(attributes))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
