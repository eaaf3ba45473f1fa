"""For authors of plugins: a function from a Request to a Result becomes an NRI 0.1 plugin.

    from nri_hook import skel

    def invoke(request):
        result = request.new_result("latency")
        if request.state == skel.State.CREATE:
            result.cgroups_path = f"/latency/{request.id}"
        return result

    if __name__ == "__main__":
        skel.run(invoke, "latency")

The same file is a hosted plugin of nri-hook (latency.py in a plugin directory) and, with a first
line that names an interpreter and the x bit, an executable one, under nri-hook as under containerd.
Names and meanings are those of NRI 0.1: README-v0.1.0.md, and the Go packages skel and types/v1.
Importing this module costs next to nothing, so a plugin of it does too.
"""

import os
import sys

from nri_hook import strictjson
from nri_hook.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional, Protocol, Union

    from nri_hook.cgroups.controls import Controls

    class Plugin(Protocol):
        """type: its name, that of its file. invoke: one call; an exception fails the container."""

        type: str

        def invoke(self, request: "Request") -> "Optional[Result]": ...


VERSION = "0.1"
MAX_PAYLOAD = 64 << 20
NO_PID = None
# The payload of a hosted plugin and what it says: the hook, of which it is a copy, had it decoded.
given: "Optional[tuple[bytes, dict[str, Any]]]" = None


class State:
    """What happens to the container. SETUP and CREATE ask for a place, DELETE comes at its end,
    also after a create that failed, and perhaps twice. No OCI hook brings the others."""

    SETUP = "setup"
    CREATE = "create"
    PAUSE = "pause"
    RESUME = "resume"
    UPDATE = "update"
    DELETE = "delete"


class PluginError(HookError):
    """The plugin cannot do what it is asked for. The message is one line for the log: what, where,
    what was expected."""


class Spec:
    """What the runtime knows of the container (Go: types.Spec).

    resources: linux.resources of config.json (runtime-spec, config-linux.md), {} if there are
    none. cgroups_path: linux.cgroupsPath, or where the runtime put it by default. cgroups:
    hierarchy as in /proc/PID/cgroup -> path of the container in it; {} where nobody told, as under
    containerd. namespaces: name -> its file in /proc/PID/ns. annotations: key -> value.
    """

    def __init__(self, document: "dict[str, Any]") -> None:
        self.resources: "dict[str, Any]" = _object(document, "spec/", "resources")
        self.cgroups_path: str = _text(document, "spec/", "cgroupsPath")
        self.cgroups: "dict[str, str]" = _strings(document, "spec/", "cgroups")
        self.namespaces: "dict[str, str]" = _strings(document, "spec/", "namespaces")
        self.annotations: "dict[str, str]" = _strings(document, "spec/", "annotations")


class Request:
    """One call of a plugin (Go: types.Request).

    version: "0.1". state: one of State. id: of the container. pid: of its first process in the
    caller's pid namespace, NO_PID (None) if there is no process. sandbox_id: of its pod, "" outside
    any. labels: of the pod. spec: a Spec. conf: this plugin's part of the host configuration, any
    JSON; None where there is none. results: of the plugins before, in order.
    """

    def __init__(self, document: "dict[str, Any]") -> None:
        """document: a decoded payload. Raises PluginError where it is none."""
        self.version: str = _text(document, "", "version")
        self.state: str = _text(document, "", "state")
        self.id: str = _text(document, "", "id")
        self.pid: "Optional[int]" = _pid(document)
        self.sandbox_id: str = _text(document, "", "sandboxID")
        self.labels: "dict[str, str]" = _strings(document, "", "labels")
        self.spec = Spec(_object(document, "", "spec"))
        self.conf: "Any" = document.get("conf")
        results = document.get("results")
        results = [] if results is None else results
        if type(results) is not list or not all(type(result) is dict for result in results):
            raise PluginError("the payload: /results: expected a list of objects")
        self.results = [Result.of(result) for result in results]

    @property
    def is_sandbox(self) -> bool:
        """Whether this is the sandbox of a pod, and no container in it."""
        return self.id == self.sandbox_id

    def new_result(self, plugin: str) -> "Result":
        """An empty Result of this plugin for this Request."""
        return Result(plugin, self.version)

    def controls(self) -> "Controls":
        """The container's own control files, by one name each. Raises HookError where it has no
        cgroup of its own, or none yet (State.SETUP)."""
        from nri_hook.cgroups.controls import Controls

        creating = self.state == State.CREATE
        spec = self.spec
        return Controls(spec.cgroups_path, spec.cgroups, self.pid, creating, spec.annotations)


