"""Which directories of hook files podman and CRI-O read, as their configuration files say.

podman: containers.conf(5) and, from podman 6 on, containers-config(5). CRI-O: crio.conf(5) and
crio.conf.d(5). These are TOML; the engines' reader takes keys in any case.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import Any

from nri_hook import atomicfile
from nri_hook.errors import HookError
from nri_hook.strictjson import fold

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# What both read without any configuration.
HOOKS_DIR = "/usr/share/containers/oci/hooks.d"
# What podman alone is made to read: CRI-O does not start where it finds the stage precreate.
PODMAN_DIR = "/etc/containers/oci/hooks.d"
# What CRI-O can be told to read where it cannot be written into any of its directories.
CRIO_DIR = "/etc/crio/hooks.d"
# In podman's order: it takes a file of the second in place of one of the same name in the first, so
# that a stage which has a file in both runs once.
DIRECTORIES = (HOOKS_DIR, PODMAN_DIR)

DROP_IN = "/etc/containers/containers.conf.d/90-nri-hook.conf"

_MAIN = ("/usr/share/containers/containers.conf", "/etc/containers/containers.conf")
_CRIO = "/etc/crio/crio.conf"
# The table of each engine's files that holds hooks_dir and cgroup_manager.
_PODMAN_TABLE, _CRIO_TABLE = "engine", "crio.runtime"


class Unclear(HookError):
    """A configuration file from which the engine cannot read its hooks_dir, or not surely."""


class Setting:
    """A hooks_dir in a configuration file. append: its directories come after those set before
    it."""

    def __init__(self, path: str, directories: list[str], append: bool) -> None:
        self.path = path
        self.directories = directories
        self.append = append

    def names(self, directory: str) -> bool:
        """Whether the directory is among them, under whatever name."""
        return os.path.realpath(directory) in map(os.path.realpath, self.directories)


def line(directories: list[str]) -> str:
    """The line of a configuration file that names these directories."""
    return f"hooks_dir = {json.dumps(directories, ensure_ascii=False)}"


def drop_in() -> bytes:
    """What DROP_IN holds."""
    return (
        "# Written by `nri-hook install --engine podman`, removed by `nri-hook uninstall --engine "
        f"podman`.\n[engine]\n{line(list(DIRECTORIES))}\n"
    ).encode()


def needs_drop_in() -> bool:
    """Whether podman reads PODMAN_DIR only where DROP_IN is. Raises HookError where a hooks_dir
    that somebody else has set would have to change for that."""
    system, user = _effective(_system_files()), _effective(_user_files())
    for setting in (system, user):
        if setting and not setting.names(PODMAN_DIR):
            expected = line([*setting.directories, PODMAN_DIR])
            raise HookError(
                f"has a hooks_dir of its own, expected under [engine]: {expected}",
                path=setting.path,
            )
    return system is None


def refuse_crio() -> None:
    """Raise HookError where PODMAN_DIR is a directory that CRI-O reads."""
    if os.path.realpath(PODMAN_DIR) == os.path.realpath(HOOKS_DIR):
        raise HookError(f"is the same directory as {HOOKS_DIR}, which CRI-O reads", path=PODMAN_DIR)
    # One that a later file replaces counts too: nobody would look here when that file goes.
    for path in _crio_files():
        setting = _setting(path, _CRIO_TABLE)
        if setting and setting.names(PODMAN_DIR):
            raise HookError(
                f"CRI-O reads {PODMAN_DIR}, and does not start if it finds the stage precreate; "
                "expected a hooks_dir without it",
                path=path,
            )


def podman_directories(as_root: bool, major: int) -> list[str]:
    """The directories that podman of this major version reads, in its order. Raises HookError.

    As root it takes what the user has set from 5 on only.
    """
    paths = _system_files(with_ours=True)
    if not as_root or major >= 5:
        paths += _user_files()
    setting = _effective(paths)
    return setting.directories if setting else [HOOKS_DIR]


def crio_directories() -> list[str]:
    """The directories that CRI-O reads, in its order. Raises HookError."""
    found = [_setting(path, _CRIO_TABLE) for path in _crio_files()]
    return next((setting.directories for setting in reversed(found) if setting), [HOOKS_DIR])


def has_crio() -> bool:
    """Whether there is a CRI-O on this machine, or the configuration of one."""
    return shutil.which("crio") is not None or os.path.exists(os.path.dirname(_CRIO))


def crio_directory(name: str) -> str:
    """Where a hook file of this name goes for CRI-O: where it is, else the first of the directories
    that can be written. Raises HookError where there is none."""
    directories = crio_directories()
    for directory in reversed(
        directories
    ):  # a file of a later directory replaces one of an earlier
        if os.path.lexists(os.path.join(directory, name)):
            return directory
    for directory in directories:
        there = directory
        while not os.path.exists(there):
            there = os.path.dirname(there)
        if os.path.isdir(there) and os.access(there, os.W_OK):
            return directory
    raise HookError(
        f"CRI-O reads {', '.join(directories) or 'no directory of hook files'}, and nothing can be"
        f" written there; expected under [crio.runtime]: {line([*directories, CRIO_DIR])}",
        path=_CRIO,
    )


def value(engine: str, key: str) -> str | None:
    """The string that the configuration files of "podman" or "crio" set last for a key, or None."""
    is_crio = engine == "crio"
    table = _CRIO_TABLE if is_crio else _PODMAN_TABLE
    paths = _crio_files() if is_crio else [*_system_files(), *_user_files()]
    found = [_table(path, table).get(fold(key)) for path in paths]
    return next((said for said in reversed(found) if isinstance(said, str)), None)


def _effective(paths: list[str]) -> Setting | None:
    """The setting that these files come to, in their order, or None."""
    last = None
    for path in paths:
        setting = _setting(path, _PODMAN_TABLE)
        if setting and setting.append:
            setting.directories = (last.directories if last else [HOOKS_DIR]) + setting.directories
        last = setting or last
    return last


def _system_files(with_ours: bool = False) -> list[str]:
    """What podman reads as root, in order; DROP_IN, where that is ours, only if it is wanted.

    podman 6 reads the last of _MAIN alone, those before it both. Of the directories, those before
    it read only containers.conf.d in /etc.
    """
    dropped = {
        name: os.path.join(directory, name)
        for main in _MAIN
        for directory in (main + ".d", main.replace(".conf", ".rootful.conf.d"))
        for name in _conf_names(directory)
    }
    paths = [*_MAIN, *(dropped[name] for name in sorted(dropped))]
    found = atomicfile.read(DROP_IN) if DROP_IN in paths else None
    if found and found.data == drop_in() and not with_ours:
        paths.remove(DROP_IN)
    return paths


def _user_files() -> list[str]:
    """What podman reads after those, for this user: as root too from podman 5 on.

    Judged apart from them, since podman 4 passes over it as root.
    """
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    main = os.path.join(home, "containers", "containers.conf")
    return [main, *(os.path.join(main + ".d", name) for name in _conf_names(main + ".d"))]


def _conf_names(directory: str) -> list[str]:
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for name in names if name.endswith(".conf"))


def _crio_files() -> list[str]:
    """What CRI-O reads, in order: its drop-ins as Go's filepath.Walk finds them."""
    return [_CRIO, *_files_below(_CRIO + ".d")]


