"""In every phase, a worker stops within its grace and five seconds, and no job stays claimed."""

from __future__ import annotations

import signal
from typing import Any

import pytest
import trio
from tests.runtime.test_fencing import Trouble, scene
from tests.simulation.faulty import Fault
from trio.testing import MockClock

import jobrt
from jobrt import End, State, where
from jobrt.events import WorkerStopped


class Sleep(jobrt.Job):
    """Job that sleeps for some seconds."""

    seconds: float = 3600.0

    async def run(self, ctx: jobrt.Context) -> str:
        await trio.sleep(self.seconds)
        return "slept"


class Deaf(jobrt.Job):
    """Job that shields itself from cancellation for some seconds."""

    seconds: float

    async def run(self, ctx: jobrt.Context) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(self.seconds)


@pytest.mark.parametrize("phase", ["starting", "idle", "draining", "burst", "database away"])
@pytest.mark.parametrize("way", ["stop", "cancel"])
async def test_a_stop_is_bounded_in_every_phase(phase: str, way: str, autojump_clock: MockClock) -> None:
    """The bound is the grace and five seconds. With a database, no job stays claimed and no worker registered."""
    grace = 10.0 if way == "stop" else 0.0
    away = Trouble(frozenset({"exchange", "finish", "beat", "changes", "lead", "unregister"}), Fault.REFUSED)
    async with scene(away, [Sleep], queues={"default": 3}) as here:
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(here.app.run_worker)
            if phase in {"draining", "database away"}:
                await here.client.enqueue_many([Sleep() for _ in range(5)])
            if phase == "burst":
                await here.client.enqueue_many([Sleep(0.01) for _ in range(200)])
            if phase != "starting":
                await trio.sleep(1 if phase != "burst" else 0.05)
            away.on = phase == "database away"
            began = trio.current_time()
            if way == "stop":
                await worker.stop(grace=grace)
            else:
                nursery.cancel_scope.cancel()
        assert trio.current_time() - began <= grace + 5.01
        assert worker.stopped.is_set()
        if phase != "database away":
            assert await here.client.count(where.state("executing")) == 0
            assert await here.client.workers() == []


@pytest.mark.parametrize(
    "call", ["exchange", "finish", "save", "release_unknown", "unregister", "resign", "beat", "changes"]
)
async def test_a_storage_that_does_not_answer_does_not_hold_a_stop(
    call: str, autojump_clock: MockClock
) -> None:
    """A call that hangs is abandoned within the time limits of the stop."""

    class Chatty(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            ctx.progress(1, 2)
            await trio.sleep(2)
            ctx.progress(2, 2)

    silent = Trouble(frozenset({call}), Fault.SLOW, 1e6)
    async with scene(silent, [Chatty, Sleep], queues={"default": 3}) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        await here.client.enqueue(Sleep())
        await here.client.enqueue(Chatty())
        await trio.sleep(1)
        silent.on = True
        await here.client.enqueue(Chatty())
        await trio.sleep(2)
        began = trio.current_time()
        await worker.stop(grace=4)
        assert trio.current_time() - began <= 9.01


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.SLOW])
@pytest.mark.parametrize("call", ["finish", "release_unknown", "resign"])
async def test_whatever_step_of_signing_off_fails_the_others_are_taken(
    call: str, fault: Fault, autojump_clock: MockClock
) -> None:
    """The worker does not count as alive, its job is available immediately, and the event has the error."""
    trouble = Trouble(frozenset({call}), fault, 1e6)
    async with scene(trouble, [Sleep], queues={"default": 3, "mail": 1}) as here:
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(here.app.run_worker)
            await here.client.enqueue(Sleep())
            await trio.sleep(1)
            trouble.on = True
            began = trio.current_time()
            await worker.stop(grace=1)
        assert trio.current_time() - began <= 6.01
        assert await here.client.workers() == []
        assert await here.client.count(where.state("available")) == 1
    (stopped,) = [event for event in here.events if isinstance(event, WorkerStopped)]
    tried_again = call == "finish"  # until its time is over
    said = f"{call} is refused" if fault is Fault.REFUSED and not tried_again else "timed out after"
    assert said in stopped.error


async def test_a_fault_that_is_not_the_storages_travels_on_when_all_is_signed_off(
    autojump_clock: MockClock,
) -> None:
    """A bug in one step is raised, and does not keep the worker registered."""

    def buggy(name: str) -> None:
        if name == "release_unknown":
            raise LookupError(name)

    async with scene(buggy, [Sleep]) as here:
        with pytest.RaisesGroup(LookupError, flatten_subgroups=True):
            async with trio.open_nursery() as nursery:
                worker = await nursery.start(here.app.run_worker)
                worker.begin_stop()
        assert await here.client.workers() == []


