"""Which pod a container belongs to, as far as its engine says so.

Annotations are data from strangers: podman, and CRI-O for the sandbox itself, let whoever asks for
the container or pod overwrite their own keys. docs/protocol.md has a table of what can be trusted.
So an engine is believed by what it alone writes, only that engine's keys count, and what
contradicts it is refused: without the labels of its pod a container could pass a policy by.
Sources: cri-o, internal/factory/container/container.go, server/sandbox_run_linux.go; podman,
pkg/specgen/generate/container.go; containerd, internal/cri/annotations/annotations.go.
"""

import os

from nri_hook import strictjson
from nri_hook.errors import HookError
from nri_hook.hook import oci

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

MANAGER = "io.container.manager"
CRIO = "io.kubernetes.cri-o."
CONTAINERD = "io.kubernetes.cri."
# The directory of containerd's bundles (core/runtime/v2, PluginType and id).
CONTAINERD_TASKS = "io.containerd.runtime.v2.task"
# Labels that the kubelet gives the container and the pod alike. CRI-O writes them last.
IDENTITY = ("io.kubernetes.pod.name", "io.kubernetes.pod.namespace", "io.kubernetes.pod.uid")
# When the kubelet first saw the pod, a time that it puts over what the pod says.
SEEN = "kubernetes.io/config.seen"
HEX = frozenset("0123456789abcdef")


class Sandbox:
    """A pod sandbox. id: of its own container. labels: the pod's, None if its engine keeps none."""

    def __init__(self, id: str, labels: "Optional[dict[str, str]]" = None) -> None:
        self.id = id
        self.labels = labels


def find(container: str, bundle: oci.Bundle) -> "Optional[Sandbox]":
    """The sandbox of `container`, None for one outside any pod.

    A sandbox has its own id as its sandbox's. podman's infra container cannot be told from any
    other. Raises HookError if what an engine writes is not there, or is not what it writes.
    """
    annotations = bundle.annotations
    manager = annotations.get(MANAGER)
    if manager is None or CONTAINERD_TASKS in bundle.directory.split("/"):
        if annotations.get(CONTAINERD + "container-type") == "sandbox":
            return Sandbox(container)
        return _named(annotations.get(CONTAINERD + "sandbox-id"))
    if manager == "cri-o":
        return _of_crio(container, bundle)
    return _named(annotations.get(CRIO + "SandboxID")) if manager == "libpod" else None


def _named(sandbox: "Optional[str]") -> "Optional[Sandbox]":
    return Sandbox(sandbox) if sandbox else None


def _of_crio(container: str, bundle: oci.Bundle) -> Sandbox:
    """CRI-O has the labels of a pod in the config.json of its sandbox alone.

    podman lets its users set any annotation, but not the end of a cgroupsPath.
    """
    if not bundle.cgroups_path.endswith((f"/crio-{container}", f":crio:{container}")):
        raise HookError(
            f"annotation {MANAGER} says cri-o, but the cgroupsPath {bundle.cgroups_path!r}"
            f" does not end in crio-{container}"
        )
    annotations = bundle.annotations
    if annotations.get(CRIO + "ContainerType") == "sandbox":
        return Sandbox(container, _labels(annotations, annotations, "the annotations"))
    sandbox = annotations.get(CRIO + "SandboxID", "")
    if len(sandbox) != 64 or not HEX.issuperset(sandbox):
        raise HookError(f"annotation {CRIO}SandboxID {sandbox!r}: expected 64 hex digits")
    path, document = _config_of(sandbox, bundle.directory)
    return Sandbox(
        sandbox, _labels(strictjson.strings(document.get("annotations")), annotations, path)
    )


def _config_of(sandbox: str, bundle: str) -> "tuple[str, dict[str, Any]]":
    """Path and document of a sandbox's config.json, beside the `bundle` or where CRI-O keeps it."""
    beside = os.path.join(os.path.dirname(os.path.dirname(bundle)), sandbox, "userdata")
    for directory in (beside, *oci.stored_bundles(sandbox)):
        path = os.path.join(directory, "config.json")
        document = oci.read_config(path)
        if document is not None:
            return path, document
    raise HookError("does not exist, expected that of the pod", path=f"{beside}/config.json")


def _labels(sandbox: "dict[str, str]", container: "dict[str, str]", where: str) -> "dict[str, str]":
    """The labels of a pod. sandbox, container: the annotations of both. where: the first are.

    In the sandbox's an annotation of the pod stands in the place of what CRI-O wrote under that
    key. Raises HookError if the labels are not there, or are not CRI-O's.
    """
    labels = _map(sandbox, CRIO + "Labels", where)
    for key in IDENTITY:
        if key in container and labels.get(key) != container[key]:
            raise HookError(
                f"{CRIO}Labels: {key} is {labels.get(key)!r}, expected {container[key]!r}",
                path=where,
            )
    of_pod = _map(sandbox, CRIO + "Annotations", where)
    if CRIO + "Labels" in of_pod or of_pod.get(SEEN) != sandbox.get(SEEN):
        raise HookError(f"{CRIO}Labels is an annotation of the pod, expected CRI-O's", path=where)
    return labels


def _map(annotations: "dict[str, str]", key: str, where: str) -> "dict[str, str]":
    """The map of strings in one of CRI-O's annotations. Raises HookError."""
    try:
        document = strictjson.loads(annotations.get(key, "").encode("utf-8", "surrogatepass"))
    except strictjson.JSONError as error:
        raise HookError(f"{key}: {error}", path=where) from None
    if not strictjson.is_strings(document):
        raise HookError(f"{key}: expected a map of strings", path=where)
    return strictjson.strings(document)
