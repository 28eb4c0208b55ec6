"""Outages of the database: nothing crashes, everything resumes, and every outcome is written once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio
from tests.runtime.test_fencing import Trouble, scene
from tests.simulation.faulty import Fault
from trio.testing import MockClock

import jobrt
from jobrt import End, State, where
from jobrt.events import ActorRestarted, JobEnded, NotifierDisconnected, StorageDown, StorageUp

pytestmark = pytest.mark.unmeasured

EVERYTHING = frozenset(
    {
        "exchange",
        "finish",
        "beat",
        "register",
        "changes",
        "lead",
        "rescue",
        "prune",
        "crons.all",
        "listen",
        "save",
        "release_unknown",
        "now",
        "resign",
        "tend",
        "unregister",
    }
)


class Work(jobrt.Job):
    """Job that takes some time."""

    seconds: float = 5.0

    async def run(self, ctx: jobrt.Context) -> str:
        if ctx.state is not None:
            ctx.state.append(ctx.job.id)
        await trio.sleep(self.seconds)
        return "done"


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.REPLY_LOST])
async def test_outcomes_wait_for_the_database_and_are_written_once(
    fault: Fault, autojump_clock: MockClock
) -> None:
    """After an outage shorter than the lease, jobs that ended meanwhile have run once, and no actor was restarted."""
    ran: list[int] = []
    away = Trouble(EVERYTHING, fault)
    async with scene(away, [Work], state=ran, queues={"default": 4}) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        handles = await here.client.enqueue_many([Work() for _ in range(12)])
        await trio.sleep(1)
        away.on = True
        await trio.sleep(15)
        away.on = False
        records = [await one.wait() for one in handles]
        await worker.stop()
    assert {one.state for one in records} == {State.COMPLETED}
    assert {one.attempt for one in records} == {1}
    assert Counter(ran).most_common(1)[0][1] == 1
    assert Counter(one.id for one in here.events if isinstance(one, JobEnded)).most_common(1)[0][1] == 1
    assert [one for one in here.events if isinstance(one, ActorRestarted)] == []


async def test_an_outage_of_an_hour_ends_in_work_within_seconds(autojump_clock: MockClock) -> None:
    """After an outage longer than the lease, the worker gives up its jobs, registers again, and runs them all."""
    away = Trouble(EVERYTHING, Fault.REFUSED)
    async with scene(away, [Work], queues={"default": 4}) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        handles = await here.client.enqueue_many([Work(100) for _ in range(4)])
        await trio.sleep(1)
        away.on = True
        calls = Counter[str]()
        trouble = here.app._storage.decide

        def count(name: str) -> Any:
            calls[name] += 1
            return trouble(name)

        here.app._storage.decide = count
        await trio.sleep(3600)
        assert max(calls.values()) < 3600, f"a busy loop: {calls}"
        away.on = False
        with trio.fail_after(10 + 100 + 30):
            records = [await one.wait() for one in handles]
        await worker.stop()
    assert {one.state for one in records} == {State.COMPLETED}
    assert [one for one in here.events if isinstance(one, ActorRestarted)] == []


async def test_an_outage_is_told_once_when_it_comes_and_once_when_it_goes(autojump_clock: MockClock) -> None:
    """It is reported once at its begin and once at its end, however many actors notice it and however often."""
    away = Trouble(EVERYTHING, Fault.REFUSED)
    async with scene(away, [Work]) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        await trio.sleep(1)
        away.on = True
        await trio.sleep(300)
        assert worker.info().outage
        away.on = False
        await trio.sleep(30)
        assert worker.info().outage is None
        await worker.stop()
    kinds = [type(one) for one in here.events if isinstance(one, StorageDown | StorageUp)]
    assert kinds == [StorageDown, StorageUp]


async def test_that_wake_ups_are_lost_is_told_once(autojump_clock: MockClock) -> None:
    """It is reported once, however often listening fails. Jobs are found by polling."""
    deaf = Trouble(frozenset({"listen"}), Fault.REFUSED, on=True)
    async with scene(deaf, [Work]) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        await trio.sleep(300)
        assert worker.info().disconnected
        assert (await (await here.client.enqueue(Work())).wait()).state is State.COMPLETED
        await worker.stop()
    assert len([one for one in here.events if isinstance(one, NotifierDisconnected)]) == 1


async def test_a_worker_that_begins_to_listen_is_not_disconnected(autojump_clock: MockClock) -> None:
    """Its first heartbeat comes before the connection for wake-ups is up, and is shown for ten seconds."""
    told: list[bool] = []

    def note(name: str) -> None:
        if name == "listen":
            told.append(here.app.workers[0].info().disconnected)

    async with scene(note, [Work]) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        await worker.stop()
    assert told == [False]


@pytest.mark.parametrize("call", sorted(EVERYTHING))
async def test_any_one_actor_may_be_without_database(call: str, autojump_clock: MockClock) -> None:
    """One kind of call fails for five minutes. Afterwards all jobs are done, and no actor was restarted."""
    away = Trouble(frozenset({call}), Fault.REFUSED)
    async with scene(away, [Work], queues={"default": 4}) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        await trio.sleep(1)
        away.on = True
        handles = await here.client.enqueue_many([Work() for _ in range(8)])
        await trio.sleep(300)
        away.on = False
        with trio.fail_after(120):
            records = [await one.wait() for one in handles]
        assert {one.state for one in records} == {State.COMPLETED}
        await worker.stop()
        assert await here.client.count(where.state("executing")) == 0
    assert [one for one in here.events if isinstance(one, ActorRestarted)] == []


async def test_a_worker_starts_when_the_database_comes(autojump_clock: MockClock) -> None:
    """It waits for the database, and can be cancelled while it waits."""
    away = Trouble(frozenset({"register"}), Fault.REFUSED, on=True)
    async with scene(away, [Work]) as here:
        with trio.move_on_after(100) as given_up:
            await here.app.run_worker()
        assert given_up.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.app.run_worker)
            await trio.sleep(60)
            away.on = False
            handle = await here.client.enqueue(Work())
            with trio.fail_after(30):
                record = await handle.wait()
            await here.app.worker.stop()
    assert [one.end for one in record.attempts] == [End.FINISHED]


async def test_a_worker_tells_that_its_claims_fail(autojump_clock: MockClock) -> None:
    """Its heartbeat carries the error of the last claim and since when claims fail, until a claim succeeds."""
    away = Trouble(frozenset({"exchange"}), Fault.REFUSED)
    async with scene(away, [Work]) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        await trio.sleep(1)
        assert worker.info().queues["default"].claim_error is None
        away.on = True
        await trio.sleep(60)
        told = worker.info().queues["default"]
        assert (told.claim_error or "").startswith("StorageUnavailable: ")
        assert 50 < told.claim_failing <= 60
        away.on = False
        await trio.sleep(30)
        assert worker.info().queues["default"].claim_error is None
        await worker.stop()