async def test_outcomes_that_the_stop_brings_about_are_written_once(autojump_clock: MockClock) -> None:
    """Interrupted jobs become available, with an attempt that does not count. Jobs that ended are completed."""
    async with scene(lambda _: None, [Sleep], queues={"default": 4}) as here:
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(here.app.run_worker)
            handles = await here.client.enqueue_many([Sleep(5), Sleep(20), Sleep(5), Sleep(20), Sleep(5)])
            await trio.sleep(1)
            await worker.stop(grace=10)
        records = [await here.client.get(one.id) for one in handles]
    assert [one.state for one in records] == [State.COMPLETED, State.AVAILABLE] * 2 + [State.AVAILABLE]
    assert [[a.end for a in one.attempts] for one in records] == [
        [End.FINISHED],
        [End.INTERRUPTED],
        [End.FINISHED],
        [End.INTERRUPTED],
        [],
    ]
    assert [one.attempt for one in records] == [1, 0, 1, 0, 0]


async def test_a_worker_that_is_cancelled_while_it_starts_ends(autojump_clock: MockClock) -> None:
    """It ends even while its actors start, which is shielded. It does not stay registered."""
    async with scene(lambda _: None, [Sleep]) as here:
        with trio.fail_after(60), trio.CancelScope() as scope:
            here.app._storage.watch = lambda name, *_: scope.cancel() if name == "register" else None
            await here.app.run_worker()
        assert scope.cancelled_caught
        assert await here.client.workers() == []


async def test_stopping_twice_takes_the_shorter_grace(autojump_clock: MockClock) -> None:
    """A second call can only shorten the grace of the first. Both return when the worker has ended."""
    async with scene(lambda _: None, [Sleep]) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        await here.client.enqueue(Sleep())
        await trio.sleep(1)
        began = trio.current_time()
        async with trio.open_nursery() as stops:
            for grace in (100, 20, 50):
                stops.start_soon(lambda grace=grace: worker.stop(grace=grace))
        assert trio.current_time() - began == pytest.approx(20, abs=0.5)


async def test_cancelling_the_scope_around_it_ends_the_grace_of_a_stop(autojump_clock: MockClock) -> None:
    """Like a second signal, it turns the rest into a stop without grace."""
    async with scene(lambda _: None, [Sleep]) as here:
        handle = await here.client.enqueue(Sleep())
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(here.app.run_worker)
            await trio.sleep(1)
            worker.begin_stop(grace=1000)
            await trio.sleep(3)
            began = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began <= 5
        assert (await here.client.get(handle.id)).state is State.AVAILABLE


async def test_a_job_that_swallows_its_cancellation_and_returns_has_completed(
    autojump_clock: MockClock,
) -> None:
    """Its result counts: the work is done, and another run would do it twice."""

    class Thorough(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> Any:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)
            return "done all the same"

    async with scene(lambda _: None, [Thorough]) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        handle = await here.client.enqueue(Thorough())
        await trio.sleep(1)
        await worker.stop(grace=0)
        assert (await here.client.get(handle.id)).result == "done all the same"


async def test_a_deaf_job_holds_the_worker_open_and_the_heartbeat_with_it(autojump_clock: MockClock) -> None:
    """Trio cannot end the job. While it runs, no other worker runs it, even long after grace and lease."""
    async with scene(lambda _: None, [Deaf]) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        handle = await here.client.enqueue(Deaf(200))
        await trio.sleep(1)
        worker.begin_stop(grace=2)
        await trio.sleep(100)
        (row,) = await here.client.workers()
        assert row.alive
        assert (await here.client.get(handle.id)).state is State.EXECUTING
        await worker.stopped.wait()
        record = await here.client.get(handle.id)
    assert record.state is State.COMPLETED


async def test_a_process_about_to_exit_abandons_what_does_not_end(autojump_clock: MockClock) -> None:
    """The job is reported as interrupted, released and named, and the worker signs off."""
    async with scene(lambda _: None, [Deaf]) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        handle = await here.client.enqueue(Deaf(50))
        await trio.sleep(1)
        worker.begin_stop(grace=0)
        await trio.sleep(4)
        assert await worker.abandon() == [f"Deaf {handle.id}"]
        record = await here.client.get(handle.id)
        assert (record.state, [one.end for one in record.attempts]) == (State.AVAILABLE, [End.INTERRUPTED])
        assert await here.client.workers() == []
        await worker.stopped.wait()
        assert await here.client.get(handle.id) == record


