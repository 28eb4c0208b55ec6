"""Options for one job value, decided when it is enqueued."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobrt._core.unique import Unique
from jobrt._registry import JobWithOptions, new_job, new_jobs, registry_of
from jobrt._registry.options import UNSET, EnqueueOptions
from jobrt.errors import InvalidJob
from tests.registry.making import make_job, make_value

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def options_of(**options: Any) -> EnqueueOptions:
    """Return the options of a job called X."""
    with_options: JobWithOptions[Any] = make_value(make_job()).with_options(**options)
    return with_options.options


def test_options_are_checked_and_kept() -> None:
    """Each option is kept as the storage wants it."""
    unique = Unique()
    assert options_of(
        queue="slow",
        priority=-3,
        max_attempts=None,
        timeout=timedelta(seconds=1.5),
        schedule_in=90,
        tags=["a", "b", "a"],
        metadata={"b": (1, 2), "a": None},
        context="because",
        unique=unique,
    ) == EnqueueOptions(
        queue="slow",
        priority=-3,
        max_attempts=None,
        timeout=1.5,
        delay=timedelta(seconds=90),
        tags=("a", "b"),
        metadata={"b": (1, 2), "a": None},
        metadata_text='{"a":null,"b":[1,2]}',
        context="because",
        unique=unique,
    )
    assert options_of(schedule_at=NOW).schedule_at == NOW
    assert options_of(schedule_in=timedelta(0)).delay == timedelta(0)
    assert options_of(unique=None).unique is None


def test_what_is_not_given_is_the_classs_to_decide() -> None:
    """Without options nothing is set, and None is not the same as nothing where it has a meaning."""
    options = options_of()
    assert options == EnqueueOptions()
    assert options.max_attempts is UNSET
    assert options.unique is UNSET
    assert repr(options.queue) == "UNSET"
    assert options_of(timeout=None, schedule_at=None, schedule_in=None, context=None) == options


def test_later_options_win() -> None:
    """Options can be put over options: what is not given again stays."""
    first = make_value(make_job()).with_options(
        priority=3, tags=["a"], schedule_at=NOW, metadata={"a": 1}, max_attempts=None, unique=None
    )
    second = first.with_options(priority=0, schedule_in=5, metadata={})
    assert second.job is first.job
    assert second.options == EnqueueOptions(
        priority=0, tags=("a",), delay=timedelta(seconds=5), metadata={}, max_attempts=None, unique=None
    )
    assert second.with_options(schedule_at=NOW).options.delay is None
    assert second.with_options() == second


@pytest.mark.parametrize("options", [{}, {"unique": None}, {"unique": Unique(key=1)}])
@pytest.mark.parametrize(
    "constants", [{}, {"UNIQUE": Unique(), "VERSION": 2}, {"PRIORITY": 1, "QUEUE": "slow"}]
)
def test_jobs_with_plain_options_get_the_same_rows(
    constants: dict[str, Any], options: dict[str, Any]
) -> None:
    """Without other options than `unique` a row is made in a shorter way; with `context=None` in the long one."""
    value = make_value(make_job(**constants))
    registry = registry_of("jobs", [type(value)])
    short, long = value.with_options(**options), value.with_options(**options, context=None)
    assert short.options.plain
    assert not long.options.plain
    assert not long.with_options(**options).options.plain
    assert new_job(registry, short) == new_job(registry, long)
    for place in {"priority": 0, "place": None}, {"priority": 7, "place": NOW}:
        (row,) = new_jobs(registry, [short], **place)
        assert [row] == new_jobs(registry, [long], **place)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queue": ""}, "X: option queue is '': use a name"),
        ({"queue": None}, "X: option queue is None"),
        ({"priority": "high"}, "X: option priority is 'high': use an int"),
        ({"max_attempts": 0}, "X: option max_attempts is 0: use an int above zero, or None for no limit"),
        ({"timeout": 0}, "X: option timeout is 0: use seconds or a timedelta, above zero"),
        ({"timeout": lambda job: 3}, "X: option timeout is <function"),
        ({"schedule_at": datetime(2026, 1, 1)}, "use an aware datetime"),  # noqa: DTZ001
        ({"schedule_at": 5}, "X: option schedule_at is 5: use an aware datetime"),
        ({"schedule_in": -1}, "X: option schedule_in is -1: use seconds or a timedelta, at least zero"),
        ({"schedule_in": "1"}, "X: option schedule_in is '1'"),
        ({"schedule_in": 1e300}, "X: option schedule_in is 1e+300: use seconds or a timedelta, "),
        ({"schedule_in": 1, "schedule_at": NOW}, "X: use schedule_at or schedule_in, not both"),
        ({"tags": "urgent"}, "X: option tags is 'urgent': use a list of strings"),
        ({"tags": 3}, "X: option tags is 3: use a list of strings"),
        ({"tags": ["a", ""]}, "X: option tags is '': use a tag"),
        ({"metadata": [1]}, "X: option metadata is [1]: use a dict of plain JSON"),
        ({"metadata": {"a": {"b": {1}}}}, "X: option metadata['a']['b']: expected plain JSON"),
        ({"metadata": {"a": "\0"}}, "X: option metadata.a: expected text without NUL"),
        ({"metadata": {1: 2}}, "X: option metadata: expected a str as key, got int 1"),
        ({"context": 3}, "X: option context is 3: use a string that says why the job exists"),
        ({"context": "\ud800"}, "X: option context: expected text without lone surrogates"),
        ({"unique": True}, "X: option unique is True: use a jobrt.Unique"),
        ({"prio": 3}, "X: option prio is unknown: use queue, priority, max_attempts"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    """A wrong option is refused where it is given; the message names the job, the option and the remedy."""
    with pytest.raises(InvalidJob) as caught:
        options_of(**options)
    assert message in str(caught.value)
