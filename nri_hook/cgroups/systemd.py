"""systemd's cgroup manager on v2: a container lives in a scope of its own, a unit and no directory.

A scope is started with a child of ours in it, because systemd removes a scope the moment that it
is empty, and because init may move only once the limits stand. Limits go in as properties of the
unit where there are such: what was only written to files, a daemon-reload takes back.

systemd is spoken to through busctl, which comes with it. A D-Bus library would have to be
imported by the hook (jeepney: three times the interpreter's own start), and one more dependency.
Sources: org.freedesktop.systemd1(5), systemd.resource-control(5), CGROUP_DELEGATION.md; for
slice:prefix:name runc, docs/systemd.md.
"""

import _signal  # type: ignore[import-not-found]
import os
import time

from nri_hook import spawn, strictjson
from nri_hook.cgroups import controlfile, hierarchies, members, paths, unit_properties
from nri_hook.errors import HookError, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

BUSCTL = "/usr/bin/busctl"
MANAGER = (
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
)
SECONDS = 10.0
PAUSE = 0.005
PAGE = os.sysconf("SC_PAGE_SIZE")
# Properties of the old scope that no control file shows.
COPIED = (
    "CPUAccounting",
    "DeviceAllow",
    "DevicePolicy",
    "FinalKillSignal",
    "IOAccounting",
    "IPAccounting",
    "KillMode",
    "KillSignal",
    "ManagedOOMMemoryPressure",
    "ManagedOOMMemoryPressureLimit",
    "ManagedOOMPreference",
    "ManagedOOMSwap",
    "MemoryAccounting",
    "OOMPolicy",
    "RuntimeMaxUSec",
    "SendSIGHUP",
    "SendSIGKILL",
    "TasksAccounting",
    "TimeoutStopUSec",
)
# The same for lists, which are empty where nobody asked for one.
COPIED_LISTS = (
    "IPAddressAllow",
    "IPAddressDeny",
    "IPEgressFilterPath",
    "IPIngressFilterPath",
    "SocketBindAllow",
    "SocketBindDeny",
)


class Unit:
    """The scope of a container. slice, prefix, name: the parts of slice:prefix:name; the unit is
    <prefix>-<name>.scope. cgroup: its path as in /proc/PID/cgroup."""

    def __init__(self, slice: str, prefix: str, name: str) -> None:
        self.slice = slice
        self.prefix = prefix
        self.name = name
        self.scope = f"{prefix}-{name}.scope"
        self.cgroup = f"{paths.expand(slice)}/{self.scope}"

    @classmethod
    def named(cls, unit: str) -> "Unit":
        """The one that slice:prefix:name stands for. Raises Refused."""
        slice, prefix, name = unit.split(":")
        return cls(slice or paths.DEFAULT_SLICE, prefix, name)


class Holder:
    """A child of ours that keeps a cgroup from being empty until it is released, or we end."""

    def __init__(self) -> None:
        read, self.pipe = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                # Nothing else stays open here: not the other holder's pipe, nor the runtime's.
                os.dup2(read, 0)
                os.closerange(1, max(map(int, os.listdir("/proc/self/fd"))) + 1)
                os.read(0, 1)
            finally:  # an interrupt too, which is our parent's to deal with
                os._exit(0)
        os.close(read)

    def release(self) -> None:
        os.close(self.pipe)
        os.kill(self.pid, _signal.SIGKILL)
        os.waitpid(self.pid, 0)


def target(answer: str, present: str) -> Unit:
    """The unit that `answer` asks for; `present` is the name of the container's scope, which is
    still loaded while it moves. Raises Refused."""
    unit = Unit.named(answer)
    return unit if unit.scope != present else Unit.named(paths.beside(answer))


