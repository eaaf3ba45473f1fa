"""Every command in the documentation is run by a test, or marked as one that cannot be here."""

import importlib
import os

import pytest
from support.commands import read
from support.tree import TOP

from docs import page, table

# Nothing in it depends on the kernel.
pytestmark = pytest.mark.hostonly

LANGUAGES = ("sh", "python", "go")
# Indented blocks that are no commands: JSON, or what a command prints.
JSON = ("{", '"', "# /etc/nri/")
PRINTED = {
    "README.md": ("$        nri-hook install", "$ nri-hook status"),
    "docs/plugins.md": ("plugin   latency",),
    "docs/troubleshooting.md": ("stage=createRuntime",),
}


@pytest.mark.parametrize("name", page.pages())
def test_each_command_is_run_or_marked(name):
    """The marks hold for one command, the tests for a section."""
    missing = [
        f"{block.section}: {line}"
        for block in page.blocks(name)
        if block.is_shell()
        for line in block.commands()
        if (name, block.section) not in table.TESTS and (name, table.bare(line)) not in table.CANNOT
    ]
    assert missing == []


@pytest.mark.parametrize("name", page.pages())
def test_no_command_hides_in_another_block(name):
    """A fenced block is commands or a file with a name; an indented one is neither."""
    for block in page.blocks(name):
        if block.language is None:
            known = (*JSON, *PRINTED.get(name, ()))
            assert block.text.startswith(known), f"{block.section}: {block.text}"
        elif not block.is_shell():
            assert block.language in LANGUAGES and block.name, f"{block.section}: {block.text}"


def test_nothing_in_the_table_is_gone():
    commands = {
        (name, block.section, table.bare(line))
        for name in page.pages()
        for block in page.blocks(name)
        if block.is_shell()
        for line in block.commands()
    }
    assert set(table.TESTS) <= {(name, section) for name, section, _ in commands}
    assert set(table.CANNOT) <= {(name, line) for name, _, line in commands}


@pytest.mark.parametrize("test", sorted(set(table.TESTS.values())))
def test_the_tests_are_there(test):
    """conftest.py looks whether they have run what they are named for."""
    module, _, name = test.partition("::")
    assert table.of(test)
    assert callable(getattr(importlib.import_module(f"docs.{module[:-3]}"), name))


def test_ci_runs_what_is_said_to_be_run_there():
    script = read(os.path.join(TOP, ".ci/run"))
    for (_, line), why in table.CANNOT.items():
        if why == table.CI:
            assert line in script
