"""The hand-written checks accept and refuse what the schemas do, and refuse in their words."""

import json
import os
import time

import pytest

pytest.importorskip("hypothesis")

from hypothesis import example, given, settings
from hypothesis import strategies as st

from nri_hook import strictjson
from nri_hook.errors import HookError
from nri_hook.hook import host_config, oci, payload
from nri_hook.validation import schema

QUICK = settings(max_examples=150, deadline=None, database=None)

STRINGS = st.sampled_from(["", "a", "redis", "0.1", "create", "fail", "a b", "é", "\ud800", "a\n"])
NUMBERS = st.sampled_from(
    [0, 1, -1, 1234, 2**63, 10**300, 0.0, -0.0, 1.0, 0.5, -0.5, 1e300, 5e-324]
)
ODD = st.none() | st.booleans() | STRINGS | NUMBERS
ANY = ODD | st.lists(ODD, max_size=2) | st.dictionaries(STRINGS, ODD, max_size=2)


def mostly(right, wrong=()):
    """One of the `right` values, or of a strategy of such; now and then a near miss from `wrong`,
    or anything at all. What needs all of ten keys to be right has to be right mostly."""
    if isinstance(right, (list, tuple)):
        right = st.sampled_from(right)
    misses = [st.sampled_from(wrong)] if wrong else []
    # one_of() counts a strategy once, however often it is given.
    return st.sampled_from(range(16)).flatmap(
        lambda number: right if number < 14 else st.one_of(*misses, ANY)
    )


def document(needed=(), **known):
    """An object of some of these keys, with strategies of their values, and a few others; it has
    `needed` but for now and then."""
    optional = {key: strategy for key, strategy in known.items() if key not in needed}
    keys = st.fixed_dictionaries({key: known[key] for key in needed}, optional=optional)
    others = st.dictionaries(st.sampled_from(["x", "ID", "Pid", "versıon", " id"]), ANY, max_size=1)
    # Go's decoder takes a key in any case, and some of our documents are read as it reads them.
    case = st.sampled_from([str] * 12 + [str.upper, str.title, str.swapcase])

    def build(keys, others, case):
        return {**others, **{case(key): value for key, value in keys.items()}}

    return mostly(st.builds(build, keys, others, case), [{}])


TEXT = mostly(STRINGS | st.none())
STRING_MAPS = mostly(st.dictionaries(STRINGS, st.none() | STRINGS, max_size=2) | st.none())
IDS = mostly(
    ["redis", "A+b_c.d-9", "...", "-a", "0", "_"],
    [".", "..", "", "a\n", "a/b", "a:b", "\u0661", "a\x00", "\uff41", "a\u0301"],
)
PIDS = mostly([0, 1, 1234, 1.0, 1234.0, -0.0, 10**300, None], [-1, 0.5, True, False, "1234"])
STATES = document(
    ["id"],
    id=IDS,
    pid=PIDS,
    bundle=TEXT,
    bundlePath=TEXT,
    ociVersion=TEXT,
    status=TEXT,
    root=TEXT,
    annotations=STRING_MAPS,
)
RESULTS = document(
    version=mostly(["0.1", "1.2.3", "", None], [0.1, ["0.1"]]),
    state=mostly([*payload.STATES, "", None], ["start", "create\n", "Create"]),
    id=TEXT,
    pid=PIDS,
    plugin=TEXT,
    error=TEXT,
    cgroupsPath=TEXT,
    metadata=STRING_MAPS,
)
ENTRIES = document(
    ["type"],
    type=mostly(
        ["clearcfs", "a.b-c_9", "_a", "0", "A.", "a-"],
        ["../x", ".a", "-a", "a/b", "a\n", "", "\u00e9", "a\x00", "a b", "\uff41", None],
    ),
    conf=ANY,
    timeout=mostly([1, 2.5, 1e-9, 1e300, 5e-324, None], [0, -1, 0.0, -0.0, True, "1"]),
    onError=mostly(["fail", "ignore", None], ["", "Fail", "ignore\n", True]),
    leaveParent=mostly([True, False, None], [0, 1, "true", 1.0]),
    onLeft=mostly(["start", "fail", None], ["", "Fail", "ignore", True]),
)
CONFIGURATIONS = document(
    version=mostly(
        ["0.1", "0.1.0", "0.1.12", "", None],
        ["0.2", "0.1\n", 0.1, "0.1.", "0.1.1\n", "0.1.x", "0.1.1.1", "0.1.\u0661", "00.1"],
    ),
    plugins=mostly(st.lists(ENTRIES, max_size=3) | st.none()),
)
NUMBER = mostly([1, -1, 1.0, -1.0, 10**300, None], [0.5, True, "1"])
RULES = document(
    allow=mostly([True, False, None], [0, "true"]),
    type=mostly(["a", "b", "c", "u", "p", "", None]),
    access=mostly(["rwm", "r", "", None]),
    major=NUMBER,
    minor=NUMBER,
)
NAMESPACES = document(["type"], type=mostly(["pid", "network", ""], [None]), path=TEXT)
RESOURCES = document(devices=mostly(st.lists(RULES, max_size=2) | st.none()), memory=ANY)
LINUX = document(
    cgroupsPath=TEXT,
    resources=RESOURCES | st.none(),
    namespaces=mostly(st.lists(NAMESPACES, max_size=2) | st.none()),
)
ROOTS = document(path=TEXT) | st.none()
CONFIGS = document(["linux"], linux=LINUX, root=ROOTS, annotations=STRING_MAPS)
MOUNTS = document(
    destination=TEXT,
    type=mostly(["cgroup", "cgroup2", "bind", None]),
    source=TEXT,
    options=mostly(st.lists(TEXT, max_size=2) | st.none()),
)


