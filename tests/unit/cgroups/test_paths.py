"""The names of places: what an answer means for a container, before any directory is touched."""

import os

import pytest

from nri_hook.cgroups import hierarchies, paths
from nri_hook.errors import Left, Refused

PATHS = ("/kubepods/pod1/x", "default/redis", "redis", "/redis")
UNITS = (":runc:redis", "system.slice:runc:redis", "qos.slice::redis")


def refused(answer, own):
    """The reason why the answer is refused, without its beginning."""
    with pytest.raises(Refused) as caught:
        paths.normal(answer, own)
    reason = str(caught.value)
    assert reason.startswith("cgroupsPath ")
    assert "\n" not in reason and len(reason) < 4000
    return reason


def test_the_two_forms():
    for unit in (*UNITS, "::", "a:b:c", "::name"):
        assert paths.is_unit(unit), unit
    for path in (*PATHS, "", "a", "a:b", "a:b:c:d", "/a:b:c", "a/b:c:d", "a.slice"):
        assert not paths.is_unit(path), path


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
    assert paths.normal(answer, own) == place
    assert paths.leaves_base(place, own) == (answer[0] == "/" != own[0])


@pytest.mark.parametrize("own", PATHS)
def test_the_present_place_is_no_move(own):
    bare = own.strip("/")
    same = [own, bare.replace("/", "//") + "/", bare]
    if own.startswith("/"):
        same += [f"//{bare}/"]
    for answer in same:
        assert paths.normal(answer, own) is None
    # Only the kernel can tell what a relative path is below.
    assert paths.normal(f"/{bare}", own) == (None if own.startswith("/") else f"/{bare}")
    assert paths.normal(f"{bare}2", own) is not None
    assert paths.normal(f"x/{bare}", own) is not None


@pytest.mark.parametrize("own", [*UNITS, *PATHS])
def test_the_other_form_is_refused(own):
    other = "default/redis" if paths.is_unit(own) else "system.slice:runc:redis"
    reason = refused(other, own)
    assert f"expected {'slice:prefix:name' if paths.is_unit(own) else 'a path'}" in reason
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


def test_its_own_path_leads_where_it_reads():
    """Nobody could tell where runc and crun, who take such parts differently, have put it."""
    for own in ("../x/libpod-1", "/../x/libpod-1", "/a/../b", "a/./b", "/a/..", "./a"):
        with pytest.raises(Refused, match="the container's own cgroupsPath .* has the part"):
            paths.normal("/qos/x", own)


def test_names_that_no_line_can_hold():
    for name in ("a\n", "\x00", "a\x1b[31m", "\ud800", "\u200b", "\t", "\u2028", "\x7f"):
        assert "a name must be printable" in refused(f"/qos/{name}", "/x")
        assert "a name must be printable" in refused(f"a.slice:runc:{name}", ":runc:x")


def test_length():
    longest = "x" * paths.MAX_NAME
    assert paths.normal(f"/{longest}/x", "/y") == f"/{longest}/x"
    assert "at most 255 bytes" in refused(f"/{longest}x", "/y")
    assert "at most 255 bytes" in refused("/" + "é" * 128, "/y")
    path = ("/" + "x" * 99) * 30
    assert paths.normal(path, "/y") == path
    assert "longer than 3000 characters" in refused(path + "/", "/y")
    assert "longer than 3000 characters" in refused(f"a.slice:runc:{'x' * 3000}", ":runc:x")


def test_a_unit_is_taken_as_it_is():
    for answer in ("qos.slice:runc:redis", "a-b.slice:crio:x", ":runc:other", "qos.slice::x"):
        assert paths.normal(answer, ":runc:redis") == answer


def test_the_present_unit_is_no_move():
    for own in UNITS:
        assert paths.normal(own, own) is None


def test_the_default_slice_may_be_left_out_or_not():
    """runc, docs/systemd.md: no slice means system.slice. Both name the present scope."""
    assert paths.normal("system.slice:runc:redis", ":runc:redis") is None
    assert paths.normal(":runc:redis", "system.slice:runc:redis") is None
    assert paths.normal("user.slice:runc:redis", ":runc:redis") is not None


# Where a container is


def own(cgroups_path, **membership):
    """hierarchy -> (base, path)."""
    found = paths.own_places(cgroups_path, membership)
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
    """It shares its runtime's, which is ours, or is elsewhere than its path says."""
    ours = hierarchies.membership(os.getpid())
    with pytest.raises(Left, match="its cgroup is not its own but that of its runtime"):
        paths.own_places(path, ours)
    for membership in ({}, {"": "/x"}, {"": "/user.slice", "cpu": "/"}, {**ours, "x": "/"}):
        with pytest.raises(Refused, match="its cgroup is not at its cgroupsPath"):
            paths.own_places(path, membership)


