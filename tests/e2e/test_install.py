"""`nri-hook install` and `nri-hook uninstall`, on real files and under real runtimes."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from support.podman import alone
from support.tree import TOP

from nri_hook.cli.install import closed_to_others

# Slow in the guest, and nothing in it depends on the kernel.
pytestmark = pytest.mark.hostonly

ROOT = Path(TOP)
STAGES = ("createRuntime", "poststart", "poststop")
MINE = f"nri-test-install-{os.getpid()}"
CGROUPS = Path("/sys/fs/cgroup")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def nri_hook(*args: object, cwd: object = "/", package: object = ROOT, **keywords: Any) -> Any:
    """Run the command and return what subprocess.run() does."""
    return subprocess.run(
        [sys.executable, "-m", "nri_hook", *map(str, args)],
        cwd=str(cwd),
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        timeout=60,
        **keywords,
    )


def well(run: Any) -> Any:
    """The run, which has to have ended well."""
    assert run.returncode == 0, run.stderr
    return run


def one_line(run: Any, status: int = 1) -> str:
    """The line on stderr of a run that has to have failed."""
    assert run.returncode == status, (run.stdout, run.stderr)
    assert run.stderr.count("\n") == 1 and run.stderr.startswith("nri-hook "), run.stderr
    return str(run.stderr)


def tree(directory: Path) -> dict[str, Any]:
    """All there is below a directory: kind, mode, owner, place on the disk and content."""
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path.relative_to(directory))] = (
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_ino,
            status.st_mtime_ns,
            data,
        )
    return found


@pytest.fixture
def places(tmp_path: Path) -> list[object]:
    """The flags that keep an installation below tmp_path."""
    return ["--hooks-dir", tmp_path / "hooks.d", "--launcher", tmp_path / "libexec" / "nri-hook"]


def make_bundle(directory: Path, *command: str) -> Path:
    """A bundle as `runc spec` makes it, with busybox as its only file."""
    (directory / "rootfs" / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", directory / "rootfs" / "bin" / "busybox")
    subprocess.run(["runc", "spec", "--bundle", str(directory)], check=True)
    if command:
        config = json.loads((directory / "config.json").read_text())
        config["process"]["args"] = ["/bin/busybox", *command]
        config["process"]["terminal"] = False
        (directory / "config.json").write_text(json.dumps(config))
    return directory


needs_runc = pytest.mark.skipif(not shutil.which("runc"), reason="needs runc")


# Hook files


@pytest.mark.parametrize("stage", STAGES)
def test_repository_holds_what_print_shows(stage: str) -> None:
    shown = well(nri_hook("install", "--print", stage)).stdout
    assert shown.encode() == (ROOT / "hooks.d" / f"90-nri-hook-{stage}.json").read_bytes()


def test_repository_holds_nothing_else() -> None:
    expected = {f"90-nri-hook-{stage}.json" for stage in STAGES}
    assert {path.name for path in (ROOT / "hooks.d").iterdir()} == expected


def test_install_writes_all(tmp_path: Path, places: list[object]) -> None:
    plugins = tmp_path / "plugins"
    flags = ["--plugin-dir", plugins, "--plugin-dir", "/opt/more", "--timeout", "2.5"]
    well(nri_hook("install", *places, *flags, umask=0o077))
    written = {path for path in tmp_path.rglob("*") if path.is_file()}
    launcher = tmp_path / "libexec" / "nri-hook"
    hooks = {s: tmp_path / "hooks.d" / f"90-nri-hook-{s}.json" for s in STAGES}
    assert written == {launcher, *hooks.values()}
    for stage, path in hooks.items():
        assert json.loads(path.read_text()) == {
            "version": "1.0.0",
            "hook": {
                "path": str(launcher),
                "args": ["nri-hook", stage, *map(str, flags)],
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "timeout": 13,
            },
            "when": {"always": True},
            "stages": [stage],
        }
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert stat.S_IMODE(launcher.stat().st_mode) == 0o755
    assert stat.S_IMODE(launcher.parent.stat().st_mode) == 0o755


def test_install_again_changes_nothing(tmp_path: Path, places: list[object]) -> None:
    well(nri_hook("install", *places))
    before = tree(tmp_path)
    well(nri_hook("install", *places))
    assert tree(tmp_path) == before


def test_install_again_takes_new_flags(tmp_path: Path, places: list[object]) -> None:
    well(nri_hook("install", *places, "--conf-dir", "/one"))
    well(nri_hook("install", *places, "--state-dir", "/two"))
    for stage in STAGES:
        hook = json.loads((tmp_path / "hooks.d" / f"90-nri-hook-{stage}.json").read_text())["hook"]
        assert hook["args"] == ["nri-hook", stage, "--state-dir", "/two"]


@needs_root
def test_install_keeps_owner_and_mode_of_hook_files(tmp_path: Path, places: list[object]) -> None:
    well(nri_hook("install", *places))
    path = tmp_path / "hooks.d" / "90-nri-hook-poststop.json"
    os.chown(path, 0, 4)
    path.chmod(0o640)
    well(nri_hook("install", *places, "--timeout", 7))
    assert json.loads(path.read_text())["hook"]["timeout"] == 17
    assert (path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (4, 0o640)


@needs_root
@pytest.mark.parametrize(("uid", "mode"), [(65321, 0o644), (0, 0o666)])
def test_install_takes_a_hook_file_from_others(
    tmp_path: Path, places: list[object], uid: int, mode: int
) -> None:
    """Who may write it may execute anything as root."""
    well(nri_hook("install", *places))
    path = tmp_path / "hooks.d" / "90-nri-hook-poststop.json"
    os.chown(path, uid, uid)
    path.chmod(mode)
    well(nri_hook("install", *places))
    assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (0, 0o644)


def test_install_repairs_the_launchers_mode(tmp_path: Path, places: list[object]) -> None:
    well(nri_hook("install", *places))
    launcher = tmp_path / "libexec" / "nri-hook"
    launcher.chmod(0o666)
    well(nri_hook("install", *places))
    assert stat.S_IMODE(launcher.stat().st_mode) == 0o755


def test_paths_are_made_absolute(tmp_path: Path) -> None:
    flags = ["--hooks-dir", "h", "--launcher", "l", "--conf-dir", "../c", "--plugin-dir", "p/"]
    here = tmp_path / "here"
    here.mkdir()
    well(nri_hook("install", *flags, "--state-dir", "s", cwd=here))
    hook = json.loads((here / "h" / "90-nri-hook-poststop.json").read_text())["hook"]
    assert hook["path"] == str(here / "l")
    assert hook["args"][2:] == [
        *("--conf-dir", str(tmp_path / "c")),
        *("--plugin-dir", str(here / "p")),
        *("--state-dir", str(here / "s")),
    ]


def shown_files(text: str) -> list[tuple[str, str]]:
    """(path, content) of each file that --print showed."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines(keepends=True):
        if line.startswith("==> "):
            found.append((line[4:-5], ""))
        else:
            found[-1] = (found[-1][0], found[-1][1] + line)
    return found


