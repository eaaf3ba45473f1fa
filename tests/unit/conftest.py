"""What needs neither root nor a runtime: the fixtures."""

import os
import signal

import pytest

from nri_hook.hook.options import Options


def pytest_configure():
    # A shell that starts us in the background has it ignored, and so would have all we start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def umask():
    """The files of a test are not more open, or less, than its text says."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def directory(tmp_path):
    """A directory for records."""
    path = f"{tmp_path}/state"
    os.mkdir(path, 0o700)
    return path


@pytest.fixture
def options(directory):
    """The options of a hook whose records are there."""
    return Options(state_dir=directory)
