"""The cgroups that containers lie in, as a tree, with what they use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nri_hook.cli import screen, usage

if TYPE_CHECKING:
    from nri_hook.cli.placed import Placed
    from nri_hook.cli.usage import Cgroups


class Node:
    """A cgroup. path: as in /proc/PID/cgroup. containers: those that are in it."""

    def __init__(self, path: str, cgroups: Cgroups) -> None:
        self.path = path
        self.containers: list[Placed] = []
        self.below: dict[str, Node] = {}
        self.usage = cgroups.usage(path) if path != "/" else None
        self.processes: list[usage.Process] = []

    def branch(self) -> screen.Branch:
        """As it is shown."""
        text = screen.word(screen.short(self.path.rpartition("/")[2])) or "/"
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
        for part in container.place().split("/"):
            if not part:
                continue
            if part not in node.below:
                node.below[part] = Node(f"{node.path.rstrip('/')}/{part}", cgroups)
            node = node.below[part]
        node.containers.append(container)
        if container.alive:
            members = map(usage.of_process, cgroups.members(node.path))
            node.processes = [process for process in members if process]
    return root
