"""Cancellation of a job with a reason, in every state; of two racing ends, exactly one is recorded."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.lowlevel
from tests.runtime.test_fencing import Trouble, scene
from tests.simulation.faulty import Fault
from trio.testing import MockClock

import jobrt
from jobrt import End, State, where
from jobrt.events import JobCancelPhase


class Sleep(jobrt.Job):
    """Job that sleeps, and stores why it was cancelled."""

    seconds: float = 3600.0

    async def run(self, ctx: jobrt.Context) -> str:
        try:
            await trio.sleep(self.seconds)
        finally:
            if ctx.state is not None:
                ctx.state.append(ctx.cancelled)
        return "slept"


@pytest.mark.parametrize("notified", [True, False], ids=["by a wake-up", "by polling"])
async def test_a_running_job_is_cancelled_within_a_second(notified: bool, autojump_clock: MockClock) -> None:
    """Immediately after a wake-up, otherwise at the next poll. The job and its record have the reason."""
    saw: list[Any] = []
    async with scene(lambda _: None, [Sleep], state=saw) as here, trio.open_nursery() as nursery:
        here.app._storage.lose_wake = lambda: not notified
        worker = await nursery.start(here.app.run_worker)
        handle = await here.client.enqueue(Sleep())
        while not worker.queues["default"].executors.running:
            await trio.sleep(0.1)
        began = trio.current_time()
        await here.client.cancel(handle.id, "changed my mind")
        record = await handle.wait()
        assert trio.current_time() - began <= (0.05 if notified else 1.1) + 0.05
        await worker.stop()
    assert saw == [(jobrt.Stop.OPERATOR, "changed my mind")]
    assert (record.state, record.cancel_reason) == (State.CANCELLED, "changed my mind")
    assert [(one.end, one.message) for one in record.attempts] == [(End.CANCELLED, "changed my mind")]


async def test_the_reasons_to_stop_are_told_apart(autojump_clock: MockClock) -> None:
    """Time limit, operator and shutdown are distinguished in `ctx` and in the attempt's record."""

    class Limited(Sleep):
        TIMEOUT = 5
        MAX_ATTEMPTS = 1

    saw: list[Any] = []
    async with scene(lambda _: None, [Sleep, Limited], state=saw) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        limited = await here.client.enqueue(Limited())
        await limited.wait()
        cancelled = await here.client.enqueue(Sleep())
        await trio.sleep(1)
        await here.client.cancel(cancelled.id, "no")
        await cancelled.wait()
        cut = await here.client.enqueue(Sleep())
        await trio.sleep(1)
        await worker.stop(grace=0)
        ends = [(await here.client.get(one.id)).attempts[0].end for one in (limited, cancelled, cut)]
    assert [one[0] for one in saw] == [jobrt.Stop.TIMEOUT, jobrt.Stop.OPERATOR, jobrt.Stop.SHUTDOWN]
    assert ends == [End.TIMED_OUT, End.CANCELLED, End.INTERRUPTED]


