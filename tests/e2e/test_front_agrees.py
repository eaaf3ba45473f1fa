"""The two halves of the launcher agree: sh ends with "nothing to do" only where Python, started
directly, would do nothing.

What both see is generated: stages, flags, states, environments, what is in the directories of the
configuration and of the records, and what the process may open. Longer: NRI_HOOK_EXAMPLES=20000.
"""

import collections
import json
import os
import shutil
import tempfile

import pytest
from support.halves import CLOSED, OTHERS, SHELLS, Halves, open_and_again

from nri_hook.hook import record, state_directory

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.hostonly

EXAMPLES = int(os.environ.get("NRI_HOOK_EXAMPLES", "2000"))
ID, LONG = "redis-1", "x" * 300
STAGES = ("createRuntime", "precreate", "poststart", "poststop")


def mostly(usual, *odd):
    """The strategy `usual`, and now and then one of `odd`."""
    return st.integers(0, 9).flatmap(lambda n: usual if n < 8 else st.one_of(*odd))


def some(values):
    return st.sampled_from(list(values))


# What is in a directory: name -> kind, and for a record whose it is and how it ended.

FILES = ("empty", "no plugins", "plugin", "dangling", "link", "directory", "fifo", "socket")
CONFS = [
    *(b"a.conf", b"*.conf", b".conf", b".a.conf", b"a.conf~", b"a.json", b"A.CONF", b"-.conf"),
    *(b"new\nline.conf", b"\xff.conf", "é☃.conf".encode(), b"[a].conf", b" .conf", b"\\.conf"),
    *(b"conf", b"aconf", b"a.conf.d", b"a.conf\n", b"'.conf", b"x" * 250 + b".conf"),
]
DROP_INS = st.dictionaries(some(CONFS), some(FILES), max_size=2)
DIRECTORY_KINDS = ("link", "missing", "file", "fifo", "dangling", "loop", *CLOSED)
KINDS = mostly(st.just("directory"), some(DIRECTORY_KINDS))
CONFIGURATIONS = st.tuples(
    KINDS,
    mostly(st.just("missing"), some(FILES)),  # conf.json
    st.tuples(
        mostly(some(["directory", "missing"]), some(DIRECTORY_KINDS)), st.just({}) | DROP_INS
    ),
)

ENDINGS = (".json", ".json", ".json", ".lock", ".new", ".log", ".log.cut", ".txt")
NAMES = st.builds(
    lambda name, ending: name + ending,
    some(
        [
            *[state_directory.name("/run/runc", ID), state_directory.name("", ID)]
            * 4,  # whose hook is called
            *(
                state_directory.name(root, id)
                for root in ("/run/runc", "")
                for id in (LONG, "other")
            ),
            *(
                state_directory.setup_name(ID),
                f"{LONG[:200]}-0123abcd",
                record.MOVING,
                "*",
                ".hidden",
                "",
            ),
        ]
    ),
    some(ENDINGS),
)
WRITTEN = st.tuples(
    some(["file", "file", "file", "directory", "fifo", "dangling", "link"]),
    some(
        [
            "",
            "{",
            "[]",
            *(
                f"{id} {outcome}"
                for id in (ID, LONG, "other")
                for outcome in ("moved", "adopted", "stays", "chain", "left")
            ),
        ]
    ),
    some([record.SETTLED, record.SETTLED, record.PLAIN, 0o1777, 0o000]),
)
RECORDS = st.tuples(
    KINDS,
    mostly(st.just(0o700), some([0o755, 0o777, 0o1777, 0o500])),
    some([0, 0, 0, 0, 1234]),
    st.just({}) | st.dictionaries(NAMES, WRITTEN, max_size=3),
)

# Flags, with the two directories as CONF and STATE

