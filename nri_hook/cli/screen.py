"""What the commands show: lines and colours on a terminal, plain text in a pipe, or JSON.

In a pipe there is one line for each thing, nothing is folded or cut, an empty cell is "-", and one
that could pass for more than one is in quotes without a space, so that a column has the same number
in every line, whatever others have named their cgroups. rich is loaded for a terminal alone.
"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

from nri_hook.errors import printable, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console
    from rich.tree import Tree

INDENT = "  "
# More rows than anybody looks at; to fold them would take a terminal's reader seconds.
MAX_FOLDED = 500
# The ids of engines. Their first digits tell them apart, as the engines' own commands show them.
ENGINE_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


class Branch:
    """A node of a tree. style: of its text on a terminal, in rich's words."""

    def __init__(self, text: str, style: str = "") -> None:
        self.text = text
        self.style = style
        self.branches: list[Branch] = []


def on_terminal() -> bool:
    """Whether a person looks at what is printed."""
    return sys.stdout.isatty()


def is_folded(rows: Sequence[object]) -> bool:
    """Whether a table of so many rows is folded, so that it has to be narrow."""
    return on_terminal() and len(rows) <= MAX_FOLDED


def short(text: str) -> str:
    """The text with the ids of engines cut to twelve digits, on a terminal."""
    return ENGINE_ID.sub(r"\1", text) if on_terminal() else text


def word(text: str) -> str:
    """The text as one word of a line: as it is, or in quotes, with \\x20 for each space."""
    if text.isprintable() and text != "-" and not set(text) & set(' "\\'):
        return text
    return quoted(text).replace(" ", "\\x20")


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], styles: Mapping[str, str] | None = None
) -> None:
    """Print rows below their heads; the last cell of a row may have spaces. styles: text of a whole
    cell -> its style on a terminal."""
    cells = [list(row) for row in rows]
    if is_folded(cells):
        _rich_table(heads, [list(map(printable, row)) for row in cells], styles or {})
        return
    lines = [list(heads)]
    for *first, last in cells:
        lines.append([*(word(cell) or "-" for cell in first), printable(last) or "-"])
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        print(INDENT.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def fields(pairs: Iterable[tuple[str, str]], styles: Mapping[str, str] | None = None) -> None:
    """Print one thing in full: a line for each (name, value) that has a value."""
    shown = [(name, printable(value)) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0)
    if not on_terminal():
        for name, value in shown:
            print(f"{name.ljust(width)}{INDENT}{value}")
        return
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in shown:
        grid.add_row(Text(name, style="bold"), Text(value, style=(styles or {}).get(value, "")))
    _console().print(grid)


def tree(roots: Iterable[Branch]) -> None:
    """Print trees, one below the other."""
    if not on_terminal():
        for root in roots:
            _plain_branch(root, "")
        return
    from rich.text import Text
    from rich.tree import Tree

    console = _console()
    for root in roots:
        top = Tree(Text(printable(root.text), style=root.style))
        _grow(top, root)
        console.print(top)


def line(text: str, style: str = "") -> None:
    """Print one line; on a terminal in this style, folded at its width."""
    if not on_terminal():
        print(printable(text).rstrip())
        return
    from rich.padding import Padding
    from rich.text import Text

    inner = text.lstrip(" ")
    # What is indented stays so where it is folded.
    padding = Padding(
        Text(printable(inner), style=style, overflow="fold"), (0, 0, 0, len(text) - len(inner))
    )
    _console().print(padding)


def document(value: Any) -> None:
    """Print JSON."""
    print(json.dumps(value, indent=1))


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def _rich_table(heads: Sequence[str], lines: list[list[str]], styles: Mapping[str, str]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="bold", show_edge=False)
    for head in heads:
        shown.add_column(head, overflow="fold")
    for cells in lines:
        shown.add_row(*(Text(cell, style=styles.get(cell, "")) for cell in cells))
    _console().print(shown)


def _plain_branch(branch: Branch, indent: str) -> None:
    print(indent + printable(branch.text))
    for inner in branch.branches:
        _plain_branch(inner, indent + INDENT)


def _grow(node: Tree, branch: Branch) -> None:
    from rich.text import Text

    for inner in branch.branches:
        _grow(node.add(Text(printable(inner.text), style=inner.style)), inner)
