"""A Python plugin without an interpreter of its own: it runs in a forked child of the hook.

Starting an interpreter costs ten times what such a child does. For the plugin nothing differs: a
process with its own session, pipes, environment and umask, the payload on stdin and the answer on
stdout. nri_hook.skel is loaded already. It may import the standard library and what lies beside
nri_hook or its dependencies; .pth files are not read.
"""

import _frozen_importlib_external as bootstrap
import _signal  # type: ignore[import-not-found]
import gc
import marshal
import os
import sys

from nri_hook import (
    process,
    skel,  # noqa: F401, for the plugin, which imports it at its first line
    trust,
)
from nri_hook.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Optional

# The header of a compiled file with the time and size of its source (PEP 552).
HEADER = 16
PLAIN = bytes(4)
# What an interpreter ends with when its last words cannot be written.
UNWRITTEN = 120


def start(path: str, fds: "tuple[int, int, int]") -> int:
    """Start the Python plugin at `path` with these descriptors as 0, 1 and 2; its pid.

    Raises HookError.
    """
    # All that can be is done on this side: in the child the first touch of a page is a fault.
    others = [int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2]
    environment = process.environment()
    ignored = [n for n in process.SIGNALS if _signal.getsignal(n) == _signal.SIG_IGN]
    try:
        pid = os.fork()
    except OSError as error:
        raise HookError(f"cannot be run: {error.strerror}", path=path) from None
    if pid == 0:
        status = 1
        try:
            _settle(fds, others, environment, ignored)
            status = _run(path)
        finally:  # whatever it raises, nothing of the hook itself may go on here
            os._exit(status)
    return pid


def _settle(
    fds: "tuple[int, int, int]",
    others: "list[int]",
    environment: "dict[str, str]",
    ignored: "list[_signal.Signals]",
) -> None:
    """Make of this copy of the hook what a plugin's process is.

    others: descriptors to close, if they are open. ignored: signals that are.
    """
    # The launcher has turned it off. Its first search would write into every object of the hook,
    # and so copy every page of it; none of those is the plugin's.
    gc.freeze()
    gc.enable()
    os.setsid()
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
    for fd in others:
        try:
            os.close(fd)
        except OSError:  # that of the listing
            pass
    os.umask(0o022)
    # Of its own: a client's may hold what was written or read before the fork.
    sys.stdin = open(0, encoding="utf-8", closefd=False)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    if os.environ != environment:
        for name in set(os.environ).difference(environment):
            del os.environ[name]
        os.environ.update(environment)
    for signal in ignored:
        if signal != _signal.SIGPIPE:  # which every interpreter ignores
            _signal.signal(signal, _signal.SIG_DFL)


def _run(path: str) -> int:
    """Run the file as an interpreter runs a script; the exit status."""
    main = type(sys)("__main__")
    main.__file__ = path
    sys.modules["__main__"] = main
    sys.argv = [path, "invoke"]
    try:
        exec(_code(path), main.__dict__)
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


def _code(path: str) -> "CodeType":
    """The compiled plugin, from the file that Python keeps beside it if that is of this source."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        source = file.read()
    return _compiled(path, status) or compile(source, path, "exec", dont_inherit=True)


def _compiled(path: str, status: os.stat_result) -> "Optional[CodeType]":
    try:
        fd = trust.open_file(bootstrap.cache_from_source(path))
    except (HookError, OSError):  # none, or one that others could have written
        return None
    with open(fd, "rb") as file:
        data = file.read()
    source = int(status.st_mtime), status.st_size
    expected = bootstrap.MAGIC_NUMBER + PLAIN
    expected += b"".join((number & 0xFFFFFFFF).to_bytes(4, "little") for number in source)
    if data[:HEADER] != expected:
        return None
    try:
        code: "CodeType" = marshal.loads(data[HEADER:])
    except (EOFError, ValueError, TypeError):  # cut off
        return None
    return code
