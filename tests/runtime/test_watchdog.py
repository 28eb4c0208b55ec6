"""The watchdog reports blocked event loops, jobs that ignore their cancellation, slow jobs, and stalled fetchers."""

from __future__ import annotations

import logging
import re
import threading

import pytest
import trio
from tests.runtime.test_fencing import Trouble, scene
from tests.simulation.faulty import Fault
from trio.testing import MockClock

import jobrt
from jobrt._runtime import watchdog
from jobrt.events import JobStuck, QueueStalled


class Quick(jobrt.Job):
    """Job that sleeps."""

    seconds: float = 1.0

    async def run(self, ctx: jobrt.Context) -> str:
        await trio.sleep(self.seconds)
        return "done"


class Deaf(jobrt.Job):
    """Job whose child task ignores the time limit for a while."""

    TIMEOUT = 2
    MAX_ATTEMPTS = 1

    async def run(self, ctx: jobrt.Context) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.a_child_that_does_not_listen)

    async def a_child_that_does_not_listen(self) -> None:
        """Shield from cancellation."""
        with trio.CancelScope(shield=True):
            await trio.sleep(30)


async def test_a_job_that_does_not_end_when_it_is_cancelled_is_named_with_its_stack(
    autojump_clock: MockClock,
) -> None:
    """It is reported once, after five seconds. The stack shows the child task, and the worker's row the source line."""
    async with scene(lambda _: None, [Deaf]) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        handle = await here.client.enqueue(Deaf())
        await trio.sleep(9)
        (stuck,) = [one for one in here.events if isinstance(one, JobStuck)]
        (row,) = await here.client.workers()
        assert row.info.queues["default"].stuck == (handle.id,)
        (notice,) = row.info.notices
        await handle.wait()
        await worker.stop()
    assert (stuck.id, stuck.name, stuck.why) == (handle.id, "Deaf", "uncancellable")
    assert "a_child_that_does_not_listen" in stuck.stack
    assert (notice.what, notice.job, notice.name) == ("uncancellable", handle.id, "Deaf")
    assert re.fullmatch(r"test_watchdog\.py:\d+ in a_child_that_does_not_listen", notice.at)
    assert len([one for one in here.events if isinstance(one, JobStuck)]) == 1


async def test_a_job_far_past_its_usual_time_is_named(autojump_clock: MockClock) -> None:
    """That is ten times the mean of earlier runs, and at least a minute.

    A job that is a little late is not reported.
    """
    async with scene(lambda _: None, [Quick]) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        for one in await here.client.enqueue_many([Quick(8) for _ in range(12)]):
            await one.wait()
        late, far = await here.client.enqueue_many([Quick(75), Quick(200)])
        await late.wait()
        assert [one for one in here.events if isinstance(one, JobStuck)] == []
        await far.wait()
        notices = worker.info().notices
        await trio.sleep(601)
        assert worker.info().notices == ()
        await worker.stop()
    (stuck,) = [one for one in here.events if isinstance(one, JobStuck)]
    assert (stuck.id, stuck.why) == (far.id, "slow")
    assert [(notice.what, notice.job) for notice in notices] == [("slow", far.id)]


async def test_a_claim_that_hangs_is_noticed_and_its_fetcher_restarted(autojump_clock: MockClock) -> None:
    """Jobs are due, slots are free, and no claim ends for several polls. After the restart the job runs."""
    trouble = Trouble(frozenset({"exchange"}), Fault.SLOW, 1e6)
    queues = {"default": jobrt.Queue(concurrency=5, poll_interval=1.0)}
    async with scene(trouble, [Quick], queues=queues) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        await trio.sleep(1)
        trouble.on = True
        handle = await here.client.enqueue(Quick())
        await trio.sleep(1)
        trouble.on = False
        with trio.fail_after(30):
            assert await handle.result() == "done"
        (notice,) = worker.info().notices
        await worker.stop()
    (stalled,) = [one for one in here.events if isinstance(one, QueueStalled)]
    assert (stalled.queue, stalled.due) == ("default", 1)
    assert (notice.what, notice.queue, notice.due) == ("stalled", "default", 1)


async def test_a_queue_that_waits_for_a_limit_is_not_taken_for_stalled(autojump_clock: MockClock) -> None:
    """Free slots that no job name may use are not a stall."""

    class Alone(Quick):
        MAX_CONCURRENCY = 1

    queues = {"default": jobrt.Queue(concurrency=5, poll_interval=1.0)}
    async with scene(lambda _: None, [Alone], queues=queues) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        handles = await here.client.enqueue_many([Alone(100) for _ in range(3)])
        for one in handles:
            await one.wait()
        await worker.stop()
    assert [one for one in here.events if isinstance(one, QueueStalled)] == []


@pytest.mark.slow
async def test_a_job_that_blocks_the_event_loop_is_named_while_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The watching thread logs job and stack immediately. The event follows when the loop runs again."""
    monkeypatch.setattr(watchdog, "_BLOCKED_AFTER", 1.0)
    said = threading.Event()

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "blocks the event loop" in record.getMessage():
                said.set()

    class Blocking(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> bool:
            return self.hold_everything_up()

        def hold_everything_up(self) -> bool:
            return said.wait(20)

    handler = Heard()
    logging.getLogger("jobrt").addHandler(handler)
    try:
        with trio.fail_after(30):
            async with scene(lambda _: None, [Blocking]) as here, trio.open_nursery() as nursery:
                worker = await nursery.start(here.app.run_worker)
                handle = await here.client.enqueue(Blocking())
                assert await handle.result() is True
                while not (found := [notice for notice in worker.info().notices if notice.job]):
                    await trio.sleep(0.01)
                await worker.stop()
    finally:
        logging.getLogger("jobrt").removeHandler(handler)
    # A busy machine may also block the loop; that report names no job.
    stuck, *_ = [one for one in here.events if isinstance(one, JobStuck) and one.id]
    assert (stuck.id, stuck.name, stuck.why) == (handle.id, "Blocking", "blocking")
    assert "hold_everything_up" in stuck.stack
    assert stuck.seconds >= 1.0
    notice, *_ = found
    assert (notice.what, notice.job) == ("blocking", handle.id)
    assert "in hold_everything_up" in notice.at


class Absorbed(jobrt.Job):
    """Hold a thread past the time limit, and look up nowhere."""

    TIMEOUT = 2
    MAX_ATTEMPTS = 1

    def run(self, ctx: jobrt.Context) -> None:
        self.in_deep_thought(ctx.state)

    def in_deep_thought(self, state: dict[str, threading.Event]) -> None:
        """Wait for the test."""
        state["began"].set()
        state["go"].wait(60)


async def test_a_thread_that_ignores_its_time_limit_is_named_with_its_own_stack(
    mock_clock: MockClock,
) -> None:
    """Five seconds after the limit; the stack is that of the thread, and not of the task that waits for it."""
    state = {"began": threading.Event(), "go": threading.Event()}
    async with scene(lambda _: None, [Absorbed], state=state) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        handle = await here.client.enqueue(Absorbed())
        while not state["began"].is_set():
            await trio.testing.wait_all_tasks_blocked(0.001)
            mock_clock.jump(0.01)
        for _ in range(10):
            mock_clock.jump(1)
            await trio.testing.wait_all_tasks_blocked()
        (stuck,) = [one for one in here.events if isinstance(one, JobStuck)]
        state["go"].set()
        mock_clock.autojump_threshold = 0.01
        await handle.wait()
        await worker.stop()
    assert (stuck.id, stuck.name, stuck.why) == (handle.id, "Absorbed", "uncancellable")
    assert "in_deep_thought" in stuck.stack
