"""The log of the hook: journald's where it runs, else a socket at /dev/log that collects.

Sessions of tests that run at the same time share the socket: the one that has it appends every
line to a file, from which all read.
"""

import fcntl
import os
import re
import socket
import subprocess
import threading
import time

SOCKET = "/dev/log"
FILE = "/run/nri-test-syslog"
# Seconds for other sessions to end: a test may take no longer than twice this.
PATIENCE = 60


class Journal:
    """The journal's lines of nri-hook."""

    def listen(self):
        pass

    def lines(self):
        subprocess.run(["journalctl", "--sync"], check=True)
        done = subprocess.run(
            ["journalctl", "-q", "-b", "-t", "nri-hook", "-o", "cat"],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.splitlines()

    def close(self):
        pass


class Collector:
    """The lines that came to SOCKET, with their priority in front: `<30>stage=...`."""

    def __init__(self):
        self.socket = None
        self.users = None

    def listen(self):
        """Take the socket unless somebody alive has it."""
        if self.users is None:
            self.users = open(f"{FILE}.users", "w")
            fcntl.flock(self.users, fcntl.LOCK_SH)
        with open(f"{FILE}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.socket or _is_heard():
                return
            if os.path.lexists(SOCKET):
                os.unlink(SOCKET)
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.socket.bind(SOCKET)
            os.chmod(SOCKET, 0o666)
            open(FILE, "ab").close()
            threading.Thread(target=self._collect, args=[self.socket], daemon=True).start()

    def lines(self):
        """All lines so far."""
        # A datagram is in the file an instant after it was sent.
        time.sleep(0.02)
        try:
            with open(FILE, encoding="utf-8", errors="replace") as file:
                found = re.findall(r"^(<\d+>).*?nri-hook\[\d+\]: (.*)$", file.read(), re.M)
        except FileNotFoundError:
            return []
        return [level + line for level, line in found]

    def close(self):
        """Let it go; whoever has the socket waits for the others, whose lines would be lost."""
        if self.socket:
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline and not self._is_last():
                time.sleep(0.1)
            os.unlink(SOCKET)
            os.unlink(FILE)
            self.socket.close()
        if self.users:
            self.users.close()

    def _is_last(self):
        try:
            fcntl.flock(self.users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # What was not to be had is gone too (flock(2)).
            fcntl.flock(self.users, fcntl.LOCK_SH)
            return False
        return True

    def _collect(self, listening):
        with open(FILE, "ab", buffering=0) as file:
            while True:
                try:
                    data = listening.recv(65536)
                except OSError:
                    return
                file.write(data.rstrip(b"\0\n") + b"\n")


class Since:
    """The lines from a moment on, for a test. name: of its scene."""

    def __init__(self, log, name):
        self.log = log
        self.name = name
        self.start = len(log.lines())

    def lines(self, id=None):
        """The lines, of the container `id` or all. Tests that run elsewhere at the same time may
        have a container of that id: theirs are left out."""
        lines = self.log.lines()[self.start :]
        return [line for line in lines if id is None or self._is_about(line, id)]

    def _is_about(self, line, id):
        """Whether a line tells of it, or at least of no other scene."""
        is_told = " from=" in line or "nri-test-" in line
        return f"container={id} " in line and (self.name in line or not is_told)


def log():
    """The log of this machine."""
    return Journal() if os.path.isdir("/run/systemd/journal") else Collector()


def _is_heard():
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(SOCKET)
        return True
    except OSError:
        return False
