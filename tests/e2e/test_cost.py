"""What each stage does, without a clock: modules, files, processes, system calls. A change that
adds one fails here with its name."""

import collections
import glob
import os
import re

import pytest
from bench import life, noops, trace
from support.tree import TOP

from nri_hook.hook import record

pytestmark = pytest.mark.hostonly

# Of what a stage calls beyond a bare interpreter, for differences between interpreters.
TOLERANCE = 0.1

ALWAYS = {
    *("__init__", "errors", "fastimport", "procfs", "strictjson", "trust", "hook/__init__"),
    *("hook/host_config", "hook/oci", "hook/options", "hook/record", "hook/report"),
    "hook/state_directory",
    *("hook/runtimes", "hook/stages", "cgroups/__init__", "cgroups/controlfile"),
}
CHAIN = {"hook/chain", "hook/container_log", "hook/payload", "hook/plugin", "spawn"}
CREATION = {"hook/container", "hook/creation", "cgroups/hierarchies"}
HOSTED = {"hook/hosted", "skel"}
# What a file is called here: without the names of this run.
ALL_FILES = {"/dev/null", "/proc/self/fd", "LAUNCHER"}
CONFIGURED = {"/proc/self/uid_map", "WALK"}
RECORD = {"STATE.json", "STATE.lock"}
CREATED = {"/proc/N/comm", "/proc/N/stat", "/proc/N/cgroup", "CONFIG"} | CONFIGURED
CREATED |= {"PLUGIN", "STATE.json", "STATE.lock", "STATE.new", "STATE.log"}
ENDED = {"/proc/N/comm", "PLUGIN", "STATE", "STATE.log"} | CONFIGURED | RECORD
STARTED = {"/proc/N/comm", "STATE"} | RECORD

# (kind and number of plugins, stage) -> modules of ours, files, processes, system calls
EXPECTED = {
    (noops.NATIVE, 0, "createRuntime"): (ALWAYS, ALL_FILES | CONFIGURED, 0, 330),
    (noops.NATIVE, 1, "createRuntime"): (
        ALWAYS | CHAIN | CREATION,
        ALL_FILES | CREATED,
        1,
        545,
    ),
    # Of a container that was moved; of all others its end is in the launcher.
    (noops.NATIVE, 1, "poststart"): (ALWAYS, ALL_FILES | STARTED, 0, 305),
    (noops.NATIVE, 1, "poststop"): (ALWAYS | CHAIN | {"hook/deletion"}, ALL_FILES | ENDED, 1, 425),
    (noops.PLAIN, 1, "createRuntime"): (
        ALWAYS | CHAIN | CREATION | HOSTED,
        ALL_FILES | CREATED,
        1,
        560,
    ),
    (noops.PLAIN, 1, "poststop"): (
        ALWAYS | CHAIN | HOSTED | {"hook/deletion"},
        ALL_FILES | ENDED,
        1,
        445,
    ),
    (noops.NATIVE, 2, "createRuntime"): (
        ALWAYS | CHAIN | CREATION,
        ALL_FILES | CREATED,
        2,
        590,
    ),
    (noops.PLAIN, 2, "createRuntime"): (
        ALWAYS | CHAIN | CREATION | HOSTED,
        ALL_FILES | CREATED,
        2,
        605,
    ),
}


@pytest.fixture(scope="module")
def traces():
    """(kind, number, stage) -> Trace, for all of EXPECTED and of a container without a
    configuration (kind None), and under None that of the bare interpreter."""
    stand = life.Stand()
    found = {None: trace.of(stand.interpreter().argv, "/dev/null")}
    for kind, number in sorted({key[:2] for key in EXPECTED}) + [(None, 0)]:
        for stage, command in stand.life(kind, number).calls.items():
            if stage == "poststart" and kind:
                found[kind, number, "not moved"] = trace.of(command.argv, command.stdin)
                doubt(command.argv)
            found[kind, number, stage] = trace.of(command.argv, command.stdin)
    calls = stand.life(noops.NATIVE, 1).calls
    command = calls["createRuntime"]
    expect_move(command.argv)
    found["to be moved"] = trace.of(command.argv, command.stdin)
    calls["poststop"].run()
    stand.close()
    return found


