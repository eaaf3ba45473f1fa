"""The `conf` of a plugin, read with errors that say where something else was expected.

A key that the plugin does not know is an error: a misspelt one would be ignored in silence.
"""

from nri_hook import strictjson
from nri_hook.skel import PluginError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

MAX_FOUND = 60


class Conf:
    """An object of JSON. Every method raises PluginError."""

    def __init__(self, value: "Any", keys: "tuple[str, ...]", where: str = "") -> None:
        """value: decoded JSON, None for an empty object. keys: all that it may have. where: its
        JSON pointer in `conf`."""
        self.where = where
        self.values: "dict[str, Any]" = {} if value is None else value
        if type(self.values) is not dict:
            raise PluginError(_message(where or "/", "an object", value))
        for key in self.values:
            if key not in keys:
                raise PluginError(f"conf: {where}/{key}: unknown, expected {' or '.join(keys)}")

    def text(self, key: str, default: str = "") -> str:
        """A string of at least one character."""
        value = self.values.get(key, default)
        if type(value) is not str or (key in self.values and not value):
            raise self.wrong(key, "a string")
        return value

    def texts(self, key: str, default: "list[str]") -> "list[str]":
        """A list of strings."""
        value = self.values.get(key, default)
        if type(value) is not list or any(type(item) is not str for item in value):
            raise self.wrong(key, "a list of strings")
        return value

    def flag(self, key: str) -> "Optional[bool]":
        """true or false, None if it is absent."""
        value = self.values.get(key)
        if key in self.values and type(value) is not bool:
            raise self.wrong(key, "true or false")
        return value

    def number(self, key: str, least: int, most: int) -> "Optional[int]":
        """A whole number from `least` to `most`, None if it is absent."""
        value = self.values.get(key)
        if key not in self.values:
            return None
        if value is None or not strictjson.is_integer(value, least) or value > most:
            raise self.wrong(key, f"a whole number from {least} to {most}")
        return int(value)

    def wrong(self, key: str, expected: str) -> PluginError:
        """The error for the value under `key`."""
        return PluginError(_message(f"{self.where}/{key}", expected, self.values.get(key)))


def _message(where: str, expected: str, value: "Any") -> str:
    found = strictjson.dumps(value).decode("utf-8", "replace")
    found = found if len(found) <= MAX_FOUND else found[: MAX_FOUND - 3] + "..."
    return f"conf: {where}: expected {expected}, found {found}"
