"""Left: a container that cannot be moved at all starts where it is, and everybody is told why.

The chain runs all the same, and `delete` comes in the end, both with the place where it stayed.
"""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time

import pytest
from support import cgroups, public
from support.bundle import LOOP, make_rootfs
from support.commands import read, run
from support.namespaces import MountNamespace
from support.tree import TOP

from nri_hook.hook import record

# All pass in the guests too, which have time for the few that depend most on the runtime.
hostonly = pytest.mark.hostonly
STAGES = ("createRuntime", "poststart", "poststop")
UID = 65321
SECONDS = 5


class Case:
    """One container that a plugin would like to have elsewhere, and what its hooks said on
    stderr, which runtimes hide when a hook ends well.

    answer: the plugin's cgroupsPath. script: lines of a shell script in which HOOK is the call of
    the hook; by default the hook takes the place of the shell.
    """

    def __init__(self, scene, node, runtime, script="exec HOOK", answer="", **bundle):
        self.scene, self.node, self.runtime = scene, node, runtime
        self.id = scene.name  # the log has lines of other sessions too
        answer = {"cgroupsPath": answer or f"{scene.cgroup}/target/{{id}}"}
        self.plugin = node.plugin("mover", {"create": {"result": answer}})
        node.configure(self.plugin)
        self.bundle = scene.bundle(**bundle)
        runtime.install(node, self.bundle)
        for stage in STAGES:
            (hook,) = self.bundle.config["hooks"][stage]
            path = f"{self.bundle.directory}/hook-{stage}"
            write_hook(path, self.errors(stage), script, hook["path"])
            hook["path"] = path
        self.bundle.save()

    def errors(self, stage):
        """The file of what the hooks of this stage said."""
        return f"{self.bundle.directory}/hook-{stage}.err"

    def place(self):
        """Where the plugin saw the container when it was created: the spec."""
        return self.plugin.call("create")["payload"]["spec"]

    def assert_said(self, log, reason, recorded=True):
        """The reason is on stderr, in the log and, if there is one, in the record."""
        said = one_line(read(self.errors("createRuntime")))
        assert said.startswith(f"nri-hook createRuntime: container {self.id}: ")
        assert reason in said.partition("left where it is: ")[2]
        line = logged(log, self.id, "createRuntime")
        assert "outcome=left;" in line and " to=" not in line
        assert reason in line.partition("left where it is: ")[2]
        if recorded:
            document = self.node.record()
            assert document["outcome"] == "left"
            assert reason in document["reason"]
            assert document["placements"] == []

    def assert_stays(self, log, reason, start=True):
        """Create and perhaps start it: it is where it was, and nothing was made for it."""
        self.runtime.create(self.id, self.bundle).check()
        spec = self.place()
        assert cgroups.membership(self.runtime.pid(self.id)) == spec["cgroups"]
        assert not [f for f in self.scene.left_cgroups() if f"{self.scene.cgroup}/" in f]
        self.assert_said(log, reason)
        if start:
            self.runtime.start(self.id).check()
            assert self.runtime.status(self.id) == "running"
            assert cgroups.membership(self.runtime.pid(self.id)) == spec["cgroups"]
            assert "here" in self.runtime.exec(self.id, "echo", "here").check().out

    def assert_ended(self, log):
        """Delete it: the plugin hears of it, with the old place, and nothing is left."""
        spec = self.place()
        self.runtime.delete(self.id).check()
        assert self.node.calls() == [("mover", "create"), ("mover", "delete")]
        deleted = self.plugin.call("delete")["payload"]
        assert "pid" not in deleted
        assert deleted["spec"]["cgroupsPath"] == spec["cgroupsPath"]
        assert deleted["spec"]["cgroups"] == spec["cgroups"]
        assert self.node.left() == []
        assert read(self.errors("poststart")) + read(self.errors("poststop")) == ""
        assert "outcome=removed" in logged(log, self.id, "poststop")


def write_hook(path, errors, script, launcher):
    """Write an executable that calls the launcher by the script, its stderr going to a file."""
    with open(path, "w") as file:
        file.write(f"#!/bin/sh\nexec 2>>{errors}\n" + script.replace("HOOK", f'{launcher} "$@"'))
    os.chmod(path, 0o755)


def one_line(text):
    assert text.count("\n") == 1 and text.endswith("\n"), text
    return text[:-1]


