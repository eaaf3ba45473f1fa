"""The two halves of the launcher agree: sh ends with "nothing to do" only where Python, started
directly, would do nothing.

What both see is generated: stages, flags, states, environments, what is in the folders of the
configuration and of the records, and what the process may open. Longer: NRI_HOOK_EXAMPLES=20000.
"""

import collections
import fcntl
import json
import os
import resource
import shutil
import stat
import subprocess

import pytest
from support.straight import Straight, really

from nri_hook import launcher, record

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.hostonly

EXAMPLES = int(os.environ.get("NRI_HOOK_EXAMPLES", "2000"))
SHELLS = [shell for shell in ("dash", "bash", "busybox") if os.path.exists(f"/bin/{shell}")]
PIPE = 1 << 20
ID, LONG = "redis-1", "x" * 300
STAGES = ("createRuntime", "precreate", "poststart", "poststop")
# In the place of Python: a program that ends with 1. cat, where there is nothing to do, gives 0.
CALLED = "/bin/false"


def mostly(usual, *odd):
    """The strategy `usual`, and now and then one of `odd`."""
    return st.integers(0, 9).flatmap(lambda n: usual if n < 8 else st.one_of(*odd))


def some(values):
    return st.sampled_from(list(values))


# What is in a folder: name -> kind, and for a record whose it is and how it ended.

FILES = ("empty", "no plugins", "plugin", "dangling", "link", "folder", "fifo", "socket")
CONFS = [
    *(b"a.conf", b"*.conf", b".conf", b".a.conf", b"a.conf~", b"a.json", b"A.CONF", b"-.conf"),
    *(b"new\nline.conf", b"\xff.conf", "é☃.conf".encode(), b"[a].conf", b" .conf", b"\\.conf"),
    *(b"conf", b"aconf", b"a.conf.d", b"a.conf\n", b"'.conf", b"x" * 250 + b".conf"),
]
DROP_INS = st.dictionaries(some(CONFS), some(FILES), max_size=2)
FOLDER_KINDS = ("link", "missing", "file", "fifo", "dangling", "loop", "closed", "searchable")
KINDS = mostly(st.just("folder"), some(FOLDER_KINDS))
CONFIGURATIONS = st.tuples(
    KINDS,
    mostly(st.just("missing"), some(FILES)),  # conf.json
    st.tuples(
        mostly(some(["folder", "missing"]), some(FOLDER_KINDS)), mostly(st.just({}), DROP_INS)
    ),
)

ENDINGS = (".json", ".json", ".json", ".lock", ".new", ".log", ".log.cut", ".txt")
NAMES = st.builds(
    lambda name, ending: name + ending,
    some(
        [
            *(record.name(root, id) for root in ("/run/runc", "") for id in (ID, LONG, "other")),
            *(record.setup_name(ID), f"{LONG[:200]}-0123abcd", record.MOVING, "*", ".hidden", ""),
        ]
    ),
    some(ENDINGS),
)
WRITTEN = st.tuples(
    some(["file", "file", "file", "folder", "fifo", "dangling", "link"]),
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
    mostly(st.just({}), st.dictionaries(NAMES, WRITTEN, max_size=3)),
)

# Flags, with the two folders as CONF and STATE

PATHS = mostly(
    some(["CONF", "STATE"]),
    some(
        [
            *("CONF/", "CONF//", "CONF/.", "/.CONF", "/CONF", "CONF/resource.d/..", "CONF/x/.."),
            *("STATE/", "STATE/./", "/STATE", "BASE/link/../conf", "BASE/link/../state"),
            *("BASE/nothing/../conf", "BASE/x/y/z", "BASE/dangling", "BASE/loop", "BASE"),
            *("conf", "", ".", "/", "//", "*", "/etc/nri", "/run/nri-hook", "/run//nri-hook"),
            *("BASE/" + "x" * 300, "/" + "é" * 150, "BASE/a b", "BASE/[s]tate", "BASE/CONF"),
            *("/proc/self/cwd/conf", "BASE/" + "d/" * 120 + "conf", "-", "--timeout", "\n"),
        ]
    ),
)
TIMES = mostly(
    some(["30", "1", "86400"]),
    some(["0", "86401", "99999", "1e3", "1.5", "", "x", "030", "٣", " 3", "3 ", "-1", "inf"]),
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
    mostly(st.just([]), FLAGS),
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
    "PATH": ["", ".", "/nothing", "BASE/trap", "BASE/trap:/bin"],
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
    "BASH_FUNC_[%%": ["() { return 0; }", "() { return 1; }"],
    "BASH_FUNC_can_list%%": ["() { return 0; }"],
    "BASH_FUNC_cat%%": ["() { return 0; }"],
    "BASH_FUNC_read%%": ["() { return 0; }"],
    "BASH_VERSION": ["5.2"],
    "GLOBIGNORE": ["*", "*.conf", "."],
    "IFS": ["/", ".", "a"],
    "LC_ALL": ["C", "C.UTF-8", "POSIX", "ja_JP.SJIS", "nothing"],
    "POSIXLY_CORRECT": ["1"],
    "ENV": ["BASE/trap/cat"],
    "BASH_ENV": ["BASE/trap/cat"],
    "CDPATH": ["/"],
    "PWD": ["/nothing"],
    "conf": ["/nothing"],
    "state": ["/nothing"],
    "clear": ["yes"],
    "HOME": ["/"],
}
ENVIRONMENTS = mostly(
    st.just({"PATH": "/usr/bin:/bin"}),
    st.lists(
        some([(name, value) for name, values in VARIABLES.items() for value in values]), max_size=3
    ).map(dict),
)
DROPPED = ("dac_override", "dac_read_search")
OTHERS = {
    "as root": [],
    "without rights": [
        *("/usr/bin/setpriv", "--inh-caps=" + ",".join(f"-{name}" for name in DROPPED)),
        *("--bounding-set=" + ",".join(f"-{name}" for name in DROPPED), "--"),
    ],
    "as a user": ["/usr/bin/setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", "--"],
    "in a user namespace": ["/usr/bin/unshare", "--user", "--map-root-user"],
}
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
    st.just("as root") | mostly(st.just("as root"), some(OTHERS)), LIMITS, some(["runc", "conmon"])
)


