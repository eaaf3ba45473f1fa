"""The fixtures: scene, folder, options, node, runtime, runc, log."""

import os
import subprocess

import pytest

from nri_hook.hook.options import Options
from support import runtimes, syslog
from support.scene import Scene


@pytest.fixture(autouse=True)
def scene():
    """What this test has to itself; when it ends, nothing of it may be left."""
    os.umask(0o022)
    scene = Scene()
    yield scene
    left = scene.close()
    assert not left, "left behind:\n" + "\n".join(left)


@pytest.fixture
def folder(scene):
    """A folder for records."""
    path = f"{scene.folder}/state"
    os.mkdir(path, 0o700)
    return path


@pytest.fixture
def options(folder):
    """The options of a hook whose records are there."""
    return Options(state_dir=folder)


@pytest.fixture
def node(scene):
    """A node without plugins."""
    return scene.node()


@pytest.fixture(params=runtimes.available())
def runtime(scene, request):
    """Every environment that this machine has, each with a private root."""
    return scene.runtime(request.param)


@pytest.fixture(params=runtimes.binaries())
def oci(scene, request):
    """The environments in which a bundle goes straight to runc or crun."""
    return scene.runtime(request.param)


@pytest.fixture
def runc(scene):
    """runc on the machine's own cgroups."""
    if runtimes.Runc.lacks():
        pytest.skip(runtimes.Runc.lacks())
    return scene.runtime("runc")


@pytest.fixture
def nsdelegate():
    """Limits that the kernel protects from a container with a cgroup namespace, as systemd wants
    it. A runtime that mounts cgroup2 for a container without one takes these options away, which
    are those of the filesystem."""
    if os.path.isdir("/run/systemd/system"):
        options = "remount,nsdelegate,memory_recursiveprot"
        subprocess.run(["mount", "-o", options, "/sys/fs/cgroup"], check=True)


@pytest.fixture(scope="session")
def _log():
    log = syslog.log()
    yield log
    log.close()


@pytest.fixture
def log(_log, scene):
    """The hook's lines in the log from now on: log.lines(container id), or all."""
    _log.listen()
    return syslog.Since(_log, scene.name)


@pytest.fixture(scope="session", autouse=True)
def _namespaces():
    yield
    runtimes.close_all()
