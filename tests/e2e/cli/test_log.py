"""`nri-hook log`: what can be told afterwards of the hooks of real containers."""

import json
import os
import re
import sys

import pytest
from support import cgroups, runtimes
from support.commands import read
from support.node import command
from support.terminal import on_terminal
from support.tree import TOP

pytestmark = pytest.mark.once
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(params=[name for name in runtimes.binaries() if name != "runc-v2"])
def each(scene, request):
    """runc, and crun, which throws the stderr of hooks away."""
    return scene.runtime(request.param)


@pytest.fixture
def bundle(scene, node, each):
    bundle = scene.bundle()
    each.install(node, bundle)
    return bundle


def log(node, *args):
    return command("log", "--state-dir", node.state_dir, *args)


def missing(node, scene):
    node.configure("absent")


def writable(node, scene):
    os.chmod(node.plugin("mover").path, 0o777)
    node.configure("mover")


def writable_directory(node, scene):
    node.configure(node.plugin("mover"))
    os.chmod(node.plugin_dir, 0o777)


def closed(node, scene):
    os.chmod(node.plugin("mover").path, 0o644)
    node.configure("mover")


def no_interpreter(node, scene):
    node.executable("mover", "#!/nowhere/python\n")
    node.configure("mover")


def bad_configuration(node, scene):
    with open(node.configure(), "w") as file:
        file.write('{"plugins": [')


def version_of_wrong_type(node, scene):
    node.configure(node.plugin("mover", {"create": {"result": {"version": 0.1}}}))


def slow(node, scene):
    node.plugin("mover", {"create": {"stderr": "waiting for the database\n", "sleep": 60}})
    node.configure({"type": "mover", "timeout": 3})


def unit(node, scene):
    answer = {"cgroupsPath": "qos.slice:nri:one"}
    node.configure(node.plugin("mover", {"create": {"result": answer}}))


def says_no(node, scene):
    node.configure(node.plugin("mover", {"create": {"result": {"error": "no room for it"}}}))


