"""Which pod a container is in, by the annotations of CRI-O, podman and containerd."""

import json
import os

import pytest

from nri_hook import sandbox

CONTAINER = "c0" * 32
SANDBOX = "5a" * 32
CRIO = "io.kubernetes.cri-o."
CRI = "io.kubernetes.cri."
LABELS = {"app": "peer", "io.kubernetes.pod.name": "pod1", "empty": "", "é": "\u2603"}
DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")


class Storage:
    """Where CRI-O keeps its bundles: FOLDER/overlay-containers/ID/userdata."""

    def __init__(self, folder):
        self.folder = f"{folder}/overlay-containers"

    def bundle(self, id):
        return f"{self.folder}/{id}/userdata"

    def write(self, id, config):
        """The config.json of a container or sandbox: a document, annotations of one, or bytes."""
        os.makedirs(self.bundle(id), exist_ok=True)
        path = f"{self.bundle(id)}/config.json"
        if isinstance(config, dict):
            config = json.dumps({"annotations": config, "linux": {}}).encode()
        with open(path, "wb") as file:
            file.write(config)
        return path

    def find(self, annotations):
        found = sandbox.find(CONTAINER, self.bundle(CONTAINER), annotations)
        return found and (found.id, found.labels, found.note)


@pytest.fixture
def storage(scene):
    return Storage(scene.folder)


def crio(**more):
    """What CRI-O puts on every container of a pod."""
    annotations = {
        "io.container.manager": "cri-o",
        f"{CRIO}ContainerType": "container",
        f"{CRIO}SandboxID": SANDBOX,
        f"{CRIO}Labels": '{"of": "the container"}',
    }
    return {**annotations, **{CRIO + key: value for key, value in more.items()}}


def labels(document):
    return {f"{CRIO}Labels": document if isinstance(document, str) else json.dumps(document)}


# CRI-O


def test_the_labels_of_the_pod_are_in_the_sandboxs_config(storage):
    storage.write(CONTAINER, crio())
    storage.write(SANDBOX, {f"{CRIO}ContainerType": "sandbox", **labels(LABELS)})
    assert storage.find(crio()) == (SANDBOX, LABELS, "")


def test_a_container_as_crio_really_writes_it(storage):
    with open(f"{DATA}/crio-1.36.3-config.json") as file:
        annotations = json.load(file)["annotations"]
    id = annotations[f"{CRIO}SandboxID"]
    storage.write(id, labels(LABELS))
    assert storage.find(annotations) == (id, LABELS, "")


def test_the_sandbox_itself_has_its_labels_at_hand(storage):
    annotations = crio(ContainerType="sandbox", SandboxID=CONTAINER, Labels=json.dumps(LABELS))
    assert storage.find(annotations) == (CONTAINER, LABELS, "")


def test_a_pod_without_labels(storage):
    storage.write(SANDBOX, labels({}))
    assert storage.find(crio()) == (SANDBOX, {}, "")
    for document in ({}, labels("")):
        storage.write(SANDBOX, document)
        assert storage.find(crio()) == (SANDBOX, None, "")


def test_null_is_an_empty_label(storage):
    storage.write(SANDBOX, labels({"a": None, "b": "c"}))
    assert storage.find(crio()) == (SANDBOX, {"a": "", "b": "c"}, "")


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("[]", "is no map"),
        ('"x"', "is no map"),
        ('{"a": 1}', "is no map"),
        ('{"a": {"b": "c"}}', "is no map"),
        ("{", "not JSON: "),
        ('{"a":"b","a":"c"}', "key 'a' stands twice in one object"),
        ("{} {}", "more after the JSON document, at character 3"),
        ("\ud800", "is not UTF-8"),
    ],
)
def test_labels_that_are_none(storage, document, reason):
    """The chain runs without, and it is said why."""
    path = storage.write(SANDBOX, labels(document))
    id, found, note = storage.find(crio())
    assert (id, found) == (SANDBOX, None)
    assert note.startswith(f"no labels of the pod: {CRIO}Labels in {path}")
    assert reason in note
    _, found, note = storage.find(crio(ContainerType="sandbox", Labels=document))
    assert found is None
    assert note.startswith(f"no labels of the pod: {CRIO}Labels in the annotations")


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
    id, found, note = storage.find(crio())
    assert (id, found) == (SANDBOX, None)
    assert note.startswith(f"no labels of the pod: {path}: {reason}")


def test_a_sandboxs_config_that_is_not_there(storage):
    path = f"{storage.bundle(SANDBOX)}/config.json"
    nothing = (SANDBOX, None, f"no labels of the pod: {path} is not there")
    assert storage.find(crio()) == nothing
    os.makedirs(storage.bundle(SANDBOX))
    assert storage.find(crio()) == nothing
    os.mkfifo(path)
    id, found, note = storage.find(crio())
    assert (id, found) == (SANDBOX, None) and path in note


@pytest.mark.parametrize(
    "id",
    [
        *("../elsewhere", "/elsewhere", "..", ".", "elsewhere", SANDBOX[:63], SANDBOX + "0"),
        *(SANDBOX.upper(), SANDBOX[:63] + "\n", SANDBOX[:63] + "g", SANDBOX[:63] + "\u0661", " "),
    ],
)
def test_a_strangers_id_names_no_file(storage, id):
    """Annotations are anybody's. Whatever lies there, it is not read."""
    for place in {id.strip("/"), id.lower().strip("/"), id.strip("./")} - {"", ".", ".."}:
        storage.write(place, labels({"read": "it was"}))
    assert storage.find(crio(SandboxID=id)) == (id, None, "")


def test_crios_keys_under_another_manager_name_no_file(storage):
    """podman uses them too, and any of its users may set annotations."""
    storage.write(SANDBOX, labels(LABELS))
    for manager in ("libpod", "", "CRI-O", "cri-o\n"):
        annotations = {**crio(), "io.container.manager": manager}
        assert storage.find(annotations) == (SANDBOX, None, "")
        annotations[f"{CRIO}ContainerType"] = "sandbox"
        assert storage.find(annotations) == (SANDBOX, None, "")
    annotations = crio()
    del annotations["io.container.manager"]
    assert storage.find(annotations) == (SANDBOX, None, "")


# podman


def test_a_member_of_a_podman_pod(storage):
    with open(f"{DATA}/podman-pod-member-createRuntime-state.json") as file:
        annotations = json.load(file)["annotations"]
    assert storage.find(annotations) == (annotations[f"{CRIO}SandboxID"], None, "")


def test_no_pod(storage):
    for annotations in (
        {},
        {"io.container.manager": "libpod"},
        {"io.container.manager": "cri-o"},
        {"io.container.manager": "libpod", f"{CRIO}ContainerType": "container"},
        {f"{CRIO}SandboxID": ""},
        {f"{CRI}sandbox-id": "", f"{CRI}container-type": "container"},
        {f"{CRI}container-type": "sandbox"},
    ):
        assert storage.find(annotations) is None, annotations


# containerd's CRI


def test_containerd(storage):
    annotations = {f"{CRI}container-type": "container", f"{CRI}sandbox-id": SANDBOX}
    storage.write(SANDBOX, labels(LABELS))
    assert storage.find(annotations) == (SANDBOX, None, "")
    annotations[f"{CRI}container-type"] = "sandbox"
    assert storage.find(annotations) == (CONTAINER, None, "")
    annotations = {f"{CRI}sandbox-id": "../../x"}
    assert storage.find(annotations) == ("../../x", None, "")
