"""The schemas hold, take the protocol's own examples, and say in words what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from support import tree

from nri_hook.hook import host_config
from nri_hook.hook import payload as protocol
from nri_hook.validation import schema
from nri_hook.validation.fault import Fault

TOP = Path(tree.TOP)
DATA = Path(tree.DATA)
SAMPLES = TOP.parent / "shared" / "samples"

# The three documents of NRI 0.1's README, as they stand there.
README_CONFIGURATION = """
{
  "version": "0.1",
  "plugins": [
    {
      "type": "konfine",
      "conf": {
        "systemReserved": [0, 1]
      }
    },
    {
      "type": "clearcfs"
    }
  ]
}
"""
README_INPUT = """
{
  "version": "0.1",
  "state": "create",
  "id": "redis",
  "pid": 1234,
  "spec": {
    "resources": {},
    "cgroupsPath": "default/redis",
    "namespaces": {
      "pid": "/proc/44/ns/pid",
      "mount": "/proc/44/ns/mnt",
      "net": "/proc/44/ns/net"
    },
    "annotations": {
      "qos.class": "ls"
    }
  }
}
"""
README_OUTPUT = """
{
  "version": "0.1",
  "state": "create",
  "id": "redis",
  "pid": 1234,
  "cgroupsPath": "qos-ls/default/redis"
}
"""
README = [
    ("host-configuration", json.loads(README_CONFIGURATION)),
    ("payload", json.loads(README_INPUT)),
    ("result", json.loads(README_OUTPUT)),
]

EXAMPLES = [(name, example) for name in schema.NAMES for example in schema.load(name)["examples"]]

NAME = "a name of ASCII letters, digits, '.', '_' and '-' that starts with a letter, digit or '_'"
ID = "an id of ASCII letters, digits, '_', '+', '.' and '-' that is not '.' or '..'"
VERSION = '"0.1" or "0.1.N"'
STATES = 'one of "setup", "create", "pause", "resume", "update" and "delete"'
LIVE_PID = "a process id; absent or -1 if there is no process"
STATE_PID = "a process id, or 0 where there is no process"


def plugin(**entry: object) -> dict[str, Any]:
    return {"plugins": [entry]}


def payload(**changes: object) -> dict[str, Any]:
    return {**json.loads(README_INPUT), **changes}


def spec(**changes: object) -> dict[str, Any]:
    return payload(spec={**json.loads(README_INPUT)["spec"], **changes})


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in payload().items() if name != key}


def linux(**section: object) -> dict[str, Any]:
    return {"linux": section}


def device(**rule: object) -> dict[str, Any]:
    return linux(resources={"devices": [rule]})


WRONG: list[tuple[str, object, str]] = [
    ("host-configuration", [], "document: expected an object, found []"),
    ("host-configuration", None, "document: expected an object, found null"),
    ("host-configuration", {"version": "0.2"}, f'/version: expected {VERSION}, found "0.2"'),
    ("host-configuration", {"version": 0.1}, f"/version: expected {VERSION}, found 0.1"),
    ("host-configuration", {"version": "0.1\n"}, rf'/version: expected {VERSION}, found "0.1\n"'),
    ("host-configuration", {"version": "0.1.x"}, f'/version: expected {VERSION}, found "0.1.x"'),
    ("host-configuration", {"plugins": {}}, "/plugins: expected a list, found {}"),
    ("host-configuration", {"plugins": [None]}, "/plugins/0: expected an object, found null"),
    ("host-configuration", {"plugins": ["qos"]}, '/plugins/0: expected an object, found "qos"'),
    ("host-configuration", plugin(), f"/plugins/0/type: expected {NAME}, found nothing"),
    ("host-configuration", plugin(type=7), "/plugins/0/type: expected a string, found 7"),
    ("host-configuration", plugin(type=None), "/plugins/0/type: expected a string, found null"),
    ("host-configuration", plugin(type=""), f'/plugins/0/type: expected {NAME}, found ""'),
    ("host-configuration", plugin(type="../x"), f'/plugins/0/type: expected {NAME}, found "../x"'),
    ("host-configuration", plugin(type=".x"), f'/plugins/0/type: expected {NAME}, found ".x"'),
    ("host-configuration", plugin(type="-x"), f'/plugins/0/type: expected {NAME}, found "-x"'),
    ("host-configuration", plugin(type="a/b"), f'/plugins/0/type: expected {NAME}, found "a/b"'),
    (
        "host-configuration",
        plugin(type="qos\n"),
        rf'/plugins/0/type: expected {NAME}, found "qos\n"',
    ),
    (
        "host-configuration",
        plugin(type="qos\x00"),
        rf'/plugins/0/type: expected {NAME}, found "qos\u0000"',
    ),
    (
        "host-configuration",
        plugin(type="caf\u00e9"),
        rf'/plugins/0/type: expected {NAME}, found "caf\u00e9"',
    ),
    (
        "host-configuration",
        {"plugins": [{"type": "qos"}, {"type": "qos", "timeout": 0}]},
        "/plugins/1/timeout: expected a number of seconds above 0, found 0",
    ),
    (
        "host-configuration",
        plugin(type="qos", timeout=-0.5),
        "/plugins/0/timeout: expected a number of seconds above 0, found -0.5",
    ),
    (
        "host-configuration",
        plugin(type="qos", timeout="5"),
        '/plugins/0/timeout: expected a number, found "5"',
    ),
    (
        "host-configuration",
        plugin(type="qos", timeout=True),
        "/plugins/0/timeout: expected a number, found true",
    ),
    (
        "host-configuration",
        plugin(type="qos", onError="continue"),
        '/plugins/0/onError: expected "fail" or "ignore", found "continue"',
    ),
    (
        "host-configuration",
        plugin(type="qos", leaveParent="yes"),
        '/plugins/0/leaveParent: expected true or false, found "yes"',
    ),
    (
        "host-configuration",
        plugin(type="qos", onLeft=True),
        '/plugins/0/onLeft: expected "start" or "fail", found true',
    ),
    (
        "host-configuration",
        {"version": "1", **plugin(type=7)},
        f'/version: expected {VERSION}, found "1"',
    ),
    ("payload", "x", 'document: expected an object, found "x"'),
    ("payload", without("version"), '/version: expected "0.1", found nothing'),
    ("payload", payload(version=""), '/version: expected "0.1", found ""'),
    ("payload", without("state"), f"/state: expected {STATES}, found nothing"),
    ("payload", payload(state="start"), f'/state: expected {STATES}, found "start"'),
    ("payload", payload(id=None), "/id: expected a string, found null"),
    ("payload", payload(pid=0), f"/pid: expected {LIVE_PID}, found 0"),
    ("payload", payload(pid=-2), f"/pid: expected {LIVE_PID}, found -2"),
    ("payload", payload(pid=-1.5), "/pid: expected an integer, found -1.5"),
    ("payload", payload(pid="1234"), '/pid: expected an integer, found "1234"'),
    ("payload", without("spec"), "/spec: expected an object, found nothing"),
    ("payload", spec(resources=None), "/spec/resources: expected an object, found null"),
    ("payload", spec(cgroupsPath=1), "/spec/cgroupsPath: expected a string, found 1"),
    (
        "payload",
        spec(namespaces={"pid": 44}),
        "/spec/namespaces/pid: expected a string, found 44",
    ),
    (
        "payload",
        spec(cgroups={"cpu/~": None}),
        "/spec/cgroups/cpu~1~0: expected a string, found null",
    ),
    ("payload", payload(results={}), "/results: expected a list, found {}"),
    ("payload", payload(results=None), "/results: expected a list, found null"),
    (
        "payload",
        payload(results=[{}, {"metadata": {"k": 1}}]),
        "/results/1/metadata/k: expected a string, found 1",
    ),
    ("payload", payload(sandboxID=None), "/sandboxID: expected a string, found null"),
    ("payload", payload(labels={"app": True}), "/labels/app: expected a string, found true"),
    ("result", [{}], "document: expected an object, found [{}]"),
    ("result", None, "document: expected an object, found null"),
    ("result", {"version": 0.1}, "/version: expected a string, found 0.1"),
    ("result", {"plugin": 1}, "/plugin: expected a string, found 1"),
    ("result", {"error": {"a": [1]}}, '/error: expected a string, found {"a": [1]}'),
    ("result", {"state": "created"}, f'/state: expected {STATES}, found "created"'),
    ("result", {"id": 12}, "/id: expected a string, found 12"),
    ("result", {"pid": "12"}, '/pid: expected an integer, found "12"'),
    ("result", {"pid": 1.5}, "/pid: expected an integer, found 1.5"),
    ("result", {"pid": True}, "/pid: expected an integer, found true"),
    ("result", {"cgroupsPath": ["a"]}, '/cgroupsPath: expected a string, found ["a"]'),
    ("result", {"metadata": "k=v"}, '/metadata: expected an object, found "k=v"'),
    (
        "result",
        {"metadata": {"a\nb \u2028": 1}},
        r"/metadata/a\nb \u2028: expected a string, found 1",
    ),
    ("state", [], "document: expected an object, found []"),
    ("state", {}, f"/id: expected {ID}, found nothing"),
    ("state", {"id": None}, "/id: expected a string, found null"),
    ("state", {"id": 7}, "/id: expected a string, found 7"),
    ("state", {"id": ""}, f'/id: expected {ID}, found ""'),
    ("state", {"id": "."}, f'/id: expected {ID}, found "."'),
    ("state", {"id": ".."}, f'/id: expected {ID}, found ".."'),
    ("state", {"id": "a/b"}, f'/id: expected {ID}, found "a/b"'),
    ("state", {"id": "redis\n"}, rf'/id: expected {ID}, found "redis\n"'),
    ("state", {"id": "\u0664"}, rf'/id: expected {ID}, found "\u0664"'),
    ("state", {"id": "a", "pid": -1}, f"/pid: expected {STATE_PID}, found -1"),
    ("state", {"id": "a", "pid": 1.5}, "/pid: expected an integer, found 1.5"),
    ("state", {"id": "a", "pid": False}, "/pid: expected an integer, found false"),
    ("state", {"id": "a", "bundle": 1}, "/bundle: expected a string, found 1"),
    ("state", {"id": "a", "bundlePath": {}}, "/bundlePath: expected a string, found {}"),
    ("state", {"id": "a", "status": 3}, "/status: expected a string, found 3"),
    ("state", {"id": "a", "ociVersion": 1.0}, "/ociVersion: expected a string, found 1.0"),
    ("state", {"id": "a", "root": []}, "/root: expected a string, found []"),
    ("state", {"id": "a", "annotations": []}, "/annotations: expected an object, found []"),
    (
        "state",
        {"id": "a", "annotations": {"qos.class": 1}},
        "/annotations/qos.class: expected a string, found 1",
    ),
    ("config", 0, "document: expected an object, found 0"),
    ("config", {}, "/linux: expected an object, found nothing"),
    ("config", {"linux": None}, "/linux: expected an object, found null"),
    ("config", {"windows": {}}, "/linux: expected an object, found nothing"),
    ("config", linux(cgroupsPath=3), "/linux/cgroupsPath: expected a string, found 3"),
    ("config", linux(resources=[]), "/linux/resources: expected an object, found []"),
    (
        "config",
        linux(resources={"devices": {}}),
        "/linux/resources/devices: expected a list, found {}",
    ),
    (
        "config",
        linux(resources={"devices": ["a"]}),
        '/linux/resources/devices/0: expected an object, found "a"',
    ),
    (
        "config",
        device(allow=1),
        "/linux/resources/devices/0/allow: expected true or false, found 1",
    ),
    ("config", device(type=1), "/linux/resources/devices/0/type: expected a string, found 1"),
    (
        "config",
        device(major="1"),
        '/linux/resources/devices/0/major: expected an integer, found "1"',
    ),
    (
        "config",
        device(minor=0.5),
        "/linux/resources/devices/0/minor: expected an integer, found 0.5",
    ),
    (
        "config",
        device(access=["r"]),
        '/linux/resources/devices/0/access: expected a string, found ["r"]',
    ),
    (
        "config",
        linux(namespaces={"pid": ""}),
        '/linux/namespaces: expected a list, found {"pid": ""}',
    ),
    (
        "config",
        linux(namespaces=[{"path": "/x"}]),
        "/linux/namespaces/0/type: expected a string, found nothing",
    ),
    (
        "config",
        linux(namespaces=[{"type": "pid", "path": 1}]),
        "/linux/namespaces/0/path: expected a string, found 1",
    ),
    ("config", {"root": "rootfs", **linux()}, '/root: expected an object, found "rootfs"'),
    ("config", {"root": {"path": 1}, **linux()}, "/root/path: expected a string, found 1"),
    ("config", {"mounts": {}, **linux()}, "/mounts: expected a list, found {}"),
    ("config", {"mounts": [1], **linux()}, "/mounts/0: expected an object, found 1"),
    (
        "config",
        {"mounts": [{"destination": 1}], **linux()},
        "/mounts/0/destination: expected a string, found 1",
    ),
    (
        "config",
        {"mounts": [{"type": {}}], **linux()},
        "/mounts/0/type: expected a string, found {}",
    ),
    (
        "config",
        {"mounts": [{"source": 0}], **linux()},
        "/mounts/0/source: expected a string, found 0",
    ),
    (
        "config",
        {"mounts": [{"options": "ro"}], **linux()},
        '/mounts/0/options: expected a list, found "ro"',
    ),
    (
        "config",
        {"mounts": [{"options": ["ro", 1]}], **linux()},
        "/mounts/0/options/1: expected a string, found 1",
    ),
    ("config", {"annotations": {"a": 1}, "linux": 3}, "/linux: expected an object, found 3"),
    (
        "config",
        {"annotations": {"a": {}}, **linux()},
        "/annotations/a: expected a string, found {}",
    ),
]

RIGHT: list[tuple[str, object]] = [
    ("host-configuration", {"version": None, "plugins": None, "comment": 1}),
    ("host-configuration", {"version": "", "plugins": []}),
    ("host-configuration", {"version": "0.1.12"}),
    ("host-configuration", plugin(type="_a.b-C9", conf=None, colour="red")),
    ("host-configuration", plugin(type="0", conf=[1], timeout=0.001, onError="fail")),
    (
        "host-configuration",
        plugin(type="a", **dict.fromkeys(("timeout", "onError", "leaveParent", "onLeft"))),
    ),
    ("payload", payload(pid=-1, conf=None, extra={})),
    ("payload", without("pid")),
    ("payload", payload(pid=1234.0, results=[], labels={}, sandboxID="")),
    ("payload", payload(results=[{"metadata": {"k": None}, "error": None}])),
    ("payload", spec(extra=1, resources={"devices": 7})),
    ("result", dict.fromkeys(("version", "plugin", "error", "metadata"))),
    ("result", dict.fromkeys(("state", "id", "pid", "cgroupsPath"))),
    ("result", {"version": "", "state": "", "id": "", "cgroupsPath": "", "pid": 7.0}),
    ("result", {"metadata": {"k": None}, "version": "1.2.3", "other": 7}),
    ("state", {"id": "A+b_c.d-9", "pid": 12.0}),
    ("state", {"id": "...", "pid": 0, "extra": [1]}),
    ("state", {"id": "a", **dict.fromkeys(("pid", "bundle", "bundlePath", "status", "root"))}),
    ("state", {"id": "a", "ociVersion": None, "annotations": {"k": None}}),
    ("config", {"linux": {"seccomp": 7}, "process": 7, "root": {}, "mounts": None}),
    ("config", {"linux": {"cgroupsPath": None, "resources": {"devices": None, "memory": 7}}}),
    ("config", device(**dict.fromkeys(("allow", "type", "major", "minor", "access")))),
    ("config", device(major=-1, minor=3.0)),
    ("config", linux(namespaces=[{"type": "pid", "path": None}])),
    (
        "config",
        {
            "linux": {},
            "annotations": None,
            "root": {"path": None},
            "mounts": [dict.fromkeys(("destination", "type", "source", "options"))],
        },
    ),
]


def samples(directory: Path) -> list[Path]:
    """What runtimes and engines sent or read; a record beside them is not of these."""
    return sorted(path for path in directory.glob("*.json") if "-record-" not in path.name)


def kind(sample: Path) -> str:
    return "state" if sample.name.endswith("-state.json") else "config"


def nodes(node: dict[str, Any], place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every subschema that a value can be held against, with its place in the schema."""
    yield place, node
    for key, child in node.get("properties", {}).items():
        yield from nodes(child, f"{place}/{key}")
    for word in ("items", "additionalProperties"):
        if word in node:
            yield from nodes(node[word], f"{place}/{word}")


