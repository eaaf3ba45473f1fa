"""Imports by the shorter way: what comes of them is what `import` makes."""

import importlib.util
import os
import py_compile
import subprocess
import sys

import pytest
from support.tree import TOP

from nri_hook import fastimport

CODE = f"""
import sys
sys.dont_write_bytecode = True
sys.path += [{TOP!r}, sys.argv[1]]
from nri_hook import fastimport
fastimport.install("some")
from some import one
print(one.WORD, type(one.__loader__).__module__)
"""
FAST, USUAL = "nri_hook.fastimport", "_frozen_importlib_external"


@pytest.fixture
def module(tmp_path):
    """The path of the module `one` in the package `some`."""
    os.mkdir(f"{tmp_path}/some")
    path = f"{tmp_path}/some/one.py"
    for name in (f"{tmp_path}/some/__init__.py", path):
        with open(name, "w") as file:
            file.write("WORD = 'first'\n")
        py_compile.compile(name, doraise=True)
    return path


def found(module):
    """What the module says, and who has loaded it."""
    directory = os.path.dirname(os.path.dirname(module))
    argv = [os.path.realpath(sys.executable), "-IS", "-c", CODE, directory]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def test_a_compiled_module(module):
    assert found(module) == ["first", FAST]


def test_a_source_of_another_size(module):
    write(module, b"WORD = 'another'\n")
    assert found(module) == ["another", USUAL]


def test_a_source_of_another_time(module):
    write(module, b"WORD = 'other'\n")
    os.utime(module, (1, 1))
    assert found(module) == ["other", USUAL]


def test_no_compiled_file(module):
    os.unlink(importlib.util.cache_from_source(module))
    assert found(module) == ["first", USUAL]


@pytest.mark.parametrize("mode", ["CHECKED_HASH", "UNCHECKED_HASH"])
def test_a_compiled_file_that_goes_by_a_hash(module, mode):
    py_compile.compile(module, invalidation_mode=py_compile.PycInvalidationMode[mode])
    assert found(module) == ["first", USUAL]


def test_a_compiled_file_of_another_interpreter(module):
    cached = importlib.util.cache_from_source(module)
    with open(cached, "rb") as file:
        data = file.read()
    write(cached, b"\0\0" + data[2:])
    assert found(module) == ["first", USUAL]


def test_a_module_is_what_import_makes_of_it():
    """All that a module tells of itself."""
    code = f"""
import sys
sys.path.append({TOP!r})
if len(sys.argv) > 1:
    from nri_hook import fastimport
    fastimport.install("nri_hook")
from nri_hook import cgroups, trust
from nri_hook.cgroups import controlfile
for module in (trust, cgroups, controlfile):
    spec = module.__spec__
    print(module.__name__, module.__file__, module.__cached__, module.__package__)
    print(spec.name, spec.origin, spec.cached, spec.parent, spec.has_location)
    print(spec.submodule_search_locations, module.__loader__.get_source(module.__name__))
"""
    argv = [os.path.realpath(sys.executable), "-IS", "-W", "ignore", "-c", code]
    usual, fast = (
        subprocess.run([*argv, *more], capture_output=True, text=True, check=True).stdout
        for more in ([], ["fast"])
    )
    assert usual == fast and "def open_file" in usual


def test_what_is_written_is_read(tmp_path, module):
    for word in ("second", "third"):  # the second time in the place of the first
        write(module, f"WORD = {word!r}\n".encode())
        with open(module) as file:
            code = compile(file.read(), module, "exec")
        directory = f"{os.path.dirname(module)}/__pycache__"
        fastimport.write(code, os.stat(module), directory, f"one{fastimport.ENDING}")
        assert found(module) == [word, FAST]
        assert sorted(os.listdir(directory)) == [
            f"__init__{fastimport.ENDING}",
            f"one{fastimport.ENDING}",
        ]
    with pytest.raises(FileNotFoundError):
        fastimport.write(code, os.stat(module), f"{tmp_path}/missing", "one")