async def test_a_process_about_to_exit_is_told_what_it_leaves_though_the_database_is_away(
    autojump_clock: MockClock,
) -> None:
    """The answer comes within the caller's time limit. No exception keeps the process from exiting."""
    away = Trouble(frozenset({"finish", "exchange", "release_unknown", "unregister"}), Fault.SLOW, 1e6)
    async with scene(away, [Deaf]) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        handle = await here.client.enqueue(Deaf(50))
        await trio.sleep(1)
        worker.begin_stop(grace=0)
        await trio.sleep(4)
        for away.fault in (Fault.SLOW, Fault.REFUSED):
            away.on = True
            with trio.fail_after(1):
                assert await worker.abandon() == [f"Deaf {handle.id}"]
        away.on = False


async def test_jobs_in_hand_of_a_stopped_worker_go_on_at_their_checkpoint_elsewhere(
    autojump_clock: MockClock,
) -> None:
    """They continue within a second, because the release wakes the next worker."""
    seen: list[tuple[str, Any]] = []

    class Resuming(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            seen.append((ctx.state, ctx.saved))
            for number in range(ctx.saved or 0, 10):
                await ctx.checkpoint(number + 1)
                await trio.sleep(1)

    async with scene(lambda _: None, [Resuming], state="first") as here, trio.open_nursery() as nursery:
        one = await nursery.start(here.app.run_worker)
        handle = await here.client.enqueue(Resuming())
        await trio.sleep(4.5)
        two = await nursery.start(type(here.app)(here.real, jobs=[Resuming], state="second").run_worker)
        await one.stop(grace=0)
        began = trio.current_time()
        while len(seen) < 2:
            await trio.sleep(0.05)
        assert trio.current_time() - began < 1
        assert (await handle.wait()).state is State.COMPLETED
        await two.stop()
    assert seen == [("first", None), ("second", 5)]


@pytest.mark.parametrize("moment", range(5))
async def test_a_stop_does_not_wait_for_the_next_try_of_a_claim(
    moment: int, autojump_clock: MockClock
) -> None:
    """During a long outage, a claim is repeated only every few seconds."""
    away = Trouble(frozenset({"exchange", "finish", "beat", "changes", "lead", "unregister"}), Fault.REFUSED)
    async with scene(away, [Sleep]) as here, trio.open_nursery() as nursery:
        worker: jobrt.Worker = await nursery.start(here.app.run_worker)
        await trio.sleep(1)
        away.on = True
        await trio.sleep(20 + moment)
        began = trio.current_time()
        await worker.stop(grace=10)
        assert trio.current_time() - began < 0.1


async def test_an_interrupt_while_the_worker_stops_ends_it(autojump_clock: MockClock) -> None:
    """The other actors release their jobs, and outcomes are written, although the tree has ended."""

    class Interrupted(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            await trio.sleep(3)
            signal.raise_signal(signal.SIGINT)

    async with scene(lambda _: None, [Sleep, Interrupted]) as here:
        await here.client.enqueue_many([Sleep(), Sleep(2.5), Interrupted()])
        with trio.fail_after(60), pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
            async with trio.open_nursery() as nursery:
                worker = await nursery.start(here.app.run_worker)
                await trio.sleep(1)
                worker.begin_stop(grace=10)
        assert await here.client.workers() == []
        records = await here.client.query()
    assert sorted(record.state for record in records) == ["available", "available", "completed"]


@pytest.mark.parametrize("running", [True, False])
async def test_waiting_for_an_idle_worker_ends_with_the_worker(
    running: bool, autojump_clock: MockClock
) -> None:
    """Any number of waits, begun at any time, end with it. They do not delay the stop."""
    queues = {"default": 1, "mail": 1}
    async with scene(lambda _: None, [Sleep], queues=queues) as here, trio.open_nursery() as nursery:
        worker: jobrt.Worker = await nursery.start(here.app.run_worker)
        if running:
            await here.client.enqueue(Sleep(30), queue="mail")
        await trio.sleep(1)
        nursery.start_soon(worker.wait_idle)
        await trio.sleep(1)
        with trio.fail_after(20):
            worker.begin_stop(grace=5)
            for _ in range(40):
                with trio.move_on_after(0.1):
                    await worker.wait_idle()
            await worker.stopped.wait()
            await worker.wait_idle()
