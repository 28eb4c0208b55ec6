"""`WakeSource.listen` and `Exchange.next_due`: who is woken, when, and who is not."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Literal

import attrs
import pytest
import trio

from jobrt._core import where
from jobrt._core.job import NewJob
from jobrt._core.states import Transition
from jobrt._storage.contract import Storage, Wake
from jobrt.errors import StorageUnavailable
from tests.conformance.build import add, complete, end, job, next_due, start
from tests.conformance.harness import PATIENCE, Engine

MINUTE = timedelta(minutes=1)


@attrs.define(eq=False)
class Ear:
    """A listener that records hints, and waits for them without polling."""

    heard: list[Wake] = attrs.field(factory=list)
    rang: trio.Event = attrs.field(factory=trio.Event)

    def deliver(self, wake: Wake) -> None:
        """Record a hint; the storage calls this."""
        self.heard.append(wake)
        self.rang.set()

    async def until(self, kind: Literal["jobs", "control", "finished"], queue: str | None = None) -> None:
        """Wait for a hint of this kind, about this queue or about any; forget all that came before."""
        with trio.fail_after(PATIENCE):
            while not any(one.kind == kind and one.queue in {queue, None} for one in self.heard):
                await self.rang.wait()
                self.rang = trio.Event()
        self.heard.clear()

    async def all_until(self, marker: str, storage: Storage) -> list[Wake]:
        """Enqueue a last job in a separate queue, and return the hints that came before its hint."""
        await storage.jobs.insert([job(queue=marker)])
        with trio.fail_after(PATIENCE):
            while not any(one.queue == marker for one in self.heard):
                await self.rang.wait()
                self.rang = trio.Event()
        heard = [one for one in self.heard if one.queue != marker]
        self.heard.clear()
        return heard


@asynccontextmanager
async def listening(storage: Storage) -> AsyncGenerator[Ear]:
    """Listen for as long as the block runs."""
    ear = Ear()
    async with trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE):
            await nursery.start(storage.wakes.listen, ear.deliver)
        yield ear
        nursery.cancel_scope.cancel()


@pytest.fixture
async def ear(storage: Storage) -> AsyncGenerator[Ear]:
    """A listener on the storage under test."""
    async with listening(storage) as ear:
        yield ear


async def test_a_new_job_wakes_its_queue(storage: Storage, ear: Ear) -> None:
    """The hint comes immediately and names the queue."""
    await storage.jobs.insert([job(queue="mail")])
    await ear.until("jobs", "mail")


async def test_a_new_job_wakes_other_processes(engine: Engine) -> None:
    """Every listener on the same database gets the hint."""
    async with engine.open() as other, listening(other) as ear:
        for _ in range(3):
            await engine.storage.jobs.insert([job(queue="mail")])
            await ear.until("jobs", "mail")


async def test_everybody_is_woken(engine: Engine) -> None:
    """Two listeners of one storage both get the hint."""
    async with listening(engine.storage) as first, listening(engine.storage) as second:
        await engine.storage.jobs.insert([job()])
        await first.until("jobs", "default")
        await second.until("jobs", "default")


async def test_a_batch_wakes_each_queue_once(storage: Storage, ear: Ear) -> None:
    """One hint per queue, not one per job."""
    await storage.jobs.insert([job(queue=f"q{n % 3}") for n in range(300)])
    heard = await ear.all_until("marker", storage)
    names = [one.queue for one in heard if one.kind == "jobs" and one.queue is not None]
    assert len(names) <= 3
    assert {"q0", "q1", "q2"} <= {*names} or Wake("jobs") in heard


async def test_a_duplicate_wakes_nobody_by_name(storage: Storage, ear: Ear) -> None:
    """A duplicate is not a new job."""
    from tests.conformance.test_unique import unique

    await storage.jobs.insert([unique(job(queue="a"))])
    await ear.all_until("first", storage)
    assert (await storage.jobs.insert([unique(job(queue="a"))]))[0].duplicate
    heard = await ear.all_until("second", storage)
    assert "a" not in {one.queue for one in heard}


async def test_a_caller_wakes_after_the_commit(engine: Engine, shareable: None) -> None:
    """The hint comes after the commit: the job can be read when it arrives."""
    async with engine.open() as other, listening(other) as ear, engine.caller() as caller:
        (inserted,) = await engine.storage.jobs.insert([job(queue="mail")], conn=caller.conn)
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert "mail" not in {one.queue for one in ear.heard}
        await caller.commit()
        await ear.until("jobs", "mail")
        assert await other.jobs.get(inserted.id) is not None


async def test_a_caller_that_rolls_back_wakes_nobody(engine: Engine, shareable: None) -> None:
    """Nothing was enqueued, so no hint is sent."""
    async with listening(engine.storage) as ear:
        async with engine.caller() as caller:
            await engine.storage.jobs.insert([job(queue="mail")], conn=caller.conn)
            await caller.rollback()
        heard = await ear.all_until("marker", engine.storage)
    assert "mail" not in {one.queue for one in heard}


async def test_jobs_due_again_at_once_wake_their_queue(storage: Storage, ear: Ear) -> None:
    """A job given back, or retried or snoozed without delay, can run now."""
    for event in (Transition.GIVE_BACK, Transition.RETRY, Transition.SNOOZE):
        claimed = await start(storage, job(queue="mail"))
        await ear.all_until(f"before {event}", storage)
        await storage.attempts.finish([end(claimed, event)])
        await ear.until("jobs", "mail")
        await storage.jobs.delete(where.everything())


async def test_rescued_and_rerun_jobs_wake_their_queue(storage: Storage, ear: Ear) -> None:
    """They are due immediately, and no other call would send a hint."""
    claimed = await start(storage, job(queue="mail"))
    await ear.all_until("first", storage)
    assert len(await storage.workers.rescue()) == 1
    await ear.until("jobs", "mail")
    await storage.jobs.cancel(where.id(claimed.id), "x")
    await ear.all_until("second", storage)
    await storage.jobs.rerun(where.id(claimed.id))
    await ear.until("jobs", "mail")


async def test_a_resumed_queue_is_woken(storage: Storage, ear: Ear) -> None:
    """All workers get a hint when settings change."""
    await storage.queues.set("mail", paused=True)
    await ear.until("control")
    await storage.queues.set("mail", paused=False)
    await ear.until("control")
    await storage.queues.set("mail", concurrency=3)
    await ear.until("control")


async def test_who_closes_at_once_has_told(engine: Engine) -> None:
    """A command that runs a job again or cancels one ends right after it: its hint is not lost."""
    final, running = await start(engine.storage), await start(engine.storage)
    await engine.storage.attempts.finish([end(final)])
    async with engine.open() as other, listening(other) as ear:
        await ear.all_until("before", other)
        async with engine.open() as closing:
            await closing.jobs.rerun(where.id(final.id))
        await ear.until("jobs", final.queue)
        async with engine.open() as closing:
            await closing.jobs.cancel(where.id(running.id), "no")
        await ear.until("control")


async def test_a_request_to_cancel_wakes(engine: Engine) -> None:
    """The worker that runs the job gets a hint, in whichever process it is."""
    claimed = await start(engine.storage)
    async with engine.open() as other, listening(other) as ear:
        await engine.storage.jobs.cancel(where.id(claimed.id), "enough")
        await ear.until("control")
        assert [one.ref.id for one in (await other.workers.changes("w1")).cancels] == [claimed.id]


@pytest.mark.parametrize(
    "event", [Transition.COMPLETE, Transition.DISCARD, Transition.CANCEL], ids=lambda event: event.value
)
async def test_an_awaited_job_wakes_when_it_is_final(engine: Engine, event: Transition) -> None:
    """A caller that awaits a job gets a hint when it ends."""
    claimed = await start(engine.storage)
    async with engine.open() as other, listening(other) as ear:
        assert await other.jobs.await_final([claimed.id]) == {claimed.id: "executing"}
        await engine.storage.attempts.finish([end(claimed, event)])
        await ear.until("finished")
        assert (await other.jobs.await_final([claimed.id]))[claimed.id] in {
            "completed",
            "discarded",
            "cancelled",
        }


async def test_an_awaited_job_that_is_cancelled_while_it_waits(storage: Storage, ear: Ear) -> None:
    """It is final without ever having run."""
    (id,) = await add(storage, job())
    assert await storage.jobs.await_final([id]) == {id: "available"}
    await storage.jobs.cancel(where.id(id), "enough")
    await ear.until("finished")


async def test_an_awaited_job_whose_worker_died_at_its_last_attempt(storage: Storage, ear: Ear) -> None:
    """The rescue ends the job and sends the hint."""
    claimed = await start(storage, job(max_attempts=1))
    await storage.jobs.await_final([claimed.id])
    assert [one.state for one in await storage.workers.rescue()] == ["discarded"]
    await ear.until("finished")


async def test_an_awaited_job_that_is_retried_first(storage: Storage, ear: Ear) -> None:
    """The request for a hint lasts over several attempts."""
    from tests.conformance.build import claim

    first = await start(storage)
    await storage.jobs.await_final([first.id])
    await storage.attempts.finish([end(first, Transition.RETRY)])
    await complete(storage, *await claim(storage))
    await ear.until("finished")


async def test_an_awaited_job_that_is_deleted(storage: Storage, ear: Ear) -> None:
    """A deleted job sends a hint, so no caller waits forever."""
    (id,) = await add(storage, job())
    await storage.jobs.await_final([id])
    await storage.jobs.delete(where.id(id))
    await ear.until("finished")
    assert await storage.jobs.await_final([id]) == {id: None}


async def test_a_cron_job_wakes_its_queue(storage: Storage, ear: Ear) -> None:
    """It is a new job like any other."""
    from jobrt._storage.contract import CronRow

    await storage.crons.put(CronRow(name="n", spec={}))
    await storage.crons.fire("n", await storage.schema.now(), job(queue="mail"))
    await ear.until("jobs", "mail")


async def test_who_stops_listening_is_not_called(storage: Storage) -> None:
    """After its cancellation nothing is delivered."""
    async with listening(storage) as first:
        await storage.jobs.insert([job()])
        await first.until("jobs", "default")
    async with listening(storage) as second:
        await storage.jobs.insert([job()])
        await second.until("jobs", "default")
    assert first.heard == []


async def test_a_listener_that_went_deaf_says_so(engine: Engine) -> None:
    """When its connection is cut `listen` raises; called again, it works."""
    if engine.name != "postgres":
        pytest.skip("a file cannot be cut off")
    with trio.fail_after(PATIENCE):
        with pytest.RaisesGroup(StorageUnavailable):
            async with trio.open_nursery() as nursery:
                await nursery.start(engine.storage.wakes.listen, lambda _wake: None)
                await engine.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid()"
                )
    async with listening(engine.storage) as ear:
        await _insert_patiently(engine.storage, job(queue="mail"))
        await ear.until("jobs", "mail")


async def _insert_patiently(storage: Storage, new: NewJob) -> None:
    """Insert although the pool may still hold closed connections."""
    for _ in range(20):
        try:
            await storage.jobs.insert([new])
        except StorageUnavailable:
            continue
        return


# ------------------------------------------------------------------ next_due


async def test_next_due_tells_the_seconds_to_each_queues_first_job(storage: Storage) -> None:
    """Of waiting jobs due in the future; queues without any, and queues not asked for, are left out."""
    await add(
        storage,
        job(queue="a", delay=2 * MINUTE),
        job(queue="a", delay=10 * MINUTE, priority=9),
        job(queue="b"),
        job(queue="c", delay=MINUTE),
        job(queue="d", delay=MINUTE),
    )
    due = await next_due(storage, "a", "b", "c", "nothing")
    assert sorted(due) == ["a", "c"]
    assert due["a"] == pytest.approx(120, abs=50)
    assert due["c"] == pytest.approx(60, abs=50)


async def test_next_due_looks_past_what_is_due(engine: Engine) -> None:
    """Jobs due already do not hide the first that is not."""
    storage = engine.storage
    await add(storage, job(), job(delay=MINUTE), job(delay=10 * MINUTE))
    await engine.advance(61)
    assert (await next_due(storage, "default"))["default"] == pytest.approx(540, abs=50)


async def test_next_due_counts_retries_and_snoozes(storage: Storage) -> None:
    """Scheduled and retryable jobs both count."""
    for event, queue in ((Transition.RETRY, "a"), (Transition.SNOOZE, "b")):
        claimed = await start(storage, job(queue=queue))
        await storage.attempts.finish([end(claimed, event, delay=600.0)])
    due = await next_due(storage, "a", "b")
    assert [round(due[queue] / 100) for queue in ("a", "b")] == [6, 6]


async def test_next_due_counts_neither_running_nor_final_jobs(storage: Storage) -> None:
    """They do not count for the next due time."""
    (id,) = await add(storage, job(delay=MINUTE))
    await storage.jobs.cancel(where.id(id), "enough")
    await start(storage)
    assert await next_due(storage, "default") == {}
