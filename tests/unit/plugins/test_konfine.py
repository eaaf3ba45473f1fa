"""konfine: what its conf may say."""

import pytest
from support.commands import read
from support.samples import call, fits, schema

from nri_hook.cgroups import hierarchies

POSSIBLE = read("/sys/devices/system/cpu/possible").strip()


@pytest.mark.parametrize(
    "value",
    [
        *([], "", None, 0, True, {}, [-1], [True], [None], ["0"], [0.5], [[0]]),
        *("1-0", "0-", "-1", "a", "0,", ",0", "0,,1", "0 ,1", "0-1-2", "0x1", "٣", "0\n"),
        "1" * 5000,
    ],
)
def test_bad_lists(value):
    conf = {"systemReserved": value}
    said = call("konfine", "create", conf)["error"]
    assert said.startswith(
        'conf: /systemReserved: expected a list of CPUs such as [0, 1] or "0-3,8"'
    )
    if value != "1-0":  # which the schema cannot tell
        assert not fits("konfine", conf)


@pytest.mark.parametrize("value", [[4000], "0-4000", "4000-999999999", "999999999", [1e300]])
def test_cpus_of_another_machine(value):
    said = call("konfine", "create", {"systemReserved": value})["error"]
    assert f"/systemReserved: expected CPUs of this machine, {POSSIBLE}, found" in said


def test_a_wrong_conf():
    for conf in (None, {}, {"reserved": [0]}, [0]):
        assert call("konfine", "create", conf)["error"].startswith("conf: /")
        assert not fits("konfine", conf)


@pytest.mark.parametrize("value", [[0], [0.0], [0, 0], "0", "0,0-0", "0000"])
def test_a_right_conf(value):
    """It then fails for the container, which is none."""
    conf = {"systemReserved": value}
    assert fits("konfine", conf)
    assert "the container has no cgroup" in call("konfine", "create", conf)["error"]
    assert call("konfine", "delete", conf)["error"] == ""


def test_the_examples_of_the_schema():
    assert all(fits("konfine", example) for example in schema("konfine")["examples"])


def test_lists_as_they_are_said():
    for numbers, text in (({3}, "3"), ({0, 1, 2, 8}, "0-2,8"), (set(), ""), ({1, 3, 4}, "1,3-4")):
        assert hierarchies.ranges(numbers) == text
        assert hierarchies.numbers(text) == numbers
