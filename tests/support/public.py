"""What every user can run: the clone or the interpreter of these tests may lie in root's home."""

import atexit
import functools
import os
import shutil
import sys
import tempfile

from support.tree import TOP


@functools.cache
def python():
    """An interpreter, None where there is none for all."""
    mine = os.path.realpath(sys.executable)
    return mine if _is_open(mine) else shutil.which("python3", path="/usr/bin:/bin")


@functools.cache
def top():
    """The directory that the nri_hook package is in, a copy where ours is not for all."""
    if _is_open(f"{TOP}/nri_hook"):
        return TOP
    directory = tempfile.mkdtemp(prefix="nri-test-public-")
    atexit.register(shutil.rmtree, directory)
    os.chmod(directory, 0o755)
    shutil.copytree(f"{TOP}/nri_hook", f"{directory}/nri_hook")
    shutil.copytree(f"{TOP}/schemas", f"{directory}/schemas")
    return directory


def _is_open(path):
    """Whether others may enter all directories above it."""
    while path != "/":
        path = os.path.dirname(path)
        if not os.stat(path).st_mode & 0o001:
            return False
    return True
