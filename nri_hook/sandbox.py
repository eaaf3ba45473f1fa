"""Which pod a container belongs to, as far as its engine says so in annotations.

Annotations are data from strangers. Only one of them names a file, and only where it is 64 hex
digits under CRI-O: the sandbox's own config.json, the sole place that has the pod's labels.
"""

import os

from nri_hook import oci, strictjson
from nri_hook.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

CRIO = "io.kubernetes.cri-o."
CONTAINERD = "io.kubernetes.cri."
HEX = frozenset("0123456789abcdef")


class Sandbox:
    """A pod sandbox. id: of its own container. labels: the pod's, None where nobody told them.

    note: why there are no labels though the engine keeps them, "" if there is nothing to say.
    """

    def __init__(self, id: str, labels: "Optional[dict[str, str]]" = None, note: str = "") -> None:
        self.id = id
        self.labels = labels
        self.note = note


def find(container: str, bundle: str, annotations: "dict[str, str]") -> "Optional[Sandbox]":
    """The sandbox of `container`, None for one outside any pod.

    bundle: the folder of its config.json. A sandbox has its own id as its sandbox's.
    podman gives pod members CRI-O's key; its infra container cannot be told from any other.
    """
    manager = annotations.get("io.container.manager")
    if annotations.get(CONTAINERD + "sandbox-id"):
        if annotations.get(CONTAINERD + "container-type") == "sandbox":
            return Sandbox(container)
        return Sandbox(annotations[CONTAINERD + "sandbox-id"])
    if manager == "cri-o" and annotations.get(CRIO + "ContainerType") == "sandbox":
        return _with_labels(container, annotations, "the annotations")
    sandbox = annotations.get(CRIO + "SandboxID")
    if not sandbox:
        return None
    if manager != "cri-o" or len(sandbox) != 64 or not HEX.issuperset(sandbox):
        return Sandbox(sandbox)
    path = os.path.join(os.path.dirname(os.path.dirname(bundle)), sandbox, "userdata/config.json")
    try:
        document = oci.read_config(path)
    except HookError as error:
        return Sandbox(sandbox, note=f"no labels of the pod: {error}")
    if document is None:
        return Sandbox(sandbox, note=f"no labels of the pod: {path} is not there")
    return _with_labels(sandbox, oci.strings(document.get("annotations")), path)


def _with_labels(sandbox: str, annotations: "dict[str, str]", where: str) -> Sandbox:
    text = annotations.get(CRIO + "Labels")
    if not text:
        return Sandbox(sandbox)
    try:
        labels = strictjson.loads(text.encode("utf-8", "surrogatepass"))
    except strictjson.JSONError as error:
        return Sandbox(sandbox, note=f"no labels of the pod: {CRIO}Labels in {where}: {error}")
    if labels is None or not oci.is_strings(labels):
        return Sandbox(sandbox, note=f"no labels of the pod: {CRIO}Labels in {where} is no map")
    return Sandbox(sandbox, oci.strings(labels))
