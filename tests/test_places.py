"""The names of places: what an answer means for a container, before any folder is touched."""

import pytest

from nri_hook.cgroups import places
from nri_hook.errors import Left, Refused

PATHS = ("/kubepods/pod1/x", "default/redis", "redis", "/redis")
UNITS = (":runc:redis", "system.slice:runc:redis", "qos.slice::redis")


def refused(answer, own):
    """The reason why the answer is refused, without its beginning."""
    with pytest.raises(Refused) as caught:
        places.normal(answer, own)
    reason = str(caught.value)
    assert reason.startswith("cgroupsPath ")
    assert "\n" not in reason and len(reason) < 4000
    return reason


def test_the_two_forms():
    for unit in (*UNITS, "::", "a:b:c", "::name"):
        assert places.is_unit(unit), unit
    for path in (*PATHS, "", "a", "a:b", "a:b:c:d", "/a:b:c", "a/b:c:d", "a.slice"):
        assert not places.is_unit(path), path


@pytest.mark.parametrize(
    ("answer", "own", "place"),
    [
        ("/qos/x", "/default/x", "/qos/x"),
        ("qos/x", "/default/x", "/qos/x"),
        ("/qos/x", "default/x", "/qos/x"),
        ("qos/x", "default/x", "qos/x"),
        ("//qos///x//", "/default/x", "/qos/x"),
        ("x", "/y", "/x"),
        ("qos/a:b", "x", "qos/a:b"),
        ("a b/é/...", "x", "a b/é/..."),
        ("/default/x/y", "/default/x", "/default/x/y"),
    ],
)
def test_an_absolute_answer_stays_absolute(answer, own, place):
    assert places.normal(answer, own) == place
    assert places.leaves_base(place, own) == (answer[0] == "/" != own[0])


@pytest.mark.parametrize("own", PATHS)
def test_the_present_place_is_no_move(own):
    bare = own.strip("/")
    same = [own, bare.replace("/", "//") + "/", bare]
    if own.startswith("/"):
        same += [f"//{bare}/"]
    for answer in same:
        assert places.normal(answer, own) is None
    # Only the kernel can tell what a relative path is below.
    assert places.normal(f"/{bare}", own) == (None if own.startswith("/") else f"/{bare}")
    assert places.normal(f"{bare}2", own) is not None
    assert places.normal(f"x/{bare}", own) is not None


@pytest.mark.parametrize("own", [*UNITS, *PATHS])
def test_the_other_form_is_refused(own):
    other = "default/redis" if places.is_unit(own) else "system.slice:runc:redis"
    reason = refused(other, own)
    assert f"expected {'slice:prefix:name' if places.is_unit(own) else 'a path'}" in reason
    assert repr(own) in reason


def test_the_root_and_empty_names_are_refused():
    for answer in ("/", "//", "///"):
        assert "names the root" in refused(answer, "/x")
    for answer in ("a.slice:runc:", "::", ":runc:"):
        assert "names the root" in refused(answer, ":runc:x")


def test_what_leads_elsewhere_is_refused():
    for answer in ("..", "../x", "/../../etc", "a/../b", "a/..", ".", "./x", "a/./b", "a/."):
        assert "expected names only" in refused(answer, "/x")
    for answer in ("..:runc:x", "a.slice:..:x", "a.slice:runc:..", "a.slice:.:x"):
        assert "expected names only" in refused(answer, ":runc:x")


def test_names_that_no_line_can_hold():
    for name in ("a\n", "\x00", "a\x1b[31m", "\ud800", "\u200b", "\t", "\u2028", "\x7f"):
        assert "a name must be printable" in refused(f"/qos/{name}", "/x")
        assert "a name must be printable" in refused(f"a.slice:runc:{name}", ":runc:x")


def test_length():
    longest = "x" * places.MAX_NAME
    assert places.normal(f"/{longest}/x", "/y") == f"/{longest}/x"
    assert "at most 255 bytes" in refused(f"/{longest}x", "/y")
    assert "at most 255 bytes" in refused("/" + "é" * 128, "/y")
    path = ("/" + "x" * 99) * 30
    assert places.normal(path, "/y") == path
    assert "longer than 3000 characters" in refused(path + "/", "/y")
    assert "longer than 3000 characters" in refused(f"a.slice:runc:{'x' * 3000}", ":runc:x")


