"""The nri-hook command: one module per command of an operator, and the stages by their names."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys

from nri_hook import __version__
from nri_hook.errors import HookError, UsageError, printable
from nri_hook.registration import hookfile

# Each is a module here, which is imported when it is called: some of them need what others do not.
COMMANDS = ("install", "uninstall", "doctor", "validate", "status", "log", "invoke", "gc")


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name; default: the process's own).

    Returns the exit status: 0 done, 1 failed, 2 used wrongly, the last two with one line on
    stderr. A stage (`nri-hook createRuntime ...`) never comes back.
    """
    args = sys.argv[1:] if argv is None else argv
    if args and args[0] not in COMMANDS:
        from nri_hook.hook import stages

        if args[0] in stages.STAGES:
            stages.main([hookfile.NAME, *args])
    if isinstance(sys.stdout, io.TextIOWrapper):  # what plugins said is not only ASCII
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = argparse.ArgumentParser(
        prog=hookfile.NAME,
        description="Put containers into the cgroup that your plugins choose (NRI 0.1).",
        epilog="Hook files call it with a stage instead: nri-hook createRuntime [FLAG...].",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    for name in args[:1] if args[:1] and args[0] in COMMANDS else COMMANDS:
        importlib.import_module(f"{__name__}.{name}").add_parser(commands)
    namespace = parser.parse_args(args)
    try:
        status: int = namespace.run(namespace)
        sys.stdout.flush()
        return status
    except HookError as error:
        code = f" [{error.code}]" if error.code else ""
        _say(namespace.command, f"{error}{code}")
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:  # whoever reads it has seen enough; at its end Python writes the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        _say(namespace.command, f"{error.filename}: {error.strerror}")
        return 1


def _say(command: str, line: str) -> None:
    print(printable(f"{hookfile.NAME} {command}: {line}"), file=sys.stderr)
