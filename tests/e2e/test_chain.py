"""The chain around a real container: who is called, with what, in which order, for how long."""

import os
import time

import pytest
from support import cgroups
from support.node import command

pytestmark = pytest.mark.hostonly


class Chain:
    """A node, a runtime and a bundle; create() and delete() of one container, "one"."""

    def __init__(self, scene, node, runtime):
        self.scene = scene
        self.node = node
        self.runtime = runtime
        self.bundle = scene.bundle()
        self.start = self.bundle.cgroups_path
        runtime.install(node, self.bundle)

    def create(self, *entries, id="one"):
        self.node.configure(*entries)
        return self.runtime.create(id, self.bundle)

    def delete(self, id="one"):
        self.runtime.delete(id).check()

    def place(self, id="one"):
        """Where it is, in all hierarchies of the runtime."""
        now = cgroups.membership(self.runtime.pid(id))
        (place,) = {now[hierarchy] for hierarchy in self.runtime.hierarchies()}
        return place

    def to(self, name):
        """What a plugin says that sends it there."""
        return {"create": {"result": {"cgroupsPath": f"{self.scene.cgroup}/{name}"}}}


@pytest.fixture
def chain(scene, node, runc):
    return Chain(scene, node, runc)


def spec(plugin, state):
    return plugin.call(state)["payload"]["spec"]


def test_each_sees_the_results_before(node, chain):
    answers = {
        "empty": {},
        "go": {"plugin": "other", "version": "0.1", "error": "", "metadata": {"a": "b"}},
        "readme": {"version": "0.1", "state": "create", "id": "one", "cgroupsPath": ""},
        "nulls": {"plugin": None, "version": None, "error": None, "pid": None, "metadata": None},
        "more": {"unknown": [1], "version": ""},
    }
    plugins = [node.plugin(type, {"create": {"result": r}}) for type, r in answers.items()]
    chain.create(*plugins).check()
    expected = [
        {"plugin": "empty", "version": "0.1"},
        answers["go"],
        {**answers["readme"], "plugin": "readme"},
        {"plugin": "nulls", "version": "0.1"},
        {"plugin": "more", "version": "0.1", "unknown": [1]},
    ]
    for number, plugin in enumerate(plugins):
        assert plugin.call("create")["payload"]["results"] == expected[:number]
    chain.delete()
    for plugin in plugins:
        assert plugin.call("delete")["payload"]["results"] == expected
    assert node.calls() == [
        *((type, "create") for type in answers),
        *((type, "delete") for type in reversed(answers)),
    ]


def test_the_last_cgroups_path_wins(scene, node, chain):
    plugins = [
        node.plugin("first", chain.to("first")),
        node.plugin("second", chain.to("second")),
        node.plugin("none", {"create": {"result": {"cgroupsPath": None}}}),
        node.plugin("empty", {"create": {"result": {"cgroupsPath": ""}}}),
    ]
    chain.create(*plugins).check()
    assert chain.place() == f"{scene.cgroup}/second"
    # It is moved once, when all have answered.
    for plugin in plugins:
        call = plugin.call("create")
        assert call["payload"]["spec"]["cgroupsPath"] == chain.start
        assert call["payload"]["spec"]["cgroups"] == call["membership"]
        assert chain.start in call["membership"].values()
    assert cgroups.places(f"{scene.cgroup}/first") == []


@pytest.mark.parametrize("answer", [None, "the same", "the same//"])
def test_it_stays_where_it_is(node, chain, answer):
    """No answer, or its own place: no move, and a delete all the same."""
    path = {None: None, "the same": chain.start, "the same//": f"/{chain.start}/"}[answer]
    plugin = node.plugin("some", {"create": {"result": {"cgroupsPath": path}}})
    chain.create(plugin).check()
    assert chain.place() == chain.start
    assert node.record()["outcome"] == "stays"
    chain.delete()
    assert spec(plugin, "delete")["cgroupsPath"] == chain.start