def logged(log, id, stage):
    """The line that a stage logged of a container; under load it comes a little late."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        lines = [line for line in log.lines(id) if f"stage={stage} " in line]
        if lines:
            (line,) = lines
            return line
    raise AssertionError(f"no line of {stage} in {log.lines(id)}")


@hostonly
def test_its_parent_is_no_runtime(scene, node, oci, log):
    """Such as a script that does not exec the launcher."""
    case = Case(scene, node, oci, script="HOOK\nexit $?")
    case.assert_stays(log, "the hook's parent is not runc or crun but 'hook-createRunt'")
    case.assert_ended(log)


@hostonly
def test_the_root_of_the_runtime_is_relative(scene, node, runc, log):
    """runc has gone to the bundle when it calls the hook: nobody can say where its records are."""
    runc.command = lambda: ["env", f"--chdir={runc.directory}", "runc", "--root", "root"]
    case = Case(scene, node, runc)
    case.assert_stays(log, "runc was called with a --root that is not absolute")
    case.assert_ended(log)


def test_cgroups_are_disabled(scene, node, oci, log):
    if oci.binary != "crun":
        pytest.skip("crun alone has a cgroup manager `disabled`")
    case = Case(scene, node, oci)

    def call(*words):
        return oci.call("--cgroup-manager=disabled", *words, out=f"{oci.directory}/one").check()

    oci.ids.append(case.id)
    call("create", "--bundle", case.bundle.directory, case.id)
    pid = oci.pid(case.id)
    assert cgroups.membership(pid) == cgroups.membership(os.getpid())
    assert case.place()["cgroups"] == cgroups.membership(pid)
    case.assert_said(log, "its cgroup is not its own but that of its runtime")
    call("start", case.id)
    call("kill", case.id, "KILL")
    oci.wait(case.id)
    case.assert_ended(log)


# Foreground


def without_cgroup_namespace(config, pids):
    """An edit: the container prints its real cgroups; its pid namespace is as `pids` says.

    crun 1.8 may lose the end of a poststart hook, whichever it is, where the container ends first.
    """
    config["process"]["args"] = ["sh", "-c", "cat /proc/self/cgroup; sleep 1"]
    namespaces = [n for n in config["linux"]["namespaces"] if n["type"] not in ("cgroup", "pid")]
    config["linux"]["namespaces"] = namespaces + pids


def run_in_foreground(case):
    """Run it to its end; hierarchy -> path as it printed them."""
    done = case.runtime.run(case.id, case.bundle, detach=False).check()
    lines = [line.split(":", 2) for line in done.out.splitlines()]
    case.runtime.ids.remove(case.id)
    assert case.node.calls() == [("mover", "create"), ("mover", "delete")]
    assert case.node.left() == []
    return {name: path for _, name, path in lines}


@pytest.mark.parametrize(
    "kind", [pytest.param("of the host", marks=hostonly), "of another container"]
)
def test_a_foreground_run_with_a_shared_pid_namespace(scene, node, oci, log, kind):
    pids = []
    if kind == "of another container":
        other = scene.bundle()
        oci.create("other", other).check()
        pids = [{"type": "pid", "path": f"/proc/{oci.pid('other')}/ns/pid"}]
    case = Case(scene, node, oci, edit=lambda c: without_cgroup_namespace(c, pids))
    seen = run_in_foreground(case)
    assert seen == case.place()["cgroups"]
    case.assert_said(log, f"a foreground `{oci.binary} run` whose pid namespace is", recorded=False)


@hostonly
def test_a_foreground_run_with_its_own_pid_namespace_is_moved(scene, node, oci, log):
    case = Case(scene, node, oci, edit=lambda c: without_cgroup_namespace(c, [{"type": "pid"}]))
    seen = run_in_foreground(case)
    target = f"{scene.cgroup}/target/{case.id}"
    assert {name for name, path in seen.items() if path == target} == set(oci.hierarchies())
    assert read(case.errors("createRuntime")) == ""
    assert "outcome=moved" in logged(log, case.id, "createRuntime")


# No state directory


def make_file(path):
    with open(path, "w"):
        pass


# What is at the place of the state directory -> (how it is made, what is said about it).
NO_DIRECTORIES = {
    "a file": (make_file, "no state directory: File exists"),
    "open to all": (lambda path: (os.mkdir(path), os.chmod(path, 0o777)), "mode 0777"),
    "open to a group": (lambda path: (os.mkdir(path), os.chmod(path, 0o770)), "mode 0770"),
    "of somebody else": (lambda path: (os.mkdir(path, 0o700), os.chown(path, UID, 0)), str(UID)),
    "where none can be made": (None, "/proc/nri-hook: no state directory: "),
    "read-only": (lambda path: os.mkdir(path, 0o700), "cannot be written"),
}
READ_ONLY = """
exec unshare -m --propagation private sh -ec '
for path in PATHS; do
  [ ! -d "$path" ] || { mount --bind "$path" "$path"; mount -o remount,ro,bind "$path"; }
