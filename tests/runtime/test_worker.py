"""Jobs in a worker, from enqueueing to the record: in memory, under virtual time."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import tenacity
import trio
from trio.testing import MockClock

import jobrt
from jobrt import End, State, where
from jobrt.testing import drain, open_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def working(app: jobrt.App) -> AsyncIterator[jobrt.Worker]:
    """Run a worker during a block."""
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.run_worker)
        yield worker
        await worker.stop()


class Echo(jobrt.Job):
    """Job that returns its argument."""

    value: Any

    async def run(self, ctx: jobrt.Context) -> Any:
        return self.value


class Fail(jobrt.Job):
    """Job that fails the given number of times, and then succeeds."""

    times: int = 10**9

    async def run(self, ctx: jobrt.Context) -> str:
        if ctx.job.attempt <= self.times:
            raise LookupError(f"attempt {ctx.job.attempt}")
        return "at last"


class Sleep(jobrt.Job):
    """Job that sleeps for some seconds."""

    seconds: float = 3600.0

    async def run(self, ctx: jobrt.Context) -> str:
        await trio.sleep(self.seconds)
        return "slept"


async def test_a_job_runs_and_its_result_is_kept(autojump_clock: MockClock) -> None:
    """Every job is enqueued, claimed, run, completed and can be read."""
    async with open_app(jobs=[Echo]) as (app, jobs):
        handle = await jobs.enqueue(Echo({"a": [1, 2.5, None]}), tags=["t"], context="why not")
        assert await drain(app) == Counter(completed=1)
        assert await handle.result() == {"a": [1, 2.5, None]}
        record = await jobs.get(handle.id)
    assert (record.state, record.attempt, record.tags, record.context) == (
        State.COMPLETED,
        1,
        ("t",),
        "why not",
    )
    (only,) = record.attempts
    assert (only.number, only.end, only.error_type) == (1, End.FINISHED, None)


async def test_a_failed_attempt_is_retried_after_its_backoff(autojump_clock: MockClock) -> None:
    """Each failure is recorded. The next attempt starts when the backoff is over, and not before."""
    started: list[float] = []

    class Flaky(jobrt.Job):
        BACKOFF = tenacity.wait_fixed(60)

        async def run(self, ctx: jobrt.Context) -> str:
            started.append(trio.current_time())
            if len(started) < 3:
                raise OSError("not yet")
            return "ok"

    async with open_app(jobs=[Flaky]) as (app, jobs), working(app):
        handle = await jobs.enqueue(Flaky())
        assert await handle.result() == "ok"
        record = await jobs.get(handle.id)
    gaps = [b - a for a, b in pairwise(started)]
    assert gaps == pytest.approx([60, 60], abs=0.1)
    assert [one.end for one in record.attempts] == [End.FAILED, End.FAILED, End.FINISHED]
    assert record.attempts[0].message == "not yet"
    assert "OSError" in (record.attempts[0].traceback or "")


async def test_a_job_without_attempts_left_is_discarded_and_keeps_every_error(
    autojump_clock: MockClock,
) -> None:
    """The record has the payload and all errors. `result` raises with the last one."""
    async with open_app(jobs=[Fail]) as (app, jobs), working(app):
        handle = await jobs.enqueue(Fail(), max_attempts=3)
        with pytest.raises(jobrt.JobFailed, match="attempt 3") as raised:
            await handle.result()
    assert [one.message for one in raised.value.record.attempts] == ["attempt 1", "attempt 2", "attempt 3"]
    assert raised.value.record.state is State.DISCARDED


async def test_max_attempts_none_retries_for_ever(autojump_clock: MockClock) -> None:
    """A job without a limit is still retried after more failures than the default allows."""
    async with open_app(jobs=[Fail]) as (app, jobs), working(app):
        handle = await jobs.enqueue(Fail(7), max_attempts=None)
        assert await handle.result() == "at last"


async def test_a_job_that_outlives_its_timeout_is_cancelled_and_the_attempt_timed_out(
    autojump_clock: MockClock,
) -> None:
    """The scope is cancelled at the deadline, so two attempts never run at a time."""
    alive = 0

    class Slow(jobrt.Job):
        TIMEOUT = 5
        MAX_ATTEMPTS = 2

        async def run(self, ctx: jobrt.Context) -> None:
            nonlocal alive
            alive += 1
            assert alive == 1
            try:
                await trio.sleep_forever()
            finally:
                alive -= 1

    async with open_app(jobs=[Slow]) as (app, jobs), working(app):
        record = await (await jobs.enqueue(Slow())).wait()
    assert [one.end for one in record.attempts] == [End.TIMED_OUT, End.TIMED_OUT]
    assert "5 s" in (record.attempts[0].message or "")


async def test_the_timeout_of_one_enqueue_wins_over_the_class(autojump_clock: MockClock) -> None:
    """`timeout=` of `enqueue` replaces the TIMEOUT of the class."""
    async with open_app(jobs=[Sleep]) as (app, jobs), working(app):
        record = await (await jobs.enqueue(Sleep(), timeout=timedelta(seconds=2), max_attempts=1)).wait()
    assert record.attempts[0].end is End.TIMED_OUT


async def test_retry_says_no_and_the_job_is_discarded_at_once(autojump_clock: MockClock) -> None:
    """RETRY may be any tenacity predicate of the exception."""

    class Picky(jobrt.Job):
        RETRY = tenacity.retry_if_not_exception_type(LookupError)

        async def run(self, ctx: jobrt.Context) -> None:
            raise LookupError("gone for good")

    async with open_app(jobs=[Picky]) as (app, jobs):
        handle = await jobs.enqueue(Picky())
        assert await drain(app) == Counter(discarded=1)
        with pytest.raises(jobrt.JobDiscarded, match="gone for good"):
            await handle.result()


@pytest.mark.parametrize(
    ("returned", "state"),
    [(jobrt.Cancel("no need"), State.CANCELLED), (jobrt.Discard("hopeless"), State.DISCARDED)],
)
async def test_a_job_may_end_itself(autojump_clock: MockClock, returned: Any, state: State) -> None:
    """`run` may return `Cancel` and `Discard`, with a reason that is stored."""

    class Decide(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> Any:
            return returned

    async with open_app(jobs=[Decide]) as (app, jobs):
        handle = await jobs.enqueue(Decide())
        await drain(app)
        record = await jobs.get(handle.id)
    assert record.state is state
    assert record.attempts[0].message == returned.reason


async def test_a_snoozed_job_runs_again_later_and_uses_up_no_attempt(autojump_clock: MockClock) -> None:
    """A job with a single attempt can snooze any number of times."""
    runs: list[float] = []

    class Poll(jobrt.Job):
        MAX_ATTEMPTS = 1

        async def run(self, ctx: jobrt.Context) -> Any:
            runs.append(trio.current_time())
            return jobrt.Snooze(30) if len(runs) < 4 else "done"

    async with open_app(jobs=[Poll]) as (app, jobs), working(app):
        handle = await jobs.enqueue(Poll())
        assert await handle.result() == "done"
        record = await jobs.get(handle.id)
    assert runs[-1] - runs[0] == pytest.approx(90, abs=0.5)
    assert record.attempt == 1
    assert [one.end for one in record.attempts] == [End.SNOOZED] * 3 + [End.FINISHED]


async def test_a_scheduled_job_runs_when_it_is_due_not_before(autojump_clock: MockClock) -> None:
    """The scheduler wakes the queue exactly then, although the poll interval is an hour."""
    begun: list[float] = []

    class Note(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            begun.append(trio.current_time())

    queues = {"default": jobrt.Queue(2, poll_interval=3600)}
    async with open_app(jobs=[Note], queues=queues) as (app, jobs), working(app):
        start = trio.current_time()
        handle = await jobs.enqueue(Note(), schedule_in=1234.5)
        assert (await jobs.get(handle.id)).state is State.SCHEDULED
        await handle.wait()
    assert begun[0] - start == pytest.approx(1234.5, abs=0.01)


async def test_a_retry_and_a_snooze_are_due_when_they_say_however_seldom_the_queue_is_polled(
    autojump_clock: MockClock,
) -> None:
    """The writer of such an outcome sends the due time to the scheduler, so the hourly poll is not needed."""
    begun: list[float] = []

    class Again(jobrt.Job):
        BACKOFF = tenacity.wait_fixed(0.25)

        async def run(self, ctx: jobrt.Context) -> jobrt.Snooze | None:
            begun.append(trio.current_time())
            if len(begun) == 1:
                raise OSError("not yet")
            return jobrt.Snooze(7) if len(begun) == 2 else None

    queues = {"default": jobrt.Queue(2, poll_interval=3600)}
    async with open_app(jobs=[Again], queues=queues) as (app, jobs), working(app):
        await (await jobs.enqueue(Again())).wait()
    assert [b - a for a, b in pairwise(begun)] == pytest.approx([0.25, 7], abs=0.02)


async def test_queue_concurrency_and_max_concurrency_are_never_exceeded(autojump_clock: MockClock) -> None:
    """Both limits hold at the same time: that of the queue in this worker, and that of a job name."""
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()

    async def busy(name: str) -> None:
        for key in (name, "all"):
            running[key] += 1
            most[key] = max(most[key], running[key])
        await trio.sleep(1)
        for key in (name, "all"):
            running[key] -= 1

    class Few(jobrt.Job):
        MAX_CONCURRENCY = 2

        async def run(self, ctx: jobrt.Context) -> None:
            await busy("few")

    class Many(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            await busy("many")

    async with open_app(jobs=[Few, Many], queues={"default": 5}) as (app, jobs):
        await jobs.enqueue_many([*[Few() for _ in range(20)], *[Many() for _ in range(20)]])
        assert await drain(app) == Counter(completed=40)
    assert most == {"few": 2, "many": most["many"], "all": 5}
    assert most["many"] >= 3


async def test_max_concurrency_holds_over_the_queues_of_a_worker(autojump_clock: MockClock) -> None:
    """Two fetchers that claim at the same moment do not both take the free slots."""
    running = most = 0

    class Few(jobrt.Job):
        MAX_CONCURRENCY = 2

        async def run(self, ctx: jobrt.Context) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await trio.sleep(1)
            running -= 1

    queues = {"a": 5, "b": 5, "c": 5}
    async with open_app(jobs=[Few], queues=queues) as (app, jobs):
        for queue in queues:
            await jobs.enqueue_many([Few().with_options(queue=queue) for _ in range(6)])
        assert await drain(app) == Counter(completed=18)
    assert most == 2


@pytest.mark.parametrize("alone", [True, False])
async def test_a_slot_of_a_capped_name_is_free_for_every_queue_at_once(
    alone: bool, autojump_clock: MockClock
) -> None:
    """If another queue had the slot, a queue does not wait for its next poll, an hour later."""

    class Few(jobrt.Job):
        MAX_CONCURRENCY = 1

        async def run(self, ctx: jobrt.Context) -> None:
            await trio.sleep(1)

    class Other(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            await trio.lowlevel.checkpoint()

    jobs = [Few] if alone else [Few, Other]
    queues = {name: jobrt.Queue(5, poll_interval=3600) for name in "abc"} | {"default": 1}
    async with open_app(jobs=jobs, queues=queues) as (app, client):
        handles = [await client.enqueue(Few(), queue=queue) for queue in "abc" for _ in range(3)]
        async with working(app):
            with trio.fail_after(9.5):
                for one in handles:
                    await one.wait()


async def test_a_capped_name_does_not_hold_up_the_others(autojump_clock: MockClock) -> None:
    """A hundred waiting jobs of a name at its limit do not keep jobs of other names from running."""
    ended: list[str] = []

    class Capped(jobrt.Job):
        MAX_CONCURRENCY = 1

        async def run(self, ctx: jobrt.Context) -> None:
            await trio.sleep(100)
            ended.append("capped")

    class Free(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            await trio.sleep(1)
            ended.append("free")

    async with open_app(jobs=[Capped, Free], queues={"default": 4}) as (app, jobs), working(app):
        await jobs.enqueue_many([Capped() for _ in range(100)])
        handle = await jobs.enqueue(Free())
        await handle.wait()
        assert ended == ["free"]


async def test_cancelling_a_running_job_ends_its_scope_and_its_children(autojump_clock: MockClock) -> None:
    """The child tasks that `run` started in a nursery are also cancelled, and the reason is recorded."""
    ended = []
    begun = trio.Event()

    class Family(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            async def child() -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    ended.append(ctx.cancelled)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)
                nursery.start_soon(child)
                begun.set()

    async with open_app(jobs=[Family]) as (app, jobs), working(app):
        handle = await jobs.enqueue(Family())
        await begun.wait()
        assert await jobs.cancel(handle.id, "changed my mind") == 1
        with pytest.raises(jobrt.JobCancelled, match="changed my mind"):
            await handle.result()
        record = await jobs.get(handle.id)
    assert ended == [(jobrt.Stop.OPERATOR, "changed my mind")] * 2
    assert record.attempts[0].end is End.CANCELLED
    assert record.cancel_reason == "changed my mind"


async def test_cancelling_a_waiting_job_means_that_it_never_runs(autojump_clock: MockClock) -> None:
    """For a final job, an error says that it cannot be cancelled."""
    async with open_app(jobs=[Echo]) as (app, jobs):
        handle = await jobs.enqueue(Echo(1))
        await jobs.cancel(handle.id, "no")
        assert await drain(app) == Counter()
        with pytest.raises(jobrt.JobStateError, match="cancelled already"):
            await jobs.cancel(handle.id)
        with pytest.raises(jobrt.JobNotFound):
            await jobs.cancel(handle.id + 1)


async def test_rerun_gives_a_finished_job_one_more_attempt(autojump_clock: MockClock) -> None:
    """A discarded job runs again. For a running job, the rerun is refused."""
    async with open_app(jobs=[Fail]) as (app, jobs):
        handle = await jobs.enqueue(Fail(1), max_attempts=1)
        assert await drain(app) == Counter(discarded=1)
        await jobs.rerun(handle.id)
        with pytest.raises(jobrt.JobStateError):
            await jobs.rerun(handle.id)
        assert await drain(app) == Counter(completed=1)
        record = await jobs.get(handle.id)
    assert (record.attempt, record.max_attempts, record.result) == (2, 2, "at last")


async def test_a_graceful_stop_lets_running_jobs_finish_and_claims_nothing_new(
    autojump_clock: MockClock,
) -> None:
    """They see `shutting_down` and have the grace. Their outcomes are written before the worker ends."""
    saw: list[bool] = []
    begun = trio.Event()

    class Long(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> str:
            begun.set()
            await ctx.shutting_down.wait()
            saw.append(True)
            await trio.sleep(20)
            return "finished"

    async with open_app(jobs=[Long], queues={"default": 1}) as (app, jobs):
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app.run_worker)
            first, second = await jobs.enqueue(Long()), await jobs.enqueue(Long())
            await begun.wait()
            await worker.stop(grace=30)
        assert (await jobs.get(first.id)).result == "finished"
        assert (await jobs.get(second.id)).state is State.AVAILABLE
        assert saw == [True]
        assert await jobs.workers() == []


async def test_what_outlasts_the_grace_is_interrupted_and_uses_up_no_attempt(
    autojump_clock: MockClock,
) -> None:
    """Interrupted jobs become available immediately, and their record has the reason."""
    begun = trio.Event()

    class Endless(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            begun.set()
            await trio.sleep_forever()

    async with open_app(jobs=[Endless]) as (app, jobs):
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app.run_worker)
            handle = await jobs.enqueue(Endless())
            await begun.wait()
            before = trio.current_time()
            await worker.stop(grace=7)
            assert trio.current_time() - before == pytest.approx(7, abs=0.5)
        record = await jobs.get(handle.id)
    assert (record.state, record.attempt) == (State.AVAILABLE, 0)
    assert [one.end for one in record.attempts] == [End.INTERRUPTED]


async def test_cancelling_the_scope_around_the_worker_is_a_stop_without_grace(
    autojump_clock: MockClock,
) -> None:
    """The bounded clean-up still happens: outcomes are written, and the worker signs off."""
    begun = trio.Event()

    class Endless(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            begun.set()
            await trio.sleep_forever()

    async with open_app(jobs=[Endless]) as (app, jobs):
        handle = await jobs.enqueue(Endless())
        async with trio.open_nursery() as nursery:
            await nursery.start(app.run_worker)
            await begun.wait()
            nursery.cancel_scope.cancel()
        record = await jobs.get(handle.id)
        assert (record.state, [one.end for one in record.attempts]) == (State.AVAILABLE, [End.INTERRUPTED])
        assert await jobs.workers() == []


async def test_context_variables_of_one_attempt_never_reach_the_next(autojump_clock: MockClock) -> None:
    """Both attempts run in the same executor task."""
    seen: list[str] = []
    color: ContextVar[str] = ContextVar("color", default="none")

    class Paint(jobrt.Job):
        value: str

        async def run(self, ctx: jobrt.Context) -> None:
            seen.append(color.get())
            color.set(self.value)

    async with open_app(jobs=[Paint], queues={"default": 1}) as (app, jobs):
        await jobs.enqueue_many([Paint("red"), Paint("blue"), Paint("green")])
        await drain(app)
    assert seen == ["none", "none", "none"]


async def test_an_undecodable_payload_is_a_typed_failure_with_the_path(autojump_clock: MockClock) -> None:
    """The job is set aside without using its only attempt, and the record names the field."""

    class Narrow(jobrt.Job):
        NAME = "Shape"
        MAX_ATTEMPTS = 1
        number: int

        async def run(self, ctx: jobrt.Context) -> None:
            raise AssertionError("must not run")

    async with open_app(jobs=[Narrow]) as (app, jobs):
        async with app.open_storage() as storage:
            from jobrt._core.job import NewJob

            (inserted,) = await storage.jobs.insert(
                [NewJob(name="Shape", args='{"number":"three"}', max_attempts=1)]
            )
        assert await drain(app) == Counter(scheduled=1)
        record = await jobs.get(inserted.id)
    assert (record.state, record.attempt) == (State.SCHEDULED, 0)
    assert record.attempts[0].end is End.UNDECODABLE
    assert "number" in (record.attempts[0].message or "")


async def test_unknown_names_are_left_alone(autojump_clock: MockClock) -> None:
    """The job of another program stays available, and causes no busy loop in the worker."""
    async with open_app(jobs=[Echo]) as (app, jobs):
        async with app.open_storage() as storage:
            from jobrt._core.job import NewJob

            (inserted,) = await storage.jobs.insert([NewJob(name="Stranger", args="{}")])
        await jobs.enqueue(Echo(1))
        assert await drain(app) == Counter(completed=1)
        assert (await jobs.get(inserted.id)).state is State.AVAILABLE


async def test_a_result_too_large_fails_the_attempt_and_says_so(autojump_clock: MockClock) -> None:
    """A result may have at most 256 KiB."""

    class Large(jobrt.Job):
        MAX_ATTEMPTS = 1

        async def run(self, ctx: jobrt.Context) -> str:
            return "x" * 300_000

    async with open_app(jobs=[Large]) as (app, jobs):
        handle = await jobs.enqueue(Large())
        await drain(app)
        with pytest.raises(jobrt.JobFailed, match="at most 262,144"):
            await handle.result()


async def test_a_checkpoint_and_steps_survive_attempts(autojump_clock: MockClock) -> None:
    """The next attempt finds what the last one saved, and a step is run once."""
    work: list[str] = []

    class Long(jobrt.Job):
        BACKOFF = tenacity.wait_fixed(1)

        async def run(self, ctx: jobrt.Context) -> Any:
            begin = ctx.saved or 0
            async with ctx.step("prepare") as step:
                if step.todo:
                    work.append("prepare")
                    step.value = {"ready": True}
            for number in range(begin, 5):
                work.append(str(number))
                await ctx.checkpoint(number + 1)
                if number == 2 and ctx.job.attempt == 1:
                    raise OSError("power cut")
            return step.value

    async with open_app(jobs=[Long]) as (app, jobs), working(app):
        assert await (await jobs.enqueue(Long())).result() == {"ready": True}
    assert work == ["prepare", "0", "1", "2", "3", "4"]


async def test_progress_is_seen_while_the_job_runs_and_after(autojump_clock: MockClock) -> None:
    """Writes are limited in rate, the newest value is written, and the last one is kept at the end."""
    halfway, go_on = trio.Event(), trio.Event()

    class Count(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            for done in range(1, 51):
                ctx.progress(done, 100, "counting")
            await trio.sleep(1)
            halfway.set()
            await go_on.wait()
            ctx.progress(100, 100)

    async with open_app(jobs=[Count]) as (app, jobs), working(app):
        handle = await jobs.enqueue(Count())
        await halfway.wait()
        assert (await jobs.get(handle.id)).progress == jobrt.Progress(50, 100, "counting")
        go_on.set()
        assert (await handle.wait()).progress == jobrt.Progress(100, 100, "")


async def test_a_parent_waits_for_its_children_without_holding_a_slot(autojump_clock: MockClock) -> None:
    """`After` frees the only slot for the children. The parent runs again when the last child has ended."""

    class Child(jobrt.Job):
        number: int

        async def run(self, ctx: jobrt.Context) -> int:
            return self.number * 2

    class Parent(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> Any:
            if ctx.saved is None:
                children = [await ctx.enqueue(Child(number)) for number in range(3)]
                await ctx.checkpoint([one.id for one in children])
                return jobrt.After(children)
            client = ctx.client
            return [(await client.get(one)).result for one in ctx.saved]

    async with open_app(jobs=[Child, Parent], queues={"default": 1}) as (app, jobs), working(app):
        handle = await jobs.enqueue(Parent())
        assert await handle.result() == [0, 2, 4]
        assert (await jobs.get(handle.id)).attempt == 1


async def test_pausing_a_queue_holds_its_jobs_and_no_other_queue(autojump_clock: MockClock) -> None:
    """After it is resumed, its jobs run."""
    async with open_app(jobs=[Echo], queues={"mail": 2}) as (app, jobs), working(app):
        await jobs.pause("mail")
        held = await jobs.enqueue(Echo(1), queue="mail")
        free = await jobs.enqueue(Echo(2))
        await free.wait()
        await trio.sleep(30)
        assert (await jobs.get(held.id)).state is State.AVAILABLE
        await jobs.resume("mail")
        assert await held.result() == 1


async def test_cancelling_works_while_every_slot_is_busy(autojump_clock: MockClock) -> None:
    """Cancel requests do not go through the fetcher."""
    async with open_app(jobs=[Sleep], queues={"default": 1}) as (app, jobs), working(app):
        busy = await jobs.enqueue(Sleep())
        waiting = await jobs.enqueue(Sleep())
        await trio.sleep(5)
        await jobs.cancel(waiting.id, "a")
        await jobs.cancel(busy.id, "b")
        assert (await busy.wait()).cancel_reason == "b"
        assert await jobs.count(where.state("cancelled")) == 2