def start(
    unit: Unit,
    holder: Holder,
    known: "dict[str, Any]",
    settings: "dict[str, str]",
    pins: "list[tuple[str, str]]",
) -> None:
    """Start the scope with `holder` in it and wait until it is there.

    known: the properties() of the container's present scope. settings: of its cgroup, file ->
    text, which become properties where there are such. pins: as pins() gives them, made by now.
    Raises Refused or HookError.
    """
    wanted: "dict[str, tuple[str, Any]]" = {
        "Description": ("s", f"container {unit.name}, moved by nri-hook"),
        "Slice": ("s", unit.slice),
        "Delegate": ("b", True),
        "DefaultDependencies": ("b", False),
        "CollectMode": ("s", "inactive-or-failed"),
        "PIDs": ("au", [holder.pid]),
    }
    for name in COPIED:
        if name in known:
            data = known[name]["data"]
            # systemd puts each entry of this list before those that it has.
            data = data[::-1] if name == "DeviceAllow" else data
            wanted[name] = known[name]["type"], data
    for name in COPIED_LISTS:
        if name in known and known[name]["data"]:
            wanted[name] = known[name]["type"], known[name]["data"]
    for name, (kind, value) in unit_properties.limits(settings).items():
        if name in known:
            set_before = known[name]["data"]
            # The kernel rounds bytes down to a page; the unit knows what was asked for.
            same = name.startswith("Memory") and set_before // PAGE * PAGE == value
            wanted[name] = kind, set_before if same else value
    if pins:
        wanted["BPFProgram"] = "a(ss)", [["device", new] for _, new in pins]
    words = [unit.scope, "fail", *_property_words(wanted)]
    _call(*MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", *words, "0")
    deadline = time.monotonic() + SECONDS
    while hierarchies.membership(holder.pid)[hierarchies.V2] != unit.cgroup:
        if time.monotonic() > deadline:
            raise HookError(f"systemd did not start {unit.scope} within {SECONDS:g} s")
        time.sleep(PAUSE)


def set_properties(unit: str, wanted: "dict[str, tuple[str, Any]]") -> None:
    """Set properties of a loaded unit until the next boot. Raises Refused."""
    words = _property_words(wanted)
    _call(*MANAGER, "SetUnitProperties", "sba(sv)", unit, "true", *words)


def set_slice(slice: str, wanted: "dict[str, tuple[str, Any]]", is_there: bool) -> None:
    """Start a slice with these properties, or give them to one that is there. Raises Refused."""
    if not is_there:
        try:
            words = [slice, "fail", *_property_words(wanted)]
            _call(*MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", *words, "0")
            return
        except Refused:  # it has a unit file, or another one has just started it
            _call(*MANAGER, "StartUnit", "ss", slice, "replace")
    # A slice that runs would take the call above, and pass over the properties.
    set_properties(slice, wanted)


def wait_gone(directory: str, deadline: float, by_force: bool) -> "Optional[HookError]":
    """Wait for systemd to remove a scope that has become empty; what is wrong where it stays.

    by_force: whether the processes in it are killed.
    """
    while os.path.isdir(directory):
        if by_force:
            members.kill(directory)
        if time.monotonic() > deadline:
            try:
                processes = controlfile.read(f"{directory}/cgroup.procs").split()
            except OSError:
                processes = []
            return HookError(f"is still there, with processes {processes}", path=directory)
        time.sleep(PAUSE)
    return None


def pins(unit: Unit, present: str, known: "dict[str, Any]") -> "list[tuple[str, str]]":
    """(old, new) paths of the device programs that crun has pinned for its scope: it finds them
    by the scope's name, with _ for each dot (crun, src/libcrun/cgroup-systemd.c)."""
    old, new = present.replace(".", "_"), unit.scope.replace(".", "_")
    paths = [path for kind, path in known.get("BPFProgram", {}).get("data", []) if kind == "device"]
    return [
        (path, os.path.join(os.path.dirname(path), new))
        for path in paths
        if os.path.basename(path) == old
    ]


def properties(scope: str) -> "dict[str, Any]":
    """Name -> {"type", "data"} of all that systemd knows of a scope."""
    path = _call(*MANAGER, "GetUnit", "s", scope)["data"][0]
    answer = _call(
        MANAGER[0],
        path,
        "org.freedesktop.DBus.Properties",
        "GetAll",
        "s",
        "org.freedesktop.systemd1.Scope",
    )
    found: "dict[str, Any]" = answer["data"][0]
    return found


def _call(*words: str) -> "Any":
    """One D-Bus call; its answer as busctl's JSON. Raises Refused."""
    argv = [BUSCTL, "--system", "--json=short", "call", *words]
    outcome = spawn.run(BUSCTL, argv, b"", time.monotonic() + SECONDS)
    if outcome.status != 0:
        reason = outcome.errors.decode("utf-8", "replace").strip() or f"status {outcome.status}"
        raise Refused(f"systemd: {words[3]}: {reason}")
    return strictjson.loads(outcome.output) if outcome.output.strip() else {}


def _property_words(wanted: "dict[str, tuple[str, Any]]") -> "list[str]":
    """Properties, as unit_properties.py gives them, as words for busctl: a(sv)."""
    words = [str(len(wanted))]
    for name, (kind, value) in wanted.items():
        words += [name, kind, *_words(kind, value)]
    return words


def _words(kind: str, value: "Any") -> "list[str]":
    """A D-Bus value as words for busctl(1)."""
    if kind.startswith("a"):
        return [str(len(value)), *(word for item in value for word in _words(kind[1:], item))]
    if kind.startswith("("):
        pairs = zip(_types(kind[1:-1]), value)
        return [word for part, item in pairs for word in _words(part, item)]
    return [("true" if value else "false") if kind == "b" else str(value)]


def _types(signature: str) -> "list[str]":
    """The types that a D-Bus signature is made of (D-Bus specification, type system)."""
    found, begin = [], 0
    for end, letter in enumerate(signature, 1):
        part = signature[begin:end]
        if letter != "a" and part.count("(") == part.count(")"):
            found.append(part)
            begin = end
    return found
