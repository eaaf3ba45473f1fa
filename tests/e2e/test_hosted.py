"""Hosted Python plugins: for plugin and container they are what executables are.

What goes wrong in one is in test_bad_plugins.py, where both kinds go through the same.
"""

import glob
import importlib.util
import json
import os
import shutil
import stat
import subprocess
import sys
import time

import pytest
from support import cgroups
from support.commands import read
from support.tree import TOP
from test_bad_plugins import Trial, assert_soon

from nri_hook import fastimport

hostonly = pytest.mark.hostonly
MIB = 1 << 20
# Longer than what file times tell apart.
TICK = 0.02
PLACED = """
from nri_hook import skel

def invoke(request):
    result = request.new_result("placer")
    if request.state == skel.State.CREATE:
        result.cgroups_path = request.conf["parent"] + "/" + request.id
    return result

if __name__ == "__main__":
    skel.run(invoke)
"""


@pytest.fixture
def trial(scene, node, runc, log):
    return Trial(scene, node, runc, log, hosted=True)


def ends(trial):
    trial.runtime.delete(trial.id).check()


def says(trial, text, **entry):
    """Host a plugin with this text in the place of bad; what the line says when it fails."""
    trial.node.hosted("bad", text)
    trial.configure(**entry)
    said = trial.fails().partition("; undone: ")[0]
    assert said.startswith("plugin bad: ")
    return said[len("plugin bad: ") :]


def answers(trial, text):
    """The answer of a plugin with this text, as the plugin after it has seen it."""
    trial.node.hosted("bad", text)
    trial.configure()
    trial.create().check()
    _, answer = trial.last.call("create")["payload"]["results"]
    ends(trial)
    return answer


def test_it_places_a_container(scene, node, runtime):
    node.hosted("placer", PLACED)
    node.configure({"type": "placer", "conf": {"parent": scene.cgroup}})
    bundle = scene.bundle()
    runtime.install(node, bundle)
    runtime.create("one", bundle).check()
    now = cgroups.membership(runtime.pid("one"))
    places = {now[hierarchy] for hierarchy in runtime.hierarchies()}
    assert all(place.startswith(scene.cgroup + "/") for place in places)
    runtime.start("one").check()
    runtime.delete("one").check()


def test_its_process_is_that_of_an_executable(scene, node, oci):
    """Field by field, whatever the runtime does to its hooks."""
    bundle = scene.bundle()
    oci.install(node, bundle)
    for hooks in bundle.config["hooks"].values():
        names = ("LD_AUDIT", "LD_PRELOAD", "PYTHONPATH", "PYTHONHASHSEED", "BASH_ENV", "LDX", "X")
        hooks[0]["env"] += [f"{name}=" for name in names]
    bundle.save()
    plugins = node.plugin("native"), node.plugin("hosted", hosted=True)
    node.configure(*plugins)
    oci.create("one", bundle).check()
    oci.delete("one").check()
    for state in ("create", "delete"):
        native, hosted = (plugin.call(state) for plugin in plugins)
        for call, plugin in ((native, plugins[0]), (hosted, plugins[1])):
            assert call["argv"] == [plugin.path, "invoke"]
            assert call["session"] == call["pid"]
            assert all(target.startswith("pipe:") for target in call["fds"].values())
            call["fds"] = set(call["fds"])
        same = ("cwd", "umask", "fds", "environment", "blocked", "ignored", "parent")
        assert {key: native[key] for key in same} == {key: hosted[key] for key in same}
        assert set(native["environment"]) == {"PATH", "LDX", "X"}


def test_an_executable_comes_before_it(scene, node, runc):
    """In one directory; an earlier directory comes before both."""
    node.hosted("some", "raise SystemExit(1)")
    native = node.plugin("some")
    bundle = scene.bundle()
    runc.install(node, bundle)
    node.configure("some")
    runc.create("one", bundle).check()
    runc.delete("one").check()
    assert len(native.calls()) == 2

    second = f"{scene.directory}/second"
    os.mkdir(second)
    os.rename(native.path, f"{second}/some")
    node.flags += ["--plugin-dir", second]
    other = scene.bundle()
    runc.install(node, other)
    text = runc.create("two", other).refused()
    assert "plugin some: its answer: empty, expected a JSON document, exit status 1" in text
    assert len(native.calls()) == 2


@hostonly
@pytest.mark.parametrize("mode", [0o666, 0o664])
def test_one_that_others_may_write_does_not_run(trial, mode):
    trial.node.hosted("bad", f"open({trial.canary!r}, 'w')")
    os.chmod(trial.path, mode)
    trial.configure()
    expected = f"{trial.path}: file bad.py may be written by others (mode {mode:04o})"
    assert trial.fails() == f"plugin bad: {expected}; undone: delete sent to first"


