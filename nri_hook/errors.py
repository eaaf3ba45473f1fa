"""What can go wrong, and how a line about it reads.

Each error has a code: programs go by it, never by the message. docs/troubleshooting.md explains the
codes, cli/remedies.py says what to do about them.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The codes of Refused and Left, for an error that has none of its own.
REFUSED = "refused"
LEFT = "left"

# What the administrator has to change: a file, its owner, a plugin, how it is registered.
BAD_CONFIGURATION = "bad-configuration"
UNTRUSTED = "untrusted"
NOT_FOUND = "not-found"
NOT_EXECUTABLE = "not-executable"
CANNOT_RUN = "cannot-run"
REGISTERED_TWICE = "registered-twice"

# What a plugin did.
BAD_ANSWER = "bad-answer"
PLUGIN_ERROR = "plugin-error"
TIMED_OUT = "timed-out"
NO_TIME = "no-time"

# Why an answered cgroupsPath cannot be followed.
PATH_EXPECTED = "path-expected"
UNIT_EXPECTED = "unit-expected"
RELATIVE_PATH = "relative-path"
PARENT_LIMIT = "parent-limit"
OCCUPIED = "occupied"
FROZEN = "frozen"
MUST_BE_PLACED = "must-be-placed"

# What is left behind, and a bug.
NOT_REMOVED = "not-removed"
INTERNAL = "internal"

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

    plugin: the type of the plugin that is to blame, "" if none is.
    path: the file or directory, "" if it is about none.
    code: one of the codes above, or "" if the message is all there is to say.
    """

    code = ""

    def __init__(self, message: str, plugin: str = "", path: str = "", code: str = "") -> None:
        super().__init__(message)
        self.plugin = plugin
        self.path = path
        if code:
            self.code = code

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

    code = REFUSED


class Left(HookError):
    """This container cannot be moved at all: it starts where it is. Not a failure."""

    code = LEFT


class ControlError(HookError):
    """A control of a cgroup cannot be read or set."""


class NoControl(ControlError):
    """The kernel has no such control in that place."""


class Note:
    """Something worth saying that is not a failure.

    text: one line. code: of the error that it tells of, "" if it tells of none.
    """

    def __init__(self, text: str, code: str = "") -> None:
        self.text = text
        self.code = code


def invalid(
    name: str, document: "Any", plugin: str = "", path: str = "", code: str = ""
) -> HookError:
    """The error for a `document` that is not what schemas/NAME.schema.json describes.

    The checks of the hot path are written by hand; jsonschema is loaded only here, to word it.
    """
    try:
        from nri_hook.validation import schema

        reason = schema.explain(name, document)
    except (ImportError, OSError) as error:
        reason = f"is not a valid {name} ({error})"
    return HookError(reason or f"is not a valid {name}", plugin, path, code)