def test_print_shows_what_install_writes(tmp_path: Path, places: list[object]) -> None:
    flags = [*places, "--conf-dir", "/x"]
    shown = shown_files(well(nri_hook("install", *flags, "--print")).stdout)
    assert tree(tmp_path) == {}
    well(nri_hook("install", *flags))
    hooks = [tmp_path / "hooks.d" / f"90-nri-hook-{stage}.json" for stage in STAGES]
    expected = [*hooks, tmp_path / "libexec" / "nri-hook"]
    assert shown == [(str(path), path.read_text()) for path in expected]


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize("whole", [0, 1, 2])
def test_a_killed_install_leaves_whole_files(
    tmp_path: Path, places: list[object], whole: int
) -> None:
    """Killed before each rename: the launcher stands first, and no engine reads half a file."""
    command = [sys.executable, "-m", "nri_hook", "install", *map(str, places)]
    kill = f"inject=?rename,?renameat,?renameat2:signal=KILL:when={whole + 1}"
    subprocess.run(
        ["strace", "-o", "/dev/null", "-e", kill, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        timeout=60,
    )
    hooks = [tmp_path / "hooks.d" / f"90-nri-hook-{stage}.json" for stage in STAGES]
    expected = [tmp_path / "libexec" / "nri-hook", *hooks]
    assert [path for path in expected if path.exists()] == expected[:whole]
    (half,) = {path for path in tmp_path.rglob("*") if path.is_file()} - set(expected)
    assert half.parent == expected[whole].parent and half.suffix == ".tmp"
    well(nri_hook("install", *places))
    assert all(path.exists() for path in expected)


def test_a_foreign_file_at_the_launchers_place_is_kept(
    tmp_path: Path, places: list[object]
) -> None:
    launcher = tmp_path / "libexec" / "nri-hook"
    launcher.parent.mkdir()
    launcher.write_text("#!/bin/sh\necho something else\n")
    before = tree(tmp_path)
    assert f"{launcher}: is not a launcher of nri-hook" in one_line(nri_hook("install", *places))
    assert tree(tmp_path) == before


def test_a_file_where_a_directory_should_be(tmp_path: Path, places: list[object]) -> None:
    (tmp_path / "hooks.d").write_text("")
    assert f"{tmp_path}/hooks.d: cannot be read: Not a directory" in one_line(
        nri_hook("install", *places)
    )


def test_a_link_in_the_place_of_a_hook_file_is_kept(tmp_path: Path, places: list[object]) -> None:
    (tmp_path / "hooks.d").mkdir()
    (tmp_path / "hooks.d" / "90-nri-hook-poststop.json").symlink_to("/dev/null")
    before = tree(tmp_path)
    assert "poststop.json: expected a regular file" in one_line(nri_hook("install", *places))
    assert tree(tmp_path) == before


def test_a_foreign_hook_file_is_kept(tmp_path: Path, places: list[object]) -> None:
    path = tmp_path / "hooks.d" / "90-nri-hook-poststart.json"
    path.parent.mkdir()
    ours = well(nri_hook("install", *places, "--print", "poststart")).stdout
    for text in ("", "{", "{}", ours.replace('"nri-hook"', '"other"')):
        path.write_text(text)
        before = tree(tmp_path)
        line = one_line(nri_hook("install", *places))
        assert line == (
            f"nri-hook install: {path}: is not a hook file of nri-hook, so it is kept; "
            "expected it to be moved away\n"
        )
        assert tree(tmp_path) == before
    # By another launcher it is ours all the same.
    path.write_text(ours.replace(str(tmp_path), "/elsewhere"))
    well(nri_hook("install", *places))
    assert path.read_text() == ours


def test_a_directory_with_a_file_that_stops_the_engine(
    tmp_path: Path, places: list[object]
) -> None:
    """Whoever installs next would be blamed for it."""
    path = tmp_path / "hooks.d" / "10-other.json"
    path.parent.mkdir()
    good = {
        "version": "1.0.0",
        "hook": {"path": "/bin/true"},
        "when": {"always": True},
        "stages": ["poststop"],
    }
    for document, reason in (
        ("{", "document: expected JSON, found none: "),
        (dict(good, version="2.0.0"), '/version: expected "1.0.0", found "2.0.0"'),
        (dict(good, stages=["sometime"]), "/stages/0: expected one of "),
        (dict(good, when={"commands": ["("]}), "/when/commands/0: expected a regular expression"),
    ):
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        before = tree(tmp_path)
        line = one_line(nri_hook("install", *places))
        assert line.startswith(f"nri-hook install: {path}: stops podman: {reason}")
        assert line.endswith("; nothing installed until it is fixed\n")
        assert tree(tmp_path) == before
    # What an engine does not read, or passes over, is nobody's trouble.
    path.write_text(json.dumps(dict(good, hook={"path": "/proc/no-such"}, x=1)))
    (path.parent / "10-other.json.off").write_text("{")
    well(nri_hook("install", *places))


@pytest.mark.parametrize("stage", STAGES)
def test_gated_by_annotations(tmp_path: Path, places: list[object], stage: str) -> None:
    flags = ["--when-annotation", "io.x/qos=ls|be", "--when-annotation", "a+b==1.*"]
    shown = json.loads(well(nri_hook("install", *flags, "--print", stage)).stdout)
    expected = {r"^io\.x/qos$": "^(?:ls|be)$", r"^a\+b$": "^(?:=1.*)$"}
    assert shown.pop("when") == {"annotations": expected}
    plain = json.loads(well(nri_hook("install", "--print", stage)).stdout)
    assert plain.pop("when") == {"always": True}
    assert shown == plain
    well(nri_hook("install", *places, *flags))
    path = tmp_path / "hooks.d" / f"90-nri-hook-{stage}.json"
    assert json.loads(path.read_text())["when"] == {"annotations": expected}
    # Given again without them, for every container.
    well(nri_hook("install", *places))
    assert json.loads(path.read_text())["when"] == {"always": True}


@pytest.mark.parametrize(
    "args",
    [
        ["install", "--when-annotation", "a"],
        ["install", "--when-annotation", "=a"],
        ["install", "--when-annotation", "a=("],
        ["install", "--when-annotation", "a=(?=b)"],
        ["install", "--when-annotation", "a=b", "--when-annotation", "a=c"],
        ["install", "--when-annotation", "a=b", "--bundle", "/b"],
        ["install", "--engine", "crio", "--print", "precreate"],
        [],
        ["frobnicate"],
        ["install", "--timeout", "soon"],
        ["install", "--timeout", "-1"],
        ["install", "--print", "precreate"],
        ["install", "--hooks-dir", ""],
        ["install", "--hooks-dir", "/a", "--bundle", "/b"],
        ["install", "--hooks-dir", "/a", "--engine", "podman"],
        ["uninstall", "--bundle", "/b", "--engine", "podman"],
        ["install", "--bundle", "/b", "--print", "poststop"],
        ["install", "--hooks", "/a"],
        ["install", "--launcher", "/nri\udcff"],
        ["uninstall", "--conf-dir", "/a"],
    ],
)
def test_wrong_usage(args: list[str]) -> None:
    run = nri_hook(*args)
    assert run.returncode == 2
    assert "nri-hook" in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr


def test_a_stage_is_no_command_of_argparse() -> None:
    run = nri_hook("createRuntime", "--no-such-flag", "x", input="{}")
    assert run.returncode == 2
    assert "--no-such-flag" in run.stderr and "usage:" not in run.stderr


# Who may write where


def test_a_launcher_that_others_may_replace_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    hooks = ["--hooks-dir", tmp_path / "hooks.d"]
    for mode, place in ((0o777, "nri-hook"), (0o777, "a/b/nri-hook"), (0o1777, "nri-hook")):
        shared.chmod(mode)
        line = one_line(nri_hook("install", *hooks, "--launcher", shared / place))
        assert f"{shared}: may be written by others (mode {mode:04o})" in line
        assert [path.name for path in tmp_path.rglob("*")] == ["shared"]
    # In a directory of our own inside a sticky one nobody else can do anything.
    shared.chmod(0o1777)
    well(nri_hook("install", *hooks, "--launcher", shared / "ours" / "nri-hook"))


def test_a_package_that_others_may_write_is_refused(tmp_path: Path, places: list[object]) -> None:
    above = tmp_path / "above"
    package = above / "lib" / "nri_hook"
    shutil.copytree(ROOT / "nri_hook", package)
    shutil.copytree(ROOT / "schemas", package / "schemas")
    subprocess.run(["chmod", "-R", "go-w", str(above)], check=True)
    well(nri_hook("install", *places, package=package.parent))
    for path, mode in (
        (above, 0o777),
        (package.parent, 0o775),
        (package.parent, 0o1777),
        (package, 0o777),
        (package, 0o1777),
        (package / "stages.py", 0o666),
    ):
        before = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode)
        line = one_line(nri_hook("install", *places, package=package.parent))
        assert f"{path}: may be written by others (mode {mode:04o})" in line
        path.chmod(before)
    above.chmod(0o1777)
    well(nri_hook("install", *places, package=package.parent))


