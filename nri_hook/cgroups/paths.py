"""Where a container is and where an answer wants it: the names, before any directory is touched."""

import os

from nri_hook import trust
from nri_hook.cgroups import hierarchies
from nri_hook.errors import PATH_EXPECTED, UNIT_EXPECTED, HookError, Left, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

DEFAULT_SLICE = "system.slice"
# The same for a user's own systemd (runc, docs/systemd.md; crun, src/libcrun/cgroup-systemd.c).
USER_SLICE = "user.slice"
MAX_NAME = 255
MAX_PATH = 3000


class Place:
    """A container's cgroup in one hierarchy: `base + path`, where `base` is what the runtime put
    before the cgroupsPath. Init is in it, or at `inner` below it, as delegated() says. All are
    paths as in /proc/PID/cgroup, without a slash at the end."""

    def __init__(self, hierarchy: str, base: str, path: str, inner: str = "") -> None:
        self.hierarchy = hierarchy
        self.base = base
        self.path = path
        self.inner = inner

    def cgroup(self) -> str:
        return self.base + self.path

    def with_path(self, path: str) -> "Place":
        return Place(self.hierarchy, self.base, path, self.inner)


def is_unit(cgroups_path: str) -> bool:
    """Whether a cgroupsPath has systemd's form, slice:prefix:name (runc, docs/systemd.md)."""
    return cgroups_path.count(":") == 2 and "/" not in cgroups_path


def default_path(id: str, membership: "dict[str, str]") -> str:
    """The cgroupsPath that the runtime took where config.json has none: the id, or a scope."""
    for cgroup in membership.values():
        for prefix in ("runc", "crun"):
            if f"/{prefix}-{id}.scope" in cgroup:
                return f":{prefix}:{id}"
    return id


def delegated(annotations: "dict[str, str]") -> str:
    """What crun puts init into, below the cgroup that it limits; "" for nothing (crun(1),
    run.oci.delegate-cgroup). The container has it to itself."""
    parts = annotations.get("run.oci.delegate-cgroup", "").split("/")
    return "".join("/" + part for part in parts if part not in ("", "."))


def own_places(cgroups_path: str, membership: "dict[str, str]", inner: str = "") -> "list[Place]":
    """The container's places in the hierarchies in which it has a cgroup of its own.

    inner: as delegated() says, if the runtime may be crun.
    A hierarchy in which it does not stand at its cgroupsPath was not the runtime's to set up,
    and would not be after a create elsewhere. If there is none at all, raises Left for a container
    that shares the cgroup of its runtime, which its engine has asked for, and Refused for one that
    has a cgroup elsewhere, as whoever asks for the container can arrange.
    """
    path = "/" + "/".join(part for part in cgroups_path.split("/") if part)
    places = []
    for hierarchy, cgroup in membership.items() if path != "/" else ():
        for rest in dict.fromkeys((inner, "")):
            if cgroup.endswith(path + rest):
                base = cgroup[: len(cgroup) - len(path + rest)]
                places.append(Place(hierarchy, base, path, rest))
                break
    if not places:
        raise _elsewhere(cgroups_path, membership)
    return places


def _elsewhere(cgroups_path: str, membership: "dict[str, str]") -> HookError:
    """The error for a container that is not at its cgroupsPath in any hierarchy."""
    where = sorted(set(membership.values()))
    if membership == hierarchies.membership(os.getpid()):
        return Left(f"its cgroup is not its own but that of its runtime, {where}")
    return Refused(f"its cgroup is not at its cgroupsPath {cgroups_path!r} but at {where}")


def in_scope(cgroups_path: str, membership: "dict[str, str]") -> bool:
    """Whether a container is under systemd's cgroup manager: its cgroupsPath has that form, and
    the runtime did not take it for a path."""
    return is_unit(cgroups_path) and any(
        scope_in(cgroup, cgroups_path) for cgroup in membership.values()
    )


def scope_in(cgroup: str, unit: str) -> "Optional[tuple[str, str]]":
    """The scope that slice:prefix:name stands for, and the rest of `cgroup` below it; None if
    `cgroup` is not in that scope.

    crun puts init into <scope>/container, or wherever below it annotations of the container say,
    so other parts of the path may look like a scope too.
    """
    slice, prefix, name = unit.split(":")
    base, default = _manager_of(cgroup)
    try:
        scope = f"{base}{expand(slice or default)}/{prefix}-{name}.scope"
    except Refused:  # on cgroupfs any name with two colons is one of a directory
        return None
    return (scope, cgroup[len(scope) :]) if (cgroup + "/").startswith(scope + "/") else None


