"""Claiming ahead: two claims at load, what becomes of lost replies meanwhile, and what was too much."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from tests.runtime.test_fencing import Trouble, scene
from tests.simulation.faulty import AppOn, Fault, FaultyStorage
from trio.testing import MockClock

import jobrt
from jobrt import State, where
from jobrt._runtime import fetcher, ledger
from jobrt._storage.sqlite import open_sqlite

MANY = 60


class Quick(jobrt.Job):
    """Do nothing, or sleep."""

    seconds: float = 0.0

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.state.append(ctx.job.id)
        if self.seconds:
            await trio.sleep(self.seconds)


@attrs.define(eq=False)
class Claims:
    """Answer every claim late, and do to the chosen one what is to be done to it."""

    number: int = 0
    fault: Fault | None = None
    calls: int = 0
    under_way: int = 0
    most: int = 0
    hurry: bool = False
    seconds: float = 1.0

    def decide(self, name: str) -> tuple[Fault, float] | None:
        """Say what happens to the next call."""
        if name != "exchange" or self.hurry:
            return None
        self.calls += 1
        if self.calls == self.number and self.fault is not None:
            return self.fault, 5.0
        return Fault.ANSWERED_LATE, self.seconds


@attrs.define(eq=False)
class CountingStorage(FaultyStorage):
    """Count the claims that are under way."""

    claims: Claims = attrs.field(kw_only=True)

    async def _call(self, name: str, method: Any, /, *args: Any, **kwargs: Any) -> Any:
        if name != "exchange":
            return await super()._call(name, method, *args, **kwargs)
        self.claims.under_way += 1
        self.claims.most = max(self.claims.most, self.claims.under_way)
        try:
            return await super()._call(name, method, *args, **kwargs)
        finally:
            self.claims.under_way -= 1


@attrs.frozen
class Scene:
    """A worker that has ended everything, and what ran."""

    worker: jobrt.Worker
    client: jobrt.Client
    ran: list[int]


@asynccontextmanager
async def working(claims: Claims, *jobs: Quick, concurrency: int = 10) -> AsyncIterator[Scene]:
    """Run a worker on a storage whose claims are slow."""
    ran: list[int] = []
    async with open_sqlite(":memory:") as real:
        storage = CountingStorage(real, claims.decide, claims=claims)
        app = AppOn(storage, jobs=[Quick], queues={"default": concurrency}, state=ran)
        async with AppOn(real, jobs=[Quick]).open_client() as client, trio.open_nursery() as nursery:
            await client.enqueue_many(jobs)
            worker = await nursery.start(app.run_worker)
            yield Scene(worker, client, ran)
            await worker.stop(grace=0)


@pytest.fixture
def small_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten jobs are a large claim."""
    monkeypatch.setattr(fetcher, "LARGEST_CLAIM", 10)
    monkeypatch.setattr(ledger, "LARGEST_CLAIM", 10)


@pytest.mark.usefixtures("small_claims")
async def test_at_load_two_claims_are_under_way(autojump_clock: MockClock) -> None:
    """One is answered while the database works on the other; never more than two."""
    claims = Claims()
    async with working(claims, *[Quick()] * MANY) as here:
        await here.worker.wait_idle()
    assert claims.most == 2
    assert sorted(here.ran) == list(range(1, MANY + 1))


async def test_one_slot_prefetches_too(autojump_clock: MockClock) -> None:
    """What it finishes is counted from claim to claim, although it holds nothing when each is answered."""
    claims = Claims(seconds=0.003)
    async with working(claims, *[Quick()] * 200, concurrency=1) as here:
        await here.worker.wait_idle()
    assert len(here.ran) == 200
    assert claims.calls < 30


async def test_without_load_there_is_one_claim_at_a_time(autojump_clock: MockClock) -> None:
    """A second one would take jobs that others could run now."""
    claims = Claims()
    async with working(claims, *[Quick()] * MANY) as here:
        await here.worker.wait_idle()
    assert claims.most == 1


@pytest.mark.usefixtures("small_claims")
@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("fault", Fault)
async def test_whatever_becomes_of_one_of_two_claims_each_job_runs_once(
    fault: Fault, number: int, autojump_clock: MockClock
) -> None:
    """Jobs of a reply that was lost are given back, and those of the other claim are not."""
    claims = Claims(number, fault)
    async with working(claims, *[Quick()] * MANY) as here:
        await here.worker.wait_idle()
        assert await here.client.count(where.state(State.COMPLETED)) == MANY
        records = await here.client.query()
    assert claims.calls > number
    assert sorted(here.ran) == list(range(1, MANY + 1))
    assert {(one.attempt, len(one.attempts)) for one in records} == {(1, 1)}


@pytest.mark.usefixtures("small_claims")
async def test_a_stop_ends_both_claims(autojump_clock: MockClock) -> None:
    """However long they would take; what they may have claimed is given back."""
    claims = Claims()
    async with working(claims, *[Quick()] * MANY) as here:
        with trio.fail_after(60):
            while claims.under_way < 2:
                await trio.sleep(0.1)
        claims.hurry = True
        began = trio.current_time()
        await here.worker.stop(grace=0)
        assert trio.current_time() - began < 5.5
        assert await here.client.count(where.state(State.EXECUTING)) == 0


async def test_what_was_claimed_for_quick_jobs_is_given_back_when_slow_ones_follow(
    autojump_clock: MockClock,
) -> None:
    """Others may be free for it; what is wanted soon stays."""
    claims = Claims()
    async with working(claims, *[Quick()] * 10, *[Quick(0.7)] * 500) as here:
        with trio.fail_after(60):
            while len(here.ran) < 11:
                await trio.sleep(0.1)
        executors = here.worker.queues["default"].executors
        assert executors.statistics().waiting > 400
        await trio.sleep(4)
        assert executors.statistics().waiting < 10
        assert await here.client.count(where.state(State.EXECUTING)) < 30


async def test_claims_go_on_when_the_outcomes_that_stopped_them_are_written(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """At once, not at the next poll."""
    monkeypatch.setattr(ledger, "UNSETTLED_LIMIT", 3)
    away = Trouble(frozenset({"exchange", "finish"}), Fault.REFUSED)
    queues = {"default": jobrt.Queue(3, poll_interval=600)}
    async with scene(away, [Quick], state=[], queues=queues) as here, trio.open_nursery() as nursery:
        await here.client.enqueue_many([Quick(1.0) for _ in range(6)])
        worker: jobrt.Worker = await nursery.start(here.app.run_worker)
        await trio.sleep(0.5)
        away.on = True
        await trio.sleep(10)
        away.on = False
        await trio.sleep(10)
        assert await here.client.count(where.state(State.COMPLETED)) == 6
        await worker.stop()
