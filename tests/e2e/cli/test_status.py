"""`nri-hook status`: real containers as their records and /proc say that they are."""

import json
import os
import re
import resource
import subprocess
import sys
import time

import pytest
from support import cgroups
from support.commands import read, run
from support.node import command
from support.terminal import on_terminal
from support.tree import TOP
from support.waiting import wait_until

pytestmark = pytest.mark.once
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
HEADS = ["ID", "RUNTIME", "PLUGINS", "FROM", "TO", "OUTCOME", "SINCE", "ALIVE", "DRIFT"]
ENGINE_ID = "4f2a9c01be77" + "0123456789abcdef" * 3 + "beef"
# Seconds of CPU time that so many records may take on whatever machine; here they take 1.2.
RECORDS, SECONDS = 10000, 6
# Bytes that each CPU has charged in advance, and that the kernel settles when it likes
# (MEMCG_CHARGE_BATCH, include/linux/memcontrol.h).
CHARGED = 64 * resource.getpagesize()


class Place:
    """A node whose plugin sends each container to `target`/ID."""

    def __init__(self, scene, node, runtime):
        self.scene, self.node, self.runtime = scene, node, runtime
        self.target = f"{scene.cgroup}/target"
        self.sources = {}
        self.plugin = node.plugin("mover", {"*": {"python": "pass"}})
        self.node.configure(node.plugin("plain"), self.plugin)

    def create(self, id, moved=True):
        answer = {"cgroupsPath": f"{self.target}/{id}"} if moved else {}
        self.plugin.play({"create": {"result": answer}})
        bundle = self.scene.bundle(("sleep", "1000"))  # so that counts stay what they are
        self.sources[id] = bundle.cgroups_path
        self.runtime.install(self.node, bundle)
        self.runtime.create(id, bundle).check()
        return self.runtime.pid(id)

    def status(self, *args):
        """What status says where the runtime's cgroups are seen as the hook has seen them."""
        argv = [sys.executable, "-m", "nri_hook", "status", "--state-dir", self.node.state_dir]
        environment = {**os.environ, "PYTHONPATH": TOP}
        out = f"{self.runtime.directory}/status"
        return run([*self.runtime.prefix, *argv, *args], out, cwd="/", env=environment)

    def rows(self):
        """Id -> its row of the table, as a dict."""
        heads, *rows = (line.split() for line in self.status().check().out.splitlines())
        assert heads == HEADS
        return {row[0]: dict(zip(heads, row)) for row in rows}

    def document(self, id):
        (found,) = json.loads(self.status("--json", id).check().out)
        return found


@pytest.fixture
def place(scene, node, oci):
    return Place(scene, node, oci)


@pytest.fixture
def runc_place(scene, node, runc):
    return Place(scene, node, runc)


def test_a_table(place):
    begin = time.time()
    place.create("moved")
    place.create("stays", moved=False)
    place.create("gone")
    place.runtime.kill("gone").check()
    wait_until(lambda: place.rows()["gone"]["ALIVE"] == "no")
    place.runtime.start("stays").check()
    rows = place.rows()
    assert list(rows) == ["moved", "stays", "gone"]
    since = rows["moved"].pop("SINCE")
    assert begin - 2 < time.mktime(time.strptime(since, "%Y-%m-%dT%H:%M:%S")) <= time.time()
    assert rows["moved"] == {
        **{"ID": "moved", "RUNTIME": place.runtime.binary, "PLUGINS": "plain,mover"},
        **{"FROM": place.sources["moved"], "TO": f"{place.target}/moved"},
        **{"ALIVE": "yes", "DRIFT": "-"},
        "OUTCOME": place.node.records()[record(place.node, "moved")]["outcome"],
    }
    assert [rows["stays"][head] for head in ("TO", "OUTCOME", "ALIVE")] == ["-", "stays", "yes"]
    for id in rows:
        place.runtime.delete(id)
    assert place.rows() == {}


def record(node, id):
    (name,) = [name for name in node.records() if name.startswith(f"{id}-")]
    return name


def test_one_that_has_drifted(scene, place):
    """Somebody has moved it on, in one hierarchy: its name, where we put it, where it is."""
    pid = place.create("one")
    assert place.rows()["one"]["DRIFT"] == "-"
    hierarchy = next(iter(place.runtime.hierarchies()))
    elsewhere = f"{scene.cgroup}-elsewhere"
    (directory,) = scene.parent(elsewhere, [hierarchy])
    cgroups.write(f"{directory}/cgroup.procs", pid)
    assert place.rows()["one"]["DRIFT"] == elsewhere
    expected = {"expected": f"{place.target}/one", "found": elsewhere}
    assert place.document("one")["drift"] == {hierarchy: expected}
    full = place.status("one").check().out
    assert re.search(rf"(?m)^DRIFT {hierarchy or 'v2'} +{elsewhere}$", full)
    place.runtime.delete("one")


