"""`nri-hook doctor`: a node as it should be, and one deliberate mistake at a time. Each has to be
named with its cause and its fix in one line, and the fix has to fix it.

A machine here has an /etc and a /usr/share/containers of its own; see test_engines.py.
"""

import contextlib
import io
import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from support import cgroups, runtimes
from support.commands import read, run
from support.node import command
from support.tree import TOP
from support.users import as_user
from support.waiting import wait_until
from test_engines import CONF, DROP_IN, LINE, OWN, SHARED, Machine, hook_file
from test_install import nri_hook, well

from nri_hook.cli import main
from nri_hook.doctor import labels, layout, programs

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
needs_podman = pytest.mark.skipif(not shutil.which("podman"), reason="needs podman")
hostonly = pytest.mark.hostonly
pytestmark = [needs_root, pytest.mark.once]

PLUGIN = "#!/bin/sh\ncat >/dev/null\necho {}\n"
FOREIGN = f"{SHARED}/10-other.json"


class Report:
    """What the doctor said: `findings` as (level, line), all as `text`."""

    def __init__(self, status, text):
        self.status = status
        self.text = text
        *lines, self.sum = text.splitlines()
        self.findings = [(line[:4].strip(), line[5:]) for line in lines]

    def lines(self, level):
        return [line for found, line in self.findings if found == level]

    def find(self, level, *parts):
        """(cause, fix) of the only line of that level that holds all of these."""
        found = [line for line in self.lines(level) if all(part in line for part in parts)]
        assert len(found) == 1, f"{level} {parts}: {len(found)} lines of\n{self.text}"
        cause, _, fix = found[0].partition("; fix: ")
        return cause, fix

    def well(self):
        """No failure; gives itself back."""
        assert (self.status, self.lines("fail")) == (0, []), self.text
        return self


class Patient(Machine):
    """A machine on which podman calls nri-hook for one plugin, `quiet`."""

    def __init__(self, directory):
        super().__init__(directory)
        self.plugins = directory / "plugins"
        self.plugins.mkdir()
        self.plugin = self.plugins / "quiet"
        self.plugin.write_text(PLUGIN)
        self.plugin.chmod(0o755)
        self.state = directory / "state"
        self.configure({"type": "quiet"})
        programs = directory / "programs"
        programs.mkdir()
        (programs / "nri-hook").write_text(f'#!/bin/sh\nexec {sys.executable} -m nri_hook "$@"\n')
        (programs / "nri-hook").chmod(0o755)
        self.search = f"{programs}:{os.environ['PATH']}"
        well(self.nri_hook("install", "--plugin-dir", self.plugins, "--state-dir", self.state))

    def configure(self, *entries, version="0.1"):
        document = {"version": version, "plugins": list(entries)}
        self.write("/etc/nri/conf.json", json.dumps(document))

    def doctor(self, *args, before="", command=(sys.executable, "-m", "nri_hook")):
        """before: a shell script that is run first, in the same mount namespace."""
        words = shlex.join([*map(str, command), "doctor", *map(str, args)])
        done = self.run("sh", "-ec", f"{before}\nexec {words}")
        assert "Traceback" not in done.stderr and done.stderr == "", done.stderr
        return Report(done.returncode, done.stdout)

    def fix(self, script, file=None):
        """Do what a fix says, and look again. file: a copy of a file that root trusts."""
        if script.startswith("look at "):
            script = script.partition(", then ")[2].replace("FILE", str(file))
        done = self.run("sh", "-ec", script, PATH=self.search)
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return self.doctor().well()


@pytest.fixture
def patient(tmp_path):
    return Patient(tmp_path)


# A node as it should be


@hostonly
@needs_podman
def test_a_node_that_is_well(patient):
    report = patient.doctor().well()
    assert not [line for line in report.lines("warn") if "crun refuses hybrid" not in line]
    for parts in (
        ("runtime:", "runc", "hooks createRuntime, poststart, poststop"),
        ("engine: podman ",),
        ("cgroups:", "hierarchies" if not cgroups.pure_v2() else "v2"),
        ("cgroups: cgroup manager of podman: ",),
        ("hook files:", f"podman reads {OWN}: 4 files"),
        ("registration: podman calls nri-hook for createRuntime, poststart, poststop, precreate",),
        ("launcher:", str(patient.launcher), f"runs {TOP}/nri_hook"),
        ("configuration: /etc/nri/conf.json",),
        ("plugin:", f"quiet: {patient.plugin}, executable"),
        ("timeouts:", "30 s"),
        ("records:", f"{patient.state}: not there yet"),
    ):
        assert report.find("ok", *parts)[1] == ""
    assert re.fullmatch(r"\d+ ok, \d+ warn, 0 fail", report.sum)


