"""clearcfs: what its conf may say, and which states it answers."""

import pytest
from support.samples import call, fits, schema

LS, BE = {"qos.class": "ls"}, {"qos.class": "be"}


@pytest.mark.parametrize("state", ["setup", "pause", "resume", "update", "delete"])
def test_other_states_are_passed_over(state):
    assert call("clearcfs", state, annotations=LS)["error"] == ""


def test_a_container_without_a_cgroup_is_an_error():
    assert "the container has no cgroup" in call("clearcfs", "create", annotations=LS)["error"]
    assert call("clearcfs", "create", annotations=BE)["error"] == ""


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ([], "conf: /: expected an object, found []"),
        ({"class": ["ls"]}, "conf: /class: unknown, expected annotation or classes"),
        ({"annotation": ""}, 'conf: /annotation: expected a string, found ""'),
        ({"annotation": None}, "conf: /annotation: expected a string, found null"),
        ({"classes": "ls"}, 'conf: /classes: expected a list of strings, found "ls"'),
        ({"classes": [1]}, "conf: /classes: expected a list of strings, found [1]"),
    ],
)
def test_a_wrong_conf(conf, message):
    assert call("clearcfs", "create", conf)["error"] == message
    assert not fits("clearcfs", conf)


@pytest.mark.parametrize("conf", [None, {"classes": []}, *schema("clearcfs")["examples"]])
def test_a_right_conf(conf):
    assert call("clearcfs", "create", conf)["error"] == ""
    assert fits("clearcfs", conf)
