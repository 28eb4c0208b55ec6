"""Prefetching: two claims under load, lost replies to one of them, and the release of unneeded jobs."""

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
    """Job that does nothing, or sleeps."""

    seconds: float = 0.0

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.state.append(ctx.job.id)
        if self.seconds:
            await trio.sleep(self.seconds)


@attrs.define(eq=False)
class Claims:
    """Decider that delays the reply to every claim, and adds a fault to a chosen one."""

    number: int = 0
    fault: Fault | None = None
    calls: int = 0
    under_way: int = 0
    most: int = 0
    hurry: bool = False
    seconds: float = 1.0

    def decide(self, name: str) -> tuple[Fault, float] | None:
        """Return the fault of the next call and its seconds, or None."""
        if name != "exchange" or self.hurry:
            return None
        self.calls += 1
        if self.calls == self.number and self.fault is not None:
            return self.fault, 5.0
        return Fault.ANSWERED_LATE, self.seconds


@attrs.define(eq=False)
class CountingStorage(FaultyStorage):
    """Storage that counts the claims that are running."""

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
    """A worker that has finished all jobs, and the list of what ran."""

    worker: jobrt.Worker
    client: jobrt.Client
    ran: list[int]


@asynccontextmanager
async def working(claims: Claims, *jobs: Quick, concurrency: int = 10) -> AsyncIterator[Scene]:
    """Run a worker on a storage with slow claims."""
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
    """Make ten jobs a large claim."""
    monkeypatch.setattr(fetcher, "LARGEST_CLAIM", 10)
    monkeypatch.setattr(ledger, "LARGEST_CLAIM", 10)


@pytest.mark.usefixtures("small_claims")
async def test_at_load_two_claims_are_under_way(autojump_clock: MockClock) -> None:
    """The database works on one claim while the other's reply is processed. There are never more than two."""
    claims = Claims()
    async with working(claims, *[Quick()] * MANY) as here:
        await here.worker.wait_idle()
    assert claims.most == 2
    assert sorted(here.ran) == list(range(1, MANY + 1))


async def test_one_slot_prefetches_too(autojump_clock: MockClock) -> None:
    """The rate is measured from claim to claim, even if no job is held when a reply comes."""
    claims = Claims(seconds=0.003)
    async with working(claims, *[Quick()] * 200, concurrency=1) as here:
        await here.worker.wait_idle()
    assert len(here.ran) == 200
    assert claims.calls < 30


async def test_without_load_there_is_one_claim_at_a_time(autojump_clock: MockClock) -> None:
    """A second claim would take jobs that other workers could run now."""
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
    """The jobs of a lost reply are released. Those of the other claim are not."""
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
    """The claims are cancelled even if they would take long, and the jobs they may have claimed are released."""
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


async def test_claims_go_on_when_the_outcomes_that_stopped_them_are_written(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """They continue immediately, not at the next poll."""
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
