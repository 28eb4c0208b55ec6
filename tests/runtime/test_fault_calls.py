"""Every kind of storage call by the runtime or by a job may fail or lose its reply, on both engines."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
import tenacity
import trio
from tests.runtime.test_transaction import execute
from tests.simulation.faulty import AppOn, Fault, FaultyStorage
from trio.testing import MockClock

import jobrt
from jobrt import End, State, where
from jobrt._storage.sqlite import open_sqlite
from jobrt.events import ActorRestarted, Event

pytestmark = pytest.mark.unmeasured

CALLS = [
    "await_final",
    "beat",
    "changes",
    "crons.fire",
    "crons.put",
    "crons.all",
    "exchange",
    "finish",
    "insert",
    "lead",
    "listen",
    "now",
    "prune",
    "register",
    "release_unknown",
    "rescue",
    "resign",
    "save",
    "save_step",
    "steps",
    "tend",
    "transaction",
]
"""All calls but `unregister`, which is not made after a lost reply to `resign`: the lease expires instead."""
LEASE = 3.0


class Stubborn(jobrt.Job):
    """Base class of jobs that are retried until they succeed."""

    MAX_ATTEMPTS = 20
    BACKOFF = tenacity.wait_fixed(0.1)


class Careful(Stubborn):
    """Job that reports progress, runs a step, saves a checkpoint, and runs long enough for a heartbeat."""

    async def run(self, ctx: jobrt.Context) -> Any:
        ctx.progress(1, 2)
        async with ctx.step("one") as step:
            if step.todo:
                step.value = 1
        await ctx.checkpoint({"at": 2})
        await trio.sleep(2.5)
        return step.value


class Again(Stubborn):
    """Job whose second attempt finds a step of the first."""

    async def run(self, ctx: jobrt.Context) -> Any:
        async with ctx.step("one") as step:
            if step.todo:
                step.value = 1
        if not any(one.end is End.FAILED for one in ctx.job.attempts):
            raise OSError("not yet")
        return step.value


class Exact(Stubborn):
    """Job that writes and completes in one transaction."""

    async def run(self, ctx: jobrt.Context) -> None:
        async with ctx.transaction(result=1) as conn:
            await execute(conn, "insert into written values (?)", ctx.job.id)


class Parent(Stubborn):
    """Job that enqueues a child and waits for its end."""

    async def run(self, ctx: jobrt.Context) -> Any:
        await (await ctx.enqueue(Child())).wait()
        return 1


class Child(Stubborn):
    """Job that succeeds."""

    async def run(self, ctx: jobrt.Context) -> int:
        return 1


class Tick(Stubborn):
    """Job that is enqueued by a cron entry."""

    async def run(self, ctx: jobrt.Context) -> int:
        return 1


@attrs.define(eq=False)
class First:
    """Decider of faults in the first calls of some names, one fault after the other."""

    names: frozenset[str]
    faults: tuple[Fault | None, ...]
    calls: Counter[str] = attrs.Factory(Counter)

    def __call__(self, name: str) -> tuple[Fault, float] | None:
        """Return the fault of the next call and its seconds, or None."""
        self.calls[name] += 1
        if name not in self.names or self.calls[name] > len(self.faults):
            return None
        fault = self.faults[self.calls[name] - 1]
        return None if fault is None else (fault, 1.0)


async def _make_table(storage: Any) -> None:
    """Create the table to which `Exact` writes."""

    class Make(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            async with ctx.transaction() as conn:
                await execute(conn, "create table written (id bigint)")

    app = AppOn(storage, jobs=[Make])
    async with app.open_client() as client:
        await client.enqueue(Make())
        await app.drain()


async def _run(real: Any, decide: First) -> list[Event]:
    """Run the jobs to their end while some calls have faults, check the guarantees, and return the events."""
    jobs = [Careful, Again, Exact, Parent, Child, Tick]
    keep = {"completed": jobrt.Keep(age=0, only=[Tick])}
    app = AppOn(FaultyStorage(real, decide), jobs=jobs, queues={"default": 4}, lease=LEASE, keep=keep)
    app.cron("* * * * * *", Tick())
    events: list[Event] = []
    app.events.subscribers = (events.append,)
    await _make_table(real)
    async with AppOn(real, jobs=jobs).open_client() as client, trio.open_nursery() as nursery:
        handles = await client.enqueue_many([Careful(), Again(), Exact(), Parent()])
        worker = await nursery.start(app.run_worker)
        records = [await one.wait() for one in handles]
        while not await client.count(where.name("Tick")) or decide.calls["beat"] < 3:
            await trio.sleep(0.1)
        await worker.stop()
        rows = await client.count(where.state("executing"))
        count = await _count(real)
    assert [(one.state, one.result) for one in records] == [(State.COMPLETED, 1)] * 4
    assert [Counter(a.end for a in one.attempts)[End.FINISHED] for one in records] == [1] * 4
    assert rows == 0
    assert count == 1
    return events


async def _count(real: Any) -> int:
    counts: list[int] = []

    class Count(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            async with ctx.transaction() as conn:
                counts.append((await execute(conn, "select count(*) from written"))[0])

    app = AppOn(real, jobs=[Count])
    async with app.open_client() as own:
        await own.enqueue(Count())
        await app.drain()
    return counts[0]


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
async def test_the_first_calls_of_each_kind_may_go_wrong(call: str, autojump_clock: MockClock) -> None:
    """The first or second call is refused, or its reply is lost or late.

    No job is lost or doubled, and no actor restarted.
    """
    faults: list[tuple[Fault | None, ...]] = [
        (one,) for one in (Fault.REFUSED, Fault.REPLY_LOST, Fault.ANSWERED_LATE)
    ]
    for spoilt in [*faults, (None, Fault.REPLY_LOST), (Fault.REPLY_LOST, Fault.REFUSED, Fault.REPLY_LOST)]:
        began = trio.current_time()

        def clock(began: float = began) -> datetime:
            return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=trio.current_time() - began)

        names = {call, "exchange"} if call == "release_unknown" else {call}
        decide = First(frozenset(names), spoilt)
        async with open_sqlite(":memory:", clock=clock) as real:
            with trio.fail_after(300):
                events = await _run(real, decide)
        assert [one for one in events if isinstance(one, ActorRestarted)] == [], spoilt
        assert decide.calls[call] > 0, f"the jobs make no call of {call}"


@pytest.mark.slow
async def test_all_of_them_may_go_wrong_in_one_run(database_url: str) -> None:
    """On each engine, the reply to the first call of each kind is lost, and the second call is refused."""
    decide = First(frozenset(CALLS), (Fault.REPLY_LOST, Fault.REFUSED))
    with trio.fail_after(60):
        async with jobrt.App(database_url, jobs=[], migrate=True).open_storage() as real:
            events = await _run(real, decide)
    assert [one for one in events if isinstance(one, ActorRestarted)] == []
    assert set(CALLS) - set(decide.calls) == set()
