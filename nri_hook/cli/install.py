"""`nri-hook install`: the launcher, and what makes the engine or the runtime call it."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from typing import TYPE_CHECKING

from nri_hook import atomicfile
from nri_hook.cli import flags
from nri_hook.errors import HookError, UsageError, printable
from nri_hook.hook import options
from nri_hook.registration import engines, goregex, hookfile, launcher, ocihooks

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(commands: Commands) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "install",
        help="register the hook with podman and CRI-O, or with one bundle of runc or crun",
        description="Write the launcher and one hook file per stage into the directory that "
        "podman and CRI-O read. With --engine crio: into the directory that CRI-O's "
        "configuration names. With --engine podman: into one that only podman reads, with the "
        "stage precreate. With --bundle: add the hooks to the bundle's config.json. To change "
        "flags, install again: the new flags replace the old ones.",
        allow_abbrev=False,
    )
    add_places(parser)
    flags.add(parser)
    parser.add_argument(
        "--when-annotation",
        metavar="KEY=REGEX",
        type=annotation,
        action="append",
        default=[],
        help="call the hooks only for containers that have the annotation KEY with a value that "
        "the Go expression REGEX matches as a whole, repeatable: all have to match",
    )
    parser.add_argument(
        "--print",
        dest="show",
        metavar="STAGE",
        nargs="?",
        const=True,
        choices=hookfile.PODMAN_STAGES,
        help="write nothing; print all files, or the hook file of one stage: "
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
        type=flags.absolute,
        default=engines.HOOKS_DIR,
        help=f"directory of the hook files ({engines.HOOKS_DIR})",
    )
    place.add_argument(
        "--engine",
        choices=("podman", "crio"),
        help=f"podman: hook files for podman alone in {engines.PODMAN_DIR}, with precreate, "
        "and a drop-in of containers.conf that has podman read that directory; crio: hook files in "
        "the directory that crio.conf and crio.conf.d name",
    )
    place.add_argument(
        "--bundle",
        metavar="DIR",
        type=flags.absolute,
        help="change the hooks in the config.json of this bundle instead",
    )
    parser.add_argument(
        "--launcher",
        metavar="PATH",
        type=flags.absolute,
        help=f"the executable that hook files call ({launcher.DEFAULT}; with --bundle "
        f"{in_environment})",
    )


def annotation(text: str) -> tuple[str, str]:
    """KEY=REGEX of the command line."""
    key, given, pattern = text.partition("=")
    if not key or not given:
        raise argparse.ArgumentTypeError(f"{text!a}: expected KEY=REGEX")
    verdict, why = goregex.judge(pattern)
    if verdict != goregex.ACCEPTED:  # with one bad expression podman starts no container
        raise argparse.ArgumentTypeError(f"{text!a}: expected a regular expression of Go: {why}")
    return key, pattern


def launcher_path(args: argparse.Namespace) -> str:
    """Where the launcher is to lie."""
    default = launcher.default_in_environment() if args.bundle else launcher.DEFAULT
    return str(args.launcher or default)


class File:
    """One file to write. found: what is there now, or None. keep: its owner and mode stay."""

    def __init__(
        self, path: str, data: bytes, mode: int, found: atomicfile.Found | None, keep: bool = True
    ) -> None:
        self.path = path
        self.data = data
        self.mode = mode
        self.found = found
        self.keep = keep

    def write(self) -> None:
        """Write it, unless it is there already."""
        if self.is_written():
            print(printable(f"{self.path}: as it was"))
            return
        atomicfile.write(self.path, self.data, self.mode, self.found, self.keep)
        print(printable(f"{self.path}: written"))

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
    chosen = options.parse(flags.words(args))
    path = launcher_path(args)
    stage = None if args.show is True else args.show
    annotations = dict(args.when_annotation)
    if args.bundle and (stage or annotations):
        raise UsageError("--print STAGE and --when-annotation are for hook files, not for --bundle")
    if len(annotations) < len(args.when_annotation):
        raise UsageError("--when-annotation: expected each KEY once")
    if stage and stage not in hookfile.STAGES and args.engine != "podman":
        raise UsageError(f"--print {stage}: podman's own stage, expected --engine podman with it")
    if stage:
        sys.stdout.buffer.write(hookfile.render(stage, path, chosen, annotations))
        return 0
    python, paths = launcher.interpreter(), launcher.directories()
    callers = files_of_callers(args, path, chosen, annotations)
    text = launcher.render(python, paths)
    executable = File(path, text, launcher.MODE, atomicfile.read(path), keep=False)
    if args.show:
        for file in (*callers, executable):
            file.show()
        return 0
    if executable.found and not launcher.is_ours(executable.found.data):
        raise HookError("is not a launcher of nri-hook, so it is not replaced", path=path)
    launcher.refuse_unsafe(path)
    loaded = launcher.verify(python, paths)
    # The launcher first: from the moment its name stands in a hook file it is called.
    for file in (executable, *callers):
        file.write()
    if args.engine == "podman" and callers[-1].path != engines.DROP_IN:
        # Made before somebody set a hooks_dir, which it would override.
        remove_drop_in()
    for line in launcher.warnings([python, *loaded, path]):
        warn(line)
    closed = None if args.bundle else closed_to_others([path, python, *loaded])
    if closed:
        warn(f"{closed}: closed to other users, so podman starts no container of theirs")
    return 0


def files_of_callers(
    args: argparse.Namespace, path: str, chosen: options.Options, annotations: dict[str, str]
) -> list[File]:
    """What has the launcher at `path` called. Raises HookError."""
    if args.bundle:
        return [bundle(args.bundle, path, chosen)]
    drop_ins = []
    directory, stages = args.hooks_dir, list(hookfile.STAGES)
    if args.engine == "podman":
        drop_ins = podman_drop_in()
        directory, stages = engines.PODMAN_DIR, list(hookfile.PODMAN_STAGES)
    elif args.engine == "crio":
        directory = engines.crio_directory(hookfile.file_name(stages[0]))
    callers = []
    for stage in stages:
        name = os.path.join(directory, hookfile.file_name(stage))
        data = hookfile.render(stage, path, chosen, annotations)
        callers.append(_own_file(name, data, atomicfile.read(name)))
    refuse_foreign(callers)
    refuse_bad(directory, callers)
    return callers + drop_ins


def refuse_foreign(callers: list[File]) -> None:
    """Raise HookError where a file of that name is somebody else's."""
    for file in callers:
        if file.found and not hookfile.calls_us(file.found.data):
            raise HookError(
                "is not a hook file of nri-hook, so it is kept; expected it to be moved away",
                path=file.path,
            )