@hostonly
@needs_podman
def test_it_looks_where_the_hook_looks_and_flags_go_before(patient):
    other = patient.directory / "other"
    other.mkdir()
    report = patient.doctor("--plugin-dir", other, "--timeout", "7")
    cause, _ = report.find("fail", "plugin quiet")
    assert f"not found in {other}, " in cause and str(patient.plugins) not in cause
    assert report.find("ok", "timeouts:", "7 s")


@hostonly
@needs_podman
def test_a_hosted_plugin(patient):
    patient.plugin.unlink()
    (patient.plugins / "quiet.py").write_text("")
    report = patient.doctor().well()
    assert report.find("ok", f"quiet: {patient.plugins}/quiet.py, hosted Python")


@hostonly
@needs_podman
def test_json(patient):
    patient.plugin.unlink()
    done = patient.run(sys.executable, "-m", "nri_hook", "doctor", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 1 and document["fail"] == 1
    (finding,) = [found for found in document["findings"] if found["level"] == "fail"]
    assert finding["check"] == "plugin" and "not found in" in finding["what"] and finding["fix"]
    levels = [found["level"] for found in document["findings"]]
    assert [document[level] for level in ("ok", "warn", "fail")] == [
        levels.count(level) for level in ("ok", "warn", "fail")
    ]


@hostonly
@needs_podman
def test_a_pipe_has_neither_colour_nor_boxes(patient):
    patient.configure({"type": "quiet"}, {"type": "gh\x1bost"})
    report = patient.doctor()
    assert report.text.isascii() and "\x1b" not in report.text
    assert len(report.lines("fail")) == 1


@hostonly
@needs_podman
def test_a_terminal_of_80_columns(patient):
    pytest.importorskip("rich")
    patient.configure({"type": "ghost"})
    main, side = pty.openpty()
    words = [sys.executable, "-m", "nri_hook", "doctor"]
    mounts = "".join(f"mount --bind '{own}' {real};" for real, own in patient.mounts.items())
    process = subprocess.Popen(
        ["unshare", "-m", "--propagation", "private", "sh", "-ec", mounts + 'exec "$@"', "sh"]
        + words,
        stdin=side,
        stdout=side,
        stderr=side,
        cwd="/",
        env={**os.environ, "PYTHONPATH": TOP, "COLUMNS": "80", "TERM": "xterm-256color"},
    )
    os.close(side)
    data = b""
    while True:
        try:
            chunk = os.read(main, 65536)
        except OSError:
            break
        if not chunk:
            break
        data += chunk
    os.close(main)
    assert process.wait() == 1
    text = data.decode()
    assert "\x1b[1;31mfail" in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert plain.isascii() and "Traceback" not in plain
    assert max(map(len, plain.splitlines())) <= 80
    assert re.search(r"fail +plugin +plugin ghost: not found in", plain)
    assert "fix: install -m 0755" in plain


# Deliberate mistakes


@hostonly
@needs_podman
def test_a_plugin_that_is_missing(patient):
    os.rename(patient.plugin, patient.directory / "quiet")
    cause, fix = patient.doctor().find("fail", "plugin")
    assert f"plugin quiet: not found in {patient.plugins}, " in cause
    assert f"install -m 0755 FILE {patient.plugins}/quiet" in fix
    command = fix.partition(", or ")[0].replace("FILE", str(patient.directory / "quiet"))
    patient.fix(command)


@hostonly
@needs_podman
def test_a_directory_that_everybody_may_write(patient):
    patient.plugins.chmod(0o777)
    cause, fix = patient.doctor().find("fail", "plugin:")
    assert "directory plugins may be written by others (mode 0777)" in cause
    look = f"look at {patient.plugin}, which others could have written"
    assert fix == f"{look}, then chmod go-w {patient.plugins}"
    patient.fix(fix)
    patient.plugins.chmod(0o1777)  # a sticky one is one too, where plugins lie in it
    assert patient.doctor().find("fail", "plugin:")[1] == fix


@hostonly
@needs_podman
def test_a_plugin_of_somebody_else_and_one_without_its_bit(patient):
    os.chown(patient.plugin, 12345, 0)
    cause, fix = patient.doctor().find("fail", "plugin:")
    assert "belongs to uid 12345, expected root" in cause
    assert fix.endswith(f", then install -o root -g root -m 0755 FILE {patient.plugin}")
    own = patient.directory / "own"
    own.write_text(PLUGIN)
    patient.fix(fix, own)
    patient.plugin.chmod(0o644)
    cause, fix = patient.doctor().find("fail", "plugin:")
    assert "Permission denied" in cause
    patient.fix(fix)


@hostonly
@needs_podman
def test_bad_json_in_the_configuration(patient):
    patient.write("/etc/nri/conf.json", '{"version": "0.1",\n "plugins": [{"type": "quiet"}\n')
    cause, fix = patient.doctor().find("fail", "configuration:")
    assert "/etc/nri/conf.json: document: expected JSON, found none: Expecting ','" in cause
    assert fix.endswith("nri-hook validate /etc/nri/conf.json")


@hostonly
@needs_podman
def test_bad_conf_of_a_plugin(patient):
    schema = {"type": "object", "properties": {"cpus": {"type": "array"}}, "required": ["cpus"]}
    (patient.plugins / "quiet.schema.json").write_text(json.dumps(schema))
    patient.configure({"type": "quiet", "conf": {"cpus": 3}})
    cause, _ = patient.doctor().find("fail", "configuration:")
    assert "/plugins/0/conf/cpus: expected a list, found 3" in cause
    patient.configure({"type": "quiet"})
    cause, _ = patient.doctor().find("fail", "configuration:")
    assert "/plugins/0/conf/cpus: expected a list, found nothing" in cause


@hostonly
@needs_podman
def test_a_key_that_nobody_reads(patient):
    """A warning: the hook ignores it, and it may be meant for somebody else."""
    patient.configure({"type": "quiet", "onEror": "ignore"})
    cause, fix = patient.doctor().find("warn", "configuration:")
    assert cause.endswith(
        "/etc/nri/conf.json: /plugins/0/onEror: ignored: not a key that nri-hook reads; "
        "did you mean onError?"
    )
    assert fix == "spell the key as it should be, or remove it, in /etc/nri/conf.json"


@hostonly
@needs_podman
@pytest.mark.parametrize("text", ["{", '{"version": "1.0.0", "stages": ["poststop"],}'])
def test_bad_json_in_a_foreign_hook_file(patient, text):
    patient.write(FOREIGN, text)
    cause, fix = patient.doctor().find("fail", "hook files:")
    assert f"{FOREIGN}: document: expected JSON, found none: " in cause
    assert cause.endswith("; podman starts no container")
    patient.fix(fix.partition(", or ")[2])
    assert patient.path(f"{FOREIGN}.off").exists()


@hostonly
@needs_podman
def test_a_plugin_slower_than_the_hook(patient):
    patient.configure({"type": "quiet", "timeout": 60})
    cause, fix = patient.doctor().find("fail", "timeouts:")
    assert "plugin quiet is given 60 s, and the whole chain is killed after 30 s" in cause
    assert '"timeout" below 30 for quiet in /etc/nri' in fix
    report = patient.fix(fix.partition(", or ")[2])
    assert report.find("ok", "timeouts:", "65 s")
    # Two that fit one by one.
    patient.configure({"type": "quiet", "timeout": 40}, {"type": "quiet", "timeout": 40})
    cause, fix = patient.doctor().find("warn", "timeouts:")
    assert "80 s together, and the chain 65 s" in cause
    patient.fix(fix)


@hostonly
@needs_podman
def test_a_guarantee_that_a_failure_of_the_plugin_undoes(patient):
    patient.configure({"type": "quiet", "onLeft": "fail", "onError": "ignore"})
    cause, fix = patient.doctor().find("warn", "configuration:")
    assert 'plugin quiet: "onLeft": "fail" with "onError": "ignore": if the plugin fails' in cause
    assert fix == '"onError": "fail" for quiet in /etc/nri'
    patient.configure({"type": "quiet", "onLeft": "fail", "onError": "fail"})
    assert "onLeft" not in patient.doctor().well().text


@hostonly
@needs_podman
def test_a_hook_file_with_less_time_than_the_chain(patient):
    change(patient, "createRuntime", lambda document: document["hook"].update(timeout=20))
    cause, fix = patient.doctor().find("fail", "timeouts:")
    assert f"{hook_file('createRuntime')}: the hook is killed after 20 s, with 30 s" in cause
    report = patient.fix(fix)
    assert report.find("ok", "timeouts:")
    change(patient, "poststop", lambda document: document["hook"].pop("timeout"))
    cause, fix = patient.doctor().find("warn", "timeouts:")
    assert "a hook that hangs is never killed" in cause
    patient.fix(fix)


@hostonly
@needs_podman
def test_wrong_versions(patient):
    patient.configure({"type": "quiet"}, version="0.2")
    cause, fix = patient.doctor().find("fail", "configuration:")
    assert '/etc/nri/conf.json: /version: expected "0.1" or "0.1.N", found "0.2"' in cause
    assert "nri-hook validate" in fix
    patient.configure({"type": "quiet"})
    good = patient.path(hook_file("poststart")).read_text()
    patient.write(FOREIGN, good.replace("1.0.0", "1.1.0").replace('"nri-hook"', '"x"'))
    cause, fix = patient.doctor().find("fail", FOREIGN)
    assert '/version: expected "1.0.0", found "1.1.0"; podman starts no container' in cause
    patient.fix(fix.partition(", or ")[2])


@hostonly
@needs_podman
def test_a_directory_that_podman_does_not_read(patient):
    """Whoever has removed the drop-in; whoever has installed to where nobody looks."""
    patient.path(DROP_IN).unlink()
    report = patient.doctor()
    cause, fix = report.find("fail", "hook files:")
    assert f"{OWN}: hook files of nri-hook, but no engine reads it: 90-nri-hook-" in cause
    assert fix == f"{LINE} under [engine] of podman"
    cause, fix = report.find("fail", "registration:")
    assert f"no hook file that calls nri-hook (podman reads {SHARED})" in cause
    patient.write(CONF, f"[engine]\n{LINE}\n")
    patient.doctor().well()
    well(patient.nri_hook("uninstall"))
    well(patient.nri_hook("install", "--hooks-dir", "/etc/hooks.d"))
    cause, fix = patient.doctor().find("fail", "registration:")
    assert f"podman reads {SHARED}, {OWN}" in cause
    assert fix.startswith("nri-hook install,")
    # Where podman is told of it on its command line, the doctor is too.
    report = patient.doctor("--hooks-dir", "/etc/hooks.d", "--plugin-dir", patient.plugins).well()
    assert report.find("ok", "podman reads /etc/hooks.d: 3 files")


@hostonly
@needs_podman
def test_a_state_directory_that_cannot_be_written(patient):
    patient.state.mkdir(0o700)
    mount = f"mount -t tmpfs -o ro,mode=700 none {patient.state}"
    cause, fix = patient.doctor(before=mount).find("fail", "records:")
    assert f"{patient.state}: cannot be written, so no container is moved" in cause
    patient.doctor(before=f"{mount}; {fix}").well()
    for spoil, expected in (
        (lambda: patient.state.chmod(0o777), "is open to others (mode 0777), expected 0700"),
        (lambda: os.chown(patient.state, 12345, 0), "belongs to uid 12345, expected 0"),
    ):
        spoil()
        cause, fix = patient.doctor().find("fail", "records:")
        assert expected in cause and fix.startswith("look at what is in it, then mv ")
        patient.fix(fix)
        (patient.directory / "state.off").rename(patient.state)
        os.chown(patient.state, 0, 0)
        patient.state.chmod(0o700)
    patient.state.rmdir()
    patient.state.write_text("")
    cause, fix = patient.doctor().find("fail", "records:")
    assert "is not a directory" in cause
    patient.fix(fix)


@hostonly
@needs_podman
def test_cgroups_that_are_read_only(patient):
    mounts = sorted(set(cgroups.mounts().values()))
    spoil = "; ".join(f"mount -o remount,bind,ro {mount}" for mount in mounts)
    cause, fix = patient.doctor(before=spoil).find("fail", "cgroups:")
    assert f"mounted read-only: {' '.join(mounts)}; no container can be moved" in cause
    patient.doctor(before=f"{spoil}; {fix}").well()


@hostonly
@needs_podman
def test_a_python_that_is_gone(patient):
    """Installed by one environment, looked at by another when the first is no more."""
    venv = patient.directory / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--copies", "--without-pip", venv], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    ours = os.path.dirname(os.path.dirname(os.path.abspath(pytest.__file__)))
    (site / "dependencies.pth").write_text(ours)
    install = ("-m", "nri_hook", "install", "--engine", "podman", "--launcher", patient.launcher)
    flags = ("--plugin-dir", patient.plugins, "--state-dir", patient.state)
    well(patient.run(venv / "bin" / "python", *install, *flags))
    assert patient.doctor().well().find("ok", f"{venv}/bin/python", "runs")
    shutil.rmtree(venv)
    cause, fix = patient.doctor().find("fail", "launcher:")
    assert f"{patient.launcher}: its interpreter {venv}/bin/python" in cause
    assert cause.endswith(" is gone, so no hook can run")
    patient.fix(fix)


@hostonly
@needs_podman
def test_a_package_that_is_spoilt(patient):
    package = patient.directory / "lib" / "nri_hook"
    shutil.copytree(f"{TOP}/nri_hook", package)
    shutil.copytree(f"{TOP}/schemas", package / "schemas")
    subprocess.run(["chmod", "-R", "go-w", package.parent], check=True)
    words = ["install", "--engine", "podman", "--launcher", patient.launcher]
    words += ["--plugin-dir", patient.plugins, "--state-dir", patient.state]
    environment = {"PYTHONPATH": str(package.parent)}
    well(patient.run(sys.executable, "-m", "nri_hook", *words, **environment))
    assert patient.doctor().well().find("ok", f"runs {package}")
    (package / "hook" / "stages.py").unlink()
    cause, fix = patient.doctor().find("fail", "launcher:")
    assert "cannot import nri_hook.hook.stages" in cause
    assert "No module named 'nri_hook.hook.stages'" in cause
    patient.fix(fix)


@hostonly
@needs_podman
def test_a_launcher_that_is_gone(patient):
    patient.launcher.unlink()
    report = patient.doctor()
    cause, fix = report.find("fail", "launcher:")
    assert f"{patient.launcher}: does not exist" in cause
    assert report.find("fail", hook_file("poststop"), "ignored in silence")
    patient.fix(fix)
    patient.launcher.chmod(0o644)
    cause, fix = patient.doctor().find("fail", "launcher:")
    assert "is not executable" in cause
    patient.fix(fix)
    patient.launcher.chmod(0o757)
    cause, fix = patient.doctor().find("fail", "launcher:")
    assert "file nri-hook may be written by others (mode 0757)" in cause
    patient.fix(fix)


def change(machine, stage, edit, directory=OWN):
    path = machine.path(hook_file(stage, directory))
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


SPOILT = {
    "a stage that is missing": (
        lambda m: m.path(hook_file("poststop")).unlink(),
        "podman does not call nri-hook for poststop",
    ),
    "a stage twice": (
        lambda m: shutil.copy(m.path(hook_file("poststop")), m.path(f"{OWN}/91-too.json")),
        f"calls it twice for poststop: {hook_file('poststop')} and {OWN}/91-too.json",
    ),
    "the wrong stage": (
        lambda m: change(m, "poststart", lambda d: d.update(stages=["createRuntime"])),
        "registered for createRuntime, and called as poststart",
    ),
    "other flags": (
        lambda m: change(m, "poststop", lambda d: d["hook"]["args"].pop()),
        f"{hook_file('poststop')}: its flags: --state-dir needs a value",
    ),
    "no condition": (
        lambda m: change(m, "createRuntime", lambda d: d.pop("when")),
        "/when matches no container",
    ),
    "another condition": (
        lambda m: change(m, "poststop", lambda d: d.update(when={"commands": ["a"]})),
        "the stages have different conditions (when)",
    ),
    "its own version": (
        lambda m: change(m, "poststop", lambda d: d.update(version="1")),
        f'{hook_file("poststop")}: /version: expected "1.0.0", found "1"',
    ),
    "types of its own": (
        lambda m: change(
            m, "poststop", lambda d: d["hook"].update(timeout="1", env=5, args=["nri-hook", 1, 2])
        ),
        f'{hook_file("poststop")}: /hook/timeout: expected an integer, found "1"',
    ),
    "everybody may write it": (
        lambda m: m.path(hook_file("poststop")).chmod(0o666),
        "file 90-nri-hook-poststop.json may be written by others (mode 0666)",
    ),
}


@hostonly
@needs_podman
@pytest.mark.parametrize("name", SPOILT)
def test_hook_files_that_are_no_whole(patient, name):
    spoil, expected = SPOILT[name]
    spoil(patient)
    report = patient.doctor()
    assert report.status == 1
    _, fix = report.find("fail", expected)
    if name == "a stage twice":
        fix = f"rm {OWN}/91-too.json"
    if name == "types of its own":
        assert fix.endswith(", with the flags that it had")
        flags = ["--plugin-dir", patient.plugins, "--state-dir", patient.state]
        fix = shlex.join([*shlex.split(fix.partition(",")[0]), *map(str, flags)])
    patient.fix(fix)


@hostonly
@needs_podman
def test_what_crio_reads(patient):
    """podman's own stage keeps CRI-O from starting, and CRI-O's time bounds the hook's."""
    well(patient.nri_hook("uninstall"))
    patient.write("/etc/crio/crio.conf.d/10-x", f'[crio.runtime]\nhooks_dir = ["{SHARED}"]\n')
    words = ["--hooks-dir", SHARED, "--plugin-dir", patient.plugins, "--state-dir", patient.state]
    well(patient.nri_hook("install", *words))
    report = patient.doctor().well()
    assert report.find("ok", "engine: CRI-O")
    assert report.find("ok", f"CRI-O reads {SHARED}: 3 files")
    assert report.find("ok", "CRI-O calls nri-hook for createRuntime, poststart, poststop")
    well(patient.nri_hook("install", *words, "--timeout", 300))
    cause, fix = patient.doctor().find("fail", hook_file("createRuntime", SHARED), "timeouts:")
    assert "the hook has 310 s, and CRI-O gives up after 240" in cause
    patient.fix(fix)
    text = patient.path(hook_file("poststop", SHARED)).read_text()
    patient.write(FOREIGN, text.replace("poststop", "precreate").replace('"nri-hook"', '"x"'))
    cause, _ = patient.doctor().find("fail", FOREIGN)
    assert "/stages/0: expected one of " in cause and cause.endswith("; CRI-O does not start")


@hostonly
@needs_podman
def test_a_configuration_that_podman_cannot_read(patient):
    patient.write(CONF, "[engine]\nhooks_dir = '/a'")
    cause, fix = patient.doctor().find("fail", "hook files:", CONF)
    assert "hooks_dir is not a list of paths, expected: " in cause and CONF in fix
    patient.path(CONF).unlink()
    patient.path("/etc/nri/conf.json").unlink()
    cause, fix = patient.doctor().well().find("warn", "configuration:")
    assert "no plugin is called" in cause and "/etc/nri/conf.json" in fix


def test_labels(tmp_path):
    """Where SELinux has a policy, told by files of its kind: no machine here has one."""
    (plain, labelled) = (tmp_path / name for name in ("plain", "labelled"))
    for file in (plain, labelled, tmp_path / "enforce"):
        file.write_text("1")
    (tmp_path / "class" / "file").mkdir(parents=True)
    try:
        os.setxattr(labelled, labels.XATTR, b"system_u:object_r:bin_t:s0\0")
        os.setxattr(plain, labels.XATTR, b"system_u:object_r:tmp_t:s0\0")
    except OSError as error:
        pytest.skip(f"no labels here: {error}")
    (finding,) = labels.check([str(plain), str(labelled)], str(tmp_path))
    assert finding.level == "warn"
    assert f"{plain}: label system_u:object_r:tmp_t:s0, expected" in finding.what
    assert f"restorecon -v {plain}" in finding.fix
    (finding,) = labels.check([str(labelled)], str(tmp_path))
    assert (finding.level, finding.fix) == ("ok", "")
    (tmp_path / "class" / "file").rmdir()  # a kernel that was given no policy: trixie's guest
    for mount in (tmp_path, tmp_path / "none"):
        (finding,) = labels.check([str(plain)], str(mount))
        assert (finding.level, finding.what) == ("ok", "not enabled")


def test_no_engine_and_no_runtime(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "nri_hook", "doctor"],
        env={"PATH": str(tmp_path), "PYTHONPATH": TOP, "HOME": str(tmp_path)},
        cwd="/",
        capture_output=True,
        text=True,
    )
    report = Report(done.returncode, done.stdout)
    assert report.find("fail", "no runc and no crun in $PATH")[1] == "apt-get install runc"


