"""Commands that are run and what came of them."""

import os
import subprocess

SECONDS = 60


class Done:
    """A command that has ended: its status, what it printed, the two together as `text`."""

    def __init__(self, argv, status, out, err):
        self.argv = argv
        self.status = status
        self.out = out
        self.err = err
        self.text = out + err

    def check(self):
        """Fail the test unless the status is 0; gives itself back."""
        assert self.status == 0, f"{' '.join(map(str, self.argv))}: {self}"
        return self

    def refused(self):
        """Fail the test unless the status is another than 0; gives the text back."""
        assert self.status != 0, f"{' '.join(map(str, self.argv))}: expected a failure: {self}"
        return self.text

    def __repr__(self):
        return f"status {self.status}\n{self.text}"


def run(argv, out, **options):
    """Run a command whose stdout and stderr go to the files `out` and `out`.err.

    Files, for a container keeps what it was created with: a pipe would never end.
    """
    argv = [os.fspath(word) for word in argv]
    with open(out, "wb") as stdout, open(f"{out}.err", "wb") as stderr:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            timeout=SECONDS,
            **options,
        )
    return Done(argv, done.returncode, read(out), read(f"{out}.err"))


def read(path):
    """The text of a file."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
