"""Error codes: each is used, explained, and has something that can be done about it."""

import ast
import os
import re

from support.commands import read
from support.tree import TOP

from nri_hook import errors
from nri_hook.cli import remedies

NAMES = {name for name, value in vars(errors).items() if name.isupper() and type(value) is str}
CODES = {getattr(errors, name) for name in NAMES}
# Codes of many reasons: what can be done is in the message.
IN_WORDS = {errors.REFUSED, errors.LEFT}


def test_they_are_words():
    assert len(CODES) == len(NAMES) >= 20
    assert all(re.fullmatch("[a-z]+(-[a-z]+)*", code) for code in CODES)


def test_each_is_explained():
    section = read(f"{TOP}/docs/troubleshooting.md").partition("## Error codes\n")[2]
    explained = re.findall(r"^\| `([^`]+)` \| \S", section, re.M)
    assert len(explained) == len(set(explained))
    assert set(explained) == CODES


def test_each_has_a_remedy():
    assert set(remedies.REMEDIES) == CODES - IN_WORDS


def test_each_is_used():
    """By its name, outside of errors.py and remedies.py."""
    used = set()
    for directory, _, files in os.walk(f"{TOP}/nri_hook"):
        for name in files:
            if name.endswith(".py") and name not in ("errors.py", "remedies.py"):
                tree = ast.parse(read(os.path.join(directory, name)))
                used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert NAMES - used <= {"REFUSED", "LEFT"}  # the codes of the classes
