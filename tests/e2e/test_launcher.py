"""The launcher: that its text starts the package, whatever the interpreter's place and name."""

import ast
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from support.tree import TOP

from nri_hook.errors import HookError
from nri_hook.registration import launcher

# Slow in the guest, and nothing in it depends on the kernel.
pytestmark = pytest.mark.hostonly

ROOT = Path(TOP)


def call(path: Path, *args: str, **environment: str) -> Any:
    """Run the launcher as a runtime does: an environment of its own, a pipe on stdin."""
    return subprocess.run(
        ["nri-hook", *args],
        executable=str(path),
        env={"PATH": "/usr/bin:/bin", **environment},
        input="{}",
        capture_output=True,
        text=True,
        timeout=60,
    )


def write(path: Path, python: str) -> Path:
    """A launcher for the interpreter, at `path`."""
    path.write_bytes(launcher.render(python, launcher.directories()))
    path.chmod(0o755)
    return path


def linked(directory: Path) -> str:
    """An interpreter in a directory of that name; -IS finds the library from where the link
    leads."""
    directory.mkdir()
    (directory / "python3").symlink_to(launcher.interpreter())
    return str(directory / "python3")


def assert_reaches_the_stages(path: Path, **environment: str) -> None:
    """The arguments arrive as they were given, and the package judges them: exit status 2."""
    odd = """--it's "a" $HOME `x` \\ flag"""
    run = call(path, "createRuntime", odd, **environment)
    assert run.returncode == 2, run.stderr
    assert run.stderr.startswith("nri-hook createRuntime: ") and repr(odd) in run.stderr


def test_launcher_starts_the_package(tmp_path: Path) -> None:
    path = write(tmp_path / "nri-hook", launcher.interpreter())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compile(path.read_bytes(), str(path), "exec")
    for_shell, _, _ = path.read_text().partition("\n'''\n")
    subprocess.run(["sh", "-n"], input=for_shell, text=True, check=True)
    assert_reaches_the_stages(path)


@pytest.mark.parametrize("name", ["with space", "it's", "tab\there", "né", "l" * 120])
def test_an_interpreter_with_an_odd_name(tmp_path: Path, name: str) -> None:
    python = linked(tmp_path / name)
    path = write(tmp_path / "nri-hook", python)
    assert launcher.is_ours(path.read_bytes())
    assert launcher.read(path.read_bytes()) == (python, launcher.directories())
    assert_reaches_the_stages(path)


def test_an_interpreter_that_no_text_can_name(tmp_path: Path) -> None:
    with pytest.raises(HookError, match="without a backslash in its path"):
        launcher.render(linked(tmp_path / "a\\nb"), [])
    with pytest.raises(HookError, match="a path in UTF-8"):
        launcher.render(linked(tmp_path / "\udcff"), [])


def test_directories_with_odd_names(tmp_path: Path) -> None:
    directory = tmp_path / "a 'b' \"c\" né \\n"
    shutil.copytree(ROOT / "nri_hook", directory / "nri_hook")
    path = tmp_path / "nri-hook"
    path.write_bytes(launcher.render(launcher.interpreter(), [str(directory)]))
    path.chmod(0o755)
    assert_reaches_the_stages(path)


