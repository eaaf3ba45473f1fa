"""The container that podman's precreate is told of: a config.json, and an id in one path of it."""

import json

import pytest

from nri_hook.errors import HookError
from nri_hook.hook.precreate import Draft

ID = "5f1c0a"


def draft(cgroups_path):
    return Draft(json.dumps({"linux": {"cgroupsPath": cgroups_path}}).encode())


@pytest.mark.parametrize(
    "cgroups_path",
    [
        f"/libpod_parent/libpod-{ID}",
        f"machine.slice:libpod:{ID}",
        f"/user.slice/a.service/libpod-payload-{ID}",  # --cgroups=split
        f"/machine.slice/libpod-{ID}.scope",
        f"/pods/{ID}",
    ],
)
def test_the_id(cgroups_path):
    assert draft(cgroups_path).id == ID


def test_no_path_no_id():
    assert draft("").id == ""


def test_a_path_without_an_id():
    with pytest.raises(HookError, match="ends in no container id"):
        draft("/libpod_parent/libpod-")
