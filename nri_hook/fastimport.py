"""Imports of this package by a shorter way.

A stage imports some thirty modules of ours. What `import` does to find each, in any directory, of
any kind, compiled or not, is half of what they cost, and that is as much as a third of the
interpreter's own start. Here is the one case that an installed package is in: a module, or a
package in it, whose compiled file lies in __pycache__ and is of this very source. All else is left
to `import` itself.
"""

import _frozen_importlib as bootstrap
import _frozen_importlib_external as external
import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType
    from typing import Any, Optional

ENDING = f".{sys.implementation.cache_tag}.pyc"
# The header of a compiled file that goes by the time and size of its source (PEP 552).
KIND = external.MAGIC_NUMBER + bytes(4)
HEADER = 16
# For a much larger buffer the C library would map memory at each read.
CHUNK = 1 << 15


class _Loader(external.SourceFileLoader):
    """The usual one, which has the code already."""

    code: "CodeType"

    def exec_module(self, module: "ModuleType") -> None:
        exec(self.code, module.__dict__)


def install(package: str) -> None:
    """Have the modules in `package` imported this way."""

    class Finder:
        @staticmethod
        def find_spec(
            name: str, path: "Optional[Sequence[str]]" = None, target: "Any" = None
        ) -> "Any":
            if path is None or not name.startswith(package + "."):
                return None
            stem = name.rpartition(".")[2]
            # No name is both a module and a package here.
            return _spec(name, path[0], stem) or _spec(name, f"{path[0]}/{stem}", "__init__")

    sys.meta_path.insert(0, Finder)


def _spec(name: str, directory: str, stem: str) -> "Any":
    """The ModuleSpec of the module STEM.py in `directory`, None unless its code is compiled."""
    source, cached = f"{directory}/{stem}.py", f"{directory}/__pycache__/{stem}{ENDING}"
    code = compiled(source, cached)
    if code is None:
        return None
    loader = _Loader(name, source)
    loader.code = code
    spec = bootstrap.ModuleSpec(name, loader, origin=source)
    spec.has_location = True
    spec.cached = cached
    if stem == "__init__":
        spec.submodule_search_locations = [directory]
    return spec


def compiled(source: str, cached: str) -> "Optional[CodeType]":
    """The code in the file `cached`, None unless it is that of the file `source`."""
    try:
        status = os.stat(source)
        fd = os.open(cached, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    return read(fd, status)


def read(fd: int, source: os.stat_result) -> "Optional[CodeType]":
    """The code in an open compiled file, None unless it is of this source; the file is closed."""
    try:
        data = part = os.read(fd, CHUNK)
        while len(part) == CHUNK:
            part = os.read(fd, CHUNK)
            data += part
    finally:
        os.close(fd)
    if data[:HEADER] != _header(source):
        return None
    try:
        code: "CodeType" = marshal.loads(memoryview(data)[HEADER:])
    except (EOFError, ValueError, TypeError):  # cut off
        return None
    return code


def write(code: "CodeType", source: os.stat_result, directory: str, name: str) -> None:
    """Keep the code of this source as the compiled file `name` in `directory`, whole or not at all.

    Raises OSError, also where the file system cannot make a file without a name.
    """
    inner = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        fd = os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        with open(fd, "wb") as file:
            file.write(_header(source) + marshal.dumps(code))
            file.flush()
            try:
                os.unlink(name, dir_fd=inner)
            except FileNotFoundError:
                pass
            # Only with src_dir_fd, which a path from / makes no use of, this is a linkat(2) that
            # follows /proc/self/fd/N to the file.
            os.link(f"/proc/self/fd/{fd}", name, src_dir_fd=inner, dst_dir_fd=inner)
    finally:
        os.close(inner)


def _header(source: os.stat_result) -> bytes:
    numbers = int(source.st_mtime), source.st_size
    return KIND + b"".join((number & 0xFFFFFFFF).to_bytes(4, "little") for number in numbers)