def assert_agrees(name, document, read, spell=lambda document: document):
    """`read` takes the document, or raises the very line that the schema gives, or that which says
    that two of its keys are the same one."""
    try:
        reason = schema.explain(name, spell(document))
    except strictjson.JSONError as error:
        reason = str(error)
    try:
        read(json.dumps(document).encode())
    except HookError as error:
        assert error.args[0] == reason
    else:
        assert reason is None


@QUICK
@given(STATES)
@example({"id": "a", "pid": 1.0})
@example({"id": "a", "pid": True})
@example({"id": "a\n"})
def test_states(state):
    assert_agrees("state", state, oci.read_state)


def requested(result):
    """A request to which every well-formed answer belongs: what has to match matches."""
    given = result if isinstance(result, dict) else {}
    folded = {strictjson.fold(key): value for key, value in given.items()}
    return {key: folded.get(key) for key in ("id", "pid", "state")}


@QUICK
@given(RESULTS)
@example({"Error": 1})
@example({"error": "", "Error": "NO"})
@example({"pid": True})
@example({"pid": 7.0})
@example({"version": "0.1\n"})
def test_results(result):
    common = requested(result)
    assert_agrees(
        "result",
        result,
        lambda data: payload.read_result(data, "p", common),
        lambda document: strictjson.spell_keys(document, payload.RESULT_KEYS),
    )


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("nri")


@QUICK
@given(CONFIGURATIONS)
@example({"Plugins": [{"Type": "a", "CONF": {"Type": 1}, "leaveparent": True}]})
@example({"plugins": [], "Plugins": []})
@example({"plugins": [{"type": "a", "Type": "a"}]})
@example({"plugins": [{"type": "a\n"}]})
@example({"plugins": [{"type": "a", "timeout": True}]})
def test_host_configurations(directory, configuration):
    def load(data):
        (directory / "conf.json").write_bytes(data)
        os.chmod(directory / "conf.json", 0o644)
        entries = host_config.load(str(directory))
        # What was accepted means what it says.
        plugins = host_config.spell_keys(configuration).get("plugins") or []
        assert [entry.document for entry in entries] == plugins
        for entry, plugin in zip(entries, plugins):
            assert entry.type == plugin["type"]
            assert entry.timeout == plugin.get("timeout")
            assert entry.ignore is (plugin.get("onError") == "ignore")
            assert entry.leave_parent is (plugin.get("leaveParent") is True)
            assert entry.must_place is (plugin.get("onLeft") == "fail")

    assert_agrees("host-configuration", configuration, load, host_config.spell_keys)


