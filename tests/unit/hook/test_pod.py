"""Which pod a container is in, by what CRI-O, podman and containerd write; and by nothing that the
author of a pod, or whoever calls podman, can write as well."""

import json
import os

import pytest
from support.tree import DATA

from nri_hook.errors import HookError
from nri_hook.hook import oci, pod

CONTAINER = "c0" * 32
SANDBOX = "5a" * 32
CRIO = "io.kubernetes.cri-o."
CRI = "io.kubernetes.cri."
MANAGER = "io.container.manager"
SEEN = "kubernetes.io/config.seen"
POD = {
    "io.kubernetes.pod.name": "pod1",
    "io.kubernetes.pod.namespace": "default",
    "io.kubernetes.pod.uid": "1111-2222",
}
LABELS = {"app": "peer", "empty": "", "é": "\u2603", **POD}


def recorded(name):
    """The annotations of a file of tests/data."""
    with open(f"{DATA}/{name}") as file:
        return json.load(file)["annotations"]


class Storage:
    """Where CRI-O keeps its bundles: DIRECTORY/overlay-containers/ID/userdata."""

    def __init__(self, directory):
        self.directory = f"{directory}/overlay-containers"

    def bundle(self, id):
        return f"{self.directory}/{id}/userdata"

    def write(self, id, config):
        """The config.json of a container or sandbox: a document, annotations of one, or bytes."""
        os.makedirs(self.bundle(id), exist_ok=True)
        path = f"{self.bundle(id)}/config.json"
        if isinstance(config, dict):
            config = json.dumps({"annotations": config, "linux": {}}).encode()
        with open(path, "wb") as file:
            file.write(config)
        return path

    def find(self, annotations, id=CONTAINER, cgroups_path=None, directory=None):
        linux = {"cgroupsPath": cgroups_path or f"/kubepods/pod1/crio-{id}"}
        document = {"annotations": annotations, "linux": linux}
        found = pod.find(id, oci.Bundle(directory or self.bundle(id), document))
        return found and (found.id, found.labels)

    def refused(self, annotations, **more):
        """Why a container with these is refused."""
        with pytest.raises(HookError) as caught:
            self.find(annotations, **more)
        assert "\n" not in str(caught.value)
        return str(caught.value)


@pytest.fixture
def storage(tmp_path):
    return Storage(tmp_path)


def crio(**more):
    """What CRI-O puts on every container of a pod."""
    annotations = {
        MANAGER: "cri-o",
        f"{CRIO}ContainerType": "container",
        f"{CRIO}SandboxID": SANDBOX,
        f"{CRIO}Labels": '{"of": "the container"}',
        f"{CRIO}Annotations": "{}",
        **POD,
    }
    return {**annotations, **{CRIO + key: value for key, value in more.items()}}


def of_sandbox(labels, annotations=None, **overwritten):
    """What CRI-O puts on the sandbox: its own keys, the pod's annotations, the pod's labels.

    overwritten: CRI-O's keys that are annotations of the pod too.
    """
    of_pod = {SEEN: "2026-11-26T06:00:00.123456789Z", **(annotations or {})}
    of_pod.update({CRIO + key: value for key, value in overwritten.items()})
    written = {
        MANAGER: "cri-o",
        f"{CRIO}ContainerType": "sandbox",
        f"{CRIO}Labels": labels if isinstance(labels, str) else json.dumps(labels),
        f"{CRIO}Annotations": json.dumps(of_pod),
    }
    return {**written, **of_pod, **(labels if isinstance(labels, dict) else {})}


# CRI-O


def test_a_pod_as_crio_really_writes_it(storage):
    annotations = recorded("crio-1.36.3-config.json")
    id, pod = annotations[f"{CRIO}ContainerID"], annotations[f"{CRIO}SandboxID"]
    written = recorded("crio-1.36.3-sandbox-config.json")
    storage.write(pod, written)
    labels = {
        "app": "peer",
        "io.kubernetes.container.name": "POD",
        "io.kubernetes.pod.name": "pod1",
        "io.kubernetes.pod.namespace": "default",
        "io.kubernetes.pod.uid": "11111111-2222-3333-4444-555555555555",
    }
    assert storage.find(annotations, id=id) == (pod, labels)
    assert storage.find(written, id=pod) == (pod, labels)


def test_the_labels_of_the_pod_are_in_the_sandboxs_config(storage):
    storage.write(CONTAINER, crio())
    storage.write(SANDBOX, of_sandbox(LABELS))
    assert storage.find(crio()) == (SANDBOX, LABELS)
    unit = f"kubepods-pod1.slice:crio:{CONTAINER}"
    assert storage.find(crio(), cgroups_path=unit) == (SANDBOX, LABELS)


