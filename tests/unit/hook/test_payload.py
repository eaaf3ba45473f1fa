"""What plugins get and give: every field, both forms, and answers that are none."""

import json
import os

import pytest
from support.tree import DATA

from nri_hook.errors import HookError
from nri_hook.hook import oci, payload, pod
from nri_hook.validation import schema

COMMON = {"version": "0.1", "state": "create", "id": "redis", "pid": 1234, "spec": {}}


def bundle(**linux):
    return oci.Bundle("/b", {"linux": linux, "annotations": linux.pop("annotations", None)})


def sent(common, entry=None, results=()):
    """What a plugin reads, which its schema holds for."""
    document = payload.for_plugin(common, entry or {"type": "a"}, list(results))
    assert json.loads(json.dumps(document)) == document
    assert schema.explain("payload", document) is None
    return document


# The payload


def test_the_payload_of_the_readme():
    """README-v0.1.0, with net under OCI's name too, cgroups and results."""
    container = bundle(
        cgroupsPath="default/redis",
        namespaces=[{"type": "pid"}, {"type": "mount"}, {"type": "network", "path": "/run/n"}],
        annotations={"qos.class": "ls"},
    )
    spec = payload.spec(container, "default/redis", {"": "/default/redis"}, 44)
    document = sent(payload.request("create", "redis", 44, spec, None))
    assert document == {
        "version": "0.1",
        "state": "create",
        "id": "redis",
        "pid": 44,
        "spec": {
            "resources": {},
            "cgroupsPath": "default/redis",
            "cgroups": {"": "/default/redis"},
            "namespaces": {
                "pid": "/proc/44/ns/pid",
                "mount": "/proc/44/ns/mnt",
                "net": "/proc/44/ns/net",
                "network": "/proc/44/ns/net",
            },
            "annotations": {"qos.class": "ls"},
        },
        "results": [],
    }


def test_every_kind_of_namespace_that_the_config_lists():
    files = {
        "pid": ("pid", ["pid"]),
        "mount": ("mnt", ["mount"]),
        "network": ("net", ["net", "network"]),
        "ipc": ("ipc", ["ipc"]),
        "uts": ("uts", ["uts"]),
        "user": ("user", ["user"]),
        "cgroup": ("cgroup", ["cgroup"]),
        "time": ("time", ["time"]),
    }
    for kind, (file, names) in files.items():
        spec = payload.spec(bundle(namespaces=[{"type": kind}]), "x", {}, 7)
        assert spec["namespaces"] == dict.fromkeys(names, f"/proc/7/ns/{file}")
        assert os.path.exists(f"/proc/self/ns/{file}") or file == "time"
    every = [{"type": kind} for kind in files]
    assert len(payload.spec(bundle(namespaces=every), "x", {}, 7)["namespaces"]) == 9


def test_namespaces_that_nobody_can_open_stay_out():
    for namespaces in (None, [], [{"type": "ipc"}, {"type": "later"}], [{"type": ""}]):
        spec = payload.spec(bundle(namespaces=namespaces), "x", {}, 7)
        assert set(spec["namespaces"]) <= {"ipc"}
    for kind in payload.NAMESPACES:
        spec = payload.spec(bundle(namespaces=[{"type": kind}]), "x", {}, None)
        assert spec["namespaces"] == {}


def test_resources_as_they_stand_in_the_config():
    for resources in ({"memory": {"limit": 2**63, "x": None}, "unknown": [1.0]}, {"devices": None}):
        spec = payload.spec(bundle(resources=resources), "x", {}, 7)
        assert repr(spec["resources"]) == repr(resources)
    for linux in ({}, {"resources": None}, {"resources": {}}):
        assert payload.spec(bundle(**linux), "x", {}, 7)["resources"] == {}


def test_null_annotations_are_empty_strings():
    spec = payload.spec(bundle(annotations={"a": None, "b": "é\ud800\n"}), "x", {}, 7)
    assert spec["annotations"] == {"a": "", "b": "é\ud800\n"}