def test_delete_tells_where_it_really_was(scene, node, chain):
    """No process any more, so no namespaces; the place is the last one."""
    plugin = node.plugin("mover", chain.to("new"))
    chain.create(plugin).check()
    now = cgroups.membership(chain.runtime.pid("one"))
    chain.delete()
    create, delete = (plugin.call(state)["payload"] for state in ("create", "delete"))
    del create["pid"]
    assert delete == {
        **create,
        "state": "delete",
        "spec": {
            **create["spec"],
            "cgroupsPath": f"{scene.cgroup}/new",
            "cgroups": now,
            "namespaces": {},
        },
        "results": [{"plugin": "mover", "version": "0.1", "cgroupsPath": f"{scene.cgroup}/new"}],
    }


def test_delete_goes_by_what_create_saw(node, chain):
    """The configuration and the plugin directory of that time."""
    plugins = [node.plugin("a"), node.plugin("b")]
    chain.create({"type": "a", "conf": {"old": 1}}, {"type": "b", "conf": None}).check()
    new = node.plugin("new")
    node.configure({"type": "a", "conf": {"new": 2}}, new)
    chain.delete()
    assert node.calls() == [("a", "create"), ("b", "create"), ("b", "delete"), ("a", "delete")]
    assert plugins[0].call("delete")["payload"]["conf"] == {"old": 1}
    assert plugins[1].call("delete")["payload"]["conf"] is None


def test_case_does_not_count_in_the_configuration_and_in_answers(scene, node, chain):
    """As for Go's decoder, which read both before us."""
    place = {"CgroupsPath": f"{scene.cgroup}/new"}
    plugins = [node.plugin("mover", {"create": {"result": place}}), node.plugin("last")]
    path = node.configure()
    with open(path, "w") as file:
        file.write('{"Plugins": [{"Type": "mover", "Conf": {"A": 1}}, {"TYPE": "last"}]}')
    chain.runtime.create("one", chain.bundle).check()
    assert chain.place() == f"{scene.cgroup}/new"
    assert plugins[0].call("create")["payload"]["conf"] == {"A": 1}
    (result,) = plugins[1].call("create")["payload"]["results"]
    assert result["cgroupsPath"] == f"{scene.cgroup}/new" and "CgroupsPath" not in result
    chain.delete()
    assert plugins[0].call("delete")["payload"]["conf"] == {"A": 1}


def test_delete_without_a_configuration(node, chain):
    plugin = node.plugin("a")
    path = node.configure(plugin)
    chain.create(plugin).check()
    os.unlink(path)
    chain.delete()
    assert node.calls() == [("a", "create"), ("a", "delete")]


def test_delete_goes_on_past_failures(scene, node, chain, log):
    """Whatever one of them does, the others are told, and what was made is removed."""
    broken = {"create": {}, "delete": {"print": "{", "exit": 3, "stderr": "no idea"}}
    there = chain.to("new")
    plugins = [
        node.plugin("a", there),
        node.plugin("broken", broken),
        node.plugin("gone", {"create": {}}),
        node.plugin("mover", {"create": {}, "delete": there["create"]}),
    ]
    chain.create(*plugins).check()
    os.unlink(plugins[2].path)
    chain.delete()
    assert node.calls()[4:] == [("mover", "delete"), ("broken", "delete"), ("a", "delete")]
    (line,) = [line for line in log.lines("one") if "stage=poststop" in line]
    assert "plugin broken: its answer: " in line and "no idea" in line
    assert "plugin gone: not found" in line
    assert "plugin mover: its cgroupsPath is ignored" in line
    assert scene.left_cgroups() == []


FAILURES = {
    "an error": {"result": {"error": "I will not"}},
    "no answer": {"exit": 1, "print": "", "stderr": "oh dear"},
    "half an answer": {"print": '{"version": "0.1"'},
    "another id": {"result": {"id": "two"}},
    "another state": {"result": {"state": "delete"}},
    "another pid": {"result": {"pid": 1}},
    "a wrong type": {"result": {"cgroupsPath": 7}},
    "a version of a wrong type": {"result": {"version": 0.1}},
    "a signal": {"signal": 9, "print": ""},
}


