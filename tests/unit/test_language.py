"""Plain English: phrases that this project does not use, in messages, help texts and documents."""

import ast
import os
import pathlib
import re
import subprocess
import sys

import pytest
from support.commands import read
from support.tree import TOP

from nri_hook import cli

# Phrase -> what to write.
PHRASES = {
    r"\bfolders?\b": "directory",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bpass(es|ed)? over\b": "ignore",
    r"\bcarr(y|ies|ied|ying)\b": "copy",
    r"\bdearer\b": "costs more, slower",
    r"\bto be had\b": "available",
    r"\bstands? twice\b": "appears twice",
    r"\bare? no (?!more\b|longer\b)[a-zA-Z]*[a-z]\b": "is not a",
    r"\bis no (?!more\b|longer\b)[a-zA-Z]+\b": "is not a",
    r"\b(is|are) not there\b": "does not exist",
    r"\bours\b": "created by nri-hook",
    r"\bgoe?s? before\b": "takes precedence",
    r"\bwhere (there|none|no|nothing|nobody|neither)\b": "if",
    r"\ba fault of\b": "a bug in",
}
# Keys of the record, which 0.1.0 wrote.
KEYS = {"folder", "folders", "carried"}
# What it was like before, and what is written from measurements.
OTHERS = ("CHANGELOG.md", "docs/fidelity.md", "docs/performance.md")


def found(text):
    text = re.sub(r"\b[Tt]here (is|are) no\b", "", text)
    return [phrase for phrase in PHRASES if re.search(phrase, text)]


def strings(path):
    """(line, text) of the strings of a module but for docstrings."""
    tree = ast.parse(read(path))
    nodes = list(ast.walk(tree))
    prose = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in prose and node.value not in KEYS:
            yield node.lineno, node.value


def test_the_phrases_are_found():
    """This test can fail."""
    for text in ("a folder", "is no path", "are not there", "where nothing is", "it goes before"):
        assert found(text), text
    for text in ("there is no path", "where it is", "is no longer", "the directory of a record"):
        assert not found(text), text


def test_messages():
    odd = []
    for directory, _, files in os.walk(f"{TOP}/nri_hook"):
        for name in files:
            if name.endswith(".py"):
                path = os.path.join(directory, name)
                odd += [f"{path}:{at}: {text!r}" for at, text in strings(path) if found(text)]
    assert odd == []


@pytest.mark.parametrize("command", ["", *cli.COMMANDS])
def test_help(command):
    """It starts with a verb in the imperative."""
    argv = [sys.executable, "-m", "nri_hook", *command.split(), "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=TOP)
    text = " ".join(done.stdout.split())
    assert found(text) == []
    description = done.stdout.split("\n\n")[1]
    assert re.match("[A-Z][a-z]+ ", description) and not re.match("[A-Z][a-z]*s ", description)


def pages():
    """All documents, below the top of the repository."""
    top = pathlib.Path(TOP)
    found = [*top.glob("*.md"), *top.glob("docs/**/*.md"), *top.glob("docs/man/*")]
    return sorted({str(path.relative_to(top)) for path in found} - set(OTHERS))


@pytest.mark.parametrize("page", pages())
def test_documents(page):
    lines = enumerate(read(f"{TOP}/{page}").splitlines(), 1)
    assert [f"{page}:{at}: {line}" for at, line in lines if found(line)] == []
