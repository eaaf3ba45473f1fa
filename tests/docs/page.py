"""The blocks of a page of the documentation, by the name in their first line."""

import os
import re

from support.commands import read
from support.node import TOP

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


class Block:
    """language: after the opening fence. name: what the first comment names. text: all of it."""

    def __init__(self, language, text):
        self.language = language
        self.text = text
        comments = [line for line in text.splitlines() if re.match(r"(#|//) ", line)]
        self.name = comments[0].lstrip("#/ ") if comments else ""

    def commands(self):
        """The lines of a shell block."""
        return [line for line in self.text.splitlines() if line and not line.startswith("#")]


def blocks(name):
    """The blocks of docs/NAME, in order."""
    return [Block(*found) for found in BLOCK.findall(read(os.path.join(TOP, "docs", name)))]


def write(name, folder, only=None):
    """Put the files of a page into a folder, or those of some languages."""
    for block in blocks(name):
        if block.name and block.name != "shell" and only in (None, block.language):
            with open(os.path.join(folder, block.name), "w") as file:
                file.write(block.text)
            if block.text.startswith("#!"):
                os.chmod(os.path.join(folder, block.name), 0o755)
