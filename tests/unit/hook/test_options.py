"""The flags of the stages: what they mean, and that what install bakes in is read again."""

import pytest

from nri_hook.errors import UsageError
from nri_hook.hook import options


def values(*args):
    found = options.parse(list(args))
    return found.conf_dir, found.plugin_dirs, found.state_dir, found.timeout


DEFAULTS = ("/etc/nri", ("/opt/nri/bin",), "/run/nri-hook", 30.0)


def test_defaults():
    assert values() == DEFAULTS
    assert options.Options().flags() == []


def test_both_ways_to_give_a_value():
    flags = {"--conf-dir": "/c", "--plugin-dir": "/p", "--state-dir": "/s", "--timeout": "2.5"}
    wanted = ("/c", ("/p",), "/s", 2.5)
    assert values(*[word for pair in flags.items() for word in pair]) == wanted
    assert values(*[f"{flag}={value}" for flag, value in flags.items()]) == wanted


def test_the_last_one_counts_and_plugin_directories_add_up():
    assert values("--conf-dir", "/a", "--conf-dir=/b")[0] == "/b"
    assert values("--state-dir=/a", "--state-dir", "/b")[2] == "/b"
    assert values("--timeout=1", "--timeout=2")[3] == 2.0
    directories = values(
        "--plugin-dir", "/a", "--timeout=1", "--plugin-dir=/b", "--plugin-dir", "/a"
    )[1]
    assert directories == ("/a", "/b", "/a")


def test_directories_are_told_in_one_way():
    for text, directory in {
        "/a/": "/a",
        "/a//b/./c/": "/a/b/c",
        "//a": "/a",
        "/": "/",
        "/a/../b": "/a/../b",  # not /b, if /a is a link
        "/a=b": "/a=b",
        "/a b": "/a b",
        "/é\udcff": "/é\udcff",
        "/--timeout": "/--timeout",
    }.items():
        assert values("--conf-dir", text)[0] == directory
        assert values(f"--plugin-dir={text}")[1] == (directory,)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--bad"], "unknown argument '--bad', expected one of --conf-dir, --plugin-dir,"),
        (["--bad=1"], "unknown argument '--bad', expected one of"),
        (["--Timeout", "1"], "unknown argument '--Timeout'"),
        (["-t", "1"], "unknown argument '-t'"),
        (["/etc/nri"], "unknown argument '/etc/nri'"),
        ([""], "unknown argument ''"),
        (["--"], "unknown argument '--'"),
        (["--timeout"], "--timeout needs a value"),
        (["--conf-dir=/a", "--state-dir"], "--state-dir needs a value"),
        (["--conf-dir", ""], "--conf-dir '': expected an absolute path"),
        (["--conf-dir="], "--conf-dir '': expected an absolute path"),
        (["--plugin-dir", "bin"], "--plugin-dir 'bin': expected an absolute path"),
        (["--state-dir", "./a"], "--state-dir './a': expected an absolute path"),
        (["--timeout", "--conf-dir"], "--timeout '--conf-dir': expected seconds, more than 0"),
    ],
)
def test_wrong_usage(args, message):
    with pytest.raises(UsageError) as caught:
        options.parse(args)
    assert str(caught.value).startswith(message)


def test_times():
    for text, seconds in {"1": 1.0, "0.001": 0.001, "86400": 86400.0, "1e3": 1000.0}.items():
        assert options.seconds(text) == seconds
    for text in ("0", "-1", "86400.1", "1e999", "inf", "nan", "-inf", "", "x", "1s", "1,5", "0x10"):
        with pytest.raises(UsageError) as caught:
            options.seconds(text)
        said = f"--timeout {text!r}: expected seconds, more than 0 and at most 86400"
        assert str(caught.value) == said


def test_a_strangers_word_makes_no_line_of_its_own():
    with pytest.raises(UsageError) as caught:
        options.parse(["--a\nb\x1b[31m"])
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"conf_dir": "/c=d e"},
        {"plugin_dirs": ("/a",)},
        {"plugin_dirs": ("/opt/nri/bin", "/b")},
        {"state_dir": "/s"},
        {"timeout": 2.0},
        {"timeout": 0.001},
        {"timeout": 86399.5},
        {"conf_dir": "/c", "plugin_dirs": ("/p", "/q"), "state_dir": "/s", "timeout": 7.25},
    ],
)
def test_what_install_bakes_in_is_read_again(changes):
    wanted = options.Options(**changes)
    assert vars(options.parse(wanted.flags())) == vars(wanted)


def test_every_time_that_can_be_given_can_be_baked_in():
    for seconds in (0.1234567, 1 / 3, 12345.678, 86399.999, 1e-7, 100000 / 7):
        flags = options.Options(timeout=seconds).flags()
        assert options.parse(flags).timeout == seconds, flags
