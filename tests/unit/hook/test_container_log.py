"""The log of a container: its size, and that what is not its own line does no harm."""

import os

import pytest

from nri_hook.hook import container_log
from nri_hook.hook.chain import Call
from nri_hook.hook.plugin import Program
from nri_hook.hook.report import Report
from nri_hook.spawn import Outcome


def report(directory, calls=(), notes=(), outcome="failed", message="", stage="createRuntime"):
    found = Report(stage)
    found.record = (str(directory), "one-01234567")
    found.id = "one"
    found.calls = list(calls)
    for note in notes:
        found.note(note)
    found.outcome, found.message = outcome, message
    return found


def call(output=b"{}", errors=b"", payload=b"{}", state="create", type="plain"):
    outcome = Outcome()
    outcome.status, outcome.output, outcome.errors = 0, output, errors
    return Call(Program(type, f"/plugins/{type}", False), state, payload, outcome)


@pytest.fixture
def directory(tmp_path):
    os.mkdir(f"{tmp_path}/log")
    return f"{tmp_path}/log"


def entries(directory):
    path = f"{directory}/one-01234567.log"
    assert os.path.getsize(path) <= container_log.MAX_SIZE == 64 << 10
    return container_log.read(path)


def test_the_oldest_are_dropped_whole(directory):
    for number in range(300):
        answer = b"%d" % number + b"x" * (number * 7 % 1500)
        container_log.append(report(directory, [call(answer)], message=str(number)))
        kept = [int(entry["message"]) for entry in entries(directory)]
        assert kept == list(range(kept[0], number + 1))
    assert 0 < kept[0] < 299
    assert os.listdir(directory) == ["one-01234567.log"]
    (last, *_) = entries(directory)[-1]["calls"]
    assert last["answer"].startswith("299x")


@pytest.mark.parametrize("text", [b"x", b"\0", "\u2603".encode(), b"\xff"])
def test_one_is_never_larger_than_the_file(directory, text):
    """Whatever plugins print and however many there are; what failed is always to be read."""
    much = text * (1 << 20)
    calls = [call(much, much[:4096], much, type="a" * 255) for _ in range(100)]
    words = text.decode("utf-8", "replace") * 100000
    for count in (1, 2, 20, 100):
        made = report(directory, calls[:count], [words] * count, message="why " + words)
        container_log.append(made)
        entry = entries(directory)[-1]
        assert entry["message"].startswith("why ")
        assert len(entry["calls"]) == min(count, 40)
        assert entry["calls"][-1]["type"] == "a" * 255
        assert entry["payloadBytes"] == len(much)


def test_a_payload_is_whole_or_not_there(directory):
    for size in (10, 1000, 30000, 60000, 64000, 65536, 70000):
        payload = b'"%s"' % (b"x" * size)
        container_log.append(report(directory, [call(b"y" * 5000, b"z" * 4096, payload)]))
        (entry,) = entries(directory)[-1:]
        if size <= 60000:
            assert entry["payload"] == payload.decode()
        else:
            assert entry.get("payload", payload.decode()) == payload.decode()
            assert "payload" in entry or entry["payloadBytes"] == len(payload)
    assert "payload" not in entry


def test_the_payload_of_a_delete_is_none_of_a_create(directory):
    calls = [call(payload=b'"create"'), call(payload=b'"delete"', state="delete")]
    container_log.append(report(directory, calls))
    container_log.append(report(directory, calls, outcome="stays"))
    failed, stays = entries(directory)
    assert failed["payload"] == '"create"' and "payload" not in stays


def test_what_is_no_line_of_ours_is_passed_over(directory):
    container_log.append(report(directory, message="first"))
    with open(f"{directory}/one-01234567.log", "ab") as file:
        file.write(b'{"time": 1}\n[]\n\xff\n{"time": 1, "stage"\n')
    container_log.append(report(directory, message="last"))
    assert [entry["message"] for entry in entries(directory)] == ["first", "last"]


def test_a_file_that_is_far_too_large(directory):
    path = f"{directory}/one-01234567.log"
    with open(path, "wb") as file:
        file.write(b"x" * (10 << 20) + b"\n")
    container_log.append(report(directory, message="last"))
    assert [entry["message"] for entry in entries(directory)] == ["last"]
