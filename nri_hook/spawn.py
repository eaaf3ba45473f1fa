"""One plugin: spawn it, feed it, bound it, reap it."""

import _signal  # type: ignore[import-not-found]
import errno
import os
import select
import time

from nri_hook import strictjson
from nri_hook.errors import CANNOT_RUN, HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Optional

    # Starts a process with these descriptors as 0, 1 and 2, before a deadline of
    # time.monotonic(); its pid. Raises HookError.
    Start = Callable[["tuple[int, int, int]", float], int]
    # Called every MEANWHILE seconds while a plugin runs, as long as it returns True.
    Meanwhile = Callable[[], bool]

MAX_OUTPUT = 1 << 20
MAX_ERRORS = 4096
# How long the output of a plugin that has exited may stay open in the hands of a child of its.
GRACE = 0.1
# How long to wait for a killed plugin: one in a frozen cgroup (v1), or in the hands of a dead file
# server, does not end.
DEATH = 0.5
# "Text file busy": somebody is writing the file, an upgrade perhaps.
BUSY_TRIES = 20
BUSY_PAUSE = 0.05
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# All signals that can be reset: an interpreter ignores SIGPIPE, a caller may ignore more.
SIGNALS = _signal.valid_signals()
MEANWHILE = 0.003
# Seconds that poll(2) can be told in milliseconds; then one looks again.
MAX_PAUSE = 3600.0
_first_names: "set[bytes]" = set()


class Outcome:
    """How a plugin ended. status: exit status, -N for signal N. output: what it printed.

    errors: the last lines of its stderr. seconds: from spawn to exit. late: whether it was
    killed for its deadline; flooded: whether it was killed for printing too much.
    """

    def __init__(self) -> None:
        self.status: "Optional[int]" = None
        self.output = b""
        self.errors = b""
        self.seconds = 0.0
        self.late = False
        self.flooded = False


def environment() -> "dict[str, str]":
    """The hook's own environment without what makes a loader or an interpreter run other code."""
    removed, added = environment_changes()
    clean = {name: value for name, value in os.environ.items() if name not in removed}
    clean.update(added)
    return clean


def environment_changes() -> "tuple[list[str], dict[str, str]]":
    """What that has less and what it has more than our own."""
    removed = [n for n in os.environ if n.startswith(("LD_", "PYTHON")) or n == "BASH_ENV"]
    if "LC_CTYPE" in os.environ and not _was_given("LC_CTYPE"):
        removed.append("LC_CTYPE")  # Python adds it to its own in the C locale (PEP 538)
    return removed, {} if "PATH" in os.environ else {"PATH": PATH}


def _was_given(name: str) -> bool:
    """Whether it is in the environment that this process began with."""
    global _first_names
    if not _first_names:
        fd = os.open("/proc/self/environ", os.O_RDONLY)
        with open(fd, "rb", buffering=0) as file:
            _first_names = {entry.partition(b"=")[0] for entry in file.readall().split(b"\0")}
    return name.encode() in _first_names


def run(
    path: str,
    argv: "list[str]",
    stdin: bytes,
    deadline: float,
    meanwhile: "Optional[Meanwhile]" = None,
) -> Outcome:
    """Run the executable `path` in a session of its own until it ends or time.monotonic() passes
    `deadline`.

    It gets its stdin, stdout and stderr from us and no other descriptor. Raises HookError where
    it cannot be started.
    """
    return attend(lambda fds, end: _spawn(path, argv, fds, end), stdin, deadline, meanwhile)


def attend(
    start_one: "Start",
    stdin: bytes,
    deadline: float,
    meanwhile: "Optional[Meanwhile]" = None,
) -> Outcome:
    """The same for whatever `start_one` starts, in a session of its own. Raises HookError."""
    stdin_read, stdin_write = os.pipe()
    stdout_read, stdout_write = os.pipe()
    stderr_read, stderr_write = os.pipe()
    start = time.monotonic()
    try:
        pid = start_one((stdin_read, stdout_write, stderr_write), deadline)
    except BaseException:
        for fd in (stdin_write, stdout_read, stderr_read):
            os.close(fd)
        raise
    finally:
        for fd in (stdin_read, stdout_write, stderr_write):
            os.close(fd)
    plugin = _Running(pid, stdin, stdin_write, stdout_read, stderr_read)
    try:
        plugin.converse(deadline, meanwhile)
    except BaseException:  # an interrupt; the plugin has a session of its own, and gets none
        plugin.end()
        raise
    finally:
        plugin.close()
    plugin.outcome.seconds = time.monotonic() - start
    return plugin.outcome


def _spawn(path: str, argv: "list[str]", fds: "tuple[int, int, int]", deadline: float) -> int:
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(fds)]
    for attempt in range(BUSY_TRIES):
        umask = os.umask(0o022)
        try:
            return os.posix_spawn(
                path,
                argv,
                environment(),
                file_actions=actions,
                setsid=True,
                setsigmask=[],
                setsigdef=SIGNALS,
            )
        except OSError as error:
            last = attempt == BUSY_TRIES - 1 or time.monotonic() + BUSY_PAUSE > deadline
            if error.errno != errno.ETXTBSY or last:
                reason = f"cannot be run: {error.strerror}"
                raise HookError(reason, path=path, code=CANNOT_RUN) from None
        finally:
            os.umask(umask)
        time.sleep(BUSY_PAUSE)
    raise AssertionError("not reached")


