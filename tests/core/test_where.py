"""Filters as values, and their meaning."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import PurePath
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrt._core import where
from jobrt._core.job import JobRecord
from jobrt._core.states import State
from jobrt._core.where import And, Compare, Everything, In, JsonEquals, Not, Or, Tagged, Where, matches
from jobrt.errors import InvalidFilter
from tests.conformance.filters import filters

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
JOB = JobRecord(
    id=7,
    name="send",
    queue="mail",
    state=State.COMPLETED,
    priority=0,
    attempt=1,
    max_attempts=5,
    args={"to": "a@b.c", "n": 1, "deep": {"x": None, "list": [1, 2]}},
    metadata={"tenant": "t"},
    tags=("a", "b"),
    context=None,
    created_at=NOW - 3 * HOUR,
    schedule_at=NOW - 2 * HOUR,
    finished_at=NOW - HOUR,
    worker="w1",
)
WAITING = attrs.evolve(
    JOB, id=8, state=State.SCHEDULED, finished_at=None, worker=None, schedule_at=NOW + HOUR
)
JOBS = [JOB, WAITING]


def found(filter: Where, job: JobRecord = JOB) -> bool:
    """Return whether a filter matches."""
    return matches(filter, job, now=NOW)


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        (where.everything(), True),
        (where.id(7), True),
        (where.id(8), False),
        (where.id_in([]), False),
        (where.id_in([1, 7, 7]), True),
        (where.name("send"), True),
        (where.name("Send"), False),
        (where.queue("mail"), True),
        (where.worker("w1"), True),
        (where.worker("w2"), False),
        (where.state("completed"), True),
        (where.state("available", "completed"), True),
        (where.state(State.AVAILABLE), False),
        (where.state(), False),
        (where.tagged_any(["b", "x"]), True),
        (where.tagged_any(["x"]), False),
        (where.tagged_any([]), False),
        (where.tagged_all(["b", "a"]), True),
        (where.tagged_all(["a", "x"]), False),
        (where.tagged_all([]), True),
        (where.args("to", "a@b.c"), True),
        (where.args("n", 1.0), True),
        (where.args("n", True), False),
        (where.args("n", "1"), False),
        (where.args("deep.x", None), True),
        (where.args("deep.y", None), False),
        (where.args("to.x", None), False),
        (where.args("deep.list", [1.0, 2]), True),
        (where.args("deep.list", [2, 1]), False),
        (where.args("deep.list.0", 1), False),
        (where.args("deep", {"list": (1, 2), "x": None}), True),
        (where.args({"deep": {"x": None, "list": [1, 2]}, "n": 1, "to": "a@b.c"}), True),
        (where.args({"to": "a@b.c"}), False),
        (where.metadata({"tenant": "t"}), True),
        (where.metadata("tenant", "u"), False),
        (where.scheduled_at(NOW - 2 * HOUR), True),
        (where.scheduled_at((NOW - 2 * HOUR).astimezone(timezone(HOUR))), True),
        (where.scheduled_before(NOW - 2 * HOUR), False),
        (where.scheduled_after(NOW - 2 * HOUR), False),
        (where.scheduled_before(NOW), True),
        (where.scheduled_after(NOW), False),
        (where.scheduled_before(HOUR), True),
        (where.scheduled_after(HOUR), False),
        (where.scheduled_within(3 * HOUR), True),
        (where.scheduled_within(HOUR), False),
        (where.created_before(2 * HOUR), True),
        (where.created_after(2 * HOUR), False),
        (where.created_within(4 * HOUR), True),
        (where.finished_before(NOW), True),
        (where.finished_after(NOW), False),
        (where.finished_within(2 * HOUR), True),
        (And(()), True),
        (Or(()), False),
    ],
    ids=str,
)
def test_what_each_filter_means(filter: Where, expected: bool) -> None:
    """A filter matches or not, and its negation does the opposite."""
    assert found(filter) is expected
    assert found(~filter) is not expected


def test_missing_times_never_match() -> None:
    """A job that has not finished did not finish before or after any moment."""
    for filter in (where.finished_before(NOW), where.finished_after(NOW), where.finished_within(HOUR)):
        assert not found(filter, WAITING)
    assert not found(where.worker("w1"), WAITING)


def test_within_is_about_the_past() -> None:
    """A job due in the future did not become due within the last two hours."""
    assert not found(where.scheduled_within(2 * HOUR), WAITING)
    assert found(where.scheduled_after(timedelta(0)), WAITING)


@given(filters(JOBS), filters(JOBS), st.sampled_from(JOBS))
def test_filters_combine_as_logic_does(a: Where, b: Where, job: JobRecord) -> None:
    """Combined filters follow the laws of logic."""
    first, second = found(a, job), found(b, job)
    assert found(a & b, job) == (first and second)
    assert found(a | b, job) == (first or second)
    assert found(~a, job) == (not first)
    assert found(~(a | b), job) == found(~a & ~b, job)
    assert found(~(a & b), job) == found(~a | ~b, job)


@given(filters(JOBS), filters(JOBS))
def test_filters_are_values(a: Where, b: Where) -> None:
    """Filters with equal parts are equal, and combinations keep their structure."""
    assert (a & b) == And((a, b))
    assert (a | b) == Or((a, b))
    assert ~a == Not(a)
    assert a & (b | a) == And((a, Or((b, a))))


def test_what_the_filters_are_made_of() -> None:
    """All filters consist of the kinds that the engines translate."""
    assert where.everything() == Everything()
    assert where.id_in(iter([1, 2])) == In("id", (1, 2))
    assert where.state(State.AVAILABLE) == In("state", ("available",))
    assert where.tagged_any(iter("ab")) == Tagged(("a", "b"), every=False)
    assert where.args("a.b", [1]) == JsonEquals("args", "a.b", [1])
    assert where.metadata({"b": 1, "a": 2}).text == '{"a":2,"b":1}'
    assert where.created_before(HOUR) == Compare("created_at", "<", HOUR)


BAD: list[tuple[Any, str]] = [
    (lambda: where.state("running"), r"where\.state: values is 'running': use scheduled, "),
    (lambda: where.tagged_any("ab"), "use a list of tags"),
    (lambda: where.tagged_all("ab"), "use a list of tags"),
    (lambda: where.args("x"), "use a dict, or a field and a value"),
    (lambda: where.args(1, 2), "use a field name"),
    (lambda: where.args("", 2), "use a field name"),
    (lambda: where.args("a..b", 2), "use a field name"),
    (lambda: where.metadata(".a", 2), "use a field name"),
    (lambda: where.args("x", object()), "compare with JSON values"),
    (lambda: where.args("x", float("nan")), "compare with JSON values"),
    (lambda: where.args({"x": {1, 2}}), "compare with JSON values"),
    (
        lambda: where.created_before(datetime(2030, 1, 1)),  # noqa: DTZ001 - the mistake under test
        r"where\.created_before: moment is .*: use an aware datetime",
    ),
    (lambda: where.created_before(60), "moment is 60: use an aware datetime, .* or a timedelta"),
    (lambda: where.created_after("2030-01-01"), "moment is '2030-01-01'"),
    (lambda: where.created_within(NOW), "window is .*: use a timedelta"),
    (lambda: where.everything() & True, "True is not a filter"),
    (lambda: where.everything() | None, "None is not a filter"),
    (lambda: bool(where.everything()), "combine filters with & | ~"),
    (lambda: where.id(1) and where.id(2), "not with and, or, not"),
    (lambda: matches("id = 7", JOB, now=NOW), "is not a filter"),  # type: ignore[arg-type]
    (lambda: matches(Where(), JOB, now=NOW), "is not a filter"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=range(len(BAD)))
def test_malformed_filters_are_refused(make: Any, message: str) -> None:
    """An invalid filter is refused when it is created, with a remedy."""
    with pytest.raises(InvalidFilter, match=message):
        make()


def test_a_path_is_compared_as_payloads_store_it() -> None:
    """A path is its text. If that is not Unicode, it is the base64 of its bytes, also inside of other values."""
    assert where.args("path", PurePath("/srv/a")) == where.args("path", "/srv/a")
    odd = os.fsdecode(b"caf\xe9")
    stored = {"base64": "Y2Fm6Q=="}
    assert where.args("path", odd) == where.args("path", PurePath(odd)) == where.args("path", stored)
    assert where.args({"paths": [PurePath(odd)]}) == where.args({"paths": [stored]})