@pytest.mark.parametrize("failure", FAILURES)
def test_the_first_failure_ends_it(scene, node, chain, failure):
    """Those called so far get delete, the failing one too; nothing stays."""
    script = {"create": FAILURES[failure]}
    done = chain.create(
        node.plugin("before", chain.to("new")), node.plugin("bad", script), node.plugin("after")
    )
    text = done.refused()
    assert "plugin bad: " in text and "exit status 1" in text
    assert node.calls() == [
        *(("before", "create"), ("bad", "create")),
        *(("bad", "delete"), ("before", "delete")),
    ]
    assert chain.runtime.state("one") is None
    assert scene.left_cgroups() == []
    assert node.left() == []


@pytest.mark.parametrize("failure", FAILURES)
def test_on_error_ignore_goes_on(scene, node, chain, log, failure):
    """Without its answer, though it gets delete; a line says what was wrong."""
    node.plugin("bad", {"create": FAILURES[failure]})
    after = node.plugin("after")
    before = node.plugin("before", chain.to("new"))
    chain.create(before, {"type": "bad", "onError": "ignore"}, after).check()
    assert chain.place() == f"{scene.cgroup}/new"
    results = after.call("create")["payload"]["results"]
    assert [result["plugin"] for result in results] == ["before"]
    assert [line for line in log.lines("one") if "plugin bad: " in line and "(ignored)" in line]
    chain.delete()
    assert node.calls()[3:] == [("after", "delete"), ("bad", "delete"), ("before", "delete")]


def test_on_error_ignore_covers_what_cannot_be_called(scene, node, chain):
    """Missing, writable by others, no executable: nothing of it runs, so it gets no delete."""
    os.chmod(node.plugin("writable").path, 0o777)
    os.chmod(node.plugin("plain").path, 0o644)
    entries = [{"type": t, "onError": "ignore"} for t in ("missing", "writable", "plain")]
    chain.create(*entries, node.plugin("last", chain.to("new"))).check()
    assert chain.place() == f"{scene.cgroup}/new"
    chain.delete()
    assert node.calls() == [("last", "create"), ("last", "delete")]


def test_on_error_ignore_does_not_cover_a_refused_answer(scene, node, chain):
    node.plugin("bad", {"create": {"result": {"cgroupsPath": "../../etc"}}})
    assert "'..'" in chain.create({"type": "bad", "onError": "ignore"}).refused()
    assert node.calls() == [("bad", "create"), ("bad", "delete")]
    assert node.left() == []


def test_a_refused_move_sends_delete_to_all(scene, node, chain):
    """In reverse order, with all results; the place is where it was all the time."""
    plugins = [
        node.plugin("a"),
        node.plugin("b", {"create": {"result": {"cgroupsPath": "/"}}}),
        node.plugin("c"),
    ]
    assert "plugin b: " in chain.create(*plugins).refused()
    names = ["a", "b", "c"]
    assert node.calls() == [
        *((name, "create") for name in names),
        *((name, "delete") for name in reversed(names)),
    ]
    for plugin in plugins:
        assert spec(plugin, "delete")["cgroupsPath"] == chain.start
        results = plugin.call("delete")["payload"]["results"]
        assert [result["plugin"] for result in results] == names


def test_exit_status_does_not_count_beside_a_good_answer(scene, node, chain, log):
    """As in the Go client; it is logged."""
    script = chain.to("new")
    script["create"]["exit"] = 4
    chain.create(node.plugin("odd", script)).check()
    assert chain.place() == f"{scene.cgroup}/new"
    assert [line for line in log.lines("one") if "plugin odd: a good answer, exit status 4" in line]


def test_one_type_twice(scene, node, chain):
    """Two entries, each with its own conf, two calls."""
    plugin = node.plugin("twin", chain.to("new"))
    chain.create({"type": "twin", "conf": 1}, {"type": "twin", "conf": 2}).check()
    chain.delete()
    for state, order in (("create", [1, 2]), ("delete", [2, 1])):
        assert [call["payload"]["conf"] for call in plugin.calls(state)] == order
    assert len(plugin.calls("delete")[0]["payload"]["results"]) == 2


