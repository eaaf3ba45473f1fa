"""The file of a plugin: where it is found, who may have written it, how it is run."""

import errno
import os

from nri_hook import spawn, trust
from nri_hook.errors import NOT_EXECUTABLE, NOT_FOUND, HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

# A file that ends in this is Python for a child of ours (hosted.py), and needs no x bit.
HOSTED = ".py"


class Program:
    """type: of the plugin. path: of its file. hosted: whether it is a hosted Python plugin.
    directory: the one that it lies in, None as long as that was not checked."""

    def __init__(
        self, type: str, path: str, hosted: bool, directory: "Optional[trust.Directory]" = None
    ) -> None:
        self.type = type
        self.path = path
        self.hosted = hosted
        self.directory = directory

    def check(self) -> None:
        """Raise HookError where it cannot be run, or others than root could have written it."""
        try:
            directory = self.directory or trust.Directory(os.path.dirname(self.path))
            fd = directory.open_file(os.path.basename(self.path))
        except HookError as error:
            raise HookError(error.args[0], self.type, self.path, error.code) from None
        except OSError as error:
            reason = error.strerror or "unreadable"
            raise HookError(reason, plugin=self.type, path=self.path) from None
        mode = os.fstat(fd).st_mode
        os.close(fd)
        if not self.hosted and not mode & 0o111:
            raise HookError(os.strerror(errno.EACCES), self.type, self.path, NOT_EXECUTABLE)
        self.directory = directory

    def run(
        self,
        stdin: bytes,
        deadline: float,
        document: "Optional[dict[str, Any]]" = None,
        meanwhile: "Optional[spawn.Meanwhile]" = None,
    ) -> spawn.Outcome:
        """Run it for one call, until time.monotonic() passes `deadline`. document: what stdin says,
        where that is known; a hosted one need not decode it. Raises HookError."""
        try:
            if not self.hosted:
                argv = [self.path, "invoke"]
                return spawn.run(self.path, argv, stdin, deadline, meanwhile)
            from nri_hook.hook import hosted

            given = (stdin, document) if document else None
            return spawn.attend(
                lambda fds, end: hosted.start(self.path, self.directory, given, fds),
                stdin,
                deadline,
                meanwhile,
            )
        except HookError as error:
            raise HookError(error.args[0], self.type, self.path, error.code) from None


class Directories:
    """Plugin directories, in order. What leads to each is checked once."""

    def __init__(self, paths: "list[str]") -> None:
        self.paths = paths
        self._checked: "dict[str, Optional[trust.Directory]]" = {}

    def find(self, type: str) -> Program:
        """The program of a plugin: in the first directory that has one, TYPE before TYPE.py.

        Raises HookError where there is none, or none that may be run.
        """
        for directory in self.paths:
            for suffix in ("", HOSTED):
                path = os.path.join(directory, type + suffix)
                if os.path.lexists(path):
                    program = Program(type, path, suffix == HOSTED, self._checked.get(directory))
                    program.check()
                    self._checked[directory] = program.directory
                    return program
        raise HookError(f"not found in {', '.join(self.paths)}", plugin=type, code=NOT_FOUND)


def find(type: str, directories: "list[str]") -> Program:
    """The same for one plugin alone."""
    return Directories(directories).find(type)


def at(path: str) -> Program:
    """The program in the file `path`, whoever may have written it."""
    type = os.path.basename(path)
    hosted = type.endswith(HOSTED)
    return Program(type[: -len(HOSTED)] if hosted else type, path, hosted)
