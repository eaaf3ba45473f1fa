"""The service and timer of docs/systemd, as systemd takes them."""

import glob
import os
import shutil
import subprocess
import sys
import time

import pytest
from support.commands import run
from support.tree import TOP
from support.waiting import wait_until

pytestmark = pytest.mark.guest

UNITS = sorted(glob.glob(f"{TOP}/docs/systemd/*"))
COMMAND = "/usr/local/bin/nri-hook"
DIRECTORY = "/run/systemd/system"
STATE = "/run/nri-hook"


@pytest.fixture
def units(scene):
    """The units as docs/install.md has them put there, and the command where they look for it."""
    assert not os.path.lexists(COMMAND) and not os.path.lexists(STATE)
    with open(COMMAND, "w") as file:
        file.write(f'#!/bin/sh\nPYTHONPATH={TOP} exec {sys.executable} -m nri_hook "$@"\n')
    os.chmod(COMMAND, 0o755)
    paths = [shutil.copy(path, DIRECTORY) for path in UNITS]
    systemctl("daemon-reload")
    yield paths
    subprocess.run(["systemctl", "stop", "nri-hook-gc.timer"], check=True)
    for path in (COMMAND, *paths):
        os.unlink(path)
    shutil.rmtree(STATE, ignore_errors=True)
    systemctl("daemon-reload")


def systemctl(*words):
    return subprocess.run(
        ["systemctl", *words], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def test_they_are_valid(scene, units):
    assert [os.path.basename(path) for path in units] == [
        "nri-hook-gc.service",
        "nri-hook-gc.timer",
    ]
    done = run(["systemd-analyze", "verify", *units], f"{scene.directory}/verify").check()
    assert done.text == ""


def test_a_mistake_would_be_seen(scene, units):
    """The other way round."""
    path = f"{scene.directory}/nri-hook-bad.service"
    with open(units[0]) as good, open(path, "w") as bad:
        bad.write(good.read().replace("KillMode=process", "KilMode=process"))
    done = run(["systemd-analyze", "verify", path], f"{scene.directory}/verify")
    assert "KilMode" in done.text


def test_the_service_cleans_up(units):
    """An old log; a record of a hook that was killed before it wrote."""
    os.mkdir(STATE, 0o700)
    old = time.time() - 90000
    for name in ("one-01234567.log", "two-01234567.lock"):
        open(f"{STATE}/{name}", "w").close()
        os.utime(f"{STATE}/{name}", (old, old))
    systemctl("start", "nri-hook-gc.service")
    assert systemctl("show", "-P", "Result", "nri-hook-gc.service") == "success"
    assert os.listdir(STATE) == []


def test_the_timer_starts_it(units):
    """It is more than 15 minutes after no boot of these guests."""
    systemctl("start", "nri-hook-gc.timer")
    wait_until(lambda: systemctl("is-active", "nri-hook-gc.timer") == "active")
    listed = systemctl("list-timers", "--all", "nri-hook-gc.timer")
    assert "nri-hook-gc.service" in listed
    assert systemctl("show", "-P", "Unit", "nri-hook-gc.timer") == "nri-hook-gc.service"
