"""The state directory: where records are, and what they are called."""

import binascii
import os

from nri_hook import trust
from nri_hook.errors import HookError
from nri_hook.hook.options import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

SUFFIX = ".json"
NEW = ".new"
LOCK = ".lock"
# The record, the next one while it is written, and what is locked.
ENDINGS = (SUFFIX, NEW, LOCK)
# The longest id that is the beginning of a name as it is, and what is kept of a longer one.
LONGEST_ID, KEPT = 200, 135


def place(options: Options) -> str:
    """Where the state directory is, whether it is there or not."""
    path = options.state_dir
    if path == Options().state_dir and (os.geteuid() != 0 or trust.in_user_namespace()):
        path = f"/run/user/{_outer_uid()}/nri-hook"
    return path


def make(options: Options) -> str:
    """Make the state directory if it is missing; its path. Raises HookError if it cannot be."""
    path = place(options)
    try:
        os.makedirs(path, 0o700, exist_ok=True)
        status = os.stat(path)
    except OSError as error:
        raise HookError(f"no state directory: {error.strerror}", path=path) from None
    # Who may open a directory may lock it, and the lock of this one is taken for each move.
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise HookError(
            f"no state directory: belongs to uid {status.st_uid}, mode"
            f" {status.st_mode & 0o7777:04o}, expected 0700 of our own",
            path=path,
        )
    if not os.access(path, os.W_OK):
        raise HookError("no state directory: cannot be written", path=path)
    return path


def names(directory: str) -> "list[str]":
    """The names of all records, of those too that a hook was killed before it wrote."""
    stems = {e[: -len(end)] for e in os.listdir(directory) for end in ENDINGS if e.endswith(end)}
    return sorted(stems)


def is_there(directory: str, name: str) -> bool:
    """Whether there is such a record, if only one that a hook has not written yet."""
    return any(status_of(os.path.join(directory, name + ending)) for ending in ENDINGS)


def status_of(path: str) -> "Optional[os.stat_result]":
    """What is at `path`, if only a link to nothing. Raises HookError if nobody can tell."""
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HookError(f"cannot be looked at: {error.strerror}", path=path) from None


def name(runtime_root: str, id: str) -> str:
    """The name of a container's record: <id>-<8 hex digits of the CRC-32 of root and id>, since
    ids are unique only below one runtime root."""
    checksum = binascii.crc32(os.fsencode(runtime_root) + b"\0" + id.encode())
    return f"{short(id)}-{checksum:08x}"


def setup_name(id: str) -> str:
    """The name of the record of a container that no runtime knows yet."""
    return f"{short(id)}-setup"


def short(id: str) -> str:
    """What stands for an id in names, which have at most 255 bytes with all their endings: of a
    long one its beginning and its SHA-256. No id has a "~"."""
    if len(id) <= LONGEST_ID:
        return id
    import hashlib  # costs as much as a start of Python; engines make ids of 64 characters

    return f"{id[:KEPT]}~{hashlib.sha256(id.encode()).hexdigest()}"


def _outer_uid() -> int:
    """Our uid as the namespace above sees it (user_namespaces(7), uid_map)."""
    uid = os.geteuid()
    with open("/proc/self/uid_map", "rb") as file:
        for line in file.read().splitlines():
            inner, outer, count = (int(field) for field in line.split())
            if inner <= uid < inner + count:
                return outer + uid - inner
    return uid
