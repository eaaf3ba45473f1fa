"""Python's half of the launcher without sh: what a stage does, called in a process that has the
modules loaded, so that thousands of calls are cheap."""

import json
import os
import subprocess
import sys

from nri_hook.registration import launcher
from support.tree import TOP

# Takes calls, one a line, and answers each with an exit status. Nothing of it goes to syslog.
SERVER = f"""
import sys
sys.path += [{TOP!r}]
import json, os
from nri_hook.hook import report, stages

report._send = lambda level, text: None

def call(stdin, out, err, environment, argv):
    for fd, path in ((0, stdin), (1, out), (2, err)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | (os.O_TRUNC if fd else 0), 0o600), fd)
    os.environ.clear()
    os.environ.update(environment)
    stages.main(argv)

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        call(*json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Straight:
    """A process that is called `name`, as the runtime that calls a hook is.

    directory: for its files. prefix: words before its command, which it is run by.
    """

    def __init__(self, directory, name, prefix=()):
        os.makedirs(directory)
        self.out, self.err = f"{directory}/out", f"{directory}/err"
        os.symlink(launcher.interpreter(), f"{directory}/{name}")
        self.server = subprocess.Popen(
            [*prefix, f"{directory}/{name}", "-IS", "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, argv, stdin, environment=()):
        """What the hook does with these words, where argv[0] is the launcher, and the file `stdin`:
        (exit status, stdout, stderr)."""
        call = [stdin, self.out, self.err, dict(environment), argv]
        self.server.stdin.write(json.dumps(call) + "\n")
        self.server.stdin.flush()
        status = int(self.server.stdout.readline())
        with open(self.out, "rb") as out, open(self.err, "rb") as err:
            return status, out.read(), err.read()

    def close(self):
        self.server.stdin.close()
        assert self.server.wait(30) == 0


def really(argv, stdin, environment=()):
    """The same by the launcher's own second half, in an interpreter of its own."""
    with open(stdin, "rb") as file:
        done = subprocess.run(
            [os.path.realpath(sys.executable), "-IS", *argv],
            stdin=file,
            capture_output=True,
            env=dict(environment),
        )
    return done.returncode, done.stdout, done.stderr