def test_in_a_cgroup_of_its_own_below_it_has_not_drifted(place):
    """As where systemd is what runs in the container."""
    pid = place.create("one")
    made = cgroups.make(f"{place.target}/one/init.scope", place.runtime.hierarchies())
    for directory in made:
        cgroups.write(f"{directory}/cgroup.procs", pid)
    assert place.rows()["one"]["DRIFT"] == "-"
    place.runtime.delete("one")


def test_one_in_full(place):
    pid = place.create("one")
    text = place.status("one").check().out
    found = dict(re.split("  +", line, maxsplit=1) for line in text.splitlines())
    assert found["id"] == "one"
    assert found["runtime"] == f"{place.runtime.binary}, {place.runtime.root}"
    assert found["pid"] == str(pid) and found["state"] == "alive"
    assert found["plugins"] == "plain, mover"
    assert (found["from"], found["to"]) == (place.sources["one"], f"{place.target}/one")
    assert json.loads(open(found["record"]).readline())["id"] == "one"
    assert '"stage":"createRuntime"' in open(found["log"]).read()
    for hierarchy in place.runtime.hierarchies():
        assert found[f"cgroup {hierarchy or 'v2'}"] == f"{place.target}/one"
    document = place.document("one")
    assert document["cgroups"] == cgroups.membership(pid)
    assert (document["pid"], document["alive"], document["drift"]) == (pid, True, {})
    again = place.status("o").check().out
    assert [re.sub(r", \d+ s$", "", line) for line in again.splitlines()] == [
        re.sub(r", \d+ s$", "", line) for line in text.splitlines()
    ]
    assert place.status("x").err == "nri-hook status: container x: nothing is known of it\n"
    place.runtime.delete("one")


def test_one_that_is_left(scene, node, runc_place):
    """The hook's parent is no runtime."""
    node.install()
    init = scene.sleeper()
    bundle = scene.bundle()
    runc_place.plugin.play({"create": {"result": {"cgroupsPath": f"{scene.cgroup}/x"}}})
    state = {"id": "one", "pid": init.pid, "bundle": bundle.directory}
    node.hook("createRuntime", state).check()
    row = runc_place.rows()["one"]
    assert [row[head] for head in ("RUNTIME", "TO", "OUTCOME", "ALIVE")] == [
        "-",
        "-",
        "left",
        "yes",
    ]
    assert "the hook's parent is not runc or crun" in runc_place.status("one").check().out
    init.kill()
    init.wait()
    assert runc_place.rows()["one"]["ALIVE"] == "no"
    node.hook("poststop", state).check()


def test_one_that_was_placed_before_it_was_there(scene, node, runc_place):
    """By precreate: the way is from what podman asked for."""
    node.install()
    id = "ab" * 32
    source, target = f"{scene.cgroup}-a/libpod-{id}", f"{scene.cgroup}-b/libpod-{id}"
    runc_place.plugin.play({"setup": {"result": {"cgroupsPath": target}}})
    config = json.loads(node.hook("precreate", {"linux": {"cgroupsPath": source}}).check().out)
    assert config["linux"]["cgroupsPath"] == target
    row = runc_place.rows()[id]
    assert [row[head] for head in ("FROM", "TO", "ALIVE")] == [source, target, "no"]

    bundle = scene.bundle(cgroups_path=target)
    init = scene.sleeper()
    state = {"id": id, "pid": init.pid, "bundle": bundle.directory}
    node.hook("createRuntime", state).check()
    row = runc_place.rows()[id]
    assert [row[head] for head in ("FROM", "TO", "ALIVE")] == [source, target, "yes"]
    init.kill()
    init.wait()
    node.hook("poststop", state).check()


