"""One plugin: what it finds around it, how it is fed, bounded and reaped."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from nri_hook import spawn
from nri_hook.errors import HookError

MIB = 1 << 20
# Far more than anything here takes, even where the machine has much else to do, and far less
# than what it takes where something waits that should not: FOREVER.
SOON = 10.0
FOREVER = 60


class Ran:
    """What came of a plugin. seconds: how long run() took."""

    def __init__(self, outcome, seconds):
        self.outcome = outcome
        self.status = outcome.status
        self.output = outcome.output
        self.errors = outcome.errors
        self.seconds = seconds


@pytest.fixture(autouse=True)
def nothing_stays():
    """run() closes all that it opens and leaves no child, not even a dead one."""
    umask = os.umask(0o022)
    before = os.listdir("/proc/self/fd")
    yield
    zombies = [child for child in psutil.Process().children() if child.status() == "zombie"]
    for zombie in zombies:
        os.waitpid(zombie.pid, 0)  # it is this test's alone
    assert zombies == []
    assert os.listdir("/proc/self/fd") == before
    assert os.umask(umask) == 0o022


@pytest.fixture
def call(tmp_path):
    """call(text): run a plugin with this text, by default with /bin/sh."""

    def call(text, stdin=b"{}", timeout=FOREVER / 2, shebang="#!/bin/sh"):
        path = f"{tmp_path}/plugin"
        with open(path, "w") as file:
            file.write(f"{shebang}\n{text}\n" if shebang else text)
        os.chmod(path, 0o755)
        return start(path, stdin, timeout)

    return call


def start(path, stdin=b"{}", timeout=FOREVER / 2):
    begin = time.monotonic()
    outcome = spawn.run(path, [path, "invoke"], stdin, begin + timeout)
    ran = Ran(outcome, time.monotonic() - begin)
    assert 0 < outcome.seconds <= ran.seconds
    return ran


def pids(tmp_path, name="pids"):
    """The pids that a plugin wrote into this file."""
    with open(f"{tmp_path}/{name}") as file:
        return [int(word) for word in file.read().split()]


def wait_for(condition, seconds=SOON):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_gone(pid, seconds=SOON):
    """Whether the process has ended, or does within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] in "ZX":
                    return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def test_a_plain_answer(call):
    ran = call("cat; echo tail >&2", stdin=b'{"a":1}')
    assert (ran.status, ran.output, ran.errors) == (0, b'{"a":1}', b"tail\n")
    assert not ran.outcome.late and not ran.outcome.flooded


def test_what_is_done_meanwhile(call, tmp_path):
    """Every few milliseconds, as long as it says so."""
    call("sleep 0.3; echo '{}'")
    path, done = f"{tmp_path}/plugin", []

    def meanwhile():
        done.append(time.monotonic())
        return len(done) < 10

    outcome = spawn.run(path, [path], b"", time.monotonic() + SOON, meanwhile)
    assert outcome.output == b"{}\n"
    assert len(done) == 10


def test_how_it_is_called(call, tmp_path):
    ran = call('echo "$0" "$@"')
    assert ran.output.decode() == f"{tmp_path}/plugin invoke\n"


@pytest.mark.parametrize("status", [1, 3, 255])
def test_exit_status(call, status):
    assert call(f"echo '{{}}'; exit {status}").status == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_death_by_a_signal(call, number):
    ran = call(f"echo '{{}}'; kill -{int(number)} $$")
    assert (ran.status, ran.output, ran.outcome.late) == (-number, b"{}\n", False)


# stdin


def test_a_big_payload(call):
    assert call("wc -c", stdin=b" " * MIB).output.split() == [str(MIB).encode()]


def test_a_big_payload_that_is_read_late_and_slowly(call):
    ran = call("sleep 0.2; dd bs=1000 2>/dev/null | wc -c", stdin=b"x" * MIB)
    assert ran.output.split() == [str(MIB).encode()]


@pytest.mark.parametrize("text", ["echo '{}'", "exec <&-; echo '{}'", "head -c 10 >&2; echo '{}'"])
def test_a_big_payload_that_is_not_read(call, text):
    ran = call(text, stdin=b"x" * MIB)
    assert (ran.status, ran.output) == (0, b"{}\n")
    assert ran.seconds < SOON


