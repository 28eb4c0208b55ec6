"""Retention: valid settings, and which finished jobs their rules delete."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrt._core.keep import Keep, PruneRule, default_keep, plan
from jobrt._core.states import ALL, FINAL, State
from jobrt.errors import InvalidSetting

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Nightly:
    """Class like a job class with a NAME."""

    NAME = "nightly"


class Hourly:
    """Class like a job class without a NAME."""


@attrs.frozen
class Row:
    """The fields of a finished job that retention uses."""

    id: int
    name: str = "a"
    queue: str = "default"
    state: State = State.COMPLETED
    age: timedelta = HOUR

    @property
    def order(self) -> tuple[datetime, int]:
        """Sort key: a newer job has a greater one."""
        return NOW - self.age, self.id


def left(rows: list[Row], *rules: PruneRule) -> list[int]:
    """Prune as a storage must, and return the ids that are kept."""
    deleted: set[int] = set()
    for rule in rules:
        newer: Counter[str] = Counter()
        for row in sorted(rows, key=lambda row: row.order, reverse=True):
            if rule.covers(row.state, name=row.name, queue=row.queue):
                if rule.removes(NOW - row.age, newer=newer[row.name], now=NOW):
                    deleted.add(row.id)
                newer[row.name] += 1
    return [row.id for row in rows if row.id not in deleted]


def completed(*rules: Keep) -> tuple[PruneRule, ...]:
    """Return the rules for completed jobs only."""
    return plan({"completed": rules, "cancelled": Keep(), "discarded": Keep()})


@pytest.mark.parametrize("age", [3600, 3600.0, HOUR])
def test_age_is_seconds_or_a_timedelta(age: float | timedelta) -> None:
    """Seconds and a timedelta mean the same."""
    assert Keep(age=age).age == HOUR


@pytest.mark.parametrize(
    "age", [-1, timedelta(-1), float("nan"), float("inf"), 10**400, timedelta.max, "1d", True], ids=repr
)
def test_bad_age_is_refused(age: Any) -> None:
    """An age that is negative, infinite or not a duration is refused, with a remedy."""
    with pytest.raises(InvalidSetting, match=r"Keep\.age is .*: use seconds or a timedelta"):
        Keep(age)


@pytest.mark.parametrize("count", [-1, 1.5, "3", True])
def test_bad_count_is_refused(count: Any) -> None:
    """A count that is negative or not an int is refused."""
    with pytest.raises(InvalidSetting, match=r"Keep\.count is"):
        Keep(count=count)


def test_jobs_are_named_by_text_or_class() -> None:
    """Names, and classes with and without NAME, become sorted names."""
    assert Keep(only="b").only == ("b",)
    assert Keep(only=Nightly).only == ("nightly",)
    assert Keep(except_=["b", Hourly, Nightly, "b"]).except_ == ("Hourly", "b", "nightly")
    assert Keep(only=Nightly()).only == ("nightly",)


@pytest.mark.parametrize("jobs", [7, [None], "", [""]], ids=repr)
def test_bad_job_name_is_refused(jobs: Any) -> None:
    """A value without a name is refused."""
    with pytest.raises(InvalidSetting, match="use job names or job classes"):
        Keep(1, only=jobs)


def test_only_and_except_exclude_each_other() -> None:
    """`only` and `except_` cannot be used together."""
    with pytest.raises(InvalidSetting, match="use only one of them"):
        Keep(1, only="a", except_="b")


def test_age_alone_removes_what_is_older() -> None:
    """A job exactly as old as `age` is kept; a job older by a microsecond is deleted."""
    rows = [Row(1, age=HOUR), Row(2, age=HOUR + timedelta(microseconds=1)), Row(3, age=2 * HOUR)]
    assert left(rows, *completed(Keep(age=HOUR))) == [1]


def test_count_alone_keeps_the_newest_of_each_name() -> None:
    """The newest n jobs of each name are kept, and not n jobs of all names together."""
    rows = [Row(n, name="ab"[n % 2], age=n * HOUR) for n in range(8)]
    assert left(rows, *completed(Keep(count=2))) == [0, 1, 2, 3]


def test_count_of_zero_keeps_none() -> None:
    """A count of zero keeps no job, and does not mean 'no limit'."""
    assert left([Row(1), Row(2)], *completed(Keep(count=0))) == []


def test_age_and_count_keep_at_least_the_newest() -> None:
    """With both, an old job is kept while it is among the newest, and a young job is always kept."""
    rows = [Row(1, age=HOUR), Row(2, age=5 * HOUR), Row(3, age=6 * HOUR), Row(4, name="b", age=9 * HOUR)]
    assert left(rows, *completed(Keep(age=2 * HOUR, count=2))) == [1, 2, 4]
    assert left(rows, *completed(Keep(age=7 * HOUR, count=1))) == [1, 2, 3, 4]


def test_the_id_decides_between_equal_times() -> None:
    """Of two jobs that finished at the same time, the one with the greater id is newer."""
    assert left([Row(1), Row(2)], *completed(Keep(count=1))) == [2]


def test_only_and_except_select_jobs() -> None:
    """Jobs that are not covered are neither deleted nor counted."""
    rows = [Row(1, name="a"), Row(2, name="b"), Row(3, name="c")]
    assert left(rows, *completed(Keep(count=0, only=("a", "b")))) == [3]
    assert left(rows, *completed(Keep(count=0, except_="b"))) == [2]


def test_several_keeps_for_one_state() -> None:
    """Each job type can have its own retention."""
    rows = [Row(1, name="a", age=2 * HOUR), Row(2, name="b", age=2 * HOUR)]
    rules = completed(Keep(HOUR, only="a"), Keep(3 * HOUR, except_="a"))
    assert left(rows, *rules) == [2]


def test_keep_without_limits_removes_nothing() -> None:
    """`Keep()` keeps all jobs, and gives no rule."""
    assert plan(dict.fromkeys(FINAL, Keep())) == ()


def test_states_left_out_keep_their_default() -> None:
    """A setting for a state leaves the defaults of the others."""
    rules = {rule.state: rule.age for rule in plan({"completed": Keep(60)})}
    assert rules == {
        State.COMPLETED: timedelta(minutes=1),
        State.CANCELLED: timedelta(days=7),
        State.DISCARDED: timedelta(days=30),
    }


def test_default_covers_every_final_state() -> None:
    """By default no final state is kept for ever."""
    assert set(default_keep()) == set(FINAL)
    assert all(not keep.forever for keep in default_keep().values() if isinstance(keep, Keep))


def test_a_queue_overrides_the_app() -> None:
    """The setting of a queue for a state replaces that of the app; other states follow the app."""
    rules = plan({"completed": Keep(count=0)}, queues={"mail": {"completed": Keep()}, "x": None, "y": {}})
    rows = [
        Row(1, queue="mail", age=timedelta(days=99)),
        Row(2, queue="x"),
        Row(3, queue="mail", state=State.CANCELLED, age=timedelta(days=8)),
    ]
    assert left(rows, *rules) == [1]


def test_a_queue_with_its_own_limit() -> None:
    """The rule of a queue neither deletes nor counts jobs of other queues."""
    rules = plan({"completed": Keep()}, queues={"mail": {"completed": Keep(count=1)}})
    rows = [Row(1, queue="mail"), Row(2, queue="mail"), Row(3), Row(4)]
    assert left(rows, *rules) == [2, 3, 4]


@pytest.mark.parametrize("state", [*sorted(ALL - FINAL), "done"])
def test_live_jobs_cannot_be_pruned(state: str) -> None:
    """A setting for a state that is not final is refused; the message lists the final states."""
    with pytest.raises(InvalidSetting, match="only finished jobs are pruned; use cancelled, completed, disc"):
        plan({state: Keep(count=0)})


@pytest.mark.parametrize("value", [5, [5], "all", [Keep(), None]], ids=repr)
def test_values_must_be_keeps(value: Any) -> None:
    """A value that is not a `Keep` is refused; the message names the queue."""
    with pytest.raises(InvalidSetting, match=r"queue 'mail': keep\['completed'\] is .* use a jobrt.Keep"):
        plan(queues={"mail": {"completed": value}})


def test_setting_must_be_by_state() -> None:
    """A `Keep` in place of a mapping is refused."""
    setting: Any = Keep(5)
    with pytest.raises(InvalidSetting, match="mapping from a state"):
        plan(setting)


rows = st.lists(
    st.builds(
        Row,
        id=st.integers(0, 10**6),
        name=st.sampled_from("ab"),
        queue=st.sampled_from(["default", "mail"]),
        state=st.sampled_from(sorted(ALL)),
        age=st.integers(0, 20).map(lambda hours: hours * HOUR),
    ),
    unique_by=lambda row: row.id,
    max_size=30,
)
keeps = st.builds(
    Keep,
    age=st.none() | st.integers(0, 20 * 3600),
    count=st.none() | st.integers(0, 5),
    only=st.sampled_from(["a", ()]),
)


@given(rows=rows, keep=keeps, own=st.none() | keeps)
def test_what_stays(rows: list[Row], keep: Keep, own: Keep | None) -> None:
    """Unfinished, young and newest jobs are kept, others are deleted; pruning again changes nothing."""
    rules = plan(dict.fromkeys(FINAL, keep), queues={"mail": dict.fromkeys(FINAL, own) if own else None})
    kept = left(rows, *rules)
    survivors = [row for row in rows if row.id in set(kept)]
    assert left(survivors, *rules) == kept
    for row in rows:
        limit = own if own and row.queue == "mail" else keep
        if row.state not in FINAL or limit.forever or (limit.age is not None and row.age <= limit.age):
            assert row.id in kept
    for state in FINAL:
        covered = [row for row in rows if (row.state, row.queue, row.name) == (state, "mail", "a")]
        if own and own.count is not None:
            newest = sorted(covered, key=lambda row: row.order, reverse=True)[: own.count]
            assert {row.id for row in newest} <= set(kept)
            if own.age is None:
                assert sum(row.id in kept for row in covered) == min(len(covered), own.count)
