"""The controls of a container, for plugins: found from its Request, and nothing else's."""

import os

from nri_hook import procfs
from nri_hook.cgroups import controlfile, hierarchies, paths
from nri_hook.cgroups.controls.group import Group
from nri_hook.cgroups.controls.home import Home
from nri_hook.errors import Left, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional


class Controls(Group):
    """The controls of a container's own cgroup; see Group for all of them.

    What the runtime made for the container is read and written, and no other cgroup: on v2 under
    systemd the scope, what lies below it down to the container's process, and the properties of
    the scope, so that a daemon-reload does not undo it. Under systemd on v1 only files are
    written.

        controls = Controls(spec.cgroups_path, spec.cgroups, request.pid)
        controls.cpu_quota = None
        controls.cpuset_cpus -= {0, 1}
    """

    __slots__ = ("_init",)

    def __init__(
        self,
        cgroups_path: str,
        cgroups: "Optional[dict[str, str]]",
        pid: "Optional[int]",
        creating: bool = False,
        annotations: "Optional[dict[str, str]]" = None,
    ) -> None:
        """cgroups_path, cgroups, pid, annotations: as in the Request; of a container with a process
        the kernel says which cgroups are its own, with crun the annotations too. creating: whether
        the state is `create`; then its process is alone there, and any other means that the cgroup
        is shared.

        Raises Refused where it has no cgroup of its own, HookError where its process has ended.
        """
        self._init = procfs.Init(pid) if pid else None
        membership = hierarchies.membership(pid) if pid else cgroups
        if not membership:
            raise Refused("the container has no cgroup yet, expected the state create or a later")
        try:
            inner = paths.delegated(annotations or {})
            super().__init__(_homes(cgroups_path, membership, inner))
        except Left as left:  # for a plugin that is a failure
            raise Refused(left.args[0], code=left.code) from None
        if creating and pid:
            self._check_alone(pid)

    @property
    def parent_cpus(self) -> "set[int]":
        """The CPUs that the cgroup above lets its children have: they are online, and no
        partition beside it has them. Cannot be set."""
        return self._above("parent_cpus", "cpuset.effective_cpus", "cpuset.cpus.effective")

    @property
    def parent_mems(self) -> "set[int]":
        """The memory nodes, likewise."""
        return self._above("parent_mems", "cpuset.effective_mems", "cpuset.mems.effective")

    def _above(self, control: str, v1: str, v2: str) -> "set[int]":
        home = self._home(control, "cpuset")
        above = Home(hierarchies.V2 if home.version == 2 else "cpuset", [home.parent()])
        return hierarchies.numbers(above.read(control, v2 if home.version == 2 else v1))

    def _check(self) -> None:
        if self._init:
            self._init.check()

    def _check_alone(self, pid: int) -> None:
        for home in self._homes.values():
            path = f"{home.directory}/cgroup.procs"
            try:
                others = set(controlfile.read(path).split()) - {str(pid)}
            except OSError as error:
                raise controlfile.failed(error, path, "cannot be read") from None
            if others:
                raise Refused(f"is shared with process {min(others)}", path=home.directory)


def _homes(cgroups_path: str, membership: "dict[str, str]", inner: str) -> "dict[str, Home]":
    """The container's own cgroup in each hierarchy in which it has one. inner: as
    paths.delegated() says."""
    for cgroup in membership.values():
        if not cgroup.startswith("/") or ".." in cgroup.split("/"):
            raise Refused(f"its cgroup {cgroup!r} is not below what is mounted here")
    mounted = hierarchies.mounted(membership)
    own = _scopes(cgroups_path, membership, set(mounted) == {hierarchies.V2}) or {
        place.hierarchy: (place.cgroup(), place.inner, "")
        for place in paths.own_places(cgroups_path, membership, inner)
    }
    found = {}
    for name, (cgroup, inner, unit) in own.items():
        hierarchy = mounted.get(name)
        if hierarchy and hierarchy.reaches(cgroup):
            directories = [hierarchy.directory(cgroup)]
            for part in inner.split("/")[1:]:
                directories.append(f"{directories[-1]}/{part}")
            found[name] = Home(name, directories, unit)
    if not found:
        raise Refused(f"none of its cgroups is mounted here: {sorted(set(membership.values()))}")
    return found


def _scopes(
    cgroups_path: str, membership: "dict[str, str]", is_v2: bool
) -> "dict[str, tuple[str, str, str]]":
    """Hierarchy -> path of the container's scope, the rest below it, and the name of the unit,
    whose properties are those of v2; empty if it has none."""
    found = {}
    for hierarchy, cgroup in membership.items() if paths.is_unit(cgroups_path) else ():
        for unit in (cgroups_path, paths.beside(cgroups_path)):  # it may have moved since
            split = paths.scope_in(cgroup, unit)
            if split:
                scope, inner = split
                found[hierarchy] = scope, inner, os.path.basename(scope) if is_v2 else ""
    return found
