"""A command of nri-hook in a child of this process: as it is at a terminal, without the start of an
interpreter for each."""

import importlib
import os
import select
import signal
import sys
import tempfile
import traceback

from nri_hook.cli import COMMANDS, main
from support.commands import Done, read

# Once and for all children, some of whom are users who may not read where they lie.
for _name in COMMANDS:
    importlib.import_module(f"nri_hook.cli.{_name}")

# Far above what any command takes here, and what hangs ends.
SECONDS = 30


def command(*args, environment=()):
    """`nri-hook ARGS`; what came of it, with status None if it had to be killed."""
    args = [os.fspath(word) for word in args]
    with tempfile.TemporaryDirectory() as directory:
        out, err = f"{directory}/out", f"{directory}/err"
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            _run(args, out, err, dict(environment))
        status = _wait(pid)
        return Done(["nri-hook", *args], status, read(out), read(err))


def _run(args, out, err, environment):
    status = 70
    try:
        os.setsid()
        signal.alarm(2 * SECONDS)  # where nobody is left to wait for it
        for fd, path in ((0, "/dev/null"), (1, out), (2, err)):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), fd)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")
        os.environ.update(environment)
        os.chdir("/")
        status = main(args)
    except SystemExit as error:
        status = error.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait(pid):
    exit = os.pidfd_open(pid)
    try:
        if not select.select([exit], [], [], SECONDS)[0]:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(exit)