def test_null_is_an_empty_label(storage):
    labels = {"a": None, "b": "c", **POD}
    storage.write(SANDBOX, {**of_sandbox(json.dumps(labels)), **POD})
    assert storage.find(crio()) == (SANDBOX, {**labels, "a": ""})


def test_a_pod_without_a_kubelet(storage):
    """crictl need not give names or times, nor any labels."""
    annotations = {key: value for key, value in crio().items() if key not in POD}
    for labels in ({}, "null"):
        document = of_sandbox(labels)
        document.update({f"{CRIO}Annotations": "null"})
        del document[SEEN]
        storage.write(SANDBOX, document)
        assert storage.find(annotations) == (SANDBOX, {})


def test_a_bundle_that_the_runtime_does_not_tell(storage, monkeypatch):
    """crun says / at times; CRI-O keeps a copy in its storage."""
    storage.write(SANDBOX, of_sandbox(LABELS))
    monkeypatch.setattr(oci, "STORAGE", os.path.dirname(storage.directory))
    assert storage.find(crio(), directory=f"/run/crun/{CONTAINER}") == (SANDBOX, LABELS)


# What the author of a pod writes


def test_containerds_annotations_do_not_count_under_crio(storage):
    """CRI-O puts any annotation of the pod on its containers."""
    storage.write(SANDBOX, of_sandbox(LABELS))
    forged = {f"{CRI}sandbox-id": "made-up", f"{CRI}container-type": "container"}
    assert storage.find({**crio(), **forged}) == (SANDBOX, LABELS)
    forged[f"{CRI}container-type"] = "sandbox"
    assert storage.find({**crio(), **forged}) == (SANDBOX, LABELS)


@pytest.mark.parametrize("key", POD)
def test_labels_of_another_pod(storage, key):
    """An annotation of the pod stands in the place of CRI-O's key of the sandbox."""
    for labels in ({**LABELS, key: "another"}, {k: v for k, v in LABELS.items() if k != key}):
        path = storage.write(SANDBOX, of_sandbox(LABELS, Labels=json.dumps(labels)))
        found = labels.get(key)
        said = f"{path}: {CRIO}Labels: {key} is {found!r}, expected {POD[key]!r}"
        assert storage.refused(crio()) == said


def test_labels_of_a_pod_that_knows_its_own_names(storage):
    """It can be annotated once it has a uid. The kubelet alone knows when it has seen the pod."""
    forged = json.dumps({**LABELS, "app": "admin"})
    path = storage.write(SANDBOX, of_sandbox(LABELS, Labels=forged))
    said = f"{path}: {CRIO}Labels is an annotation of the pod, expected CRI-O's"
    assert storage.refused(crio()) == said
    for annotations in ({}, {SEEN: "2026-11-26T06:00:00Z"}):
        more = {"Labels": forged, "Annotations": json.dumps(annotations)}
        storage.write(SANDBOX, of_sandbox(LABELS, **more))
        assert storage.refused(crio()) == said


def test_another_annotation_of_the_pod_is_none_of_crios_business(storage):
    annotations = {"app": "admin", "io.kubernetes.cri-o.userns-mode": "auto"}
    storage.write(SANDBOX, of_sandbox(LABELS, annotations))
    assert storage.find(crio()) == (SANDBOX, LABELS)


# Labels that cannot be had: a policy by label would pass the container


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("[]", "expected a map of strings"),
        ('"x"', "expected a map of strings"),
        ('{"a": 1}', "expected a map of strings"),
        ('{"a": {"b": "c"}}', "expected a map of strings"),
        ("", "empty, expected a JSON document"),
        ("{", "not JSON: "),
        ('{"a":"b","a":"c"}', "key 'a' appears twice in one object"),
        ("{} {}", "more after the JSON document, at character 3"),
        ("\ud800", "is not UTF-8"),
    ],
)
def test_labels_that_are_none(storage, document, reason):
    path = storage.write(SANDBOX, of_sandbox(document))
    said = storage.refused(crio())
    assert said.startswith(f"{path}: {CRIO}Labels: ") and reason in said
    said = storage.refused(crio(ContainerType="sandbox", Labels=document))
    assert said.startswith(f"the annotations: {CRIO}Labels: ")


@pytest.mark.parametrize("key", ["Labels", "Annotations"])
def test_a_sandbox_without_what_crio_writes(storage, key):
    annotations = of_sandbox(LABELS)
    del annotations[CRIO + key]
    path = storage.write(SANDBOX, annotations)
    assert storage.refused(crio()).startswith(f"{path}: {CRIO}{key}: empty")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (b"", "empty, expected a JSON document"),
        (b'{"annotations"', "not JSON: "),
        (b"[]", "document: expected an object, found []"),
        (b'{"linux":{},"annotations":{"a":1}}', "/annotations/a: expected a string, found 1"),
    ],
)
def test_a_sandboxs_config_that_cannot_be_read(storage, config, reason):
    path = storage.write(SANDBOX, config)
    assert storage.refused(crio()).startswith(f"{path}: {reason}")


