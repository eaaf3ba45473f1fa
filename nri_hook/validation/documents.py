"""Files that hold a document of ours or of our neighbours, held against what each has to be."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from nri_hook import strictjson
from nri_hook.errors import HookError
from nri_hook.hook import host_config, payload
from nri_hook.registration import ocihooks
from nri_hook.strictjson import fold
from nri_hook.validation import plugin_schema, schema
from nri_hook.validation.fault import Fault, pointer

HOOK_FILE = "hook-file"
CONFIGURATION = "host-configuration"
RESULT = "result"
KINDS = schema.NAMES
# Similarity from which an unknown key is held for a known one that was misspelt (difflib).
CLOSE = 0.7

# A kind, and keys of which it has at least one. The first that fits is the one: a payload has
# `state` as a result does, a state `root` as a config.json.
_MARKS = (
    ("payload", {"spec", "conf", "results", "sandboxID"}),
    (HOOK_FILE, {"hook", "when", "stages"}),
    (CONFIGURATION, {"plugins"}),
    ("state", {"status", "bundle", "bundlePath"}),
    ("config", {"process", "root", "mounts", "linux", "hostname"}),
    (RESULT, {"plugin", "error", "metadata", "cgroupsPath", "state"}),
    ("state", {"ociVersion"}),
)


class Checked(NamedTuple):
    """kind: one of KINDS, "" where nobody can tell. faults: none where it is well-formed. notes:
    what was not looked into, and why. odd_keys: notes on keys that are ignored, or are known by
    another spelling."""

    path: str
    kind: str
    faults: list[Fault]
    notes: list[str]
    odd_keys: list[str]


def check(path: str, data: bytes, kind: str, directories: list[str]) -> Checked:
    """Check the bytes of one file. kind: "" to tell it from the content. directories: of plugins,
    in order. Raises HookError where nobody can tell what it is.
    """
    try:
        document = strictjson.loads(data)
    except strictjson.JSONError as error:
        return Checked(path, kind, [Fault("", f"none: {_where(data) or error}", "JSON")], [], [])
    kind = kind or kind_of(document)
    if not kind:
        expected = f"--as KIND with it, one of {', '.join(KINDS)}"
        raise HookError(f"cannot be told from its content, expected {expected}", path=path)
    if kind == HOOK_FILE:
        known = [*ocihooks.STAGES, *ocihooks.EXTENSIONS]
        judgement = ocihooks.judge(data, known)
        return Checked(path, kind, judgement.faults, judgement.doubts, judgement.notes)
    try:
        odd_keys = list(_odd_keys(kind, document))
        document = _spelled(kind, document)
    except strictjson.JSONError as error:
        return Checked(path, kind, [Fault("", str(error), "each key once")], [], [])
    found = schema.faults(kind, document)
    notes: list[str] = []
    if kind == CONFIGURATION:
        more, notes = _confs(document, directories)
        found += more
    return Checked(path, kind, found, notes, odd_keys)


def _where(data: bytes) -> str:
    """What is no JSON, with line and column; "" for what only strictjson refuses."""
    try:
        json.loads(data)
    except json.JSONDecodeError as error:
        return f"{error.msg}, at line {error.lineno} column {error.colno}"
    except (ValueError, RecursionError):
        pass
    return ""


def kind_of(document: Any) -> str:
    """Which of KINDS a decoded document seems to be, "" where nobody can tell."""
    keys = set(map(fold, document)) if isinstance(document, dict) else set()
    return next((kind for kind, marks in _MARKS if not keys.isdisjoint(map(fold, marks))), "")


def _spelled(kind: str, document: Any) -> Any:
    """The document as the hook reads it. Raises strictjson.JSONError."""
    if kind == CONFIGURATION:
        return host_config.spell_keys(document)
    if kind == RESULT:
        return strictjson.spell_keys(document, payload.RESULT_KEYS)
    return document


def _odd_keys(kind: str, document: Any) -> Iterator[str]:
    """A note for each key of a configuration or an answer that is not spelled as one we know.

    Raises strictjson.JSONError.
    """
    if kind == RESULT:
        yield from _odd(document, payload.RESULT_KEYS, "")
    elif kind == CONFIGURATION:
        yield from _odd(document, host_config.KEYS, "")
        for index, entry in enumerate(_plugins(strictjson.spell_keys(document, host_config.KEYS))):
            yield from _odd(entry, host_config.ENTRY_KEYS, f"/plugins/{index}")


def _odd(document: Any, known: frozenset[str], place: str) -> Iterator[str]:
    spelling = {fold(key): key for key in known}
    for key in document if isinstance(document, dict) else ():
        if key in known:
            continue
        where = f"{place}/{pointer(key[:60])}"
        if fold(key) in spelling:
            yield f"{where}: read as {spelling[fold(key)]}"
            continue
        close = difflib.get_close_matches(fold(key), spelling, 1, CLOSE)
        hint = f"; did you mean {spelling[close[0]]}?" if close else ""
        yield f"{where}: ignored: not a key that nri-hook reads{hint}"


def _confs(document: Any, directories: list[str]) -> tuple[list[Fault], list[str]]:
    """What is wrong in the `conf` of each plugin of a configuration."""
    found, notes = [], []
    for index, entry in enumerate(_plugins(document)):
        if isinstance(entry, dict):
            faults, skipped = plugin_schema.faults(entry, directories)
            place = f"/plugins/{index}"
            found += [fault._replace(pointer=place + fault.pointer) for fault in faults]
            notes += [f"{place}: {note}" for note in skipped]
    return found, notes


def _plugins(document: Any) -> list[Any]:
    """The list of plugins in a configuration that may be any JSON."""
    plugins = document.get("plugins") if isinstance(document, dict) else None
    return plugins if isinstance(plugins, list) else []
