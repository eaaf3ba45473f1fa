"""The rules of oci-hooks(5) and how they are said; e2e/test_ocihooks.py asks podman itself."""

import json
import re

import pytest

from nri_hook.registration import goregex, ocihooks

PODMAN_STAGES = [*ocihooks.STAGES, *ocihooks.EXTENSIONS]


def file(**keys):
    """A hook file as it should be, but for these keys."""
    document = {
        "version": "1.0.0",
        "hook": {"path": "/bin/true"},
        "when": {"always": True},
        "stages": ["poststop"],
    }
    document.update(keys)
    return json.dumps({key: value for key, value in document.items() if value is not ...})


def as_bytes(text):
    return text if isinstance(text, bytes) else text.encode()


def annotated(key, value=".*"):
    return file(when={"annotations": {key: value}})


ACCEPTED = {
    "plain": file(),
    "unknown keys": file(x=1, when={"always": True, "or": True}),
    "keys in any case": '{"VERSION": "1.0.0", "Hook": {"PATH": "/bin/true"}, "STAGES": []}',
    "null for absent": file(when=None, hook={"path": "/bin/true", "args": None, "timeout": None}),
    "a key twice": '{"version": "1.0.0", "version": "1.0.0", "hook": {"path": "/bin/true"}, '
    '"stages": ["poststop"]}',
    "no UTF-8": b'{"a": "\xff", ' + file().encode()[1:],
    "no conditions": file(when=...),
    "podman's own stage": file(stages=["precreate", "poststop"], when={"always": False}),
    "a relative path": file(hook={"path": "../../../../../../../../bin/true"}),
    "old": '{"hook": "/bin/true", "stages": ["poststop"], "cmds": ["^a$"]}',
    "old by number": '{"version": "0.1.0", "hook": "/bin/true", "stage": ["poststop"]}',
    "old and empty": '{"version": "", "hook": "/bin/true", "stage": ["poststop"]}',
}
REFUSED = {
    "empty": ("", "document"),
    "half": (file()[:-1], "document"),
    "trailing comma": ('{"version": "1.0.0",}', "document"),
    "more behind": (file() + "{}", "document"),
    "byte order mark": ("\ufeff" + file(), "document"),
    "not a number": (file(x=float("nan")), "document"),
    "a list": ("[]", "document"),
    "another version": (file(version="2.0.0"), "/version"),
    "a number for a version": (file(version=1), "/version"),
    "no version": (file(version=...), "/hook"),
    "an older version": (file(version="0.1.0"), "/hook"),
    "no hook": (file(hook=...), "/hook"),
    "a string for the hook": (file(hook="/bin/true"), "/hook"),
    "no path": (file(hook={}), "/hook/path"),
    "an empty path": (file(hook={"path": ""}), "/hook/path"),
    "args": (file(hook={"path": "/bin/true", "args": "a"}), "/hook/args"),
    "an argument": (file(hook={"path": "/bin/true", "args": ["a", 1]}), "/hook/args/1"),
    "env": (file(hook={"path": "/bin/true", "env": {"a": "b"}}), "/hook/env"),
    "a part of a second": (file(hook={"path": "/bin/true", "timeout": 1.5}), "/hook/timeout"),
    "a whole number that is none": (
        file(hook={"path": "/bin/true", "timeout": 2.0}),
        "/hook/timeout",
    ),
    "when": (file(when=[]), "/when"),
    "always": (file(when={"always": "yes"}), "/when/always"),
    "annotations": (file(when={"annotations": ["a"]}), "/when/annotations"),
    "an annotation": (file(when={"annotations": {"a/b": True}}), "/when/annotations/a~1b"),
    "commands": (file(when={"commands": "a"}), "/when/commands"),
    "a command": (file(when={"commands": ["a", "("]}), "/when/commands/1"),
    "bind mounts": (file(when={"hasBindMounts": 1}), "/when/hasBindMounts"),
    "no stages": (file(stages=...), "/stages"),
    "a stage": (file(stages="poststop"), "/stages"),
    "an unknown stage": (file(stages=["poststop", "later"]), "/stages/1"),
    "a stage in another case": (file(stages=["Poststop"]), "/stages/0"),
    "old without a hook": ('{"stages": ["poststop"]}', "/hook"),
    "old without stages": ('{"hook": "/bin/true"}', "/stages"),
    "old with both": ('{"hook": "/bin/true", "stages": [], "stage": []}', "/stage"),
}
PATTERNS = {
    goregex.ACCEPTED: [
        *(
            "",
            "a",
            "^a.b$",
            "a|b",
            "(a|b)+?",
            "[]a]",
            "[^]a]",
            "[(?=]",
            "(?i)a",
            "a{2,}",
            "a{0,3}?",
        ),
        *("(?:a|b)c", r"[\d\]]", r"\d\.\-\/\_", "\u00e9", "$^", "a{999}", "(a{999})*"),
    ],
    goregex.REFUSED: ["(", ")", "[", "*", "[b-a]", "a{3,2}"],
    # What Go refuses of it, and what it does not.
    goregex.UNKNOWN: [
        *("a**", "a++", "a?+", "a{2}+", "a{2}{3}", "a{1001}", "(a{999}){999}"),
        *("(?=a)", "(?!a)", "(?<=a)", "(?<!a)", "(?>a)", "(a)(?P=n)", "(?P<n>a)(?P=n)"),
        *("(?x)a", "(?a)a", "(?u:a)", r"(a)\1", "(a)(?(1)b)", "(?#c)a", "(?P<n", "a\\"),
        *(r"\Z", r"\e", r"\u0041", r"[\b]", r"[\A]"),
    ],
}
GO_KNOWS = [
    *(r"\pL", r"\Qa\E", r"\z", r"\x{41}", "[[:alpha:]]", "a(?i)b", "(?U)a", r"\12", "^*", "a|*"),
    *("(?P<1>a)", "(?P<n>a)(?P<n>b)", "(?is-m:a)", "a{1000}", "x{,3}", "]", "{", "(?P<n>a)", r"\n"),
]
PATTERNS[goregex.UNKNOWN] += GO_KNOWS


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name):
    judgement = ocihooks.judge(as_bytes(ACCEPTED[name]), PODMAN_STAGES)
    assert judgement.faults == []


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    text, place = REFUSED[name]
    judgement = ocihooks.judge(as_bytes(text), PODMAN_STAGES)
    assert [fault.pointer or "document" for fault in judgement.faults] == [place]