def test_a_place_with_another_path_keeps_its_base():
    (place,) = paths.own_places("a/b", {"cpu": "/base/a/b"})
    other = place.with_path("/qos/x")
    assert (other.hierarchy, other.cgroup()) == ("cpu", "/base/qos/x")
    assert place.cgroup() == "/base/a/b"


def test_what_crun_puts_below_the_cgroup_that_it_limits():
    def delegated(name):
        return paths.delegated({"run.oci.delegate-cgroup": name})

    assert paths.delegated({}) == delegated("") == delegated("/") == delegated(".") == ""
    assert delegated("foo") == delegated("/foo/") == delegated("./foo//.") == "/foo"
    assert delegated("a/b.scope") == "/a/b.scope"

    (place,) = paths.own_places("/a/b", {"": "/a/b/foo"}, "/foo")
    assert (place.cgroup(), place.inner) == ("/a/b", "/foo")
    assert place.with_path("/x").inner == "/foo"
    # runc does not know it, and crun puts it nowhere else.
    (place,) = paths.own_places("/a/b", {"": "/a/b"}, "/foo")
    assert (place.cgroup(), place.inner) == ("/a/b", "")
    with pytest.raises(Refused, match="its cgroup is not at its cgroupsPath"):
        paths.own_places("/a/b", {"": "/a/b/foo/bar"}, "/foo")
    with pytest.raises(Refused, match="its cgroup is not at its cgroupsPath"):
        paths.own_places("/a/b", {"": "/a/x"}, delegated("../x"))


def test_the_default_is_the_id_or_a_scope():
    assert paths.default_path("redis", {"cpu": "/redis", "": "/user/redis"}) == "redis"
    assert paths.default_path("redis", {}) == "redis"
    for prefix in ("runc", "crun"):
        for inner in ("", "/container"):
            membership = {"": f"/system.slice/{prefix}-redis.scope{inner}"}
            assert paths.default_path("redis", membership) == f":{prefix}:redis"
    assert paths.default_path("red", {"": "/system.slice/runc-redis.scope"}) == "red"
    assert paths.default_path("redis", {"": "/system.slice/libpod-redis.scope"}) == "redis"


SCOPE = "/machine.slice/machine-a.slice/libpod-1.scope"


def test_the_scope_is_the_one_that_the_cgroups_path_names():
    unit = "machine-a.slice:libpod:1"
    assert paths.scope_in(SCOPE, unit) == (SCOPE, "")
    # crun, with and without annotations of the container: init.scope is no unit.
    for inner in ("/container", "/container/init.scope", "/init.scope", "/a/b.scope/c"):
        assert paths.scope_in(SCOPE + inner, unit) == (SCOPE, inner)
    assert paths.scope_in("/system.slice/crun-x.scope/container", ":crun:x") == (
        "/system.slice/crun-x.scope",
        "/container",
    )
    assert paths.scope_in("/runc-x.scope", "-.slice:runc:x") == ("/runc-x.scope", "")


@pytest.mark.parametrize(
    "cgroup",
    [
        "/machine.slice/machine-a.slice/x",
        "/machine.slice/machine-a.slice/libpod-1.scopes",
        "/machine.slice/machine-a.slice/libpod-2.scope/libpod-1.scope",
        "/machine.slice/libpod-1.scope",
        f"/x{SCOPE}",
        f"/system.slice/x.service{SCOPE}",
        "/",
    ],
)
def test_what_only_looks_like_its_scope(cgroup):
    """crun's annotation run.oci.systemd.subgroup can lead anywhere."""
    assert paths.scope_in(cgroup, "machine-a.slice:libpod:1") is None


def test_a_unit_beside_another():
    assert paths.beside("a.slice:libpod:1") == "a.slice:libpod-nri:1"
    assert paths.beside(":runc:1") == ":runc-nri:1"


def test_whether_it_is_in_a_scope():
    scope = {"": "/system.slice/runc-redis.scope"}
    assert paths.in_scope(":runc:redis", scope)
    assert paths.in_scope("a.slice:crun:x", {"": "/a.slice/crun-x.scope/container"})
    # runc without --systemd-cgroup takes such a cgroupsPath for the name of a directory.
    assert not paths.in_scope(":runc:redis", {"": "/:runc:redis"})
    assert not paths.in_scope("a:b:c", {"": "/a:b:c"})
    assert not paths.in_scope("a/redis", scope)