def test_a_big_payload_to_one_that_sleeps(call):
    ran = call(f"exec sleep {FOREVER}", stdin=b"x" * MIB, timeout=0.5)
    assert ran.outcome.late and 0.5 <= ran.seconds < SOON


def test_a_big_payload_against_a_big_answer(call):
    """Neither side may wait for the other to read first."""
    size = MIB - 1
    assert call("cat", stdin=b"x" * size).output == b"x" * size


def test_an_empty_payload(call):
    assert call("wc -c", stdin=b"").output.split() == [b"0"]


# stdout, stderr


def test_an_answer_of_the_largest_size(call):
    ran = call(f"head -c {spawn.MAX_OUTPUT} /dev/zero")
    assert (ran.status, len(ran.output), ran.outcome.flooded) == (0, spawn.MAX_OUTPUT, False)


@pytest.mark.parametrize(
    "text", [f"head -c {spawn.MAX_OUTPUT + 1} /dev/zero; sleep {FOREVER}", "exec cat /dev/zero"]
)
def test_a_flood(call, text):
    ran = call(text)
    assert ran.outcome.flooded and not ran.outcome.late
    assert ran.status == -signal.SIGKILL
    assert len(ran.output) <= spawn.MAX_OUTPUT + 65536
    assert ran.seconds < SOON


def test_a_flood_on_stderr(call):
    """Only its tail is kept, and it is no failure."""
    ran = call("head -c 100000000 /dev/zero >&2; printf end >&2; echo '{}'")
    assert (ran.status, ran.output) == (0, b"{}\n")
    assert ran.errors == b"\0" * (spawn.MAX_ERRORS - 3) + b"end"


def test_stdout_is_closed_and_the_plugin_goes_on(call):
    ran = call("echo '{}'; exec >&- 2>&-; sleep 0.5; exit 3")
    assert (ran.status, ran.output, ran.outcome.late) == (3, b"{}\n", False)
    assert 0.5 <= ran.seconds < SOON


def test_stdout_is_closed_and_the_plugin_stays(call):
    """The answer counts once it has exited."""
    ran = call(f"echo '{{}}'; exec >&- 2>&-; exec sleep {FOREVER}", timeout=0.5)
    assert ran.outcome.late and ran.status == -signal.SIGKILL
    assert 0.5 <= ran.seconds < SOON


# The deadline


def test_the_deadline(call, tmp_path):
    ran = call(
        f"trap '' TERM HUP INT; echo begun; echo $$ >{tmp_path}/pids; sleep {FOREVER}",
        timeout=0.5,
    )
    assert ran.outcome.late and not ran.outcome.flooded
    assert (ran.status, ran.output) == (-signal.SIGKILL, b"begun\n")
    assert 0.5 <= ran.seconds < SOON


def test_a_deadline_that_has_passed(call):
    ran = call(f"exec sleep {FOREVER}", timeout=-1)
    assert ran.outcome.late and ran.seconds < SOON


def test_at_the_deadline_its_descendants_die(call, tmp_path):
    """One in its group, one in a session of its own, and a child of that."""
    ran = call(
        f"""
        sleep {FOREVER} &
        echo $! >>{tmp_path}/pids
        setsid sh -c 'sleep {FOREVER} & echo $$ $! >>{tmp_path}/pids; wait' &
        wait
        """,
        timeout=1.5,
    )
    assert ran.outcome.late
    found = pids(tmp_path)
    assert len(found) == 3
    assert [pid for pid in found if not is_gone(pid)] == []


def test_at_the_deadline_a_double_fork_in_its_group_dies(call, tmp_path):
    """Its parent is gone, so that only the group leads to it."""
    fork = f"sleep {FOREVER} & echo $! >{tmp_path}/pids"
    ran = call(f"(sh -c '{fork}' &); exec sleep {FOREVER}", timeout=1.5)
    assert ran.outcome.late
    (pid,) = pids(tmp_path)
    assert is_gone(pid)