def test_names_that_others_have_chosen_forge_no_column(scene, runc_place):
    """Of a cgroup, which its container's author asks for, and of a process."""
    name = "x  stays  2026-01-01T00:00:00  no  - 7 sh  cpu 9.0 s"
    rename = "printf 'a  cpu 0.0 s' >/proc/self/comm; while :; do sleep 0.1; done"
    bundle = scene.bundle(("sh", "-c", rename), cgroups_path=f"{scene.cgroup} {name}")
    runc_place.plugin.play({"create": {"result": {}}})
    runc_place.runtime.install(runc_place.node, bundle)
    runc_place.runtime.run("one", bundle).check()
    (row,) = runc_place.rows().values()
    assert row["FROM"] == f'"{bundle.cgroups_path}"'.replace(" ", r"\x20")
    assert [row[head] for head in ("OUTCOME", "ALIVE", "DRIFT")] == ["stays", "yes", "-"]
    pid = runc_place.runtime.pid("one")
    wait_until(lambda: read(f"/proc/{pid}/comm").startswith("a  cpu"))
    lines = runc_place.status("--tree").check().out.splitlines()
    assert lines[1].split()[0] == f'"{bundle.cgroups_path[1:]}"'.replace(" ", r"\x20")
    assert any(line.split()[:2] == [str(pid), r'"a\x20\x20cpu\x200.0\x20s"'] for line in lines)
    runc_place.runtime.delete("one")


# The tree


def test_a_tree(place):
    """Two containers below one parent, one beside them: what the cgroups' own files say."""
    pids = {id: place.create(id) for id in ("one", "two")}
    pids["three"] = place.create("three", moved=False)
    for id in pids:
        place.runtime.start(id).check()
    root = json.loads(place.status("--tree", "--json").check().out)
    nodes = dict(walk(root))
    for id, pid in pids.items():
        path = f"{place.target}/{id}" if id != "three" else place.sources[id]
        node = nodes[path]
        assert node["containers"] == [id]
        assert pid in [process["pid"] for process in node["processes"]]
        assert 0 < node["memory"] < 1 << 30 and node["pids"] >= 1
        if cgroups.pure_v2():  # in some guests so little is less than a tick
            lines = cgroups.read(f"/sys/fs/cgroup{path}/cpu.stat").splitlines()
            assert 0 <= node["cpu"] <= int(dict(map(str.split, lines))["usage_usec"]) / 1e6
        else:
            assert node["cpu"] > 0
    parent = nodes[place.target]
    assert parent["containers"] == []
    assert parent["pids"] == nodes[f"{place.target}/one"]["pids"] * 2
    assert parent["cpu"] >= nodes[f"{place.target}/one"]["cpu"]

    text = place.status("--tree").check().out
    lines = text.splitlines()
    assert lines[0] == "/"
    (line,) = [line for line in lines if line.lstrip().startswith("target  cpu ")]
    assert re.fullmatch(r" {4}target  cpu [\d.]+ s, memory [\d.]+ [KM]iB, pids \d+", line)
    assert "        container one (alive)" in lines
    (line,) = [line for line in lines if line.lstrip().startswith(f"{pids['one']} ")]
    assert re.fullmatch(r" {8}\d+ \w+  cpu [\d.]+ s, memory [\d.]+ [KM]iB", line)
    only = json.loads(place.status("--tree", "--json", "two").check().out)
    assert [id for _, node in walk(only) for id in node["containers"]] == ["two"]
    for id in pids:
        place.runtime.delete(id)


def walk(node):
    yield node["cgroup"], node
    for inner in node["below"]:
        yield from walk(inner)


@pytest.mark.hostonly
def test_usage_is_what_the_files_say(runc_place):
    """v1: memory, cpuacct and pids are three hierarchies."""
    pid = runc_place.create("one")
    root = json.loads(runc_place.status("--tree", "--json").check().out)
    node = dict(walk(root))[f"{runc_place.target}/one"]
    memory = int(cgroups.value(pid, "memory.usage_in_bytes", "memory.current"))
    assert node["memory"] == pytest.approx(memory, abs=CHARGED * os.cpu_count())
    assert node["pids"] == int(cgroups.value(pid, "pids.current"))
    assert node["cpu"] == pytest.approx(int(cgroups.value(pid, "cpuacct.usage")) / 1e9, abs=0.05)
    runc_place.runtime.delete("one")


# On a terminal


def on_80(node, *args):
    pytest.importorskip("rich")
    argv = [sys.executable, "-m", "nri_hook", "status", "--state-dir", node.state_dir, *args]
    done = on_terminal(argv, PYTHONPATH=TOP).check()
    assert done.err == ""
    lines = [line.rstrip() for line in COLOUR.sub("", done.out).splitlines()]
    assert max(map(len, lines)) <= 80
    return lines


