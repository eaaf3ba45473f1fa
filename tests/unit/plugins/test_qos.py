"""qos: what its conf may say, and its answers while it makes no cgroup."""

import pytest
from support.samples import call, fits, schema

LS = {"qos.class": "ls"}


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/a/b", "/qos-ls/a/b"),
        ("a/b", "/qos-ls/a/b"),
        ("//a//b/", "/qos-ls/a/b"),
        ("/qos-ls/a/b", "/qos-ls/a/b"),
        ("//qos-ls//a/", "/qos-ls/a"),
        ("qos-ls/a", "/qos-ls/a"),
        ("/qos-be/a", "/qos-ls/a"),
        ("/qos-ls", "/qos-ls/qos-ls"),
        ("/qos-lsx/a", "/qos-ls/qos-lsx/a"),
        ("/a/qos-ls/b", "/qos-ls/a/qos-ls/b"),
    ],
)
def test_answers(path, answer):
    """By a request without a pid that is no `create`: no cgroup is made, since the classes have no
    settings."""
    conf = {"classes": {"ls": {}, "be": {}}}
    said = call("qos", "setup", conf, cgroupsPath=path, annotations=LS)
    assert (said["error"], said["cgroupsPath"]) == ("", answer)
    again = call("qos", "setup", conf, cgroupsPath=answer, annotations=LS)
    assert again["cgroupsPath"] == (answer if path != "/qos-ls" else "/qos-ls/qos-ls")


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        (
            None,
            "conf: /classes: expected an object with names of letters, digits and _, found null",
        ),
        ({"classes": {}}, "conf: /classes: expected an object with names"),
        ({"classes": {"a-b": {}}}, "conf: /classes: expected an object with names"),
        ({"classes": {"..": {}}}, "conf: /classes: expected an object with names"),
        ({"classes": {"ls\n": {}}}, "conf: /classes: expected an object with names"),
        ({"classes": {"ls": []}}, "conf: /classes/ls: expected an object, found []"),
        ({"classes": {"ls": {"cpu.wait": 1}}}, "conf: /classes/ls/cpu.wait: unknown, expected"),
        ({"classes": {"ls": {"cpu.weight": 0}}}, "/cpu.weight: expected a whole number from 1 to"),
        (
            {"classes": {"ls": {"io.weight": 10001}}},
            "/io.weight: expected a whole number from 1 to",
        ),
        ({"classes": {"ls": {"cpu.idle": 1}}}, "/cpu.idle: expected true or false, found 1"),
        ({"classes": {"ls": {"memory.min": "1G"}}}, "/memory.min: expected a whole number from 0"),
        ({"classes": {"ls": {"memory.low": "max"}}}, "/memory.low: expected a whole number from 0"),
        ({"classes": {"ls": {"memory.high": -1}}}, "/memory.high: expected a whole number from 0"),
        (
            {"classes": {"ls": {"cpu.idle": True, "cpu.weight": 5}}},
            "conf: /classes/ls: an idle class has no cpu.weight",
        ),
        ({"classes": {"ls": {}}, "prefix": "-x"}, "conf: /prefix: expected letters"),
        ({"classes": {"ls": {}}, "prefix": "a--b"}, "conf: /prefix: expected letters"),
        ({"classes": {"ls": {}}, "prefix": "a/"}, "conf: /prefix: expected letters"),
        ({"classes": {"ls": {}}, "missing": "pass"}, '/missing: expected "fail" or "ignore"'),
        ({"classes": {"ls": {}}, "default": ""}, "conf: /default: expected a string"),
        ({"classes": {"ls": {}}, "class": "ls"}, "conf: /class: unknown, expected classes or"),
    ],
)
def test_a_wrong_conf(conf, message):
    assert message in call("qos", "setup", conf, cgroupsPath="x", annotations={})["error"]
    assert not fits("qos", conf)


def test_a_default_that_is_no_class():
    """Which a schema cannot tell."""
    for key in ("default", "unknown"):
        said = call("qos", "create", {"classes": {"ls": {}}, key: "be"})["error"]
        assert said == f'conf: /{key}: expected one of the classes ls, found "be"'


@pytest.mark.parametrize("conf", schema("qos")["examples"])
def test_the_examples_of_the_schema(conf):
    assert fits("qos", conf)
    assert call("qos", "setup", conf, cgroupsPath="", annotations={})["error"] == ""
    assert call("qos", "delete", None, cgroupsPath="x", annotations=LS)["error"] == ""
