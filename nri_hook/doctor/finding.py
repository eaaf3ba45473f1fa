"""One thing that was looked at, and what to do about it."""

from __future__ import annotations

import os
import shlex
import stat
from typing import NamedTuple

OK, WARN, FAIL = "ok", "warn", "fail"


class Finding(NamedTuple):
    """level: OK, WARN or FAIL. check: the thing in a word or two. what: a fact, or a cause. fix: a
    command or a line to write, "" where nothing has to be done."""

    level: str
    check: str
    what: str
    fix: str = ""


def removal(path: str) -> str:
    """The command that removes what is there."""
    try:
        is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        is_directory = False
    return f"{'rm -r' if is_directory else 'rm'} {shlex.quote(path)}"
