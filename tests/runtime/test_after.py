"""Jobs that wait for others by mistake: none of them runs again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from tests.runtime.test_worker import working

import jobrt
from jobrt import State
from jobrt.testing import open_app

if TYPE_CHECKING:
    from trio.testing import MockClock


class Child(jobrt.Job):
    """Job to wait for."""

    async def run(self, ctx: jobrt.Context) -> None:
        """Do nothing."""


class Waiting(jobrt.Job):
    """Job that waits for the same jobs each time it runs; its own id is -1."""

    MAX_ATTEMPTS = 2
    BACKOFF = staticmethod(lambda _job: 0.0)

    ids: list[int]

    async def run(self, ctx: jobrt.Context) -> Any:
        ctx.state.append(trio.current_time())
        return jobrt.After([ctx.job.id if number == -1 else number for number in self.ids])


@pytest.mark.parametrize(
    ("ids", "message"),
    [([-1], "cannot wait for itself"), ([99], "none exists"), ([2**70, 98], "none exists")],
)
async def test_a_wait_that_could_never_end_fails(
    ids: list[int], message: str, autojump_clock: MockClock
) -> None:
    """A job that waits for itself, or for jobs that do not exist, fails with words and uses up attempts."""
    runs: list[float] = []
    async with open_app(jobs=[Waiting, Child], state=runs) as (app, jobs), working(app):
        record = await (await jobs.enqueue(Waiting(ids))).wait()
    assert record.state is State.DISCARDED
    assert [attempt.message is not None and message in attempt.message for attempt in record.attempts] == [
        True
    ] * 2
    assert len(runs) == 2


@pytest.mark.parametrize("more", [[], [99]])
async def test_a_wait_for_nothing_does_not_spin(more: list[int], autojump_clock: MockClock) -> None:
    """A job that returns `After` each time, for jobs that have ended, soon runs once a second. Deleted jobs count."""
    runs: list[float] = []
    async with open_app(jobs=[Waiting, Child], state=runs) as (app, jobs), working(app):
        child = await jobs.enqueue(Child())
        await child.wait()
        handle = await jobs.enqueue(Waiting([child.id, *more]))
        await trio.sleep(20)
        assert 15 < len(runs) < 30
        assert runs[2] - runs[0] < 0.5
        assert (await jobs.get(handle.id)).attempt <= 1
        await jobs.cancel(handle.id)


async def test_a_wait_for_no_jobs_does_not_spin_either(autojump_clock: MockClock) -> None:
    """Such as for the children of an empty list."""
    runs: list[float] = []
    async with open_app(jobs=[Waiting], state=runs) as (app, jobs), working(app):
        handle = await jobs.enqueue(Waiting([]))
        await trio.sleep(20)
        assert 15 < len(runs) < 30
        await jobs.cancel(handle.id)