async def test_the_phases_of_a_cancellation_are_told(autojump_clock: MockClock) -> None:
    """A cancellation has the phases received, cleaning and stuck.

    It is received when the job's scope is cancelled, cleaning while the job continues, and stuck if the job does not
    end. An extra heartbeat makes each phase visible in the database within a second.
    """

    class Deaf(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep(20)
            await trio.lowlevel.checkpoint()

    async with scene(lambda _: None, [Deaf]) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        handle = await here.client.enqueue(Deaf())
        await trio.sleep(1)
        await here.client.cancel(handle.id, "no")
        assert (await here.client.get(handle.id)).cancel_reason == "no"
        phases_seen = []
        await trio.sleep(0.5)  # the worker looks once a second, and these looks are between its own
        for _ in range(10):
            (row,) = await here.client.workers()
            phases_seen.append(row.info.queues["default"].cancelling[handle.id])
            await trio.sleep(1)
        assert phases_seen == ["received", *["cleaning"] * 5, *["stuck"] * 4]
        await handle.wait()
        await worker.stop()
    phases = [one.phase for one in here.events if isinstance(one, JobCancelPhase)]
    assert phases == ["received", "cleaning", "stuck"]


async def test_a_job_that_completes_although_it_was_cancelled_has_completed(
    autojump_clock: MockClock,
) -> None:
    """Only one of the two ends is recorded: the state and the result, without a cancel reason."""

    class Late(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> str:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            return "done"

    async with scene(lambda _: None, [Late]) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        handle = await here.client.enqueue(Late())
        await trio.sleep(1)
        await here.client.cancel(handle.id, "too late")
        record = await handle.wait()
        await worker.stop()
    assert (record.state, record.result, record.cancel_reason) == (State.COMPLETED, "done", None)


@pytest.mark.parametrize("after", [0.0, 0.001, 0.002, 0.004, 0.005, 0.006])
async def test_a_cancellation_that_races_with_the_end_leaves_one_of_them(
    after: float, autojump_clock: MockClock
) -> None:
    """Before or after the outcome is written, the job is cancelled without a result, or completed with one."""
    async with scene(lambda _: None, [Sleep]) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        handle = await here.client.enqueue(Sleep(1))
        await trio.sleep(1 + after)
        await here.client.cancel(where.id_in([handle.id]), "no")
        record = await handle.wait()
        await worker.stop()
    whole = [(State.COMPLETED, "slept", None), (State.CANCELLED, None, "no")]
    assert (record.state, record.result, record.cancel_reason) in whole
    assert len(record.attempts) == 1


async def test_cancelling_works_while_the_queue_is_paused_and_every_slot_is_busy(
    autojump_clock: MockClock,
) -> None:
    """Cancel requests do not go through the fetchers."""
    async with scene(lambda _: None, [Sleep], queues={"default": 1}) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        busy, waiting = await here.client.enqueue_many([Sleep(), Sleep()])
        await trio.sleep(1)
        await here.client.pause("default")
        await here.client.cancel(waiting.id, "a")
        await here.client.cancel(busy.id, "b")
        with trio.fail_after(2):
            assert (await busy.wait()).cancel_reason == "b"
        assert (await waiting.wait()).attempts == ()
        await worker.stop()


async def test_a_claimed_job_that_nobody_has_begun_is_cancelled_without_being_run(
    autojump_clock: MockClock,
) -> None:
    """A worker holds claimed jobs that have not started. If one is cancelled, it ends without an attempt."""
    trouble = Trouble(frozenset({"exchange"}), Fault.ANSWERED_LATE, 2.0)
    async with scene(trouble, [Sleep]) as here, trio.open_nursery() as nursery:
        trouble.on = True
        worker = await nursery.start(here.app.run_worker)
        handle = await here.client.enqueue(Sleep(1))
        while (await here.client.get(handle.id)).state is not State.EXECUTING:
            await trio.sleep(0.1)
        await here.client.cancel(handle.id, "no")
        record = await handle.wait()
        await worker.stop()
    assert record.state is State.CANCELLED


@pytest.mark.parametrize("fault", [Fault.ANSWERED_LATE, Fault.REPLY_LOST])
async def test_a_parked_job_whose_claim_is_under_way_is_cancelled(
    fault: Fault, autojump_clock: MockClock
) -> None:
    """Its wait is over, and a claim has given it another lease. The request names that one, and finds the coroutine."""
    saw: list[Any] = []
    claims = Trouble(frozenset({"exchange"}), fault, 20.0)

    class Parked(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            try:
                await ctx.receive("word")
            finally:
                ctx.state.append(ctx.cancelled)

    async with scene(claims, [Parked], state=saw) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        handle = await here.client.enqueue(Parked())
        with trio.fail_after(600):
            while (await here.client.get(handle.id)).state is not State.SUSPENDED:
                await trio.sleep(0.1)
            claims.on = True
            await handle.send("word", "go")
            while (await here.client.get(handle.id)).state is not State.EXECUTING:
                await trio.sleep(0.1)
            claims.on = False
            await here.client.cancel(handle.id, "enough")
            record = await handle.wait()
            while not saw:
                await trio.sleep(0.1)
        await worker.stop()
    assert (record.state, record.cancel_reason) == (State.CANCELLED, "enough")
    assert saw == [(jobrt.Stop.OPERATOR, "enough")]


async def test_a_job_deleted_while_it_runs_is_gone_and_the_worker_goes_on(autojump_clock: MockClock) -> None:
    """Its outcome is refused, and the worker continues."""
    async with scene(lambda _: None, [Sleep]) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        gone = await here.client.enqueue(Sleep(2))
        await trio.sleep(1)
        assert await here.client.delete(gone.id) == 1
        await trio.sleep(5)
        assert worker.info().refused == 1
        assert await (await here.client.enqueue(Sleep(1))).result() == "slept"
        await worker.stop()


async def test_a_running_job_cannot_be_rerun(autojump_clock: MockClock) -> None:
    """The rerun is refused, and the job continues."""
    async with scene(lambda _: None, [Sleep]) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        handle = await here.client.enqueue(Sleep(2))
        await trio.sleep(1)
        with pytest.raises(jobrt.JobStateError):
            await here.client.rerun(handle.id)
        assert (await handle.wait()).attempt == 1
        await worker.stop()


async def test_cleaning_up_under_a_shield_is_waited_for(autojump_clock: MockClock) -> None:
    """The outcome is written when the clean-up has ended. The job holds its slot until then."""
    tidied: list[float] = []

    class Tidy(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.move_on_after(10, shield=True):
                    await trio.sleep(3)
                tidied.append(trio.current_time())

    async with (
        scene(lambda _: None, [Tidy, Sleep], queues={"default": 1}) as here,
        trio.open_nursery() as nursery,
    ):
        worker = await nursery.start(here.app.run_worker)
        handle = await here.client.enqueue(Tidy())
        after = await here.client.enqueue(Sleep(0))
        await trio.sleep(1)
        await here.client.cancel(handle.id, "no")
        assert (await handle.wait()).state is State.CANCELLED
        assert tidied
        assert (await after.wait()).started_at >= (await here.client.get(handle.id)).finished_at
        await worker.stop()
