"""The cgroups that containers lie in, as a tree, with what they use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nri_hook.cli import screen, usage

if TYPE_CHECKING:
    from nri_hook.cli.placed import Placed
    from nri_hook.cli.usage import Cgroups


# Levels that are shown one by one. A container may nest as many cgroups as it likes, and lie at the
# end of them.
MAX_DEPTH = 16


class Node:
    """A cgroup. path: as in /proc/PID/cgroup. skipped: how many of the cgroups around it are not
    shown. containers: those that are in it."""

    def __init__(self, path: str, cgroups: Cgroups, skipped: int = 0) -> None:
        self.path = path
        self.skipped = skipped
        self.containers: list[Placed] = []
        self.below: dict[str, Node] = {}
        self.usage = cgroups.usage(path) if path != "/" else None
        self.processes: list[usage.Process] = []

    def branch(self) -> screen.Branch:
        """As it is shown."""
        text = screen.word(screen.short(self.path.rpartition("/")[2])) or "/"
        if self.skipped:
            text = f"({self.skipped} levels not shown) {text}"
        text = f"{text}  {self.usage}" if self.usage else text
        shown = screen.Branch(text, "" if self.containers else "bold")
        for container in self.containers:
            state = "alive" if container.alive else "gone"
            words = f"container {screen.short(container.id)} ({state})"
            shown.branches.append(screen.Branch(words, "green" if container.alive else "dim"))
        shown.branches += [screen.Branch(_of_process(p), "dim") for p in self.processes]
        shown.branches += [node.branch() for _, node in sorted(self.below.items())]
        return shown

    def document(self) -> dict[str, Any]:
        """As JSON has it: cpu in seconds, memory in bytes."""
        used = {} if self.usage is None else vars(self.usage)
        return {
            "cgroup": self.path,
            **used,
            "containers": [container.id for container in self.containers],
            "processes": [vars(process) for process in self.processes],
            "below": [node.document() for _, node in sorted(self.below.items())],
        }


def _of_process(process: usage.Process) -> str:
    """Its name is what it has called itself."""
    memory = usage.size(process.memory)
    return f"{process.pid} {screen.word(process.name)}  cpu {process.cpu:.1f} s, memory {memory}"


def grow(containers: list[Placed]) -> Node:
    """The tree of the cgroups of these containers, from the root down."""
    cgroups = usage.Cgroups()
    root = Node("/", cgroups)
    for container in containers:
        node = root
        parts = [part for part in container.place().split("/") if part]
        deepest = "/".join(parts[MAX_DEPTH:])
        for part in [*parts[:MAX_DEPTH], deepest] if deepest else parts:
            if part not in node.below:
                path = f"{node.path.rstrip('/')}/{part}"
                node.below[part] = Node(path, cgroups, skipped=part.count("/"))
            node = node.below[part]
        node.containers.append(container)
        if container.alive:
            # A path that is too long leads to no cgroup.
            members = map(usage.of_process, cgroups.members(node.path) or [container.pid])
            node.processes = [process for process in members if process]
    return root
