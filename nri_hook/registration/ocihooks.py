"""The rules of oci-hooks(5) by which podman and CRI-O judge a hook file.

One bad file is enough: podman then starts no container, and CRI-O does not start.
Source: containers/common, pkg/hooks: read.go, 1.0.0 and 0.1.0. They decode with Go's encoding/json:
keys in any case, null for absent, unknown keys ignored. What schemas/hook-file.schema.json cannot
say is here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from nri_hook import atomicfile
from nri_hook.errors import HookError
from nri_hook.registration import goregex
from nri_hook.strictjson import fold
from nri_hook.validation.fault import Fault, pointer, value

SUFFIX = ".json"
# Bytes. An engine takes more; whoever writes more wants somebody to be busy with it.
MAX_SIZE = 1 << 20
STAGES = (
    "createContainer",
    "createRuntime",
    "poststart",
    "poststop",
    "prestart",
    "startContainer",
)
# What podman takes beside these.
EXTENSIONS = ("precreate",)

# Keys of the old format 0.1.0; the second of a pair is another name of the first.
_OLD_KEYS = ("version", "hook", "arguments", "hasbindmounts")
_OLD_PAIRS = (("stages", "stage"), ("cmds", "cmd"), ("annotations", "annotation"))


class Judgement(NamedTuple):
    """What the engines make of a file.

    document: in format 1.0.0, with the keys that they know, under their names; empty if it is not
    an object. faults: why they refuse it. doubts: what they do with it that its author may not
    expect. notes: what is ignored, or cannot be judged here.
    """

    document: dict[str, Any]
    faults: list[Fault]
    doubts: list[str]
    notes: list[str]


class _Float(float):
    """A number with a point, which Go never takes for an integer: 2.0 is not 2."""

    def is_integer(self) -> bool:
        return False


def names(directory: str) -> list[str]:
    """The names of the files in a directory that an engine reads, in order. Raises HookError."""
    try:
        return sorted(name for name in os.listdir(directory) if name.endswith(SUFFIX))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HookError(f"cannot be read: {error.strerror}", path=directory) from None


def judge_file(path: str, stages: Sequence[str] = STAGES) -> Judgement:
    """Judge a file of a hooks directory. stages: all that the engine knows. Raises HookError."""
    data = atomicfile.load(path, MAX_SIZE)
    if data is None:
        raise HookError("cannot be read: No such file or directory", path=path)
    return judge(data, stages)


def judge(data: bytes, stages: Sequence[str] = STAGES) -> Judgement:
    """Judge the bytes of a hook file."""
    # Whoever is without jsonschema is to hear so from `install`, not from this import.
    from nri_hook.validation import schema

    found = Judgement({}, [], [], [])
    try:
        text = data.decode("utf-8", "replace")
        document = json.loads(text, parse_constant=_refuse, parse_float=_Float)
    except (ValueError, RecursionError) as error:
        found.faults.append(Fault("", f"none: {error}", "JSON"))
        return found
    if not isinstance(document, dict):
        found.faults.append(Fault("", value(document), "an object"))
        return found
    version = next((said for key, said in document.items() if fold(key) == "version"), None)
    if version in (None, "", "0.1.0"):
        found.doubts.append('it has the old format 0.1.0; expected "version": "1.0.0"')
        document = _renew(document, found)
    form = schema.load("hook-file")
    found.document.update(_known(document, form, "", found.notes))
    if not found.faults:
        found.faults.extend(schema.faults("hook-file", found.document))
    if not found.faults:
        _judge_values(found, stages)
    return found


def _renew(document: dict[str, Any], found: Judgement) -> dict[str, Any]:
    """A document of the old format in format 1.0.0, as the engines read it."""
    keys = [*_OLD_KEYS, *(key for pair in _OLD_PAIRS for key in pair)]
    old = _known(document, {"properties": {key: {} for key in keys}}, "", found.notes)
    for several, single in _OLD_PAIRS:
        if several in old and single in old:
            found.faults.append(Fault(f"/{single}", value(old[single]), f"no {several} beside it"))
        elif single in old:
            old[several] = old[single]
    path, annotations = old.get("hook"), old.get("annotations")
    if not isinstance(path, str):
        said = "nothing" if path is None else value(path)
        found.faults.append(Fault("/hook", said, "a path, or version 1.0.0"))
    if isinstance(annotations, list):
        annotations = {".*": "|".join(map(str, annotations))}
    return {
        "version": "1.0.0",
        "hook": {"path": path, "args": old.get("arguments")},
        "when": {
            "commands": old.get("cmds"),
            "hasBindMounts": old.get("hasbindmounts"),
            "annotations": annotations,
        },
        "stages": old.get("stages"),
    }


def _known(
    document: dict[str, Any], form: dict[str, Any], place: str, notes: list[str]
) -> dict[str, Any]:
    """The values that are not null of the keys that a schema knows, under their own names."""
    names = {fold(key): key for key in form["properties"]}
    known = {}
    for key, said in document.items():
        name = names.get(fold(key))
        if name is None:
            notes.append(f"{place}/{pointer(key)} is not a key of it, and ignored")
        elif said is not None:
            inner = form["properties"][name]
            if isinstance(said, dict) and "properties" in inner:
                said = _known(said, inner, f"{place}/{name}", notes)
            known[name] = said
    return known


def _judge_values(found: Judgement, stages: Sequence[str]) -> None:
    """What holds once the types do."""
    document = found.document
    path, when = document["hook"]["path"], document.get("when", {})
    if not os.path.lexists(path):
        found.doubts.append(f"/hook/path {path} does not exist: the file is ignored in silence")
    for place, pattern in _patterns(when):
        verdict, why = goregex.judge(pattern)
        if verdict == goregex.REFUSED:
            expected = f"a regular expression of Go ({why})"
            found.faults.append(Fault(place, value(pattern), expected))
        elif verdict == goregex.UNKNOWN:
            found.notes.append(f"{place}: the expression is not judged: {why}")
    for n, stage in enumerate(document["stages"]):
        if stage not in stages:
            expected = f"one of {', '.join(stages)}"
            found.faults.append(Fault(f"/stages/{n}", value(stage), expected))
    if not may_match(when):
        found.doubts.append("/when matches no container")


def _patterns(when: dict[str, Any]) -> list[tuple[str, str]]:
    """(JSON pointer, pattern) of each regular expression of `when`."""
    found = []
    for key, pattern in (when.get("annotations") or {}).items():
        place = f"/when/annotations/{pointer(key)}"
        found += [(place, key), (place, pattern or "")]
    commands = enumerate(when.get("commands") or [])
    return found + [(f"/when/commands/{n}", pattern or "") for n, pattern in commands]


def may_match(when: dict[str, Any]) -> bool:
    """Whether there can be a container that these conditions let through: each that is given has
    to hold, and one has to be given."""
    if when.get("always") is False or when.get("hasBindMounts") is False:
        return False
    return any(when.get(key) for key in ("always", "hasBindMounts", "annotations", "commands"))


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