done
exec "$@"' sh HOOK
"""


@hostonly
@pytest.mark.parametrize("name", NO_DIRECTORIES)
def test_there_is_no_state_directory(scene, runc, log, name):
    make, reason = NO_DIRECTORIES[name]
    node = scene.node() if make else scene.node(["--state-dir", "/proc/nri-hook"])
    if make:
        make(node.state_dir)
    script = READ_ONLY.replace("PATHS", node.state_dir) if name == "read-only" else "exec HOOK"
    case = Case(scene, node, runc, script)
    runc.create(case.id, case.bundle).check()
    assert cgroups.membership(runc.pid(case.id)) == case.place()["cgroups"]
    case.assert_said(log, "there is no record of it: ", recorded=False)
    said = read(case.errors("createRuntime"))
    assert "no record is kept: " in said and said.count(reason) == 2
    runc.start(case.id).check()
    assert runc.status(case.id) == "running"
    runc.delete(case.id).check()
    # Nobody remembers the plugin, as was said above.
    assert node.calls() == [("mover", "create")]
    said = read(case.errors("poststop"))
    if name == "a file":
        assert f"{node.state_dir}/" in said and one_line(said).endswith(": Not a directory")
        os.unlink(node.state_dir)
    else:
        assert said == ""


# A cgroup that cannot be written


@hostonly
@pytest.mark.parametrize("which", ["all", "one of them"])
def test_the_cgroups_are_mounted_read_only_for_the_hook(scene, node, oci, log, which):
    if which == "one of them" and oci.version == 2:
        pytest.skip("v2 is one hierarchy")
    paths = "$(awk '\\''$3 ~ /^cgroup/ { print $2 }'\\'' /proc/self/mounts)"
    if which == "one of them":
        paths = oci.hierarchies()["memory"]
    case = Case(scene, node, oci, READ_ONLY.replace("PATHS", paths))
    case.assert_stays(log, "cannot be made: Read-only file system")
    case.assert_ended(log)


# A cgroup that cannot be marked


@hostonly
def test_the_hook_may_not_set_attributes(scene, node, oci, log):
    """Nobody could tell later what may be removed."""
    script = "exec setpriv --bounding-set=-sys_admin HOOK"
    case = Case(scene, node, oci, script)
    case.assert_stays(log, "cannot be marked: Operation not permitted")
    case.assert_ended(log)


# systemd on cgroup v1


@pytest.mark.v1
def test_the_manager_is_systemd_on_v1(scene, node, runc, log):
    command = runc.command()
    runc.command = lambda: [*command, "--systemd-cgroup"]
    case = Case(
        scene,
        node,
        runc,
        cgroups_path=f"system.slice:{scene.name}:one",
        answer=f"{scene.name}.slice:{scene.name}:two",
    )
    case.assert_stays(log, "systemd's cgroup manager is followed on cgroup v2 alone")
    case.assert_ended(log)


# Rootless


class User:
    """Somebody else than root who runs podman.

    passwd and /run/user are changed in a mount namespace of the test alone. Without /etc/subuid
    the user's containers have a single id.
    """

    def __init__(self, scene):
        self.directory = f"{scene.directory}/user"
        self.run_dir = f"/run/user/{UID}"
        for path in (self.directory, f"{self.directory}/home", f"{self.directory}/run/{UID}"):
            os.makedirs(path)
        make_rootfs(f"{self.directory}/home/rootfs")
        binds = {f"{self.directory}/run": "/run/user"}
        for name, line in (
            ("passwd", f"nri-test:x:{UID}:{UID}::{self.directory}/home:/bin/sh\n"),
            ("group", f"nri-test:x:{UID}:\n"),
        ):
            with open(f"{self.directory}/{name}", "w") as file:
                file.write(read(f"/etc/{name}") + line)
            binds[f"{self.directory}/{name}"] = f"/etc/{name}"
        os.makedirs("/run/user", exist_ok=True)
        self.mounts = MountNamespace(
            "\n".join(f"mount --bind {own} {real}" for own, real in binds.items())
        )

    def own(self, *directories):
        for directory in directories:
            subprocess.run(["chown", "-R", f"{UID}:{UID}", directory], check=True)

    def podman(self, *words):
        home = f"{self.directory}/home"
        argv = [
            *self.mounts.prefix,
            *("setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups"),
            *("env", "-i", f"--chdir={home}", f"PATH={os.environ['PATH']}", f"HOME={home}"),
            f"XDG_RUNTIME_DIR={self.run_dir}",
            *("podman", "--root", f"{home}/storage", "--runroot", f"{home}/runroot"),
            *("--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", "runc"),
            *("--events-backend", "none"),
        ]
        return run([*argv, *words], f"{self.directory}/out")

    def state(self):
        """The names in the state directory."""
        directory = f"{self.directory}/run/{UID}/nri-hook"
        status = os.stat(directory)
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (UID, 0o700)
        return {name: f"{directory}/{name}" for name in os.listdir(directory)}

    def close(self):
        """End the containers, and the process with which podman keeps its user namespace."""
        self.podman("rm", "--force", "--all", "--time", "0")
        path = f"{self.directory}/run/{UID}/libpod/tmp/pause.pid"
        if os.path.exists(path):
            pid = int(read(path))
            os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + SECONDS
            while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
                time.sleep(0.02)
        self.mounts.close()


@pytest.fixture
def user(scene):
    user = User(scene)
    yield user
    user.close()


def install_for_all(node, errors):
    """Install the hooks of a node, with the default state directory."""
    node.install()
    text = read(node.launcher)
    with open(node.launcher, "w") as file:
        text = text.replace(os.path.realpath(sys.executable), public.python())
        file.write(text.replace(TOP, public.top()))
    for name in os.listdir(node.hooks_dir):
        path = f"{node.hooks_dir}/{name}"
        document = json.loads(read(path))
        (stage,) = document["stages"]
        hook = document["hook"]
        at = hook["args"].index("--state-dir")
        del hook["args"][at : at + 2]
        hook["path"] = f"{node.directory}/hook-{stage}"
        write_hook(hook["path"], f"{errors}/{stage}.err", "exec HOOK", node.launcher)
        with open(path, "w") as file:
            json.dump(document, file)


@pytest.mark.skipif(not shutil.which("podman"), reason="needs podman")
@pytest.mark.skipif(not public.python(), reason="needs a python3 that every user can run")
def test_rootless_podman(scene, node, user, log):
    notes = f"{node.directory}/notes"
    answer = json.dumps({"cgroupsPath": f"{scene.cgroup}/target"})
    node.executable("mover", f"#!/bin/sh\ncat >>{notes}\necho >>{notes}\necho '{answer}'\n")
    node.configure("mover")
    install_for_all(node, user.directory)
    user.own(scene.directory)

    words = ["run", "-d", "--network", "none", "--log-driver", "k8s-file"]
    # Less than what any user may have.
    words += ["--ulimit", "nofile=512:512", "--ulimit", "nproc=512:512"]
    rootfs = ["--rootfs", f"{user.directory}/home/rootfs"]
    done = user.podman("--hooks-dir", node.hooks_dir, *words, "--name", "one", *rootfs, *LOOP)
    id = done.check().out.strip()
    status, pid = (
        user.podman("inspect", "--format", "{{.State.Status}} {{.State.Pid}}", "one")
        .check()
        .out.split()
    )
    assert status == "running"
    (created,) = (json.loads(line) for line in read(notes).splitlines())
    assert created["id"] == id
    assert cgroups.membership(pid) == created["spec"]["cgroups"]

    reason = "the hook runs in a user namespace (rootless), which may not move processes"
    said = one_line(read(f"{user.directory}/createRuntime.err"))
    assert said.startswith("nri-hook createRuntime: ") and said.endswith(reason)
    line = [line for line in log.lines() if f"container={id} " in line][0]
    assert reason in line and "outcome=left;" in line
    (path,) = [path for name, path in user.state().items() if name.endswith(".json")]
    document = record.read(path)
    assert (document["outcome"], document["reason"]) == ("left", reason)

    user.podman("--hooks-dir", node.hooks_dir, "rm", "--force", "--time", "0", "one").check()
    deleted = json.loads(read(notes).splitlines()[1])
    assert (deleted["state"], deleted["id"]) == ("delete", id) and "pid" not in deleted
    assert deleted["spec"]["cgroups"] == created["spec"]["cgroups"]
    (log_of_it,) = user.state()
    assert log_of_it.endswith(".log")

    node.configure({"type": "mover", "onLeft": "fail"})
    done = user.podman("--hooks-dir", node.hooks_dir, *words, "--name", "two", *rootfs, *LOOP)
    done.refused()
    said = read(f"{user.directory}/createRuntime.err").splitlines()[-1]
    assert f'("onLeft": "fail"): {reason}; undone: delete sent to mover' in said
    assert all(name.endswith(".log") for name in user.state())
