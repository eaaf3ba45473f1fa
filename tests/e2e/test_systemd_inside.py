"""systemd as the first process of a container: a whole Debian under podman, `/sbin/init`.

It moves itself into a cgroup of its own, and its services beside it, which it may only below the
root of its cgroup namespace. A live move leaves that root behind: systemd would end at once.
"""

import os
import subprocess

import pytest
from support import cgroups
from support.commands import read
from support.podman import Plain
from support.waiting import is_alive, wait_until

pytestmark = [pytest.mark.guest, pytest.mark.usefixtures("nsdelegate")]

MEMORY = 200 << 20
# For the boot, in a busy guest.
SECONDS = 90


@pytest.fixture
def debian(scene):
    """The root filesystem of this guest, made by mmdebstrap; what is written to it is not kept."""
    top = f"{scene.directory}/debian"
    os.mkdir(top)
    subprocess.run(["mount", "-t", "tmpfs", "none", top], check=True)
    for name in ("upper", "work", "root"):
        os.mkdir(f"{top}/{name}")
    # Not with what tests have in /tmp: runc copies all of it up.
    os.mkdir(f"{top}/upper/tmp")
    os.chmod(f"{top}/upper/tmp", 0o1777)
    os.setxattr(f"{top}/upper/tmp", "trusted.overlay.opaque", b"y")
    layers = f"lowerdir=/,upperdir={top}/upper,workdir={top}/work"
    subprocess.run(["mount", "-t", "overlay", "none", f"{top}/root", "-o", layers], check=True)
    # The service that runs these tests.
    os.unlink(f"{top}/root/etc/systemd/system/multi-user.target.wants/vmrun.service")
    yield f"{top}/root"
    subprocess.run(["umount", f"{top}/root", top], check=True)


@pytest.fixture(params=["crun", "runc"])
def plain(scene, node, debian, request):
    plain = Plain(scene, node, request.param)
    yield plain
    plain.close()


def boot(plain, debian):
    """Start it and wait until it is up; the cgroup that the runtime made for it."""
    # podman itself tells by /sbin/init that it is systemd.
    document = plain.run(debian, "/sbin/init", flags=["--memory", str(MEMORY)])
    pid = document["State"]["Pid"]
    bus = f"/proc/{pid}/root/run/dbus/system_bus_socket"
    wait_until(lambda: os.path.exists(bus) or not is_alive(pid), SECONDS)
    state = plain.call("exec", plain.name, "systemctl", "is-system-running", "--wait").stdout
    assert state.strip() == "running", plain.call("logs", plain.name).stdout
    assert read(f"/proc/{pid}/comm").strip() == "systemd"
    (place,) = cgroups.membership(pid).values()
    assert place.endswith("/init.scope")
    return place[: -len("/init.scope")]


def assert_works(plain, place):
    """It makes cgroups of its own, its services run in them, and its limits hold."""
    directory = f"/sys/fs/cgroup{place}"
    assert {"init.scope", "system.slice"} <= set(os.listdir(directory))
    assert read(f"{directory}/system.slice/systemd-journald.service/cgroup.procs")
    seen = plain.exec("systemd-run", "--quiet", "--wait", "--pipe", "cat", "/proc/self/cgroup")
    assert seen.startswith("0::/system.slice/run-")
    lifted = plain.call("exec", plain.name, "sh", "-c", "echo max >/sys/fs/cgroup/memory.max")
    assert lifted.returncode != 0
    assert read(f"{directory}/memory.max").strip() == str(MEMORY)
    plain.podman("rm", "-f", "-t", "0", plain.name)
    assert plain.node.calls()[-1] == ("mover", "delete")
    assert plain.node.left() == []


def test_it_is_left_where_it_starts_and_runs(plain, node, debian):
    plain.answer("create")
    place = boot(plain, debian)
    document = node.record()
    assert document["outcome"] == "left"
    assert "place it natively" in document["reason"]
    assert "/machine.slice/libpod-" in place
    assert_works(plain, place)


def test_precreate_places_it_and_it_runs(plain, node, debian):
    plain.install_precreate()
    plain.answer("setup")
    place = boot(plain, debian)
    assert f"/{plain.slice}/libpod-" in place
    assert_works(plain, place)
