"""The rules of oci-hooks(5) by which podman and CRI-O judge a hook file.

One bad file is enough: podman then starts no container, and CRI-O does not start.
Source: containers/common, pkg/hooks: read.go, 1.0.0 and 0.1.0. They decode with Go's encoding/json:
keys in any case, null for absent, unknown keys passed over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from nri_hook import atomicfile
from nri_hook.errors import HookError
from nri_hook.registration import goregex
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

_KEYS = ("version", "hook", "when", "stages")
_HOOK_KEYS: dict[str, Any] = {"path": str, "args": [str], "env": [str], "timeout": int}
_WHEN_KEYS: dict[str, Any] = {
    "always": bool,
    "annotations": {},
    "commands": [str],
    "hasBindMounts": bool,
}
_OLD_KEYS: dict[str, Any] = {"hook": str, "arguments": [str], "hasbindmounts": bool}
_OLD_PAIRS = (("stages", "stage"), ("cmds", "cmd"), ("annotations", "annotation"))
_WORDS = {str: "a string", bool: "true or false", int: "an integer"}


class Judgement(NamedTuple):
    """What the engines make of a file.

    document: with the keys that they know, under their names; empty where it is no object. faults:
    why they refuse it. doubts: what they do with it that its author may not expect, or what cannot
    be judged here.
    """

    document: dict[str, Any]
    faults: list[Fault]
    doubts: list[str]


def names(folder: str) -> list[str]:
    """The names of the files in a folder that an engine reads, in order. Raises HookError."""
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(SUFFIX))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HookError(f"cannot be read: {error.strerror}", path=folder) from None


def judge_file(path: str, stages: Sequence[str] = STAGES) -> Judgement:
    """Judge a file of a hooks folder. stages: all that the engine knows. Raises HookError."""
    data = atomicfile.load(path, MAX_SIZE)
    if data is None:
        raise HookError("cannot be read: No such file or directory", path=path)
    return judge(data, stages)


def judge(data: bytes, stages: Sequence[str] = STAGES) -> Judgement:
    """Judge the bytes of a hook file."""
    found = Judgement({}, [], [])
    try:
        document = json.loads(data.decode("utf-8", "replace"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        found.faults.append(Fault("", f"none: {error}", "JSON"))
        return found
    top = _known(document, "", _KEYS, found) if isinstance(document, dict) else {}
    version = top.get("version")
    if not isinstance(document, dict):
        found.faults.append(Fault("", value(document), "an object"))
    elif version == "1.0.0":
        found.document.update(top)
        _judge_current(found)
    elif version in (None, "", "0.1.0"):
        _judge_old(document, found)
    else:
        found.document.update(top)
        found.faults.append(Fault("/version", value(version), '"1.0.0"'))
    if found.document and not found.faults:
        _judge_values(found, stages)
    return found


def _judge_current(found: Judgement) -> None:
    document = found.document
    for name, keys in (("hook", _HOOK_KEYS), ("when", _WHEN_KEYS)):
        inner = document.get(name, {})
        if isinstance(inner, dict):
            document[name] = _known(inner, f"/{name}", tuple(keys), found)
            _check_types(document[name], f"/{name}", keys, found)
        else:
            found.faults.append(Fault(f"/{name}", value(inner), "an object"))
    _check_types(document, "", {"stages": [str]}, found)


def _judge_old(document: dict[str, Any], found: Judgement) -> None:
    """Turn a file of the form 0.1.0 into one of 1.0.0, as the engines do."""
    pairs = {key: [str] for pair in _OLD_PAIRS for key in pair}
    old = _known(document, "", (*_OLD_KEYS, *pairs, "version"), found)
    _check_types(old, "", {**_OLD_KEYS, **pairs}, found)
    for several, single in _OLD_PAIRS:
        if several in old and single in old:
            found.faults.append(Fault(f"/{single}", value(old[single]), f"no {several} beside it"))
        elif single in old:
            old[several] = old[single]
    if "hook" not in old:
        found.faults.append(Fault("/hook", "nothing", "a path, or version 1.0.0"))
    found.doubts.append('it has the old form 0.1.0; expected "version": "1.0.0"')
    when = {"commands": old.get("cmds"), "hasBindMounts": old.get("hasbindmounts")}
    if "annotations" in old and not found.faults:
        when["annotations"] = {".*": "|".join(old["annotations"])}
    found.document.update(
        hook={"path": old.get("hook")},
        when={key: said for key, said in when.items() if said is not None},
        stages=old.get("stages"),
    )


def _known(
    document: dict[str, Any], where: str, keys: tuple[str, ...], found: Judgement
) -> dict[str, Any]:
    """The values of the known keys that are not null, under their own names."""
    names = {key.casefold(): key for key in keys}
    known = {}
    for key, said in document.items():
        name = names.get(key.casefold())
        if name is None:
            found.doubts.append(f"{where}/{pointer(key)} is no key of it, and passed over")
        elif said is not None:
            known[name] = said
    return known


def _check_types(
    document: dict[str, Any], where: str, kinds: dict[str, Any], found: Judgement
) -> None:
    for key, kind in kinds.items():
        place = f"{where}/{key}"
        said = document.get(key)
        if said is None:
            continue
        if isinstance(kind, dict) != isinstance(said, dict) or (
            isinstance(kind, list) != isinstance(said, list)
        ):
            found.faults.append(Fault(place, value(said), _words(kind)))
        elif isinstance(said, list):
            parts = enumerate(said)
            _check_each([(f"{place}/{n}", part) for n, part in parts], kind[0], found)
        elif isinstance(said, dict):
            _check_each([(f"{place}/{pointer(n)}", part) for n, part in said.items()], str, found)
        else:
            _check_each([(place, said)], kind, found)


def _words(kind: Any) -> str:
    if isinstance(kind, dict):
        return "an object"
    return "a list" if isinstance(kind, list) else _WORDS[kind]


def _check_each(values: list[tuple[str, Any]], kind: type, found: Judgement) -> None:
    for place, said in values:
        if said is not None and type(said) is not kind:
            found.faults.append(Fault(place, value(said), _WORDS[kind]))


def _judge_values(found: Judgement, stages: Sequence[str]) -> None:
    """What holds for a file of either form, once its types do."""
    document = found.document
    path, when = document["hook"].get("path"), document.get("when", {})
    if not path:
        found.faults.append(Fault("/hook/path", value(path) if path else "nothing", "a path"))
    elif not os.path.lexists(path):
        found.doubts.append(f"/hook/path {path} is not there: the file is passed over in silence")
    for place, pattern in _patterns(when):
        verdict, why = goregex.judge(pattern)
        if verdict == goregex.REFUSED:
            expected = f"a regular expression of Go ({why})"
            found.faults.append(Fault(place, value(pattern), expected))
        elif verdict == goregex.UNKNOWN:
            found.doubts.append(f"{place}: only Go itself can judge {why}")
    if document.get("stages") is None:
        found.faults.append(Fault("/stages", "nothing", "a list of stages"))
    for n, stage in enumerate(document.get("stages") or []):
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
    raise ValueError(f"{name} is no JSON number")