def test_what_the_runtimes_say_of_themselves():
    """`runc features` and `crun features`, of the versions that have them."""
    found = list(programs.check(False))
    for name in programs.RUNTIMES:
        if not shutil.which(name):
            continue
        (said,) = [finding for finding in found if finding.what.startswith(f"{name} version")]
        done = subprocess.run([name, "features"], capture_output=True, text=True)
        expected = "hooks createRuntime, poststart, poststop"
        assert said.level == "ok"
        assert (expected in said.what) == (done.returncode == 0 and "createRuntime" in done.stdout)


def test_a_runtime_that_does_not_call_our_hooks(tmp_path):
    script = '#!/bin/sh\n[ "$1" = features ] && echo \'{"hooks": ["prestart"]}\' || echo runc old\n'
    (tmp_path / "runc").write_text(script)
    (tmp_path / "runc").chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "nri_hook", "doctor"],
        env={"PATH": f"{tmp_path}:/bin", "PYTHONPATH": TOP, "HOME": str(tmp_path)},
        cwd="/",
        capture_output=True,
        text=True,
    )
    report = Report(done.returncode, done.stdout)
    cause, fix = report.find("fail", "runtime:")
    assert "runc old does not call hooks of createRuntime, poststart, poststop" in cause
    assert fix == "install a newer runc"


