"""The documents of NRI 0.1's README, with a real container of that shape: its host configuration,
its payload key for key, its answer obeyed."""

import json
import os

import pytest
from support import cgroups
from unit.validation.test_schema import README_CONFIGURATION, README_INPUT, README_OUTPUT

CONFIGURATION, INPUT, OUTPUT = map(json.loads, (README_CONFIGURATION, README_INPUT, README_OUTPUT))
KINDS = ("pid", "network", "ipc", "uts", "mount")


@pytest.fixture(params=["absolute", "relative"])
def paths(scene, request):
    """The README's two cgroupsPaths, below names of this test. A relative one stands below the
    runtime's own cgroup, with its parents."""
    head = scene.name if request.param == "relative" else scene.cgroup
    scene.runtime_made(f"{head}/default")
    scene.runtime_made(head)
    return f"{head}/{INPUT['spec']['cgroupsPath']}", f"{head}-{OUTPUT['cgroupsPath']}"


def test_readme(scene, node, oci, paths):
    present, wanted = paths
    with open(f"{node.conf_dir}/conf.json", "w") as file:
        file.write(README_CONFIGURATION)
    konfine = node.plugin("konfine")
    answer = {**OUTPUT, "pid": "{pid}", "cgroupsPath": wanted}
    text = json.dumps(answer).replace('"{pid}"', "{pid}")
    clearcfs = node.plugin("clearcfs", {"create": {"print": text}})

    def edit(config):
        config["annotations"] = INPUT["spec"]["annotations"]
        config["linux"]["resources"] = {}
        config["linux"]["namespaces"] = [{"type": kind} for kind in KINDS]

    bundle = scene.bundle(edit=edit, cgroups_path=present)
    oci.install(node, bundle)
    oci.create("redis", bundle).check()
    pid = oci.pid("redis")
    start = konfine.call("create")["membership"]
    mine = {name for name, path in start.items() if path.endswith(present)}
    assert mine == set(oci.hierarchies())
    now = cgroups.membership(pid)
    assert now == {
        name: path[: -len(present)] + wanted if name in mine else path
        for name, path in start.items()
    }

    payload = clearcfs.call("create")["payload"]
    namespaces = {
        **{kind: f"/proc/{pid}/ns/{kind}" for kind in ("pid", "ipc", "uts", "net")},
        "mount": f"/proc/{pid}/ns/mnt",
        "network": f"/proc/{pid}/ns/net",
    }
    assert payload == {
        "version": "0.1",
        "state": "create",
        "id": "redis",
        "pid": pid,
        "spec": {
            "resources": {},
            "cgroupsPath": present,
            "namespaces": namespaces,
            "annotations": {"qos.class": "ls"},
            "cgroups": start,
        },
        "results": [{"plugin": "konfine", "version": "0.1"}],
    }
    assert set(INPUT) <= set(payload) and set(INPUT["spec"]) <= set(payload["spec"])
    assert set(INPUT["spec"]["namespaces"]) <= set(payload["spec"]["namespaces"])
    for path in namespaces.values():
        assert os.path.exists(path)
    first = konfine.call("create")["payload"]
    assert first == {**payload, "conf": CONFIGURATION["plugins"][0]["conf"], "results": []}

    oci.delete("redis").check()
    last = clearcfs.call("delete")["payload"]
    assert last["spec"] == {
        **payload["spec"],
        "cgroupsPath": wanted,
        "namespaces": {},
        "cgroups": now,
    }
    assert last["results"] == [
        {"plugin": "konfine", "version": "0.1"},
        {**OUTPUT, "plugin": "clearcfs", "pid": pid, "cgroupsPath": wanted},
    ]
    assert (last["id"], last["state"]) == ("redis", "delete") and "pid" not in last
    assert scene.left_cgroups() == []