# What makes a create fail -> cause and fix, as log says them.
MISTAKES = {
    missing: ("plugin absent: not found in ", "Put an executable of the plugin's name"),
    writable: ("mover may be written by others (mode 0777)", "chmod go-w"),
    writable_directory: ("plugins may be written by others (mode 0777)", "chmod go-w"),
    closed: ("/mover: Permission denied", "chmod 755"),
    no_interpreter: ("cannot be run: No such file or directory", "interpreter of its first line"),
    bad_configuration: ("/conf.json: no JSON value at", "Correct that file"),
    version_of_wrong_type: ("its answer: /version: expected", "a Result of NRI 0.1"),
    slow: ("killed: no answer within 3 s, stderr: waiting for", "For more time, set `timeout` in"),
    unit: (
        "plugin mover: cgroupsPath 'qos.slice:nri:one' has systemd's form, expected a path as",
        "This container is on cgroupfs, so the plugin has to answer a path",
    ),
    says_no: ("plugin mover: says: no room for it", "The plugin itself refused"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_why_a_create_failed(scene, node, each, bundle, mistake):
    """Cause and fix, also where the runtime says neither."""
    cause, fix = MISTAKES[mistake]
    mistake(node, scene)
    said = each.create("one", bundle).refused()
    each.delete("one")
    done = log(node, "one").check()
    head, why, what_to_do = done.out.splitlines()[:3]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d [\d:]{8}  one  createRuntime: FAILED: .*not start", head)
    assert why.startswith("  why: ") and cause in why
    assert what_to_do.startswith("  what to do: ") and fix in what_to_do
    assert (cause.split("'")[0] in said) == (each.binary == "runc")


class Target:
    """A place that somebody else has made, where the only plugin sends a container."""

    def __init__(self, scene, node, runc, start=""):
        self.runc = runc
        self.path = f"{scene.cgroup}-there"
        self.directories = scene.parent(self.path)
        self.bundle = scene.bundle(cgroups_path=start)
        runc.install(node, self.bundle)
        node.configure(node.plugin("mover", {"create": {"result": {"cgroupsPath": self.path}}}))
        self.node = node

    def assert_refused(self, fix):
        self.runc.create("one", self.bundle).refused()
        self.runc.delete("one")
        why, what_to_do = log(self.node, "one").check().out.splitlines()[1:3]
        assert why.startswith("  why: plugin mover: /") and fix in what_to_do


def test_somebody_else_is_there(scene, node, runc):
    target = Target(scene, node, runc)
    sleeper = scene.sleeper()
    for directory in target.directories:
        cgroups.write(f"{directory}/cgroup.procs", sleeper.pid)
    target.assert_refused("Another container or process is there. Let the plugin answer a place")


def test_a_frozen_place(scene, node, runc):
    target = Target(scene, node, runc)
    files = {"freezer.state": ("FROZEN", "THAWED"), "cgroup.freeze": ("1", "0")}
    for number in (0, 1):
        for directory in target.directories:
            for name, states in files.items():
                if os.path.exists(f"{directory}/{name}"):
                    cgroups.write(f"{directory}/{name}", states[number])
        if number == 0:
            target.assert_refused("Thaw that cgroup")


def test_out_of_a_limited_parent(scene, node, runc):
    if "pids" not in runc.controllers():
        pytest.skip("no controller pids here")
    parent = f"{scene.cgroup}-pod"
    for directory in scene.parent(parent):
        if os.path.exists(f"{directory}/pids.max"):
            cgroups.write(f"{directory}/pids.max", 100)
    target = Target(scene, node, runc, f"{parent}/one")
    target.assert_refused('If the container may leave that limit, set "leaveParent": true')


def test_no_time_is_left(scene, runc):
    node = scene.node(["--timeout", "1"])
    bundle = scene.bundle()
    runc.install(node, bundle)
    node.plugin("slow", {"create": {"sleep": 60}})
    node.configure({"type": "slow", "onError": "ignore"}, node.plugin("late"))
    runc.create("one", bundle).refused()
    runc.delete("one")
    text = log(node, "one").check().out
    assert "\n  why: plugin late: no time is left for it; undone: " in text
    assert re.search(r"\n  plugin slow: create, [\d.]+ ms, killed by nri-hook\n", text)


def test_registered_twice(scene, node, runc):
    bundle = scene.bundle()
    runc.install(node, bundle)
    bundle.config["hooks"]["createRuntime"] *= 2
    bundle.save()
    node.configure(node.plugin("plain"))
    runc.create("one", bundle).check()
    note, what_to_do = log(node, "one").check().out.splitlines()[-3:-1]
    assert note == "  note: called twice for one container: the hook is registered twice"
    assert "Remove one of the two hook files" in what_to_do
    runc.delete("one").check()


def test_a_life(scene, node, each, bundle):
    target = f"{scene.cgroup}/target"
    plain = node.plugin("plain", {"create": {"stderr": "one\ntwo \x1b[31m\n", "exit": 3}})
    node.configure(plain, node.plugin("mover", {"create": {"result": {"cgroupsPath": target}}}))
    each.run("one", bundle).check()
    each.delete("one").check()
    text = log(node, "one").check().out
    text = re.sub(r"(?m)^[-\d]{10} [\d:]{8}|[\d.]+(?= ms)", "X", text)
    assert text.splitlines() == [
        "X  one  createRuntime: moved before it started",
        "  note: plugin plain: a good answer, exit status 3",
        f"  from {bundle.cgroups_path}",
        f"  to   {target}",
        "  plugin plain: create, X ms, exit status 3",
        "    answer: {}",
        "    stderr: one",
        "    stderr: two \\x1b[31m",
        "  plugin mover: create, X ms, exit status 0",
        f'    answer: {{"cgroupsPath": "{target}"}}',
        "X  one  poststart: its runtime was told where it is",
        f"  at {target}",
        "X  one  poststop: it has ended, and nothing of it is left",
        f"  at {target}",
        "  plugin mover: delete, X ms, exit status 0",
        "    answer: {}",
        "  plugin plain: delete, X ms, exit status 0",
        "    answer: {}",
    ]


def test_the_payload_of_a_failed_create(node, each, bundle):
    """Byte for byte what the plugin had, and the plugin does with it what it did."""
    plugin = node.plugin("bad", {"create": {"result": {"error": "no"}}})
    node.configure({"type": "bad", "conf": {"list": [1.5, "é"]}})
    each.create("one", bundle).refused()
    each.delete("one")
    done = log(node, "--payload", "one").check()
    assert done.out == plugin.call("create")["raw"] + "\n"
    (entry,) = json.loads(log(node, "--json", "one").check().out)
    assert entry["payload"] == json.loads(done.out)
    assert entry["outcome"] == "failed" and entry["calls"][0]["type"] == "bad"


def test_words_that_the_terminal_cannot_show(node, runc, scene, monkeypatch):
    bundle = scene.bundle()
    runc.install(node, bundle)
    node.configure(node.plugin("bad", {"create": {"result": {"error": "é \u2603"}}}))
    runc.create("one", bundle).refused()
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert "  why: plugin bad: says: \\xe9 \\u2603; undone" in log(node, "one").check().out


def test_no_payload(node, runc, scene):
    bundle = scene.bundle()
    runc.install(node, bundle)
    node.configure(node.plugin("plain"))
    runc.create("one", bundle).check()
    done = log(node, "--payload", "one")
    assert done.status == 1 and done.out == ""
    assert done.err.startswith("nri-hook log: no payload is kept, expected a create that failed")
    runc.delete("one").check()


@pytest.fixture
def three(node, runc, scene):
    """Containers whose ids begin alike."""
    node.configure(node.plugin("plain"))
    for id in ("abc1", "abc2", "abc"):
        bundle = scene.bundle()
        runc.install(node, bundle)
        runc.create(id, bundle).check()
        runc.delete(id).check()


def shown(done):
    return [line.split()[2] for line in done.check().out.splitlines() if line[0] != " "]


def test_of_all_containers(node, three):
    """The last at the end."""
    assert shown(log(node)) == [id for id in ("abc1", "abc2", "abc") for _ in range(2)]
    found = [entry["container"] for entry in json.loads(log(node, "--json").check().out)]
    assert found == shown(log(node))


def test_the_beginning_of_an_id(node, three):
    assert shown(log(node, "abc1")) == ["abc1"] * 2
    assert shown(log(node, "abc")) == ["abc"] * 2
    done = log(node, "ab")
    assert done.status == 1
    assert done.err == "nri-hook log: container ab: several begin so: abc, abc1, abc2\n"
    done = log(node, "x\n")
    assert (done.status, done.err) == (1, "nri-hook log: container x\\n: nothing is known of it\n")


def test_many(node):
    """The last twenty, of the logs that were written last."""
    os.mkdir(node.state_dir, 0o700)
    for number in range(60):
        entry = {
            **{"time": 1e9 + number, "stage": "createRuntime", "container": f"c{number}"},
            **{"from": "/a", "to": "", "outcome": "stays", "message": "", "notes": []},
            "calls": [],
        }
        path = f"{node.state_dir}/c{number}-01234567.log"
        with open(path, "w") as file:
            file.write(json.dumps(entry) + "\n")
        os.utime(path, (0, 1e9 + number))
    assert shown(log(node)) == [f"c{number}" for number in range(40, 60)]


def test_no_logs_at_all(node):
    """Nothing is made to look for them."""
    assert log(node).check().text == ""
    assert log(node, "--json").check().out == "[]\n"
    assert log(node, "one").status == log(node, "--payload").status == 1
    assert not os.path.exists(node.state_dir)


@pytest.mark.hostonly
def test_on_a_terminal(scene, node, runc):
    pytest.importorskip("rich")
    bundle = scene.bundle()
    runc.install(node, bundle)
    unit(node, scene)
    runc.create("one", bundle).refused()
    argv = [sys.executable, "-m", "nri_hook", "log", "--state-dir", node.state_dir, "one"]
    done = on_terminal(argv, PYTHONPATH=TOP).check()
    lines = COLOUR.sub("", done.out).splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b[1;31m" in done.out
    text = " ".join(line.strip() for line in lines)
    assert MISTAKES[unit][1] in text and "has systemd's form, expected a path" in text


def test_a_log_is_for_nobody_else(node, three):
    for name in node.logs():
        assert os.stat(f"{node.state_dir}/{name}").st_mode & 0o777 == 0o600
    assert read(f"{node.state_dir}/{name}").count("\n") == 2
