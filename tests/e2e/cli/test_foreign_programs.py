"""What the doctor is shown may be a stranger's: a bundle, a launcher, a runtime in $PATH. It says
whose it is, and executes nothing of it: each here would leave a mark."""

import json
import os
import shutil
import stat
import sys

import pytest
from support.forked import command
from support.tree import TOP

from nri_hook.registration import launcher

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.hostonly,
]

STRANGER = 65321


class Stranger:
    """A bundle whose hooks have `launcher` called, and what leaves the mark `ran` if executed."""

    def __init__(self, directory):
        self.directory = directory
        self.ran = f"{directory}/ran"
        self.launcher = f"{directory}/launcher"
        self.programs = f"{directory}/programs"
        os.mkdir(self.programs)
        self.home = f"{directory}/home"
        os.mkdir(self.home)
        self.script = self.write("home/python", f"#!/bin/sh\ntouch {self.ran}\n")

    def write(self, name, content, uid=0):
        path = f"{self.directory}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w" if isinstance(content, str) else "wb") as file:
            file.write(content)
        os.chmod(path, 0o755)
        os.chown(path, uid, uid)
        return path

    def write_launcher(self, python, directories, uid=0):
        self.write("launcher", launcher.render(python, directories), uid)

    def write_bundle(self, uid=0):
        hook = {"path": self.launcher, "args": ["nri-hook", "poststop"], "env": ["PATH=/bin"]}
        config = {"linux": {}, "root": {"path": "rootfs"}, "hooks": {"poststop": [hook]}}
        self.write("bundle/config.json", json.dumps(config), uid)
        os.chown(f"{self.directory}/bundle", uid, uid)

    def give(self, path):
        for top, directories, names in os.walk(path):
            for name in (*directories, *names, ""):
                os.lchown(os.path.join(top, name), STRANGER, STRANGER)

    def doctor(self, *args, status=1):
        """The lines of the doctor, in which nothing was executed that must not be."""
        words = ["doctor", "--bundle", f"{self.directory}/bundle", *args]
        done = command(*words, environment={"PATH": f"{self.programs}:/usr/sbin:/usr/bin:/bin"})
        assert done.status == status and done.err == "", done
        assert not os.path.exists(self.ran), done
        return done.out.splitlines()

    def find(self, level, *parts):
        """The one line of this level that holds all of these."""
        lines = self.doctor()
        found = [x for x in lines if x.startswith(level) and all(part in x for part in parts)]
        assert len(found) == 1, (level, parts, lines)
        return found[0]


@pytest.fixture
def stranger(scene):
    return Stranger(scene.directory)


@pytest.fixture
def ours(stranger):
    """The directories of sys.path of a launcher that works, as a copy that can be spoilt."""
    path = f"{stranger.directory}/lib"
    shutil.copytree(f"{TOP}/nri_hook", f"{path}/nri_hook")
    for top, directories, names in os.walk(path):
        for name in (*directories, *names, ""):
            os.chmod(os.path.join(top, name), stat.S_IMODE(os.stat(top).st_mode) & ~0o022)
    return [path, *launcher.directories()[1:]]


def test_a_launcher_that_only_root_can_have_written_is_run(stranger, ours):
    """So that what follows is not for nothing."""
    stranger.write_bundle()
    stranger.write_launcher(launcher.interpreter(), ours)
    stranger.find("ok", f"launcher: {stranger.launcher}: ", f"runs {ours[0]}/nri_hook")


def test_the_interpreter_of_a_strangers_launcher(stranger):
    stranger.write_bundle(STRANGER)
    stranger.give(stranger.home)
    stranger.write_launcher(stranger.script, [], STRANGER)
    line = stranger.find("warn launcher", "file launcher belongs to uid 65321, expected root")
    assert ", so it is not looked into; fix: look at " in line and "chown" not in line


def test_a_program_of_roots_that_a_stranger_names(stranger):
    """Not only what is the stranger's own: any program would be called, with arguments."""
    stranger.write_bundle(STRANGER)
    stranger.write_launcher(stranger.script, [], STRANGER)
    assert os.stat(stranger.script).st_uid == 0
    stranger.find("warn launcher", "file launcher belongs to uid 65321")


def test_a_strangers_interpreter(stranger):
    """In a launcher that was installed by root."""
    stranger.write_bundle()
    stranger.give(stranger.home)
    stranger.write_launcher(stranger.script, launcher.directories())
    line = stranger.find("warn launcher", f"{stranger.script}: directory home belongs to uid 65321")
    assert f", so {stranger.script} is not run; fix: look at {stranger.script}" in line


def test_an_interpreter_that_everybody_may_write(stranger):
    stranger.write_bundle()
    stranger.write_launcher(stranger.script, launcher.directories())
    os.chmod(stranger.script, 0o777)
    stranger.find("fail launcher", "file python may be written by others (mode 0777)")


def test_a_strangers_library(stranger):
    """The interpreter is root's, and what it would import at its start is not."""
    stranger.write_bundle()
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    stranger.write(f"{version}/bin/python", f"#!/bin/sh\ntouch {stranger.ran}\n")
    stranger.write(f"{version}/lib/{version}/os.py", "", STRANGER)
    python = f"{stranger.directory}/{version}/bin/python"
    stranger.write_launcher(python, launcher.directories())
    stranger.find("warn launcher", f"{version}/os.py: file os.py belongs to uid 65321", "not run")


@pytest.mark.parametrize(
    "name", ["nri_hook/stages.py", "nri_hook/cgroups", "attr.py", "psutil/new/deep.py"]
)
def test_a_strangers_module(stranger, ours, name):
    """One of ours, one before that of a dependency, one that nobody has asked for yet."""
    stranger.write_bundle()
    stranger.write_launcher(launcher.interpreter(), ours)
    path = f"{ours[0]}/{name}"
    if not os.path.exists(path):
        stranger.write(f"lib/{name}", f"open({stranger.ran!r}, 'w')\n")
    os.chown(path, STRANGER, STRANGER)
    stranger.find("warn launcher", f"{path}: ", "belongs to uid 65321", "is not run")


def test_a_link_to_a_strangers_package(stranger, ours):
    stranger.write_bundle()
    stranger.write_launcher(launcher.interpreter(), ours)
    stranger.write("home/jsonschema/__init__.py", f"open({stranger.ran!r}, 'w')\n")
    stranger.give(stranger.home)
    os.symlink(f"{stranger.home}/jsonschema", f"{ours[0]}/jsonschema")
    stranger.find("warn launcher", "directory home belongs to uid 65321", "is not run")


@pytest.mark.parametrize("name", ["runc", "crun", "podman", "crio"])
@pytest.mark.parametrize("uid", [0, STRANGER])
def test_a_runtime_in_the_path(stranger, name, uid):
    """A stranger's, or one that everybody may write."""
    stranger.write_bundle()
    path = stranger.write(f"programs/{name}", f"#!/bin/sh\ntouch {stranger.ran}\n", uid)
    why = "belongs to uid 65321"
    if not uid:
        os.chmod(path, 0o757)
        why = "may be written by others (mode 0757)"
    what = "runtime" if name in ("runc", "crun") else "engine"
    stranger.find(f"fail {what}: {path}: file {name} {why}", ", so it is not run; fix: look at ")


def test_the_flags_of_a_strangers_bundle_are_not_recommended(stranger):
    """What the doctor says is to be typed as root."""
    stranger.write_bundle(STRANGER)
    lines = stranger.doctor()
    (line,) = [line for line in lines if "does not call nri-hook for createRuntime" in line]
    assert line.endswith(f"; fix: nri-hook install --bundle {stranger.directory}/bundle")
