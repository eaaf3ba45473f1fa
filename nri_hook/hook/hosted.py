"""A Python plugin without an interpreter of its own: it runs in a forked child of the hook.

Starting an interpreter costs several times what such a child does. For the plugin nothing differs:
a process with its own session, pipes, environment and umask, the payload on stdin and the answer
on stdout. nri_hook.skel is loaded already. It may import the standard library and what lies beside
nri_hook or its dependencies; .pth files are not read.
"""

import _signal  # type: ignore[import-not-found]
import gc
import os
import stat
import sys

from nri_hook import fastimport, skel, spawn, trust
from nri_hook.errors import CANNOT_RUN, HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any, Optional, TextIO

# What an interpreter ends with when its last words cannot be written.
UNWRITTEN = 120
# But for SIGPIPE, which every interpreter ignores, these are not to be a caller's.
SIGNALS = spawn.SIGNALS - {_signal.SIGPIPE}
USUAL = (None, _signal.SIG_DFL, _signal.default_int_handler)
CACHE = "__pycache__"


def start(
    path: str,
    directory: "Optional[trust.Directory]",
    given: "Optional[tuple[bytes, dict[str, Any]]]",
    fds: "tuple[int, int, int]",
) -> int:
    """Start the Python plugin at `path` with these descriptors as 0, 1 and 2; its pid.

    directory: the one that it lies in, where compiled code beside it can be trusted. given: the
    payload on its stdin and what it says, where that is known. Raises HookError.
    """
    # All that can be is done on this side: in the child the first touch of a page is a fault.
    end = max(map(int, os.listdir("/proc/self/fd"))) + 1
    removed, added = spawn.environment_changes()
    changed = [signal for signal in SIGNALS if _signal.getsignal(signal) not in USUAL]
    try:
        code, streams = _compiled(path, directory), _streams()
        pid = os.fork()
    except OSError as error:
        raise HookError(f"cannot be run: {error.strerror}", path=path, code=CANNOT_RUN) from None
    if pid == 0:
        status = 1
        try:
            _settle(fds, end, removed, added, changed)
            _take(streams)
            skel.given = given
            status = _run(path, directory, code)
        finally:  # whatever it raises, nothing of the hook itself may go on here
            os._exit(status)
    return pid


def _settle(
    fds: "tuple[int, int, int]",
    end: int,
    removed: "list[str]",
    added: "dict[str, str]",
    changed: "list[_signal.Signals]",
) -> None:
    """Make of this copy of the hook what a plugin's process is.

    end: above all descriptors. removed, added: of the environment. changed: signals with a
    handler, or ignored.
    """
    # The launcher has turned it off. Its first search would write into every object of the hook,
    # and so copy every page of it; none of those is the plugin's.
    gc.freeze()
    gc.enable()
    os.setsid()
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
    os.closerange(3, end)
    os.umask(0o022)
    for name in removed:
        del os.environ[name]
    for name, value in added.items():
        os.environ[name] = value
    for signal in changed:
        _signal.signal(signal, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, [])
    if "atexit" in sys.modules:  # a client's, which are to run once, at its own end
        sys.modules["atexit"]._clear()


_made: "Optional[tuple[TextIO, TextIO, TextIO]]" = None


def _streams() -> "tuple[TextIO, TextIO, TextIO]":
    """sys.stdin, stdout and stderr for whatever the descriptors will be. Not the hook's or a
    client's own: these may hold what was written or read before the fork. Nothing is on this side
    of it, so that one set serves for all."""
    global _made
    _made = _made or (
        open(0, encoding="utf-8", closefd=False),
        open(1, "w", encoding="utf-8", closefd=False),
        open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False),
    )
    return _made


def _take(streams: "tuple[TextIO, TextIO, TextIO]") -> None:
    """They are this process's own from now on, and not those of a plugin that it may host."""
    global _made
    _made = None
    sys.stdin, sys.stdout, sys.stderr = streams


def _run(path: str, directory: "Optional[trust.Directory]", code: "Optional[CodeType]") -> int:
    """Run the file as an interpreter runs a script; the exit status. code: of it, if that was
    compiled already."""
    main = type(sys)("__main__")
    main.__file__ = path
    sys.modules["__main__"] = main
    sys.argv = [path, "invoke"]
    try:
        exec(code or _compile(path, directory), main.__dict__)
        status = 0
    except SystemExit as error:
        status = _status(error.code)
    except BaseException as error:
        trace = error.__traceback__
        error.__traceback__ = trace and trace.tb_next  # without this line of ours
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    return _end(status)


def _status(code: object) -> int:
    """The exit status for the argument of SystemExit."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def _end(status: int) -> int:
    """What an interpreter does at its end, as far as the plugin has given cause for it."""
    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()
    if "atexit" in sys.modules:
        sys.modules["atexit"]._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # closed at the other end, or by the plugin itself
        return status or UNWRITTEN
    return status


def _compile(path: str, directory: "Optional[trust.Directory]") -> "CodeType":
    """The plugin compiled here, where what is wrong with it is said on its own stderr; for the
    next time it is kept where Python keeps such, if that is possible."""
    with open(path, "rb") as file:
        source = os.fstat(file.fileno())
        text = file.read()
    code: "CodeType" = compile(text, path, "exec", dont_inherit=True, optimize=0)
    if directory and not os.path.islink(path):
        try:
            os.mkdir(f"{directory.path}/{CACHE}", 0o755)
        except OSError:  # it is there, or cannot be
            pass
        try:
            fastimport.write(code, source, directory.inner(CACHE).path, _cached(path))
        except (HookError, OSError):  # a read-only file system, say
            pass
    return code


def _compiled(path: str, directory: "Optional[trust.Directory]") -> "Optional[CodeType]":
    """The plugin from the file that Python keeps beside it, if that is of this source.

    Its time and size are not enough: unlike a module, a plugin may be a link that leads elsewhere
    now, or be replaced by a file of the same time. So the compiled one must be the younger one.
    """
    if directory is None:
        return None
    try:
        source = os.lstat(path)
        fd = directory.inner(CACHE).open_file(_cached(path))
    except (HookError, OSError):  # none, or one that others could have written
        return None
    if stat.S_ISLNK(source.st_mode) or os.fstat(fd).st_mtime_ns <= source.st_ctime_ns:
        os.close(fd)
        return None
    return fastimport.read(fd, source)


def _cached(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0] + fastimport.ENDING
