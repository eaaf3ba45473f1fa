"""`nri-hook install`: the launcher, and what makes the engine or the runtime call it."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from typing import TYPE_CHECKING

from nri_hook import engines, files, hookfile, launcher, options
from nri_hook.errors import HookError, UsageError, printable

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(commands: Commands) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "install",
        help="register the hook with podman and CRI-O, or with one bundle of runc or crun",
        description="Writes the launcher and one hook file per stage into the folder that podman "
        "and CRI-O read; with --engine podman into one that only podman reads, where the stage "
        "precreate can be used too; with --bundle our hooks into the bundle's config.json. Can be "
        "repeated: flags given now replace those given before.",
        allow_abbrev=False,
    )
    add_places(parser)
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
    parser.add_argument(
        "--print",
        dest="show",
        metavar="STAGE",
        nargs="?",
        const=True,
        choices=hookfile.PODMAN_STAGES,
        help="write nothing, show all files, or the hook file of one stage: "
        + ", ".join(hookfile.STAGES)
        + ", with --engine podman also precreate",
    )
    parser.set_defaults(run=run)


def add_places(parser: argparse.ArgumentParser) -> None:
    """The flags that say where things go, as `install` and `uninstall` both have them."""
    in_environment = launcher.default_in_environment().replace("%", "%%")
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--hooks-dir",
        metavar="DIR",
        type=absolute,
        default=engines.HOOKS_DIR,
        help=f"folder of the hook files ({engines.HOOKS_DIR})",
    )
    place.add_argument(
        "--engine",
        choices=("podman",),
        help=f"for podman alone: hook files in {engines.PODMAN_DIR}, precreate among them, and a "
        "drop-in of containers.conf that has podman read that folder",
    )
    place.add_argument(
        "--bundle",
        metavar="DIR",
        type=absolute,
        help="a bundle, the hooks of whose config.json are changed instead",
    )
    parser.add_argument(
        "--launcher",
        metavar="PATH",
        type=absolute,
        help=f"the executable that is called ({launcher.DEFAULT}; with --bundle {in_environment})",
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


def launcher_path(args: argparse.Namespace) -> str:
    """Where the launcher is to lie."""
    default = launcher.default_in_environment() if args.bundle else launcher.DEFAULT
    return str(args.launcher or default)


class File:
    """One file to write. found: what is there now, or None. keep: its owner and mode stay."""

    def __init__(
        self, path: str, data: bytes, mode: int, found: files.Found | None, keep: bool = True
    ) -> None:
        self.path = path
        self.data = data
        self.mode = mode
        self.found = found
        self.keep = keep

    def write(self) -> None:
        """Write it, unless it is there already."""
        if self.is_written():
            print(f"{self.path}: as it was")
            return
        files.write(self.path, self.data, self.mode, self.found if self.keep else None)
        print(f"{self.path}: written")

    def is_written(self) -> bool:
        """Whether the file on the disk needs no change."""
        if self.found is None or self.found.data != self.data:
            return False
        return self.keep or (self.found.mode, self.found.uid) == (self.mode, os.geteuid())

    def show(self) -> None:
        """Print it below a line with its name."""
        end = b"" if self.data.endswith(b"\n") else b"\n"
        sys.stdout.buffer.write(b"==> %s <==\n%s%s" % (os.fsencode(self.path), self.data, end))


def run(args: argparse.Namespace) -> int:
    """Do what the command line asks for. Raises HookError."""
    chosen = options.parse(stage_flags(args))
    path = launcher_path(args)
    stage = None if args.show is True else args.show
    if stage and args.bundle:
        raise UsageError("--print STAGE shows a hook file, expected no --bundle with it")
    if stage and stage not in hookfile.STAGES and not args.engine:
        raise UsageError(f"--print {stage}: podman's own stage, expected --engine podman with it")
    if stage:
        sys.stdout.buffer.write(hookfile.render(stage, path, chosen))
        return 0
    if args.bundle:
        callers = [bundle(args.bundle, path, chosen)]
    elif args.engine:
        callers = podman_files(path, chosen)
    else:
        callers = [hook_file(args.hooks_dir, s, path, chosen) for s in hookfile.STAGES]
    python, paths = launcher.interpreter(), launcher.folders()
    text = launcher.render(python, paths)
    executable = File(path, text, launcher.MODE, files.read(path), keep=False)
    if args.show:
        for file in (*callers, executable):
            file.show()
        return 0
    if executable.found and not launcher.is_ours(executable.found.data):
        raise HookError("is no launcher of nri-hook, so it is not replaced", path=path)
    launcher.refuse_unsafe(path)
    loaded = launcher.verify(python, paths)
    # The launcher first: from the moment its name stands in a hook file it is called.
    for file in (executable, *callers):
        file.write()
    if args.engine and callers[-1].path != engines.DROP_IN:
        # Made before somebody set a hooks_dir, which it would override.
        remove_drop_in()
    for line in launcher.warnings([python, *loaded, path]):
        warn(line)
    closed = None if args.bundle else closed_to_others([path, python, *loaded])
    if closed:
        warn(f"{closed}: closed to other users, so podman starts no container of theirs")
    return 0


def stage_flags(args: argparse.Namespace) -> list[str]:
    """The flags for the stages among those of the command line."""
    return [
        part
        for flag in options.VALUES
        for value in getattr(args, flag.strip("-").replace("-", "_")) or []
        for part in (flag, value)
    ]


def hook_file(folder: str, stage: str, path: str, chosen: options.Options) -> File:
    """The hook file of one stage."""
    name = os.path.join(folder, hookfile.file_name(stage))
    return File(name, hookfile.render(stage, path, chosen), 0o644, files.read(name))


def closed_to_others(paths: list[str]) -> str | None:
    """The first of these files, or of the folders above one, that not everybody may use.

    podman reads hook files for containers of all users, and starts none whose hook fails.
    """
    for path in map(os.path.realpath, paths):
        if not os.stat(path).st_mode & stat.S_IROTH:
            return path
        while path != "/":
            path = os.path.dirname(path)
            if not os.stat(path).st_mode & stat.S_IXOTH:
                return path
    return None


def podman_files(path: str, chosen: options.Options) -> list[File]:
    """The hook files for podman alone, and last what has podman read them, where it does not yet.

    Raises HookError.
    """
    engines.refuse_crio()
    callers = [hook_file(engines.PODMAN_DIR, s, path, chosen) for s in hookfile.PODMAN_STAGES]
    if not engines.needs_drop_in():
        return callers
    found = files.read(engines.DROP_IN)
    if found and found.data != engines.drop_in():
        raise HookError("is not what nri-hook writes, so it is not replaced", path=engines.DROP_IN)
    return [*callers, File(engines.DROP_IN, engines.drop_in(), 0o644, found)]


def remove_drop_in() -> list[str]:
    """Remove what has podman read its hook files; a line where it is not as we wrote it."""
    found = files.read(engines.DROP_IN)
    if found and found.data != engines.drop_in():
        return [f"{engines.DROP_IN}: kept, it is not what nri-hook writes"]
    if found:
        remove(engines.DROP_IN)
    return []


def remove(path: str) -> None:
    """Remove the file and say so."""
    if files.remove(path):
        print(f"{path}: removed")


def bundle(folder: str, path: str, chosen: options.Options) -> File:
    """The config.json of a bundle, with our hooks in it. Raises HookError."""
    name = os.path.join(folder, "config.json")
    found = files.read(name)
    if found is None:
        raise HookError("there is none, expected a bundle", path=name)
    config = hookfile.BundleConfig(found.data, name)
    for stage in hookfile.STAGES:
        config.add(stage, hookfile.entry(stage, path, chosen))
    for stage, other in config.other_launchers(path):
        warn(f"{name}: /hooks/{stage} has nri-hook by {other} too: one of the two is in vain")
    return File(name, config.render(), found.mode, found)


def warn(line: str) -> None:
    """Say what the operator should know, though the work goes on."""
    print(printable(f"{hookfile.NAME} install: warning: {line}"), file=sys.stderr)
