"""A container that could use the root of its cgroup namespace on v2 is not moved alive.

That root remains the old cgroup: in the new one the kernel would let the container lift its own
limits, and would not let it make a cgroup and enter it, as systemd does.
"""

import json
import os
import subprocess

import pytest
from support import cgroups, runtimes
from support.node import command
from support.waiting import wait_until
from test_adopt import Moved
from test_left import Case

pytestmark = pytest.mark.usefixtures("nsdelegate")

MIB = 1 << 20
FIRST_ID = 100000
NATIVELY = "; place it natively: podman's precreate"
ADMIN = (
    "it may have CAP_SYS_ADMIN, and after a live move could mount its cgroup and lift its own"
    f" limits{NATIVELY}"
)
WRITABLE = (
    "the cgroups at {} are writable for it, and after a live move it could lift its own limits"
    + NATIVELY
)
OWN = "/sys/fs/cgroup"
LOOP = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
# What the kernel lets no container do natively.
LIFT = f"""
mount -o remount,bind,rw {OWN}
echo max >{OWN}/memory.max && echo lifted
echo end; {LOOP}
"""
# And what it lets do one whose cgroup is writable.
ENTER = f"""
mkdir {OWN}/made && sh -c 'echo $$ >{OWN}/made/cgroup.procs' && echo entered
rmdir {OWN}/made
echo end; {LOOP}
"""


@pytest.fixture(params=[name for name in runtimes.binaries() if runtimes.ALL[name].version == 2])
def oci(scene, request):
    """Every environment with cgroup v2 in which a bundle goes straight to runc or crun."""
    return scene.runtime(request.param)


class Edit:
    """A change of config.json: a cgroup namespace, if it is to be, the options of the cgroups'
    mount, and more capabilities or none (None).

    ids: whether in a user namespace. mounts: (destination, source, options) of more binds.
    """

    def __init__(self, *options, namespace=True, add=(), ids=False, mounts=()):
        self.options, self.namespace, self.add = options, namespace, add
        self.ids, self.mounts = ids, mounts

    def __call__(self, config):
        linux = config["linux"]
        config["process"]["args"] = ["sh", "-c", LIFT]
        linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] != "cgroup"]
        if self.namespace:
            linux["namespaces"].append({"type": "cgroup"})
        for mount in config["mounts"]:
            if mount["destination"] == OWN:
                options = [o for o in mount["options"] if o not in ("ro", "rw")]
                mount["options"] = options + list(self.options)
        for destination, source, *options in self.mounts:
            mount = {"destination": destination, "source": source, "type": "bind"}
            config["mounts"].append({**mount, "options": ["rbind", *options]})
        if self.add is None:
            del config["process"]["capabilities"]
        else:
            for names in config["process"]["capabilities"].values():
                names += self.add
        if self.ids:
            linux["namespaces"].append({"type": "user"})
            for name in ("uidMappings", "gidMappings"):
                linux[name] = [{"containerID": 0, "hostID": FIRST_ID, "size": 65536}]


def limited(edit, runtime):
    """The same, with a limit if this environment has any."""

    def whole(config):
        edit(config)
        if "memory" in runtime.controllers():
            config["linux"]["resources"]["memory"] = {"limit": 100 * MIB}

    return whole


def prepare(bundle):
    """Who is not root may make no mount points."""
    for path in ("sys/fs/cgroup", "cgroups"):
        os.makedirs(f"{bundle.rootfs}/{path}")


def assert_left(scene, node, runtime, log, edit, reason):
    case = Case(scene, node, runtime, edit=limited(edit, runtime))
    prepare(case.bundle)
    case.assert_stays(log, reason)
    if "memory" in runtime.controllers():
        assert cgroups.value(runtime.pid(case.id), "memory.max") == str(100 * MIB)
    wait_until(lambda: "end" in runtime.output(case.id))
    assert "lifted" not in runtime.output(case.id)
    case.assert_ended(log)


# What depends least on the version of the runtime runs in one guest.
once = pytest.mark.once
LEFT = {
    "writable": (Edit("rw"), WRITABLE.format(OWN)),
    "CAP_SYS_ADMIN": (Edit("ro", add=["CAP_SYS_ADMIN"]), ADMIN),
    "writable in the end": (Edit("ro", "rw"), WRITABLE.format(OWN)),
    "the node's /sys": (
        Edit("ro", mounts=[("/sys", "/sys", "ro")]),
        WRITABLE.format(OWN),
    ),
    "the node's cgroups": (
        Edit("ro", mounts=[("/cgroups", OWN, "rw")]),
        WRITABLE.format("/cgroups"),
    ),
    "the node's cgroups over its own": (
        Edit("ro", mounts=[(OWN, OWN, "rw")]),
        WRITABLE.format(OWN),
    ),
    "writable in a user namespace": (Edit("rw", ids=True), WRITABLE.format(OWN)),
    "CAP_SYS_ADMIN in a user namespace": (Edit("ro", add=["CAP_SYS_ADMIN"], ids=True), ADMIN),
}
MOVED = {
    "read-only": Edit("ro"),
    "read-only in the end": Edit("rw", "ro"),
    "the node's cgroups, read-only": Edit("ro", mounts=[("/cgroups", OWN, "ro")]),
    "writable, without a namespace": Edit("rw", namespace=False),
    "CAP_SYS_ADMIN, without a namespace": Edit("ro", namespace=False, add=["CAP_SYS_ADMIN"]),
    "read-only in a user namespace": Edit("ro", ids=True),
}


