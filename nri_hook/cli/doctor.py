"""`nri-hook doctor`: what is wrong on this node, and what to do about it."""

from __future__ import annotations

import argparse
import functools
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from nri_hook import atomicfile
from nri_hook.cli import flags
from nri_hook.doctor import (
    calls,
    chains,
    hook_directories,
    labels,
    layout,
    owners,
    programs,
    records,
)
from nri_hook.doctor.calls import Call
from nri_hook.doctor.chains import Chain
from nri_hook.doctor.finding import FAIL, OK, WARN, Finding
from nri_hook.doctor.hook_directories import Directories
from nri_hook.doctor.launchers import Launcher
from nri_hook.errors import HookError, UsageError, printable
from nri_hook.hook import options
from nri_hook.registration import hookfile

if TYPE_CHECKING:
    from nri_hook.cli.install import Commands

FIX = "; fix: "
STYLES = {OK: "green", WARN: "yellow", FAIL: "bold red"}


def add_parser(commands: Commands) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "doctor",
        help="check this node, and say how to fix what is wrong",
        description="Check runtimes, engines, cgroups, every hook file that an engine reads, the "
        "launcher, configuration, plugins, timeouts, labels and records. Nothing is changed. "
        "Each line is ok, warn or fail; warn and fail come with a fix, a command or a line to "
        "write. The paths are those in the installed hook files; flags given here take "
        "precedence. The exit status is 0 if nothing fails, else 1.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--hooks-dir",
        metavar="DIR",
        type=flags.absolute,
        action="append",
        default=[],
        help="a directory that podman gets by --hooks-dir; repeatable",
    )
    place.add_argument(
        "--bundle",
        metavar="DIR",
        type=flags.absolute,
        help="a bundle, for runc and crun without an engine",
    )
    parser.add_argument("--launcher", metavar="PATH", type=flags.absolute)
    flags.add(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look at all of it; 1 where something fails. Raises HookError."""
    options.parse(flags.words(args))
    findings = list(dict.fromkeys(_look(args)))
    if args.json:
        document = {"findings": [f._asdict() for f in findings], **_count(findings)}
        print(json.dumps(document, indent=2))
    elif sys.stdout.isatty():
        _show(findings)
    else:
        for finding in findings:
            # Nobody's name of a file may pass for the command to be typed.
            what = finding.what.replace(FIX, FIX.replace(" ", "\\x20"))
            fix = FIX + finding.fix if finding.fix else ""
            print(printable(f"{finding.level:4} {finding.check}: {what}{fix}"))
        print(_sum(findings))
    return 1 if any(finding.level == FAIL for finding in findings) else 0


def _look(args: argparse.Namespace) -> Iterator[Finding]:
    yield from _careful("runtime", lambda: programs.check(layout.is_hybrid()))
    yield from _careful("cgroups", layout.check)
    found, wrong = hook_directories.here(args.hooks_dir)
    yield from wrong
    directories = Directories(found)
    yield from _careful("hook files", directories.check)
    yield from _careful("hook files", lambda: hook_directories.unread(found))
    ours = {name: called for name, called in directories.calls.items() if called}
    if args.bundle:
        ours, wrong = _of_bundle(args.bundle)
        yield from wrong
    elif not ours:
        yield _nobody(directories)
    for name, called in ours.items():
        yield from calls.check(name, called, calls.command(called, args.bundle or ""))
    for name in directories.calls if ours and not args.bundle else ():
        if name not in ours:
            yield Finding(WARN, calls.CHECK, f"{name} does not call nri-hook", "nri-hook install")
    of_crio = ours.get("CRI-O", [])
    yield from chains.below_crio(of_crio, calls.command(of_crio))
    yield from _below([call for called in ours.values() for call in called], args)


def _below(called: list[Call], args: argparse.Namespace) -> Iterator[Finding]:
    """Launchers, and what the hook reads, as often as there are different flags."""
    install = calls.command(called, args.bundle or "")
    paths = [args.launcher] if args.launcher else [call.launcher for call in called]
    package = ""
    run = list(dict.fromkeys(paths))
    for path in run:
        executable = Launcher(path, install)
        yield from _careful("launcher", executable.check)
        package = executable.package or package
    given = flags.words(args)
    for words in dict.fromkeys(tuple(call.words) for call in called) or [()]:
        try:
            chosen = options.parse(flags.over(list(words), given))
        except UsageError:
            continue  # said where it stands
        chain = Chain(chosen, package)
        yield from _careful("configuration", chain.check)
        same = [call for call in called if tuple(call.words) == words]
        yield from chains.timeouts(chosen, chain.entries, same, install)
        run += chain.files
        look = functools.partial(records.check, chosen)
        yield from _careful("records", look)
    yield from labels.check(run)


def _careful(check: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What `look` finds; where it cannot look, that is a finding too, and the rest goes on."""
    try:
        yield from look()
    except HookError as error:
        yield Finding(FAIL, check, str(error), _look_at(error.path))
    except OSError as error:
        what = f"{error.filename}: cannot be looked at: {error.strerror}"
        yield Finding(FAIL, check, what, _look_at(error.filename or ""))


def _look_at(path: str) -> str:
    """What to do about a path that could not be looked at."""
    if os.geteuid() != 0 or not path:
        return "run this command as root"
    return f"namei -l {shlex.quote(path)}"


def _nobody(directories: Directories) -> Finding:
    """Nothing calls us."""
    read = "; ".join(
        f"{engine.name} reads {', '.join(engine.directories) or 'no directory'}"
        for engine in directories.engines
    )
    what = f"no hook file that calls nri-hook ({read or 'there is no podman and no CRI-O'})"
    fix = "nri-hook install, or for one bundle nri-hook doctor --bundle DIR"
    return Finding(FAIL, calls.CHECK, what, fix)


def _of_bundle(directory: str) -> tuple[dict[str, list[Call]], list[Finding]]:
    """The bundle -> what of it calls us, if its config.json can be read, and what is wrong with
    that file."""
    path = os.path.join(directory, "config.json")
    unsafe = owners.judge(path)
    wrong = [Finding(FAIL, calls.CHECK, unsafe.what, unsafe.fix)] if unsafe else []
    try:
        found = atomicfile.read(path)
        if found is None:
            raise HookError("does not exist, expected a bundle", path=path)
        config = hookfile.BundleConfig(found.data, path)
    except HookError as error:
        if not unsafe:
            wrong.append(Finding(FAIL, calls.CHECK, str(error), f"ls -l {shlex.quote(path)}"))
        return {}, wrong
    return {directory: calls.of_bundle(config, directory, unsafe is None)}, wrong


def _count(findings: list[Finding]) -> dict[str, int]:
    levels = [finding.level for finding in findings]
    return {level: levels.count(level) for level in (OK, WARN, FAIL)}


def _sum(findings: list[Finding]) -> str:
    return ", ".join(f"{number} {level}" for level, number in _count(findings).items())


def _show(findings: list[Finding]) -> None:
    """For a terminal: in its width, the fix below the cause."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column(overflow="fold")
    for finding in findings:
        text = Text(printable(finding.what))
        if finding.fix:
            text.append("\nfix: " + printable(finding.fix), "bold")
        table.add_row(Text(finding.level, STYLES[finding.level]), finding.check, text)
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(table)
    console.print(_sum(findings))