class Scene:
    """The folders of one example, in `base`, made anew for each."""

    def __init__(self, base):
        self.base = base
        self.made = f"{base}/made"
        self.launcher = f"{base}/nri-hook"
        self.stdin = f"{base}/stdin"
        self.trapped = f"{base}/trapped"
        with open(self.launcher, "wb") as file:
            file.write(launcher.render(CALLED, launcher.folders()))
        self.shells = {}
        for shell in SHELLS:
            os.makedirs(f"{base}/{shell}")
            self.shells[shell] = f"{base}/{shell}/sh"
            os.symlink(f"/bin/{shell}", self.shells[shell])
        self.straight = {}

    def place(self, text):
        """The text with the folders in it."""
        for name, path in (("CONF", "BASE/conf"), ("STATE", "BASE/state"), ("BASE", self.made)):
            text = text.replace(name, path)
        return text

    def make(self, conf, other_conf, state, other_state, stdin):
        shutil.rmtree(self.made, onerror=_open_and_again) if os.path.exists(self.made) else None
        os.mkdir(self.made)
        os.makedirs(f"{self.made}/elsewhere/inner")
        os.symlink("elsewhere/inner", f"{self.made}/link")
        os.symlink("nothing", f"{self.made}/dangling")
        os.symlink("loop", f"{self.made}/loop")
        os.mkdir(f"{self.made}/trap")
        _write(f"{self.made}/trap/cat", f"#!/bin/sh\n>{self.trapped}\n".encode(), 0o755)
        for top, one, records in (
            (self.made, conf, state),
            (f"{self.made}/elsewhere", other_conf, other_state),
        ):
            _make_configuration(f"{top}/conf", *one)
            _make_state(f"{top}/state", *records)
        _write(self.stdin, stdin)

    def sh(self, shell, argv, stdin, environment, who, limit):
        """Whether the first half says that there is nothing to do."""
        read, write = os.pipe()
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE)
        os.write(write, stdin)
        os.close(write)
        try:
            done = subprocess.run(
                [*OTHERS[who], self.shells[shell], *argv],
                stdin=read,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd="/",
                preexec_fn=self._limited(limit) if limit else None,
            )
            rest = b"" if limit == "close 0" else os.read(read, 1)
        finally:
            os.close(read)
        assert not os.path.exists(self.trapped)
        if done.returncode:
            return False
        assert rest == b"", "stdin was not read to its end"
        assert done.stdout == (stdin if argv[1] == "precreate" else b"")
        return True

    def _limited(self, limit):
        what, _, number = limit.partition(" ")

        def limited():
            if what == "files":
                resource.setrlimit(resource.RLIMIT_NOFILE, (int(number), int(number)))
            elif what == "close":
                os.close(int(number))
            elif what == "bundle":
                os.chdir(f"{self.made}/trap")
            else:
                os.mkdir(f"{self.made}/gone")
                os.chdir(f"{self.made}/gone")
                os.rmdir(f"{self.made}/gone")

        return limited

    def python(self, argv, environment, who, parent):
        """What the second half does that can be seen: a list of words."""
        if (parent, who) not in self.straight:
            folder = f"{self.base}/{parent} {who}"
            self.straight[parent, who] = Straight(folder, parent, OTHERS[who])
        return self._seen(self.straight[parent, who], argv, environment)

    def really(self, argv, environment):
        return self._seen(really, argv, environment)

    def _seen(self, hook, argv, environment):
        before = self._all()
        status, out, err = hook(argv, self.stdin, environment)
        seen = [f"status {status}"] if status else []
        with open(self.stdin, "rb") as file:
            if out != (file.read() if argv[1] == "precreate" else b""):
                seen.append(f"printed {out!r}")
        # Of what nobody can read it complains, and no more.
        if err and b": the state on stdin: " not in err:
            seen.append(f"said {err!r}")
        changed = [path for path, _ in set(before.items()) ^ set(self._all().items())]
        return seen + [f"changed {path!r}" for path in changed]

    def _all(self):
        """Path -> what is there."""
        found = {}
        for top, folders, names in os.walk(os.fsencode(self.made)):
            for path in (top, *(os.path.join(top, name) for name in folders + names)):
                status = os.lstat(path)
                found[path] = (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns)
        return found

    def close(self):
        for straight in self.straight.values():
            straight.close()


