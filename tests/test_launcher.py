"""The launcher: that its text starts the package, whatever the interpreter's place and name."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nri_hook import launcher
from nri_hook.errors import HookError

# Slow in the guest, and nothing in it depends on the kernel.
pytestmark = pytest.mark.hostonly

ROOT = Path(__file__).resolve().parent.parent


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
    path.write_bytes(launcher.render(python, launcher.folders()))
    path.chmod(0o755)
    return path


def linked(folder: Path) -> str:
    """An interpreter in a folder of that name; -IS finds the library from where the link leads."""
    folder.mkdir()
    (folder / "python3").symlink_to(launcher.interpreter())
    return str(folder / "python3")


def assert_reaches_the_stages(path: Path, **environment: str) -> None:
    """The arguments arrive as they were given, and the package judges them: exit status 2."""
    odd = """--it's "a" $HOME `x` \\ flag"""
    run = call(path, "createRuntime", odd, **environment)
    assert run.returncode == 2, run.stderr
    assert run.stderr.startswith("nri-hook createRuntime: ") and repr(odd) in run.stderr


def test_launcher_starts_the_package(tmp_path: Path) -> None:
    path = write(tmp_path / "nri-hook", launcher.interpreter())
    assert path.read_text().startswith(f"#!{launcher.interpreter()} -IS\n{launcher.MARKER}\n")
    compile(path.read_text(), str(path), "exec")
    assert_reaches_the_stages(path)


@pytest.mark.parametrize("name", ["with space", "it's", "tab\there", "né", "l" * 120, "\udcff"])
def test_an_interpreter_that_the_kernel_cannot_name(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "nri-hook", linked(tmp_path / name))
    shell = name != "it's"
    assert path.read_bytes().startswith(b"#!/bin/sh\n" if shell else b"#!" + bytes(tmp_path))
    assert launcher.is_ours(path.read_bytes())
    assert_reaches_the_stages(path)


def test_the_longest_first_line(tmp_path: Path) -> None:
    """A first line of 127 bytes is one for the kernel, one of 128 is one for the shell."""
    room = launcher.MAX_SHEBANG - len(f"#!{tmp_path}//python3 -IS")
    for length, start in ((room, f"#!{tmp_path}"), (room + 1, "#!/bin/sh\n")):
        path = write(tmp_path / f"nri-hook-{length}", linked(tmp_path / ("x" * length)))
        assert path.read_text().startswith(start)
        assert_reaches_the_stages(path)


def test_folders_with_odd_names(tmp_path: Path) -> None:
    folder = tmp_path / "a 'b' \"c\" né \\n"
    shutil.copytree(ROOT / "nri_hook", folder / "nri_hook")
    path = tmp_path / "nri-hook"
    for python in (launcher.interpreter(), linked(tmp_path / "a space")):
        path.write_bytes(launcher.render(python, [str(folder)]))
        path.chmod(0o755)
        assert_reaches_the_stages(path)


def test_nothing_of_the_environment_gets_in(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    for module in ("nri_hook", "os", "sitecustomize", "usercustomize"):
        (trap / module).mkdir(parents=True)
        (trap / module / "__init__.py").write_text("raise SystemExit(99)\n")
    path = write(trap / "nri-hook", launcher.interpreter())
    startup = str(trap / "os" / "__init__.py")
    for python in (launcher.interpreter(), linked(tmp_path / "a space")):
        path.write_bytes(launcher.render(python, launcher.folders()))
        assert_reaches_the_stages(
            path, PYTHONPATH=str(trap), PYTHONSTARTUP=startup, PYTHONHOME="/none", HOME=str(trap)
        )


def test_nothing_is_written_into_the_package(tmp_path: Path) -> None:
    """A folder for bytecode, made under crun's umask of 0, would be open to everybody."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "nri_hook", tmp_path / "lib" / "nri_hook", ignore=ignored)
    path = tmp_path / "nri-hook"
    for python in (launcher.interpreter(), linked(tmp_path / "a space")):
        path.write_bytes(launcher.render(python, [str(tmp_path / "lib")]))
        path.chmod(0o755)
        subprocess.run(["sh", "-c", 'umask 0; exec "$0" createRuntime --bad', path])
        assert not list(tmp_path.rglob("__pycache__"))


def test_the_parent_stays_the_runtime(tmp_path: Path) -> None:
    """The hook finds the runtime as its parent: no shell may stay between them."""
    package = tmp_path / "lib" / "nri_hook"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "stages.py").write_text("import os\ndef main(argv): print(os.getppid(), argv)\n")
    for python in (launcher.interpreter(), linked(tmp_path / "a space")):
        path = tmp_path / "nri-hook"
        path.write_bytes(launcher.render(python, [str(tmp_path / "lib")]))
        path.chmod(0o755)
        run = call(path, "poststop", "--timeout", "3")
        assert run.stdout == f"{os.getpid()} ['{path}', 'poststop', '--timeout', '3']\n"


def test_a_virtual_environment_is_resolved(tmp_path: Path) -> None:
    """The launcher of a package in an environment works without the environment's interpreter."""
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    site = next(environment.glob("lib/python*/site-packages"))
    shutil.copytree(ROOT / "nri_hook", site / "nri_hook")
    (site / "others.pth").write_text("\n".join(launcher.folders()[1:]))
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


def test_folders_come_in_order_and_once() -> None:
    folders = launcher.folders()
    assert folders[0] == str(ROOT)
    assert len(folders) == len(set(folders))
    # All of them, and nothing but them, has to do under -IS.
    loaded = launcher.verify(launcher.interpreter(), folders)
    names = [Path(path).parent.name for path in loaded]
    assert {"nri_hook", "jsonschema", "psutil", "referencing"} <= set(names)


def test_a_missing_dependency_is_named(tmp_path: Path) -> None:
    with pytest.raises(HookError, match=r"-IS cannot import .*jsonschema"):
        launcher.verify(launcher.interpreter(), [str(ROOT)])
    with pytest.raises(HookError, match="cannot be run"):
        launcher.verify(str(tmp_path / "no-python"), [str(ROOT)])


def test_nothing_is_installed_without_the_dependencies(tmp_path: Path) -> None:
    (tmp_path / "nri_hook").symlink_to(ROOT / "nri_hook")
    (tmp_path / "config.json").write_text("{}")
    args = ["install", "--bundle", str(tmp_path), "--launcher", str(tmp_path / "nri-hook")]
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
    folders = ["/plain", "/it's a \\ \"folder\"", "/n\u00e9", "/\udcff"]
    assert launcher.read(launcher.render(python, folders)) == (python, folders)


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
    with pytest.raises(HookError, match="is no launcher as"):
        launcher.read(text)