def test_a_sandboxs_config_that_is_not_there(storage):
    path = f"{storage.bundle(SANDBOX)}/config.json"
    assert storage.refused(crio()) == f"{path}: does not exist, expected that of the pod"
    os.makedirs(storage.bundle(SANDBOX))
    assert storage.refused(crio()) == f"{path}: does not exist, expected that of the pod"
    os.mkfifo(path)
    assert storage.refused(crio()).startswith(path)


@pytest.mark.parametrize(
    "id",
    [
        *("../elsewhere", "/elsewhere", "..", ".", "elsewhere", SANDBOX[:63], SANDBOX + "0", ""),
        *(SANDBOX.upper(), SANDBOX[:63] + "\n", SANDBOX[:63] + "g", SANDBOX[:63] + "\u0661", " "),
    ],
)
def test_what_is_no_id_of_crios_names_no_file(storage, id):
    for place in {id.strip("/"), id.lower().strip("/"), id.strip("./")} - {"", ".", ".."}:
        storage.write(place, of_sandbox(LABELS))
    assert "SandboxID" in storage.refused(crio(SandboxID=id))


# podman


def test_a_member_of_a_podman_pod(storage):
    annotations = recorded("podman-pod-member-createRuntime-state.json")
    path = f"/libpod_parent/libpod-{CONTAINER}"
    found = storage.find(annotations, cgroups_path=path)
    assert found == (annotations[f"{CRIO}SandboxID"], None)


def test_crios_keys_under_podman_name_no_file(storage):
    """Any of its users may set annotations, io.container.manager too."""
    storage.write(SANDBOX, of_sandbox(LABELS))
    path = f"/libpod_parent/libpod-{CONTAINER}"
    for type in ("container", "sandbox"):
        annotations = {**crio(ContainerType=type), f"{CRI}sandbox-id": "made-up", MANAGER: "libpod"}
        assert storage.find(annotations, cgroups_path=path) == (SANDBOX, None)
        for manager in ("", "CRI-O", "cri-o\n"):
            annotations[MANAGER] = manager
            assert storage.find(annotations, cgroups_path=path) is None


@pytest.mark.parametrize(
    "cgroups_path",
    [
        f"/libpod_parent/libpod-{CONTAINER}",
        f"machine.slice:libpod:{CONTAINER}",
        f"/crio-{CONTAINER}/libpod-{CONTAINER}",
        f"/a.slice/x.service/libpod-payload-{CONTAINER}",
        f"/kubepods/crio-{SANDBOX}",
        f"crio-{CONTAINER}",
        f"a.slice:xcrio:{CONTAINER}",
    ],
)
def test_a_manager_that_has_not_named_the_cgroup(storage, cgroups_path):
    storage.write(SANDBOX, of_sandbox(LABELS))
    said = storage.refused(crio(), cgroups_path=cgroups_path)
    assert said == (
        f"annotation {MANAGER} says cri-o, but the cgroupsPath {cgroups_path!r} does not end in "
        f"crio-{CONTAINER}"
    )


def test_no_pod(storage):
    for annotations in (
        {},
        {MANAGER: "libpod"},
        {MANAGER: "libpod", f"{CRIO}ContainerType": "container"},
        {MANAGER: "libpod", f"{CRI}sandbox-id": SANDBOX, f"{CRI}container-type": "sandbox"},
        {f"{CRIO}SandboxID": SANDBOX},
        {f"{CRI}sandbox-id": "", f"{CRI}container-type": "container"},
    ):
        assert storage.find(annotations) is None, annotations


# containerd's CRI


def test_containerd(storage):
    """It writes its keys after those that it passes on, and no io.container.manager."""
    storage.write(SANDBOX, of_sandbox(LABELS))
    task = f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{CONTAINER}"
    annotations = {f"{CRI}container-type": "container", f"{CRI}sandbox-id": SANDBOX}
    for passed_on in ({}, {MANAGER: "cri-o"}, {MANAGER: "libpod", f"{CRIO}SandboxID": "made-up"}):
        found = storage.find({**annotations, **passed_on}, directory=task)
        assert found == (SANDBOX, None)
    assert storage.find(annotations) == (SANDBOX, None)
    annotations[f"{CRI}container-type"] = "sandbox"
    assert storage.find(annotations, directory=task) == (CONTAINER, None)
    annotations = {f"{CRI}sandbox-id": "../../x"}
    assert storage.find(annotations, directory=task) == ("../../x", None)
