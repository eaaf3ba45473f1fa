"""docs/plugins.md: the plugins on it are installed as they are printed, and obeyed."""

import os
import re
import shutil
import sys

import pytest
from support import cgroups
from support.commands import read
from support.tree import TOP

from docs import page

PAGE = "docs/plugins.md"


@pytest.fixture
def author(scene):
    """A directory with all files of the page."""
    directory = f"{scene.directory}/author"
    os.mkdir(directory)
    page.write(PAGE, directory)
    return directory


def shell(line, directory, words=(), **environment):
    """Run a line there, with nri-hook and pytest from the tree. words: see page.shell()."""
    tools = f"{directory}/.tools"
    os.makedirs(tools, exist_ok=True)
    for name, module in (("nri-hook", "nri_hook"), ("pytest", "pytest")):
        with open(f"{tools}/{name}", "w") as file:
            file.write(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        os.chmod(f"{tools}/{name}", 0o755)
    environment["PATH"] = f"{tools}:{os.environ['PATH']}"
    environment["PYTHONPATH"] = TOP
    out = f"{directory}/.out"
    return page.shell(line, out, words, cwd=directory, env={**os.environ, **environment})


def test_it_is_tried_as_the_page_shows(author):
    (line,) = page.commands(PAGE, "Try it")
    shown = shell(line, author)
    text = read(f"{TOP}/{PAGE}")
    (printed,) = re.findall(r"^    answer {3}(.*)$", text, re.M)
    (answer,) = re.findall(r"^answer +(.*)$", shown, re.M)
    assert answer.replace('":', '": ').replace(",", ", ") == printed
    heads = re.findall(r"^    (\w+) {2,}", text, re.M)
    assert heads == re.findall(r"^(\w+) {2,}", shown, re.M)


def test_its_tests_pass(author):
    (line,) = page.commands(PAGE, "Test it")
    words = {"pytest": "pytest -p no:cacheprovider --rootdir ."}
    assert "4 passed" in shell(line, author, words)


def install(scene, node, author, runtime, bundle):
    """Do what the page says under "Install it", with the node's directories for the machine's."""
    here = {
        "/opt/nri/bin": node.plugin_dir,
        "/etc/nri": node.conf_dir,
        '"parent": "latency"': f'"parent": "{scene.name}/latency"',
    }
    for line in page.commands(PAGE, "Install it"):
        shell(line, author, here)
    runtime.install(node, bundle)


def test_a_real_container_obeys_it(scene, node, oci, author):
    placed, other = (
        scene.bundle(edit=lambda config, c=c: config.update(annotations={"qos.class": c}))
        for c in ("ls", "be")
    )
    install(scene, node, author, oci, placed)
    oci.install(node, other)
    for id, bundle, prefix in (("one", placed, f"{scene.cgroup}/latency/"), ("two", other, "")):
        oci.create(id, bundle).check()
        found = cgroups.membership(oci.pid(id))
        name = os.path.basename(bundle.cgroups_path)
        expected = f"{prefix}{name}" if prefix else bundle.cgroups_path
        assert {found[hierarchy] for hierarchy in oci.hierarchies()} == {expected}
        oci.start(id).check()
        oci.delete(id).check()
    if oci.binary == "runc":
        assert os.path.exists(f"{node.plugin_dir}/latency.py")


def answer(node, path, conf, class_):
    """What the program at this path says for a container of the class."""
    words = ["invoke", "--plugin", path, "--conf", conf, "--annotation", f"qos.class={class_}"]
    shown = shell(" ".join(f"'{word}'" for word in ["nri-hook", *words]), node.directory)
    return re.findall(r'"cgroupsPath": ?"([^"]*)"', shown.partition("answer")[2])


@pytest.mark.skipif(not shutil.which("jq"), reason="needs jq")
def test_the_one_in_sh_answers_alike(scene, node, runc, author):
    os.rename(f"{author}/latency", f"{node.plugin_dir}/latency")
    path = f"{node.plugin_dir}/latency"
    conf = f'{{"parent": "{scene.name}/latency"}}'
    assert answer(node, path, conf, "ls") == [f"{scene.cgroup}/latency/redis"]
    assert answer(node, path, conf, "be") == []
    node.configure({"type": "latency", "conf": {"parent": f"{scene.name}/latency"}})
    bundle = scene.bundle(edit=lambda config: config.update(annotations={"qos.class": "ls"}))
    runc.install(node, bundle)
    runc.create("one", bundle).check()
    name = os.path.basename(bundle.cgroups_path)
    assert f"{scene.cgroup}/latency/{name}" in cgroups.membership(runc.pid("one")).values()
    runc.delete("one").check()


@pytest.mark.skipif(not shutil.which("go"), reason="needs go, which is on no machine of the tests")
def test_the_one_in_go_answers_alike(node, author):
    shell(f"go build -o {node.plugin_dir}/latency latency.go", author, GOCACHE=f"{author}/cache")
    path = f"{node.plugin_dir}/latency"
    assert answer(node, path, '{"parent": "latency"}', "ls") == ["/latency/redis"]
    assert answer(node, path, '{"parent": "latency"}', "be") == []


def test_the_controls_on_the_page_are_all_there_are(scene, node, runc, author):
    """And quiet.py sets what it says."""
    from nri_hook.cgroups.controls import Controls

    text = read(f"{TOP}/{PAGE}").partition("| control |")[2].partition("\n\n")[0]
    named = {name for row in text.splitlines()[2:] for name in re.findall(r"`(\w+)`", row)}
    assert named == {name for name in dir(Controls) if not name.startswith("_")}

    shutil.copy(f"{author}/quiet.py", node.plugin_dir)
    node.configure("quiet")
    bundle = scene.bundle()
    runc.install(node, bundle)
    runc.create("one", bundle).check()
    if "pids" in runc.controllers():
        (directory,) = {
            mount + cgroups.membership(runc.pid("one"))[name]
            for name, mount in runc.hierarchies().items()
            if os.path.exists(f"{mount}{bundle.cgroups_path}/pids.max")
        }
        assert cgroups.read(f"{directory}/pids.max") == "64"
    runc.delete("one").check()