@pytest.mark.parametrize("name", schema.NAMES)
def test_schema_is_valid_and_named(name: str) -> None:
    document = schema.load(name)
    Draft202012Validator.check_schema(document)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["$id"] == f"urn:nri-hook:schema:{name}"
    assert document["title"]
    assert document["description"]


def test_every_schema_file_has_a_name() -> None:
    files = {path.name for path in (TOP / "schemas").glob("*.json")}
    assert files == {f"{name}.schema.json" for name in schema.NAMES}


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"no schema has the name '\.\./x'"):
        schema.explain("../x", {})


def test_every_property_is_a_key_that_is_read_in_any_case() -> None:
    configuration = schema.load("host-configuration")["properties"]
    assert host_config.KEYS == set(configuration)
    assert host_config.ENTRY_KEYS == set(configuration["plugins"]["items"]["properties"])
    assert protocol.RESULT_KEYS == set(schema.load("result")["properties"])


@pytest.mark.parametrize("name", schema.NAMES)
def test_every_property_is_described(name: str) -> None:
    for place, node in nodes(schema.load(name)):
        for key, child in node.get("properties", {}).items():
            assert "Source: " in child["description"], f"{place}/{key}"


@pytest.mark.parametrize("name", schema.NAMES)
def test_every_constraint_is_said_in_words(name: str) -> None:
    """What `explain` relies on: an error is of a type, a missing key, or has x-expected."""
    bare = {
        *("$schema", "$id", "title", "description", "examples", "type", "required"),
        *("properties", "items", "additionalProperties"),
    }
    for place, node in nodes(schema.load(name)):
        assert set(node) <= bare or "x-expected" in node, place
        assert set(node.get("required", ())) <= set(node.get("properties", ())), place


