"""What the runtime hands us: the state on stdin, and the bundle's config.json."""

import os

from nri_hook import strictjson
from nri_hook.errors import HookError, invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

MAX_CONFIG = 16 << 20
STATE = "the state on stdin"
STORAGE = "/var/lib/containers/storage"
ID = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+.-")


class State:
    """The state of a container (runtime-spec, runtime.md, "State") as a hook gets it.

    id: unique within one runtime root. pid: of the container's first process in our pid
    namespace, or 0 where there is none (runc leaves the key out, crun writes 0). bundle:
    absolute, may be wrong (crun sends / at times). root: crun's word for where the rootfs really
    is, "" from others.
    """

    def __init__(self, id: str, pid: int, bundle: str, root: str) -> None:
        self.id = id
        self.pid = pid
        self.bundle = bundle
        self.root = root


def read_state(data: bytes) -> State:
    """Read the state. Raises HookError."""
    try:
        document = strictjson.loads(data)
    except strictjson.JSONError as error:
        raise HookError(str(error), path=STATE) from None
    if not _state_well_formed(document):
        raise invalid("state", document, path=STATE)
    return State(
        document["id"],
        int(document.get("pid") or 0),
        document.get("bundle") or document.get("bundlePath") or "",
        document.get("root") or "",
    )


def _state_well_formed(document: "Any") -> bool:
    return (
        type(document) is dict
        and is_id(document.get("id"))
        and strictjson.is_integer(document.get("pid"), 0)
        and all(strictjson.is_string(document.get(k)) for k in ("bundle", "bundlePath"))
        and all(strictjson.is_string(document.get(k)) for k in ("ociVersion", "status", "root"))
        and strictjson.is_strings(document.get("annotations"))
    )


class Bundle:
    """The parts of config.json (runtime-spec, config.md and config-linux.md) that we read.

    directory: where it lies. rootfs: root.path. cgroups_path: linux.cgroupsPath. Both are "" where
    there is none. resources: linux.resources. namespaces: type -> path, "" for one that the
    runtime makes.
    """

    def __init__(self, directory: str, document: "dict[str, Any]") -> None:
        linux = document["linux"]
        self.document = document
        self.directory = directory
        self.rootfs: str = (document.get("root") or {}).get("path") or ""
        self.annotations = strictjson.strings(document.get("annotations"))
        self.cgroups_path: str = linux.get("cgroupsPath") or ""
        self.resources: "dict[str, Any]" = linux.get("resources") or {}
        self.namespaces: "dict[str, str]" = {
            namespace["type"]: namespace.get("path") or ""
            for namespace in linux.get("namespaces") or []
        }

    def has_own(self, kind: str) -> bool:
        """Whether the runtime makes a namespace of this kind for the container; given another one
        too, crun joins that first."""
        listed = self.document["linux"].get("namespaces") or []
        return any(each["type"] == kind and not each.get("path") for each in listed)

    def may_administer(self, runtime: str) -> bool:
        """Whether a process of the container may come to have CAP_SYS_ADMIN. runtime: its name.

        libcap, and so crun, takes a capability's name in any case, or its number. Of a process
        without capabilities runc 1.3 and later takes none away, crun takes all.
        """
        process = self.document.get("process")
        sets = process.get("capabilities") if type(process) is dict else None
        if type(sets) is not dict:
            return runtime != "crun"
        return any(
            type(name) is not str or name.upper() == "CAP_SYS_ADMIN" or name[:1].isdigit()
            for names in sets.values()
            for name in (names if type(names) is list else [])
        )

    def cgroup_mounts(self) -> "dict[str, list[str]]":
        """Destination -> options of the cgroup mounts."""
        return {
            destination: options
            for kind, destination, options in self._mounts()
            if kind in ("cgroup", "cgroup2")
        }

    def options_at(self, destination: str) -> "list[list[str]]":
        """The options of each mount at a destination."""
        return [options for _, found, options in self._mounts() if found == destination]

    def _mounts(self) -> "list[tuple[str, str, list[str]]]":
        """Type, destination and options of the mounts. What has another shape is the runtime's to
        refuse, and is ignored here."""
        found = []
        mounts = self.document.get("mounts")
        for mount in mounts if type(mounts) is list else []:
            if type(mount) is dict:
                destination, options = mount.get("destination"), mount.get("options") or []
                if type(destination) is str and type(options) is list:
                    path = os.path.normpath("/" + destination.lstrip("/"))
                    texts = [option for option in options if type(option) is str]
                    found.append((str(mount.get("type") or ""), path, texts))
        return found

    def denied_devices(self) -> "list[str]":
        """What a device list that starts from "all allowed" takes away, as lines of devices.deny.

        A cgroup v1 that allows everything but something does not show the exceptions
        (kernel, cgroup-v1/devices.rst), so they can only come from here.
        """
        everything = False
        denied: "dict[str, None]" = {}  # a set in order: the last rule of a line is the one
        for rule in self.resources.get("devices") or []:
            kind = rule.get("type") or "a"
            major, minor = (_number(rule.get(key)) for key in ("major", "minor"))
            if kind == "a":
                everything, denied = bool(rule.get("allow")), {}
            elif everything:
                line = f"{kind} {major}:{minor} {rule.get('access') or 'rwm'}"
                denied.pop(line, None)
                if not rule.get("allow"):
                    denied[line] = None
        return list(denied)

    def asked_settings(self) -> "set[str]":
        """The cgroup v1 files that a child has from its parent but for what is asked here."""
        cpu, memory = (self.resources.get(key) or {} for key in ("cpu", "memory"))
        asked = {
            "cpuset.cpus": cpu.get("cpus"),
            "cpuset.mems": cpu.get("mems"),
            "memory.swappiness": memory.get("swappiness") is not None,
            "memory.oom_control": memory.get("disableOOMKiller"),
        }
        return {file for file, value in asked.items() if value}


