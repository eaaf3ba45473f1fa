"""The manual pages: what they say of commands, flags and keys is all there is, and they are well
formed."""

import argparse
import importlib
import json
import os
import re
import shutil
import subprocess

import pytest
from support.commands import read
from support.tree import TOP

from nri_hook import cli
from nri_hook.hook import options, stages

# Nothing in it depends on the kernel.
pytestmark = pytest.mark.hostonly

DIRECTORY = os.path.join(TOP, "docs/man")
PAGES = sorted(os.listdir(DIRECTORY))
HELP = {"-h", "--help"}
# What mandoc says of pages that this machine has not.
ELSEWHERE = ("referenced manual not found", "outdated mandoc.db")


def sections(name, macro):
    """Title -> text of the sections (Sh) or subsections (Ss) of a page."""
    parts = re.split(rf"^\.{macro} (.*)$", read(os.path.join(DIRECTORY, name)), flags=re.M)
    return {title: re.split(r"^\.Sh ", text, flags=re.M)[0] for title, text in pairs(parts[1:])}


def pairs(parts):
    return zip(parts[::2], parts[1::2])


def flags(text):
    """The long flags that a text names."""
    return {f"--{name}" for name in re.findall(r"\bFl -([a-z-]+)", text)}


def items(text):
    """Those that it explains, each in an item of a list."""
    return flags("\n".join(line for line in text.splitlines() if line.startswith(".It Fl")))


def parsers():
    """Command -> its parser."""
    commands = argparse.ArgumentParser().add_subparsers()
    for name in cli.COMMANDS:
        importlib.import_module(f"nri_hook.cli.{name}").add_parser(commands)
    return commands.choices


def test_every_command_is_there_and_no_other():
    assert tuple(sections("nri-hook.1", "Ss")) == cli.COMMANDS
    named = re.search(r"^\.Cm (precreate .*)$", read(f"{DIRECTORY}/nri-hook.1"), re.M)
    assert named[1].split(" | ") == list(stages.STAGES)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_flag_is_there_and_no_other(command):
    actions = parsers()[command]._actions
    known = {word for action in actions for word in action.option_strings} - HELP
    text = sections("nri-hook.1", "Ss")[command]
    synopsis = text.partition("\n.Pp")[0]
    assert flags(synopsis) == known
    shared = items(sections("nri-hook.1", "Sh")["FLAGS OF THE STAGES"])
    assert items(text) <= known and known <= items(text) | shared
    operands = {action.metavar for action in actions if not action.option_strings}
    assert set(re.findall(r"^\.Op Ar (\w+)", synopsis, re.M)) == operands


def test_the_flags_of_the_stages():
    assert items(sections("nri-hook.1", "Sh")["FLAGS OF THE STAGES"]) == set(options.VALUES)


def test_the_defaults():
    text = sections("nri-hook.1", "Sh")["FLAGS OF THE STAGES"]
    default = options.Options()
    for value in (default.conf_dir, *default.plugin_dirs, default.state_dir):
        assert f".Pa {value}\nby default" in text
    assert f"{default.timeout:g} by default" in text


def test_every_key_is_there_and_no_other():
    schema = json.loads(read(f"{TOP}/schemas/host-configuration.schema.json"))["properties"]
    plugin = schema["plugins"]["items"]["properties"]
    text = read(f"{DIRECTORY}/nri-hook.conf.5")
    assert re.findall(r"^\.It Va (\w+)$", text, re.M) == [*schema, *plugin]
    example = json.loads(text.partition(".Bd -literal\n")[2].partition("\n.Ed")[0])
    assert set(example) <= set(schema)
    for entry in example["plugins"]:
        assert set(entry) <= set(plugin)


@pytest.mark.skipif(not shutil.which("mandoc"), reason="needs mandoc")
@pytest.mark.parametrize("name", PAGES)
def test_mandoc_has_no_complaint(name):
    done = subprocess.run(
        ["mandoc", "-Tlint", "-Wall", name], cwd=DIRECTORY, stdout=subprocess.PIPE, text=True
    )
    lines = [line for line in done.stdout.splitlines() if not any(e in line for e in ELSEWHERE)]
    assert lines == []


@pytest.mark.skipif(
    not (shutil.which("man") and shutil.which("groff")), reason="needs man and groff"
)
@pytest.mark.parametrize("name", PAGES)
def test_man_has_no_complaint(name):
    done = subprocess.run(
        ["man", "--warnings", "-l", name],
        cwd=DIRECTORY,
        env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "MANPAGER": "cat"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stderr == ""
    assert "NAME" in done.stdout and max(map(len, done.stdout.splitlines())) <= 80
