"""`nri-hook validate`: every error in a configuration, a payload, a result or a hook file."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from nri_hook.cli import flags, given
from nri_hook.errors import HookError, UsageError, printable
from nri_hook.hook import host_config
from nri_hook.validation import documents

if TYPE_CHECKING:
    from nri_hook.cli.install import Commands


def add_parser(commands: Commands) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "validate",
        help="check a configuration, a payload, an answer or a hook file",
        description="Check each FILE against its schema. The kind of a file is told from its "
        "content, or given by --as. In a host configuration the conf of each plugin is checked "
        "too, against TYPE.schema.json beside the plugin. Without a FILE, check the "
        "configuration that the hook reads. Print one line per error: file, JSON pointer, "
        "expected, found. A note names a key that nri-hook ignores or that differs in case.",
        allow_abbrev=False,
    )
    parser.add_argument("files", metavar="FILE", nargs="*")
    parser.add_argument(
        "--as",
        dest="kind",
        metavar="KIND",
        choices=documents.KINDS,
        help=", ".join(documents.KINDS),
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    flags.add(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check what the command line names; 1 where anything is wrong. Raises HookError."""
    if args.kind and not args.files:
        raise UsageError("--as says what a FILE is, expected one")
    chosen = flags.chosen(args)
    kind = args.kind or ("" if args.files else documents.CONFIGURATION)
    paths = args.files or host_config.paths(chosen.conf_dir)
    checked, unread = [], []
    for path in paths:
        try:
            checked.append(documents.check(path, given.load(path), kind, chosen.plugin_path()))
        except HookError as error:
            unread.append(error)
    if args.json:
        print(json.dumps(_document(checked, unread), indent=2))
    else:
        _say(checked)
        for reason in unread:
            print(printable(f"nri-hook validate: {reason}"), file=sys.stderr)
        if not paths:
            print(f"{chosen.conf_dir}: no configuration, so no plugin is called")
    return 1 if unread or any(file.faults for file in checked) else 0


def _say(checked: list[documents.Checked]) -> None:
    for file in checked:
        for fault in file.faults:
            print(printable(f"{file.path}: {fault}"))
        for note in [*file.odd_keys, *file.notes]:
            print(printable(f"{file.path}: note: {note}"))
        if not file.faults:
            print(printable(f"{file.path}: well-formed {file.kind}"))


def _document(checked: list[documents.Checked], unread: list[HookError]) -> dict[str, object]:
    return {
        "files": [
            {
                "file": file.path,
                "kind": file.kind,
                "errors": [fault._asdict() for fault in file.faults],
                "notes": [*file.odd_keys, *file.notes],
            }
            for file in checked
        ],
        "unread": [str(error) for error in unread],
    }