class _Running:
    """A plugin that runs, and our ends of its pipes."""

    def __init__(self, pid: int, stdin: bytes, stdin_fd: int, stdout: int, stderr: int) -> None:
        self.pid = pid
        self.outcome = Outcome()
        self.unsent = memoryview(stdin)
        self.stdin = stdin_fd
        self.stdout = stdout
        self.stderr = stderr
        self.open = {stdin_fd, stdout, stderr}
        self.chunks: "list[bytes]" = []
        self.size = 0
        self.poll = select.poll()  # select(2) would take no descriptor above 1023
        self.exit = -1

    def converse(self, deadline: float, meanwhile: "Optional[Meanwhile]") -> None:
        """Feed and read until the plugin has ended and its output is whole, then reap it."""
        self._begin()
        limit = deadline
        longest = MAX_PAUSE if self.exit >= 0 else 0.01
        while self.outcome.status is None or self.stdout in self.open:
            left = limit - time.monotonic()
            if left <= 0 or self.size > MAX_OUTPUT:
                break
            self._serve_ready(min(left, MEANWHILE if meanwhile else longest))
            if meanwhile and not meanwhile():
                meanwhile = None
            if self.outcome.status is None and self._reap(os.WNOHANG):
                limit = min(deadline, time.monotonic() + GRACE)
                # What the pipes hold at this moment; a child of its may fill them for ever.
                while self.open and self._serve_ready(0) and time.monotonic() < limit:
                    pass
                if self._is_whole():
                    break
        self.outcome.output = b"".join(self.chunks)
        self.outcome.flooded = self.size > MAX_OUTPUT
        if self.outcome.status is None:
            self.outcome.late = not self.outcome.flooded
            self.end()

    def _begin(self) -> None:
        for fd in self.open:
            os.set_blocking(fd, False)
        for fd in (self.stdout, self.stderr):
            self.poll.register(fd, select.POLLIN)
        if self._serve(self.stdin):  # most payloads fit into the pipe
            self.poll.register(self.stdin, select.POLLOUT)
        else:
            self._close(self.stdin)
        try:
            self.exit = os.pidfd_open(self.pid)
            self.poll.register(self.exit, select.POLLIN)
        except (AttributeError, OSError):  # Linux < 5.3
            pass

    def end(self) -> None:
        """Kill the plugin if it is there, with all its descendants, and reap it."""
        if self.outcome.status is not None:
            return
        _kill(self.pid)
        end = time.monotonic() + DEATH
        while not self._reap(os.WNOHANG) and time.monotonic() < end:
            time.sleep(0.002)

    def close(self) -> None:
        for fd in self.open:
            os.close(fd)
        if self.exit >= 0:
            os.close(self.exit)

    def _serve_ready(self, pause: float) -> bool:
        """Wait at most `pause` seconds, move what can be moved; whether anything was."""
        served = False
        for fd, _ in self.poll.poll(pause * 1000):
            if fd != self.exit and self.size <= MAX_OUTPUT:
                served = True
                if not self._serve(fd):
                    self.poll.unregister(fd)
                    self._close(fd)
        return served

    def _close(self, fd: int) -> None:
        self.open.discard(fd)
        os.close(fd)

    def _serve(self, fd: int) -> bool:
        """Move bytes through a pipe that is ready; whether there may be more."""
        try:
            if fd == self.stdin:
                self.unsent = self.unsent[os.write(fd, self.unsent) :]
                return len(self.unsent) > 0
            data = os.read(fd, 65536)
        except BlockingIOError:
            return True
        except BrokenPipeError:  # it does not want to read its payload, which is its own matter
            return False
        if fd == self.stdout:
            self.chunks.append(data)
            self.size += len(data)
        else:
            self.outcome.errors = (self.outcome.errors + data)[-MAX_ERRORS:]
        return len(data) > 0

    def _is_whole(self) -> bool:
        """Whether its output ends here, or is one whole JSON document: then nobody need be waited
        for."""
        if self.stdout not in self.open:
            return True
        try:
            strictjson.loads(b"".join(self.chunks))
        except strictjson.JSONError:
            return False
        return True

    def _reap(self, flags: int) -> bool:
        pid, status = os.waitpid(self.pid, flags)
        if pid == 0:
            return False
        self.outcome.status = (
            os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        )
        if self.exit >= 0:
            self.poll.unregister(self.exit)
        return True


def _kill(pid: int) -> None:
    """Kill a plugin, its process group and its descendants, which are listed before any dies."""
    descendants = []
    try:
        import psutil

        descendants = psutil.Process(pid).children(recursive=True)
    except Exception:  # psutil missing or failing: the group is killed all the same
        pass
    for kill in (os.kill, os.killpg):  # it may not have its session yet
        try:
            kill(pid, _signal.SIGKILL)
        except ProcessLookupError:
            pass
    for process in descendants:
        try:
            process.kill()  # psutil compares start times, so a reused pid is spared
        except Exception:  # already gone, or not ours to kill
            pass
