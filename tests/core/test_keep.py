"""Retention: what a `Keep` may say, and which finished jobs the rules made from it remove."""

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
    """Look like a job class with a name of its own."""

    NAME = "nightly"


class Hourly:
    """Look like a job class that is called what it is called."""


@attrs.frozen
class Row:
    """A finished job, as far as retention looks at it."""

    id: int
    name: str = "a"
    queue: str = "default"
    state: State = State.COMPLETED
    age: timedelta = HOUR

    @property
    def order(self) -> tuple[datetime, int]:
        """Return what decides which of two is newer."""
        return NOW - self.age, self.id


def left(rows: list[Row], *rules: PruneRule) -> list[int]:
    """Prune as a storage has to, and return the ids that stay."""
    gone: set[int] = set()
    for rule in rules:
        newer: Counter[str] = Counter()
        for row in sorted(rows, key=lambda row: row.order, reverse=True):
            if rule.covers(row.state, name=row.name, queue=row.queue):
                if rule.removes(NOW - row.age, newer=newer[row.name], now=NOW):
                    gone.add(row.id)
                newer[row.name] += 1
    return [row.id for row in rows if row.id not in gone]


def completed(*rules: Keep) -> tuple[PruneRule, ...]:
    """Return the rules for completed jobs alone."""
    return plan({"completed": rules, "cancelled": Keep(), "discarded": Keep()})


@pytest.mark.parametrize("age", [3600, 3600.0, HOUR])
def test_age_is_seconds_or_a_timedelta(age: float | timedelta) -> None:
    """Seconds and a timedelta mean the same."""
    assert Keep(age=age).age == HOUR


@pytest.mark.parametrize(
    "age", [-1, timedelta(-1), float("nan"), float("inf"), 10**400, timedelta.max, "1d", True], ids=repr
)
def test_bad_age_is_refused(age: Any) -> None:
    """An age that is negative, endless or no duration is refused with what to give instead."""
    with pytest.raises(InvalidSetting, match=r"Keep\.age is .*timedelta, or seconds"):
        Keep(age)


@pytest.mark.parametrize("count", [-1, 1.5, "3", True])
def test_bad_count_is_refused(count: Any) -> None:
    """A count that is negative or no int is refused."""
    with pytest.raises(InvalidSetting, match=r"Keep\.count is"):
        Keep(count=count)


def test_jobs_are_named_by_text_or_class() -> None:
    """A name, a class with NAME, a class without, one or several: all become sorted names."""
    assert Keep(only="b").only == ("b",)
    assert Keep(only=Nightly).only == ("nightly",)
    assert Keep(except_=["b", Hourly, Nightly, "b"]).except_ == ("Hourly", "b", "nightly")
    assert Keep(only=Nightly()).only == ("nightly",)


@pytest.mark.parametrize("jobs", [7, [None], "", [""]], ids=repr)
def test_bad_job_name_is_refused(jobs: Any) -> None:
    """What has no name is refused."""
    with pytest.raises(InvalidSetting, match="take job names or job classes"):
        Keep(1, only=jobs)


def test_only_and_except_exclude_each_other() -> None:
    """Saying which jobs are meant in two ways is refused."""
    with pytest.raises(InvalidSetting, match="give one of them"):
        Keep(1, only="a", except_="b")


def test_age_alone_removes_what_is_older() -> None:
    """A job exactly as old as the age stays; a microsecond more and it goes."""
    rows = [Row(1, age=HOUR), Row(2, age=HOUR + timedelta(microseconds=1)), Row(3, age=2 * HOUR)]
    assert left(rows, *completed(Keep(age=HOUR))) == [1]


def test_count_alone_keeps_the_newest_of_each_name() -> None:
    """The newest n of each name stay, not the first n, and not n of all names together."""
    rows = [Row(n, name="ab"[n % 2], age=n * HOUR) for n in range(8)]
    assert left(rows, *completed(Keep(count=2))) == [0, 1, 2, 3]


def test_count_of_zero_keeps_none() -> None:
    """Zero is zero, not one, and not 'no limit'."""
    assert left([Row(1), Row(2)], *completed(Keep(count=0))) == []


def test_age_and_count_keep_at_least_the_newest() -> None:
    """With both, an old job stays while it is among the newest, and a young one stays in any case."""
    rows = [Row(1, age=HOUR), Row(2, age=5 * HOUR), Row(3, age=6 * HOUR), Row(4, name="b", age=9 * HOUR)]
    assert left(rows, *completed(Keep(age=2 * HOUR, count=2))) == [1, 2, 4]
    assert left(rows, *completed(Keep(age=7 * HOUR, count=1))) == [1, 2, 3, 4]


