"""What a command has used, all of its children that it waited for included."""

import os
import signal
import time


class Usage:
    """cpu: seconds, user and system. wall: seconds from spawn to exit. end: when that was, of
    time.perf_counter(). status: exit status."""

    def __init__(self, cpu, wall, end, status):
        self.cpu = cpu
        self.wall = wall
        self.end = end
        self.status = status

    def check(self, what):
        assert self.status == 0, f"{what}: exit status {self.status}"
        return self


class Command:
    """A command that can be run again and again. stdin, out: files; the second gets what it prints
    on both, each time from the start."""

    def __init__(self, argv, stdin="/dev/null", out="/dev/null", env=None):
        self.argv = argv
        self.stdin = stdin
        self.out = out
        self.env = os.environ if env is None else env

    def start(self):
        """Its pid, and the moment."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, self.stdin, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, self.out, flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        begin = time.perf_counter()
        return os.posix_spawnp(self.argv[0], self.argv, self.env, file_actions=actions), begin

    def run(self):
        """Run it once; its Usage, which is that of a success."""
        return self.wait(*self.start()).check(self.argv)

    def wait(self, pid, begin):
        """The Usage of what start() has started, which ends with us where we are interrupted."""
        try:
            _, status, usage = os.wait4(pid, 0)
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        end = time.perf_counter()
        code = os.waitstatus_to_exitcode(status)
        return Usage(usage.ru_utime + usage.ru_stime, end - begin, end, code)
