"""Files that an operator names on the command line."""

from __future__ import annotations

import os
import re

from nri_hook import atomicfile, strictjson
from nri_hook.errors import HookError

# What the shell has opened for us: "command < FILE", "command | ...", "<(command)".
OPEN = re.compile(r"/dev/stdin|(?:/dev|/proc/self)/fd/(\d+)")


def load(path: str) -> bytes:
    """The bytes of a regular file, or of a pipe that this process was given. Raises HookError."""
    given = OPEN.fullmatch(path)
    if given:
        return _read(int(given[1] or 0), path)
    data = atomicfile.load(path)
    if data is None:
        raise HookError("cannot be read: No such file or directory", path=path)
    return data


def _read(fd: int, path: str) -> bytes:
    try:
        return strictjson.read(fd, atomicfile.MAX_SIZE)
    except OSError as error:
        raise HookError(f"cannot be read: {os.strerror(error.errno or 0)}", path=path) from None
    except strictjson.JSONError as error:
        raise HookError(f"cannot be read: {error}", path=path) from None
