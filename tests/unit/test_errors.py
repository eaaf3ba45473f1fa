"""Errors and what strangers write, as one line."""

import ast

import pytest

from nri_hook.errors import HookError, printable, word


@pytest.mark.parametrize("text", ["a b", 'a"b', "a'b", "a=b", "a;b", "a\tb", "a\u00a0b", "a\\ b"])
def test_a_word_says_what_it_was(text):
    """Quoted it is the text, as a Python literal has it."""
    assert word(text).startswith('"') and ast.literal_eval(word(text)) == text


def test_printable():
    for text in ("", "plain", "é \u2603 'q' \"q\" \\n", "\U0001f600"):
        assert printable(text) == text
    for text, escaped in {"\n": "\\n", "a\0b": "a\\x00b", "\ud800": "\\ud800"}.items():
        assert printable(text) == escaped


def test_an_error_is_one_line_with_its_plugin_and_path():
    assert str(HookError("broke")) == "broke"
    assert str(HookError("broke", path="/p")) == "/p: broke"
    assert str(HookError("broke", plugin="a")) == "plugin a: broke"
    assert (
        str(HookError("bro\nke", plugin="a\t", path="/p\x1b")) == "plugin a\\t: /p\\x1b: bro\\nke"
    )
