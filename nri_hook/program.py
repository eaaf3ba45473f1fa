"""The file of a plugin: where it is found, who may have written it, how it is run."""

import errno
import os

from nri_hook import process, trust
from nri_hook.errors import HookError

# A file that ends in this is Python for a child of ours (hosted.py), and needs no x bit.
HOSTED = ".py"


class Program:
    """type: of the plugin. path: of its file. hosted: whether it is a hosted Python plugin."""

    def __init__(self, type: str, path: str, hosted: bool) -> None:
        self.type = type
        self.path = path
        self.hosted = hosted

    def check(self) -> None:
        """Raise HookError where it cannot be run, or others than root could have written it."""
        try:
            fd = trust.open_file(self.path)
        except HookError as error:
            raise HookError(error.args[0], plugin=self.type, path=self.path) from None
        except OSError as error:
            reason = error.strerror or "unreadable"
            raise HookError(reason, plugin=self.type, path=self.path) from None
        mode = os.fstat(fd).st_mode
        os.close(fd)
        if not self.hosted and not mode & 0o111:
            raise HookError(os.strerror(errno.EACCES), plugin=self.type, path=self.path)

    def run(self, stdin: bytes, deadline: float) -> process.Outcome:
        """Run it for one call, until time.monotonic() passes `deadline`. Raises HookError."""
        try:
            if not self.hosted:
                return process.run(self.path, [self.path, "invoke"], stdin, deadline)
            from nri_hook import hosted

            return process.attend(lambda fds, end: hosted.start(self.path, fds), stdin, deadline)
        except HookError as error:
            raise HookError(error.args[0], plugin=self.type, path=self.path) from None


def find(type: str, folders: "list[str]") -> Program:
    """The program of a plugin: in the first of `folders` that has one, TYPE before TYPE.py.

    Raises HookError where there is none, or none that may be run.
    """
    for folder in folders:
        for suffix in ("", HOSTED):
            path = os.path.join(folder, type + suffix)
            if os.path.lexists(path):
                program = Program(type, path, suffix == HOSTED)
                program.check()
                return program
    raise HookError(f"not found in {', '.join(folders)}", plugin=type)


def at(path: str) -> Program:
    """The program in the file `path`, whoever may have written it."""
    type = os.path.basename(path)
    hosted = type.endswith(HOSTED)
    return Program(type[: -len(HOSTED)] if hosted else type, path, hosted)
