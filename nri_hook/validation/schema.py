"""The JSON schemas, and what is wrong with a document in plain words.

Imported only once a check has failed, and by commands that a person runs: jsonschema alone
costs ten times what the rest of a hook does.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for

from nri_hook.validation.fault import Fault, pointer, value

NAMES = ("host-configuration", "payload", "result", "state", "config", "hook-file")

_TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "an integer",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}


def explain(name: str, document: object) -> str | None:
    """The fault that stands highest in a decoded JSON document, as one line.

    None where the document validates. The line is ASCII, and is the same under every version
    of jsonschema. Names as for `faults`.
    """
    found = faults(name, document)
    if not found:
        return None
    return str(min(found, key=lambda fault: fault.pointer.count("/")))


def faults(name: str, document: object) -> list[Fault]:
    """All faults of a decoded JSON document, one for each place, in the schema's order.

    name: "host-configuration", "payload", "result", "state", "config" or
    "hook-file".
    """
    return _all_faults(_validator(name), document)


def faults_by(schema: dict[str, Any], document: object) -> list[Fault]:
    """The same by a schema that somebody else wrote. It speaks of itself alone: a "$ref" to
    another document is never fetched. Raises ValueError where it is no JSON Schema."""
    validator = validator_for(schema, default=Draft202012Validator)
    try:
        validator.check_schema(schema)
    except SchemaError as error:
        place = "".join("/" + pointer(part) for part in error.absolute_path) or "document"
        raise ValueError(f"{place}: {error.message}") from None
    for reference in _references(schema):
        if not reference.startswith("#"):
            raise ValueError(f'"$ref" {reference}: expected one that begins with #')
    try:
        return _all_faults(validator(schema), document)
    except Exception as error:  # of a type that differs from version to version
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        for word in ("$ref", "$dynamicRef", "$recursiveRef"):
            if isinstance(schema.get(word), str):
                yield schema[word]
    if isinstance(schema, (dict, list)):
        for part in schema.values() if isinstance(schema, dict) else schema:
            yield from _references(part)


def _all_faults(validator: Any, document: object) -> list[Fault]:
    found: dict[str, Fault] = {}
    for error in validator.iter_errors(document):
        for fault in _faults(error):
            found.setdefault(fault.pointer, fault)
    return list(found.values())


@functools.cache
def load(name: str) -> dict[str, Any]:
    """The schema of that name as a decoded JSON object, shared: not to be changed.

    ValueError for a name that is not in NAMES.
    """
    if name not in NAMES:
        raise ValueError(f"no schema has the name {name!r}")
    package = Path(__file__).resolve().parent.parent
    directory = package / "schemas"
    if not directory.is_dir():
        # In a checkout the schemas stand at the top, for those who test plugins against them.
        directory = package.parent / "schemas"
    schema: dict[str, Any] = json.loads((directory / f"{name}.schema.json").read_bytes())
    return schema


@functools.cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(load(name))


def _faults(error: Any) -> Iterator[Fault]:
    """The faults behind a ValidationError: one, or one for each required key that is missing."""
    place = "".join("/" + pointer(part) for part in error.absolute_path)
    if error.validator == "required":
        for key in error.validator_value:
            if key not in error.instance:
                expected = _expected(error.schema.get("properties", {}).get(key, {}))
                yield Fault(f"{place}/{pointer(key)}", "nothing", expected)
    elif error.validator == "additionalProperties" and error.validator_value is False:
        for key in _unknown_keys(error.instance, error.schema):
            yield Fault(f"{place}/{pointer(key)}", value(error.instance[key]), "no such key")
    elif error.validator == "type":
        yield Fault(place, value(error.instance), _type(error.schema))
    else:
        said = f"{error.validator} {value(error.validator_value)}"
        yield Fault(place, value(error.instance), str(error.schema.get("x-expected") or said))


def _unknown_keys(document: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    patterns = schema.get("patternProperties", {})
    return [
        key
        for key in document
        if key not in schema.get("properties", {})
        and not any(re.search(pattern, key) for pattern in patterns)
    ]


def _expected(schema: Any) -> str:
    """What a schema wants, in words."""
    if not isinstance(schema, dict):
        return "a value"
    return str(schema.get("x-expected") or _type(schema))


def _type(schema: dict[str, Any]) -> str:
    """The schema's types in words, but for null, which only says that the key may be left out."""
    types = schema.get("type", [])
    names = [types] if isinstance(types, str) else types
    return " or ".join(_TYPES[name] for name in names if name != "null") or "a value"
