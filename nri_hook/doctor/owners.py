"""Who could write a file that runs as root, or decides what does."""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
from typing import NamedTuple

from nri_hook import trust
from nri_hook.doctor.finding import removal
from nri_hook.errors import HookError


class Unsafe(NamedTuple):
    """what: the cause. fix: what to do. open: whether anybody may write it, or only an owner who
    is not root."""

    what: str
    fix: str
    open: bool


def judge(path: str) -> Unsafe | None:
    """What is wrong where others than root could have written the file, else None.

    A file that is not there is somebody else's to judge. What this lets pass may be executed by its
    path: only root can change what is on the way to it (trust.py).
    """
    try:
        os.close(trust.open_file(path))
    except HookError as error:
        return _unsafe(error)
    except OSError:
        return None
    return None


def judge_directory(path: str) -> Unsafe | None:
    """The same for a directory of sys.path, with all that can be imported from it."""
    try:
        _check_importable(trust.Directory(path))
    except HookError as error:
        return _unsafe(error)
    except OSError:
        return None
    return None


def _check_importable(top: trust.Directory) -> None:
    """Raise HookError unless only root can have written the modules in it, and all that is in the
    packages in it."""
    waiting, known = [top], set()
    while waiting:
        directory = waiting.pop()
        known.add(directory.path)
        with os.scandir(directory.path) as entries:
            names = [(e.name, e.is_dir(), e.is_symlink()) for e in entries]
        for name, is_directory, is_link in names:
            if directory is top and not name.partition(".")[0].isidentifier():
                continue
            if not is_directory:
                with contextlib.suppress(FileNotFoundError):
                    os.close(directory.open_file(name))
                continue
            path = os.path.realpath(os.path.join(directory.path, name))
            if path not in known:
                waiting.append(trust.Directory(path) if is_link else directory.inner(name))


def fix(path: str) -> str:
    """How to take the file, and the directories above it, out of the hands of others.

    Its content stays untrusted until somebody has looked at it: a chown alone would make of a
    stranger's text one of root's.
    """
    commands = [command for place in _places(path) for command in _commands(place, path)]
    if not commands:
        return f"namei -l {shlex.quote(path)}" if os.path.isfile(path) else removal(path)
    look = f"look at {shlex.quote(path)}, which others could have written"
    return f"{look}, then {' && '.join(commands)}"


def _unsafe(error: HookError) -> Unsafe:
    open = any(_is_open(place, error.path) for place in _places(error.path))
    return Unsafe(str(error), fix(error.path), open)


def _commands(place: str, path: str) -> list[str]:
    """What makes root's of one of the places on the way to a file; FILE stands for a copy of it
    that root trusts."""
    try:
        status = os.lstat(place)
    except OSError:
        return []
    quoted = shlex.quote(place)
    is_foreign = status.st_uid not in (0, os.geteuid())
    if is_foreign and stat.S_ISREG(status.st_mode):
        mode = 0o755 if status.st_mode & 0o111 else 0o644
        return [f"install -o root -g root -m {mode:04o} FILE {quoted}"]
    if is_foreign and stat.S_ISLNK(status.st_mode):
        return [f"ln -sfnT FILE {quoted}"]
    commands = [f"chown -h root: {quoted}"] if is_foreign else []
    if _is_open(place, path):
        commands.append(f"chmod go-w {quoted}")
    return commands


def _is_open(place: str, path: str) -> bool:
    """Whether others may write a place on the way to a file."""
    try:
        mode = os.lstat(place).st_mode
    except OSError:
        return False
    if stat.S_ISLNK(mode) or not mode & 0o022:
        return False
    # In a sticky directory others may at least not replace what is root's, below a directory.
    is_sticky = stat.S_ISDIR(mode) and mode & stat.S_ISVTX
    return not is_sticky or place == os.path.dirname(path)


def _places(path: str) -> list[str]:
    """The file, where it really is, and all directories above either, from the top on."""
    found = set()
    for place in (path, os.path.realpath(path)):
        while place not in found:
            found.add(place)
            place = os.path.dirname(place)
    return sorted(found)
