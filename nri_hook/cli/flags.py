"""The flags of the stages, as the commands of an operator have them."""

from __future__ import annotations

import argparse
import os

from nri_hook import options


def add(parser: argparse.ArgumentParser) -> None:
    """Add them to a command."""
    parser.add_argument(
        "--conf-dir",
        metavar="DIR",
        type=absolute,
        action="append",
        help="folder of the host configuration: resource.d/*.conf, else conf.json (/etc/nri)",
    )
    parser.add_argument(
        "--plugin-dir",
        metavar="DIR",
        type=absolute,
        action="append",
        help="folder of the plugins, repeatable (/opt/nri/bin)",
    )
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        type=absolute,
        action="append",
        help="folder of the records (/run/nri-hook)",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        action="append",
        help="for the whole chain of plugins (30); the runtime kills the hook "
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
    return os.path.abspath(path)


def words(args: argparse.Namespace) -> list[str]:
    """Those that the command line gave, as a stage would have them."""
    return [
        part
        for flag in options.VALUES
        for value in getattr(args, flag.strip("-").replace("-", "_")) or []
        for part in (flag, value)
    ]