def test_strangers_are_spared(call):
    stranger = subprocess.Popen(["sleep", str(FOREVER)])
    try:
        assert call(f"sleep {FOREVER}", timeout=0.3).outcome.late
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_without_psutil_the_group_dies(tmp_path, call):
    """psutil is no part of the hot path, and may fail there."""
    script = f"""
import sys, time
sys.modules["psutil"] = None
sys.path.append({os.path.dirname(os.path.dirname(spawn.__file__))!r})
from nri_hook import spawn
outcome = spawn.run({str(tmp_path)!r} + "/plugin", ["plugin"], b"", time.monotonic() + 1.5)
print(outcome.late, outcome.status)
"""
    call("exit 0")
    with open(f"{tmp_path}/plugin", "w") as file:
        file.write(f"#!/bin/sh\nsleep {FOREVER} &\necho $$ $! >{tmp_path}/pids\nwait\n")
    done = subprocess.run(
        [sys.executable, "-IS", "-c", script], capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "True -9\n", done.stderr
    assert [pid for pid in pids(tmp_path) if not is_gone(pid)] == []


def test_an_interrupt_leaves_nothing_running(call, tmp_path):
    """Ctrl-C in front of a foreground `runc run` reaches the hook, but no session of its own."""

    def interrupt():
        wait_for(lambda: os.path.exists(f"{tmp_path}/pids") and pids(tmp_path))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        call(f"echo $$ >{tmp_path}/pids; exec sleep {FOREVER}")
    thread.join()
    (pid,) = pids(tmp_path)
    if not is_gone(pid, 1):
        kill(pid)
        os.waitpid(pid, 0)
        pytest.fail("the plugin goes on")


# A child that stays


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    assert is_gone(pid)


@pytest.mark.parametrize("prefix", ["", "setsid "], ids=["same session", "own session"])
def test_a_child_keeps_stdout_of_a_whole_answer(call, tmp_path, prefix):
    """It is not waited for, and left alone."""
    ran = call(f"{prefix}sleep {FOREVER} & echo $! >{tmp_path}/pids; echo '{{}}'")
    (pid,) = pids(tmp_path)
    try:
        assert (ran.status, ran.output, ran.outcome.late) == (0, b"{}\n", False)
        assert ran.seconds < SOON
        assert not is_gone(pid, 0.3)
    finally:
        kill(pid)


def test_a_whole_answer_needs_no_grace(call, tmp_path):
    """Once in so many times the machine has nothing else to do."""
    for _ in range(30):
        ran = call(f"sleep {FOREVER} & echo $! >{tmp_path}/pids; echo '{{}}'")
        kill(*pids(tmp_path))
        if ran.seconds < spawn.GRACE:
            return
    pytest.fail("never faster than the grace")


@pytest.mark.parametrize("answer", ["", '{"a":', "{}x"])
def test_a_child_keeps_stdout_of_half_an_answer(call, tmp_path, answer):
    """What comes within the grace still counts, then nobody is waited for."""
    ran = call(f"sleep {FOREVER} & echo $! >{tmp_path}/pids; printf '{answer}'")
    (pid,) = pids(tmp_path)
    try:
        assert (ran.status, ran.output, ran.outcome.late) == (0, answer.encode(), False)
        assert spawn.GRACE <= ran.seconds < SOON
        assert not is_gone(pid, 0.3)
    finally:
        kill(pid)


def test_a_child_completes_the_answer_within_the_grace(call):
    """Once in so many times it is as quick as that."""
    for _ in range(30):
        ran = call("""printf '{'; (printf '"a":1}'; exec sleep 0.01) &""")
        if ran.output == b'{"a":1}':
            return
    pytest.fail("never whole")


def test_a_daemon_keeps_everything(call, tmp_path):
    """Two forks and a session of its own, all three descriptors open: a tracer, say."""
    ran = call(
        f"""
        (setsid sh -c 'echo $$ >{tmp_path}/pids; exec sleep {FOREVER}' &)
        while ! [ -s {tmp_path}/pids ]; do sleep 0.01; done
        echo '{{"error":""}}'
        """
    )
    (pid,) = pids(tmp_path)
    try:
        assert (ran.status, ran.output) == (0, b'{"error":""}\n')
        assert ran.seconds < SOON
        assert not is_gone(pid, 0.3)
    finally:
        kill(pid)


def test_a_child_that_writes_on_does_not_hold_us(call, tmp_path):
    """Without end on stderr, which has no bound, after the plugin is gone."""
    ran = call(
        f"""
        yes >&2 &
        echo $! >{tmp_path}/pids
        sleep 0.2
        echo '{{}}'
        """
    )
    (pid,) = pids(tmp_path)
    assert (ran.status, ran.output) == (0, b"{}\n")
    assert ran.seconds < SOON
    assert is_gone(pid)  # by SIGPIPE


# What it finds


def test_the_environment(call, monkeypatch):
    for name in ("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_", "PYTHONPATH", "PYTHONHOME", "BASH_ENV"):
        monkeypatch.setenv(name, "/nowhere")
    kept = {
        "PATH": "/bin:/usr/bin:/odd",
        "LDX": "1",
        "PYTHO": "2",
        "bash_env": "3",
        "XDG": "é\udcff",
    }
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    ran = call("exec cat /proc/self/environ")
    found = dict(entry.split("=", 1) for entry in os.fsdecode(ran.output).split("\0")[:-1])
    assert {name for name in found if name.startswith(("LD_", "PYTHON", "BASH_ENV"))} == set()
    assert {name: found[name] for name in kept} == kept


def test_a_path_where_there_is_none(call, monkeypatch):
    monkeypatch.delenv("PATH")
    ran = call("exec /usr/bin/env")
    standard = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert f"PATH={standard}" in ran.output.decode().splitlines()


def test_umask_and_session(call):
    os.umask(0)
    try:
        ran = call("umask; echo $$; cut -d' ' -f5,6 /proc/$$/stat")
    finally:
        assert os.umask(0o022) == 0
    umask, pid, group_and_session = ran.output.decode().splitlines()
    assert umask.lstrip("0") == "22"
    assert group_and_session == f"{pid} {pid}"


def test_its_descriptors_are_pipes_and_what_we_have_open_stays_with_us(call, tmp_path):
    with open(f"{tmp_path}/open", "w"):
        ran = call("exec ls -l /proc/self/fd")
    lines = [line.split() for line in ran.output.decode().splitlines()]
    found = {words[-3]: words[-1] for words in lines if "->" in words}
    assert len({found[fd] for fd in "012" if found[fd].startswith("pipe:")}) == 3
    assert f"{tmp_path}/open" not in found.values()


def test_signals_are_as_at_first(tmp_path, call):
    """Whatever its caller ignores or blocks; real-time signals are signals too."""
    script = f"""
import signal, sys, time
sys.path.append({os.path.dirname(os.path.dirname(spawn.__file__))!r})
from nri_hook import spawn
for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGPIPE, signal.SIGRTMAX):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGRTMAX])
outcome = spawn.run({str(tmp_path)!r} + "/plugin", ["plugin"], b"", time.monotonic() + 20)
sys.stdout.write(outcome.output.decode())
"""
    call("exec cat /proc/self/status")
    done = subprocess.run(
        [sys.executable, "-IS", "-c", script], capture_output=True, text=True, timeout=30
    )
    found = dict(line.split(":\t") for line in done.stdout.splitlines())
    assert int(found["SigBlk"], 16) == 0, done.stderr
    # 32 and 33 are glibc's own; its posix_spawn ignores them.
    assert int(found["SigIgn"], 16) & ~(0b11 << 31) == 0


# What cannot be run


def refused(message, path, timeout=FOREVER / 2):
    with pytest.raises(HookError) as caught:
        start(path, timeout=timeout)
    assert str(caught.value) == f"{path}: cannot be run: {message}"


def test_what_cannot_be_run(tmp_path, call):
    path = f"{tmp_path}/plugin"
    refused("No such file or directory", path)
    with open(path, "w") as file:
        file.write("#!/nowhere/interpreter\n")
    refused("Permission denied", path)
    os.chmod(path, 0o755)
    refused("No such file or directory", path)  # the interpreter
    with open(path, "w") as file:
        file.write("echo no first line")
    refused("Exec format error", path)
    refused("Permission denied", str(tmp_path))


def test_a_file_that_is_just_being_written(call, tmp_path):
    """An upgrade of the plugin, say: the kernel says ETXTBSY until it is closed."""
    path = f"{tmp_path}/plugin"
    call("echo '{}'")
    writer = os.open(path, os.O_WRONLY)
    timer = threading.Timer(0.3, os.close, [writer])
    timer.start()
    try:
        ran = start(path)
    finally:
        timer.join()
    assert (ran.status, ran.output) == (0, b"{}\n")
    assert 0.25 <= ran.seconds < SOON


def test_a_file_that_stays_open_for_writing(call, tmp_path):
    path = f"{tmp_path}/plugin"
    call("exit 0")
    with open(path, "a"):
        for timeout, least in ((0.2, 0), (FOREVER, 0.5)):
            begin = time.monotonic()
            refused("Text file busy", path, timeout)
            assert least <= time.monotonic() - begin < SOON