@pytest.mark.parametrize("name", schema.NAMES)
def test_unknown_keys_are_nowhere_refused(name: str) -> None:
    for place, node in nodes(schema.load(name)):
        assert not {"unevaluatedProperties", "propertyNames"} & set(node), place
        # In a map, which has no known keys, it is the type of the values.
        assert not {"additionalProperties", "properties"} <= set(node), place


@pytest.mark.parametrize("name", schema.NAMES)
def test_patterns_mean_the_same_in_every_language(name: str) -> None:
    """Digits, classes and a start: `$`, `\\d`, `\\w` and their like differ between dialects."""
    for pattern in re.findall(r'"pattern": ("[^"]*")', json.dumps(schema.load(name))):
        assert re.fullmatch(r"\^?(0|1|\[\^?[A-Za-z0-9_+.-]+\]\*?)+", json.loads(pattern)), pattern


def test_results_in_a_payload_are_results() -> None:
    """The payload's schema holds a copy, so that one file is enough to test a plugin with."""
    items = schema.load("payload")["properties"]["results"]["items"]
    result = schema.load("result")
    assert items["properties"] == result["properties"]
    assert set(items) == set(result) - {"$schema", "$id", "examples"}


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_examples_validate(name: str, example: object) -> None:
    assert schema.faults(name, example) == []


