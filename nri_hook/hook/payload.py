"""NRI 0.1 on the wire: the Request a plugin gets, the Result it gives.

Two descriptions of 0.1 exist, the README (README-v0.1.0.md) and the Go types (types/v1) that
containerd ran. Requests are the union of both, results may have either form or a mix.
"""

from nri_hook import strictjson
from nri_hook.errors import BAD_ANSWER, HookError, invalid
from nri_hook.hook import oci

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from nri_hook.hook.pod import Sandbox

VERSION = "0.1"
STATES = ("setup", "create", "pause", "resume", "update", "delete")
# What an answer to a request without a pid may say that it is about.
NO_PIDS = (0, -1)
RESULT_KEYS = frozenset(
    ("version", "plugin", "error", "metadata", "state", "id", "pid", "cgroupsPath")
)
# The kernel's file below /proc/PID/ns, and the names under which a plugin looks for it: NRI's
# README uses the kernel's words, Go plugins those of the runtime-spec.
NAMESPACES = {
    "pid": ("pid", ("pid",)),
    "mount": ("mnt", ("mount",)),
    "network": ("net", ("net", "network")),
    "ipc": ("ipc", ("ipc",)),
    "uts": ("uts", ("uts",)),
    "user": ("user", ("user",)),
    "cgroup": ("cgroup", ("cgroup",)),
    "time": ("time", ("time",)),
}


def request(
    state: str,
    id: str,
    pid: "Optional[int]",
    spec: "dict[str, Any]",
    pod: "Optional[Sandbox]",
) -> "dict[str, Any]":
    """The Request that all plugins of a chain have in common, without `conf` and `results`.

    pid: None if there is no process; the key is absent then, since a plugin may signal whatever
    number it finds. spec: as spec() makes it. pod: None outside any pod.
    """
    document: "dict[str, Any]" = {
        "version": VERSION,
        "state": state,
        "id": id,
        "spec": spec,
    }
    if pid is not None:
        document["pid"] = pid
    if pod is not None:
        document["sandboxID"] = pod.id
        if pod.labels is not None:
            document["labels"] = pod.labels
    return document


def deletion(
    create: "dict[str, Any]", cgroupsPath: str, cgroups: "dict[str, str]"
) -> "dict[str, Any]":
    """The Request for `delete` after that for `create`: no process any more, the place where the
    container really was."""
    spec = dict(create["spec"], namespaces={}, cgroupsPath=cgroupsPath, cgroups=cgroups)
    request = dict(create, state="delete", spec=spec)
    request.pop("pid", None)
    return request


def spec(
    bundle: oci.Bundle, cgroups_path: str, cgroups: "dict[str, str]", pid: "Optional[int]"
) -> "dict[str, Any]":
    """The Spec of a container.

    cgroups_path: as config.json has it, or the runtime's default. cgroups: hierarchy -> absolute
    path of the container in it, as in /proc/PID/cgroup. pid: None if there is no process.
    Namespaces that config.json does not list are the host's and stay out.
    """
    namespaces = {}
    for kind in bundle.namespaces if pid is not None else ():
        file, names = NAMESPACES.get(kind, (None, ()))
        for name in names:
            namespaces[name] = f"/proc/{pid}/ns/{file}"
    return {
        "resources": bundle.resources,
        "cgroupsPath": cgroups_path,
        "cgroups": cgroups,
        "namespaces": namespaces,
        "annotations": bundle.annotations,
    }


def for_plugin(
    common: "dict[str, Any]", entry: "dict[str, Any]", results: "list[dict[str, Any]]"
) -> "dict[str, Any]":
    """The payload for one plugin: the common Request, its `conf` verbatim, the results so far."""
    document = dict(common, results=results)
    if "conf" in entry:
        document["conf"] = entry["conf"]
    return document


def read_result(output: bytes, plugin: str, common: "dict[str, Any]") -> "dict[str, Any]":
    """The Result that `plugin` printed, with `plugin` and `version` filled in, without nulls, its
    keys spelled as in RESULT_KEYS.

    Raises HookError where it is not well-formed or does not belong to the `common` Request.
    """
    try:
        document = strictjson.spell_keys(strictjson.loads(output), RESULT_KEYS)
    except strictjson.JSONError as error:
        raise HookError(str(error), plugin, "its answer", BAD_ANSWER) from None
    if not _well_formed(document):
        raise invalid("result", document, plugin, "its answer", BAD_ANSWER)
    result = {key: value for key, value in document.items() if value is not None}
    for key in ("id", "pid", "state"):
        expected = common.get(key)
        right = NO_PIDS if expected is None else (expected, "")
        if key in result and result[key] not in right:
            wanted = "none" if expected is None else repr(expected)
            raise HookError(
                f"/{key}: expected {wanted}, found {repr(result[key])[:60]}",
                plugin=plugin,
                path="its answer",
                code=BAD_ANSWER,
            )
    if not result.get("plugin"):
        result["plugin"] = plugin
    if not result.get("version"):
        result["version"] = VERSION
    return result


def _well_formed(document: "Any") -> bool:
    return (
        type(document) is dict
        and document.get("state") in (None, "", *STATES)
        and all(
            strictjson.is_string(document.get(key))
            for key in ("version", "plugin", "error", "id", "cgroupsPath")
        )
        and strictjson.is_integer(document.get("pid"))
        and strictjson.is_strings(document.get("metadata"))
    )
