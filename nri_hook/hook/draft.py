"""A container that is not there yet: podman's precreate has its config.json on stdin, no more."""

from nri_hook import strictjson
from nri_hook.errors import HookError
from nri_hook.hook import oci, payload, pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nri_hook.hook.movers import NativePlacement
    from nri_hook.hook.record import RecordDocument


class Draft:
    """The config of a container, which precreate may change.

    config: the bytes that podman sent; rewritten() what it gets back. cgroups_path:
    linux.cgroupsPath. membership: none, since there is no process.
    """

    def __init__(self, config: bytes) -> None:
        """Raises HookError."""
        self.config = config
        self.document = oci.parse_config(config, "the config on stdin")
        self.bundle = oci.Bundle("", self.document)
        self.cgroups_path = self.bundle.cgroups_path
        self.id = _id(self.cgroups_path) if self.cgroups_path else ""
        self.membership: "dict[str, str]" = {}

    def identity(self) -> "RecordDocument":
        """The part of the record that says whose it is; nobody's yet."""
        return {
            "id": self.id,
            "runtime": "",
            "runtimeRoot": "",
            "creator": {"pid": 0, "start": 0},
            "bundle": "",
            "pid": 0,
            "start": 0,
        }

    def request(self) -> "dict[str, Any]":
        """The Request for its setup. Raises HookError."""
        spec = payload.spec(self.bundle, self.cgroups_path, {}, None)
        found = pod.find(self.id, self.bundle)
        return payload.request("setup", self.id, None, spec, found)

    def mover(self) -> "NativePlacement":
        """What puts it elsewhere."""
        from nri_hook.hook.movers import NativePlacement

        return NativePlacement(self)

    def rewrite(self, cgroups_path: str) -> None:
        """Put another linux.cgroupsPath into the config."""
        self.document["linux"]["cgroupsPath"] = cgroups_path
        self.config = strictjson.dumps(self.document)


def _id(cgroups_path: str) -> str:
    """The id of podman's container, of which precreate is told no more than this path:
    /libpod_parent/libpod-ID, machine.slice:libpod:ID, or .../libpod-payload-ID with
    --cgroups=split. Raises HookError."""
    last = cgroups_path.replace(":", "/").rpartition("/")[2]
    for prefix in ("libpod-payload-", "libpod-"):
        if last.startswith(prefix):
            last = last[len(prefix) :]
            break
    if last.endswith(".scope"):
        last = last[: -len(".scope")]
    if not oci.is_id(last):
        raise HookError(f"/linux/cgroupsPath {cgroups_path!r} ends in no container id")
    return last
