"""Where a container is and where an answer wants it: the names, before any folder is touched."""

from nri_hook.errors import Left, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

DEFAULT_SLICE = "system.slice"
MAX_NAME = 255
MAX_PATH = 3000


class Place:
    """A container's cgroup in one hierarchy: `base + path`, where `base` is what the runtime put
    before the cgroupsPath. Both are paths as in /proc/PID/cgroup, without a slash at the end."""

    def __init__(self, hierarchy: str, base: str, path: str) -> None:
        self.hierarchy = hierarchy
        self.base = base
        self.path = path

    def cgroup(self) -> str:
        return self.base + self.path

    def with_path(self, path: str) -> "Place":
        return Place(self.hierarchy, self.base, path)


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


def own_places(cgroups_path: str, membership: "dict[str, str]") -> "list[Place]":
    """The container's places in the hierarchies in which it has a cgroup of its own.

    A hierarchy in which it does not stand at its cgroupsPath was not the runtime's to set up,
    and would not be after a create elsewhere. Raises Left where there is none at all.
    """
    path = "/" + "/".join(part for part in cgroups_path.split("/") if part)
    places = [
        Place(hierarchy, cgroup[: -len(path)], path)
        for hierarchy, cgroup in membership.items()
        if path != "/" and cgroup.endswith(path)
    ]
    if not places:
        where = sorted(set(membership.values()))
        raise Left(f"its cgroup is not its own: {cgroups_path!r} is not where it is, {where}")
    return places


def in_scope(cgroups_path: str, membership: "dict[str, str]") -> bool:
    """Whether a container is under systemd's cgroup manager: its cgroupsPath has that form, and
    the runtime did not take it for a path."""
    return is_unit(cgroups_path) and any(
        part.endswith(".scope") for cgroup in membership.values() for part in cgroup.split("/")
    )


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
    if is_unit(cgroups_path):
        return _normal_unit(answer, cgroups_path)
    if is_unit(answer):
        raise Refused(
            f"cgroupsPath {answer!r} has systemd's form, expected a path as {cgroups_path!r}"
        )
    parts = [part for part in answer.split("/") if part]
    _check(answer, parts)
    is_absolute = answer.startswith("/") or cgroups_path.startswith("/")
    path = "/" * is_absolute + "/".join(parts)
    own = "/" * cgroups_path.startswith("/") + "/".join(p for p in cgroups_path.split("/") if p)
    return None if path == own else path


def _normal_unit(answer: str, cgroups_path: str) -> "Optional[str]":
    if not is_unit(answer):
        raise Refused(
            f"cgroupsPath {answer!r} is a path, expected slice:prefix:name as {cgroups_path!r}"
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
