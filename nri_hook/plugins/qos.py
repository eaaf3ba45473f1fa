"""qos: a cgroup, or a slice, for each class of containers. See docs/plugins/qos.md."""

import os
import time

from nri_hook import skel
from nri_hook.cgroups import controlfile, directories, hierarchies, paths
from nri_hook.cgroups.controls.group import Group
from nri_hook.cgroups.controls.home import Home
from nri_hook.cgroups.controls.weights import DEFAULT, LEAST, MOST
from nri_hook.errors import Left, NoControl
from nri_hook.skel_conf import Conf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")
PAGE = os.sysconf("SC_PAGE_SIZE")
MOST_BYTES = (1 << 63) - 1
# Setting -> its controller on v1 and v2.
CONTROLLERS = {
    "cpu.idle": ("cpu", "cpu"),
    "cpu.weight": ("cpu", "cpu"),
    "memory.min": ("memory", "memory"),
    "memory.low": ("memory", "memory"),
    "memory.high": ("memory", "memory"),
    "io.weight": ("blkio", "io"),
}
SECONDS = 5.0
PAUSE = 0.005


class Class:
    """A class and what its parent cgroup has. settings: file of v2 -> value as in Group."""

    def __init__(self, name: str, conf: Conf) -> None:
        self.name = name
        self.settings: "dict[str, Any]" = {}
        idle, weight = conf.flag("cpu.idle"), conf.number("cpu.weight", LEAST, MOST)
        if idle and weight is not None:
            raise skel.PluginError(f"conf: {conf.where}: an idle class has no cpu.weight")
        if idle:
            self.settings["cpu.idle"] = True
        elif idle is False or weight is not None:
            self.settings.update({"cpu.idle": False, "cpu.weight": weight or DEFAULT})
        for key in ("memory.min", "memory.low", "memory.high"):
            if conf.values.get(key) == "max" and key == "memory.high":
                self.settings[key] = None
            else:
                found = conf.number(key, 0, MOST_BYTES)
                if found is not None:  # the kernel knows whole pages
                    self.settings[key] = found // PAGE * PAGE
        io_weight = conf.number("io.weight", LEAST, MOST)
        if io_weight is not None:
            self.settings["io.weight"] = io_weight

    def controllers(self, version: int) -> "list[str]":
        """The controllers of its settings, as this version names them."""
        return sorted({CONTROLLERS[key][version - 1] for key in self.settings})

    def texts(self) -> "dict[str, str]":
        """The settings as the files of v2 have them."""
        found = {key: "max" if value is None else str(int(value or 0)) for key, value in self}
        if "io.weight" in found:
            found["io.weight"] = "default " + found["io.weight"]
        return found

    def __iter__(self) -> "Any":
        return iter(self.settings.items())


class Policy:
    """The conf: which class a container is of, and where that lies."""

    def __init__(self, value: "Any") -> None:
        """Raises PluginError."""
        conf = Conf(value, ("classes", "annotation", "prefix", "default", "unknown", "missing"))
        self.annotation = conf.text("annotation", "qos.class")
        self.prefix = conf.text("prefix", "qos-")
        if not _is_name(self.prefix.replace("-", "_")) or "--" in "-" + self.prefix:
            raise conf.wrong("prefix", "letters, digits and _, with - after them")
        names = conf.values.get("classes")
        if type(names) is not dict or not names or not all(map(_is_name, names)):
            raise conf.wrong("classes", "an object with names of letters, digits and _")
        self.classes = {
            name: Class(name, Conf(names[name], tuple(CONTROLLERS), f"/classes/{name}"))
            for name in names
        }
        self.default = self._class(conf, "default")
        self.unknown = self._class(conf, "unknown")
        self.ignores_missing = conf.text("missing", "fail") == "ignore"
        if conf.text("missing", "fail") not in ("fail", "ignore"):
            raise conf.wrong("missing", '"fail" or "ignore"')

    def class_of(self, annotations: "dict[str, str]") -> "Optional[Class]":
        """The class of a container, None where it has none."""
        name = annotations.get(self.annotation, "")
        if not name:
            return self.default
        found = self.classes.get(name, self.unknown)
        if found is None:
            raise skel.PluginError(
                f"annotation {self.annotation}: unknown class {name[:40]!r}, "
                f"expected {' or '.join(self.classes)}"
            )
        return found

    def parent(self, wanted: Class) -> str:
        """The name of its cgroup; that of its slice is the same with .slice."""
        return self.prefix + wanted.name

    def place(self, wanted: Class, cgroups_path: str) -> str:
        """Where a container of this class belongs, in the form of its own cgroupsPath.

        A path is absolute, also if the container's own is not: the class has one cgroup, and none
        below whatever whoever asks for the container has it begin at.
        """
        parent = self.parent(wanted)
        if paths.is_unit(cgroups_path):
            return ":".join([f"{parent}.slice", *cgroups_path.split(":")[1:]])
        parts = [part for part in cgroups_path.split("/") if part]
        if len(parts) > 1 and parts[0] in map(self.parent, self.classes.values()):
            parts = parts[1:]
        return "/" + "/".join([parent, *parts])

    def _class(self, conf: Conf, key: str) -> "Optional[Class]":
        name = conf.text(key)
        if name and name not in self.classes:
            raise conf.wrong(key, f"one of the classes {' or '.join(self.classes)}")
        return self.classes[name] if name else None


