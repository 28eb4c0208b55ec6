"""Values that stand in rows: whatever they are, reading them raises nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrt._core import stored
from jobrt._core.limits import check_payload, checked_payload_limit, limit_key
from jobrt._core.states import End, State
from jobrt._json import DEPTH_LIMIT
from jobrt.errors import InvalidJob, InvalidSetting

NOW = datetime(2031, 5, 14, tzinfo=UTC)
texts = (
    st.text(st.characters())
    | st.sampled_from(["", "{", "[" * 100_000, "9" * 5000, '{"v":"\\ud800"}', "NaN", "1e999", "null"])
    | st.recursive(st.none() | st.text() | st.floats() | st.integers(), st.lists, max_leaves=20).map(
        json.dumps
    )
)


@given(texts)
def test_any_text_can_be_shown(text: str) -> None:
    """What is JSON is shown as its value and the rest as it is; either can be encoded again."""
    for value in (stored.json_value(text), stored.json_object(text), stored.truncated(text)):
        json.dumps(value)
    stored.progress_of(text)
    stored.shown_tags(stored.json_value(text))
    stored.defect_of(text, None)
    limit_key("args.v", "name", args=text, metadata=text)
    assert stored.state_of(text) in State
    stored.shown_text(text).encode()


def test_an_unknown_end_is_told_with_the_message() -> None:
    """A newer version of jobrt may have stored it."""
    record = stored.attempt_record(1, "eaten", None, None, "boom", None, started_at=None, finished_at=NOW)
    assert record.end is End.UNKNOWN
    assert record.message == "its end is 'eaten', which this version of jobrt does not know: boom"


@given(texts)
def test_any_end_can_be_shown(end: str) -> None:
    """An unknown end is shown as unknown, with the stored word in the message; missing values are made up."""
    record = stored.attempt_record(1, end, None, None, "boom", None, started_at=None, finished_at=NOW)
    assert (record.started_at, record.finished_at, record.worker) == (NOW, NOW, "")
    if record.end is End.UNKNOWN:
        assert "does not know" in (record.message or "")
        assert (record.message or "").endswith("boom")
    else:
        assert record.message == "boom"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"a":1}', {"a": 1}),
        ("nope", {"undecodable": "nope"}),
        ("[1]", {"undecodable": [1]}),
        ("\udcff", {"undecodable": "\\udcff"}),
        (None, {}),
    ],
)
def test_a_payload_is_shown_as_far_as_it_can_be_read(text: str | None, shown: object) -> None:
    """A payload that is not a JSON object is shown under a key of its own."""
    assert stored.json_object(text) == shown


def test_what_is_nested_too_deeply_is_not_read() -> None:
    """The limit is the same wherever the text is read: it does not depend on the stack of the caller."""
    levels = DEPTH_LIMIT - 1
    deepest = '{"v":' + "[" * levels + "]" * levels + "}"
    assert stored.json_object(deepest).keys() == {"v"}
    assert stored.json_object(deepest.replace("[]", "[[]]")).keys() == {"undecodable"}
    assert stored.json_value(json.dumps(["[" * 200, '"{"' * 200, "\\"])) is not None
    assert len(stored.json_value("[" + ",".join(["[]"] * 500) + "]")) == 500


@pytest.mark.parametrize("value", [["a", 1], "a", 7, {"a": 1}, [["a"]], [None]])
def test_tags_that_are_none_are_a_defect(value: object) -> None:
    """They are shown as one tag that tells so."""
    assert stored.tags_of(value) is None
    assert stored.shown_tags(value)[0].startswith("undecodable: ")
    assert stored.shown_tags(None) == ()
    assert stored.shown_tags(["a", "b"]) == ("a", "b")


def test_metadata_that_cannot_be_read_is_a_defect() -> None:
    """A job whose metadata are no JSON object does not run, whatever its payload."""
    assert stored.defect_of('{"a":1}', None) is None
    assert "not JSON" in (stored.defect_of("nope", None) or "")
    assert "not a JSON object" in (stored.defect_of("[]", None) or "")
    assert stored.defect_of("{}", "torn") == "torn"


def test_odd_progress_is_left_out() -> None:
    """Progress is only shown to people."""
    assert stored.progress_of('{"done":1,"total":2,"note":"n"}') is not None
    for text in (
        '{"done":"1"}',
        '{"done":1,"total":"2"}',
        '{"done":1,"note":3}',
        "[]",
        '{"done":true}',
        None,
    ):
        assert stored.progress_of(text) is None


def test_a_concurrency_that_is_none_is_as_configured() -> None:
    """Numbers that an operator cannot set are ignored."""
    assert [stored.concurrency_of(value) for value in (None, 0, -1, 2**40, 7)] == [None, None, None, None, 7]


def test_a_payload_has_a_limit_in_bytes() -> None:
    """All texts count, in UTF-8; the message has the size, the limit and both remedies."""
    check_payload("Send", "x" * 50, "y" * 50, limit=100)
    check_payload("Send", "\N{SNOWMAN}" * 33, "y", limit=100)
    with pytest.raises(InvalidJob, match=r"Send: the payload has 102 bytes .* at most 100 .*payload_limit="):
        check_payload("Send", "\N{SNOWMAN}" * 34, limit=100)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "1"])
def test_a_limit_of_no_bytes_is_refused(limit: object) -> None:
    """The setting is named."""
    with pytest.raises(InvalidSetting, match=f"payload_limit.*{limit!r}"):
        checked_payload_limit(limit)


def test_times_in_order() -> None:
    """The limits of times are those of a datetime."""
    assert stored.EARLIEST < NOW < stored.LATEST
    assert timedelta(days=3_650_000) < stored.LATEST - stored.EARLIEST
