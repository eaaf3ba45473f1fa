"""The blocks of a page of the documentation, by the name in their first line, and its commands."""

import os
import pathlib
import re
import subprocess

from support.commands import read
from support.tree import TOP

# A heading, a fenced block, an indented one.
PART = re.compile(
    r"^#{1,4} (?P<heading>[^\n]+)$|^```(?P<language>\w*)\n(?P<fenced>.*?)^```$"
    r"|(?<=\n\n)(?P<indented>(?: {4}[^\n]*\n|\n(?= {4}))+)",
    re.M | re.S,
)
SECONDS = 300

# The commands that this session has run, as they are printed.
ran = set()


class Block:
    """language: after the opening fence, None for an indented block. name: what the first comment
    names. text: all of it. section: the heading above it."""

    def __init__(self, section, language, text):
        self.section = section
        self.language = language
        self.text = text
        comments = [line for line in text.splitlines() if re.match(r"(#|//) ", line)]
        self.name = comments[0].lstrip("#/ ") if comments else ""

    def is_shell(self):
        """Whether it is to be typed; a script, which is a file, is in the language sh."""
        return self.language == "shell"

    def commands(self):
        """The lines of a shell block."""
        return [line for line in self.text.splitlines() if line and not line.startswith("#")]


def pages():
    """All pages, below the top of the repository."""
    found = (path.relative_to(TOP) for path in pathlib.Path(TOP, "docs").rglob("*.md"))
    return ["README.md", *sorted(map(str, found))]


def blocks(name):
    """The blocks of a page, in order."""
    found, section = [], ""
    for part in PART.finditer(read(os.path.join(TOP, name))):
        if part["heading"]:
            section = part["heading"]
        elif part["indented"]:
            text = re.sub("^ {4}", "", part["indented"], flags=re.M)
            found.append(Block(section, None, text))
        else:
            found.append(Block(section, part["language"], part["fenced"]))
    return found


def commands(name, section=None):
    """The commands of a page, or of one section of it, in order."""
    found = [
        line
        for block in blocks(name)
        if block.is_shell() and section in (None, block.section)
        for line in block.commands()
    ]
    assert found, f"{name} has no command under {section!r}"
    return found


def shell(line, out, words=(), **options):
    """Run a command of a page; what it printed. out: a file for that, since a container keeps it
    open. words: what is printed -> what stands here for it, such as {"DIR": "/tmp/bundle"}."""
    ran.add(line)
    for printed, here in dict(words).items():
        line = re.sub(rf"(?<![\w-]){re.escape(printed)}(?![\w-])", lambda _, to=here: to, line)
    with open(out, "w") as file:
        done = subprocess.run(
            ["sh", "-euc", line],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            **options,
        )
    assert done.returncode == 0, f"{line}: status {done.returncode}: {read(out)}"
    return read(out)


def write(name, directory, only=None):
    """Put the files of a page into a directory, or those of some languages."""
    for block in blocks(name):
        if block.name and not block.is_shell() and only in (None, block.language):
            with open(os.path.join(directory, block.name), "w") as file:
                file.write(block.text)
            if block.text.startswith("#!"):
                os.chmod(os.path.join(directory, block.name), 0o755)