def invoke(request: skel.Request) -> skel.Result:
    result = request.new_result("qos")
    if request.state not in (skel.State.SETUP, skel.State.CREATE):
        return result
    policy = Policy(request.conf)
    wanted = policy.class_of(request.spec.annotations)
    path = request.spec.cgroups_path
    if wanted is None or not path:
        return result
    result.metadata["qos.class"] = wanted.name
    result.cgroups_path = policy.place(wanted, path)
    try:
        missing = _make_parent(policy, wanted, request)
    except Left:  # the hook comes to the same end, and says why
        missing = []
    if missing and not policy.ignores_missing:
        raise skel.PluginError(f'class {wanted.name}: {missing[0]}; "missing": "ignore" allows it')
    if missing:
        result.metadata["qos.missing"] = "; ".join(map(str, missing))
    return result


def _make_parent(policy: Policy, wanted: Class, request: skel.Request) -> "list[NoControl]":
    """Make what the containers of a class are in; what of its settings cannot be had.

    Raises Left where no container can be there.
    """
    path = request.spec.cgroups_path
    has_pid = request.pid is not None
    membership = hierarchies.membership(request.pid or os.getpid())
    mounted = hierarchies.mounted(membership)
    if paths.is_unit(path) and (not has_pid or paths.in_scope(path, membership)):
        if set(mounted) != {hierarchies.V2}:
            raise Left("systemd's cgroup manager is followed on cgroup v2 alone")
        return _make_slice(f"{policy.parent(wanted)}.slice", wanted, mounted[hierarchies.V2])
    if has_pid:
        inner = paths.delegated(request.spec.annotations)
        own = {place.hierarchy for place in paths.own_places(path, membership, inner)}
        if paths.is_unit(path):
            raise skel.PluginError(f"cgroupsPath {path!r} names a slice, but no systemd manages it")
        mounted = {name: hierarchy for name, hierarchy in mounted.items() if name in own}
    return _make_directories(f"/{policy.parent(wanted)}", wanted, mounted)


def _make_directories(
    path: str, wanted: Class, mounted: "dict[str, hierarchies.Hierarchy]"
) -> "list[NoControl]":
    """On cgroupfs: a directory in each of these hierarchies that has one of the controllers."""
    homes = {}
    for key, hierarchy in mounted.items():
        cgroup = hierarchy.absolute(path)
        controllers = wanted.controllers(2 if key == hierarchies.V2 else 1)
        if key == hierarchies.V2:
            root = controlfile.read(f"{hierarchy.mount}/cgroup.controllers").split()
            controllers = [c for c in controllers if c in root]
        if set(controllers) & set(key.split(",")) or (key == hierarchies.V2 and controllers):
            homes[key] = hierarchy, cgroup, controllers
    group = Group({key: Home(key, [h.directory(cgroup)]) for key, (h, cgroup, _) in homes.items()})
    for hierarchy, cgroup, controllers in homes.values():
        directories.keep(hierarchy, cgroup, controllers)
    return _set(group, wanted)


def _set(group: Group, wanted: Class) -> "list[NoControl]":
    missing = []
    for key, value in wanted:
        control = key.replace(".", "_")
        try:
            if getattr(group, control) != value:
                setattr(group, control, value)
        except NoControl as error:
            if value is not False:  # what cannot be idle is not
                missing.append(error)
    return missing


def _make_slice(slice: str, wanted: Class, hierarchy: "hierarchies.Hierarchy") -> "list[NoControl]":
    """Under systemd: start the slice, or correct what is otherwise than it should be."""
    from nri_hook.cgroups import systemd, unit_properties

    directory = hierarchy.directory(paths.expand(slice))
    root = controlfile.read(f"{hierarchy.mount}/cgroup.controllers").split()
    group = Group({hierarchies.V2: Home(hierarchies.V2, [directory])})
    wrong, missing = _compare(group, wanted, directory, root)
    if not wrong:
        return missing
    systemd.set_slice(slice, unit_properties.of(wanted.texts()), os.path.isdir(directory))
    deadline = time.monotonic() + SECONDS
    while wrong and time.monotonic() < deadline:
        time.sleep(PAUSE)
        wrong, missing = _compare(group, wanted, directory, root)
    if wrong:
        raise skel.PluginError(f"{directory}: systemd has not set {', '.join(wrong)}")
    return missing


def _compare(
    group: Group, wanted: Class, directory: str, root: "list[str]"
) -> "tuple[list[str], list[NoControl]]":
    """Which settings a slice has not, and those of them that it cannot have.

    root: the controllers of this machine: one that is enabled and lacks the file never has it.
    """
    if not os.path.isdir(directory):
        return ["its directory"], []
    enabled = controlfile.read(f"{directory}/cgroup.controllers").split()
    wrong, missing = [], []
    for key, value in wanted:
        controller = CONTROLLERS[key][1]
        try:
            if getattr(group, key.replace(".", "_")) != value:
                wrong.append(key)
        except NoControl as error:
            if controller in root and controller not in enabled:
                wrong.append(key)
            elif value is not False:
                missing.append(error)
    return wrong, missing


def _is_name(name: str) -> bool:
    return bool(name) and LETTERS.issuperset(name)


if __name__ == "__main__":
    skel.run(invoke, "qos")
