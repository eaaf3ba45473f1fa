"""The schema that a plugin brings for its `conf`: TYPE.schema.json beside the plugin's file."""

from __future__ import annotations

import os
from typing import Any

from nri_hook import strictjson, trust
from nri_hook.errors import HookError
from nri_hook.hook import host_config, plugin
from nri_hook.validation.fault import Fault
from nri_hook.validation.schema import faults_by

SUFFIX = ".schema.json"
MAX_SIZE = 1 << 20


def faults(entry: dict[str, Any], directories: list[str]) -> tuple[list[Fault], list[str]]:
    """What is wrong in the `conf` of one entry of a configuration, with pointers into the entry;
    and, for an entry that was not looked into, why. directories: of plugins, in order.

    An absent `conf` is held for an empty object where the schema has keys that are required.
    """
    type = entry.get("type")
    if not host_config.is_type(type):  # the configuration's own schema says so
        return [], []
    try:
        schema, path = _load(plugin.find(str(type), directories))
    except HookError as error:
        return [], [f"the conf of {type} was not looked into: {error}"]
    if schema is None:
        return [], [f"the conf of {type} was not looked into: there is no {path}"]
    if "conf" not in entry and not schema.get("required"):
        return [], []
    try:
        wrong = faults_by(schema, entry.get("conf", {}))
    except ValueError as error:
        return [], [f"the conf of {type} was not looked into: {path} is not a JSON Schema: {error}"]
    return [fault._replace(pointer="/conf" + fault.pointer) for fault in wrong], []


def _load(found: plugin.Program) -> tuple[dict[str, Any] | None, str]:
    """(the schema, its path), without a schema where there is no such file. Raises HookError.

    Only root may have written it: an expression in it can keep us busy for ever.
    """
    path = os.path.join(os.path.dirname(found.path), found.type + SUFFIX)
    directory = found.directory or trust.Directory(os.path.dirname(path))
    try:
        fd = directory.open_file(os.path.basename(path))
    except FileNotFoundError:
        return None, path
    except OSError as error:
        raise HookError(f"cannot be read: {error.strerror}", path=path) from None
    try:
        schema = strictjson.loads(strictjson.read(fd, MAX_SIZE))
    except strictjson.JSONError as error:
        raise HookError(str(error), path=path) from None
    finally:
        os.close(fd)
    if not isinstance(schema, dict):
        raise HookError("expected an object", path=path)
    return schema, path