def test_conf_as_the_configuration_has_it():
    for value in (None, 0, -0.0, "", [], {}, {"b": [1, 1.0, 1e300, True], "a": "é\ud800"}, 2**70):
        document = sent(COMMON, {"type": "a", "conf": value, "timeout": 1})
        assert repr(document["conf"]) == repr(value)
    assert "conf" not in sent(COMMON, {"type": "a", "timeout": 1})


def test_the_pod():
    for labels in ({"app": "peer"}, {}):
        document = sent(payload.request("create", "c", 7, {}, pod.Sandbox("s", labels)))
        assert (document["sandboxID"], document["labels"]) == ("s", labels)
    document = sent(payload.request("create", "c", 7, {}, pod.Sandbox("s")))
    assert document["sandboxID"] == "s" and "labels" not in document
    document = sent(payload.request("create", "c", 7, {}, None))
    assert not {"sandboxID", "labels"} & set(document)


def test_the_results_so_far():
    results = [{"plugin": "a", "version": "0.1", "metadata": {"k": "v"}, "more": [None]}]
    before = dict(COMMON)
    assert sent(COMMON, results=results)["results"] == results
    assert before == COMMON


@pytest.mark.parametrize("sample", ["crio-1.36.3-config.json", "runc-config.json"])
def test_real_configs(sample):
    container = oci.Bundle("/b", oci.read_config(f"{DATA}/{sample}"))
    with open(f"{DATA}/{sample}") as file:
        linux = json.load(file)["linux"]
    spec = payload.spec(container, container.cgroups_path, {"cpu,cpuacct": "/x"}, 7)
    document = sent(payload.request("create", "redis", 7, spec, None))
    assert document["spec"]["resources"] == linux["resources"]
    listed = {namespace["type"] for namespace in linux["namespaces"]}
    assert listed <= set(document["spec"]["namespaces"])


def test_without_a_process_there_is_no_pid():
    """A plugin that runs `kill -9 $pid` must not find a -1."""
    spec = payload.spec(bundle(namespaces=[{"type": "pid"}]), "x", {}, None)
    assert "pid" not in sent(payload.request("setup", "redis", None, spec, None))
    # A record of before holds such a request.
    for pid in (1234, -1):
        request = payload.deletion(dict(COMMON, pid=pid), "y", {"": "/y"})
        assert "pid" not in request
        assert request["spec"] == {"namespaces": {}, "cgroupsPath": "y", "cgroups": {"": "/y"}}


# Results


def read(result, common=COMMON, plugin="a"):
    data = result if isinstance(result, bytes) else json.dumps(result).encode()
    return payload.read_result(data, plugin, common)


def refused(result, common=COMMON):
    """The reason for which it is no answer to this request."""
    with pytest.raises(HookError) as caught:
        read(result, common)
    line = str(caught.value)
    assert line.startswith("plugin a: its answer: ")
    assert line.isprintable() and len(line) < 300
    return line[len("plugin a: its answer: ") :]


FILLED = {"plugin": "a", "version": "0.1"}