def _files_below(directory: str) -> list[str]:
    found = []
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    for path in (os.path.join(directory, name) for name in names):
        is_directory = os.path.isdir(path) and not os.path.islink(path)
        found += _files_below(path) if is_directory else [path]
    return found


def _setting(path: str, table: str) -> Setting | None:
    """The hooks_dir that a file sets in this table, or None. Raises HookError."""
    items = _table(path, table).get("hooks_dir")
    if items is None:
        return None
    directories = (
        [item for item in items if isinstance(item, str)] if isinstance(items, list) else []
    )
    # podman 4.8 and later: an inline table says whether the list goes on from an earlier file.
    options = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    if not isinstance(items, list) or len(directories) + len(options) < len(items):
        expected = line(list(DIRECTORIES if table == _PODMAN_TABLE else DIRECTORIES[:1]))
        raise Unclear(f"hooks_dir is not a list of paths, expected: {expected}", path=path)
    return Setting(path, directories, append=any(option.get("append") for option in options))


def _table(path: str, name: str) -> dict[str, Any]:
    """A table of a configuration file, its keys in lower case; {} if either is not there. Raises
    HookError."""
    data = None if os.path.isdir(path) else atomicfile.load(path)
    try:
        found: dict[str, Any] = tomllib.loads((data or b"").decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise Unclear(f"cannot be read as TOML: {error}", path=path) from None
    found = _folded(found, path)
    for key in name.split("."):
        inner = found.get(key, {})
        if not isinstance(inner, dict):
            raise Unclear(f"[{name}]: expected a table", path=path)
        found = _folded(inner, path)
    return found


def _folded(table: dict[str, Any], path: str) -> dict[str, Any]:
    folded = {fold(key): value for key, value in table.items()}
    if len(folded) < len(table):
        raise Unclear("a key appears twice, in two spellings", path=path)
    return folded