@needs_root
def test_a_package_of_somebody_else_is_warned_about(tmp_path: Path, places: list[object]) -> None:
    package = tmp_path / "lib" / "nri_hook"
    shutil.copytree(ROOT / "nri_hook", package)
    shutil.copytree(ROOT / "schemas", package / "schemas")
    subprocess.run(["chmod", "-R", "go-w", str(package.parent)], check=True)
    os.chown(package.parent, 12345, 0)
    run = well(nri_hook("install", *places, package=package.parent))
    lines = [line for line in run.stderr.splitlines() if "12345" in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"nri-hook install: warning: {package}/")
    assert "directory lib belongs to uid 12345, expected root" in lines[0]


@needs_root
def test_what_is_closed_to_others_is_warned_about(tmp_path: Path, places: list[object]) -> None:
    """podman has the hooks called for containers of every user."""
    last = "closed to other users, so podman starts no container of theirs"
    tmp_path.chmod(0o700)
    assert last in well(nri_hook("install", *places)).stderr.splitlines()[-1]
    (tmp_path / "config.json").write_text("{}")
    bundle = ["--bundle", tmp_path, "--launcher", tmp_path / "nri-hook"]
    assert last not in well(nri_hook("install", *bundle)).stderr
    with tempfile.TemporaryDirectory(prefix="nri-test-") as top:
        file = Path(top, "a", "b")
        file.parent.mkdir()
        file.write_text("")
        for path in (file, file.parent, file.parent.parent):
            path.chmod(0o755)
        assert closed_to_others(["/bin/sh", str(file)]) is None
        for path, mode in ((file, 0o750), (file.parent, 0o754), (file.parent.parent, 0o700)):
            path.chmod(mode)
            assert closed_to_others(["/bin/sh", str(file)]) == str(path)
            path.chmod(0o755)