def test_nothing_of_the_environment_gets_in(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    for module in ("nri_hook", "os", "sitecustomize", "usercustomize"):
        (trap / module).mkdir(parents=True)
        (trap / module / "__init__.py").write_text("raise SystemExit(99)\n")
    path = write(trap / "nri-hook", launcher.interpreter())
    startup = str(trap / "os" / "__init__.py")
    assert_reaches_the_stages(
        path, PYTHONPATH=str(trap), PYTHONSTARTUP=startup, PYTHONHOME="/proc/none", HOME=str(trap)
    )


def test_nothing_is_written_into_the_package(tmp_path: Path) -> None:
    """A directory for bytecode, made under crun's umask of 0, would be open to everybody."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "nri_hook", tmp_path / "lib" / "nri_hook", ignore=ignored)
    path = tmp_path / "nri-hook"
    path.write_bytes(launcher.render(launcher.interpreter(), [str(tmp_path / "lib")]))
    path.chmod(0o755)
    subprocess.run(["sh", "-c", 'umask 0; exec "$0" createRuntime --bad', path])
    assert not list(tmp_path.rglob("__pycache__"))


def test_verify_compiles_all_that_a_stage_imports_later(tmp_path: Path) -> None:
    """The hooks write no bytecode: what install does not compile, each of them would."""
    package = tmp_path / "nri_hook"
    shutil.copytree(ROOT / "nri_hook", package, ignore=shutil.ignore_patterns("__pycache__"))
    launcher.verify(launcher.interpreter(), [str(tmp_path), *launcher.directories()[1:]])
    commands = {"cli", "doctor", "recovery", "registration"}  # which no stage runs
    files = [path for path in package.rglob("*.py") if not commands & set(path.parts)]
    later = {module for path in files for module in imported_later(path)}
    compiled = {
        str(path.relative_to(tmp_path))
        .replace("/__pycache__", "")
        .replace("/__init__", "")
        .split(".")[0]
        for path in package.rglob("*.pyc")
    }
    assert {"nri_hook/cgroups/libc", "nri_hook/validation/schema"} <= later
    assert later - compiled == set()


def imported_later(path: Path) -> "set[str]":
    """The modules of ours that functions in a file import, or things from them, as paths."""
    found = set()
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nri_hook"):
                    directory = str(node.module).replace(".", "/")
                    names = {f"{directory}/{alias.name}" for alias in node.names}
                    modules = {name for name in names if (ROOT / f"{name}.py").exists()}
                    found.update(modules or {directory})
    return found


def test_the_parent_stays_the_runtime(tmp_path: Path) -> None:
    """The hook finds the runtime as its parent: no shell may stay between them."""
    package = tmp_path / "lib" / "nri_hook"
    (package / "hook").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "hook" / "__init__.py").write_text("")
    (package / "hook" / "stages.py").write_text(
        "import os\ndef main(argv): print(os.getppid(), argv)\n"
    )
    shutil.copy(ROOT / "nri_hook" / "fastimport.py", package)
    path = tmp_path / "nri-hook"
    path.write_bytes(launcher.render(launcher.interpreter(), [str(tmp_path / "lib")]))
    path.chmod(0o755)
    run = call(path, "poststop", "--timeout", "3.5")
    assert run.stdout == f"{os.getpid()} ['{path}', 'poststop', '--timeout', '3.5']\n"


def test_a_virtual_environment_is_resolved(tmp_path: Path) -> None:
    """The launcher of a package in an environment works without the environment's interpreter."""
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    site = next(environment.glob("lib/python*/site-packages"))
    shutil.copytree(ROOT / "nri_hook", site / "nri_hook")
    (site / "others.pth").write_text("\n".join(launcher.directories()[1:]))
    (tmp_path / "config.json").write_text("{}")
    run = subprocess.run(
        [environment / "bin" / "python", "-m", "nri_hook", "install", "--bundle", str(tmp_path)],
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    path = environment / "libexec" / "nri-hook"
    text = path.read_text()
    assert f"'{site}'," in text and str(environment / "bin") not in text
    shutil.rmtree(environment / "bin")
    (environment / "pyvenv.cfg").unlink()
    assert_reaches_the_stages(path)


def test_directories_come_in_order_and_once() -> None:
    directories = launcher.directories()
    assert directories[0] == str(ROOT)
    assert len(directories) == len(set(directories))
    # All of them, and nothing but them, has to do under -IS.
    loaded = launcher.verify(launcher.interpreter(), directories)
    names = [Path(path).parent.name for path in loaded]
    assert {"nri_hook", "jsonschema", "psutil", "referencing"} <= set(names)


def test_a_missing_dependency_is_named(tmp_path: Path) -> None:
    with pytest.raises(HookError, match=r"-IS cannot import .*jsonschema"):
        launcher.verify(launcher.interpreter(), [str(ROOT)])
    with pytest.raises(HookError, match="cannot be run"):
        launcher.verify(str(tmp_path / "no-python"), [str(ROOT)])


@pytest.mark.parametrize("place", ["--bundle", "--hooks-dir"])
def test_nothing_is_installed_without_the_dependencies(tmp_path: Path, place: str) -> None:
    (tmp_path / "nri_hook").symlink_to(ROOT / "nri_hook")
    (tmp_path / "config.json").write_text("{}")
    args = ["install", place, str(tmp_path), "--launcher", str(tmp_path / "nri-hook")]
    run = subprocess.run(
        [launcher.interpreter(), "-S", "-m", "nri_hook", *args],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert run.stderr.startswith("nri-hook install: the Python package jsonschema is missing")
    assert (tmp_path / "config.json").read_text() == "{}"
    assert not (tmp_path / "nri-hook").exists()


def test_only_a_launcher_is_ours() -> None:
    text = launcher.render(launcher.interpreter(), ["/a"])
    assert launcher.is_ours(text)
    assert not launcher.is_ours(b"#!/bin/sh\n" + text)
    assert not launcher.is_ours(b"")


def test_what_others_may_change_is_named(tmp_path: Path) -> None:
    """One line for each reason, not for each file."""
    shared = tmp_path / "shared"
    shared.mkdir()
    good = tmp_path / "good"
    for path in (good, shared / "one", shared / "two"):
        path.write_text("")
    shared.chmod(0o777)
    lines = launcher.warnings([str(p) for p in (good, shared / "one", shared / "two")])
    assert len(lines) == 1
    assert lines[0].startswith(f"{shared}/one: ") and "0777" in lines[0]
    assert launcher.warnings([str(good)]) == []


@pytest.mark.parametrize("python", ["/usr/bin/python3", "/a b/it's/python3", "/n\u00e9/python3"])
def test_read_gives_back_what_was_rendered(python: str) -> None:
    """For the doctor, who may be another Python than the one that is baked in."""
    directories = ["/plain", '/it\'s a \\ "directory"', "/n\u00e9", "/\udcff"]
    assert launcher.read(launcher.render(python, directories)) == (python, directories)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"#!/bin/sh\n",
        b"#!/usr/bin/python3 -IS\n",
        b"#!/usr/bin/python3\nsys.path += []\n",
        b"#!/usr/bin/python3 -IS\nsys.path += [\n",
        b"#!/usr/bin/python3 -IS\nsys.path += [x]\n",
        b"#!/bin/sh\nexec 'python3\n",
    ],
)
def test_read_of_something_else(text: bytes) -> None:
    with pytest.raises(HookError, match="is not a launcher as"):
        launcher.read(text)
