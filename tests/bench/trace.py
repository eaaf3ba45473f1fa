"""What a command does, by strace: system calls, files, processes, and the modules it imports."""

import collections
import os
import re
import subprocess
import tempfile

# PID NAME(ARGUMENTS) = RESULT, or the first half of it where another process came in between.
LINE = re.compile(r"(\d+) +(\w+)\((.*)")
OPENED = re.compile(r'[^"]*"([^"]*)".*( = \d+|<unfinished \.\.\.>)$')
FORKS = {"clone", "clone3", "fork", "vfork"}
OPENS = {"open", "openat"}


class Trace:
    """calls: name -> how many system calls of the command itself, a Counter. opened: paths of the
    files that it has opened, in order. processes: how many it started, and these in turn."""

    def __init__(self, text):
        self.calls = collections.Counter()
        self.opened = []
        self.processes = 0
        first = text.split(" ", 1)[0]
        for line in text.splitlines():
            found = LINE.match(line)
            if not found:
                continue
            pid, name, rest = found.groups()
            if name in FORKS:
                self.processes += 1
            if pid != first:
                continue
            self.calls[name] += 1
            path = OPENED.match(rest) if name in OPENS else None
            if path:
                self.opened.append(path.group(1))

    def total(self):
        return sum(self.calls.values())


def of(argv, stdin):
    """The Trace of a command. stdin: a file."""
    with tempfile.NamedTemporaryFile("r", errors="replace") as file, open(stdin) as given:
        words = ["strace", "-f", "-qq", "-s", "300", "-e", "signal=none", "-o", file.name, *argv]
        out = subprocess.run(words, stdin=given, capture_output=True, timeout=60)
        assert out.returncode == 0, out.stderr
        return Trace(file.read())


def modules(trace, top):
    """The modules of a directory that a Trace has opened, by the names of their files."""
    inside = (os.path.relpath(path, top) for path in trace.opened if path.startswith(top + "/"))
    names = (re.sub(r"(__pycache__/)|(\.cpython-\d+)|(\.pyc?$)", "", path) for path in inside)
    return sorted(set(names))
