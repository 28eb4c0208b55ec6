"""When a worker is idle and `App.drain` returns: only after a claim that has seen every job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import tenacity
import trio
from tests.simulation.faulty import AppOn, Fault, FaultyStorage
from trio.testing import MockClock

import jobrt
from jobrt._storage.sqlite import open_sqlite


class Again(jobrt.Job):
    """Job that fails twice, and is due again immediately each time."""

    BACKOFF = tenacity.wait_none()

    async def run(self, ctx: jobrt.Context) -> int:
        if ctx.job.attempt < 3:
            raise OSError("not yet")
        return ctx.job.attempt


class Crossing:
    """Decider that delays every outcome, and starts a claim meanwhile whose reply takes even longer."""

    def __init__(self) -> None:
        self.app: Any = None

    def __call__(self, name: str) -> tuple[Fault, float] | None:
        if name == "finish":
            self.app.worker.queues["default"].wake.ring()  # as a notification would
            return Fault.SLOW, 1.0
        if name == "exchange":
            return Fault.ANSWERED_LATE, 3.0
        return None


@pytest.mark.parametrize("cross", [True, False])
async def test_a_look_that_was_under_way_does_not_make_a_worker_idle(
    cross: bool, autojump_clock: MockClock
) -> None:
    """A claim that began before an outcome was written cannot have seen the retry, so the worker claims again."""
    began = trio.current_time()

    def clock() -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=trio.current_time() - began)

    crossing = Crossing()
    async with open_sqlite(":memory:", clock=clock) as real:
        app = AppOn(FaultyStorage(real, crossing if cross else lambda _name: None), jobs=[Again])
        crossing.app = app
        async with AppOn(real, jobs=[Again]).open_client() as client:
            handle = await client.enqueue(Again())
            with trio.fail_after(300):
                await app.drain()
                assert await handle.result() == 3
