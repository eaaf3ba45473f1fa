"""strictjson takes what json takes and writes what json writes, but for what it says it refuses."""

import functools
import glob
import json
import subprocess
import sys

import pytest
from support.tree import DATA, TOP

pytest.importorskip("hypothesis")

from hypothesis import example, given, settings
from hypothesis import strategies as st

from nri_hook import strictjson

SAMPLES = sorted(glob.glob(f"{DATA}/*.json"))
QUICK = settings(max_examples=200, deadline=None, database=None)

TEXTS = st.text(st.characters(), max_size=8) | st.sampled_from(["", "\x00", "\x7f", "é", "\ud800"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
# What a mutation puts in: the grammar's own characters, what is nearly in it, and strangers.
PIECES = st.sampled_from(
    [*'[]{},:"\\/+-.0123456789eEtfnu \t\n\r\x0b\x00', "true", "null", "NaN", "-Infinity", "1e999"]
    + ["\\u", "\\ud800", "\\udc00", '"a":1,', "\ufeff", "\xa0", "\u0661", "é", "'", "//", "0x1"]
)
REFUSED = "refused"

# Runs under any interpreter: reads a list of documents, prints what came of each.
SCRIPT = """
import sys
sys.dont_write_bytecode = True
{before}
sys.path.append({top!r})
from nri_hook import strictjson
for data in eval(sys.stdin.read()):
    try:
        document = strictjson.loads(data)
        print(ascii(document), strictjson.dumps(document))
    except strictjson.JSONError as error:
        print("refused", ascii(str(error)))
print("json" in sys.modules)
"""


def unique(pairs):
    """An object_pairs_hook that refuses a key that stands twice."""
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("twice")
    return dict(pairs)


def no_constant(name):
    raise ValueError(name)


def finite(text):
    if float(text) in (float("inf"), float("-inf")):
        raise ValueError(text)
    return float(text)


def depth(document):
    if isinstance(document, dict):
        document = list(document.values())
    return 1 + max(map(depth, document), default=0) if isinstance(document, list) else 0


def reference(data):
    """What json makes of it, with the refusals that loads() documents on top."""
    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=unique,
            parse_constant=no_constant,
            parse_float=finite,
        )
    except (ValueError, RecursionError):
        return REFUSED
    # As text: 1, 1.0 and True are equal to each other, and 0.0 to -0.0.
    return REFUSED if depth(document) > 100 else repr(document)


def loaded(data):
    try:
        return repr(strictjson.loads(data))
    except strictjson.JSONError as error:
        assert str(error)
        return REFUSED


def encoded(document, **options):
    return json.dumps(document, **options).encode("utf-8", "surrogatepass")


def nested(levels, opening=b"[", closing=b"]"):
    return opening * levels + closing * levels


FIXED = [
    *(b"", b" ", b"\n\t\r ", b"\x0b", b"\x0b1", b"1\x0c", b"\xa01", b"1 2", b"[1] ]", b"[1]\x00"),
    *(b"nul", b"nulll", b"True", b"NaN", b"Infinity", b"-Infinity", b"[NaN]", b"[-Infinity]"),
    *(b"-", b"+1", b"01", b"-01", b"1.", b".5", b"1e", b"1e+", b"0x1", b"1_0", b"-0", b"-0.0"),
    *(b"1e308", b"1e309", b"-1e999", b"1e-999", b"0.1e1", b"1E2", b"9" * 60, b"-" + b"1" * 100),
    *(b'"', b'"\\"', b'"\\x41"', b'"\\u12"', b'"\\u12g4"', b'"\\ud800"', b'"\\ud83d\\ude00"'),
    *(b'"\x00"', b'"\n"', b'"\x1f"', b'"\x7f"', b'"\xc3\xa9"', b"'a'", b'"\\/\\b\\f\\n\\r\\t"'),
    *(b"[", b"]", b"[1", b"[1,", b"[1,]", b"[,1]", b"[1 2]", b"[[]", b"{}", b"{", b"}", b"{,}"),
    *(b'{"a"', b'{"a":', b'{"a":1', b'{"a":1,', b'{"a":1,}', b"{a:1}", b"{1:1}", b'{"a" 1}'),
    *(b'{"a":1,"a":1}', b'[{"b":{"a":1,"a":2}}]', b'{"a":1,"\\u0061":2}', b'{"a":{"a":{}}}'),
    *(b"\xef\xbb\xbf{}", b"\xff", b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"'),
    *(b'"\xf4\x90\x80\x80"', b"\x80", b'{"\xe2\x82":1}'),
    *("[1]".encode("utf-16"), "[1]".encode("utf-16-le"), "[1]".encode("utf-32-be")),
    *(nested(100), nested(101), nested(99, b'{"a":[', b"]}"), nested(100000), b"[" * 100000),
    *(nested(50, b'[{"a":', b"}]").replace(b":}", b":1}"), b"[" + nested(99) * 3 + b"]"),
    *(b'{"a":' * 100000, b"[" + b"[]," * 500 + b"[]]", b'["' + b"[" * 500 + b'"]'),
]


def test_it_agrees_with_json_on_the_edges():
    assert [data[:60] for data in FIXED if loaded(data) != reference(data)] == []


@QUICK
@given(DOCUMENTS, st.booleans(), st.sampled_from([None, 0, 3]))
def test_every_document_that_json_writes_is_read(document, ascii_only, indent):
    data = encoded(document, ensure_ascii=ascii_only, indent=indent)
    assert loaded(data) == reference(data)
    if ascii_only:
        assert loaded(data) != REFUSED


@QUICK
@given(
    DOCUMENTS,
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 4), PIECES | st.just("")), max_size=4),
)
@example([1], [(2, 0, ",")])
def test_it_agrees_with_json_on_mutated_documents(document, changes):
    """Each change takes out some characters somewhere and puts a piece there."""
    text = json.dumps(document, ensure_ascii=False)
    for place, length, piece in changes:
        start = place % (len(text) + 1)
        text = text[:start] + piece + text[start + length :]
    data = text.encode("utf-8", "surrogatepass")
    assert loaded(data) == reference(data)