@pytest.mark.hostonly
def test_on_a_terminal(runc_place):
    """Ids of engines are cut, everything else is there, folded in its own column."""
    runc_place.create(ENGINE_ID)
    heads, rule, *rows = on_80(runc_place.node)
    assert heads.split() == ["ID", "RUNTIME", "PLUGINS", "PLACE", "SINCE", "STATE"]
    assert rows[0].split()[:2] == [ENGINE_ID[:12], "runc"]
    assert rows[0].endswith("alive")
    begin, end = heads.index("PLACE"), heads.index("SINCE")
    folded = "".join(row[begin:end].strip() for row in rows)
    target = f"{runc_place.target}/{ENGINE_ID[:12]}"
    assert folded.replace(" ", "") == f"{runc_place.sources[ENGINE_ID]}->{target}"
    assert set(rule) <= {"─", " "}

    lines = on_80(runc_place.node, ENGINE_ID[:4])
    values = [line[len("plugins  ") :].strip() for line in lines]
    assert lines[0].startswith("id ") and "".join(values[:2]) == ENGINE_ID
    lines = on_80(runc_place.node, "--tree")
    assert any(f"└── container {ENGINE_ID[:12]} (alive)" in line for line in lines) or any(
        f"├── container {ENGINE_ID[:12]} (alive)" in line for line in lines
    )
    runc_place.runtime.delete(ENGINE_ID)


# Many, none, bad ones


def test_nothing(node):
    """Where nri-hook never ran; no directory is made."""
    assert command("status", "--state-dir", node.state_dir).check().out.split() == HEADS
    assert command("status", "--state-dir", node.state_dir, "--json").check().out == "[]\n"
    assert command("status", "--state-dir", node.state_dir, "--tree").check().out == "/\n"
    assert not os.path.exists(node.state_dir)


def test_a_bad_record_does_not_hide_the_others(node, runc_place):
    """A line for each on stderr, and status 1."""
    runc_place.create("one")
    for name, text in {"a-00000000": "{", "z-00000000": '{"id": "z"}'}.items():
        with open(f"{node.state_dir}/{name}.json", "w") as file:
            file.write(text)
    done = runc_place.status()
    assert done.status == 1
    assert [line.split()[0] for line in done.out.splitlines()] == ["ID", "one"]
    assert re.findall("^nri-hook status: (.*?): .", done.err, re.M) == ["a-00000000", "z-00000000"]
    assert done.err.count("\n") == 2
    for name in ("a-00000000", "z-00000000"):
        os.unlink(f"{node.state_dir}/{name}.json")
    runc_place.runtime.delete("one")


def test_a_hook_that_is_at_work_or_was_killed(node):
    """There is nothing to say yet of a record that is not written."""
    os.mkdir(node.state_dir, 0o700)
    open(f"{node.state_dir}/one-01234567.lock", "w").close()
    assert command("status", "--state-dir", node.state_dir).check().text.split() == HEADS
    os.unlink(f"{node.state_dir}/one-01234567.lock")


@pytest.fixture
def many(node, runc_place):
    """The record of a real container, and as many copies of it under other names; each copy has
    its log."""
    runc_place.create("one")
    name = record(node, "one")
    with open(f"{node.state_dir}/{name}") as file:
        text = file.read()
    for number in range(RECORDS):
        path = f"{node.state_dir}/c{number}-01234567"
        with open(f"{path}.json", "w") as file:
            file.write(text.replace('"id":"one"', f'"id":"c{number}"'))
        with open(f"{path}.log", "w") as file:
            file.write("{}\n")
    yield runc_place
    for number in range(RECORDS):
        os.unlink(f"{node.state_dir}/c{number}-01234567.json")
    runc_place.runtime.delete("one")


@pytest.mark.hostonly
def test_ten_thousand(many, record_property):
    """In CPU time, which other tests at the same time do not change as much."""
    for flags in ((), ("--json",), ("c9999",)):
        begin = cpu_time()
        done = many.status(*flags).check()
        seconds = cpu_time() - begin
        record_property(f"CPU seconds of status {' '.join(flags)}", round(seconds, 2))
        assert seconds < SECONDS
        if not flags:
            assert done.out.count("\n") == RECORDS + 2
            assert done.out.count(" yes ") == RECORDS + 1
    # On a terminal nobody waits either, and whoever has seen enough may go.
    argv = [sys.executable, "-m", "nri_hook", "status", "--state-dir", many.node.state_dir]
    begin = cpu_time()
    assert on_terminal(argv, PYTHONPATH=TOP).check().out.count("\n") == RECORDS + 2
    shell = f"{' '.join(argv)} | head -n 1"
    done = subprocess.run(
        ["sh", "-c", shell], env={**os.environ, "PYTHONPATH": TOP}, capture_output=True, text=True
    )
    assert (done.stdout.split(), done.stderr) == (HEADS, "")
    assert cpu_time() - begin < 2 * SECONDS


def cpu_time():
    """Of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
