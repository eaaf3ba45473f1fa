"""What the hook reads off its parent: real processes with a runtime's name and command line."""

import itertools
import os
import re
import shutil
import subprocess
import sys

import pytest
from support import public
from support.tree import TOP
from support.users import as_user, in_user_namespace

from nri_hook.hook import runtimes

# A process that becomes like a runtime for the kernel: its name, and its command line, which lies
# in its own memory and can be written over (proc_pid_stat(5), arg_start). It has a child look.
PARENT = """
import os
words, comm, cwd, python, child = eval(os.environ.pop("NRI_TEST"))
with open("/proc/self/stat") as file:
    fields = file.read().rpartition(")")[2].split()
start, end = int(fields[45]), int(fields[46])
line = b"".join(os.fsencode(word) + b"\\0" for word in words)
assert len(line) == end - start, (len(line), end - start)
with open("/proc/self/mem", "r+b", buffering=0) as memory:
    memory.seek(start)
    memory.write(line)
with open("/proc/self/comm", "w") as file:
    file.write(comm)
os.chdir(cwd)
pid = os.fork()
if pid == 0:
    os.execv(python, [python, "-IS", "-c", child])
os.waitpid(pid, 0)
"""
CHILD = """
import sys
sys.path.append({top!r})
from nri_hook.hook import runtimes
caller = runtimes.caller()
print(ascii((caller.comm, caller.name, caller.root, caller.foreground)))
"""
OURS = CHILD.format(top=TOP)
USER = 23456


