"""Where a test can run: the markers `guest`, `tcg` and `v1` (README.md beside this file)."""

import os
import signal

import pytest

CONTROLLERS = "/sys/fs/cgroup/cgroup.controllers"
pytest_plugins = ["support.fixtures"]


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