@hostonly
@needs_podman
def test_somebody_else_than_root_gets_an_answer_too(scene):
    """What may not be looked at is a finding, and the rest goes on."""
    home = f"{scene.directory}/home"
    os.makedirs(f"{home}/containers/containers.conf.d", 0o700)
    os.chmod(f"{home}/containers", 0o700)

    def look():
        os.environ["XDG_CONFIG_HOME"] = home
        with contextlib.redirect_stdout(io.StringIO()) as out:
            return main(["doctor"]), out.getvalue()

    from nri_hook.cli import doctor  # noqa: F401, which may lie in root's home

    report = Report(*as_user(12345, look))
    assert report.status == 1
    assert report.find("fail", f"podman: {home}/containers/containers.conf.d: Permission denied")
    if not cgroups.pure_v2():
        cause, fix = report.find("fail", "cgroups:", "no permission to write")
        assert "as root" in fix
    assert report.find("ok", "SELinux:")


# A bundle, and what its containers leave


class Bundle:
    """A container of runc or crun that a plugin moves, and the doctor of its node."""

    def __init__(self, scene, node, oci):
        self.node, self.oci = node, oci
        self.target = f"{scene.cgroup}/target/one"
        self.plugin = node.plugin("mover", {"create": {"result": {"cgroupsPath": self.target}}})
        node.configure(self.plugin)
        self.bundle = scene.bundle()
        oci.install(node, self.bundle)
        oci.create("one", self.bundle).check()
        oci.start("one").check()
        self.pid = oci.pid("one")

    def nri_hook(self, *args):
        """A command where the runtime's cgroups are seen as the hook has seen them."""
        argv = [*self.oci.prefix, sys.executable, "-m", "nri_hook", *args]
        environment = {**os.environ, "PYTHONPATH": TOP}
        return run(argv, f"{self.oci.directory}/doctor", cwd="/", env=environment)

    def doctor(self):
        done = self.nri_hook("doctor", "--bundle", self.bundle.directory)
        assert done.err == ""
        return Report(done.status, done.out)


