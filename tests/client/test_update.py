"""Changes that `Client.update` refuses, and options that a cron entry stores for its jobs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from trio.testing import MockClock

import jobrt
from jobrt import InvalidJob, where
from jobrt._registry.new_jobs import stored_options
from jobrt.testing import open_app
from tests.parity.jobs import Echo, Other


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "use at least one keyword"),
        ({"unique": jobrt.Unique()}, "uniqueness of a job cannot be changed"),
        ({"args": 3}, "use a Echo or a dict of its fields"),
        ({"args": Other(1)}, "use a Echo or a dict of its fields"),
        ({"priority": "high"}, "priority"),
    ],
)
async def test_changes_that_make_no_sense(
    changes: dict[str, Any], said: str, autojump_clock: MockClock
) -> None:
    """They are refused with the reason, and the job does not change."""
    async with open_app(jobs=[Echo, Other]) as (_, jobs):
        handle = await jobs.enqueue(Echo(1))
        before = await jobs.get(handle.id)
        with pytest.raises(InvalidJob, match=said):
            await jobs.update(handle.id, **changes)
        assert await jobs.get(handle.id) == before


async def test_payloads_are_changed_one_by_one(autojump_clock: MockClock) -> None:
    """A payload is replaced by a value or by fields. For many jobs this is refused, as their classes may differ."""
    async with open_app(jobs=[Echo]) as (_, jobs):
        handle = await jobs.enqueue(Echo(1))
        await jobs.update(handle.id, args=Echo(2), schedule_in=timedelta(hours=1), metadata={"by": "me"})
        record = await jobs.get(handle.id)
        assert (record.args, record.metadata, record.state) == ({"value": 2}, {"by": "me"}, "scheduled")
        with pytest.raises(InvalidJob, match="only be changed for a single job"):
            await jobs.update(where.everything(), args={"value": 3})


async def test_a_job_that_this_app_does_not_know_takes_any_payload(autojump_clock: MockClock) -> None:
    """This app cannot check the payload; the worker that runs the job will."""
    async with open_app(jobs=[]) as (_, jobs):
        handle = await jobs.enqueue(Echo(1))
        await jobs.update(handle.id, args={"other": [2]})
        assert (await jobs.get(handle.id)).args == {"other": [2]}


def test_a_cron_entry_takes_no_time_and_no_uniqueness() -> None:
    """The schedule decides when, and each tick already makes one job."""
    for options in ({"schedule_in": 5}, {"unique": jobrt.Unique()}):
        with pytest.raises(InvalidJob, match="takes no schedule_at, schedule_in, unique, deadline or expiry"):
            stored_options(Echo(1).with_options(**options))
    assert stored_options(Echo(1)) == {}
    kept = stored_options(Echo(1).with_options(tags=["a"], max_attempts=None, timeout=2))
    assert kept == {"tags": ["a"], "max_attempts": None, "timeout": 2.0}