@QUICK
@given(st.lists(PIECES, max_size=12).map("".join))
def test_it_agrees_with_json_on_any_text(text):
    data = text.encode("utf-8", "surrogatepass")
    assert loaded(data) == reference(data)


@QUICK
@given(st.binary(max_size=20))
def test_it_agrees_with_json_on_any_bytes(data):
    assert loaded(data) == reference(data)


def test_a_cut_sample_is_refused():
    assert SAMPLES
    for sample in SAMPLES:
        with open(sample, "rb") as file:
            data = file.read()
        assert loaded(data) == reference(data) != REFUSED
        for end in range(0, len(data.rstrip()), 100):
            assert loaded(data[:end]) == REFUSED, (sample, end)


@QUICK
@given(st.data())
def test_it_agrees_with_json_on_damaged_samples(draw):
    with open(draw.draw(st.sampled_from(SAMPLES)), "rb") as file:
        data = file.read()
    place = draw.draw(st.integers(0, len(data) - 1))
    piece = draw.draw(st.binary(max_size=3))
    data = data[:place] + piece + data[place + draw.draw(st.integers(0, 3)) :]
    assert loaded(data) == reference(data)


@pytest.mark.parametrize("text", ["1e309", "-1e309", "1" + "0" * 309, "-1" + "0" * 350, "9" * 5000])
def test_a_number_that_no_double_holds_is_refused(text):
    """A `timeout` written out in 310 digits is no float later on."""
    with pytest.raises(strictjson.JSONError, match="is out of range"):
        strictjson.loads(f"[{text}]".encode())


def test_the_largest_integers_that_a_double_holds_are_read():
    largest = int(sys.float_info.max)
    assert strictjson.loads(b"[%d,%d]" % (largest, -largest)) == [largest, -largest]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b" ", "empty, expected a JSON document"),
        (b'"\xff"', "byte 1 is not UTF-8"),
        (b"{} x", "more after the JSON document, at character 3"),
        (b'{"k":1,"k":2}', "key 'k' appears twice in one object"),
        (nested(101), "nested more than 100 deep"),
        (nested(5000), "nested more than 100 deep"),
        (b"[NaN]", "NaN is not a JSON number"),
        (b"[1e999]", "number 1e999 is out of range"),
        (b"", "empty, expected a JSON document"),
        (b"[?]", "no JSON value at character 1"),
    ],
)
def test_what_it_says(data, message):
    with pytest.raises(strictjson.JSONError) as caught:
        strictjson.loads(data)
    assert str(caught.value) == message


