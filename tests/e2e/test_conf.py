"""The host configuration is root's."""

import os

import pytest
from unit.hook.test_host_config import refused, types, write

from nri_hook.errors import HookError
from nri_hook.hook import host_config


@pytest.mark.parametrize("name", ["conf.json", "resource.d/a.conf"])
def test_others_may_not_have_written_it(directory, name):
    path = write(directory, name, ["a"], 0o664)
    file = os.path.basename(path)
    refused(directory, path, f"file {file} may be written by others (mode 0664)")
    os.chmod(path, 0o644)
    assert types(directory) == ["a"]
    os.chown(path, 12345, 0)
    refused(directory, path, f"file {file} belongs to uid 12345, expected root")
    os.chown(path, 0, 0)
    holder = os.path.dirname(path)
    os.chmod(holder, 0o777)
    with pytest.raises(HookError, match="may be written by others"):
        host_config.load(directory)