@pytest.mark.parametrize("verdict", PATTERNS)
def test_patterns(verdict):
    for pattern in PATTERNS[verdict]:
        assert (pattern, goregex.judge(pattern)[0]) == (pattern, verdict)


def test_all_faults_in_one_go():
    text = file(hook={"path": "/bin/true", "args": 1}, when={"always": 0}, stages=[1])
    found = ocihooks.judge(text.encode()).faults
    assert [str(fault) for fault in found] == [
        "/hook/args: expected a list, found 1",
        "/when/always: expected true or false, found 0",
        "/stages/0: expected a string, found 1",
    ]


def test_a_stage_of_podman_alone():
    text = file(stages=["precreate"]).encode()
    (fault,) = ocihooks.judge(text).faults
    assert fault.pointer == "/stages/0" and "createRuntime" in fault.expected
    assert ocihooks.judge(text, PODMAN_STAGES).faults == []


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        (file(hook={"path": "/proc/no-such"}), "/hook/path /proc/no-such does not exist"),
        (file(when=...), "/when matches no container"),
        (file(when={"always": False, "commands": ["a"]}), "/when matches no container"),
        ('{"hook": "/bin/true", "stages": []}', "the old format 0.1.0"),
    ],
)
def test_doubts(text, doubt):
    judgement = ocihooks.judge(text.encode())
    assert judgement.faults == []
    assert [found for found in judgement.doubts if doubt in found]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (file(when={"always": True, "or": 1}), "/when/or is not a key of it, and ignored"),
        (annotated(r"\pL"), r"/when/annotations/\pL: the expression is not judged: it is written"),
    ],
)
def test_notes(text, note):
    judgement = ocihooks.judge(text.encode())
    assert judgement.faults == judgement.doubts == []
    assert [found for found in judgement.notes if note in found]


def test_texts_that_stand_for_themselves():
    """What install makes of an annotation's key and of the expression for its value."""
    for text in ("io.x/y-z", "a+b", "(", "a|b", r"\d", "[a]{2}^$"):
        assert re.search(goregex.literally(text), text)
        assert not re.search(goregex.literally(text), f"x{text}")
        assert not re.search(goregex.literally(text), f"{text}x")
        assert goregex.judge(goregex.literally(text)) == (goregex.ACCEPTED, "")
    assert re.search(goregex.wholly("a|b"), "b") and not re.search(goregex.wholly("a|b"), "bc")