def test_a_unit_is_taken_as_it_is():
    for answer in ("qos.slice:runc:redis", "a-b.slice:crio:x", ":runc:other", "qos.slice::x"):
        assert places.normal(answer, ":runc:redis") == answer


def test_the_present_unit_is_no_move():
    for own in UNITS:
        assert places.normal(own, own) is None


def test_the_default_slice_may_be_left_out_or_not():
    """runc, docs/systemd.md: no slice means system.slice. Both name the present scope."""
    assert places.normal("system.slice:runc:redis", ":runc:redis") is None
    assert places.normal(":runc:redis", "system.slice:runc:redis") is None
    assert places.normal("user.slice:runc:redis", ":runc:redis") is not None


# Where a container is


def own(cgroups_path, **membership):
    """hierarchy -> (base, path)."""
    found = places.own_places(cgroups_path, membership)
    for place in found:
        assert place.cgroup() == place.base + place.path == membership[place.hierarchy]
    return {place.hierarchy: (place.base, place.path) for place in found}


def test_the_base_is_what_the_runtime_put_before_the_path():
    assert own("/a/b", cpu="/a/b") == {"cpu": ("", "/a/b")}
    assert own("a/b", cpu="/a/b") == {"cpu": ("", "/a/b")}
    assert own("a/b", cpu="/user/1000/a/b") == {"cpu": ("/user/1000", "/a/b")}
    assert own("redis", cpu="/redis", memory="/ours/redis") == {
        "cpu": ("", "/redis"),
        "memory": ("/ours", "/redis"),
    }
    assert own("//a//b/", cpu="/a/b") == {"cpu": ("", "/a/b")}
    assert own("a/a", cpu="/a/a/a") == {"cpu": ("/a", "/a/a")}


def test_a_hierarchy_in_which_it_is_elsewhere_is_none_of_its_own():
    found = own("/a/b", cpu="/a/b", memory="/", pids="/a", rdma="/a/b/c", freezer="/xa/b", net="/b")
    assert found == {"cpu": ("", "/a/b")}


@pytest.mark.parametrize("path", ["/a/b", "b", "", "/", "//"])
def test_no_cgroup_of_its_own(path):
    for membership in ({}, {"": "/"}, {"": "/user.slice", "cpu": "/"}):
        with pytest.raises(Left, match="its cgroup is not its own"):
            places.own_places(path, membership)


def test_a_place_with_another_path_keeps_its_base():
    (place,) = places.own_places("a/b", {"cpu": "/base/a/b"})
    other = place.with_path("/qos/x")
    assert (other.hierarchy, other.cgroup()) == ("cpu", "/base/qos/x")
    assert place.cgroup() == "/base/a/b"


def test_the_default_is_the_id_or_a_scope():
    assert places.default_path("redis", {"cpu": "/redis", "": "/user/redis"}) == "redis"
    assert places.default_path("redis", {}) == "redis"
    for prefix in ("runc", "crun"):
        for inner in ("", "/container"):
            membership = {"": f"/system.slice/{prefix}-redis.scope{inner}"}
            assert places.default_path("redis", membership) == f":{prefix}:redis"
    assert places.default_path("red", {"": "/system.slice/runc-redis.scope"}) == "red"
    assert places.default_path("redis", {"": "/system.slice/libpod-redis.scope"}) == "redis"


def test_whether_it_is_in_a_scope():
    scope = {"": "/system.slice/runc-redis.scope"}
    assert places.in_scope(":runc:redis", scope)
    assert places.in_scope("a.slice:crun:x", {"": "/a.slice/crun-x.scope/container"})
    # runc without --systemd-cgroup takes such a cgroupsPath for the name of a folder.
    assert not places.in_scope(":runc:redis", {"": "/:runc:redis"})
    assert not places.in_scope("a/redis", scope)