@QUICK
@given(CONFIGS)
@example({"linux": {"resources": {"devices": [{"major": True}]}}})
@example({"linux": {"namespaces": [{"path": "/x"}]}})
def test_configs(config):
    def read(data):
        oci.Bundle("/b", oci.parse_config(data, "/b/config.json")).denied_devices()

    assert_agrees("config", config, read)


def denied_by_definition(rules):
    """Each rule on its own: it replaces the denials of the same line, or all if it is about all."""
    everything, denied = False, []
    for rule in rules:
        if (rule.get("type") or "a") == "a":
            everything, denied = bool(rule.get("allow")), []
        elif everything:
            numbers = [rule.get("major"), rule.get("minor")]
            text = ["*" if number is None or number < 0 else str(int(number)) for number in numbers]
            line = f"{rule['type']} {':'.join(text)} {rule.get('access') or 'rwm'}"
            denied = [other for other in denied if other != line]
            denied += [] if rule.get("allow") else [line]
    return denied


FEW_RULES = st.fixed_dictionaries(
    {"type": st.sampled_from(["c", "c", "b", "a", "", None])},
    optional={
        "allow": st.sampled_from([True, False, False, None]),
        "major": st.sampled_from([1, 1.0, -1, None]),
        "minor": st.sampled_from([3, -1]),
        "access": st.sampled_from(["rw", "", None]),
    },
)


@QUICK
@given(st.lists(FEW_RULES, max_size=12))
def test_denied_devices_in_order(rules):
    rules = [{"allow": True}, *rules]
    bundle = oci.Bundle("/b", {"linux": {"resources": {"devices": rules}}})
    assert bundle.denied_devices() == denied_by_definition(rules)


def test_many_device_rules_take_no_time():
    """Twice as many take twice as long; for a list of this length it was minutes."""
    rule = {"allow": False, "type": "c", "access": "rwm"}
    rules = [{"allow": True}, *({**rule, "major": 1, "minor": n} for n in range(100_000))]
    bundle = oci.Bundle("/b", {"linux": {"resources": {"devices": rules}}})
    begin = time.process_time()
    assert len(bundle.denied_devices()) == 100_000
    assert time.process_time() - begin < 10


@QUICK
@given(mostly(st.lists(MOUNTS, max_size=2)))
def test_mounts_are_taken_as_they_are(mounts):
    """Of these the runtime is the judge; we look for cgroup mounts of a known shape among them."""
    config = {"linux": {}, "mounts": mounts}
    bundle = oci.Bundle("/b", oci.parse_config(json.dumps(config).encode(), "/b/config.json"))
    found = bundle.cgroup_mounts()
    for destination, options in found.items():
        assert isinstance(destination, str)
        assert all(isinstance(option, str) for option in options)
    if schema.explain("config", config) is None:
        wanted = [mount for mount in mounts or [] if mount.get("type") in ("cgroup", "cgroup2")]
        named = {mount.get("destination") for mount in wanted} - {None}
        assert set(found) == {os.path.normpath("/" + name.lstrip("/")) for name in named}


@QUICK
@given(CONFIGS, st.sampled_from([None, 1, 1234]), ANY, st.booleans())
def test_every_payload_validates(config, pid, conf_value, has_conf):
    """Whatever config.json a container has, plugins get what their schema promises."""
    if schema.explain("config", config):
        return
    bundle = oci.Bundle("/b", config)
    spec = payload.spec(bundle, "default/redis", {"": "/default/redis"}, pid)
    common = payload.request("create", "redis", pid, spec, None)
    entry = {"type": "a", **({"conf": conf_value} if has_conf else {})}
    document = payload.for_plugin(common, entry, [{"plugin": "b", "version": "0.1"}])
    assert schema.explain("payload", document) is None


@QUICK
@given(RESULTS)
def test_every_answer_may_stand_in_the_next_payload(result):
    try:
        answer = payload.read_result(json.dumps(result).encode(), "p", requested(result))
    except HookError:
        return
    assert answer["plugin"] and answer["version"]
    spec = payload.spec(oci.Bundle("/b", {"linux": {}}), "a", {}, None)
    request = payload.request("delete", "redis", None, spec, None)
    document = payload.for_plugin(request, {"type": "a"}, [answer])
    assert schema.explain("payload", document) is None
