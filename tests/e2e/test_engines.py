"""`nri-hook install --engine podman`: which directories podman and CRI-O read, asked of podman
itself.

Each machine here has a copy of /etc and /usr/share/containers of its own, bound over the real ones
in a private mount namespace: install and podman run as they would on a real machine.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.podman import alone
from test_install import CGROUPS, ROOT, one_line, remove_cgroup, shown_files, tree, well

STAGES = ("precreate", "createRuntime", "poststart", "poststop")
SHARED = "/usr/share/containers/oci/hooks.d"
OWN = "/etc/containers/oci/hooks.d"
DROP_IN = "/etc/containers/containers.conf.d/90-nri-hook.conf"
CONF = "/etc/containers/containers.conf"
LINE = f'hooks_dir = ["{SHARED}", "{OWN}"]'

# Mostly about text, and a guest takes seconds for each command.
hostonly = pytest.mark.hostonly
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not shutil.which("podman"), reason="needs podman"),
]


class Machine:
    """What commands in it see as /etc and /usr/share/containers is this test's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.launcher = directory / "libexec" / "nri-hook"
        self.mounts = {"/usr/share/containers": directory / "share", "/etc": directory / "etc"}
        for real, own in self.mounts.items():
            subprocess.run(["cp", "-a", real, own], check=True)
        # Whatever of it this machine has.
        for name in (
            *("etc/crio", "etc/nri", "etc/containers/oci", "share/oci"),
            *("etc/containers/containers.conf", "etc/containers/containers.conf.d"),
            *("share/containers.conf", "share/containers.conf.d"),
        ):
            subprocess.run(["rm", "-rf", directory / name], check=True)

    def path(self, path: str) -> Path:
        """Where a path of the machine lies."""
        for real, own in self.mounts.items():
            if path.startswith(real + "/"):
                return own / path[len(real) + 1 :]
        raise ValueError(path)

    def write(self, path: str, text: str) -> None:
        self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path(path).write_text(text)

    def tree(self) -> dict[str, Any]:
        return tree(self.directory)

    def run(self, *command: object, **environment: str) -> Any:
        """Run a command and return what subprocess.run() does."""
        mounts = "".join(f"mount --bind '{own}' {real};" for real, own in self.mounts.items())
        base = {name: os.environ[name] for name in os.environ if not name.startswith("XDG_")}
        return subprocess.run(
            ["unshare", "-m", "--propagation", "private", "sh", "-ec", mounts + 'exec "$@"', "sh"]
            + [str(part) for part in command],
            cwd="/",
            env={**base, "HOME": str(self.directory), "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def nri_hook(self, command: str, *args: object, **environment: str) -> Any:
        """Run nri-hook with the launcher of this machine, for podman unless a place is given."""
        given = "--hooks-dir" in args or "--engine" in args
        place = [] if given else ["--engine", "podman"]
        args = (command, *place, "--launcher", self.launcher, *args)
        return self.run(sys.executable, "-m", "nri_hook", *args, **environment)

    def podman_directories(self) -> list[str]:
        """The directories of hook files that podman reads: the default of its flag."""
        shown = well(self.run("podman", "--help")).stdout
        found = re.search(r"--hooks-dir .*?(?:\(default \[(.*)\]\))?$", shown, re.M)
        assert found
        return (found[1] or "").split(",")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def hook_file(stage: str, directory: str = OWN) -> str:
    return f"{directory}/90-nri-hook-{stage}.json"


# Install


@hostonly
def test_install_writes_all(machine: Machine) -> None:
    before = machine.tree()
    assert machine.podman_directories() == [SHARED]
    run = well(machine.nri_hook("install", "--conf-dir", "/c", "--timeout", 4))
    # In this order: podman reads what is whole, and only then.
    files = [str(machine.launcher), *map(hook_file, STAGES), DROP_IN]
    assert run.stdout.splitlines() == [f"{path}: written" for path in files]
    made = {path for path in machine.tree() if path not in before}
    assert made == {
        *("etc/containers/containers.conf.d", "etc/containers/containers.conf.d/90-nri-hook.conf"),
        *("etc/containers/oci", "etc/containers/oci/hooks.d", "libexec", "libexec/nri-hook"),
        *(hook_file(stage)[1:] for stage in STAGES),
    }
    for stage in STAGES:
        document = json.loads(machine.path(hook_file(stage)).read_text())
        assert document["stages"] == [stage]
        assert document["hook"]["path"] == str(machine.launcher)
        assert document["hook"]["args"] == ["nri-hook", stage, "--conf-dir", "/c", "--timeout", "4"]
    assert machine.podman_directories() == [SHARED, OWN]

    before = machine.tree()
    well(machine.nri_hook("install", "--conf-dir", "/c", "--timeout", 4))
    assert machine.tree() == before


@hostonly
def test_print_shows_what_install_writes(machine: Machine) -> None:
    before = machine.tree()
    shown = shown_files(well(machine.nri_hook("install", "--print")).stdout)
    by_stage = {stage: well(machine.nri_hook("install", "--print", stage)) for stage in STAGES}
    assert machine.tree() == before
    well(machine.nri_hook("install"))
    written = [(path, machine.path(path)) for path in (*map(hook_file, STAGES), DROP_IN)]
    written.append((str(machine.launcher), machine.launcher))
    assert shown == [(path, real.read_text()) for path, real in written]
    for stage, run in by_stage.items():
        assert run.stdout == machine.path(hook_file(stage)).read_text()


@hostonly
def test_precreate_is_for_podman_alone(machine: Machine) -> None:
    for args in (["install", "--print", "precreate"], ["install", "--engine", "cri-o"]):
        run = machine.run(sys.executable, "-m", "nri_hook", *args)
        assert (run.returncode, run.stdout) == (2, "")
        assert "podman" in run.stderr.splitlines()[-1]


# A hooks_dir that is there already

ENGINE = "[engine]\n"
LISTED = {
    "both": {CONF: ENGINE + LINE},
    "alone": {CONF: f'{ENGINE}hooks_dir=["{OWN}"]'},
    "by_another_name": {
        CONF: f'{ENGINE}hooks_dir = ["/etc/containers/../containers/oci/hooks.d/"]'
    },
    "before_the_drop_in": {"/etc/containers/containers.conf.d/10-x.conf": ENGINE + LINE},
    "after_the_drop_in": {"/etc/containers/containers.conf.d/95-x.conf": ENGINE + LINE},
    "of_the_vendor": {"/usr/share/containers/containers.conf": ENGINE + LINE},
    "the_last_one_wins": {
        "/usr/share/containers/containers.conf": f'{ENGINE}hooks_dir = ["/vendor"]',
        CONF: ENGINE + LINE,
    },
    "odd_but_plain": {
        CONF: "# hooks_dir\n[containers]\nenv = [\n  'a=[b]', # c\n]\n\n"
        f" [ engine ] # ]\n\truntime = 'x'\n  hooks_dir  =[ # \"/no\"\n\t'/a#b',\n"
        f'# "/c"\n "{OWN}",  ]  # d\nevents_logger="file"\n[network]\n'
    },
    "dotted": {CONF: "engine." + LINE},
    "inline": {CONF: f"engine = {{ {LINE} }}"},
    "quoted": {CONF: f'["engine"]\n"hooks_dir" = ["{OWN}"]'},
    "escaped": {CONF: f'{ENGINE}hooks_dir = ["{OWN[:-1]}\\u0064"]'},
    "in_another_case": {CONF: "[Engine]\n" + LINE.replace("hooks_dir", "Hooks_Dir")},
    "long_strings": {CONF: f"{ENGINE}hooks_dir = ['''{OWN}''']\nruntime = '''\n{LINE}\n'''"},
}


@hostonly
@pytest.mark.parametrize("name", LISTED)
def test_a_hooks_dir_that_does_is_enough(machine: Machine, name: str) -> None:
    for path, text in LISTED[name].items():
        machine.write(path, text)
    directories = machine.podman_directories()
    well(machine.nri_hook("install"))
    assert not machine.path(DROP_IN).exists()
    assert all(machine.path(hook_file(stage)).exists() for stage in STAGES)
    assert machine.podman_directories() == directories
    assert OWN in map(os.path.normpath, directories)


SET = {
    "other": (CONF, '[engine]\nhooks_dir = ["/a", "/b c"]\n', ["/a", "/b c"]),
    "empty": (CONF, "[engine]\nhooks_dir = []\n", []),
    "shared": (CONF, f'[engine]\nhooks_dir = ["{SHARED}"]\n', [SHARED]),
    "vendor": (
        "/usr/share/containers/containers.conf",
        f'[engine]\nhooks_dir = [\n  "{SHARED}",\n]\n',
        [SHARED],
    ),
    "late": ("/etc/containers/containers.conf.d/99.conf", "[engine]\nhooks_dir = ['/a']", ["/a"]),
    "in_a_comment": (CONF, f"[engine]\nhooks_dir = ['/a'] # was {LINE}", ["/a"]),
    "commented": (CONF, f'[engine]\nhooks_dir = [ # "{OWN}"\n "/a" ]\n', ["/a"]),
}


@hostonly
@pytest.mark.parametrize("name", SET)
def test_a_hooks_dir_that_does_not_is_left_alone(machine: Machine, name: str) -> None:
    path, text, directories = SET[name]
    machine.write(path, text)
    before = machine.tree()
    expected = f"hooks_dir = {json.dumps([*directories, OWN])}"
    for args in (["install"], ["install", "--print"]):
        run = machine.nri_hook(*args)
        assert one_line(run) == (
            f"nri-hook install: {path}: has a hooks_dir of its own, "
            f"expected under [engine]: {expected}\n"
        )
        assert run.stdout == ""
        assert machine.tree() == before
    assert machine.podman_directories() == (directories or [""])
    # What the line says is all that is needed.
    machine.write(path, f"[engine]\n{expected}\n")
    well(machine.nri_hook("install"))
    assert machine.podman_directories() == [*directories, OWN]


BROKEN = {
    "twice": ("[engine]\n{line}\n{line}", "cannot be read as TOML: "),
    "not_closed": ("[engine]\nhooks_dir = [ '/a'", "cannot be read as TOML: "),
    "not_utf8": ("[engine]\nhooks_dir = ['/a'] # \udcff", "cannot be read as TOML: "),
    "deep": ("a = " + "[" * 20000, "cannot be read as TOML: "),
    "two_spellings": ("[engine]\n{line}\nHooks_Dir = ['/a']", "a key appears twice"),
    "no_list": (
        "[engine]\nhooks_dir = '/a'",
        f"hooks_dir is not a list of paths, expected: {LINE}",
    ),
    "a_number": (
        "[engine]\nhooks_dir = [1]",
        f"hooks_dir is not a list of paths, expected: {LINE}",
    ),
    "no_table": ("engine = ['/a']", "[engine]: expected a table"),
}


@hostonly
@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_named(machine: Machine, name: str) -> None:
    text, reason = BROKEN[name]
    text = text.format(line=LINE)
    machine.path(CONF).write_bytes(text.encode(errors="surrogateescape"))
    before = machine.tree()
    assert f"nri-hook install: {CONF}: {reason}" in one_line(machine.nri_hook("install"))
    assert machine.tree() == before


def test_appended_directories(machine: Machine) -> None:
    """`append` is of podman 4.8; what came before stays."""
    main, late = "/usr/share/containers/containers.conf", "/etc/containers/containers.conf.d/1.conf"
    for before, after, directories in (
        (None, f'hooks_dir = ["{OWN}", {{append=true}}]', [SHARED, OWN]),
        (LINE, 'hooks_dir = ["/a", { append = true }]', [SHARED, OWN, "/a"]),
        ('hooks_dir = ["/a"]', 'hooks_dir = ["/b", {append=true}]', ["/a", "/b"]),
    ):
        machine.write(main, f"[engine]\n{before}" if before else "")
        machine.write(late, f"[engine]\n{after}")
        run = machine.nri_hook("install", "--print")
        if OWN in directories:
            assert DROP_IN not in well(run).stdout
        else:
            assert f"{late}: has a hooks_dir of its own" in one_line(run)
            assert json.dumps([*directories, OWN]) in run.stderr
        if podman_version() >= (4, 8):
            assert machine.podman_directories() == directories


def podman_version() -> tuple[int, ...]:
    shown = subprocess.run(["podman", "--version"], check=True, stdout=subprocess.PIPE, text=True)
    found = re.search(r"(\d+)\.(\d+)", shown.stdout)
    assert found
    return tuple(map(int, found.groups()))


@hostonly
def test_a_hooks_dir_of_root_alone(machine: Machine) -> None:
    """podman 5 reads it as root too, podman 4 does not: it neither replaces the drop-in nor may
    it hide our directory."""
    path = machine.directory / ".config" / "containers" / "containers.conf"
    path.parent.mkdir(parents=True)
    path.write_text('[engine]\nhooks_dir = ["/a"]')
    for config in (
        {},
        {"XDG_CONFIG_HOME": str(machine.directory / ".config"), "HOME": "/proc/none"},
    ):
        assert f"{path}: has a hooks_dir of its own" in one_line(
            machine.nri_hook("install", **config)
        )
    path.write_text(f"[engine]\n{LINE}")
    (path.parent / "containers.conf.d").mkdir()
    (path.parent / "containers.conf.d" / "1.conf").write_text("[engine]\nhooks_dir = []")
    assert "containers.conf.d/1.conf: has a" in one_line(machine.nri_hook("install"))
    shutil.rmtree(path.parent / "containers.conf.d")
    well(machine.nri_hook("install"))
    assert machine.podman_directories() == [SHARED, OWN]
    assert machine.path(DROP_IN).exists()


@hostonly
@pytest.mark.parametrize(
    "path",
    [
        "/usr/share/containers/containers.conf.d/a.conf",
        "/usr/share/containers/containers.rootful.conf.d/a.conf",
        "/etc/containers/containers.rootful.conf.d/a.conf",
    ],
)
def test_the_directories_of_podman_6(machine: Machine, path: str) -> None:
    machine.write(path, '[engine]\nhooks_dir = ["/a"]')
    assert f"{path}: has a hooks_dir of its own" in one_line(machine.nri_hook("install"))
    # One of the same name nearer to the administrator takes its place.
    machine.write("/etc/containers/containers.rootful.conf.d/a.conf", "")
    well(machine.nri_hook("install"))


@hostonly
def test_files_that_podman_does_not_read(machine: Machine) -> None:
    directory = os.path.dirname(DROP_IN)
    machine.path(f"{directory}/directory.conf").mkdir(parents=True)
    machine.write(f"{directory}/a.conf.bak", "[engine]\nhooks_dir = []")
    well(machine.nri_hook("install"))
    assert machine.podman_directories() == [SHARED, OWN]


@hostonly
@pytest.mark.parametrize("text", ["[containers]\n{line}", "[engine]\n[[x]]\n{line}", "{line}"])
def test_a_hooks_dir_in_another_table_is_none(machine: Machine, text: str) -> None:
    machine.write(CONF, text.format(line=LINE.replace(OWN, "/a")))
    well(machine.nri_hook("install"))
    assert machine.podman_directories() == [SHARED, OWN]


@hostonly
def test_a_foreign_drop_in_is_kept(machine: Machine) -> None:
    machine.write(DROP_IN, "# mine\n")
    before = machine.tree()
    assert f"{DROP_IN}: is not what nri-hook writes" in one_line(machine.nri_hook("install"))
    assert machine.tree() == before


@hostonly
def test_the_drop_in_goes_where_it_is_not_needed(machine: Machine) -> None:
    """A hooks_dir that was set after the first install is not overridden by the second."""
    well(machine.nri_hook("install"))
    machine.write(CONF, f'[engine]\nhooks_dir = ["/a", "{OWN}"]')
    assert machine.podman_directories() == [SHARED, OWN]
    well(machine.nri_hook("install"))
    assert machine.podman_directories() == ["/a", OWN]
    assert not machine.path(DROP_IN).exists()


# CRI-O


@hostonly
@pytest.mark.parametrize("path", ["/etc/crio/crio.conf", "/etc/crio/crio.conf.d/a/b"])
@pytest.mark.parametrize("directory", [OWN, OWN + "/", "/link"])
def test_a_directory_that_crio_reads_is_not_used(
    machine: Machine, path: str, directory: str
) -> None:
    link = machine.directory / "link"
    link.symlink_to(OWN)
    directory = str(link) if directory == "/link" else directory
    machine.write(path, f'[crio.runtime]\nhooks_dir = [\n\t"{SHARED}",\n\t"{directory}",\n]\n')
    machine.write("/etc/crio/crio.conf.d/z", "[crio.runtime]\nhooks_dir = []")
    before = machine.tree()
    line = one_line(machine.nri_hook("install"))
    assert line.startswith(f"nri-hook install: {path}: CRI-O reads {OWN}, and does not start")
    assert machine.tree() == before
    # What podman and CRI-O read by default has no precreate, so nothing keeps it from being used.
    well(machine.nri_hook("install", "--hooks-dir", machine.directory / "hooks.d"))


@hostonly
def test_a_crio_that_reads_other_directories(machine: Machine) -> None:
    machine.write("/etc/crio/crio.conf", f'[crio.runtime]\nhooks_dir = ["{SHARED}", "/a"]\n')
    machine.write("/etc/crio/crio.conf.d/1", f'# [crio.runtime]\n# hooks_dir = ["{OWN}"]\n')
    well(machine.nri_hook("install"))


@hostonly
def test_a_crio_whose_configuration_is_written_in_another_way(machine: Machine) -> None:
    machine.write("/etc/crio/crio.conf", f'[crio]\nruntime.hooks_dir = ["{OWN}"]\n')
    assert f"/etc/crio/crio.conf: CRI-O reads {OWN}" in one_line(machine.nri_hook("install"))
    machine.write("/etc/crio/crio.conf", "[crio.runtime\n")
    line = one_line(machine.nri_hook("install"))
    assert "/etc/crio/crio.conf: cannot be read as TOML: " in line


@hostonly
def test_a_link_to_the_shared_directory_is_not_used(machine: Machine) -> None:
    machine.path(SHARED).mkdir(parents=True)
    machine.path(OWN).parent.mkdir()
    machine.path(OWN).symlink_to(SHARED)
    line = one_line(machine.nri_hook("install"))
    assert line.startswith(f"nri-hook install: {OWN}: is the same directory as {SHARED}")
    assert not list(machine.path(SHARED).iterdir())


CRIO = ("--engine", "crio")
# The files of CRI-O's configuration, and the directory that they have the hook files go to.
READ_BY_CRIO = {
    "default": ({}, SHARED),
    "no hooks_dir": ({"/etc/crio/crio.conf": "[crio.runtime]\n# hooks_dir = ['/a']\n"}, SHARED),
    "main file": ({"/etc/crio/crio.conf": "[crio.runtime]\nhooks_dir = ['/etc/a']"}, "/etc/a"),
    "drop-ins, the last one wins": (
        {
            "/etc/crio/crio.conf": "[crio.runtime]\nhooks_dir = ['/etc/a']",
            "/etc/crio/crio.conf.d/20-b": "[crio.runtime]\nhooks_dir = ['/etc/b']",
            "/etc/crio/crio.conf.d/10-c": "[crio.runtime]\nhooks_dir = ['/etc/c']",
            "/etc/crio/crio.conf.d/30-d": "[crio.image]\n",
        },
        "/etc/b",
    ),
    "directories are walked in the order of names": (
        {
            "/etc/crio/crio.conf.d/10/z": "[crio.runtime]\nhooks_dir = ['/etc/a']",
            "/etc/crio/crio.conf.d/20": "[crio.runtime]\nhooks_dir = ['/etc/b']",
            "/etc/crio/crio.conf.d/15": "[crio.runtime]\nhooks_dir = ['/etc/c']",
        },
        "/etc/b",
    ),
    "the first that can be written": (
        {"/etc/crio/crio.conf": "[crio.runtime]\nhooks_dir = ['/etc/passwd/x', '/etc/a', '/b']"},
        "/etc/a",
    ),
    "where it is already": (
        {
            "/etc/crio/crio.conf": "[crio.runtime]\nhooks_dir = ['/etc/a', '/etc/b']",
            "/etc/b/90-nri-hook-createRuntime.json": '{"hook": {"args": ["nri-hook"]}}',
        },
        "/etc/b",
    ),
}


@hostonly
@pytest.mark.parametrize("name", READ_BY_CRIO)
def test_for_crio_into_the_directory_that_it_reads(machine: Machine, name: str) -> None:
    written, directory = READ_BY_CRIO[name]
    for path, text in written.items():
        machine.write(path, text)
    if name == "where it is already":
        text = well(machine.nri_hook("install", "--print", "createRuntime")).stdout
        machine.write(hook_file("createRuntime", "/etc/b"), text)
    shown = shown_files(well(machine.nri_hook("install", *CRIO, "--print")).stdout)
    well(machine.nri_hook("install", *CRIO))
    files = [hook_file(stage, directory) for stage in STAGES[1:]]
    assert [path for path, _ in shown] == [*files, str(machine.launcher)]
    assert shown[:-1] == [(path, machine.path(path).read_text()) for path in files]
    assert not machine.path(hook_file("precreate", directory)).exists()
    assert not machine.path(DROP_IN).exists()
    # The launcher stays while CRI-O calls it, whatever its directory.
    if directory != SHARED:
        well(machine.nri_hook("install"))
        line = one_line(machine.nri_hook("uninstall"))
        assert (
            f"{machine.launcher}: kept, {directory}/90-nri-hook-createRuntime.json calls it" in line
        )
    well(machine.nri_hook("uninstall", *CRIO))
    assert not [path for path in machine.tree() if "nri-hook" in path]


@hostonly
def test_a_crio_that_reads_no_directory_that_can_be_written(machine: Machine) -> None:
    for directories in ([], ["/etc/passwd/x"]):
        text = f"[crio.runtime]\nhooks_dir = {json.dumps(directories)}"
        machine.write("/etc/crio/crio.conf", text)
        before = machine.tree()
        line = one_line(machine.nri_hook("install", *CRIO))
        expected = f"hooks_dir = {json.dumps([*directories, '/etc/crio/hooks.d'])}"
        assert (
            f"and nothing can be written there; expected under [crio.runtime]: {expected}\n" in line
        )
        assert machine.tree() == before
        machine.write("/etc/crio/crio.conf", f"[crio.runtime]\n{expected}")
        well(machine.nri_hook("install", *CRIO))
        assert machine.path("/etc/crio/hooks.d/90-nri-hook-poststop.json").exists()
        well(machine.nri_hook("uninstall", *CRIO))


@hostonly
def test_a_file_that_stops_crio_alone(machine: Machine) -> None:
    text = well(machine.nri_hook("install", "--print", "precreate")).stdout
    machine.write(f"{SHARED}/10-other.json", text.replace('"nri-hook"', '"x"'))
    # podman alone reads it: well and good.
    well(machine.nri_hook("install", "--hooks-dir", SHARED))
    machine.write("/etc/crio/crio.conf", "")
    before = machine.tree()
    for place in (CRIO, ["--hooks-dir", SHARED]):
        line = one_line(machine.nri_hook("install", *place))
        assert f"{SHARED}/10-other.json: stops CRI-O: /stages/0: expected one of" in line
        assert machine.tree() == before


# Uninstall


@hostonly
def test_uninstall_takes_all_away(machine: Machine) -> None:
    well(machine.nri_hook("install"))
    run = well(machine.nri_hook("uninstall"))
    # In this order: hook files that are read need the launcher.
    *hooks, drop_in, launcher = run.stdout.splitlines()
    assert sorted(hooks) == sorted(f"{hook_file(stage)}: removed" for stage in STAGES)
    assert (drop_in, launcher) == (f"{DROP_IN}: removed", f"{machine.launcher}: removed")
    assert not [path for path in machine.tree() if "nri-hook" in path]
    assert machine.podman_directories() == [SHARED]
    again = well(machine.nri_hook("uninstall"))
    assert (again.stdout, again.stderr) == ("", "")


@hostonly
def test_uninstall_keeps_a_changed_drop_in(machine: Machine) -> None:
    well(machine.nri_hook("install"))
    text = f'[engine]\nhooks_dir = ["/mine", "{OWN}"]\n'
    machine.write(DROP_IN, text)
    well(machine.nri_hook("install"))
    assert machine.path(DROP_IN).read_text() == text
    line = one_line(machine.nri_hook("uninstall"))
    assert line == f"nri-hook uninstall: {DROP_IN}: kept, it is not what nri-hook writes\n"
    assert not machine.launcher.exists() and not list(machine.path(OWN).iterdir())


@hostonly
def test_the_launcher_stays_while_an_engine_calls_it(machine: Machine) -> None:
    """A hook file without its launcher stops every container under CRI-O."""
    shared = ["--hooks-dir", SHARED]
    for first, last, directory in (([], shared, SHARED), (shared, [], OWN)):
        well(machine.nri_hook("install", *shared))
        well(machine.nri_hook("install"))
        caller = hook_file("createRuntime", directory)
        assert one_line(machine.nri_hook("uninstall", *first)) == (
            f"nri-hook uninstall: {machine.launcher}: kept, {caller} calls it\n"
        )
        assert machine.launcher.exists() and machine.path(caller).exists()
        well(machine.nri_hook("uninstall", *last))
        assert not [path for path in machine.tree() if "nri-hook" in path]


# Under podman

PLUGIN = """\
#!/bin/sh
payload=$(cat)
echo "$payload" >>{directory}/payloads
case $payload in
*'"setup"'*) echo '{{"cgroupsPath": "/nri-test-engines/asked-for"}}' ;;
*) echo '{{}}' ;;
esac
"""


@pytest.fixture
def podman(machine: Machine, tmp_path: Path) -> Any:
    """`podman run` on the machine, with no flag about hooks; what the container printed."""
    rootfs = tmp_path / "rootfs"
    (rootfs / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", rootfs / "bin")
    with alone() as command:
        command += ["--cgroup-parent=/nri-test-engines", "--rootfs", f"{rootfs}"]

        def run(*args: str) -> str:
            return str(well(machine.run(*command, "/bin/busybox", *args)).stdout)

        yield run
    for top in (*CGROUPS.glob("nri-test-engines"), *CGROUPS.glob("*/nri-test-engines")):
        for directory, _, _ in os.walk(top, topdown=False):
            remove_cgroup(Path(directory))


def test_podman_places_a_container_before_it_is_made(machine: Machine, podman: Any) -> None:
    plugin = machine.directory / "plugins" / "placer"
    plugin.parent.mkdir()
    plugin.write_text(PLUGIN.format(directory=machine.directory))
    plugin.chmod(0o755)
    machine.write("/etc/nri/conf.json", '{"version": "0.1", "plugins": [{"type": "placer"}]}')
    flags = ["--plugin-dir", plugin.parent, "--state-dir", machine.directory / "state"]
    well(machine.nri_hook("install", *flags))
    # A stage that has a file in both directories runs once.
    well(machine.nri_hook("install", *flags, "--hooks-dir", SHARED))

    assert podman("echo", "it ran") == "it ran\n"
    payloads = [json.loads(line) for line in (machine.directory / "payloads").open()]
    assert [payload["state"] for payload in payloads] == ["setup", "create", "delete"]
    assert len({payload["id"] for payload in payloads}) == 1
    setup, create, _ = payloads
    assert "pid" not in setup and create["pid"] > 0
    assert setup["spec"]["cgroupsPath"].startswith("/nri-test-engines/libpod-")
    # Nothing was moved: the runtime itself made the cgroup there.
    assert create["spec"]["cgroupsPath"] == "/nri-test-engines/asked-for"
    assert "/nri-test-engines/asked-for" in create["spec"]["cgroups"].values()

    run = machine.nri_hook("uninstall", "--hooks-dir", SHARED)
    assert f"{machine.launcher}: kept" in one_line(run)
    well(machine.nri_hook("uninstall"))
    assert podman("echo", "it ran") == "it ran\n"
    assert len((machine.directory / "payloads").read_text().splitlines()) == 3


@hostonly
def test_the_directory_that_comes_last_has_its_way(machine: Machine, podman: Any) -> None:
    """podman takes the hook file of the later directory where both have one of the same name."""
    for order in ((SHARED, OWN), (OWN, SHARED)):
        machine.write(CONF, f"[engine]\nhooks_dir = {json.dumps(order)}")
        for directory in order:
            recorder = machine.directory / f"recorder-{directory.split('/')[1]}"
            recorder.write_text(
                f'#!/bin/sh\necho {directory} "$1" >>{machine.directory}/calls\ncat\n'
            )
            recorder.chmod(0o755)
            for stage in STAGES:
                document = {
                    "version": "1.0.0",
                    "hook": {"path": str(recorder), "args": ["x", stage], "env": ["PATH=/bin"]},
                    "when": {"always": True},
                    "stages": [stage],
                }
                machine.write(hook_file(stage, directory), json.dumps(document))
        assert podman("true") == ""
        calls = (machine.directory / "calls").read_text().splitlines()
        assert calls == [f"{order[-1]} {stage}" for stage in STAGES]
        (machine.directory / "calls").unlink()


# What is in the place of a file


HOME = "home/.config/containers/containers.conf"
ENGINE_FILES = (CONF, f"{CONF}.d/10-x.conf", DROP_IN, "/etc/crio/crio.conf.d/10-x", HOME)


@hostonly
@pytest.mark.parametrize("path", ENGINE_FILES)
def test_a_fifo_in_the_place_of_a_configuration_file(machine: Machine, path: str) -> None:
    """It is named, where podman itself waits for ever. A user can have put it into a home that a
    command of root's still goes by."""
    well(machine.nri_hook("install"))
    real = machine.directory / path if path == HOME else machine.path(path)
    real.parent.mkdir(parents=True, exist_ok=True)
    real.unlink(missing_ok=True)
    os.mkfifo(real)
    programs = machine.directory / "programs"
    programs.mkdir()
    for name in ("podman", "runc"):  # not the real ones, which read it too
        (programs / name).write_text("#!/bin/sh\necho 5.0.0\n")
        (programs / name).chmod(0o755)
    search = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(machine.directory / "home")}
    for command in ("doctor", "install", "uninstall", "validate", "invoke"):
        place = ("--engine", "podman") if "install" in command else ()
        run = machine.run(sys.executable, "-m", "nri_hook", command, *place, **search)
        assert "Traceback" not in run.stderr and run.returncode in (0, 1), run.stderr
        if command in ("doctor", "install"):
            named = path if path != HOME else str(real)
            assert run.returncode == 1 and named in run.stdout + run.stderr, (command, run)
