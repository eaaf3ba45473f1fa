"""The mounts that a process has, as /proc/PID/mountinfo lists them (proc_pid_mountinfo(5))."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union


class Mount:
    """One mount.

    id: which no other mount of this machine has as long as it is there. parent: the id of the
    mount that it is mounted on. device: "<major>:<minor>" of its filesystem. root: what of the
    filesystem it shows. point: where it is mounted, from the root of the process. options: its
    own, such as "ro"; those of the filesystem are super_options. propagation: of the optional
    fields the names, such as "shared". kind: the type of the filesystem.
    """

    def __init__(self, line: str) -> None:
        """line: without its end."""
        before, _, after = line.partition(" - ")
        id, parent, self.device, root, point, options, *tags = before.split(" ")
        self.id, self.parent = int(id), int(parent)
        self.root, self.point = _unescape(root), _unescape(point)
        self.options = options.split(",")
        self.propagation = {tag.partition(":")[0] for tag in tags}
        self.kind, _, super_options = after.split(" ")[:3]
        self.super_options = super_options.split(",")


def read(pid: "Union[int, str]") -> "list[Mount]":
    """The mounts of a process, or of "self". Raises OSError."""
    with open(f"/proc/{pid}/mountinfo", "rb") as file:
        return [Mount(line) for line in os.fsdecode(file.read()).split("\n")[:-1]]


def _unescape(field: str) -> str:
    """Undo the octal escapes: \\040 is a space."""
    parts = field.split("\\")
    return parts[0] + "".join(chr(int(part[:3], 8)) + part[3:] for part in parts[1:])
