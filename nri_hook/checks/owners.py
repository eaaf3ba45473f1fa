"""Who could write a file that runs as root, or decides what does."""

from __future__ import annotations

import os
import shlex
import stat
from typing import NamedTuple

from nri_hook import trust
from nri_hook.errors import HookError


class Unsafe(NamedTuple):
    """what: the cause. mend: a command. open: whether anybody may write it, or only an owner who
    is not root."""

    what: str
    mend: str
    open: bool


def judge(path: str) -> Unsafe | None:
    """What is wrong where others than root could have written the file, else None.

    A file that is not there is somebody else's to judge.
    """
    try:
        os.close(trust.open_file(path))
    except HookError as error:
        commands = mend(path)
        return Unsafe(str(error), commands, "chmod go-w " in commands)
    except OSError:
        return None
    return None


def mend(path: str) -> str:
    """The command that takes the file, and the folders above it, out of the hands of others."""
    commands = []
    for place in _places(path):
        try:
            status = os.lstat(place)
        except OSError:
            continue
        if status.st_uid not in (0, os.geteuid()):
            commands.append(f"chown -h root: {shlex.quote(place)}")
        sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
        if not stat.S_ISLNK(status.st_mode) and status.st_mode & 0o022:
            # In a sticky folder others may at least not replace what is root's, below a folder.
            if not sticky or place == os.path.dirname(path):
                commands.append(f"chmod go-w {shlex.quote(place)}")
    return " && ".join(commands) or f"namei -l {shlex.quote(path)}"


def _places(path: str) -> list[str]:
    """The file, where it really is, and all folders above either, from the top on."""
    found = set()
    for place in (path, os.path.realpath(path)):
        while place not in found:
            found.add(place)
            place = os.path.dirname(place)
    return sorted(found)
