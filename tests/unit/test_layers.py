"""The layers of the package: nothing imports what is above it, and there is no circle."""

import ast
import os

import pytest
from support.tree import TOP

pytestmark = pytest.mark.once

# From the ground up. A name stands for the module, or for all modules of the package, unless a
# longer name has a layer of its own.
LAYERS = (
    {
        *("nri_hook", "errors", "strictjson", "atomicfile", "procfs", "spawn", "trust"),
        "fastimport",
        # What words an error of any layer.
        *("validation.schema", "validation.fault"),
    },
    {"cgroups"},
    {"skel", "skel_conf"},
    {"plugins"},
    {"hook", "quick", "stages"},
    {"client", "registration", "validation", "recovery"},
    {"doctor"},
    {"testing", "cli", "__main__"},
)


def modules():
    """Name, without the package's own -> path of each module."""
    found = {}
    for directory, _, names in os.walk(f"{TOP}/nri_hook"):
        for name in names:
            if name.endswith(".py"):
                path = f"{directory}/{name}"
                words = os.path.relpath(path, TOP)[: -len(".py")].split("/")
                found[short(".".join(word for word in words if word != "__init__"))] = path
    return found


def short(name):
    return name.partition(".")[2] or name


def imported(path, known):
    """The modules of ours that a file imports, at any time; not those of TYPE_CHECKING, which only
    name types."""
    found, waiting = set(), [ast.parse(open(path, encoding="utf-8").read())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nri_hook"):
            for alias in node.names:
                name = short(f"{node.module}.{alias.name}")
                found.add(name if name in known else short(str(node.module)))
        elif isinstance(node, ast.Import):
            found |= {short(alias.name) for alias in node.names} & known.keys()
    return found


def layer(name):
    words = name.split(".")
    for end in range(len(words), 0, -1):
        for number, names in enumerate(LAYERS):
            if ".".join(words[:end]) in names:
                return number
    raise AssertionError(f"{name} is in no layer")


@pytest.fixture(scope="module")
def graph():
    known = modules()
    return {name: imported(path, known) for name, path in known.items()}


def test_nothing_imports_what_is_above_it(graph):
    upward = [
        f"{name} imports {other}"
        for name, others in graph.items()
        for other in others
        if layer(other) > layer(name)
    ]
    assert upward == []


def test_there_is_no_circle(graph):
    """Take away, again and again, what imports nothing that is left: nothing may stay."""
    left = {name: set(others) for name, others in graph.items()}
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    assert left == {}


def test_every_module_is_looked_at(graph):
    assert {"hook.record", "cgroups.controls", "plugins.qos", "cli.doctor"} <= graph.keys()
    assert (
        "cgroups.move" in graph["hook.container"]
        and "errors" in graph["strictjson"] | graph["trust"]
    )
