"""The launcher: the executable that the runtimes call, with this interpreter and package baked in.

hook/launcher.sh is its text: a program for sh that ends if there is nothing to do, and for Python
from there on. It starts Python as `-IS`: without site the start is cheaper, and nothing of the
environment or of the user's directories can get in. All that site would have found is therefore
written into it.
"""

from __future__ import annotations

import ast
import contextlib
import glob
import importlib.util
import os
import re
import shlex
import stat
import subprocess
import sys
from importlib import metadata

from nri_hook import trust
from nri_hook.errors import CANNOT_RUN, UNTRUSTED, HookError

DEFAULT = "/usr/libexec/oci/hooks.d/nri-hook"
MODE = 0o755
TEMPLATE = "hook/launcher.sh"

# The installed dependencies of the package, which error reports and the reaping of stuck plugins
# import.
DEPENDENCIES = ("jsonschema", "psutil")
# All that a stage can come to import. The launcher writes no bytecode: what has none is compiled
# anew by every hook that imports it.
IMPORTED = (
    "nri_hook.hook.stages",
    "nri_hook.hook.adoption",
    "nri_hook.cgroups.cleanup",
    "nri_hook.cgroups.controls",
    "nri_hook.cgroups.grace",
    "nri_hook.cgroups.libc",
    "nri_hook.cgroups.nested",
    "nri_hook.cgroups.move",
    "nri_hook.cgroups.parents",
    "nri_hook.cgroups.plan",
    "nri_hook.cgroups.systemd",
    "nri_hook.cgroups.mounts",
    "nri_hook.hook.container",
    "nri_hook.hook.creation",
    "nri_hook.hook.deletion",
    "nri_hook.hook.precreate",
    "nri_hook.hook.hosted",
    "nri_hook.hook.container_log",
    "nri_hook.hook.log_space",
    "nri_hook.skel_conf",
    "nri_hook.fastimport",
    "nri_hook.validation.schema",
    *DEPENDENCIES,
)

# Prints the files of what was imported, so that their owners can be checked.
PROBE = """\
import sys
sys.path += {directories}
import os, {names}
files = {{getattr(module, "__file__", None) or "" for module in sys.modules.values()}}
os.write(1, b"\\0".join(sorted(os.fsencode(file) for file in files if file)))
"""


def default_in_environment() -> str:
    """Where the launcher of a bundle lies: inside the Python environment."""
    return os.path.join(sys.prefix, "libexec", "nri-hook")


def interpreter() -> str:
    """The real file behind this interpreter.

    In a virtual environment that is the interpreter which the environment was made from: under
    -IS it finds the same standard library and nothing else, and one link less has to be trusted.
    """
    return os.path.realpath(sys.executable)


def package_directory() -> str:
    """The directory of the nri_hook package."""
    return os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def directories() -> list[str]:
    """What sys.path needs on top of the standard library, in order: our package's directory, then
    those of the dependencies and of theirs. Raises HookError where a dependency is missing."""
    found = [os.path.dirname(package_directory())]
    for name in DEPENDENCIES:
        found.append(_module_directory(name))
    for name in sorted(_requirements(DEPENDENCIES)):
        found.append(os.path.realpath(str(metadata.distribution(name).locate_file(""))))
    return list(dict.fromkeys(found))


def _module_directory(name: str) -> str:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise HookError(f"the Python package {name} is missing, expected it beside nri_hook")
    return os.path.dirname(os.path.dirname(os.path.realpath(spec.origin)))