def refuse_bad(directory: str, callers: list[File]) -> None:
    """Raise HookError where an engine would refuse one of our files, or does refuse one that is
    in the directory already: it then starts no container at all, and we would be blamed."""
    engine, known = "podman", [*ocihooks.STAGES, *ocihooks.EXTENSIONS]
    crio = engines.crio_directories() if engines.has_crio() else []
    if os.path.realpath(directory) in map(os.path.realpath, crio):
        engine, known = "CRI-O", list(ocihooks.STAGES)
    judged = {file.path: ocihooks.judge(file.data, known) for file in callers}
    for name in ocihooks.names(directory):
        path = os.path.join(directory, name)
        if path not in judged:
            judged[path] = ocihooks.judge_file(path, known)
    for path, judgement in judged.items():
        if judgement.faults:
            raise HookError(
                f"stops {engine}: {judgement.faults[0]}; nothing installed until it is fixed",
                path=path,
            )


def closed_to_others(paths: list[str]) -> str | None:
    """The first of these files, or of the directories above one, that not everybody may use.

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


def podman_drop_in() -> list[File]:
    """What has podman read its own directory, where it does not yet. Raises HookError."""
    engines.refuse_crio()
    if not engines.needs_drop_in():
        return []
    found = atomicfile.read(engines.DROP_IN)
    if found and found.data != engines.drop_in():
        raise HookError("is not what nri-hook writes, so it is not replaced", path=engines.DROP_IN)
    return [_own_file(engines.DROP_IN, engines.drop_in(), found)]


def remove_drop_in() -> list[str]:
    """Remove what has podman read its hook files; a line where it is not as we wrote it."""
    found = atomicfile.read(engines.DROP_IN)
    if found and found.data != engines.drop_in():
        return [f"{engines.DROP_IN}: kept, it is not what nri-hook writes"]
    if found:
        remove(engines.DROP_IN, found)
    return []


def _own_file(path: str, data: bytes, found: atomicfile.Found | None) -> File:
    """A file that is to be root's. An owner who is somebody else, or a mode that lets others write
    it, does not stay: who may write a hook file may execute anything as root."""
    is_own = found is not None and found.uid in (0, os.geteuid()) and not found.mode & 0o022
    return File(path, data, 0o644, found, keep=is_own)


def remove(path: str, found: atomicfile.Found) -> None:
    """Remove the file that was read there and say so."""
    if atomicfile.remove(path, found):
        print(printable(f"{path}: removed"))


def bundle(directory: str, path: str, chosen: options.Options) -> File:
    """The config.json of a bundle, with our hooks in it. Raises HookError."""
    name = os.path.join(directory, "config.json")
    found = atomicfile.read(name)
    if found is None:
        raise HookError("does not exist, expected a bundle", path=name)
    config = hookfile.BundleConfig(found.data, name)
    for stage in hookfile.STAGES:
        config.add(stage, hookfile.entry(stage, path, chosen))
    for stage, other in config.other_launchers(path):
        warn(f"{name}: /hooks/{stage} has nri-hook by {other} too: one of the two is in vain")
    return File(name, config.render(), found.mode, found)


def warn(line: str) -> None:
    """Say what the operator should know, though the work goes on."""
    print(printable(f"{hookfile.NAME} install: warning: {line}"), file=sys.stderr)