def _open_and_again(function, path, _):
    os.chmod(os.path.dirname(path), 0o700)
    os.chmod(path, 0o700)
    shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def _write(path, data, mode=0o644):
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)


TEXTS = {
    "empty": b"",
    "no plugins": b'{"version":"0.1","plugins":[]}',
    "plugin": b'{"version":"0.1","plugins":[{"type":"absent"}]}',
}


def _make_file(path, kind):
    if kind == "link":
        _write(path + b".target", TEXTS["plugin"])
        os.symlink(os.path.basename(path) + b".target", path)
    elif kind == "dangling":
        os.symlink("nothing", path)
    elif kind == "folder":
        os.mkdir(path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o600)
    elif kind != "missing":
        _write(path, TEXTS[kind])


def _make_folder(path, kind):
    """Make it, and say where its files go, None if it has none."""
    if kind == "link":
        os.mkdir(f"{path}-there")
        os.symlink(f"{path}-there", path)
    elif kind == "file":
        _write(path, TEXTS["plugin"])
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "dangling":
        os.symlink("nothing", path)
    elif kind == "loop":
        os.symlink(path, path)
    elif kind != "missing":
        os.mkdir(path)
        return path
    return f"{path}-there" if kind == "link" else None


def _close_folder(path, kind):
    if kind in ("closed", "searchable"):
        os.chmod(path, 0o000 if kind == "closed" else 0o111)


def _make_configuration(path, kind, single, drop_ins):
    folder = _make_folder(path, kind)
    if folder:
        _make_file(os.fsencode(f"{folder}/conf.json"), single)
        inner = _make_folder(f"{folder}/resource.d", drop_ins[0])
        for name, file in drop_ins[1].items() if inner else ():
            if len(name) < 240 or file != "link":
                _make_file(os.path.join(os.fsencode(inner), name), file)
        if inner:
            _close_folder(inner, drop_ins[0])
        _close_folder(folder, kind)


def _make_state(path, kind, mode, owner, records):
    folder = _make_folder(path, kind)
    if not folder:
        return
    for name, (file, text, file_mode) in records.items():
        _make_record(f"{folder}/{name}", file, text, file_mode)
    os.chown(folder, owner, owner)
    os.chmod(folder, mode)
    _close_folder(folder, kind)


def _make_record(path, kind, text, mode):
    id, _, outcome = text.partition(" ")
    if outcome:
        text = json.dumps(_document(id, outcome))
    if kind == "file":
        _write(path, text.encode(), mode)
    elif kind == "link":
        _write(f"{path}.target", text.encode(), mode)
        os.symlink(f"{path}.target", path)
    else:
        _make_file(os.fsencode(path), kind)
        if kind != "dangling":
            os.chmod(path, mode)


def _document(id, outcome):
    nobody = {"pid": 0, "start": 0}
    return {
        **nobody,
        **{"id": id, "runtime": "", "runtimeRoot": "", "creator": nobody, "bundle": "/b"},
        **{"entries": [], "folders": [], "called": [], "results": [], "placements": []},
        **{"request": {"state": "create", "id": id, "spec": {}}, "origin": "", "reason": ""},
        **{"cgroupsPath": "", "cgroups": {}, "outcome": outcome},
    }


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    node = Scene(str(tmp_path_factory.mktemp("agrees")))
    yield node
    node.close()


@pytest.mark.timeout(900)  # thousands of processes, on a machine that may have others to run
def test_sh_never_says_that_there_is_nothing_to_do_if_python_would_do_something(node):
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
        node.make(conf, other, records, others, stdin)
        environment = {name: node.place(value) for name, value in environment.items()}
        argv = [node.launcher, stage, *map(node.place, words)]
        nothing = node.sh(shell, argv, stdin, environment, who, limit)
        found[stage, shell, nothing] += 1
        if nothing:
            assert node.python(argv, environment, who, parent) == []
            if not found[stage, shell, nothing] % 50:
                assert node.really(argv, environment) == []

    compare()
    print(*(f"\n{' '.join(map(str, key))}: {number}" for key, number in sorted(found.items())))
    for stage in STAGES:  # of each it was asked both ways
        for shell in SHELLS:
            assert found[stage, shell, True] and found[stage, shell, False]