# What the cgroups are makes no difference here.
@pytest.fixture(params=[name for name in runtimes.binaries() if name != "runc-v2"])
def moved(scene, node, request):
    return Bundle(scene, node, scene.runtime(request.param))


def test_a_container_in_its_place_and_one_that_drifted(moved):
    report = moved.doctor().well()
    assert report.find(
        "ok", f"{moved.bundle.directory} calls nri-hook for createRuntime, poststart"
    )
    assert report.find("ok", f"records: {moved.node.state_dir}: 1 of containers that are there")
    mount = next(iter(moved.oci.hierarchies().values()))
    elsewhere = f"{mount}{moved.target}-elsewhere"
    os.mkdir(elsewhere)
    for file in ("cpuset.mems", "cpuset.cpus"):
        if os.path.exists(f"{elsewhere}/{file}") and not cgroups.pure_v2():
            text = read(f"{mount}{moved.target}/{file}")
            with open(f"{elsewhere}/{file}", "w") as output:
                output.write(text)
    with open(f"{elsewhere}/cgroup.procs", "w") as file:
        file.write(str(moved.pid))
    cause, fix = moved.doctor().find("warn", "records:")
    assert "one-" in cause and f"in {moved.target}-elsewhere, expected {moved.target} (" in cause
    assert fix == f"echo {moved.pid} >{mount}{moved.target}/cgroup.procs"
    subprocess.run([*moved.oci.prefix, "sh", "-ec", fix], check=True)
    wait_until(lambda: read(f"{elsewhere}/cgroup.procs") == "")  # a child that ends by itself
    os.rmdir(elsewhere)
    assert not [line for line in moved.doctor().well().lines("warn") if "records" in line]
    moved.oci.delete("one").check()


