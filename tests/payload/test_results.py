"""What `run` may return: JSON that is kept, or a wish."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import attrs
import pytest

from jobrt._core.results import After, Cancel, Discard, Snooze
from jobrt._payload.payload import RESULT_LIMIT, encode_result
from jobrt.errors import InvalidResult


@attrs.frozen
class Handle:
    """Something with an id."""

    id: int


def test_wishes_are_values() -> None:
    """Each says what it was given, in the form that the runtime wants."""
    assert Snooze(90).delay == Snooze(timedelta(minutes=1.5)).delay == timedelta(seconds=90)
    assert Snooze(0).delay == timedelta(0)
    assert (Cancel("gone").reason, Cancel().reason) == ("gone", "")
    assert (Discard("no use").reason, Discard().reason) == ("no use", "")
    handles: Any = [Handle(3), 4]
    assert After(handles).children == (3, 4)
    assert After([]).children == ()


@pytest.mark.parametrize("delay", [-1, -0.001, timedelta(microseconds=-1)])
def test_a_snooze_is_not_into_the_past(delay: Any) -> None:
    """A negative delay is refused."""
    with pytest.raises(ValueError, match=r"Snooze\.delay is .*: use .*, at least zero"):
        Snooze(delay)


@pytest.mark.parametrize("delay", ["5", None, True, float("nan"), float("inf")])
def test_a_snooze_is_a_duration(delay: Any) -> None:
    """Anything but seconds or a timedelta is refused."""
    with pytest.raises(ValueError, match="use seconds or a timedelta"):
        Snooze(delay)


@pytest.mark.parametrize("wish", [Cancel, Discard])
def test_a_reason_is_a_text(wish: Any) -> None:
    """A reason is shown to people, so it is a text."""
    with pytest.raises(ValueError, match=rf"{wish.__name__}\.reason is 3: use a string"):
        wish(3)


@pytest.mark.parametrize("child", ["3", True, None, Handle])
def test_children_are_handles_or_ids(child: Any) -> None:
    """Anything without an id is refused."""
    with pytest.raises(ValueError, match="use a list of handles or ids of jobs"):
        After([child])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (3, "3"),
        (1.5, "1.5"),
        ("ä\n", '"ä\\n"'),
        ({"b": [1, {"a": None}], "a": (1, 2)}, '{"a":[1,2],"b":[1,{"a":null}]}'),
    ],
)
def test_any_json_value_is_a_result(value: Any, text: str) -> None:
    """JSON values, and tuples as lists, are kept."""
    assert encode_result(value) == text


def _endless() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "result: expected plain JSON (None, bool, int, float, str, list, dict), got object"),
        ({"a": [1, {2}]}, "result['a'][1]: expected plain JSON"),
        ({1: 2}, "result: expected a str as key, got int 1"),
        (float("nan"), "result: expected a finite float"),
        ({"a": {"b c": "x\0"}}, "result.a['b c']: expected text without NUL"),
        (("x", "\ud800"), "result[1]: expected text without lone surrogates"),
        ({"\0": 1}, "result['\\x00']: expected text without NUL"),
        ([10**5000], "result[0]: expected an int of at most 4300 digits"),
        (_endless(), "result: nested too deeply, or contains itself"),
    ],
)
def test_what_is_no_json_is_no_result(value: Any, message: str) -> None:
    """A value that is not JSON is refused with the path of what is not."""
    with pytest.raises(InvalidResult) as caught:
        encode_result(value)
    assert message in str(caught.value)


def test_a_result_has_a_limit() -> None:
    """A result of exactly the limit is kept; one byte more is refused. Bytes count, not characters."""
    assert len(encode_result("x" * (RESULT_LIMIT - 2))) == RESULT_LIMIT
    for value in ("x" * (RESULT_LIMIT - 1), "ä" * (RESULT_LIMIT // 2)):
        with pytest.raises(
            InvalidResult, match=r"result: 262,14[56] bytes of JSON, but at most 262,144 are allowed"
        ):
            encode_result(value)