@needs_root
def test_a_place_without_executables_is_refused(tmp_path: Path) -> None:
    script = (
        f"mount -t tmpfs -o noexec,mode=755 none {tmp_path} && exec {sys.executable} -m nri_hook "
        f"install --hooks-dir {tmp_path}/hooks.d --launcher {tmp_path}/libexec/nri-hook"
    )
    run = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert f"{tmp_path}: is mounted noexec" in one_line(run)


# Bundles


@needs_runc
@pytest.mark.parametrize("end", ["", "\n"])
def test_a_bundle_goes_back_to_what_it_was(tmp_path: Path, end: str) -> None:
    config = make_bundle(tmp_path / "bundle") / "config.json"
    original = config.read_text() + end
    config.write_text(original)
    config.chmod(0o600)
    args = ["--bundle", config.parent, "--launcher", tmp_path / "nri-hook"]
    well(nri_hook("install", *args))
    installed = config.read_text()
    # All that runc wrote is still there to the byte, as it stood.
    assert installed.startswith(original.rstrip("\n")[: -len("\n}")])
    well(nri_hook("install", *args))
    assert config.read_text() == installed
    well(nri_hook("uninstall", *args))
    assert config.read_text() == original
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert not (tmp_path / "nri-hook").exists()


def other(name: str) -> dict[str, Any]:
    """A hook of somebody else."""
    return {"path": f"/usr/bin/{name}", "args": [name, "nri-hook"], "env": ["A=ü"]}


