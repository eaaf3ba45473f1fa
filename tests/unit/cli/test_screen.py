"""What commands show on a terminal of 80 columns, and in a pipe."""

import os
import re
import subprocess
import sys

import pytest
from support.terminal import on_terminal
from support.tree import TOP

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
ID = "4f2a9c01be77" + "0123456789abcdef" * 3 + "cafe"
PATH = f"/kubepods/burstable/podc33d8c0e-0f0c-4ad0-a7e8-9d1e2b1c3a45/crio-{ID}"
CODE = f"""
import sys
sys.path.insert(0, {TOP!r})
from nri_hook.cli import screen
"""
TABLE = f"""
screen.table(
    ["ID", "PLACE", "STATE"],
    [[screen.short({ID!r}), screen.short({PATH!r}), "ok"], ["b", "", "[red]bad[/red]\\n\\x1b[31m"]],
    {{"ok": "green"}},
)
"""
TREE = """
root = screen.Branch("/")
root.branches = [screen.Branch("a [b]"), screen.Branch("c\\n")]
root.branches[0].branches = [screen.Branch("d")]
screen.tree([root, screen.Branch("other")])
"""


def in_pipe(code):
    """What this prints into a pipe; rich is not needed for it."""
    code = "import sys; sys.modules['rich'] = None\n" + code
    done = subprocess.run([sys.executable, "-c", CODE + code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def at_80(code, **environment):
    pytest.importorskip("rich")
    done = on_terminal([sys.executable, "-c", CODE + code], **environment).check()
    lines = COLOUR.sub("", done.out).splitlines()
    assert max(map(len, lines)) <= 80
    return done.out, [text.rstrip() for text in lines]


def test_a_table_in_a_pipe():
    """One line for each row, whole, with a word in every cell."""
    first, second, third = in_pipe(TABLE).splitlines()
    assert first.split() == ["ID", "PLACE", "STATE"]
    assert second.split() == [ID, PATH, "ok"]
    assert third.split() == ["b", "-", "[red]bad[/red]\\n\\x1b[31m"]
    assert first.index("PLACE") == second.index(PATH) == third.index("-")


def test_a_cell_in_a_pipe_is_one_word_whatever_is_in_it():
    """But the last, which nothing follows."""
    cells = ["a b  c", '"', "\\x20", "\n", "-", "", "/kubepods/pod=1;2", "c 1:3 rwm\x1b"]
    code = f"screen.table(list('ABCDEFGH'), [{cells!r}])"
    row = in_pipe(code).splitlines()[1].split(maxsplit=7)
    assert row == [
        *(r'"a\x20b\x20\x20c"', r'"\""', r'"\\x20"', r'"\n"', '"-"', "-"),
        *("/kubepods/pod=1;2", r"c 1:3 rwm\x1b"),
    ]


@pytest.mark.hostonly
def test_a_table_on_a_terminal():
    """Folded, with nothing lost but digits of an id; what is no markup of ours is shown."""
    raw, lines = at_80(TABLE)
    assert "\x1b[32mok" in raw
    assert "\x1b[31m" not in raw
    column = "".join(line[14:].split("  ")[0] for line in lines[2:])
    assert PATH.replace(ID, ID[:12]) in column.replace(" ", "")
    assert any("[red]bad[/red]" in line for line in lines)
    assert not any(ID in line for line in lines)


@pytest.mark.hostonly
def test_a_terminal_that_wants_no_colour():
    raw, _ = at_80(TABLE, NO_COLOR="1")
    assert "\x1b[3" not in raw


def test_a_tree_in_a_pipe():
    assert in_pipe(TREE) == "/\n  a [b]\n    d\n  c\\n\nother\n"


@pytest.mark.hostonly
def test_a_tree_on_a_terminal():
    _, lines = at_80(TREE)
    assert lines == ["/", "├── a [b]", "│   └── d", "└── c\\n", "other"]


def test_fields_in_a_pipe():
    code = "screen.fields([('id', 'a'), ('none', ''), ('plugins', 'b\\nc')])"
    assert in_pipe(code) == "id       a\nplugins  b\\nc\n"


@pytest.mark.hostonly
def test_fields_on_a_terminal():
    _, lines = at_80(f"screen.fields([('id', 'a'), ('place', {PATH!r} * 2)])")
    assert lines[0] == "id     a"
    assert "".join(line[7:] for line in lines[1:]) == PATH * 2


@pytest.mark.hostonly
def test_a_line_on_a_terminal_stays_indented():
    _, lines = at_80("screen.line('  ' + 'word ' * 40)")
    assert len(lines) > 2 and all(re.match("  word", line) for line in lines)


def test_a_document():
    assert in_pipe("screen.document({'a': [1]})") == '{\n "a": [\n  1\n ]\n}\n'


def test_no_part_of_the_environment_makes_a_pipe_a_terminal():
    found = os.environ.get("FORCE_COLOR")
    os.environ["FORCE_COLOR"] = "1"
    try:
        assert "\x1b" not in in_pipe(TABLE)
    finally:
        if found is None:
            del os.environ["FORCE_COLOR"]
