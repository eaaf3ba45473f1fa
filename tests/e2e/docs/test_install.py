"""docs/install.md from its first command to its last, in a guest that has nothing of ours, and the
commands of the other pages on a machine that was installed by it."""

import glob
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from support import cgroups
from support.bundle import make_rootfs
from support.commands import read
from support.tree import TOP

from docs import page

pytestmark = pytest.mark.guest

PAGE = "docs/install.md"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = "/opt/nri-hook"
LAUNCHER = "/usr/libexec/oci/hooks.d/nri-hook"
DIRECTORIES = ("/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d")
DROP_IN = "/etc/containers/containers.conf.d/90-nri-hook.conf"
# The guest has no network, which podman's default would want.
NO_NETWORK = "/etc/containers/containers.conf.d/10-guest.conf"
MANUAL = (
    "/usr/local/share/man/man1/nri-hook.1",
    "/usr/local/share/man/man5/nri-hook.conf.5",
)
# All that this page and the tests leave.
LEFT = (
    *(ENVIRONMENT, "/usr/local/bin/nri-hook", *MANUAL),
    *("/etc/nri", "/run/nri-hook", NO_NETWORK),
)
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
PACKAGE = f"{ENVIRONMENT}/lib/python{PYTHON}/site-packages/nri_hook"
SLICE = "/qos.slice/qos-ls.slice"
OF_THE_CLASS = "podman run --rm --annotation qos.class=ls busybox {}"
NAMES = ("web", "lost")


class Machine:
    """clone: a copy of the repository, where the commands are run. words: see page.shell()."""

    def __init__(self, directory, wheels):
        self.directory = directory
        self.clone = f"{directory}/clone"
        kept = shutil.ignore_patterns(".*", "tests", "build", "*.egg-info", "__pycache__")
        shutil.copytree(TOP, self.clone, ignore=kept)
        self.environment = {
            "PATH": PATH,
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": wheels,
        }
        self.words = {}

    def shell(self, line):
        """Run one command; what it printed."""
        if line.startswith("apt-get install"):
            return self.find_packages(line)
        return page.shell(
            line, f"{self.directory}/out", self.words, cwd=self.clone, env=self.environment
        )

    def find_packages(self, line):
        """What apt-get would install is in the image already, where it cannot be downloaded."""
        page.ran.add(line)
        names = [word for word in line.split()[2:] if not word.startswith("-")]
        return self.shell(f"dpkg-query -W {' '.join(names)}")

    def on_terminal(self, command):
        """What a command shows on one of 80 columns."""
        return self.shell(f"script -qec 'stty cols 80; {command}' /dev/null")

    def follow(self, name, section):
        """Run the commands of a section; (each, what it printed), one by one."""
        for line in page.commands(name, section):
            yield line, self.shell(line)

    def run(self, section):
        """All commands of a section of PAGE; what they printed."""
        return "".join(said for _, said in self.follow(PAGE, section))

    def configure(self, text):
        with open("/etc/nri/conf.json", "w") as file:
            file.write(text)

    def cgroup(self, name):
        """Where podman's container is, by the kernel."""
        (document,) = json.loads(self.shell(f"podman inspect {name}"))
        (place,) = cgroups.membership(document["State"]["Pid"]).values()
        return place


def wheels_for_pip():
    """Where the wheels are for pip to install, and why there are none, "" where there are."""
    directory = f"{os.environ.get('NRI_TEST_WHEELS')}/{PYTHON}"
    whole = os.path.exists(f"{directory}/whole")
    return directory, "" if whole else f"no wheels in {directory}: tests/guest/suite says why"


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """Installed as the first section says, with the container image that the page takes."""
    wheels, why_none = wheels_for_pip()
    if why_none:
        pytest.skip(why_none)
    assert not [path for path in (*LEFT, LAUNCHER) if os.path.lexists(path)]
    machine = Machine(str(tmp_path_factory.mktemp("page")), wheels)
    try:
        os.makedirs(os.path.dirname(NO_NETWORK), exist_ok=True)
        with open(NO_NETWORK, "w") as file:
            file.write('[containers]\nnetns = "none"\n')
        rootfs = f"{machine.directory}/rootfs"
        make_rootfs(rootfs)
        machine.shell(f"tar -C {rootfs} -c . | podman import - busybox")
        machine.run("The package")
        yield machine
    finally:
        clean()