PATHS = some(["CONF", "STATE"]) | some(
    [
        *("CONF/", "CONF//", "CONF/.", "/.CONF", "/CONF", "CONF/resource.d/..", "CONF/x/.."),
        *("STATE/", "STATE/./", "/STATE", "BASE/link/../conf", "BASE/link/../state"),
        *("BASE/nothing/../conf", "BASE/x/y/z", "BASE/dangling", "BASE/loop", "BASE"),
        *("conf", "", ".", "/", "//", "*", "/etc/nri", "/run/nri-hook", "/run//nri-hook"),
        *("BASE/" + "x" * 300, "/" + "é" * 150, "BASE/a b", "BASE/[s]tate", "BASE/CONF"),
        *("/proc/self/cwd/conf", "BASE/" + "d/" * 120 + "conf", "-", "--timeout", "\n"),
    ]
)
TIMES = some(
    [
        *("30", "1", "86400", "0", "86401", "99999", "1e3", "1.5", "", "x", "030", "٣", " 3", "3 "),
        *("-1", "inf"),
    ]
)
FLAGS = st.lists(
    st.one_of(
        st.tuples(some(["--conf-dir", "--state-dir", "--plugin-dir"]), PATHS),
        st.tuples(st.just("--timeout"), TIMES),
    ),
    max_size=3,
)
USUAL = ("--conf-dir", "CONF", "--state-dir", "STATE", "--plugin-dir", "BASE/plugins")
ODD_WORDS = some(["--bad", "--conf-dir", "--CONF-DIR", "x", "", "--", "--timeout=30", "-e"])


def _words(before, more, joined, odd):
    words = [*before]
    for flag, value in more:
        words += [f"{flag}={value}"] if joined else [flag, value]
    return words + odd


WORDS = st.builds(
    _words,
    mostly(st.just(USUAL), st.just(())),
    st.just([]) | FLAGS,
    some([False, False, False, True]),
    mostly(st.just([]), st.lists(ODD_WORDS, min_size=1, max_size=1)),
)

# What comes on stdin


def _state(id, more, tail):
    return json.dumps({**more, "id": id, "bundle": "/b"}, separators=(",", ":")).encode() + tail


INPUTS = mostly(
    st.builds(
        _state,
        some([ID, LONG, "other"]),
        some(
            [
                {},
                {"pid": 0},
                {"annotations": {"id": "other", '"id":"': "other"}},
                {"root": {"id": "other"}},
                {"annotations": {"a": "x" * 70_000}},
            ]
        ),
        some([b"", b"\n", b"\n\n \n"]),
    ),
    some([b"", b"{", b"\0", b"null", b'{"id":1}', b'{"id":"a","id":"b"}', b'{"id":"%s"' % b"a"]),
)

# What the process is like

VARIABLES = {
    "PATH": ["", ".", "/proc/nothing", "BASE/trap", "BASE/trap:/bin"],
    "SHELLOPTS": ["errexit:nounset", "noglob", "allexport:noclobber", "xtrace", "posix", "monitor"],
    "BASHOPTS": [
        "nullglob",
        "failglob",
        "dotglob",
        "nocasematch:nocaseglob",
        "extglob:globstar",
        "globskipdots",
        "expand_aliases:execfail",
    ],
    **{
        f"BASH_FUNC_{name}%%": ["() { return 0; }", "() { return 1; }"]
        for name in ("[", "can_list", "command", "false", "read", "true", "unset")
    },
    "BASH_VERSION": ["5.2"],
    "GLOBIGNORE": ["*", "*.conf", "."],
    "IFS": ["/", ".", "a"],
    "LC_ALL": ["C", "C.UTF-8", "POSIX", "ja_JP.SJIS", "nothing"],
    "POSIXLY_CORRECT": ["1"],
    "ENV": ["BASE/trap/cat"],
    "BASH_ENV": ["BASE/trap/cat"],
    "CDPATH": ["/"],
    "PWD": ["/proc/nothing"],
    "conf": ["/proc/nothing"],
    "state": ["/proc/nothing"],
    "clear": ["yes"],
    "HOME": ["/"],
}
ENVIRONMENTS = mostly(
    st.just({"PATH": "/usr/bin:/bin"}),
    st.lists(
        some([(name, value) for name, values in VARIABLES.items() for value in values]), max_size=3
    ).map(dict),
)
LIMITS = mostly(
    st.just(""),
    some(
        [
            "files 4",
            "files 5",
            "files 7",
            "files 10",
            "files 11",
            "files 16",
            "gone",
            "bundle",
            "close 0",
            "close 1",
            "close 2",
        ]
    ),
)
PLACES = st.tuples(
    some(["as root"] * 6 + ["without rights"] * 4 + list(OTHERS)),
    LIMITS,
    some(["runc", "conmon"]),
)