def look(*words, comm=None, cwd="/", python=sys.executable, child=OURS, **environment):
    """(comm, name, root, foreground) that a child of `words` sees."""
    comm = words[0] if comm is None else comm
    # `p -` takes the program from stdin; an argument fills the rest of the room.
    room = sum(len(os.fsencode(word)) + 1 for word in words) - len("p - ")
    assert room >= 1, f"{words} is too short"
    environment = {"PATH": os.environ["PATH"], **environment}
    environment["NRI_TEST"] = ascii((words, comm, cwd, python, child))
    done = subprocess.run(
        ["p", "-", "x" * (room - 1)],
        executable=python,
        cwd="/",
        env=environment,
        input=PARENT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0 and done.stdout, done.stderr
    return eval(done.stdout)


def root(*words, **options):
    return look(*words, **options)[2]


def foreground(*words, **options):
    return look(*words, **options)[3]


def test_who_it_is():
    assert look("runc", "create", "x") == ("runc", "runc", "/run/runc", False)
    assert look("crun", "create", "x") == ("crun", "crun", "/run/crun", False)
    assert look("/usr/sbin/runc", "run", "x", comm="runc")[1] == "runc"
    assert look("runc", "create", "x", comm="runc-1.2.3")[:2] == ("runc-1.2.3", "runc")
    assert look("docker-runc", "create", "x", comm="crun.static")[:2] == ("crun.static", "crun")


def test_who_is_no_runtime():
    """Whatever its command line says."""
    for comm in ("podman", "conmon", "python3", "xrunc", "cru", "Runc"):
        found = look("runc", "--root", "/r", "run", "x", comm=comm)
        assert found == (comm, "", "", False)


ROOTS = [
    ("--root", "/a/b"),
    ("--root=/a/b",),
    ("-root", "/a/b"),
    ("-root=/a/b",),
    ("--root", "/a//b/"),
    ("--root", "/a/c/../b"),
    ("--debug", "--root", "/a/b"),
    ("--root", "/a/b", "--systemd-cgroup"),
    ("--log", "/l", "--root", "/a/b"),
    ("--log=/l", "--log-format", "json", "--root=/a/b"),
    ("--log", "--root", "--root", "/a/b"),
    ("--log", "create", "--rootless", "true", "--root", "/a/b"),
    ("--root", "/x", "--root", "/a/b"),
    ("--debug=true", "-log-format=json", "-root", "/a/b"),
]


@pytest.mark.parametrize("name", ["runc", "crun"])
def test_where_its_root_is(name):
    wrong = []
    commands = [("create", "x"), ("run", "--bundle", "/b", "x"), ("delete", "-f", "x")]
    for flags, command in zip(ROOTS, itertools.cycle(commands)):
        if root(name, *flags, *command) != "/a/b":
            wrong.append((flags, command))
    assert wrong == []


def test_flags_of_the_command_are_not_its_own():
    assert root("runc", "create", "--root", "/a", "x") == "/run/runc"
    assert root("runc", "--log", "--root", "create", "x") == "/run/runc"
    assert root("runc", "run", "--root") == "/run/runc"
    assert root("runc", "create", "root", "/a") == "/run/runc"


def test_a_root_with_odd_characters():
    for path in ("/a b", "/a=b", "/é", "/a\n", "/\udcff", "/-"):
        assert root("runc", "--root", path, "create", "x") == path
        assert root("crun", f"--root={path}", "create", "x") == path


def test_a_relative_root_is_nothing_to_go_by(scene):
    """The runtime has left the directory that it is relative to, for the bundle."""
    for flags in (("--root", "rel"), ("--root=./rel",), ("-root", "../rel")):
        assert root("runc", *flags, "create", "x", cwd=scene.directory) == ""


def test_strange_command_lines():
    """No error, and nothing made up."""
    for words in (
        ("runc", "--root"),
        ("runc", "--"),
        ("runc", "--root", "", "run", "x"),
        ("runc", "--root=", "run", "x"),
        ("crun", "", "", ""),
        ("crun", "--log-format"),
        ("runcrun",),
    ):
        assert look(*words, comm="runc")[:3] == ("runc", "runc", "/run/runc"), words


@pytest.mark.parametrize("name", ["runc", "crun"])
def test_whether_it_stays_in_the_foreground(name):
    assert foreground(name, "run", "x")
    assert foreground(name, "--root", "/r", "run", "--bundle", "/b", "x")
    assert foreground(name, "--log", "run", "--debug", "run", "x")
    for flag in ("-d", "--detach"):
        assert not foreground(name, "run", flag, "x")
        assert not foreground(name, "--root", "/r", "run", "--pid-file", "/p", flag, "x")
    for command in ("create", "start", "delete", "restore"):
        assert not foreground(name, command, "x")
    assert not foreground(name, "--log", "run", "create", "run")


def test_other_ways_to_write_detach():
    """runc's flags may have one dash, and a value."""
    assert not foreground("runc", "run", "-detach", "x")
    assert not foreground("runc", "run", "--detach=true", "x")
    assert not foreground("runc", "run", "-d=true", "x")
    assert foreground("runc", "run", "--detach=false", "x")


def test_the_default_root_of_runc():
    """main.go, shouldHonorXDGRuntimeDir: root of the host never does."""
    assert root("runc", "create", "x", XDG_RUNTIME_DIR="/run/user/0") == "/run/runc"


def test_the_default_root_of_crun():
    """src/libcrun/status.c, get_run_directory: whoever it is, and where the variable is not empty.

    Root has it in every login under systemd.
    """
    assert root("crun", "create", "x", XDG_RUNTIME_DIR="/run/user/0") == "/run/user/0/crun"
    assert root("crun", "create", "x", XDG_RUNTIME_DIR="") == "/run/crun"


def test_crun_itself_says_so(scene):
    if not shutil.which("crun"):
        pytest.skip("there is no crun here")
    environment = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": scene.directory}
    subprocess.run(["crun", "list"], env=environment, check=True, stdout=subprocess.DEVNULL)
    assert os.listdir(scene.directory) == ["crun"]
    assert root("crun", "list", XDG_RUNTIME_DIR=scene.directory) == f"{scene.directory}/crun"


def as_rootless(enter, *words, **environment):
    """The root that it has there."""
    python = public.python() or pytest.skip("no Python here is for every user")
    child = CHILD.format(top=public.top())
    return enter(USER, lambda: root(*words, python=python, child=child, **environment))


@pytest.mark.parametrize("name", ["runc", "crun"])
@pytest.mark.parametrize("enter", [as_user, in_user_namespace])
def test_the_default_root_of_others_than_root(enter, name):
    words = (name, "create", "x")
    assert as_rootless(enter, *words, XDG_RUNTIME_DIR="/run/user/7") == f"/run/user/7/{name}"
    assert as_rootless(enter, *words) == f"/run/{name}"
    assert as_rootless(enter, name, "--root", "/r", "run", XDG_RUNTIME_DIR="/x") == "/r"


def test_the_default_root_in_a_user_namespace_goes_by_the_user():
    """runc takes USER=root for one who wants the host's place; crun does not ask."""
    names = {"XDG_RUNTIME_DIR": "/run/user/7", "USER": "root"}
    assert as_rootless(in_user_namespace, "runc", "run", "x", **names) == "/run/runc"
    assert as_rootless(in_user_namespace, "crun", "run", "x", **names) == "/run/user/7/crun"
    names["USER"] = "me"
    assert as_rootless(in_user_namespace, "runc", "run", "x", **names) == "/run/user/7/runc"


@pytest.mark.parametrize("name", ["runc", "crun"])
def test_the_flags_with_a_value_are_known(name):
    """The next word after one that is not known would be taken for the command."""
    if not shutil.which(name):
        pytest.skip(f"there is no {name} here")
    text = subprocess.run([name, "--help"], capture_output=True, text=True, check=True).stdout
    text = text[text.find("GLOBAL OPTIONS") :] if name == "runc" else text
    form = r"^ +--([a-z-]+)=[A-Z]+" if name == "crun" else r"^ +--([a-z-]+) (?:value|string)\b"
    flags = set(re.findall(form, text, re.M))
    assert "root" in flags
    assert flags - runtimes.VALUE_FLAGS == set()


def test_crun_has_a_flag_more_since_1_17():
    assert root("crun", "--log-level", "debug", "--root", "/a", "create", "x") == "/a"
    assert foreground("crun", "--log-level", "debug", "run", "x")
