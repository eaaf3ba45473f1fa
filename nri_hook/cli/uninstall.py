"""`nri-hook uninstall`: takes away what install made, the launcher last."""

from __future__ import annotations

import argparse
import glob
import os
import sys
from typing import TYPE_CHECKING

from nri_hook import atomicfile
from nri_hook.cli.install import add_places, launcher_path, remove, remove_drop_in
from nri_hook.errors import HookError, printable
from nri_hook.registration import engines, hookfile, launcher

if TYPE_CHECKING:
    from nri_hook.cli.install import Commands


def add_parser(commands: Commands) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "uninstall",
        help="remove what install wrote",
        description="Remove what install wrote: the hook files (with --engine podman the drop-in "
        "too, with --engine crio those in the directories that CRI-O's configuration names), or "
        "with --bundle the hooks in the bundle's config.json; then the launcher, unless another "
        "hook file calls it. Uninstall bundles that use the same launcher first. Files that "
        "nri-hook did not write are kept and named.",
        allow_abbrev=False,
    )
    add_places(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do what the command line asks for; 1 where something had to be kept. Raises HookError."""
    path = launcher_path(args)
    if args.bundle:
        kept = clear_bundle(args.bundle, path)
    elif args.engine == "crio":
        kept = [line for f in engines.crio_directories() for line in remove_hook_files(f, path)]
    elif args.engine:
        kept = remove_hook_files(engines.PODMAN_DIR, path) + remove_drop_in()
    else:
        kept = remove_hook_files(args.hooks_dir, path)
    kept += remove_launcher(path)
    for line in kept:
        print(printable(f"{hookfile.NAME} uninstall: {line}"), file=sys.stderr)
    return 1 if kept else 0


def remove_hook_files(directory: str, path: str) -> list[str]:
    """Remove the hook files that call the launcher; a line for each that has to be kept."""
    kept = []
    for name, found in hook_files(directory):
        called = _called(found)
        if found and called == path:
            remove(name, found)
        elif called is None:
            kept.append(f"{name}: kept, it is not a hook file, expected one that calls {path}")
        else:
            kept.append(f"{name}: kept, it calls {called}, expected {path}")
    return kept


def hook_files(directory: str) -> list[tuple[str, atomicfile.Found | None]]:
    """The path of each file that is named like a hook file of ours, and what is there, None if that
    cannot be read."""
    pattern = f"{hookfile.PREFIX}*{hookfile.SUFFIX}"
    found: list[tuple[str, atomicfile.Found | None]] = []
    for name in sorted(glob.glob(os.path.join(glob.escape(directory), pattern))):
        try:
            found.append((name, atomicfile.read(name)))
        except HookError:
            found.append((name, None))
    return found


def _called(found: atomicfile.Found | None) -> str | None:
    """The launcher that a hook file calls."""
    return hookfile.launcher_of(found.data) if found else None


def clear_bundle(directory: str, path: str) -> list[str]:
    """Take our hooks out of a config.json; a line for each of another launcher."""
    name = os.path.join(directory, "config.json")
    found = atomicfile.read(name)
    if found is None:
        return []
    config = hookfile.BundleConfig(found.data, name)
    if config.remove(path):
        atomicfile.write(name, config.render(), found.mode, found)
        print(printable(f"{name}: our hooks removed"))
    return [
        f"{name}: /hooks/{stage} kept, it calls {other}, expected {path}"
        for stage, other in config.other_launchers(path)
    ]


def remove_launcher(path: str) -> list[str]:
    """Remove the launcher if it is one and no engine calls it; else a line that says so."""
    found = atomicfile.read(path)
    if found is None:
        return []
    if not launcher.is_ours(found.data):
        return [f"{path}: kept, it is not a launcher of nri-hook"]
    for directory in dict.fromkeys([*engines.DIRECTORIES, *engines.crio_directories()]):
        for name, other in hook_files(directory):
            if _called(other) == path:
                return [f"{path}: kept, {name} calls it"]
    remove(path, found)
    return []
