"""The schema that a plugin brings for its `conf`: TYPE.schema.json beside the plugin's file."""

from __future__ import annotations

import os
from typing import Any

from nri_hook import conf, program, strictjson
from nri_hook.errors import HookError
from nri_hook.fault import Fault
from nri_hook.schema import faults_by

SUFFIX = ".schema.json"
MAX_SIZE = 1 << 20


def faults(entry: dict[str, Any], folders: list[str]) -> tuple[list[Fault], list[str]]:
    """What is wrong in the `conf` of one entry of a configuration, with pointers into the entry;
    and, for an entry that was not looked into, why. folders: of plugins, in order.

    An absent `conf` is held for an empty object where the schema has keys that are required.
    """
    type = entry.get("type")
    if not conf.is_type(type):  # the configuration's own schema says so
        return [], []
    try:
        found = program.find(str(type), folders)
        schema, path = _load(str(type), os.path.dirname(found.path))
    except HookError as error:
        return [], [f"the conf of {type} was not looked into: {error}"]
    if schema is None:
        return [], [f"the conf of {type} was not looked into: there is no {path}"]
    if "conf" not in entry and not schema.get("required"):
        return [], []
    try:
        wrong = faults_by(schema, entry.get("conf", {}))
    except ValueError as error:
        return [], [f"the conf of {type} was not looked into: {path} is no JSON Schema: {error}"]
    return [fault._replace(pointer="/conf" + fault.pointer) for fault in wrong], []


def _load(type: str, folder: str) -> tuple[dict[str, Any] | None, str]:
    """(the schema, its path), without a schema where there is no such file. Raises HookError."""
    path = os.path.join(folder, type + SUFFIX)
    try:
        with open(path, "rb") as file:
            schema = strictjson.loads(strictjson.read(file.fileno(), MAX_SIZE))
    except FileNotFoundError:
        return None, path
    except OSError as error:
        raise HookError(f"cannot be read: {error.strerror}", path=path) from None
    except strictjson.JSONError as error:
        raise HookError(str(error), path=path) from None
    if not isinstance(schema, dict):
        raise HookError("expected an object", path=path)
    return schema, path
