"""podman and crun as Debian has them, systemd as cgroup manager."""

import pytest
from support import cgroups
from support.bundle import LOOP, make_rootfs
from support.podman import Plain

pytestmark = pytest.mark.guest


@pytest.fixture
def plain(scene, node):
    plain = Plain(scene, node)
    yield plain
    plain.close()


@pytest.fixture
def rootfs(scene):
    make_rootfs(f"{scene.directory}/rootfs")
    return f"{scene.directory}/rootfs"


def assert_works(plain, document, scope, view):
    """It is in that scope below the slice, and so is what is executed in it. view: what it reads
    in /proc/self/cgroup."""
    (place,) = cgroups.membership(document["State"]["Pid"]).values()
    assert place.endswith(f"/{plain.slice}/{scope}/container")
    assert document["HostConfig"]["CgroupManager"] == "systemd"
    assert document["OCIRuntime"] == "crun"
    assert plain.exec("cat", "/proc/self/cgroup") == f"0::{view(place)}"
    plain.podman("stop", "-t", "5", plain.name)
    plain.podman("rm", plain.name)
    assert plain.node.calls()[-1] == ("mover", "delete")


def test_podman_makes_it_in_the_slice_that_precreate_says(rootfs, plain):
    plain.install_precreate()
    plain.answer("setup")
    document = plain.run(rootfs, *LOOP)
    assert_works(plain, document, f"libpod-{document['Id']}.scope", lambda place: "/")


def test_it_is_moved_into_the_slice_that_createruntime_says(rootfs, plain):
    plain.answer("create")
    document = plain.run(rootfs, *LOOP)
    scope = f"libpod-nri-{document['Id']}.scope"
    # From machine.slice/libpod-ID.scope/container, the root of its namespace.
    assert_works(plain, document, scope, lambda place: f"/../../..{place}")
