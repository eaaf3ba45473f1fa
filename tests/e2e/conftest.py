"""The fixtures of all tests here, and where a test can run: the markers `guest`, `tcg` and `v1`
(README.md above this directory)."""

import contextlib
import os
import signal
import subprocess

import psutil
import pytest
from support import runtimes, syslog
from support.scene import Scene

from nri_hook.hook.options import Options

CONTROLLERS = "/sys/fs/cgroup/cgroup.controllers"


def pytest_configure():
    # A shell that starts us in the background has it ignored, and so would have all we start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    lacking = {
        "guest": why_no_guest(),
        "tcg": why_no_guest("cpuset", "hugetlb"),
        "v1": why_no_systemd() or why_no_v1(),
    }
    for item in items:
        for marker, reason in lacking.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def why_no_guest(*controllers):
    """What of systemd, pure cgroup v2 and these controllers this machine lacks; None: nothing."""
    if why_no_systemd():
        return why_no_systemd()
    try:
        with open(CONTROLLERS) as file:
            missing = set(controllers) - set(file.read().split())
    except FileNotFoundError:
        return "needs pure cgroup v2: make test-guest"
    return f"needs the controllers {', '.join(sorted(missing))}" if missing else None


def why_no_systemd():
    return None if os.path.isdir("/run/systemd/system") else "needs systemd: make test-guest"


def why_no_v1():
    return "needs cgroup v1: make test-guest" if os.path.exists(CONTROLLERS) else None


@pytest.fixture(autouse=True)
def scene():
    """What this test has to itself; when it ends, nothing of it may be left."""
    os.umask(0o022)
    scene = Scene()
    yield scene
    left = scene.close()
    reap()
    assert not left, "left behind:\n" + "\n".join(left)


def reap():
    """Wait for the children that have ended and whom nobody has waited for, such as those of a test
    that was interrupted."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
            if child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, 0)


@pytest.fixture
def directory(scene):
    """A directory for records."""
    path = f"{scene.directory}/state"
    os.mkdir(path, 0o700)
    return path


@pytest.fixture
def options(directory):
    """The options of a hook whose records are there."""
    return Options(state_dir=directory)


@pytest.fixture
def sleeper(scene):
    """A process that is nobody's business."""
    return scene.sleeper()


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
