"""Files that hold a document of ours or of our neighbours, held against what each has to be."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from nri_hook import oci, ocihooks, pluginschema, schema, strictjson
from nri_hook.errors import HookError
from nri_hook.fault import Fault

HOOK_FILE = "hook-file"
CONFIGURATION = "host-configuration"
KINDS = (*schema.NAMES, HOOK_FILE)

# A kind, and keys of which it has at least one. The first that fits is the one: a payload has
# `state` as a result does, a state `root` as a config.json.
_MARKS = (
    ("payload", {"spec", "conf", "results", "sandboxID"}),
    (HOOK_FILE, {"hook", "when", "stages"}),
    (CONFIGURATION, {"plugins"}),
    ("state", {"status", "bundle", "bundlePath"}),
    ("config", {"process", "root", "mounts", "linux", "hostname"}),
    ("result", {"plugin", "error", "metadata", "cgroupsPath", "state"}),
    ("state", {"ociVersion"}),
)


class Checked(NamedTuple):
    """kind: one of KINDS, "" where nobody can tell. faults: none where it is well-formed. notes:
    what was not looked into, and why."""

    path: str
    kind: str
    faults: list[Fault]
    notes: list[str]


def check(path: str, kind: str, folders: list[str]) -> Checked:
    """Check one file. kind: "" to tell it from the content. folders: of plugins, in order.

    Raises HookError where it cannot be read, or nobody can tell what it is.
    """
    try:
        with open(path, "rb") as file:
            data = strictjson.read(file.fileno(), oci.MAX_CONFIG)
    except OSError as error:
        raise HookError(f"cannot be read: {error.strerror}", path=path) from None
    except strictjson.JSONError as error:
        raise HookError(str(error), path=path) from None
    try:
        document = strictjson.loads(data)
    except strictjson.JSONError as error:
        return Checked(path, kind, [Fault("", f"none: {_where(data) or error}", "JSON")], [])
    kind = kind or kind_of(document)
    if not kind:
        expected = f"--as KIND with it, one of {', '.join(KINDS)}"
        raise HookError(f"cannot be told from its content, expected {expected}", path=path)
    if kind == HOOK_FILE:
        known = [*ocihooks.STAGES, *ocihooks.EXTENSIONS]
        judgement = ocihooks.judge(data, known)
        return Checked(path, kind, judgement.faults, judgement.doubts)
    found = schema.faults(kind, document)
    notes: list[str] = []
    if kind == CONFIGURATION:
        more, notes = _confs(document, folders)
        found += more
    return Checked(path, kind, found, notes)


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
    keys = set(document) if isinstance(document, dict) else set()
    return next((kind for kind, marks in _MARKS if keys & marks), "")


def _confs(document: Any, folders: list[str]) -> tuple[list[Fault], list[str]]:
    """What is wrong in the `conf` of each plugin of a configuration."""
    plugins = document.get("plugins") if isinstance(document, dict) else None
    found, notes = [], []
    for index, entry in enumerate(plugins if isinstance(plugins, list) else []):
        if isinstance(entry, dict):
            faults, skipped = pluginschema.faults(entry, folders)
            place = f"/plugins/{index}"
            found += [fault._replace(pointer=place + fault.pointer) for fault in faults]
            notes += [f"{place}: {note}" for note in skipped]
    return found, notes
