"""Where a test can run: the markers `guest` and `tcg` (README.md beside this file)."""

import os
import signal

import pytest

pytest_plugins = ["support.fixtures"]


def pytest_configure():
    # A shell that starts us in the background has it ignored, and so would have all we start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    lacking = {"guest": why_no_guest(), "tcg": why_no_guest("cpuset", "hugetlb")}
    for item in items:
        for marker, reason in lacking.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def why_no_guest(*controllers):
    """What of systemd, pure cgroup v2 and these controllers this machine lacks; None: nothing."""
    if not os.path.isdir("/run/systemd/system"):
        return "needs systemd: make test-guest"
    try:
        with open("/sys/fs/cgroup/cgroup.controllers") as file:
            missing = set(controllers) - set(file.read().split())
    except FileNotFoundError:
        return "needs pure cgroup v2: make test-guest"
    return f"needs the controllers {', '.join(sorted(missing))}" if missing else None