class Result:
    """The answer of one plugin (Go: types.Result).

    plugin: its type. version: the Request's. error: why it failed, "" if it did not. metadata: key
    -> value, for the plugins after this one. cgroups_path: where the container shall be, in the
    form of spec.cgroups_path; "" is no opinion. It counts in State.SETUP and State.CREATE, and
    containerd passes over it.
    """

    def __init__(
        self,
        plugin: str,
        version: str = VERSION,
        error: str = "",
        metadata: "Optional[dict[str, str]]" = None,
        cgroups_path: str = "",
    ) -> None:
        self.plugin = plugin
        self.version = version
        self.error = error
        self.metadata: "dict[str, str]" = metadata or {}
        self.cgroups_path = cgroups_path

    @classmethod
    def of(cls, document: "dict[str, Any]") -> "Result":
        """The Result in a decoded answer. Raises PluginError."""
        return cls(
            _text(document, "results/", "plugin"),
            _text(document, "results/", "version"),
            _text(document, "results/", "error"),
            _strings(document, "results/", "metadata"),
            _text(document, "results/", "cgroupsPath"),
        )

    def document(self) -> "dict[str, Any]":
        """It as JSON has it."""
        document: "dict[str, Any]" = {
            "plugin": self.plugin,
            "version": self.version,
            "error": self.error,
            "metadata": self.metadata,
        }
        if self.cgroups_path:
            document["cgroupsPath"] = self.cgroups_path
        return document


def run(
    plugin: "Union[Plugin, Callable[[Request], Optional[Result]]]", type: "Optional[str]" = None
) -> None:
    """Answer the one call that this process was started for.

    plugin: an object with `type` and `invoke`, or a function in place of `invoke`. type: its name;
    without one the plugin's own, or that of its file. A plugin that returns None has nothing to
    say; what it raises becomes the `error` of its answer. What it prints goes to stderr.
    """
    invoke = getattr(plugin, "invoke", plugin)
    name = type or getattr(plugin, "type", "") or _file_name()
    sys.stdout = sys.stderr  # a forgotten print() must not spoil the answer
    _write(strictjson.dumps(_answer(invoke, name, sys.argv[1:]).document()) + b"\n")


def _answer(invoke: "Any", name: str, arguments: "list[str]") -> Result:
    answer = Result(name)
    try:
        request = _read_request()
        answer = request.new_result(name)
        if arguments != ["invoke"]:
            raise PluginError(f"called with {arguments}, expected ['invoke']")
        found = invoke(request)
        if found is not None:
            if not isinstance(found, Result):
                raise PluginError(f"returned {found!r}, expected a Result or None")
            strictjson.dumps(found.document())
            answer = found
    except HookError as error:
        answer.error = str(error)
    except Exception as error:
        sys.excepthook(*sys.exc_info())
        answer.error = f"{error.__class__.__name__}: {error}"
    return answer


def _read_request() -> Request:
    try:
        data = strictjson.read(0, MAX_PAYLOAD)
        document = given[1] if given and given[0] == data else strictjson.loads(data)
    except (strictjson.JSONError, OSError) as error:
        raise PluginError(f"the payload on stdin: {error}") from None
    if not isinstance(document, dict):
        raise PluginError("the payload on stdin: expected an object")
    return Request(document)


def _write(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(1, rest) :]


def _file_name() -> str:
    name = os.path.basename(sys.argv[0])
    return name[: -len(".py")] if name.endswith(".py") else name


def _text(document: "dict[str, Any]", where: str, key: str) -> str:
    """The string under `key`, "" if it is absent or null, as Go has it."""
    value = document.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise PluginError(f"the payload: /{where}{key}: expected a string, found {value!r}")
    return value


def _pid(document: "dict[str, Any]") -> "Optional[int]":
    """The pid, NO_PID if there is no process: NRI 0.1's README says -1 then, Go leaves it out."""
    value = document.get("pid")
    if value is not None and type(value) is not int:
        raise PluginError(f"the payload: /pid: expected an integer, found {value!r}")
    return value if value and value > 0 else NO_PID


def _object(document: "dict[str, Any]", where: str, key: str) -> "dict[str, Any]":
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise PluginError(f"the payload: /{where}{key}: expected an object, found {value!r}")
    return value


def _strings(document: "dict[str, Any]", where: str, key: str) -> "dict[str, str]":
    found = _object(document, where, key)
    return {name: _text(found, f"{where}{key}/", name) for name in found}
