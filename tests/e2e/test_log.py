"""One line per invocation for syslog, and for stderr where something is worth saying."""

import contextlib
import os
import socket
import subprocess
import sys

import pytest
from support import cgroups
from support.namespaces import MountNamespace
from support.node import command
from support.tree import TOP

from nri_hook.errors import word

# In a mount namespace of its own, with a /dev that has nothing but our socket.
SCRIPT = f"""
import os, socket, sys, time
sys.path.insert(0, {TOP!r})
from nri_hook.hook.report import Report
from nri_hook.hook.chain import Call
from nri_hook.spawn import Outcome
from nri_hook.hook.plugin import Program

kind = os.environ["NRI_TEST_LOG"]
stream = kind in ("stream", "full-stream")
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
if kind == "file":
    open("/dev/log", "w").close()
elif kind == "fifo":
    os.mkfifo("/dev/log")
elif kind == "directory":
    os.mkdir("/dev/log")
elif kind != "none":
    listener.bind("/dev/log")
if kind == "deaf":
    listener.close()
elif stream:
    listener.listen(0)
senders = []
try:
    while kind.startswith("full"):
        senders.append(socket.socket(socket.AF_UNIX, listener.type))
        senders[-1].setblocking(False)
        senders[-1].connect("/dev/log")
        if not stream:
            senders[-1].send(b"another's line")
except BlockingIOError:
    pass
report = Report("createRuntime")


def call(type, milliseconds):
    outcome = Outcome()
    outcome.seconds = milliseconds / 1000
    return Call(Program(type, "/plugins/" + type, False), "create", b"", outcome)


begin = time.monotonic()
exec(os.environ["NRI_TEST_CODE"])
assert time.monotonic() - begin < 10
if kind == "stream":
    text = listener.accept()[0].makefile("rb").read()
    assert text.endswith(b"\\0") and text.count(b"\\0") == 1
    os.write(1, text[:-1] + b"\\n")
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
    code = FULL + "report.note('first'); report.note('second', 'left'); report.succeed('left')"
    priority, message = line(code)
    assert priority == WARNING
    assert message.endswith(" outcome=left; first; second")
    assert said(code)[1] == ["nri-hook createRuntime: container redis: first; second"]


def test_a_failure_is_an_error():
    code = FULL + "report.note('note'); report.fail('it broke', 'occupied')"
    priority, message = line(code)
    assert priority == ERROR
    assert message.endswith(" outcome=failed code=occupied; it broke; note")
    assert said(code)[1] == ["nri-hook createRuntime: container redis: it broke; note [occupied]"]
    assert said("report.fail('early')")[1] == ["nri-hook createRuntime: early"]


# Both as Python writes it and as it is to appear: escaped.
STRANGE = "a\\nFAKE\\r\\x00\\x1b[31m\\x7f\\x85\\u2028\\u202e\\ud800\\t\\u200b"


@pytest.mark.parametrize("place", ["source", "target", "id", "stage"])
def test_what_strangers_write_stays_in_its_line(place):
    lines, errors = said(f'report.{place} = "{STRANGE}"; report.fail("é \u2603")')
    assert len(lines) == len(errors) == 1
    assert f'="{STRANGE}" ' in lines[0]
    assert lines[0].endswith("; é \u2603")
    assert errors[0].isprintable() and lines[0].isprintable()


def test_notes_and_failures_of_strangers_stay_in_their_line():
    code = (
        f'report.note("{STRANGE}"); report.note("{STRANGE}"); report.calls = [call("{STRANGE}", 1)]'
    )
    for end in (f'report.fail("{STRANGE}")', "report.succeed('x')"):
        lines, errors = said(f"{code}; {end}")
        assert len(lines) == len(errors) == 1
        assert lines[0].count(STRANGE) == errors[0].count(STRANGE) + 1 >= 3
        assert errors[0].isprintable() and lines[0].isprintable()


def test_its_length_is_bounded():
    lines, errors = said("report.fail('x' * 10**6)")
    assert lines[0].endswith("x" * 3000) and len(lines[0]) < 4500
    assert errors[0].endswith("x" * 3000) and len(errors[0]) < 4500


def test_a_log_that_is_a_stream():
    assert line(FULL + "report.succeed('moved')", "stream")[1].endswith("outcome=moved")


@pytest.mark.parametrize(
    "kind", ["none", "deaf", "file", "fifo", "directory", "full", "full-stream"]
)
def test_no_log_is_no_error(kind):
    """Nothing at /dev/log, nobody who listens there, no socket, or one that takes no more and that
    nobody reads: nothing waits for it, and stderr has the line all the same."""
    assert said("report.fail('it broke')", kind) == ([], ["nri-hook createRuntime: it broke"])
    assert said("report.succeed('moved')", kind) == ([], [])


FORGED = '/a b" outcome=adopted; x\\y'


@pytest.mark.parametrize("place, key", [("source", "from"), ("target", "to"), ("id", "container")])
def test_a_value_is_one_word(place, key):
    """What a container's author writes must not pass for a word of ours."""
    _, message = line(f"report.{place} = {FORGED!r}; report.succeed('moved')")
    value = r'"/a b\" outcome=adopted; x\\y"'
    assert f" {key}={value} " in message
    assert message.replace(value, "").endswith(" outcome=moved")
    assert message.count(" outcome=") == 2