@pytest.fixture(scope="module")
def halves():
    base = tempfile.mkdtemp(prefix="nri-test-", dir="/tmp")
    os.chmod(base, 0o755)  # for those who are not root
    halves = Halves(base)
    yield halves
    halves.close()
    shutil.rmtree(base, onerror=open_and_again)


NO_CONFIGURATION = ("directory", "missing", ("missing", {}))
CONFIGURED = ("directory", "plugin", ("missing", {}))


def recorded(outcome, mode):
    """The one record of a node."""
    return (
        "directory",
        0o700,
        0,
        {f"{state_directory.name('', ID)}.json": ("file", f"{ID} {outcome}", mode)},
    )


@pytest.mark.parametrize(
    ("stage", "conf", "records", "is_seen"),
    [
        ("createRuntime", CONFIGURED, recorded("stays", record.SETTLED), True),
        ("createRuntime", NO_CONFIGURATION, recorded("moved", record.PLAIN), False),
        ("precreate", CONFIGURED, ("missing", 0, 0, {}), True),
        ("poststart", CONFIGURED, recorded("moved", record.PLAIN), True),
        ("poststart", CONFIGURED, recorded("moved", record.SETTLED), False),
        ("poststop", NO_CONFIGURATION, recorded("stays", record.SETTLED), True),
        ("poststop", CONFIGURED, ("missing", 0, 0, {}), False),
    ],
)
def test_what_python_does_is_seen(halves, stage, conf, records, is_seen):
    """Otherwise the test below would show nothing."""
    state = json.dumps({"id": ID, "bundle": "/b"}).encode()
    argv = [halves.launcher, stage, *map(halves.place, USUAL)]
    for call in (
        lambda: halves.python(argv, {}, "as root", "conmon"),
        lambda: halves.really(argv, {}),
    ):
        halves.make(conf, NO_CONFIGURATION, records, records, state)
        assert bool(call()) == is_seen


@pytest.mark.timeout(900)  # thousands of processes, on a machine that may have others to run
def test_sh_never_says_that_there_is_nothing_to_do_if_python_would_do_something(halves):
    found = collections.Counter()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        some(SHELLS),
        some([*STAGES * 8, "", "start", "CREATERUNTIME", "poststop "]),
        WORDS,
        INPUTS,
        ENVIRONMENTS,
        PLACES,
        *(CONFIGURATIONS, CONFIGURATIONS, RECORDS, RECORDS),
    )
    def compare(shell, stage, words, stdin, environment, place, conf, other, records, others):
        who, limit, parent = place
        halves.make(conf, other, records, others, stdin)
        environment = {name: halves.place(value) for name, value in environment.items()}
        argv = [halves.launcher, stage, *map(halves.place, words)]
        nothing = halves.sh(shell, argv, stdin, environment, who, limit)
        found[stage, shell, nothing] += 1
        if nothing:
            assert halves.python(argv, environment, who, parent) == []
            if not found[stage, shell, nothing] % 50:
                assert halves.really(argv, environment) == []

    compare()
    print(*(f"\n{' '.join(map(str, key))}: {number}" for key, number in sorted(found.items())))
    for stage in STAGES:  # of each it was asked both ways
        for shell in SHELLS:
            assert found[stage, shell, True] and found[stage, shell, False]
