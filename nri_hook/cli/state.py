"""The state directory as commands that only look see it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from nri_hook import trust
from nri_hook.errors import HookError
from nri_hook.hook import options, state_directory

if TYPE_CHECKING:
    from collections.abc import Iterable


def add_flag(parser: argparse.ArgumentParser) -> None:
    """The flag that says where the state directory is."""
    default = options.Options().state_dir
    parser.add_argument(
        "--state-dir", default=default, metavar="DIR", help=f"directory of the records ({default})"
    )


def directory(args: argparse.Namespace) -> str:
    """Where the state directory is, or would be; nothing is made. Raises HookError if others than
    root could have written what is in it."""
    return checked(state_directory.place(options.Options(state_dir=trust.absolute(args.state_dir))))


def checked(path: str) -> str:
    """The same state directory, if root alone (without root: the user too) can have filled it, or
    it is not there. Raises HookError."""
    try:
        trust.Directory(path)
    except OSError:  # whoever reads it will see
        pass
    return path


def listed(names: Iterable[str], wanted: str | None) -> list[str]:
    """Those names of records that may be of the container, all where none is wanted."""
    return [name for name in names if not wanted or name.startswith(wanted[: state_directory.KEPT])]


def pick(wanted: str, ids: Iterable[str]) -> str:
    """The id that is meant: this one, or the only one that begins so. Raises HookError."""
    found = {id for id in ids if id.startswith(wanted)}
    if wanted in found:
        return wanted
    if not found:
        raise HookError(f"container {wanted}: nothing is known of it")
    if len(found) > 1:
        raise HookError(f"container {wanted}: several begin so: {', '.join(sorted(found)[:5])}")
    return found.pop()


def reason(error: Exception) -> str:
    """What was wrong with one record, in one line."""
    if isinstance(error, HookError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return f"not a record of nri-hook, or a bug in it: {type(error).__name__}: {error}"