def test_half_a_document_says_where():
    with pytest.raises(strictjson.JSONError, match=r"^not JSON: .*\bchar 5\b"):
        strictjson.loads(b'{"ab"')


@QUICK
@given(DOCUMENTS)
def test_it_writes_what_json_writes(document):
    data = strictjson.dumps(document)
    assert data == json.dumps(document, separators=(",", ":")).encode()
    # Two surrogates that stand side by side become one character: as json reads them.
    assert repr(strictjson.loads(data)) == repr(json.loads(data))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x", object()])
def test_what_has_no_form_is_refused(value):
    for document in (value, {"a": [value]}):
        with pytest.raises((TypeError, ValueError)) as theirs:
            json.dumps(document, allow_nan=False)
        with pytest.raises(type(theirs.value)):
            strictjson.dumps(document)


@pytest.mark.parametrize(("size", "limit"), [(10, 10), (11, 10), (200000, 100000), (0, 0)])
def test_read_is_bounded(tmp_path, size, limit):
    path = tmp_path / "document"
    path.write_bytes(b"x" * size)
    with open(path, "rb") as file:
        if size <= limit:
            assert strictjson.read(file.fileno(), limit) == b"x" * size
            return
        with pytest.raises(strictjson.JSONError, match=f"^more than {limit} bytes$"):
            strictjson.read(file.fileno(), limit)


def outcomes(python, documents, before=""):
    """What an interpreter makes of documents, and whether that took the module json."""
    done = subprocess.run(
        [python, "-IS", "-c", SCRIPT.format(before=before, top=TOP)],
        input=repr(documents),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    *lines, used_json = done.stdout.splitlines()
    return [REFUSED if line.startswith(REFUSED) else line for line in lines], used_json == "True"


@functools.cache
def corpus():
    """Documents, and what every interpreter should make of them."""
    documents = list(FIXED)
    for sample in SAMPLES:
        with open(sample, "rb") as file:
            data = file.read()
        documents += [data] + [data[:end] for end in range(0, len(data), 1000)]
    found = []
    for data in documents:
        known = reference(data)
        if known != REFUSED:
            document = json.loads(data)
            known = f"{ascii(document)} {json.dumps(document, separators=(',', ':')).encode()}"
        found.append(known)
    return documents, found


def test_json_serves_where_the_accelerator_is_missing():
    documents, expected = corpus()
    found, used_json = outcomes(sys.executable, documents, 'sys.modules["_json"] = None')
    assert used_json
    assert found == expected


@pytest.mark.parametrize("name", ["make_scanner", "make_encoder", "encode_basestring_ascii"])
def test_json_serves_where_the_accelerator_has_changed(name):
    documents, expected = corpus()
    found, used_json = outcomes(sys.executable, documents, f"import _json; del _json.{name}")
    assert used_json
    assert found == expected


# Keys in another case


def test_letters_beyond_ascii_that_fold_to_one_in_it():
    """Go folds simply (unicode.SimpleFold): the long s and the Kelvin sign, and no more."""
    folding = {chr(c) for c in range(128, 0x110000) if strictjson.fold(chr(c)).isascii()}
    assert folding == {"\u017f", "\u212a"}
    for key in ("\ufb00", "\u00df", "\u0130", "\u0131"):  # ff, ss, I and i to other rules
        assert not strictjson.fold(key).isascii()


def test_known_keys_are_spelled_as_they_are_known():
    known = frozenset(("id", "kindOf"))
    document = {"ID": 1, "\u212aINDOF": {"ID": 2}, "x": 3, "X": 4, "i\u0307d": 5}
    spelled = {"id": 1, "kindOf": {"ID": 2}, "x": 3, "X": 4, "i\u0307d": 5}
    assert strictjson.spell_keys(document, known) == spelled
    assert list(strictjson.spell_keys(document, known)) == list(spelled)
    for other in ([{"ID": 1}], "ID", None, {}, {"id": 1}):
        assert strictjson.spell_keys(other, known) is other
    for twice in ({"id": 1, "Id": 2}, {"ID": 1, "id": 2}, {"ID": 1, "Id": 2}):
        with pytest.raises(strictjson.JSONError, match="^/a/I?i?d: the same key as 'I?i?[dD]', "):
            strictjson.spell_keys(twice, known, "/a")
