"""What pip installs is the whole package, its schemas and manual pages among it."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import tree

TOP = Path(tree.TOP)


@pytest.mark.hostonly
def test_wheel_holds_every_module_schema_and_page(tmp_path):
    source = tmp_path / "source"
    for directory in ("nri_hook", "schemas", "docs/man"):
        shutil.copytree(TOP / directory, source / directory)
    for name in ("setup.cfg", "pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(TOP / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    data = "-".join(wheel.name.split("-")[:2]) + ".data/data/share/man"
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    modules = {path.relative_to(TOP).as_posix() for path in TOP.glob("nri_hook/**/*.py")}
    schemas = {f"nri_hook/schemas/{path.name}" for path in TOP.glob("schemas/*.json")}
    confs = {path.relative_to(TOP).as_posix() for path in TOP.glob("nri_hook/plugins/*.json")}
    pages = {f"{data}/man{path.name[-1]}/{path.name}" for path in TOP.glob("docs/man/*")}
    assert modules and schemas and confs and len(pages) == 2
    others = {"nri_hook/hook/launcher.sh", "nri_hook/py.typed"}
    assert packed == modules | schemas | confs | pages | others
