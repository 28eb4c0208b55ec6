"""Keys as they are stored with jobs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrt._core.keys import key_range, stored_key
from jobrt._core.looks import Look

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
PATHS = st.sampled_from(["args", "metadata"]).flatmap(
    lambda root: st.text(min_size=1).map(lambda field: f"{root}.{field}")
)


def _key(path: str, value: Any) -> str:
    root, _, field = path.partition(".")
    for step in reversed(field.split(".")):
        value = {step: value}
    texts = {"args": "{}", "metadata": "{}"} | {root: json.dumps(value)}
    return stored_key(path, "send", **texts)


@given(PATHS, VALUES, VALUES)
def test_equal_values_have_equal_keys_and_others_do_not(path: str, one: Any, other: Any) -> None:
    """The number 1 and 1.0 are equal; 1 and true are not."""
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    if same:
        assert _key(path, one) == _key(path, other)
    elif one != other:
        assert _key(path, one) != _key(path, other)


@given(PATHS, VALUES)
def test_a_key_is_short_and_plain(path: str, value: Any) -> None:
    """Whatever the field and its value are, an index and both databases can hold the key."""
    key = _key(path, value)
    assert len(key) <= 121
    assert key.isascii()
    assert key.isprintable()


@given(PATHS, PATHS, VALUES)
def test_keys_of_a_setting_are_in_its_range_and_no_other(path: str, other: str, value: Any) -> None:
    """So a claim never takes a key of an earlier setting for one of its own."""
    low, high = key_range(path)
    assert low <= _key(path, value) < high
    if path != other:
        assert not low <= _key(other, value) < high


@pytest.mark.parametrize("path", ["args.größe", "args." + "x" * 200])
def test_a_field_that_is_long_or_not_ascii_is_shortened(path: str) -> None:
    """To a digest, so that an index can hold the key."""
    low, high = key_range(path)
    assert low.startswith("#")
    assert low.isascii()
    assert len(high) < 40


def test_the_name_can_be_the_key() -> None:
    """Then payloads are not read."""
    assert stored_key("name", "send", args="no JSON", metadata="") == "name=send"


def test_searches_for_missing_keys_become_rare() -> None:
    """The first follow at once, for transactions that were open when the setting came."""
    look, now, pauses = Look("name", place=(1, 2, 3)), 0.0, []
    for _ in range(7):
        look = look.found_all(now)
        pauses.append(look.search_at - now)
    assert pauses == [1, 5, 25, 125, 600, 600, 600]
    assert look.place is None
