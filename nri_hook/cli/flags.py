"""The flags of the stages, as the commands of an operator have them."""

from __future__ import annotations

import argparse
import os
from typing import Any

from nri_hook import trust
from nri_hook.errors import HookError
from nri_hook.hook import options
from nri_hook.registration import engines, hookfile, ocihooks


def add(parser: argparse.ArgumentParser) -> None:
    """Add them to a command."""
    parser.add_argument(
        "--conf-dir",
        metavar="DIR",
        type=absolute,
        action="append",
        help="directory of the host configuration: resource.d/*.conf, else conf.json (/etc/nri)",
    )
    parser.add_argument(
        "--plugin-dir",
        metavar="DIR",
        type=absolute,
        action="append",
        help="directory of plugins; repeatable (/opt/nri/bin)",
    )
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        type=absolute,
        action="append",
        help="directory of the records (/run/nri-hook)",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        action="append",
        help="limit for the whole chain of plugins (30); the runtime kills the hook "
        f"{options.MARGIN} seconds later",
    )


def absolute(path: str) -> str:
    """A path given on the command line. JSON can only name paths that are UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{path!a}: expected a path in UTF-8") from None
    if not path:
        raise argparse.ArgumentTypeError("expected a path, not an empty string")
    return trust.absolute(path)


def words(args: argparse.Namespace) -> list[str]:
    """Those that the command line gave, as a stage would have them."""
    return [
        part
        for flag in options.VALUES
        for value in getattr(args, flag.strip("-").replace("-", "_")) or []
        for part in (flag, value)
    ]


def over(words: list[str], given: list[str]) -> list[str]:
    """The flags of a hook file, with those that the command line gave in their place."""
    names = set(given[::2])
    kept = []
    rest = list(words)
    while rest:
        flag = rest.pop(0)
        parts = [flag] if "=" in flag else [flag, *rest[:1]]
        rest = rest[len(parts) - 1 :]
        if flag.partition("=")[0] not in names:
            kept += parts
    return kept + given


def chosen(args: argparse.Namespace) -> options.Options:
    """What the hook itself is called with, as its hook files say; flags that the command line gave
    go before. Raises UsageError, HookError."""
    return options.parse(over(_registered(), words(args)))


def _registered() -> list[str]:
    """The flags in the first hook file of ours, [] where there is none."""
    for directory in dict.fromkeys([*reversed(engines.DIRECTORIES), *engines.crio_directories()]):
        path = os.path.join(directory, hookfile.file_name("createRuntime"))
        try:
            hook: Any = ocihooks.judge_file(path).document.get("hook")
        except HookError:
            continue
        if hookfile.is_nri_hook(hook):
            return [str(word) for word in hook["args"][2:]]
    return []
