"""The launcher that nri-hook 0.1.0 installed, with this package under it: a node keeps its launcher
and its hook files until somebody calls `install` again."""

import os

from support import cgroups
from support.commands import read
from support.tree import TOP
from test_move import assert_moved, mover

from nri_hook.registration import launcher

# As commit 7249751 had it.
TEMPLATE = f"{TOP}/tests/data/launcher-0.1.0.sh"


def install_old(node):
    """Put the old launcher in the place of the one that the hook files of this node call."""
    current = node.launcher
    with open(current, "rb") as file:
        python, paths = launcher.read(file.read())
    directories = "\n".join(f"    {path!a}," for path in paths)
    text = read(TEMPLATE).replace("@PYTHON@", python).replace("@FOLDERS@", directories)
    with open(current, "w") as file:
        file.write(text)
    os.chmod(current, 0o755)


def test_a_life_of_a_container(scene, node, oci):
    plugin = mover(scene, node)
    bundle = scene.bundle()
    oci.install(node, bundle)
    install_old(node)
    oci.create("one", bundle).check()
    oci.start("one").check()
    assert_moved(scene, oci, "one")
    assert oci.exec("one", "echo", "here").check().out == "here\n"
    assert node.record()["outcome"] == "adopted"
    oci.delete("one").check()
    assert [call["state"] for call in plugin.calls()] == ["create", "delete"]
    assert node.left() == []
    assert scene.left_cgroups() == []


def test_a_container_that_no_plugin_moves(scene, node, oci):
    plugin = node.plugin("plain")
    node.configure(plugin)
    bundle = scene.bundle()
    oci.install(node, bundle)
    install_old(node)
    oci.create("one", bundle).check()
    oci.start("one").check()
    assert bundle.cgroups_path in cgroups.membership(oci.pid("one")).values()
    oci.delete("one").check()
    assert [call["state"] for call in plugin.calls()] == ["create", "delete"]
    assert node.left() == []
