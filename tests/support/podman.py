"""A podman of one's own, with no flag about hooks."""

import contextlib
import glob
import shutil
import tempfile

from support.commands import read
from support.waiting import wait_until


@contextlib.contextmanager
def alone(hooks=()):
    """The words of `podman run --rm` with cgroupfs and runc, all private; hooks: more flags of
    podman itself."""
    # podman takes no runroot of more than 50 characters.
    folder = tempfile.mkdtemp(prefix="nri-test-")
    try:
        yield [
            *("podman", "--root", f"{folder}/root", "--runroot", f"{folder}/runroot"),
            *("--tmpdir", f"{folder}/tmp", "--storage-driver", "vfs", *hooks),
            *("--cgroup-manager", "cgroupfs", "--runtime", "runc", "run", "--rm"),
            *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--network", "none"),
        ]
    finally:
        # conmon calls `podman container cleanup` once more, and podman does not wait for that.
        wait_until(lambda: not any(folder in words for words in _command_lines()))
        shutil.rmtree(folder)


def _command_lines():
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield read(path)
