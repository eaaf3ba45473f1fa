"""precreate: a container that does not exist yet, of which podman gives the config.json alone, and
how it is placed: the runtime creates its cgroup where the config says."""

from nri_hook import strictjson, trust
from nri_hook.errors import HookError, Left
from nri_hook.hook import oci, payload, pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nri_hook.cgroups.plan import PlacementDocument
    from nri_hook.hook.creation import Ledger
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
        return NativePlacement(self)

    def rewrite(self, cgroups_path: str) -> None:
        """Put another linux.cgroupsPath into the config."""
        self.document["linux"]["cgroupsPath"] = cgroups_path
        self.config = strictjson.dumps(self.document)


class NativePlacement:
    """precreate: the runtime itself will make the cgroup, where the config says."""

    def __init__(self, draft: "Draft") -> None:
        # Before anything is changed, as what put() imports.
        from nri_hook.cgroups import cleanup

        self.draft = draft
        self.clean_up = cleanup.clean_up
        self.made: "list[PlacementDocument]" = []

    def put(self, path: str, leave_parent: bool, ledger: "Ledger") -> "dict[str, str]":
        """Write the path into the config, and make the parents that are missing. Raises Left,
        Refused or HookError."""
        from nri_hook.cgroups import parents

        if trust.in_user_namespace():
            raise Left("the hook runs in a user namespace (rootless), which may not make cgroups")
        found = parents.find(self.draft.cgroups_path, path, leave_parent)
        self.made = [found.document(ledger.name)]
        ledger.save()
        found.make(ledger.name, ledger.directory)
        self.made = [found.document(ledger.name)]
        self.draft.rewrite(path)
        return found.cgroups

    def take_back(self, deadline: float) -> "list[HookError]":
        """Remove the parents; what failed."""
        errors = [e for made in self.made for e in self.clean_up(made, deadline)]
        if not errors:
            self.made = []
        return errors

    def settle(self) -> "list[HookError]":
        """Nothing is held."""
        return []

    def document(self) -> "list[PlacementDocument]":
        return self.made


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
