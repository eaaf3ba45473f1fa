"""The runtime that called us: what it is, where it keeps its records, how it was called."""

import os

from nri_hook import procfs, trust

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from nri_hook.hook.record import RecordDocument

# Runtime -> what it calls its record of a container, in a directory of the container's id.
RECORDS = {"runc": "state.json", "crun": "status"}
# Global flags of runc and crun that take the next word as their value.
VALUE_FLAGS = {"root", "log", "log-format", "log-level", "criu", "rootless", "cgroup-manager"}


class Caller:
    """Our parent. pid, comm: its name for the kernel. name: "runc" or "crun", "" for anybody else.
    root: where the runtime keeps the state of its containers, "" where nobody can say. command:
    what it was told to do, such as "create". foreground: whether it stays with the container (`run`
    without --detach)."""

    def __init__(
        self, pid: int, comm: str, name: str, root: str, command: str, foreground: bool
    ) -> None:
        self.pid = pid
        self.comm = comm
        self.name = name
        self.root = root
        self.command = command
        self.foreground = foreground

    def creates_another(self, document: "RecordDocument") -> bool:
        """Whether it is at work on another container than that of this record, of the same id."""
        creator = document["creator"]
        is_creator = self.pid == creator["pid"] and procfs.start_time(self.pid) == creator["start"]
        return self.command in ("create", "run") and not is_creator


def caller() -> Caller:
    """Look at our parent process."""
    pid = os.getppid()
    comm = _read(f"/proc/{pid}/comm").decode("utf-8", "replace").strip()
    name = next((name for name in RECORDS if comm.startswith(name)), "")
    if not name:
        return Caller(pid, comm, "", "", "", False)
    words = os.fsdecode(_read(f"/proc/{pid}/cmdline")).split("\0")[1:-1]
    root, command = "", ""
    while words and not command:
        word = words.pop(0)
        if not word.startswith("-"):
            command = word
            break
        flag, given, value = word.lstrip("-").partition("=")
        if flag in VALUE_FLAGS and not given and words:
            value = words.pop(0)
        if flag == "root":
            root = value
    detached = any(
        flag in ("-d", "-detach", "--detach") and value != "false"
        for flag, _, value in (word.partition("=") for word in words)
    )
    foreground = command == "run" and not detached
    if not root:
        root = _default_root(name, pid)
    # One that is relative is so to a directory that the runtime has left, for the bundle.
    # Names of one directory must not differ: /var/run is a link to /run.
    root = os.path.realpath(root) if os.path.isabs(root) else ""
    return Caller(pid, comm, name, root, command, foreground)


def record_of(document: "RecordDocument") -> "Optional[str]":
    """The path of the runtime's own record of a container, None where it has none.

    document: our record of it.
    """
    name = RECORDS.get(document["runtime"])
    if name is None:
        return None
    path = os.path.join(document["runtimeRoot"], document["id"], name)
    return path if os.path.isfile(path) else None


def _default_root(name: str, pid: int) -> str:
    """Below XDG_RUNTIME_DIR, which crun takes wherever it is set, runc for other users than root
    and in a user namespace unless USER is root (runc, main.go; crun, src/libcrun/status.c)."""
    environment = dict(
        entry.partition("=")[::2]
        for entry in os.fsdecode(_read(f"/proc/{pid}/environ")).split("\0")
    )
    directory = environment.get("XDG_RUNTIME_DIR")
    honoured = (
        name == "crun"
        or os.geteuid() != 0
        or (trust.in_user_namespace() and environment.get("USER") != "root")
    )
    return os.path.join(directory if directory and honoured else "/run", name)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