def test_a_stale_record(moved):
    """The runtime has lost the container, and nobody called poststop."""
    moved.oci.kill("one").check()
    moved.oci.wait("one")
    shutil.rmtree(f"{moved.oci.root}/one")
    cause, fix = moved.doctor().well().find("warn", "records:")
    (name,) = moved.node.records()
    assert f"{moved.node.state_dir}: 1 record whose container is gone: {name[:-5]}" in cause
    assert fix == f"nri-hook gc --state-dir {moved.node.state_dir}"
    moved.nri_hook(*fix.split()[1:]).check()
    report = moved.doctor().well()
    assert report.find("ok", f"records: {moved.node.state_dir}: 0 of containers")
    assert moved.node.left() == []


def test_a_record_that_is_none(moved):
    moved.oci.delete("one").check()
    path = f"{moved.node.state_dir}/odd.json"
    for text in ("{", '{"pid": 1}', "[]"):
        with open(path, "w") as file:
            file.write(text)
        cause, fix = moved.doctor().find("fail", "records:")
        assert path in cause and fix == f"rm {path}"
    os.unlink(path)
    moved.doctor().well()


def test_a_record_of_a_later_version(moved):
    """Nobody but that version knows what it needs: it is named, and left as it is."""
    (name,) = moved.node.records()
    path = f"{moved.node.state_dir}/{name}"
    with open(path, "ab") as file:
        file.write(b'{"version": 2}\n')
    text = read(path)
    cause, fix = moved.doctor().find("fail", "records:")
    assert f"{path}: was written by a later nri-hook: version 2, expected 1 at most" in cause
    assert fix == "install that version again"
    done = moved.nri_hook("gc", "--state-dir", moved.node.state_dir)
    assert done.status == 1 and "was written by a later nri-hook" in done.err
    moved.oci.delete("one").check()
    moved.oci.create("one", moved.bundle).refused()  # crun does not say why
    assert read(path) == text
    # That version does what is still to be done.
    with open(path, "ab") as file:
        file.write(b'{"version": 1}\n')
    moved.nri_hook("gc", "--state-dir", moved.node.state_dir).check()
    assert moved.node.left() == []


