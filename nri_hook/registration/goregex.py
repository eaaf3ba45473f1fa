"""Regular expressions of hook files, which are Go's (RE2 syntax) and are judged here by Python.

Source: regexp/syntax of Go. What only one of the two knows is looked for by hand; what is left
means the same to both, as far as being well-formed goes.
"""

from __future__ import annotations

import re
import warnings

ACCEPTED, REFUSED, UNKNOWN = "accepted", "refused", "unknown"

_GROUPS_OF_PYTHON = ("=", "!", "<=", "<!", ">", "(", "#", "P=", "P>")
_FLAGS = re.compile(r"[imsU]*(-[imsU]+)?[:)]")
# A bracket that comes first in a class stands for itself.
_OPENING = re.compile(r"\[\^?\]?")
_COUNT = re.compile(r"\{(\d+)(,(\d*))?\}")
_MAX_COUNT = 1000
# Characters that are looked at one by one here, each with all that follow.
_MAX_LENGTH = 10000
# Escapes by a letter: those that both have, and those that Go alone has.
_ESCAPES = frozenset("aAbBdDfnrsStvwWx")
_ESCAPES_OF_GO = frozenset("pPQECz")


def judge(pattern: str) -> tuple[str, str]:
    """(ACCEPTED, ""), (REFUSED, why) or, where Python cannot say, (UNKNOWN, why)."""
    if len(pattern) > _MAX_LENGTH:
        return UNKNOWN, f"an expression of more than {_MAX_LENGTH} characters"
    doubt = ""
    index, in_class = 0, False
    while index < len(pattern):
        rest = pattern[index:]
        if rest[0] == "\\":
            verdict, why = _escape(rest, in_class)
            index += 1
        elif in_class:
            verdict, why = (UNKNOWN, "a class such as [:alpha:]") if rest[:2] == "[:" else ("", "")
            in_class = rest[0] != "]"
        elif rest[0] == "[":
            verdict, why, in_class = "", "", True
            index += len(_OPENING.match(rest)[0]) - 1  # type: ignore[index]
        elif rest.startswith("(?"):
            verdict, why = _group(rest[2:], index)
        else:
            verdict, why = _repeat(rest)
        if verdict == REFUSED:
            return REFUSED, why
        doubt = doubt or (why if verdict else "")
        index += 1
    if doubt:
        return UNKNOWN, doubt
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        # Go does not mind two groups of one name.
        verdict = UNKNOWN if "redefinition" in str(error) else REFUSED
        return verdict, str(error)
    return ACCEPTED, ""


def literally(text: str) -> str:
    """A pattern for this text alone, in both dialects."""
    return "^" + re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text) + "$"


def wholly(pattern: str) -> str:
    """A pattern that has to match from the first to the last character."""
    return f"^(?:{pattern})$"


def _escape(rest: str, in_class: bool) -> tuple[str, str]:
    letter = rest[1:2]
    if letter in _ESCAPES_OF_GO and letter:
        return UNKNOWN, f"\\{letter}"
    if letter == "x" and rest[2:3] == "{":
        return UNKNOWN, "\\x{...}"
    if letter in ("1", "2", "3", "4", "5", "6", "7") and rest[2:3] in tuple("01234567"):
        return UNKNOWN, "an octal number"
    is_word = letter.isascii() and letter.isalnum()
    if is_word and letter not in _ESCAPES and letter != "0":
        return REFUSED, f"\\{letter} is nothing that Go knows"
    if in_class and letter in ("A", "b", "B"):
        return REFUSED, f"\\{letter} in a class"
    return "", ""


def _group(rest: str, index: int) -> tuple[str, str]:
    if rest.startswith(_GROUPS_OF_PYTHON):
        return REFUSED, f"Go has no (?{rest[:2]}...)"
    if rest.startswith("P<"):
        return (UNKNOWN, "a name that begins with a digit") if rest[2:3].isdigit() else ("", "")
    if rest.startswith("<"):
        return UNKNOWN, "(?<name>...), which Go knows from 1.22 on"
    flags = _FLAGS.match(rest)
    if not flags:
        return REFUSED, f"Go has no (?{rest[:1]}...)"
    if index and flags[0].endswith(")") or set(flags[0]) & set("U"):
        return UNKNOWN, f"(?{flags[0]}"
    if flags[0].startswith("-") and flags[0].endswith(")"):
        return UNKNOWN, f"(?{flags[0]}"
    return "", ""


def _repeat(rest: str) -> tuple[str, str]:
    count = _COUNT.match(rest)
    if count and max(int(n) for n in (count[1], count[3] or "0")) > _MAX_COUNT:
        return REFUSED, f"{count[0]} is above {_MAX_COUNT}"
    end = count.end() if count else 1 if rest[0] in "*+?" else 0
    if end and rest[end : end + 1] == "+":
        return REFUSED, f"{rest[: end + 1]} repeats a repetition"
    return "", ""
