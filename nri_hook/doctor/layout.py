"""The cgroups of this machine: which version, who manages them, whether they can be written."""

from __future__ import annotations

import os
from collections.abc import Iterator

from nri_hook.cgroups import hierarchies, systemd
from nri_hook.doctor.finding import FAIL, OK, WARN, Finding
from nri_hook.registration import engines

RUNS_SYSTEMD = "/run/systemd/system"


def is_hybrid() -> bool:
    """Whether v1 controllers and a v2 mount stand side by side."""
    names = _mounted()
    return hierarchies.V2 in names and len(names) > 1


def check() -> Iterator[Finding]:
    """Layout, write permission, manager."""
    mounts = _mounted()
    if not mounts:
        yield Finding(
            FAIL,
            "cgroups",
            "no cgroup hierarchy is mounted",
            "mount -t cgroup2 none /sys/fs/cgroup",
        )
        return
    v1 = sorted(name for name in mounts if name != hierarchies.V2)
    if not v1:
        yield Finding(OK, "cgroups", f"v2 at {mounts[hierarchies.V2].mount}")
    else:
        kind = "hybrid: v2 and v1" if hierarchies.V2 in mounts else "v1"
        yield Finding(OK, "cgroups", f"{kind}, hierarchies {' '.join(v1)}")
    yield from _writable(mounts)
    yield from _manager(bool(v1))


def _writable(mounts: dict[str, hierarchies.Hierarchy]) -> Iterator[Finding]:
    closed = sorted({h.mount for h in mounts.values() if not os.access(h.mount, os.W_OK)})
    read_only = [mount for mount in closed if os.statvfs(mount).f_flag & os.ST_RDONLY]
    if read_only:
        yield Finding(
            FAIL,
            "cgroups",
            f"mounted read-only: {' '.join(read_only)}; no container can be moved",
            " && ".join(f"mount -o remount,bind,rw {mount}" for mount in read_only),
        )
    others = [mount for mount in closed if mount not in read_only]
    if others:
        yield Finding(
            FAIL,
            "cgroups",
            f"no permission to write {' '.join(others)}; no container can be moved",
            "run containers, and this command, as root",
        )


def _manager(has_v1: bool) -> Iterator[Finding]:
    runs = os.path.isdir(RUNS_SYSTEMD)
    default = "systemd" if runs else "cgroupfs"
    said = {e: engines.value(e, "cgroup_manager") or default for e in ("podman", "crio")}
    managers = {said["podman"]} | ({said["crio"]} if engines.has_crio() else set())
    words = "cgroup manager of podman: " + said["podman"]
    if engines.has_crio():
        words += ", of CRI-O: " + said["crio"]
    if "systemd" not in managers:
        yield Finding(OK, "cgroups", words)
    elif not runs:
        yield Finding(
            FAIL,
            "cgroups",
            f"{words}, and systemd does not run",
            'cgroup_manager = "cgroupfs" under [engine] in /etc/containers/containers.conf',
        )
    elif has_v1:
        yield Finding(
            WARN,
            "cgroups",
            f"{words}, on cgroup v1: such containers are left where they are",
            "boot with systemd.unified_cgroup_hierarchy=1, or set cgroup_manager to cgroupfs",
        )
    elif not os.access(systemd.BUSCTL, os.X_OK):
        yield Finding(
            FAIL,
            "cgroups",
            f"{words}, and {systemd.BUSCTL}, which talks to systemd, does not exist",
            "apt-get install systemd",
        )
    else:
        yield Finding(OK, "cgroups", words)


def _mounted() -> dict[str, hierarchies.Hierarchy]:
    return hierarchies.mounted(hierarchies.membership(os.getpid()))