@hostonly
@pytest.mark.parametrize("mode", [0o000, 0o400, 0o644, 0o755])
def test_it_needs_no_x_bit(trial, mode):
    trial.node.hosted("bad", "print('{}')")
    os.chmod(trial.path, mode)
    trial.configure()
    trial.create().check()
    ends(trial)


EMPTY = "its answer: empty, expected a JSON document"
# A plugin -> what is said of it, after its last words on stderr were cut off.
FAILS = {
    "raises": ("1 / 0", f"{EMPTY}, exit status 1"),
    "no-python": ("def", f"{EMPTY}, exit status 1"),
    "no-text": ("\0", f"{EMPTY}, exit status 1"),
    "exits": ("raise SystemExit(7)", f"{EMPTY}, exit status 7"),
    "exits-with-true": ("raise SystemExit(True)", f"{EMPTY}, exit status 1"),
    "exits-large": ("raise SystemExit(256 + 5)", f"{EMPTY}, exit status 5"),
    "ends": ("import os; os._exit(9)", f"{EMPTY}, exit status 9"),
    "kills-itself": ("import os; os.kill(os.getpid(), 9)", f"{EMPTY}, killed by signal 9"),
    "closes": ("import os; os.close(1); os.close(2)", f"{EMPTY}, exit status 0"),
    "closes-all": ("import os; os.closerange(0, 99)", f"{EMPTY}, exit status 0"),
    "junk": ("print('junk')", "its answer: no JSON value at character 0"),
    "interrupts": ("raise KeyboardInterrupt", f"{EMPTY}, exit status 1"),
    "empty": ("", EMPTY),
}


@pytest.mark.parametrize("name", FAILS)
def test_it_fails_as_an_executable_does(trial, name):
    text, line = FAILS[name]
    said = says(trial, text).partition(", stderr: ")[0]
    assert said == line.replace(", exit status 0", "")


WORDS = {
    "error": ("1 / 0", "ZeroDivisionError: division by zero"),
    "where": ("\n\n1 / 0", r'stderr: Traceback (most recent call last):\n  File "{path}", line 3'),
    "no-python": ("def", "SyntaxError: invalid syntax"),
    "exits": ("raise SystemExit('no luck')", f"{EMPTY}, exit status 1, stderr: no luck"),
}


@hostonly
@pytest.mark.parametrize("name", WORDS)
def test_its_last_words_are_shown(trial, name):
    text, words = WORDS[name]
    assert words.replace("{path}", trial.path) in says(trial, text)


@hostonly
def test_it_hangs(trial):
    said = says(trial, "while True: pass", timeout=1)
    assert said == f"{trial.path}: killed: no answer within 1 s"


@hostonly
def test_it_ignores_what_can_be_ignored_and_hangs(trial):
    text = "import signal, time\nfor n in 1, 2, 15: signal.signal(n, signal.SIG_IGN)\ntime.sleep(9)"
    assert says(trial, text, timeout=1) == f"{trial.path}: killed: no answer within 1 s"


EATER = "whole = []\nwhile True: whole.append(bytearray(1 << 20))"


@pytest.mark.skipif(cgroups.pure_v2(), reason="makes a v1 cgroup for the hook")
def test_it_eats_memory(trial):
    """Where the hook's own cgroup ends, the kernel ends the plugin and not the hook."""
    (directory,) = trial.scene.parent(f"{trial.scene.cgroup}-hook", ["memory"])
    cgroups.write(f"{directory}/memory.limit_in_bytes", str(64 * MIB))
    trial.install()
    for stage in ("createRuntime", "poststop"):
        (hook,) = trial.bundle.config["hooks"][stage]
        words = json.dumps([hook["path"], *hook["args"][1:]])
        wrapper = trial.node.executable(
            stage,
            f"#!{os.path.realpath(sys.executable)} -IS\nimport os\n"
            f"with open('{directory}/cgroup.procs', 'w') as file: file.write('0')\n"
            f"words = {words}\nos.execv(words[0], words)\n",
            trial.scene.directory,
        )
        hook["path"] = wrapper
    trial.bundle.save()
    assert says(trial, EATER) == f"{EMPTY}, killed by signal 9"
    assert trial.calls() == [("first", "create"), ("first", "delete")]


@hostonly
def test_its_threads_and_its_end_are_waited_for(trial):
    text = (
        "import atexit, threading, time\n"
        'atexit.register(print, \'{"metadata": {"a": "b"}}\')\n'
        "threading.Thread(target=lambda: (time.sleep(0.3), print(' '))).start()\n"
    )
    assert answers(trial, text)["metadata"] == {"a": "b"}


