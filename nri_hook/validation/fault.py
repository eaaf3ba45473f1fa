"""One place in a document where it is not what it should be, in plain words."""

from __future__ import annotations

import json
from typing import NamedTuple

_FOUND_LENGTH = 60
_POINTER_LENGTH = 200


class Fault(NamedTuple):
    """One place where a document breaks its schema.

    pointer: JSON pointer (RFC 6901), "" for the whole document; a missing key is pointed at
    where it should be. found: the value there as JSON, cut to 60 characters, or "nothing".
    expected: what should be there, in words.
    """

    pointer: str
    found: str
    expected: str

    def __str__(self) -> str:
        # Keys come from strangers: escaped and cut, whatever they hold stays one log line.
        place = _cut(json.dumps(self.pointer)[1:-1], _POINTER_LENGTH) or "document"
        return f"{place}: expected {self.expected}, found {self.found}"


def pointer(part: object) -> str:
    """A key or an index as a part of a JSON pointer."""
    return str(part).replace("~", "~0").replace("/", "~1")


def value(value: object) -> str:
    """A value as JSON, cut to 60 characters."""
    text = ""
    # Piece by piece, since the value may be a whole document of megabytes.
    for piece in json.JSONEncoder().iterencode(value):
        text += piece
        if len(text) > _FOUND_LENGTH:
            break
    return _cut(text, _FOUND_LENGTH)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