def clean():
    """Leave the guest to the other tests as it was, wherever these have ended."""
    for words in (("rm", "-f", "-t", "0", *NAMES), ("rmi", "-f", "busybox")):
        subprocess.run(["podman", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for path in (*LEFT, *hook_files(), DROP_IN, LAUNCHER, "/etc/crio"):
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)
    subprocess.run(["systemctl", "stop", "qos.slice"], check=True)
    cgroups.remove("/sys/fs/cgroup/qos-ls")


@pytest.fixture
def bundle(scene):
    """A bundle whose container is of the class."""
    return scene.bundle(edit=lambda config: config.update(annotations={"qos.class": "ls"}))


def hook_files():
    """Those of ours that podman reads."""
    return [path for directory in DIRECTORIES for path in glob.glob(f"{directory}/90-nri-hook-*")]


def printed_conf(name):
    """The host configuration that a page shows first."""
    return next(b.text for b in page.blocks(name) if b.language is None and b.text[0] == "{")


def readme_screens():
    """Command -> what the README prints of it."""
    (text,) = [b.text for b in page.blocks("README.md") if b.text.startswith("$ nri-hook")]
    parts = re.split(r"^\$ (.*)\n", text, flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2]))


def shape(text):
    """Its words without what differs from run to run."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "ID", text)
    return re.sub(r"\d+(\.\d+)? (m?s)\b", r"N \2", text).split()


def test_the_other_pages(machine, bundle):
    os.mkdir("/etc/nri")
    machine.shell("nri-hook install")
    for name, section, expected in (
        ("docs/plugins/clearcfs.md", "clearcfs", "max 100000\n"),
        ("docs/plugins/qos.md", "qos", "800\n"),
    ):
        machine.configure(printed_conf(name))
        ((line, said),) = machine.follow(name, section)
        assert said == expected, line
    machine.shell("podman run -d --name web --annotation qos.class=ls busybox sleep 1000")
    machine.words = {"ID": "web", "DIR": bundle.directory, "FILE": "/etc/nri/conf.json"}
    assert "qos-ls.slice" in machine.cgroup("web")
    machine.shell("! podman run --name lost --annotation qos.class=no busybox true")
    ids = {name: json.loads(machine.shell(f"podman inspect {name}"))[0]["Id"] for name in NAMES}

    for name, section in (
        ("docs/configuration.md", "Logs"),
        ("docs/configuration.md", "Who is where"),
        ("docs/configuration.md", "Cleaning up"),
        ("docs/troubleshooting.md", "Troubleshooting"),
    ):
        for line in page.commands(name, section):
            machine.words["ID"] = ids["lost" if "--payload" in line else "web"]
            said = machine.shell(line)
            assert "--json" not in line or json.loads(said)
            assert "ID" not in line or machine.words["ID"][:12] in said
    machine.words.update(ID=ids["web"], PATH=glob.glob(f"{PACKAGE}/plugins/clearcfs.py")[0])
    for line in page.commands("README.md", "Use it"):
        if line.startswith("nri-hook uninstall"):
            machine.shell("podman rm -f -t 0 web lost")
            machine.shell("nri-hook uninstall --bundle DIR")
            machine.shell("! nri-hook uninstall --engine podman")  # the launcher is still called
        machine.shell(line)
    assert hook_files() == [] and not os.path.exists(LAUNCHER)
    shutil.rmtree("/etc/nri")


def test_the_six_lines_of_the_readme(machine):
    """The runtime creates the cgroup in the slice of the class."""
    lines = dict(machine.follow("README.md", "Place a container"))
    assert len(lines) == 6
    assert machine.cgroup("web").startswith(f"{SLICE}/libpod-")
    assert cgroups.read(f"/sys/fs/cgroup{SLICE}/cpu.weight") == "800"
    assert "qos-ls.slice:libpod:" in lines.popitem()[1]
    assert "precreate: moved" in machine.shell("nri-hook log")
    machine.shell("podman rm -f -t 0 web")
    machine.shell("nri-hook uninstall --engine podman")
    assert hook_files() == [] and not os.path.exists(LAUNCHER)
    shutil.rmtree("/etc/nri")


def test_from_nothing_to_a_placed_container(machine, bundle):
    """What is printed after each command is what the page leads one to expect."""
    assert machine.shell("command -v nri-hook") == "/usr/local/bin/nri-hook\n"
    for path in MANUAL:
        assert read(path) == read(f"{TOP}/docs/man/{os.path.basename(path)}")
    assert machine.run("A configuration") == "/etc/nri/conf.json: well-formed host-configuration\n"

    for line, said in machine.follow(PAGE, "podman"):
        if line.startswith("podman run"):
            assert machine.cgroup("web").startswith(f"{SLICE}/libpod-nri-{said.strip()}.scope")
            assert cgroups.read(f"/sys/fs/cgroup{SLICE}/cpu.weight") == "800"
        elif line == "nri-hook status":
            assert "qos-ls.slice:libpod:" in said and "adopted" in said
            machine.shell("! podman run --name lost --annotation qos.class=gold busybox true")
            id = machine.shell("podman inspect --format '{{.Id}}' lost")[:12]
            for command, printed in readme_screens().items():
                command = re.sub("[0-9a-f]{12}", id, command)
                assert shape(machine.on_terminal(command)) == shape(printed)
            machine.shell("podman rm lost")
    assert len(machine.shell("nri-hook status").splitlines()) == 1

    machine.run("In place")
    assert machine.shell(OF_THE_CLASS.format("cat /proc/self/cgroup")) == "0::/\n"
    assert "precreate: moved" in machine.shell("nri-hook log")

    os.makedirs("/etc/crio/crio.conf.d")
    with open("/etc/crio/crio.conf.d/10-hooks.conf", "w") as file:
        file.write('[crio.runtime]\nhooks_dir = ["/etc/crio/hooks.d"]\n')
    machine.run("CRI-O")
    assert len(os.listdir("/etc/crio/hooks.d")) == 3
    assert "kept" in machine.shell("! nri-hook uninstall --engine crio")
    assert os.listdir("/etc/crio/hooks.d") == []
    shutil.rmtree("/etc/crio")

    machine.words = {"DIR": bundle.directory, "ID": os.path.basename(bundle.cgroups_path)}
    for line, said in machine.follow(PAGE, "runc and crun by themselves"):
        if line.startswith("nri-hook status"):
            assert f"/qos-ls{bundle.cgroups_path}" in said
    assert os.listdir("/sys/fs/cgroup/qos-ls").count(bundle.cgroups_path[1:]) == 0

    machine.run("For some containers only")
    with open(f"{DIRECTORIES[0]}/90-nri-hook-createRuntime.json") as file:
        assert json.load(file)["when"] == {"annotations": {r"^qos\.class$": "^(?:ls|be)$"}}

    machine.run("Cleaning up now and then")
    assert machine.shell("systemctl is-active nri-hook-gc.timer") == "active\n"
    machine.shell("systemctl start nri-hook-gc.service")

    before = os.stat(f"{PACKAGE}/__init__.py").st_ino
    machine.run("Upgrading")
    assert os.stat(f"{PACKAGE}/__init__.py").st_ino != before
    assert machine.shell(OF_THE_CLASS.format("cat /proc/self/cgroup")) == "0::/\n"

    machine.shell("nri-hook uninstall --bundle DIR")
    assert "kept" in machine.shell("! nri-hook uninstall --engine podman")
    machine.run("Taking it away")
    mine = [path for path in (*LEFT, LAUNCHER) if os.path.lexists(path)]
    assert mine == ["/etc/nri", "/run/nri-hook", NO_NETWORK] and hook_files() == []
    assert glob.glob("/etc/systemd/system/**/nri-hook*", recursive=True) == []
    assert machine.shell(OF_THE_CLASS.format("echo it runs")) == "it runs\n"
