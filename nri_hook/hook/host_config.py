"""The host configuration: which plugins, in which order, with what."""

import os

from nri_hook import strictjson, trust
from nri_hook.errors import BAD_CONFIGURATION, HookError, invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

MAX_SIZE = 1 << 20
KEYS = frozenset(("version", "plugins"))
ENTRY_KEYS = frozenset(("type", "conf", "timeout", "onError", "leaveParent", "onLeft"))
WORD = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")


class Entry:
    """One plugin of the chain.

    type: the name of its file. document: the entry as it was configured, with its keys as in
    ENTRY_KEYS, which holds `conf`, if there is one. timeout: seconds, or None for what is left of
    the chain's. ignore: whether the chain goes on without it. leave_parent: whether its answer may
    lead out of a limited parent. must_place: whether a container that would be left must not
    start.
    """

    def __init__(self, document: "dict[str, Any]") -> None:
        self.document = document
        self.type: str = document["type"]
        self.timeout: "Optional[float]" = document.get("timeout")
        self.ignore = document.get("onError") == "ignore"
        self.leave_parent = bool(document.get("leaveParent"))
        self.must_place = document.get("onLeft") == "fail"


def load(directory: str) -> "list[Entry]":
    """The entries of DIRECTORY/resource.d/*.conf in lexical order, else of DIRECTORY/conf.json.

    The first is the place of NRI 0.1's README, the second that of its Go client. None of them
    there: no entries. Raises HookError.
    """
    entries: "list[Entry]" = []
    for path in paths(directory):
        entries += _entries(path)
    return entries


def paths(directory: str) -> "list[str]":
    """The files that load() reads, in order. Raises HookError."""
    drop_ins = os.path.join(directory, "resource.d")
    try:
        names = [n for n in os.listdir(drop_ins) if n.endswith(".conf") and n[0] != "."]
    except (FileNotFoundError, NotADirectoryError):
        names = []
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise HookError(reason, path=drop_ins, code=BAD_CONFIGURATION) from None
    if names:
        return [os.path.join(drop_ins, name) for name in sorted(names)]
    single = os.path.join(directory, "conf.json")
    return [single] if os.path.lexists(single) else []


def _entries(path: str) -> "list[Entry]":
    try:
        fd = trust.open_file(path)
        try:
            document = spell_keys(strictjson.loads(strictjson.read(fd, MAX_SIZE)))
        finally:
            os.close(fd)
    except strictjson.JSONError as error:
        raise HookError(str(error), path=path, code=BAD_CONFIGURATION) from None
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise HookError(reason, path=path, code=BAD_CONFIGURATION) from None
    if not _well_formed(document):
        raise invalid("host-configuration", document, path=path, code=BAD_CONFIGURATION)
    return [Entry(entry) for entry in document.get("plugins") or []]


def spell_keys(document: "Any") -> "Any":
    """A decoded configuration with the keys that the hook reads, in any case, spelled as in KEYS
    and ENTRY_KEYS; `conf` is the plugin's and stays. Raises strictjson.JSONError."""
    document = strictjson.spell_keys(document, KEYS)
    plugins = document.get("plugins") if type(document) is dict else None
    if type(plugins) is not list:
        return document
    return dict(
        document,
        plugins=[
            strictjson.spell_keys(entry, ENTRY_KEYS, f"/plugins/{index}")
            for index, entry in enumerate(plugins)
        ],
    )


def _well_formed(document: "Any") -> bool:
    if type(document) is not dict or not _is_version(document.get("version")):
        return False
    plugins = document.get("plugins")
    if plugins is None:
        return True
    return type(plugins) is list and all(_entry_well_formed(entry) for entry in plugins)


def _is_version(value: "Any") -> bool:
    """Whether this is 0.1, with or without a third number."""
    if value in (None, "", "0.1"):
        return True
    third = value[4:] if type(value) is str and value.startswith("0.1.") else ""
    return third.isascii() and third.isdecimal()


def _entry_well_formed(entry: "Any") -> bool:
    if type(entry) is not dict:
        return False
    timeout = entry.get("timeout")
    return (
        is_type(entry.get("type"))
        and (timeout is None or (type(timeout) in (int, float) and timeout > 0))
        and entry.get("onError") in (None, "fail", "ignore")
        and type(entry.get("leaveParent")) in (type(None), bool)
        and entry.get("onLeft") in (None, "start", "fail")
    )


def is_type(value: "Any") -> bool:
    """Whether `value` may name a plugin: never a path, an option or a hidden file."""
    return (
        type(value) is str
        and value[:1] in WORD
        and value != ""
        and all(c in WORD or c in ".-" for c in value)
    )