def _number(value: "Optional[int]") -> str:
    return "*" if value is None or value < 0 else str(int(value))


def load_bundle(state: State, runtime_root: str) -> Bundle:
    """Read the config.json of the container's bundle. Raises HookError.

    crun with a user namespace may send "/" as the bundle (containers/crun#2025). It keeps a copy
    below its `runtime_root`, and podman keeps the bundle in its storage: these serve then.
    """
    first = os.path.join(state.bundle or "/", "config.json")
    document = read_config(first)
    if document is not None:
        return Bundle(state.bundle, document)
    for directory in (os.path.join(runtime_root, state.id), *stored_bundles(state.id)):
        document = read_config(os.path.join(directory, "config.json"))
        if document is not None:
            return Bundle(directory, document)
    raise HookError("there is no config.json in the bundle", path=first)


def stored_bundles(id: str) -> "list[str]":
    """Where podman and CRI-O may keep the bundle of a container."""
    try:
        drivers = sorted(n for n in os.listdir(STORAGE) if n.endswith("-containers"))
    except OSError:
        drivers = []
    return [os.path.join(STORAGE, driver, id, "userdata") for driver in drivers]


def read_config(path: str) -> "Optional[dict[str, Any]]":
    """The checked document of a config.json, or None where there is no such file.

    Raises HookError.
    """
    try:
        # O_NONBLOCK: a fifo in the place of the file must not hold the hook.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise HookError(error.strerror or "cannot be opened", path=path) from None
    except ValueError:  # a NUL or half a surrogate pair in it
        raise HookError("is not a path", path=path) from None
    try:
        data = strictjson.read(fd, MAX_CONFIG)
    except strictjson.JSONError as error:
        raise HookError(str(error), path=path) from None
    except OSError as error:
        raise HookError(error.strerror or "cannot be read", path=path) from None
    finally:
        os.close(fd)
    return parse_config(data, path)


def parse_config(data: bytes, path: str) -> "dict[str, Any]":
    """The checked document in the bytes of a config.json; `path` says where they are from.

    Raises HookError.
    """
    try:
        document = strictjson.loads(data)
    except strictjson.JSONError as error:
        raise HookError(str(error), path=path) from None
    return check_config(document, path)


def check_config(document: "Any", path: str) -> "dict[str, Any]":
    """The decoded document of a config.json, if it is one. Raises HookError."""
    if not _config_well_formed(document):
        raise invalid("config", document, path=path)
    checked: "dict[str, Any]" = document
    return checked


def _config_well_formed(document: "Any") -> bool:
    if type(document) is not dict or not strictjson.is_strings(document.get("annotations")):
        return False
    root, linux = document.get("root"), document.get("linux")
    if root is not None and not (type(root) is dict and strictjson.is_string(root.get("path"))):
        return False
    if type(linux) is not dict or not strictjson.is_string(linux.get("cgroupsPath")):
        return False
    resources, namespaces = linux.get("resources"), linux.get("namespaces")
    if resources is not None and not _resources_well_formed(resources):
        return False
    return namespaces is None or (
        type(namespaces) is list and all(_namespace_well_formed(n) for n in namespaces)
    )


def _resources_well_formed(resources: "Any") -> bool:
    if type(resources) is not dict:
        return False
    devices = resources.get("devices")
    return devices is None or (
        type(devices) is list
        and all(
            type(rule) is dict
            and type(rule.get("allow")) in (type(None), bool)
            and strictjson.is_string(rule.get("type"))
            and strictjson.is_string(rule.get("access"))
            and strictjson.is_integer(rule.get("major"))
            and strictjson.is_integer(rule.get("minor"))
            for rule in devices
        )
    )


def _namespace_well_formed(namespace: "Any") -> bool:
    return (
        type(namespace) is dict
        and type(namespace.get("type")) is str
        and strictjson.is_string(namespace.get("path"))
    )


def is_id(value: "Any") -> bool:
    """Whether `value` may be a container's id: what runc takes, which is not a path."""
    return type(value) is str and value not in ("", ".", "..") and all(c in ID for c in value)