def test_other_hooks_of_a_bundle_stay(tmp_path: Path) -> None:
    launcher = str(tmp_path / "nri-hook")
    config = tmp_path / "config.json"
    document = {
        "ociVersion": "1.0.2",
        "x-unknown": ["\ud83d", 2**70, 0.1, -0.0, None, {}, []],
        "hooks": {
            "prestart": [other("a")],
            "createRuntime": [other("b"), {"path": launcher}, {"path": launcher, "args": []}],
            "poststop": None,
            "x-stage": [],
        },
        "linux": {"resources": {"devices": [{"allow": False}]}},
    }
    config.write_text(json.dumps(document, indent=3))
    args = ["--bundle", tmp_path, "--launcher", launcher]

    def entry(stage: str, timeout: int, *flags: str) -> dict[str, Any]:
        return {
            "path": launcher,
            "args": ["nri-hook", stage, *flags],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "timeout": timeout,
        }

    well(nri_hook("install", *args))
    expected: Any = json.loads(json.dumps(document))
    expected["hooks"]["createRuntime"].append(entry("createRuntime", 40))
    expected["hooks"]["poststart"] = [entry("poststart", 40)]
    expected["hooks"]["poststop"] = [entry("poststop", 40)]
    installed = json.loads(config.read_text())
    assert installed == expected
    assert list(installed) == list(document) and list(installed["hooks"]) == list(expected["hooks"])

    # In the place where it was, and only once.
    installed["hooks"]["createRuntime"] += [other("c"), entry("createRuntime", 1)]
    config.write_text(json.dumps(installed))
    well(nri_hook("install", *args, "--timeout", "0.5", "--conf-dir", "/c"))
    flags = ("--conf-dir", "/c", "--timeout", "0.5")
    expected["hooks"]["createRuntime"][3] = entry("createRuntime", 11, *flags)
    expected["hooks"]["createRuntime"].append(other("c"))
    expected["hooks"]["poststart"] = [entry("poststart", 11, *flags)]
    expected["hooks"]["poststop"] = [entry("poststop", 11, *flags)]
    assert json.loads(config.read_text()) == expected

    # From every stage, those that this version does not register among them.
    expected["hooks"]["poststart"] = [entry("poststart", 9), other("d")]
    config.write_text(json.dumps(expected))
    well(nri_hook("uninstall", *args))
    del expected["hooks"]["createRuntime"][3], expected["hooks"]["poststop"]
    expected["hooks"]["poststart"] = [other("d")]
    assert json.loads(config.read_text()) == expected