def test_equal_times_are_told_apart_by_id() -> None:
    """Of two that finished together the later enqueued one is the newer."""
    assert left([Row(1), Row(2)], *completed(Keep(count=1))) == [2]


def test_only_and_except_choose_jobs() -> None:
    """Other jobs neither go nor count."""
    rows = [Row(1, name="a"), Row(2, name="b"), Row(3, name="c")]
    assert left(rows, *completed(Keep(count=0, only=("a", "b")))) == [3]
    assert left(rows, *completed(Keep(count=0, except_="b"))) == [2]


def test_several_keeps_for_one_state() -> None:
    """Each job type can have its own retention."""
    rows = [Row(1, name="a", age=2 * HOUR), Row(2, name="b", age=2 * HOUR)]
    rules = completed(Keep(HOUR, only="a"), Keep(3 * HOUR, except_="a"))
    assert left(rows, *rules) == [2]


def test_keep_without_limits_removes_nothing() -> None:
    """`Keep()` is 'keep all', and makes no rule."""
    assert plan(dict.fromkeys(FINAL, Keep())) == ()


def test_states_left_out_keep_their_default() -> None:
    """Naming one state leaves the defaults of the others."""
    rules = {rule.state: rule.age for rule in plan({"completed": Keep(60)})}
    assert rules == {
        State.COMPLETED: timedelta(minutes=1),
        State.CANCELLED: timedelta(days=7),
        State.DISCARDED: timedelta(days=30),
    }


def test_default_covers_every_final_state() -> None:
    """Nothing grows for ever unless somebody asks for it."""
    assert set(default_keep()) == set(FINAL)
    assert all(not keep.forever for keep in default_keep().values() if isinstance(keep, Keep))


def test_a_queue_overrides_the_app() -> None:
    """What a queue says about a state is all that holds for it there; other states follow the app."""
    rules = plan({"completed": Keep(count=0)}, queues={"mail": {"completed": Keep()}, "x": None, "y": {}})
    rows = [
        Row(1, queue="mail", age=timedelta(days=99)),
        Row(2, queue="x"),
        Row(3, queue="mail", state=State.CANCELLED, age=timedelta(days=8)),
    ]
    assert left(rows, *rules) == [1]


def test_a_queue_with_its_own_limit() -> None:
    """A queue's rule touches no other queue, and counts no other queue's jobs."""
    rules = plan({"completed": Keep()}, queues={"mail": {"completed": Keep(count=1)}})
    rows = [Row(1, queue="mail"), Row(2, queue="mail"), Row(3), Row(4)]
    assert left(rows, *rules) == [2, 3, 4]


@pytest.mark.parametrize("state", [*sorted(ALL - FINAL), "done"])
def test_live_jobs_cannot_be_pruned(state: str) -> None:
    """A setting for a state that is not final is refused, and says where it stands and which are."""
    with pytest.raises(InvalidSetting, match="only finished jobs are pruned; use cancelled, completed, disc"):
        plan({state: Keep(count=0)})


@pytest.mark.parametrize("value", [5, [5], "all", [Keep(), None]], ids=repr)
def test_values_must_be_keeps(value: Any) -> None:
    """Something other than `Keep` is refused, with its queue if it is a queue's."""
    with pytest.raises(InvalidSetting, match=r"queue 'mail': keep\['completed'\] is .* give a jobrt.Keep"):
        plan(queues={"mail": {"completed": value}})


def test_setting_must_be_by_state() -> None:
    """A bare `Keep` in place of the mapping is refused."""
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
    """No live, young or newest job goes; what may go goes; pruning again changes nothing."""
    rules = plan(dict.fromkeys(FINAL, keep), queues={"mail": dict.fromkeys(FINAL, own) if own else None})
    stay = left(rows, *rules)
    survivors = [row for row in rows if row.id in set(stay)]
    assert left(survivors, *rules) == stay
    for row in rows:
        limit = own if own and row.queue == "mail" else keep
        if row.state not in FINAL or limit.forever or (limit.age is not None and row.age <= limit.age):
            assert row.id in stay
    for state in FINAL:
        mine = [row for row in rows if (row.state, row.queue, row.name) == (state, "mail", "a")]
        if own and own.count is not None:
            newest = sorted(mine, key=lambda row: row.order, reverse=True)[: own.count]
            assert {row.id for row in newest} <= set(stay)
            if own.age is None:
                assert sum(row.id in stay for row in mine) == min(len(mine), own.count)