def doubt(argv):
    """Give the only record a mode that tells nothing, as that of a moved container has."""
    for path in glob.glob(f"{state_dir(argv)}/*.json"):
        os.chmod(path, record.PLAIN)


def expect_move(argv):
    """As if the container before had been moved."""
    os.makedirs(state_dir(argv), 0o700)
    with open(f"{state_dir(argv)}/{record.MOVING}", "w"):
        pass


def state_dir(argv):
    return argv[argv.index("--state-dir") + 1]


@pytest.fixture(params=EXPECTED, ids=lambda key: "-".join(map(str, key)))
def case(request, traces):
    """The Trace of a stage, that of the bare interpreter, and what is expected."""
    return traces[request.param], traces[None], EXPECTED[request.param]


def test_modules(case):
    found, _, (modules, _, _, _) = case
    names = {name[len("nri_hook/") :] for name in trace.modules(found, TOP) if "/" in name}
    assert names == modules


def test_files(case):
    found, bare, (_, files, _, _) = case
    assert {name_of(path) for path in found.opened} - {name_of(p) for p in bare.opened} == files


def test_processes(case):
    found, _, (_, _, processes, _) = case
    assert found.processes == processes


def test_system_calls(case):
    found, bare, (_, _, _, limit) = case
    number = found.total() - bare.total()
    assert number <= limit * (1 + TOLERANCE), dict((found.calls - bare.calls).most_common())
    # What became cheaper shall stay so.
    assert number >= limit * (1 - 2 * TOLERANCE), f"expected {limit}, now {number}"


NOTHING_TO_DO = [(None, 0, stage) for stage in life.STAGES] + [(noops.PLAIN, 1, "not moved")]


@pytest.mark.parametrize("case", NOTHING_TO_DO)
def test_a_stage_with_nothing_to_do_starts_no_interpreter(traces, case):
    found = traces[case]
    assert found.processes == 0
    assert not [path for path in found.opened if "python" in path]


def test_a_plugin_opens_no_more_files_than_it_has_to(traces):
    """Its own, and the record."""
    one, two = (traces[noops.NATIVE, n, "createRuntime"].opened for n in (1, 2))
    more = collections.Counter(map(name_of, two)) - collections.Counter(map(name_of, one))
    assert more == {"PLUGIN": 1, "STATE.json": 1}


def test_what_holds_off_the_grace_period(traces):
    """Two modules and three files, for a container that is most likely moved and no other."""
    usual, found = traces[noops.NATIVE, 1, "createRuntime"], traces["to be moved"]
    assert set(trace.modules(found, TOP)) - set(trace.modules(usual, TOP)) == {
        "nri_hook/cgroups/grace",
        "nri_hook/cgroups/mountinfo",
    }
    more = set(map(name_of, found.opened)) - set(map(name_of, usual.opened))
    (procs,) = more - {"/proc/self/mountinfo", "/proc/self/cgroup"}
    assert procs.endswith("/cgroup.procs")


def name_of(path):
    """What a file is called in EXPECTED."""
    if path.startswith(TOP) or re.search(r"/lib-dynload(/|$)|/(libz|libffi)[^/]*$", path):
        return "PACKAGE"
    if "/locale/" in path or path.startswith("/etc/ld.so") or path.startswith("/lib"):
        return "PACKAGE"
    path = re.sub(r"/proc/\d+/", "/proc/N/", path)
    if not path.startswith("/") or path == "/":
        return "WALK"
    if path.startswith("/tmp/nri-test-"):
        if path.endswith("/nri-hook"):
            return "LAUNCHER"
        if path.endswith("/config.json"):
            return "CONFIG"
        if "/plugins/" in path:
            return "PLUGIN"
        ending = os.path.splitext(path)[1]
        return f"STATE{ending}" if "/state" in path else path
    return path