def _requirements(names: tuple[str, ...]) -> set[str]:
    """The installed distributions that these need, and so on down; without the optional ones."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # for another platform or version of Python
        if name in found:
            continue
        found.add(name)
        for requirement in requires:
            wanted = re.match(r"[A-Za-z0-9._-]+", requirement)
            if wanted and not re.search(r"\bextra\s*==", requirement):
                waiting.append(wanted.group())
    return found


def render(python: str, paths: list[str]) -> bytes:
    """The launcher's text, for the interpreter `python` and these directories of sys.path. Raises
    HookError."""
    try:
        words = shlex.quote(python).encode()
    except UnicodeEncodeError:
        raise HookError("expected an interpreter with a path in UTF-8", path=python) from None
    if b"\\" in words:  # what is a text to Python would not be what it is to sh
        raise HookError("expected an interpreter without a backslash in its path", path=python)
    text = _template().replace(b"@PYTHON@", words)
    directories = "\n".join(f"    {path!a}," for path in paths)
    return text.replace(b"@DIRECTORIES@", directories.encode("ascii"))


def is_ours(data: bytes) -> bool:
    """Whether the text of an executable is a launcher of ours."""
    return data.split(b"\n", 2)[1:2] == _template().split(b"\n", 2)[1:2]


def read(data: bytes) -> tuple[str, list[str]]:
    """(interpreter, directories of sys.path) of a launcher, as render() wrote it. Raises
    HookError."""
    try:
        line = [line for line in data.split(b"\n") if line.startswith(b"exec ")][-1]
        python = shlex.split(os.fsdecode(line))[1]
        (paths,) = (
            ast.literal_eval(statement.value)
            for statement in ast.parse(data).body
            if isinstance(statement, ast.AugAssign)
        )
    except (IndexError, ValueError, SyntaxError) as error:
        raise HookError(f"is not a launcher as `nri-hook install` writes it: {error}") from None
    return python, paths


def libraries(python: str) -> list[str]:
    """The directories that the interpreter `python` may import its standard library from, as far
    as can be told without running it."""
    prefix = glob.escape(os.path.dirname(os.path.dirname(os.path.realpath(python))))
    found = glob.glob(f"{prefix}/lib*/python3*") + glob.glob(f"{prefix}/lib*/python3*/lib-dynload")
    return sorted(path for path in found if os.path.isdir(path))


def _template() -> bytes:
    with open(os.path.join(package_directory(), TEMPLATE), "rb") as file:
        return file.read()


def verify(python: str, paths: list[str]) -> list[str]:
    """Run the interpreter as the launcher will, and import all that the stages may need.

    Returns the files of all modules that this loaded. Raises HookError where it fails: every
    container of the node would fail to start.
    """
    names = ", ".join(IMPORTED)
    try:
        run = subprocess.run(
            [python, "-IS", "-c", PROBE.format(directories=ascii(paths), names=names)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd="/",
            umask=0o022,  # of the bytecode that this may write
        )
    except OSError as error:
        raise HookError(f"cannot be run: {error.strerror}", path=python, code=CANNOT_RUN) from None
    if run.returncode:
        last = run.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise HookError(f"-IS cannot import {names}: {last or run.returncode}", path=python)
    return [os.fsdecode(file) for file in run.stdout.split(b"\0")]


def refuse_unsafe(launcher: str) -> None:
    """Raise HookError where others may write into our package or replace the launcher, or where
    nothing can be executed."""
    package = package_directory()
    _refuse_writable_directory(os.path.dirname(package))
    for directory, _, names in os.walk(package):
        for path in (directory, *(os.path.join(directory, name) for name in names)):
            with contextlib.suppress(FileNotFoundError):  # bytecode that is just being written
                _refuse_writable(path, os.lstat(path).st_mode)
    directory = os.path.dirname(launcher)
    _refuse_writable_directory(directory)
    while not os.path.exists(directory):
        directory = os.path.dirname(directory)
    if os.statvfs(directory).f_flag & os.ST_NOEXEC:
        raise HookError("is mounted noexec, expected a place for an executable", path=directory)


def _refuse_writable_directory(directory: str) -> None:
    """Refuse a directory in which others may make entries, or which they may replace by another.

    In a sticky directory above it (/tmp) they may do neither.
    """
    directory = path = os.path.realpath(directory)
    while True:
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            mode = 0  # to be made by us
        if path == directory or not mode & stat.S_ISVTX:
            _refuse_writable(path, mode)
        if path == "/":
            return
        path = os.path.dirname(path)


def _refuse_writable(path: str, mode: int) -> None:
    if mode & 0o022 and not stat.S_ISLNK(mode):
        raise HookError(
            f"may be written by others (mode {stat.S_IMODE(mode):04o}), expected root alone",
            path=path,
            code=UNTRUSTED,
        )


def warnings(files: list[str]) -> list[str]:
    """A line for each reason why somebody else than root could change one of these files."""
    found: dict[str, str] = {}
    for path in files:
        try:
            os.close(trust.open_file(path))
        except HookError as error:
            found.setdefault(error.args[0], str(error))
        except OSError as error:
            found.setdefault(str(error.strerror), f"{path}: cannot be checked: {error.strerror}")
    return list(found.values())