@hostonly
def test_it_cannot_spoil_the_hook(trial):
    """What it does to modules, signals, descriptors and its directory ends with its process."""
    text = (
        "import os, signal, sys, nri_hook.hook.chain, nri_hook.hook.record\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "nri_hook.hook.chain.Chain.invoke = nri_hook.hook.record.Record.save = None\n"
        "os.chdir('/tmp'); os.umask(0); os.environ['SPOILT'] = '1'\n"
        "sys.modules.clear()\n"
        "os.write(1, b'{}')\n"
        "os.closerange(0, 999)\n"
    )
    trial.node.hosted("bad", text)
    trial.configure()
    trial.create().check()
    call = trial.last.call("create")
    assert (call["cwd"], call["umask"]) == ("/", 0o022)
    assert "SPOILT" not in call["environment"]
    ends(trial)
    assert trial.node.left() == []


def test_what_it_may_import(trial):
    """The standard library and what is installed beside the hook's own dependencies, but nothing
    from its own directory, which only root may write and others may read."""
    trial.node.hosted("beside", "")
    text = (
        "import json, psutil, sys\n"
        "found = {'json': json.__file__, 'psutil': psutil.__file__, 'name': __name__}\n"
        "found['file'] = __file__\n"
        "try:\n    import beside\n"
        "except ImportError as error:\n    found['beside'] = str(error)\n"
        "print(json.dumps({'metadata': found}))\n"
    )
    found = answers(trial, text)["metadata"]
    assert found["name"] == "__main__" and found["file"] == trial.path
    assert found["beside"] == "No module named 'beside'"
    assert os.path.isfile(found["json"]) and os.path.isfile(found["psutil"])


class Compiled:
    """A hosted plugin with a compiled file beside it that says something else than its source."""

    def __init__(self, trial):
        self.trial = trial
        self.plugin = self.write("source")
        code = compile(self.text("compiled"), self.plugin, "exec")
        self.path = importlib.util.cache_from_source(self.plugin)
        os.mkdir(os.path.dirname(self.path), 0o755)
        # The hook's interpreter is that of the tests, so it looks for the same file.
        time.sleep(TICK)
        fastimport.write(code, os.stat(self.plugin), *os.path.split(self.path))

    def text(self, word):
        return f'print(\'{{"metadata": {{"from": "{word:8}"}}}}\')\n'

    def write(self, word):
        return self.trial.node.hosted("bad", self.text(word))

    def answers(self):
        self.trial.configure()
        self.trial.create().check()
        _, answer = self.trial.last.calls("create")[-1]["payload"]["results"]
        ends(self.trial)
        return answer["metadata"]["from"].strip()


@pytest.fixture
def compiled(trial):
    return Compiled(trial)


@hostonly
def test_a_compiled_file_is_taken(compiled):
    assert compiled.answers() == "compiled"


def another_size(compiled):
    with open(compiled.plugin, "a") as file:
        file.write("\n")


def replaced(compiled):
    """By one of the same size and time, as an image or a package has it."""
    before = os.stat(compiled.plugin)
    os.unlink(compiled.plugin)
    compiled.write("source")
    os.utime(compiled.plugin, ns=(before.st_atime_ns, before.st_mtime_ns))


def a_link(compiled):
    os.rename(compiled.plugin, f"{compiled.plugin}-1")
    os.symlink("bad.py-1", compiled.plugin)


CHANGE = (another_size, replaced, a_link, lambda c: os.utime(c.plugin, (1, 1)))


@hostonly
@pytest.mark.parametrize("change", CHANGE)
def test_a_compiled_file_of_another_source_is_not_taken(compiled, change):
    change(compiled)
    assert compiled.answers() == "source"


SPOIL = {
    "others-may-write": lambda c: os.chmod(c.path, 0o666),
    "others-may-write-its-directory": lambda c: os.chmod(os.path.dirname(c.path), 0o777),
    "of-a-stranger": lambda c: os.chown(c.path, 1000, 1000),
    "half": lambda c: os.truncate(c.path, 20),
    "another-version": lambda c: shutil.copy("/dev/null", c.path),
}


@hostonly
@pytest.mark.parametrize("name", SPOIL)
def test_a_compiled_file_that_cannot_be_trusted_is_not_taken(compiled, name):
    SPOIL[name](compiled)
    assert compiled.answers() == "source"


class Kept:
    """A hosted plugin with no compiled file beside it."""

    def __init__(self, trial):
        self.trial = trial
        self.directory = f"{trial.node.plugin_dir}/__pycache__"
        self.plugin = self.write("first")

    text, write, answers = Compiled.text, Compiled.write, Compiled.answers

    def files(self):
        return sorted(os.listdir(self.directory)) if os.path.isdir(self.directory) else []

    def status(self):
        (name,) = self.files()
        return os.stat(f"{self.directory}/{name}")


@pytest.fixture
def kept(trial):
    return Kept(trial)


