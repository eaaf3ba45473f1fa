"""JSON from strangers, bounded and strict, without the price of importing `json`.

`json` pulls in `re`, which costs as much as the interpreter's own start. The C code under it
does not need it: `_json` has the scanner and the encoder. Where an interpreter lacks these
private names `json` itself serves.
"""

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Optional

# Far above any real document (config.json nests about ten deep), far below the recursion limit.
MAX_DEPTH = 100
SPACE = " \t\n\r"


class JSONError(ValueError):
    """Not strict JSON. The message says what and, where known, at which character."""


class NotRegular(OSError):
    """Something else than a regular file, such as a FIFO, is in its place."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EINVAL, "expected a regular file", path)


def _pairs(pairs: "list[tuple[str, Any]]") -> "dict[str, Any]":
    document = dict(pairs)
    if len(document) != len(pairs):
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise JSONError(f"key {key[:60]!r} appears twice in one object")
            seen.add(key)
    return document


def _constant(name: str) -> "Any":
    raise JSONError(f"{name} is not a JSON number")


def _float(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise JSONError(f"number {text[:40]} is out of range")
    return number


def _int(text: str) -> int:
    try:
        if len(text) > 300:
            float(int(text[:400]))
    except (OverflowError, ValueError):
        raise JSONError(f"number {text[:40]}... is out of range") from None
    return int(text)


class _Context:
    """What the C scanner wants to know, under the names that it looks for."""

    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_pairs)
    parse_float = staticmethod(_float)
    parse_int = staticmethod(_int)
    parse_constant = staticmethod(_constant)
    memo: "dict[str, str]" = {}


def _default(value: "Any") -> "Any":
    raise TypeError(f"{type(value).__name__} has no JSON form")


_scan: "Callable[[str, int], tuple[Any, int]]"
_encode: "Callable[[Any, int], Iterable[str]]"
try:
    import _json

    _scan = _json.make_scanner(_Context)  # type: ignore[arg-type]
    _encode = _json.make_encoder(
        None, _default, _json.encode_basestring_ascii, None, ":", ",", False, False, False
    )
except (ImportError, AttributeError, TypeError):  # another interpreter, or a later one
    import json

    _scan = json.JSONDecoder(  # type: ignore[attr-defined]
        object_pairs_hook=_pairs,
        parse_float=_float,
        parse_int=_int,
        parse_constant=_constant,
    ).scan_once
    _encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).iterencode  # type: ignore[assignment]


def loads(data: bytes, max_depth: int = MAX_DEPTH) -> "Any":
    """The document in `data`: strict UTF-8 JSON, at most `max_depth` deep. Raises JSONError.

    Refused beyond RFC 8259's grammar: NaN and Infinity, numbers that no double holds, a key
    that appears twice in one object, a byte order mark.
    """
    if not data.strip():
        raise JSONError("empty, expected a JSON document")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JSONError(f"byte {error.start} is not UTF-8") from None
    start = len(text) - len(text.lstrip(SPACE))
    try:
        document, end = _scan_or_explain(text, start)
    except JSONError:
        raise
    except StopIteration as error:
        raise JSONError(f"no JSON value at character {error.value}") from None
    except RecursionError:
        raise JSONError(f"nested more than {max_depth} deep") from None
    except ValueError as error:  # json.JSONDecodeError, which is not imported here
        raise JSONError(f"not JSON: {error}") from None
    rest = text[end:].strip(SPACE)
    if rest:
        raise JSONError(f"more after the JSON document, at character {text.index(rest[0], end)}")
    if text.count("[") + text.count("{") > max_depth:
        _bound_depth(document, max_depth)
    return document


def _scan_or_explain(text: str, start: int) -> "tuple[Any, int]":
    """Scan; the C code of Python < 3.13 can word an error only once json.decoder is loaded."""
    try:
        return _scan(text, start)
    except SystemError:
        import json.decoder  # noqa: F401

        return _scan(text, start)


def spell_keys(document: "Any", known: "frozenset[str]", place: str = "") -> "Any":
    """An object whose keys that are one of `known` but for case are spelled as there.

    Go's decoder takes such keys (encoding/json, Unmarshal), which NRI 0.1's programs are written
    with. Anything but an object is returned as it is. place: its JSON pointer. Raises JSONError if
    two of its keys are the same one then, of which Go would take the last.
    """
    if type(document) is not dict or known.issuperset(document):
        return document
    spelling = {fold(key): key for key in known}
    spelled: "dict[str, Any]" = {}
    for key, value in document.items():
        name: str = spelling.get(fold(key)) or key
        if name in spelled:
            first = next(other for other in document if fold(other) == fold(key))
            raise JSONError(f"{place}/{key}: the same key as {first!r}, expected one of the two")
        spelled[name] = value
    return spelled


def fold(key: str) -> str:
    """What two keys have in common that differ only in case, as Go folds them if one is ASCII: two
    letters beyond ASCII count, the long s and the Kelvin sign."""
    return key.replace("\u017f", "s").lower()


def dumps(document: "Any") -> bytes:
    """`document` as ASCII JSON without spaces. Raises TypeError or ValueError as json does."""
    return "".join(_encode(document, 0)).encode("ascii")


def _bound_depth(document: "Any", max_depth: int) -> None:
    level: "list[Any]" = [document]
    for _ in range(max_depth):
        # All values of a level at once: a loop for each object costs half as much again.
        values: "list[Any]" = []
        for value in level:
            values.extend(value.values() if type(value) is dict else value)
        level = [v for v in values if type(v) is dict or type(v) is list]
        if not level:
            return
    raise JSONError(f"nested more than {max_depth} deep")


def open_regular(
    path: str, flags: int = os.O_RDONLY, mode: int = 0o600, dir_fd: "Optional[int]" = None
) -> int:
    """Open a regular file, not by a link, and never wait for whatever else is in its place.

    Raises OSError, and NotRegular of them if it could be opened and is not a regular file.
    """
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, mode, dir_fd=dir_fd)
    except OSError as error:
        if error.errno != errno.ENXIO:  # a socket, or a FIFO that nobody reads
            raise
        raise NotRegular(path) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotRegular(path)
    return fd


def read(fd: int, limit: int) -> bytes:
    """All that `fd` gives, to its end. Raises JSONError where that is more than `limit` bytes."""
    chunks: "list[bytes]" = []
    size = 0
    while True:
        chunk = os.read(fd, 65536)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise JSONError(f"more than {limit} bytes")


def is_string(value: "Any") -> bool:
    """Whether `value` is a string or absent; null counts as absent, as it does for Go."""
    return value is None or type(value) is str


def is_integer(value: "Any", least: "Optional[int]" = None) -> bool:
    """Whether `value` is absent or a whole number of at least `least`; 1.0 is one, true is not
    (JSON Schema 2020-12, 6.1.1)."""
    if value is None:
        return True
    whole = type(value) is int or (type(value) is float and value.is_integer())
    return whole and (least is None or value >= least)


def is_strings(value: "Any") -> bool:
    """Whether `value` is absent or a map of strings; null among its values is an empty string."""
    return value is None or (type(value) is dict and all(is_string(v) for v in value.values()))


def strings(value: "Optional[dict[str, Optional[str]]]") -> "dict[str, str]":
    """The map of strings that is_strings() accepted."""
    return {key: text or "" for key, text in (value or {}).items()}
