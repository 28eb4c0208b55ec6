"""A worker that cannot renew its lease gives up its jobs in time, and continues under a new id."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
import trio.lowlevel
from tests.simulation.faulty import AppOn, Fault, FaultyStorage
from trio.testing import MockClock

import jobrt
from jobrt import End, State
from jobrt._core.job import JobRef
from jobrt._storage.sqlite import open_sqlite
from jobrt.events import ActorRestarted, Event, OutcomeRefused, WorkerFenced

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LEASE = 30.0


@attrs.define(eq=False)
class Trouble:
    """Decider of a fault in all calls of some names while it is on."""

    names: frozenset[str]
    fault: Fault
    seconds: float = 0.0
    on: bool = False

    def __call__(self, name: str) -> tuple[Fault, float] | None:
        """Return the fault of the next call and its seconds, or None."""
        return (self.fault, self.seconds) if self.on and name in self.names else None


@attrs.define(eq=False)
class Scene:
    """An app whose worker has a faulty storage, and a client whose storage has no faults."""

    app: AppOn
    client: Any
    real: Any
    events: list[Event]


@asynccontextmanager
async def scene(trouble: Any, jobs: list[Any], **settings: Any) -> AsyncIterator[Scene]:
    """Open an app and a client on one in-memory database."""
    began = trio.current_time()

    def clock() -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=trio.current_time() - began)

    events: list[Event] = []
    async with open_sqlite(":memory:", clock=clock) as real:
        app = AppOn(FaultyStorage(real, trouble), jobs=jobs, **{"lease": LEASE, **settings})
        app.events.subscribers = (events.append,)
        async with AppOn(real, jobs=jobs, **settings).open_client() as client:
            yield Scene(app, client, real, events)


class Long(jobrt.Job):
    """Job that sleeps, and records its begin and end."""

    seconds: float

    async def run(self, ctx: jobrt.Context) -> str:
        log: list[Any] = ctx.state
        log.append(("began", trio.current_time()))
        try:
            await trio.sleep(self.seconds)
        finally:
            log.append((ctx.cancelled, trio.current_time()))
        return "done"


@pytest.mark.parametrize(
    ("fault", "seconds"), [(Fault.REFUSED, 0.0), (Fault.SLOW, 1e6), (Fault.ANSWERED_LATE, 1e6)]
)
async def test_a_worker_whose_heartbeats_fail_fences_itself_before_others_take_over(
    autojump_clock: MockClock, fault: Fault, seconds: float
) -> None:
    """If heartbeats fail, hang or get no reply, the job is cancelled at the end of the lease.

    The worker then registers again.
    """
    trouble = Trouble(frozenset({"beat"}), fault, seconds)
    log: list[Any] = []
    async with scene(trouble, [Long], state=log) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        first = worker.id
        handle = await here.client.enqueue(Long(60))
        await trio.sleep(12)  # one beat was answered, at 10 s
        trouble.on = True
        await trio.sleep(30)
        assert log[1][0] is not None
        assert log[1][0][0] is jobrt.Stop.LEASE_LOST
        assert log[1][1] <= 10 + LEASE, "later than others may take the job"
        trouble.on = False
        record = await handle.wait()
        assert worker.id != first
        await worker.stop()
    assert record.state is State.COMPLETED
    assert [one.end for one in record.attempts][-1] is End.FINISHED
    assert len([one for one in here.events if isinstance(one, WorkerFenced)]) == 1


async def test_jobs_that_nobody_has_begun_use_up_no_attempt(autojump_clock: MockClock) -> None:
    """Claimed jobs that are given up with the lease lose no attempt, unless a rescue comes first."""
    trouble = Trouble(frozenset({"beat", "rescue", "exchange", "finish"}), Fault.REFUSED)
    queues = {"default": jobrt.Queue(2, poll_interval=3600)}
    async with scene(trouble, [Long], state=[], queues=queues) as here, trio.open_nursery() as nursery:
        quick = [Long(0.001 + 0.0001 * (n % 7)) for n in range(200)]
        await here.client.enqueue_many([*quick, Long(600), Long(600), *quick[:10]])
        worker = await nursery.start(here.app.run_worker)
        executors = worker.queues["default"].executors
        while not (len(executors.running) == 2 and all(one.job.id > 200 for one in executors.running)):
            await trio.sleep(0.001)
        ahead = [job.id for job in executors._inbox]
        assert ahead, "the worker holds no unstarted job"
        trouble.on = True  # what is released now cannot be written
        await trio.sleep(LEASE + 10)
        trouble.on = False
        await trio.sleep(10)
        records = [await here.client.get(one) for one in ahead]
        assert [one.attempts for one in records] == [()] * len(ahead)
        assert {one.attempt for one in records} == {0}
        await worker.stop(grace=0)


async def test_while_it_cannot_register_again_it_claims_nothing(autojump_clock: MockClock) -> None:
    """Jobs claimed under an unknown id would be rescued immediately, and run twice at a time."""
    trouble = Trouble(frozenset({"beat", "register"}), Fault.REFUSED)
    log: list[Any] = []
    async with scene(trouble, [Long], state=log) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        trouble.on = True
        await trio.sleep(LEASE + 1)
        handle = await here.client.enqueue(Long(1))
        await trio.sleep(100)
        assert log == []
        trouble.on = False
        with trio.fail_after(10):
            await handle.wait()
        await worker.stop()


async def test_a_stale_outcome_is_refused_and_the_row_unchanged(autojump_clock: MockClock) -> None:
    """A job that is shielded when its lease is lost cannot change what another worker has written."""

    class Stubborn(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> str:
            if len(ctx.job.attempts):
                return "second"
            with trio.CancelScope(shield=True):
                await trio.sleep(200)
            return "first"

    trouble = Trouble(frozenset({"beat", "register"}), Fault.REFUSED)
    async with scene(trouble, [Stubborn]) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        handle = await here.client.enqueue(Stubborn())
        await trio.sleep(1)
        trouble.on = True
        other = AppOn(here.real, jobs=[Stubborn])
        second = await nursery.start(other.run_worker)
        assert (await handle.wait()).result == "second"
        before = await here.client.get(handle.id)
        trouble.on = False
        await trio.sleep(200)
        assert [type(one) for one in here.events if isinstance(one, OutcomeRefused)] == [OutcomeRefused]
        assert await here.client.get(handle.id) == before
        await worker.stop()
        await second.stop()
    assert [one.end for one in before.attempts] == [End.CRASHED, End.FINISHED]


async def test_a_job_claimed_again_while_its_old_attempt_cleans_up_harms_nobody(
    autojump_clock: MockClock,
) -> None:
    """A worker may hold two attempts of a job, of which the older has lost its lease. Each is counted separately."""
    ends: list[str] = []

    class Tidy(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> str:
            first = not ctx.job.attempts
            try:
                await trio.sleep(1000 if first else 100)
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(50 if first else 0)
                ends.append("old" if first else "new")
            return "done"

    trouble = Trouble(frozenset({"beat"}), Fault.REFUSED)
    async with scene(trouble, [Tidy]) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        handle = await here.client.enqueue(Tidy())
        await trio.sleep(1)
        trouble.on = True
        await trio.sleep(LEASE)
        trouble.on = False
        record = await handle.wait()
        assert ends == ["old", "new"]
        assert not worker.queues["default"].executors.running
        assert worker.statistics().to_dict()
        await worker.stop()
    assert record.state is State.COMPLETED
    assert [one for one in here.events if type(one).__name__ == "ActorRestarted"] == []


@pytest.mark.parametrize("lease", [LEASE, 1, 0.1])
async def test_a_job_ten_times_longer_than_the_lease_runs_once(
    autojump_clock: MockClock, lease: float
) -> None:
    """A live worker keeps its job, even if another worker rescues the jobs of dead workers."""
    log: list[Any] = []
    async with scene(lambda _: None, [Long], state=log, lease=lease) as here, trio.open_nursery() as nursery:
        one = await nursery.start(here.app.run_worker)
        two = await nursery.start(AppOn(here.real, jobs=[Long], state=log).run_worker)
        handle = await here.client.enqueue(Long(10 * lease))
        record = await handle.wait()
        await one.stop()
        await two.stop()
    assert [end.end for end in record.attempts] == [End.FINISHED]
    assert len(log) == 2
    assert [event for event in here.events if isinstance(event, ActorRestarted | WorkerFenced)] == []


async def test_a_drain_that_outlasts_the_lease_keeps_the_job(autojump_clock: MockClock) -> None:
    """The heartbeat is the last actor to stop."""
    log: list[Any] = []
    async with scene(lambda _: None, [Long], state=log) as here, trio.open_nursery() as nursery:
        one = await nursery.start(here.app.run_worker)
        handle = await here.client.enqueue(Long(5 * LEASE))
        await trio.sleep(1)
        two = await nursery.start(AppOn(here.real, jobs=[Long], state=log).run_worker)
        await one.stop(grace=6 * LEASE)
        record = await here.client.get(handle.id)
        await two.stop()
    assert (record.state, len(log)) == (State.COMPLETED, 2)


async def test_a_claim_that_commits_as_its_caller_is_cancelled_is_given_back(
    autojump_clock: MockClock,
) -> None:
    """The fetcher that is then restarted has unknown jobs released, so the job runs once and soon."""
    log: list[Any] = []
    trouble = Trouble(frozenset({"exchange"}), Fault.CANCELLED_AFTER)
    async with scene(trouble, [Long], state=log) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        await trio.sleep(1)
        trouble.on = True
        handle = await here.client.enqueue(Long(0))
        while not (await here.client.get(handle.id)).attempt:
            await trio.lowlevel.checkpoint()
        trouble.on = False
        with trio.fail_after(10):
            record = await handle.wait()
        await worker.stop()
    assert [one.end for one in record.attempts] == [End.FINISHED]
    assert record.attempt == 1


async def test_every_write_about_an_attempt_is_refused_after_the_lease_is_lost(
    autojump_clock: MockClock,
) -> None:
    """Checkpoint, step and transaction raise `LeaseLost` and store nothing. The attempt ends as ``lease_lost``."""
    raised: list[str] = []

    class Writer(jobrt.Job):
        way: str

        async def run(self, ctx: jobrt.Context) -> None:
            await ctx.client.delete(ctx.job.id)
            try:
                match self.way:
                    case "checkpoint":
                        await ctx.checkpoint(1)
                    case "step":
                        async with ctx.step("one") as step:
                            step.value = 1
                    case _:
                        async with ctx.transaction():
                            raise AssertionError("must not be entered")
            except jobrt.LeaseLost:
                raised.append(self.way)
                raise

    async with scene(lambda _: None, [Writer]) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        ways = ["checkpoint", "step", "transaction"]
        await here.client.enqueue_many([Writer(way) for way in ways])
        await trio.sleep(5)
        assert sorted(raised) == ways
        assert await here.client.query() == []
        assert not await here.real.attempts.save(JobRef(1, 1), saved="1")
        assert not worker.queues["default"].fetcher.ledger.held
        await worker.stop()
    assert len([one for one in here.events if isinstance(one, OutcomeRefused)]) == 3
