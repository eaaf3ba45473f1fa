"""A private mount namespace that lives as long as the test session."""

import subprocess


class MountNamespace:
    """Commands that begin with `prefix` run in it. setup: a shell script that makes its mounts.
    base: the prefix of another one, of which it is a copy at first."""

    def __init__(self, setup, base=()):
        words = ["unshare", "-m", "--propagation", "private", "sh", "-ec"]
        # cat ends with its stdin, so nothing stays behind even when pytest is killed.
        self.keeper = subprocess.Popen(
            [*base, *words, f"{setup}; echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.keeper.stdout.readline() == b"\n", f"no mount namespace by {setup}"
        self.prefix = ["nsenter", f"--mount=/proc/{self.keeper.pid}/ns/mnt", "--"]

    def close(self):
        self.keeper.stdin.close()
        self.keeper.wait(10)
