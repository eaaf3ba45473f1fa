"""The launcher, and the interpreter and package that are baked into it.

Read from its text: the doctor may be run by another Python than the hook.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator

from nri_hook import atomicfile
from nri_hook.doctor import owners
from nri_hook.doctor.finding import FAIL, OK, WARN, Finding
from nri_hook.errors import HookError
from nri_hook.registration import launcher

CHECK = "launcher"
PACKAGE_FILE = "/nri_hook/__init__.py"


class Launcher:
    """One launcher. install: the command that writes it anew. package: the directory of the
    nri_hook that it runs, "" where nobody can say, once check() has run."""

    def __init__(self, path: str, install: str) -> None:
        self.path = path
        self.install = install
        self.package = ""

    def check(self) -> Iterator[Finding]:
        """The file, its interpreter, what that imports, and who could write any of these.

        Nothing is executed, and no text is gone by, that others than root could have written.
        """
        unsafe = owners.judge(self.path)
        try:
            data = atomicfile.load(self.path)
        except HookError as error:
            yield Finding(FAIL, CHECK, str(error), self.install)
            return
        if data is None:
            what = f"{self.path}: does not exist, so no plugin is called, or no container starts"
            yield Finding(FAIL, CHECK, what, self.install)
            return
        if not os.stat(self.path).st_mode & 0o111:
            fix = f"chmod 0755 {shlex.quote(self.path)}"
            yield Finding(FAIL, CHECK, f"{self.path}: is not executable", fix)
        if os.statvfs(self.path).f_flag & os.ST_NOEXEC:
            what = f"{self.path}: is on a filesystem that is mounted noexec"
            yield Finding(FAIL, CHECK, what, "nri-hook install --launcher PATH, elsewhere")
        if unsafe:
            yield _finding(unsafe, "it is not looked into")
            return
        if not launcher.is_ours(data):
            what = f"{self.path}: was not written by nri-hook install, so it is not looked into"
            yield Finding(WARN, CHECK, what)
            return
        try:
            python, directories = launcher.read(data)
        except HookError as error:
            yield Finding(FAIL, CHECK, f"{self.path}: {error}", self.install)
            return
        yield from self._interpreter(python, directories)

    def _interpreter(self, python: str, directories: list[str]) -> Iterator[Finding]:
        if not os.access(python, os.X_OK):
            what = "cannot be executed" if os.path.exists(python) else "is gone"
            yield Finding(
                FAIL,
                CHECK,
                f"{self.path}: its interpreter {python} {what}, so no hook can run",
                self.install,
            )
            return
        unsafe = owners.judge(python)
        for directory in (*launcher.libraries(python), *directories):
            unsafe = unsafe or owners.judge_directory(directory)
        if unsafe:
            yield _finding(unsafe, f"{python} is not run")
            return
        try:
            loaded = launcher.verify(python, directories)
        except HookError as error:
            yield Finding(FAIL, CHECK, f"{self.path}: {error}", self.install)
            return
        packages = [file for file in loaded if file.endswith(PACKAGE_FILE)]
        self.package = os.path.dirname(packages[0]) if packages else ""
        yield Finding(OK, CHECK, f"{self.path}: {python} runs {self.package}")


def _finding(unsafe: owners.Unsafe, consequence: str) -> Finding:
    """As install has it: what others may write is refused, another owner warned about."""
    level = FAIL if unsafe.open else WARN
    return Finding(level, CHECK, f"{unsafe.what}, so {consequence}", unsafe.fix)
