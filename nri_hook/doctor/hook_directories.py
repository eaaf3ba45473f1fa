"""The directories of hook files that each engine reads, and every file in them.

Everybody's files, since one that an engine refuses stops all containers.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nri_hook.doctor import calls, owners, programs
from nri_hook.doctor.calls import Call
from nri_hook.doctor.finding import FAIL, OK, WARN, Finding, removal
from nri_hook.errors import HookError
from nri_hook.registration import engines, hookfile, ocihooks

CHECK = "hook files"


class Engine(NamedTuple):
    """name: as its users write it. directories: what it reads, in its order. stages: all it knows.
    table: that of its configuration with hooks_dir. suffers: what one bad file does."""

    name: str
    directories: list[str]
    stages: Sequence[str]
    table: str
    suffers: str


def here(more: list[str]) -> tuple[list[Engine], list[Finding]]:
    """The engines of this machine, and what is wrong with the configuration of one.

    more: directories that podman is given on its command line.
    """
    found, wrong = [], []
    for name in ("podman", "CRI-O"):
        try:
            if name == "podman" and shutil.which("podman"):
                # One that does not say its version is taken for a new one.
                major = int(programs.podman_version().partition(".")[0] or 5)
                directories = more or engines.podman_directories(os.geteuid() == 0, major)
                stages = [*ocihooks.STAGES, *ocihooks.EXTENSIONS]
                suffers = "podman starts no container"
                found.append(Engine(name, directories, stages, "[engine]", suffers))
            if name == "CRI-O" and engines.has_crio():
                directories, suffers = engines.crio_directories(), "CRI-O does not start"
                found.append(Engine(name, directories, ocihooks.STAGES, "[crio.runtime]", suffers))
        except engines.Unclear as error:
            fix = f"correct {shlex.quote(error.path)}"
            wrong.append(Finding(FAIL, CHECK, f"{name}: {error}", fix))
        except HookError as error:
            fix = f"ls -lL {shlex.quote(error.path)}"
            wrong.append(Finding(FAIL, CHECK, f"{name}: {error}", fix))
        except OSError as error:
            what = f"{name}: {error.filename}: {error.strerror}"
            wrong.append(Finding(FAIL, CHECK, what, "run this command as root, with root's HOME"))
    return found, wrong


class Directories:
    """What all these engines read. calls: engine -> what of it calls us, once check() has run."""

    def __init__(self, engines: list[Engine]) -> None:
        self.engines = engines
        self.calls: dict[str, list[Call]] = {}
        self._judged: dict[tuple[str, bool], ocihooks.Judgement] = {}

    def check(self) -> Iterator[Finding]:
        """Each directory, each file in it."""
        for engine in self.engines:
            yield from self._engine(engine)

    def _engine(self, engine: Engine) -> Iterator[Finding]:
        ours: dict[str, Call] = {}
        for directory in engine.directories:
            try:
                names = ocihooks.names(directory)
            except HookError as error:
                fix = f"ls -ld {shlex.quote(directory)}"
                yield Finding(FAIL, CHECK, f"{error}: {engine.suffers}", fix)
                continue
            count = "no file" if not names else f"{len(names)} file" + "s" * (len(names) > 1)
            there = count if os.path.isdir(directory) else "not there"
            yield Finding(OK, CHECK, f"{engine.name} reads {directory}: {there}")
            for name in names:
                path = os.path.join(directory, name)
                ours.pop(name, None)  # a file of a later directory takes its place
                yield from self._file(path, engine)
                call = self._call(path, engine)
                if call and not self._judge(path, engine).faults:
                    ours[name] = call
        self.calls[engine.name] = [ours[name] for name in sorted(ours, key=str.lower)]

    def _file(self, path: str, engine: Engine) -> Iterator[Finding]:
        try:
            judgement = self._judge(path, engine)
        except HookError as error:
            yield Finding(FAIL, CHECK, f"{error}: {engine.suffers}", removal(path))
            return
        call = self._call(path, engine)
        quoted, aside = shlex.quote(path), shlex.quote(path + ".off")
        fix = calls.command([call]) if call else f"fix it, or mv {quoted} {aside}"
        for fault in judgement.faults:
            yield Finding(FAIL, CHECK, f"{path}: {fault}; {engine.suffers}", fix)
        for doubt in judgement.doubts:
            yield Finding(FAIL if call else WARN, CHECK, f"{path}: {doubt}", fix)
        for note in judgement.notes:
            yield Finding(WARN, CHECK, f"{path}: {note}", fix)
        unsafe = owners.judge(path)
        if unsafe:
            yield Finding(FAIL, CHECK, unsafe.what, unsafe.fix)

    def _call(self, path: str, engine: Engine) -> Call | None:
        try:
            document = self._judge(path, engine).document
        except HookError:
            return None
        if not hookfile.is_nri_hook(document.get("hook")):
            return None
        stages, when = document.get("stages"), document.get("when")
        return Call(
            path,
            stages if isinstance(stages, list) else [],
            document["hook"],
            when if isinstance(when, dict) else {},
            owners.judge(path) is None,
        )

    def _judge(self, path: str, engine: Engine) -> ocihooks.Judgement:
        key = (path, engine.stages is ocihooks.STAGES)
        if key not in self._judged:
            self._judged[key] = ocihooks.judge_file(path, engine.stages)
        return self._judged[key]


def unread(engines_here: list[Engine]) -> Iterator[Finding]:
    """Name the hook files of nri-hook in a directory that no engine reads."""
    read = {
        os.path.realpath(directory) for engine in engines_here for directory in engine.directories
    }
    for directory in (*engines.DIRECTORIES, engines.CRIO_DIR):
        if os.path.realpath(directory) in read or not engines_here:
            continue
        names = [n for n in ocihooks.names(directory) if n.startswith(hookfile.PREFIX)]
        if names:
            expected = [
                f"{engines.line([*engine.directories, directory])}"
                f" under {engine.table} of {engine.name}"
                for engine in engines_here
                if directory != engines.PODMAN_DIR or engine.name == "podman"
            ]
            yield Finding(
                FAIL,
                CHECK,
                f"{directory}: hook files of nri-hook, but no engine reads it: {', '.join(names)}",
                "; or ".join(expected) or f"rm {shlex.quote(directory)}/{hookfile.PREFIX}*",
            )
