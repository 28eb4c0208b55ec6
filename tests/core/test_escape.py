"""Text that is printed for people can neither act on a terminal nor forge lines."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrt._core.escape import printable, printable_json, printable_lines

TEXTS = st.text(st.characters(codec=None))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("Grüße 😀 日本", "Grüße 😀 日本"),
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("two\nlines", r"two\nlines"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202etxt.exe", r"\u202etxt.exe"),
        ("a\u2028b", r"a\u2028b"),
        ("\udc80", r"\udc80"),
        ("C:\\new", "C:\\new"),
    ],
)
def test_unsafe_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    """Other characters stay, joiners of emoji included."""
    assert printable(text) == shown


@given(TEXTS)
def test_printable_text_is_one_line_without_controls(text: str) -> None:
    """It can be encoded, and escaping it again changes nothing."""
    shown = printable(text)
    shown.encode()
    assert len(shown.splitlines()) <= 1
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert printable(shown) == shown


@given(TEXTS)
def test_every_line_after_the_first_is_indented(text: str) -> None:
    """Each line is printable, whatever stands for a line break in the text."""
    first, *others = printable_lines(text, indent="  ").split("\n")
    assert printable(first) == first
    assert all(line.startswith("  ") and printable(line) == line for line in others)


def test_lines_keep_their_order_and_lose_their_tabs() -> None:
    """Line breaks of Windows count as one, and those at the end are left out."""
    assert printable_lines("one\r\ntwo\tx\n\nfour\n") == "one\n    two x\n    \n    four"


@given(st.recursive(TEXTS | st.none(), lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)))
def test_printable_json_has_the_same_meaning(value: object) -> None:
    """JSON stays JSON: the value is the same, and nothing unsafe but line breaks between values is left."""
    text = printable_json(json.dumps(value, ensure_ascii=False, indent=2))
    assert json.loads(text) == value
    assert printable(text.replace("\n", "")) == text.replace("\n", "")
