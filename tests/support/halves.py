"""The two halves of the launcher, in sh and in Python, each called for the same thing."""

import fcntl
import json
import os
import resource
import shutil
import stat
import subprocess

from nri_hook.registration import launcher
from support.straight import Straight, really

PIPE = 1 << 20
SHELLS = [shell for shell in ("dash", "bash", "busybox") if os.path.exists(f"/bin/{shell}")]
# In the place of Python: a program that ends with 1. cat, where there is nothing to do, gives 0.
CALLED = "/bin/false"
# Modes of a directory that root without rights to files has trouble with.
CLOSED = {"closed": 0o000, "only to be searched": 0o111, "only to be listed": 0o444}
# Who calls, as words before the command.
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


class Halves:
    """The launcher's, and what both look at: directories in `made`, anew for each make()."""

    def __init__(self, base):
        self.base = base
        self.made = f"{base}/made"
        self.launcher = f"{base}/nri-hook"
        self.stdin = f"{base}/stdin"
        self.trapped = f"{base}/trapped"
        with open(self.launcher, "wb") as file:
            file.write(launcher.render(CALLED, launcher.directories()))
        self.shells = {}
        for shell in SHELLS:
            os.makedirs(f"{base}/{shell}")
            self.shells[shell] = f"{base}/{shell}/sh"
            os.symlink(f"/bin/{shell}", self.shells[shell])
        self.straight = {}

    def place(self, text):
        """The text with the directories in it."""
        for name, path in (("CONF", "BASE/conf"), ("STATE", "BASE/state"), ("BASE", self.made)):
            text = text.replace(name, path)
        return text

    def make(self, conf, other_conf, state, other_state, stdin):
        """Make all of it, from what test_front_agrees.py generates."""
        shutil.rmtree(self.made, onerror=open_and_again) if os.path.exists(self.made) else None
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
        """Whether the first half says that there is nothing to do; it ends with 0 then, stdin is
        read and what a stage prints is printed. who: a key of OTHERS. limit: see _limited()."""
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
        """What the shell begins with: a few descriptors ("files N"), one closed ("close N"), the
        bundle as its directory, or one that has gone."""
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
        """What the second half does that can be seen, in words. who: a key of OTHERS. parent: what
        its caller is called."""
        if (parent, who) not in self.straight:
            directory = f"{self.base}/{parent} {who}"
            self.straight[parent, who] = Straight(directory, parent, OTHERS[who])
        return self._seen(self.straight[parent, who], argv, environment)

    def really(self, argv, environment):
        """The same of the real one."""
        return self._seen(really, argv, environment)

    def _seen(self, hook, argv, environment):
        before = self._all()
        status, out, err = hook(argv, self.stdin, environment)
        seen = [f"status {status}"] if status else []
        with open(self.stdin, "rb") as file:
            if out != (file.read() if argv[1] == "precreate" else b""):
                seen.append(f"printed {out!r}")
        # Of a state that nobody can read it complains, and does no more.
        lines = [line for line in err.splitlines() if b": the state on stdin: " not in line]
        seen += [f"said {line!r}" for line in lines]
        changed = [path for path, _ in set(before.items()) ^ set(self._all().items())]
        return seen + [f"changed {path!r}" for path in changed]

    def _all(self):
        """Path -> what is there."""
        found = {}
        for top, directories, names in os.walk(os.fsencode(self.made)):
            for path in (top, *(os.path.join(top, name) for name in directories + names)):
                status = os.lstat(path)
                found[path] = (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns)
        return found

    def close(self):
        for straight in self.straight.values():
            straight.close()


def open_and_again(function, path, _):
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
    elif kind == "directory":
        os.mkdir(path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o600)
    elif kind != "missing":
        _write(path, TEXTS[kind])


def _make_directory(path, kind):
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


def _close_directory(path, kind):
    if kind in CLOSED:
        os.chmod(path, CLOSED[kind])


def _make_configuration(path, kind, single, drop_ins):
    directory = _make_directory(path, kind)
    if directory:
        _make_file(os.fsencode(f"{directory}/conf.json"), single)
        inner = _make_directory(f"{directory}/resource.d", drop_ins[0])
        for name, file in drop_ins[1].items() if inner else ():
            if len(name) < 240 or file != "link":
                _make_file(os.path.join(os.fsencode(inner), name), file)
        if inner:
            _close_directory(inner, drop_ins[0])
        _close_directory(directory, kind)


def _make_state(path, kind, mode, owner, records):
    directory = _make_directory(path, kind)
    if not directory:
        return
    for name, (file, text, file_mode) in records.items():
        _make_record(f"{directory}/{name}", file, text, file_mode)
    os.chown(directory, owner, owner)
    os.chmod(directory, mode)
    _close_directory(directory, kind)


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
