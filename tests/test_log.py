"""One line per invocation for syslog, and for stderr where something is worth saying."""

import os
import subprocess
import sys

import pytest

from nri_hook.errors import HookError, printable

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# In a mount namespace of its own, with a /dev that has nothing but our socket.
SCRIPT = f"""
import os, socket, sys, threading
sys.path.insert(0, {TOP!r})
from nri_hook import log
from nri_hook.chain import Call
from nri_hook.process import Outcome
from nri_hook.program import Program

listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.settimeout(5)
kind = os.environ["NRI_TEST_LOG"]
if kind == "file":
    open("/dev/log", "w").close()
elif kind != "none":
    listener.bind("/dev/log")
if kind == "deaf":
    listener.close()
report = log.Report("createRuntime")


def call(type, milliseconds):
    outcome = Outcome()
    outcome.seconds = milliseconds / 1000
    return Call(Program(type, "/plugins/" + type, False), "create", b"", outcome)


exec(os.environ["NRI_TEST_CODE"])
while kind == "socket":
    listener.setblocking(False)
    try:
        os.write(1, listener.recv(1 << 20).rstrip(b"\\0\\n") + b"\\n")
    except BlockingIOError:
        break
"""


def said(code, kind="socket"):
    """What syslog and stderr get when this is done with a `report`."""
    done = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private", "sh", "-c"),
            'mount -t tmpfs none /dev && exec "$@"',
            *("sh", os.path.realpath(sys.executable), "-IS", "-c", SCRIPT),
        ],
        env={"PATH": os.environ["PATH"], "NRI_TEST_CODE": code, "NRI_TEST_LOG": kind},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
    )
    if b"unshare failed" in done.stderr:
        pytest.skip("no mount namespace can be had")
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("utf-8").splitlines(), done.stderr.decode("utf-8").splitlines()


def line(code, kind="socket"):
    """(priority, message) of the one line that syslog gets."""
    (found,), _ = said(code, kind)
    priority, _, rest = found[1:].partition(">")
    _, tag, message = rest.partition("nri-hook[")
    assert tag
    pid, _, message = message.partition("]: ")
    assert pid.isdigit()
    return int(priority), message


# facility daemon (3 * 8) and the level, as in syslog(3)
ERROR, WARNING, INFO = 24 + 3, 24 + 4, 24 + 6
FULL = """
report.id = "redis"
report.calls = [call("clearcfs", 1.25), call("konfine", 10)]
report.source, report.target = "/default/redis", "/qos/redis"
"""


def test_an_invocation_that_went_well():
    fields = "stage=createRuntime container=redis plugins=clearcfs:1.2ms,konfine:10.0ms"
    wanted = f"{fields} from=/default/redis to=/qos/redis outcome=moved"
    assert line(FULL + "report.succeed('moved')") == (INFO, wanted)
    assert said(FULL + "report.succeed('moved')")[1] == []


def test_what_is_not_known_is_left_out():
    assert line("report.succeed('stays')") == (INFO, "stage=createRuntime container= outcome=stays")


def test_notes_are_a_warning_and_go_to_stderr_too():
    code = FULL + "report.notes = ['first', 'second']; report.succeed('left')"
    priority, message = line(code)
    assert priority == WARNING
    assert message.endswith(" outcome=left; first; second")
    assert said(code)[1] == ["nri-hook createRuntime: container redis: first; second"]


def test_a_failure_is_an_error():
    code = FULL + "report.notes = ['note']; report.fail('it broke')"
    priority, message = line(code)
    assert priority == ERROR
    assert message.endswith(" outcome=failed; it broke; note")
    assert said(code)[1] == ["nri-hook createRuntime: container redis: it broke; note"]
    assert said("report.fail('early')")[1] == ["nri-hook createRuntime: early"]


# Both as Python writes it and as it is to appear: escaped.
STRANGE = "a\\nFAKE\\r\\x00\\x1b[31m\\x7f\\x85\\u2028\\u202e\\ud800\\t\\u200b"


@pytest.mark.parametrize("place", ["source", "target", "id", "stage"])
def test_what_strangers_write_stays_in_its_line(place):
    lines, errors = said(f'report.{place} = "{STRANGE}"; report.fail("é \u2603")')
    assert len(lines) == len(errors) == 1
    assert f"={STRANGE} " in lines[0]
    assert lines[0].endswith("; é \u2603")
    assert errors[0].isprintable() and lines[0].isprintable()


def test_notes_and_failures_of_strangers_stay_in_their_line():
    code = f'report.notes = ["{STRANGE}"] * 2; report.calls = [call("{STRANGE}", 1)]'
    for end in (f'report.fail("{STRANGE}")', "report.succeed('x')"):
        lines, errors = said(f"{code}; {end}")
        assert len(lines) == len(errors) == 1
        assert lines[0].count(STRANGE) == errors[0].count(STRANGE) + 1 >= 3
        assert errors[0].isprintable() and lines[0].isprintable()


def test_its_length_is_bounded():
    lines, errors = said("report.fail('x' * 10**6)")
    assert lines[0].endswith("x" * 3000) and len(lines[0]) < 4500
    assert errors[0].endswith("x" * 3000) and len(errors[0]) < 4500


@pytest.mark.parametrize("kind", ["none", "deaf", "file"])
def test_no_log_is_no_error(kind):
    """Nothing at /dev/log, nobody who listens there, no socket: stderr has it all the same."""
    assert said("report.fail('it broke')", kind) == ([], ["nri-hook createRuntime: it broke"])
    assert said("report.succeed('moved')", kind) == ([], [])


def test_no_stderr_is_no_error():
    for close in ("os.close(2)", "os.dup2(os.open('/', os.O_RDONLY), 2)"):
        (found,), _ = said(f"{close}; report.fail('it broke')")
        assert found.endswith("outcome=failed; it broke")


def test_a_percent_sign_is_one():
    assert line("report.succeed('100%s %n')")[1].endswith("outcome=100%s %n")


def test_two_invocations_two_lines():
    lines, _ = said("report.succeed('a'); log.Report('poststop').succeed('b')")
    assert [found.rpartition("]: ")[2] for found in lines] == [
        "stage=createRuntime container= outcome=a",
        "stage=poststop container= outcome=b",
    ]


def test_printable():
    for text in ("", "plain", "é \u2603 'q' \"q\" \\n", "\U0001f600"):
        assert printable(text) == text
    for text, escaped in {"\n": "\\n", "a\0b": "a\\x00b", "\ud800": "\\ud800"}.items():
        assert printable(text) == escaped


def test_an_error_is_one_line_with_its_plugin_and_path():
    assert str(HookError("broke")) == "broke"
    assert str(HookError("broke", path="/p")) == "/p: broke"
    assert str(HookError("broke", plugin="a")) == "plugin a: broke"
    assert (
        str(HookError("bro\nke", plugin="a\t", path="/p\x1b")) == "plugin a\\t: /p\\x1b: bro\\nke"
    )
