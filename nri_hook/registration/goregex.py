"""Regular expressions of hook files, which are Go's (RE2 syntax), judged by Python's.

Python judges those made of what means the same in both languages; only Go can judge the others.
Source: regexp/syntax of Go.
"""

from __future__ import annotations

import re
import warnings

ACCEPTED, REFUSED, UNKNOWN = "accepted", "refused", "unknown"

_COMMON = re.compile(
    r"""(?:\(\?[ims]+\))?(?:
      [^\\\[\](){}*+?^$|]                             # a character that stands for itself
    | \\[^\sA-Za-z0-9] | \\[dDwWsS]                   # one behind a backslash, or a class
    | \[\^?\]?(?:[^\\\[\]:]|\\[^\sA-Za-z0-9]|\\[dws])*\]  # a class, without [:names:] in it
    | [\[()|^$] | \(\?:
    | (?<![*+?(|^$])[*+?]\??(?![*+?{])                # a repetition of something
    | (?<![*+?(|^$)])\{\d{1,3}(?:,\d{0,3})?\}\??(?![*+?{])  # not of a group: Go multiplies
    )*""",
    re.X,
)
# Characters that are looked at, each with all that follow.
_MAX_LENGTH = 10000


def judge(pattern: str) -> tuple[str, str]:
    """(ACCEPTED, ""), (REFUSED, why) or, if Python cannot say, (UNKNOWN, why)."""
    if len(pattern) > _MAX_LENGTH:
        return UNKNOWN, f"it has more than {_MAX_LENGTH} characters"
    if not _COMMON.fullmatch(pattern):
        return UNKNOWN, "it is written in more than Go and Python have in common"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except re.error as error:
        return REFUSED, str(error)
    except RecursionError:
        return UNKNOWN, "its brackets are too deep"
    return ACCEPTED, ""


def literally(text: str) -> str:
    """A pattern for this text alone, in both languages."""
    return "^" + re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text) + "$"


def wholly(pattern: str) -> str:
    """A pattern that has to match from the first to the last character."""
    return f"^(?:{pattern})$"