def test_its_code_is_kept_for_the_next_time(kept):
    time.sleep(TICK)
    assert kept.answers() == "first"
    first = kept.status()
    assert (first.st_uid, stat.S_IMODE(first.st_mode), first.st_nlink) == (0, 0o644, 1)
    assert stat.S_IMODE(os.stat(kept.directory).st_mode) == 0o755
    # Where import would look for it too.
    assert os.path.samestat(os.stat(importlib.util.cache_from_source(kept.plugin)), first)
    assert kept.answers() == "first" and kept.status().st_ino == first.st_ino
    kept.write("second")
    assert kept.answers() == "second" and kept.status().st_ino != first.st_ino


@hostonly
def test_under_a_caller_that_asserts_nothing(kept):
    """Its code is that of an interpreter as it is."""
    kept.trial.node.hosted("bad", "assert False, 'the plugin asserts'\n")
    kept.trial.configure()
    code = (
        "import sys; from nri_hook.client import Client, Task\n"
        "Client(*sys.argv[1:2], (sys.argv[2],)).invoke(Task('a', -1, {'linux': {}}), 'update')"
    )
    argv = [sys.executable, "-O", "-c", code, kept.trial.node.conf_dir, kept.trial.node.plugin_dir]
    done = subprocess.run(argv, env={"PYTHONPATH": TOP}, capture_output=True, text=True)
    assert done.returncode == 1 and "the plugin asserts" in done.stderr


UNKEPT = {
    "others-may-write-its-directory": lambda k: (
        os.mkdir(k.directory),
        os.chmod(k.directory, 0o777),
    ),
    "a-strangers-directory": lambda k: (os.mkdir(k.directory), os.chown(k.directory, 1000, 1000)),
    "no-directory": lambda k: open(k.directory, "w").close(),
    "its-directory-is-a-link": lambda k: os.symlink(k.trial.node.directory, k.directory),
    "a-link": a_link,
}


@hostonly
@pytest.mark.parametrize("name", UNKEPT)
def test_where_its_code_is_not_kept(kept, name):
    UNKEPT[name](kept)
    time.sleep(TICK)
    assert kept.answers() == "first"
    found = glob.glob(f"{kept.trial.node.directory}/**/*{fastimport.ENDING}", recursive=True)
    assert found == []


@hostonly
def test_what_it_starts_reads_nothing(trial):
    """The payload is read, as by an executable one."""
    text = (
        "import subprocess\nfrom nri_hook import skel\n"
        "def invoke(request):\n    result = request.new_result('bad')\n"
        "    cat = subprocess.run(['cat'], capture_output=True)\n"
        "    result.metadata = {'read': cat.stdout.decode()}\n    return result\n"
        "skel.run(invoke, 'bad')\n"
    )
    assert answers(trial, text)["metadata"] == {"read": ""}


@hostonly
def test_another_payload_in_the_place_of_its_own(trial):
    """A file that wraps another one."""
    text = (
        "import os\nfrom nri_hook import skel\n"
        "read, write = os.pipe()\nos.write(write, os.read(0, 65536).replace(b'create', b'setup'))\n"
        "os.close(write)\nos.dup2(read, 0)\n"
        "def invoke(request):\n    result = request.new_result('bad')\n"
        "    result.metadata = {'state': request.state}\n    return result\n"
        "skel.run(invoke, 'bad')\n"
    )
    assert answers(trial, text)["metadata"] == {"state": "setup"}


@hostonly
def test_one_that_hosts_another(trial, scene):
    """What it has written and not flushed is not the other's."""
    inner = scene.node()
    inner.hosted("inner", "print('{}')\n")
    inner.configure("inner")
    text = (
        "import sys\nsys.stdout.write('{\"metadata\": ')\n"
        "from nri_hook.client import Client, Task\n"
        f"client = Client({inner.conf_dir!r}, ({inner.plugin_dir!r},))\n"
        "results = client.invoke(Task('a', -1, {'linux': {}}), 'update')\n"
        'print(\'{"inner": "%s"}}\' % results[0].plugin)\n'
    )
    assert answers(trial, text)["metadata"] == {"inner": "inner"}


@hostonly
def test_a_child_of_its_may_go_on(trial):
    text = (
        "import os, time\n"
        f"if os.fork() == 0:\n    open({trial.canary!r} + '.child', 'w').write(str(os.getpid()))\n"
        "    time.sleep(60)\n"
        "else:\n    print('{}')\n"
    )
    assert answers(trial, text) == {"plugin": "bad", "version": "0.1"}
    for process, _ in trial.scene.left_processes():
        os.kill(process, 9)
    path = f"{trial.canary}.child"
    assert_soon(lambda: os.path.exists(path) and read(path), lambda: "no child")
    for pid in {int(read(path))}:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            pass