@pytest.mark.parametrize("value", ["/a/b", "a.slice:crio:1", "/a\\x2db.slice", "qos/\u00e9,~@%:+"])
def test_an_ordinary_value_is_written_as_it_is(value):
    assert f" from={value} " in line(f"report.source = {value!r}; report.succeed('moved')")[1]
    assert word(value) == value


def test_a_long_value_leaves_the_outcome_in_the_line():
    _, message = line("report.source = report.target = 'x' * 10**6; report.succeed('moved')")
    assert "xxx... to=xxx" in message and message.endswith("xxx... outcome=moved")


def test_a_full_pipe_as_stderr_holds_nobody():
    """Its reader may be the runtime, or whoever a container's annotation has named."""
    fill = (
        "r, w = os.pipe(); os.set_blocking(w, False)\n"
        "try:\n  while True: os.write(w, b'x' * 4096)\n"
        "except BlockingIOError: os.set_blocking(w, True)\n"
        "os.dup2(w, 2)\n"
    )
    (found,), _ = said(fill + "report.fail('it broke')")
    assert found.endswith("outcome=failed; it broke")


def test_no_stderr_is_no_error():
    for close in ("os.close(2)", "os.dup2(os.open('/', os.O_RDONLY), 2)"):
        (found,), _ = said(f"{close}; report.fail('it broke')")
        assert found.endswith("outcome=failed; it broke")


def test_a_log_that_nobody_reads_holds_no_container(scene, node, runc, log):
    """/dev/log of a daemon that hangs: the queue is full, and syslog(3) would wait for ever."""
    path = f"{scene.directory}/log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        fill(path)
        namespace = MountNamespace(f"mount --bind {path} /dev/log")
        try:
            runc.prefix = namespace.prefix
            answer = {"cgroupsPath": f"{scene.cgroup}/x"}
            node.configure(node.plugin("mover", {"create": {"result": answer}}))
            bundle = scene.bundle()
            runc.install(node, bundle)
            runc.create("one", bundle).check()
            assert f"{scene.cgroup}/x" in cgroups.membership(runc.pid("one")).values()
            runc.start("one").check()
            runc.delete("one").check()
        finally:
            namespace.close()
    assert log.lines("one") == []
    said = command("log", "--state-dir", node.state_dir, "one").check().out
    assert all(stage in said for stage in ("createRuntime", "poststart", "poststop"))


def fill(path):
    """Send datagrams to a socket until it takes no more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.connect(path)
        with contextlib.suppress(BlockingIOError):
            while True:
                sender.send(b"x")


def test_a_percent_sign_is_one():
    assert line("report.succeed('100%s%n')")[1].endswith("outcome=100%s%n")


def test_two_invocations_two_lines():
    lines, _ = said("report.succeed('a'); Report('poststop').succeed('b')")
    assert [found.rpartition("]: ")[2] for found in lines] == [
        "stage=createRuntime container= outcome=a",
        "stage=poststop container= outcome=b",
    ]