def names(cases, *versions):
    """Their names; those that depend on the version run in every guest."""
    return [pytest.param(name, marks=[] if name in versions else once) for name in cases]


@pytest.mark.parametrize(
    "name", names(LEFT, "writable", "writable in the end", "writable in a user namespace")
)
def test_it_could_use_its_cgroup_namespace(scene, node, oci, log, name):
    edit, reason = LEFT[name]
    assert_left(scene, node, oci, log, edit, reason)


@pytest.mark.parametrize(
    "name", names(MOVED, "read-only", "read-only in the end", "read-only in a user namespace")
)
def test_it_could_not(scene, node, oci, name):
    moved = Moved(scene, node, oci, edit=limited(MOVED[name], oci))
    prepare(moved.bundle)
    moved.start()


@once
def test_it_makes_a_cgroup_and_enters_it(scene, node, oci, log):
    """As systemd does when it begins."""

    def edit(config):
        Edit("rw")(config)
        config["process"]["args"] = ["sh", "-c", ENTER]

    case = Case(scene, node, oci, edit=edit)
    prepare(case.bundle)
    oci.create(case.id, case.bundle).check()
    case.assert_said(log, WRITABLE.format(OWN))
    oci.start(case.id).check()
    wait_until(lambda: "end" in oci.output(case.id))
    assert "entered" in oci.output(case.id)
    case.assert_ended(log)


def test_without_capabilities(scene, node, oci, log):
    """runc before 1.3, and crun, take all away then; later ones leave all there are."""
    if oci.binary == "crun":
        moved = Moved(scene, node, oci, edit=Edit("ro", add=None))
        moved.start()
        moved.assert_ends()
    else:
        assert_left(scene, node, oci, log, Edit("ro", add=None), ADMIN)


@pytest.mark.parametrize("name", ["cap_sys_admin", "21"])
def test_a_capability_as_crun_takes_it(scene, node, oci, log, name):
    if oci.binary != "crun":
        pytest.skip("runc passes such a name over")
    assert_left(scene, node, oci, log, Edit("ro", add=[name]), ADMIN)


PODMAN = {
    "--privileged": (["--privileged"], ADMIN),
    "--systemd": (["--systemd", "always"], WRITABLE.format(OWN)),
    "--systemd in a user namespace": (
        ["--systemd", "always", "--uidmap", f"0:{FIRST_ID}:65536"],
        WRITABLE.format(OWN),
    ),
}


@pytest.mark.guest
@pytest.mark.parametrize("name", PODMAN)
def test_podman(scene, node, name):
    podman = scene.runtime("podman")
    podman.more_flags, reason = PODMAN[name]
    answer = {"cgroupsPath": f"{scene.cgroup}/target/{{id}}"}
    plugin = node.plugin("mover", {"create": {"result": answer}})
    node.configure(plugin)
    bundle = scene.bundle()
    os.mkdir(f"{bundle.rootfs}/etc")
    if "--uidmap" in podman.more_flags:
        subprocess.run(["chown", "-R", f"{FIRST_ID}:{FIRST_ID}", bundle.rootfs], check=True)
    podman.install(node, bundle)
    podman.create("one", bundle).check()
    podman.start("one").check()
    assert cgroups.membership(podman.pid("one")) == plugin.call("create")["membership"]
    document = node.record()
    assert (document["outcome"], document["reason"]) == ("left", reason)
    podman.delete("one").check()
    assert node.calls() == [("mover", "create"), ("mover", "delete")]


@once
def test_invoke_says_so_too(scene, node, oci):
    bundle = scene.bundle(edit=Edit("rw"))
    oci.create(scene.name, bundle).check()
    node.configure(node.plugin("mover", {"create": {"result": {"cgroupsPath": scene.cgroup}}}))
    words = ["invoke", "--bundle", bundle.directory, "--pid", str(oci.pid(scene.name)), "--json"]
    done = command(*words, *node.options(), prefix=oci.prefix).check()
    move = json.loads(done.out)["move"]
    assert (move["outcome"], move["reason"]) == ("left", WRITABLE.format(OWN))