def test_one_type_twice_the_second_fails(node, chain):
    """The one plugin gets delete for each of its calls."""
    code = "if payload['conf'] == 2 and payload['state'] == 'create': os._exit(1)"
    plugin = node.plugin("twin", {"*": {"python": code}})
    chain.create({"type": "twin", "conf": 1}, {"type": "twin", "conf": 2}).refused()
    assert [call["payload"]["conf"] for call in plugin.calls("delete")] == [2, 1]


def test_no_configuration_is_nothing_to_do(node, chain):
    chain.runtime.create("one", chain.bundle).check()
    assert chain.place() == chain.start
    chain.delete()
    assert node.left() == []


def test_an_empty_chain_is_nothing_to_do(node, chain):
    chain.create().check()
    assert node.left() == []


def test_drop_ins_are_joined_in_order(node, chain):
    """Instead of conf.json, and nothing that does not end in .conf."""
    for type in "abcd":
        node.plugin(type)
    node.configure("a", file="resource.d/20-late.conf")
    node.configure("b", "c", file="resource.d/10-early.conf")
    node.configure("d", file="resource.d/30.conf.bak")
    chain.create("d").check()
    assert [type for type, _ in node.calls()] == ["b", "c", "a"]


# Time: a plugin's own, and the chain's.


def test_a_late_plugin_is_killed(scene, node, chain):
    """After its own timeout; its delete has a second."""
    late = node.plugin("late", {"*": {"sleep": 60}})
    node.plugin("before")
    begin = time.monotonic()
    text = chain.create("before", {"type": "late", "timeout": 0.5}).refused()
    assert time.monotonic() - begin < 8
    assert "plugin late: " in text and "killed: no answer within 0.5 s" in text
    assert node.calls()[1:] == [("late", "create"), ("late", "delete"), ("before", "delete")]
    assert late.calls("delete")[0]["begin"] - late.calls("create")[0]["begin"] < 3e9


def test_a_late_plugin_can_be_ignored(scene, node, chain):
    node.plugin("late", {"create": {"sleep": 60}})
    last = node.plugin("last", chain.to("new"))
    chain.create({"type": "late", "timeout": 0.5, "onError": "ignore"}, last).check()
    assert chain.place() == f"{scene.cgroup}/new"
    chain.delete()
    assert ("late", "delete") in node.calls()


def test_the_chain_has_a_deadline(scene, runc):
    """For all of them together, whatever their own timeouts say; who comes after is not called."""
    node = scene.node(flags=["--timeout", "1.5"])
    chain = Chain(scene, node, runc)
    node.plugin("quick", {"create": {"sleep": 0.5}})
    node.plugin("slow", {"create": {"sleep": 60}})
    node.plugin("never")
    begin = time.monotonic()
    text = chain.create("quick", {"type": "slow", "timeout": 30}, "never").refused()
    assert time.monotonic() - begin < 8
    assert "plugin slow: " in text and "killed" in text
    assert node.calls() == [
        *(("quick", "create"), ("slow", "create")),
        *(("slow", "delete"), ("quick", "delete")),
    ]


def test_the_deletes_share_what_is_left_after_a_failure(scene, runc):
    """Eight seconds for all, so that the hook ends before the runtime kills it."""
    node = scene.node(flags=["--timeout", "1"])
    chain = Chain(scene, node, runc)
    for type in ("a", "b", "c"):
        node.plugin(type, {"create": {}, "delete": {"sleep": 5}})
    node.plugin("bad", {"create": {"exit": 1, "print": ""}})
    begin = time.monotonic()
    chain.create("a", "b", "c", "bad").refused()
    assert 7 < time.monotonic() - begin < 11
    assert node.calls()[4:7] == [("bad", "delete"), ("c", "delete"), ("b", "delete")]
    assert node.left() == []