def _manager_of(cgroup: str) -> "tuple[str, str]":
    """The cgroup that the systemd which manages `cgroup` begins at, and its default slice."""
    head, service, _ = cgroup.partition(".service/")  # /user.slice/user-1.slice/user@1.service
    if service and trust.in_user_namespace():
        return head + ".service", USER_SLICE
    return "", DEFAULT_SLICE


def expand(slice: str) -> str:
    """The cgroup of a slice: a-b.slice lies at /a.slice/a-b.slice (systemd.slice(5)).

    Raises Refused if it is not the name of a slice.
    """
    stem = slice[: -len(".slice")]
    parts = stem.split("-")
    if slice == "-.slice":
        return ""
    if not slice.endswith(".slice") or "/" in slice or "" in parts:
        raise Refused(f"{slice!r} is not the name of a slice, expected one as a-b.slice")
    return "".join(f"/{'-'.join(parts[: count + 1])}.slice" for count in range(len(parts)))


def beside(unit: str) -> str:
    """The slice:prefix:name of a scope that moves: its own is still loaded meanwhile."""
    slice, prefix, name = unit.split(":")
    return f"{slice}:{prefix}-nri:{name}"


def leaves_base(answer: str, cgroups_path: str) -> bool:
    """Whether an answer, as normal() gives it, is absolute although the container's own path is
    below a base that the runtime has chosen: runc's own cgroup, of the engine's choice."""
    return answer.startswith("/") and not cgroups_path.startswith("/")


def normal(answer: str, cgroups_path: str) -> "Optional[str]":
    """The answer as a cgroupsPath for this container, None if it is its own.

    A path that begins with a slash is absolute. One without stays relative only if the container's
    own is. Raises Refused where no container of this form could be put there.
    """
    if len(answer) > MAX_PATH:
        raise Refused(f"cgroupsPath {answer[:40]!r}... is longer than {MAX_PATH} characters")
    _check_own(cgroups_path)
    if is_unit(cgroups_path):
        return _normal_unit(answer, cgroups_path)
    if is_unit(answer):
        raise Refused(
            f"cgroupsPath {answer!r} has systemd's form, expected a path as {cgroups_path!r}",
            code=PATH_EXPECTED,
        )
    parts = [part for part in answer.split("/") if part]
    _check(answer, parts)
    is_absolute = answer.startswith("/") or cgroups_path.startswith("/")
    path = "/" * is_absolute + "/".join(parts)
    own = "/" * cgroups_path.startswith("/") + "/".join(p for p in cgroups_path.split("/") if p)
    return None if path == own else path


def _check_own(cgroups_path: str) -> None:
    """Raise Refused if the container's own path leads elsewhere than it reads: runc and crun take
    such parts differently."""
    for part in cgroups_path.split("/"):
        if part in (".", ".."):
            raise Refused(f"the container's own cgroupsPath {cgroups_path!r} has the part {part!r}")


def _normal_unit(answer: str, cgroups_path: str) -> "Optional[str]":
    if not is_unit(answer):
        raise Refused(
            f"cgroupsPath {answer!r} is a path, expected slice:prefix:name as {cgroups_path!r}",
            code=UNIT_EXPECTED,
        )
    slice, prefix, name = answer.split(":")
    _check(answer, [part for part in (slice, prefix, name) if part or part is name])
    return None if _explicit(answer) == _explicit(cgroups_path) else answer


def _explicit(unit: str) -> str:
    """A unit with the slice that the runtimes take where none is named."""
    return DEFAULT_SLICE + unit if unit.startswith(":") else unit


def _check(answer: str, parts: "list[str]") -> None:
    if not parts or "" in parts:
        raise Refused(f"cgroupsPath {answer!r} names the root, expected a cgroup below it")
    for part in parts:
        if part in (".", ".."):
            raise Refused(f"cgroupsPath {answer!r} has the part {part!r}, expected names only")
        if not part.isprintable() or len(part.encode("utf-8", "replace")) > MAX_NAME:
            raise Refused(
                f"cgroupsPath {answer!r}: a name must be printable and at most {MAX_NAME} bytes"
            )