@pytest.mark.parametrize(
    ("result", "meaning"),
    [
        ({}, {}),
        (
            {"version": "0.1", "state": "create", "id": "redis", "pid": 1234, "cgroupsPath": "x"},
            {"state": "create", "id": "redis", "pid": 1234, "cgroupsPath": "x"},
        ),
        (
            {"plugin": "b", "version": "0.1", "error": "", "metadata": {"k": "v"}},
            {"plugin": "b", "error": "", "metadata": {"k": "v"}},
        ),
        ({"plugin": "", "version": ""}, {}),
        ({"id": "", "state": "", "cgroupsPath": ""}, {"id": "", "state": "", "cgroupsPath": ""}),
        ({"pid": 1234.0}, {"pid": 1234.0}),
        ({"error": "no CPU"}, {"error": "no CPU"}),
        ({"metadata": {"k": None}}, {"metadata": {"k": None}}),
        ({"unknown": {"a": [None, 1.5]}, "u": 7}, {"unknown": {"a": [None, 1.5]}, "u": 7}),
        ({"Error": "NO"}, {"error": "NO"}),
        ({"PID": 1234, "CgroupsPath": "x"}, {"pid": 1234, "cgroupsPath": "x"}),
        ({"Metadata": {"Error": "a", "error": "b"}}, {"metadata": {"Error": "a", "error": "b"}}),
        ({"\u017ftate": "create"}, {"state": "create"}),
        ({"version": "1.2.3"}, {"version": "1.2.3"}),
        (dict.fromkeys(("version", "plugin", "error", "metadata", "state", "id", "pid")), {}),
        ({"cgroupsPath": None, "other": None}, {}),
        (b' \n{"error":"\\ud800"}\r\n\t', {"error": "\ud800"}),
    ],
)
def test_both_forms_and_any_mix(result, meaning):
    assert read(result) == {**FILLED, **meaning}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty, expected a JSON document"),
        (b"\n", "empty, expected a JSON document"),
        (b"{", "not JSON: "),
        (b"{}{}", "more after the JSON document, at character 2"),
        (b"{}\0", "more after the JSON document, at character 2"),
        (b"\xef\xbb\xbf{}", "no JSON value at character 0"),
        (b'{"error":"\xff"}', "byte 10 is not UTF-8"),
        (b'{"a":NaN}', "NaN is not a JSON number"),
        (b'{"id":"x","id":"redis"}', "key 'id' appears twice in one object"),
        (b"[" * 200 + b"]" * 200, "nested more than 100 deep"),
        (b"[]", "document: expected an object, found []"),
        (b"null", "document: expected an object, found null"),
        (b'{"version":1.0}', "/version: expected a string, found 1.0"),
        (b'{"error":1}', "/error: expected a string, found 1"),
        (b'{"Error":1}', "/error: expected a string, found 1"),
        (
            b'{"error":"","Error":"NO"}',
            "/Error: the same key as 'error', expected one of the two",
        ),
        (b'{"metadata":{"a":1}}', "/metadata/a: expected a string, found 1"),
        (b'{"metadata":{"\\n":[]}}', "/metadata/\\n: expected a string, found []"),
        (b'{"pid":true}', "/pid: expected an integer, found true"),
        (b'{"pid":"1234"}', '/pid: expected an integer, found "1234"'),
        (b'{"cgroupsPath":["x"]}', '/cgroupsPath: expected a string, found ["x"]'),
        (b'{"state":"start"}', '/state: expected one of "setup", "create", "pause",'),
    ],
)
def test_what_is_no_result(data, reason):
    assert refused(data).startswith(reason)


def test_an_answer_to_another_request():
    assert refused({"id": "other"}) == "/id: expected 'redis', found 'other'"
    assert refused({"id": "redis\n"}) == "/id: expected 'redis', found 'redis\\n'"
    assert refused({"pid": 1235}) == "/pid: expected 1234, found 1235"
    assert refused({"pid": 0}) == "/pid: expected 1234, found 0"
    assert refused({"state": "delete"}) == "/state: expected 'create', found 'delete'"
    assert refused({"id": "x" * 10**6}).startswith("/id: expected 'redis', found 'xxx")
    for state in payload.STATES:
        if state != "create":
            refused({"state": state})


def test_an_answer_to_delete():
    common = payload.deletion(COMMON, "x", {})
    for pid in (None, 0, -1, -1.0):
        assert read({"pid": pid, "state": "delete", "id": "redis"}, common)["plugin"] == "a"
    assert read({}, common)["plugin"] == "a"
    assert refused({"pid": 1234}, common) == "/pid: expected none, found 1234"
    assert refused({"pid": -2}, common) == "/pid: expected none, found -2"
