"""What can go wrong, and how a line about it reads."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NOT_IN_WORDS = frozenset(" \"'=;")


def printable(text: str) -> str:
    """One line of plain text: what strangers wrote must not forge lines or colours of a log."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def word(text: str) -> str:
    """The value in a line of key=value words: as it is, or in double quotes if it could pass for
    more than one, with a backslash before quotes and backslashes, and unprintables escaped."""
    if text.isprintable() and NOT_IN_WORDS.isdisjoint(text):
        return text
    return quoted(text)


def quoted(text: str) -> str:
    """It in double quotes, with a backslash before quotes and backslashes, and unprintables
    escaped."""
    return '"' + printable(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


class HookError(Exception):
    """The hook cannot do what it was called for. The message is one line: what, where, expected.

    `plugin` is the type of the plugin that is to blame, if one is; `path` the file or directory.
    """

    def __init__(self, message: str, plugin: str = "", path: str = "") -> None:
        super().__init__(message)
        self.plugin = plugin
        self.path = path

    def __str__(self) -> str:
        parts = [self.args[0]]
        if self.path:
            parts.insert(0, self.path)
        if self.plugin:
            parts.insert(0, "plugin " + self.plugin)
        return printable(": ".join(parts))


class UsageError(HookError):
    """The command line is wrong: exit status 2."""


class Refused(HookError):
    """The answer of the chain is wrong: undone, and the container does not start."""


class Left(HookError):
    """This container cannot be moved at all: it starts where it is. Not a failure."""


class ControlError(HookError):
    """A control of a cgroup cannot be read or set."""


class NoControl(ControlError):
    """The kernel has no such control in that place."""


def invalid(name: str, document: "Any", plugin: str = "", path: str = "") -> HookError:
    """The error for a `document` that is not what schemas/NAME.schema.json describes.

    The checks of the hot path are written by hand; jsonschema is loaded only here, to word it.
    """
    try:
        from nri_hook.validation import schema

        reason = schema.explain(name, document)
    except (ImportError, OSError) as error:
        reason = f"is no valid {name} ({error})"
    return HookError(reason or f"is no valid {name}", plugin=plugin, path=path)
