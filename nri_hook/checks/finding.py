"""One thing that was looked at, and what to do about it."""

from __future__ import annotations

from typing import NamedTuple

OK, WARN, FAIL = "ok", "warn", "fail"


class Finding(NamedTuple):
    """level: OK, WARN or FAIL. check: the thing in a word or two. what: a fact, or a cause. mend: a
    command or a line to write, "" where nothing has to be done."""

    level: str
    check: str
    what: str
    mend: str = ""
