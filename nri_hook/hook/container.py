"""The container that is being created, as far as the runtime and the kernel tell."""

import os

from nri_hook import procfs, trust
from nri_hook.cgroups import hierarchies
from nri_hook.errors import HookError, Left, Refused
from nri_hook.hook import oci, payload, runtimes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from nri_hook.cgroups.plan import Placement, PlacementDocument
    from nri_hook.hook.creation import Ledger
    from nri_hook.hook.record import RecordDocument

# What the annotations of an engine that knows pods begin with.
POD = "io.kubernetes.cri"
# What CRI-O's high-performance hooks set in a container's cgroup, between create and start, begins
# with. CRI-O drops these annotations unless the runtime's allowed_annotations name them.
HIGH_PERFORMANCE = ("cpu-load-balancing.crio.io", "cpu-quota.crio.io", "cpu-shared.crio.io/")


class Container:
    """A container between create and start.

    caller: the runtime. init: its first process. membership: hierarchy -> cgroup of init, as in
    /proc/PID/cgroup. cgroups_path: of config.json, or the runtime's default.
    """

    def __init__(self, state: oci.State) -> None:
        """Raises HookError."""
        self.caller = runtimes.caller()
        self.id = state.id
        self.told_bundle = state.bundle
        self.init = procfs.Init(state.pid)
        self.bundle = oci.load_bundle(state, self.caller.root)
        self.membership = hierarchies.membership(state.pid)
        self.cgroups_path = self.bundle.cgroups_path or self._default_path()
        self._root = os.path.join(self.bundle.directory, state.root or self.bundle.rootfs)
        try:
            is_path = b"\0" not in os.fsencode(self._root)
        except ValueError:  # half a surrogate pair in it
            is_path = False
        if not is_path:
            raise HookError("is not a path", path=self._root)

    def rootfs(self) -> str:
        """Its absolute path, without links."""
        return os.path.realpath(self._root)

    def _default_path(self) -> str:
        from nri_hook.cgroups import paths

        return paths.default_path(self.id, self.membership)

    def delegated(self) -> str:
        """Where below its cgroup init is; see paths.delegated()."""
        from nri_hook.cgroups import paths

        return paths.delegated(self.bundle.annotations) if self.caller.name == "crun" else ""

    def request(self) -> "dict[str, Any]":
        """The Request for its creation. Raises HookError."""
        found = None
        if any(key.startswith(POD) for key in self.bundle.annotations):
            from nri_hook.hook import pod

            found = pod.find(self.id, self.bundle)
        spec = payload.spec(self.bundle, self.cgroups_path, self.membership, self.init.pid)
        return payload.request("create", self.id, self.init.pid, spec, found)

    def identity(self) -> "RecordDocument":
        """The part of the record that says whose it is. A bundle that the runtime did not tell
        is none."""
        return {
            "id": self.id,
            "runtime": self.caller.name,
            "runtimeRoot": self.caller.root,
            "creator": {"pid": self.caller.pid, "start": procfs.start_time(self.caller.pid)},
            "bundle": self.bundle.directory if self.bundle.directory == self.told_bundle else "",
            "pid": self.init.pid,
            "start": self.init.start,
            "privatePids": self.bundle.has_own("pid"),
        }

    def is_of(self, document: "RecordDocument") -> bool:
        """Whether a record is of this very container, and not of a former one of its id."""
        return (document.get("pid"), document.get("start")) == (self.init.pid, self.init.start)

    def mover(self) -> "LiveMove":
        """What moves it."""
        return LiveMove(self)

    def check_movable(self) -> None:
        """Raise Left where the runtime could not follow a move, Refused where CRI-O could not,
        HookError where init has ended."""
        if not self.caller.name:
            raise Left(f"the hook's parent is not runc or crun but {self.caller.comm!r}")
        if not self.caller.root:
            raise Left(f"{self.caller.name} was called with a --root that is not absolute")
        if trust.in_user_namespace():
            raise Left("the hook runs in a user namespace (rootless), which may not move processes")
        if self.caller.foreground and not self.bundle.has_own("pid"):
            # The runtime keeps the old cgroup in memory to end the processes in it.
            raise Left(
                f"a foreground `{self.caller.name} run` whose pid namespace is not private"
                " would leave processes behind"
            )
        if self.is_crio():
            self._check_high_performance()
        self.init.check()

    def is_crio(self) -> bool:
        """Whether CRI-O made it, by an annotation that CRI-O writes over those of the pod."""
        return self.bundle.annotations.get("io.container.manager") == "cri-o"

    def _check_high_performance(self) -> None:
        """Raise Refused where CRI-O itself is going to write to the cgroup. It goes by a path that
        it computes: under systemd the start fails, else what is written misses the container."""
        for key in self.bundle.annotations:
            if key.startswith(HIGH_PERFORMANCE):
                raise Refused(
                    f"CRI-O does what the pod's annotation {key!r} asks in the cgroup that it"
                    " computes, expected no such annotation or no cgroupsPath for this pod"
                )


class LiveMove:
    """createRuntime: init waits in the cgroup that the runtime made, and goes to another."""

    def __init__(self, container: "Container") -> None:
        self.container = container
        self.plan: "Optional[Placement]" = None

    def put(self, path: str, leave_parent: bool, ledger: "Ledger") -> "Optional[dict[str, str]]":
        """Move init, with all that its cgroup is. Raises Left, Refused or HookError."""
        # Most containers stay where they are: what moves is imported when one is to be moved, all
        # at once, before anything has been changed.
        from nri_hook.cgroups import mounts, move, plan

        container = self.container
        container.check_movable()
        pid = container.init.pid
        membership = hierarchies.membership(pid)
        planned = plan.plan(
            pid,
            membership,
            container.cgroups_path,
            path,
            ledger.name,
            ledger.directory,
            leave_parent,
            delegated=container.delegated(),
        )
        if planned is None:
            return None
        planned.keeps_scope = container.is_crio()
        with mounts.look(
            planned, container.bundle, container.rootfs(), container.caller.name
        ) as seen:
            self.plan = planned
            move.apply(planned, container.bundle, seen, ledger.is_stale, ledger.save)
        container.init.check()
        return dict(membership, **planned.cgroups)

    def take_back(self, deadline: float) -> "list[HookError]":
        """Move init back, remove what was made; what failed."""
        if self.plan is None:
            return []
        from nri_hook.cgroups import move

        errors = move.undo(self.plan, deadline)
        if not errors:
            self.plan = None
        return errors

    def settle(self) -> "list[HookError]":
        """Let go of what could still have taken init back; what failed of it."""
        if self.plan is None:
            return []
        from nri_hook.cgroups import move

        return move.settle(self.plan)

    def document(self) -> "list[PlacementDocument]":
        return [self.plan.document()] if self.plan else []