@pytest.mark.parametrize(("name", "document"), README)
def test_readme_documents_validate_and_are_examples(name: str, document: object) -> None:
    assert schema.explain(name, document) is None
    assert document in schema.load(name)["examples"]


@pytest.mark.parametrize(("name", "document"), RIGHT)
def test_right_documents(name: str, document: object) -> None:
    assert schema.faults(name, document) == []
    assert schema.explain(name, document) is None


@pytest.mark.parametrize(("name", "document", "line"), WRONG)
def test_wrong_documents(name: str, document: object, line: str) -> None:
    assert schema.explain(name, document) == line
    assert line in [str(fault) for fault in schema.faults(name, document)]


@pytest.mark.parametrize("sample", samples(DATA), ids=lambda path: path.name)
def test_kept_samples_validate(sample: Path) -> None:
    assert schema.explain(kind(sample), json.loads(sample.read_bytes())) is None


def test_all_samples_validate() -> None:
    if not SAMPLES.is_dir():
        pytest.skip("the directory of all samples, ../shared/samples, is not on this machine")
    lines = [
        (sample.name, schema.explain(kind(sample), json.loads(sample.read_bytes())))
        for sample in samples(SAMPLES)
    ]
    assert {kind(Path(name)) for name, _ in lines} == {"state", "config"}
    assert [line for line in lines if line[1] is not None] == []


def test_all_faults_are_listed_once_each() -> None:
    document = {"version": 2, "plugins": [{"type": "../x"}, 7, {"timeout": 0}]}
    assert schema.faults("host-configuration", document) == [
        Fault("/version", "2", VERSION),
        Fault("/plugins/0/type", '"../x"', NAME),
        Fault("/plugins/1", "7", "an object"),
        Fault("/plugins/2/type", "nothing", NAME),
        Fault("/plugins/2/timeout", "0", "a number of seconds above 0"),
    ]


def test_long_values_and_keys_are_cut() -> None:
    big = {"k" * 5000: ["v" * 5000] * 1000}
    line = schema.explain("state", {"id": "a", "annotations": big})
    assert line is not None
    assert line.startswith("/annotations/kkk")
    assert line.endswith('k...: expected a string, found ["' + "v" * 55 + "...")
    assert len(line) < 300


def test_pointer_is_whole_and_line_is_ascii() -> None:
    (fault,) = schema.faults("result", {"metadata": {"\u00e9\udc80/\r": 1}})
    assert fault.pointer == "/metadata/\u00e9\udc80~1\r"
    assert str(fault) == r"/metadata/\u00e9\udc80~1\r: expected a string, found 1"