def test_an_entry_of_another_launcher_is_named(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    mine, theirs = tmp_path / "one", tmp_path / "two"
    well(nri_hook("install", "--bundle", tmp_path, "--launcher", theirs))
    run = well(nri_hook("install", "--bundle", tmp_path, "--launcher", mine))
    assert f"/hooks/createRuntime has nri-hook by {theirs} too" in run.stderr
    run = nri_hook("uninstall", "--bundle", tmp_path, "--launcher", mine)
    assert run.returncode == 1
    assert f"/hooks/poststop kept, it calls {theirs}, expected {mine}" in run.stderr
    left = json.loads(config.read_text())["hooks"]
    assert {stage: [hook["path"] for hook in left[stage]] for stage in left} == {
        stage: [str(theirs)] for stage in STAGES
    }
    assert theirs.exists() and not mine.exists()


@needs_root
def test_a_bundle_keeps_its_owner(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    os.chown(config, 1234, 5678)
    config.chmod(0o660)
    for command in ("install", "uninstall"):
        well(nri_hook(command, "--bundle", tmp_path, "--launcher", tmp_path / "l" / "nri-hook"))
        status = config.stat()
        assert (status.st_uid, status.st_gid) == (1234, 5678)
        assert stat.S_IMODE(status.st_mode) == 0o660
    assert json.loads(config.read_text()) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist, expected a bundle"),
        ("", "empty"),
        ('{"hooks": {"createRuntime": [', "JSON"),
        ("[]", "expected a JSON object"),
        ('{"hooks": []}', "/hooks: expected an object"),
        ('{"hooks": [1]}', "/hooks: expected an object"),
        ('{"hooks": {"prestart": {"path": "/x"}}}', "/hooks/prestart: expected an array"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1, "a": 2}', "twice"),
        ("[" * 100000, "nested"),
        ('{"a": "\udcff"}', "UTF-8"),
    ],
)
def test_a_bad_bundle_is_left_alone(tmp_path: Path, text: "str | None", message: str) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    if text is not None:
        (bundle / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    before = tree(tmp_path)
    line = one_line(nri_hook("install", "--bundle", bundle, "--launcher", tmp_path / "nri-hook"))
    assert line.startswith(f"nri-hook install: {bundle}/config.json: ") and message in line
    assert tree(tmp_path) == before


def test_a_linked_config_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("{}")
    (tmp_path / "config.json").symlink_to("real.json")
    before = tree(tmp_path)
    for command in ("install", "uninstall"):
        run = nri_hook(command, "--bundle", tmp_path, "--launcher", tmp_path / "nri-hook")
        assert "config.json: expected a regular file" in one_line(run)
        assert tree(tmp_path) == before


def test_print_for_a_bundle(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"hooks": {}}')
    args = ["--bundle", tmp_path, "--launcher", tmp_path / "nri-hook"]
    before = tree(tmp_path)
    shown = shown_files(well(nri_hook("install", *args, "--print")).stdout)
    assert tree(tmp_path) == before
    well(nri_hook("install", *args))
    expected = [config.read_text() + "\n", (tmp_path / "nri-hook").read_text()]
    assert shown == list(zip((str(config), str(tmp_path / "nri-hook")), expected))


def test_the_launcher_of_a_bundle_lies_in_the_python_environment(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    shown = shown_files(well(nri_hook("install", "--bundle", tmp_path, "--print")).stdout)
    assert shown[-1][0] == os.path.join(sys.prefix, "libexec", "nri-hook")


# Uninstall


def test_uninstall_takes_all_away(tmp_path: Path, places: list[object]) -> None:
    well(nri_hook("install", *places))
    bystander = tmp_path / "hooks.d" / "10-other.json"
    bystander.write_text("{}")
    well(nri_hook("uninstall", *places))
    assert {p.name for p in tmp_path.rglob("*")} == {"hooks.d", "10-other.json", "libexec"}
    again = well(nri_hook("uninstall", *places))
    assert (again.stdout, again.stderr) == ("", "")


def test_uninstall_where_nothing_is(tmp_path: Path) -> None:
    launcher = tmp_path / "no" / "nri-hook"
    for place in ("--hooks-dir", "--bundle"):
        well(nri_hook("uninstall", place, tmp_path / "none", "--launcher", launcher))


def test_uninstall_keeps_what_is_not_ours(tmp_path: Path, places: list[object]) -> None:
    well(nri_hook("install", *places))
    hooks = tmp_path / "hooks.d"
    create, _, stop = (hooks / f"90-nri-hook-{stage}.json" for stage in STAGES)
    document = json.loads(create.read_text())
    document["hook"]["path"] = "/usr/bin/other"
    create.write_text(json.dumps(document))
    (hooks / "90-nri-hook-bad.json").write_text("{")
    run = nri_hook("uninstall", *places)
    assert run.returncode == 1
    lines = run.stderr.splitlines()
    assert len(lines) == 2
    assert f"{hooks}/90-nri-hook-bad.json: kept, it is not a hook file" in lines[0]
    assert f"{create}: kept, it calls /usr/bin/other" in lines[1]
    assert create.exists() and not stop.exists() and not (tmp_path / "libexec/nri-hook").exists()


def test_uninstall_keeps_a_foreign_launcher(tmp_path: Path, places: list[object]) -> None:
    well(nri_hook("install", *places))
    launcher = tmp_path / "libexec" / "nri-hook"
    launcher.write_text("#!/bin/sh\n")
    assert f"{launcher}: kept" in one_line(nri_hook("uninstall", *places))
    assert launcher.exists() and not list((tmp_path / "hooks.d").iterdir())


def test_the_launcher_stays_where_the_config_cannot_be_read(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    args = ["--bundle", tmp_path, "--launcher", tmp_path / "nri-hook"]
    well(nri_hook("install", *args))
    config.write_text(config.read_text()[:-1])
    assert str(config) in one_line(nri_hook("uninstall", *args))
    assert (tmp_path / "nri-hook").exists()


# Under real runtimes


@pytest.fixture
def node(tmp_path: Path) -> Any:
    """Flags for a host configuration with one plugin, which writes down each payload."""
    plugin = tmp_path / "plugins" / "recorder"
    plugin.parent.mkdir()
    plugin.write_text(
        f"#!/bin/sh\ncat >>{tmp_path}/payloads\necho >>{tmp_path}/payloads\necho {{}}\n"
    )
    plugin.chmod(0o755)
    (tmp_path / "nri").mkdir()
    (tmp_path / "nri" / "conf.json").write_text('{"version":"0.1","plugins":[{"type":"recorder"}]}')
    flags = ["--conf-dir", tmp_path / "nri", "--plugin-dir", plugin.parent]
    yield [*flags, "--state-dir", tmp_path / "state", "--launcher", tmp_path / "bin" / "nri-hook"]
    for top in (*CGROUPS.glob(MINE), *CGROUPS.glob(f"*/{MINE}")):
        for directory, _, _ in os.walk(top, topdown=False):
            remove_cgroup(Path(directory))


def remove_cgroup(directory: Path) -> None:
    """Remove a cgroup, whose last process (podman's conmon) may be about to end."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return directory.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def payload_states(tmp_path: Path) -> list[tuple[str, str]]:
    """(state, id) of the payloads that the plugin got."""
    payloads = (tmp_path / "payloads").read_text().split("\n")
    return [(p["state"], p["id"]) for p in map(json.loads, filter(None, payloads))]


@needs_root
@needs_runc
def test_runc_calls_the_hooks_of_a_bundle(tmp_path: Path, node: list[object]) -> None:
    bundle = make_bundle(tmp_path / "bundle", "echo", "it ran")
    config = json.loads((bundle / "config.json").read_text())
    name = f"nri-test-{os.getpid()}"
    config["linux"]["cgroupsPath"] = f"/{MINE}/{name}"
    (bundle / "config.json").write_text(json.dumps(config))
    well(nri_hook("install", "--bundle", bundle, *node))
    command = ["runc", "--root", f"{tmp_path}/runc", "run", "--bundle", f"{bundle}", name]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (0, "it ran\n"), run.stderr
    assert payload_states(tmp_path) == [("create", name), ("delete", name)]
    well(nri_hook("uninstall", "--bundle", bundle, "--launcher", tmp_path / "bin" / "nri-hook"))
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (0, "it ran\n"), run.stderr
    assert len(payload_states(tmp_path)) == 2


@needs_root
@pytest.mark.skipif(not shutil.which("podman"), reason="needs podman")
def test_podman_reads_the_hook_files(tmp_path: Path, node: list[object]) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    hooks = tmp_path / "hooks.d"
    well(nri_hook("install", "--hooks-dir", hooks, *node))
    with alone([f"--hooks-dir={hooks}"]) as command:
        command += [f"--cgroup-parent=/{MINE}", "--rootfs", f"{bundle}/rootfs"]
        command += ["/bin/busybox", "echo", "it ran"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert (run.returncode, run.stdout) == (0, "it ran\n"), run.stderr
        states = payload_states(tmp_path)
        assert [state for state, _ in states] == ["create", "delete"]
        assert len({container for _, container in states}) == 1
        # Gated, for a container with the annotation and for those without: another value, part of
        # the value, part of the key.
        gate = ["--when-annotation", "io.x/qos=ls|be"]
        well(nri_hook("install", "--hooks-dir", hooks, *gate, *node))
        for annotation, calls in (
            ("io.x/qos=be", 2),
            ("io.x/qos=bee", 0),
            ("io-x/qos=be", 0),
            ("io.x/qos.y=be", 0),
        ):
            (tmp_path / "payloads").write_text("")
            at = command.index("run") + 1
            gated = [*command[:at], f"--annotation={annotation}", *command[at:]]
            run = subprocess.run(gated, capture_output=True, text=True, timeout=120)
            assert (run.returncode, run.stdout) == (0, "it ran\n"), run.stderr
            assert (annotation, len(payload_states(tmp_path))) == (annotation, calls)
        # podman does judge what it reads there.
        (hooks / "90-nri-hook-poststop.json").write_text("{")
        assert subprocess.run(command, capture_output=True, timeout=120).returncode == 126