def test_a_bundle_without_hooks(scene, node):
    bundle = scene.bundle()
    done = command("doctor", "--bundle", bundle.directory)
    report = Report(done.status, done.out)
    cause, fix = report.find("fail", "does not call nri-hook for poststop")
    assert fix == f"nri-hook install --bundle {bundle.directory}"
    # What the runtime itself refuses must not keep the doctor from speaking.
    bundle.config["hooks"] = {"poststop": [{"args": ["nri-hook"], "timeout": "x", "env": 1}]}
    bundle.save()
    done = command("doctor", "--bundle", bundle.directory)
    report = Report(done.status, done.out)
    assert done.err == "" and report.find("fail", "registered for poststop, and called as none")
    assert (
        "does not exist, expected a bundle" in command("doctor", "--bundle", "/proc/none").refused()
    )


def test_the_layout_is_that_of_this_machine():
    found = list(layout.check())
    assert found[0].level == "ok"
    assert ("hybrid" in found[0].what) == layout.is_hybrid()
    assert ("v2 at" in found[0].what) == cgroups.pure_v2()


@needs_podman
def test_the_cgroup_manager_is_what_podman_says():
    shown = ["podman", "info", "--format", "{{.Host.CgroupManager}}"]
    manager = subprocess.run(shown, check=True, capture_output=True, text=True).stdout.strip()
    (said,) = [finding for finding in layout.check() if "cgroup manager of podman" in finding.what]
    assert said.what.startswith(f"cgroup manager of podman: {manager}")
    assert said.level == "ok"


@hostonly
@needs_podman
def test_a_cgroup_manager_that_does_not_run(patient):
    """As in a configuration that was copied from elsewhere."""
    if os.path.isdir(layout.RUNS_SYSTEMD):
        pytest.skip("systemd runs")
    patient.write(CONF, f'[engine]\n{LINE}\n# cgroup_manager = "x"\ncgroup_manager = "systemd"\n')
    cause, fix = patient.doctor().find("fail", "cgroups:")
    assert "cgroup manager of podman: systemd, and systemd does not run" in cause
    patient.write(CONF, f"[engine]\n{LINE}\n{fix.partition(' under ')[0]}\n")
    patient.doctor().well()


@pytest.mark.parametrize("args", [["--timeout", "soon"], ["--bundle", "/a", "--hooks-dir", "/b"]])
def test_wrong_usage(args):
    done = nri_hook("doctor", *args)
    assert done.returncode == 2 and "Traceback" not in done.stderr
