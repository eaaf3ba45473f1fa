"""How a container gets to a place: by a live move, or by what its config says.

Most containers stay where they are: the modules that move are imported when one is to be moved,
all at once, before anything has been changed.
"""

from nri_hook import trust
from nri_hook.cgroups import hierarchies
from nri_hook.errors import Left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from nri_hook.cgroups.plan import Placement, PlacementDocument
    from nri_hook.errors import HookError
    from nri_hook.hook.container import Container
    from nri_hook.hook.creation import Creation
    from nri_hook.hook.draft import Draft


class LiveMove:
    """createRuntime: init waits in the cgroup that the runtime made, and goes to another."""

    def __init__(self, container: "Container") -> None:
        self.container = container
        self.plan: "Optional[Placement]" = None

    def put(
        self, path: str, leave_parent: bool, creation: "Creation"
    ) -> "Optional[dict[str, str]]":
        """Move init, with all that its cgroup is. Raises Left, Refused or HookError."""
        from nri_hook.cgroups import mounts, move, plan

        container, book = self.container, creation.book
        container.check_movable()
        pid = container.init.pid
        membership = hierarchies.membership(pid)
        planned = plan.plan(
            pid,
            membership,
            container.cgroups_path,
            path,
            book.name,
            book.directory,
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
            move.apply(planned, container.bundle, seen, book.is_stale, creation.save)
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


class NativePlacement:
    """precreate: the runtime itself will make the cgroup, where the config says."""

    def __init__(self, draft: "Draft") -> None:
        self.draft = draft
        self.made: "list[PlacementDocument]" = []

    def put(self, path: str, leave_parent: bool, creation: "Creation") -> "dict[str, str]":
        """Write the path into the config; parents that are missing are made, and so are ours to
        remove. Raises Left, Refused or HookError."""
        from nri_hook.cgroups import move, plan

        if trust.in_user_namespace():
            raise Left("the hook runs in a user namespace (rootless), which may not make cgroups")
        parents = plan.parents(self.draft.cgroups_path, path, leave_parent)
        self.made = [parents.document(creation.book.name)]
        creation.save()
        move.make_parents(parents, creation.book.name, creation.book.directory)
        parents.is_marked = True
        self.made = [parents.document(creation.book.name)]
        self.draft.rewrite(path)
        return parents.cgroups

    def take_back(self, deadline: float) -> "list[HookError]":
        """Remove the parents; what failed."""
        from nri_hook.cgroups import move

        errors = [e for made in self.made for e in move.clean_up(made, deadline)]
        if not errors:
            self.made = []
        return errors

    def settle(self) -> "list[HookError]":
        """Nothing is held."""
        return []

    def document(self) -> "list[PlacementDocument]":
        return self.made