# poststop, more often than once, or without what it goes by.


def state(chain, **more):
    return {
        "ociVersion": "1.0.2",
        "id": "one",
        "status": "stopped",
        "bundle": chain.bundle.directory,
        **more,
    }


def test_poststop_twice(node, chain):
    chain.create(node.plugin("mover", chain.to("new"))).check()
    chain.delete()
    for pid in ({}, {"pid": 0}):
        done = node.hook("poststop", state(chain, **pid))
        assert (done.status, done.text) == (0, "")
    assert node.calls() == [("mover", "create"), ("mover", "delete")]


def test_poststop_of_an_unknown_container(node, chain):
    done = node.hook("poststop", {**state(chain), "id": "nobody"})
    assert (done.status, done.text) == (0, "")


def test_poststop_without_the_record(scene, node, chain):
    """Nobody knows what the move made, and where from, but by marks; nothing fails."""
    chain.create(node.plugin("mover", chain.to("new"))).check()
    for name in node.left():
        os.unlink(f"{node.state_dir}/{name}")
    chain.delete()
    assert node.calls() == [("mover", "create")]
    assert cgroups.places(f"{scene.cgroup}/new") == []
    command("gc", "--state-dir", node.state_dir).check()
    assert scene.left_cgroups() == []


def test_delete_after_a_failed_create(node, chain):
    """runc calls poststop then; the plugins have had their delete already."""
    chain.create(node.plugin("bad", {"create": {"result": {"error": "no"}}})).refused()
    chain.runtime.delete("one")
    assert node.hook("poststop", state(chain)).status == 0
    assert node.calls() == [("bad", "create"), ("bad", "delete")]


def test_the_same_id_again(scene, node, chain):
    """A container that was deleted has left nothing in the way of the next of its name."""
    plugin = node.plugin("mover", chain.to("new"))
    for _ in range(2):
        chain.create(plugin).check()
        assert chain.place() == f"{scene.cgroup}/new"
        chain.delete()
    assert [state for _, state in node.calls()] == ["create", "delete"] * 2


def test_a_hook_that_is_registered_twice(scene, node, chain, log):
    """The second one leaves alone what the first has done."""
    plugin = node.plugin("mover", chain.to("new"))
    for hooks in chain.bundle.config["hooks"].values():
        hooks += hooks
    chain.bundle.save()
    chain.create(plugin).check()
    assert chain.place() == f"{scene.cgroup}/new"
    assert any("the hook is registered twice" in line for line in log.lines("one"))
    chain.delete()
    assert node.calls() == [("mover", "create"), ("mover", "delete")]


# How a plugin is called.


def test_a_plugin_s_process(scene, node, oci):
    """Whatever the runtime does to its hooks: crun blocks all signals and clears the umask."""
    chain = Chain(scene, node, oci)
    plugin = node.plugin("some")
    for hooks in chain.bundle.config["hooks"].values():
        names = ("LD_AUDIT", "LD_PRELOAD", "PYTHONPATH", "PYTHONHASHSEED", "BASH_ENV", "LDX", "X")
        hooks[0]["env"] += [f"{name}=" for name in names]
    chain.bundle.save()
    chain.create(plugin).check()
    chain.delete()
    for call in plugin.calls():
        assert call["argv"] == [plugin.path, "invoke"]
        assert call["cwd"] == "/"
        assert call["umask"] == 0o022
        assert set(call["fds"]) == {"0", "1", "2"}
        assert all(target.startswith("pipe:") for target in call["fds"].values())
        assert (call["blocked"], call["ignored"]) == (0, 0)
        assert call["session"] == call["pid"]
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        assert call["environment"] == {"PATH": path, "LDX": "", "X": ""}


def test_a_plugin_has_a_path_without_an_environment(scene, node, chain):
    plugin = node.plugin("some")
    for hooks in chain.bundle.config["hooks"].values():
        hooks[0]["env"] = []
    chain.bundle.save()
    chain.create(plugin).check()
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert plugin.call("create")["environment"] == {"PATH": path}
