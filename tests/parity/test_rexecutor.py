"""Features of *rexecutor* (``Executor``), on both engines."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

import jobrt
from jobrt import End, State, backoff, where
from jobrt.testing import assert_enqueued, refute_enqueued
from tests.parity.conftest import Open
from tests.parity.jobs import Broken, Echo, Fail, Other, completions


async def test_data_and_metadata(opened: Open) -> None:
    """Data and metadata are stored with the job, and available to it."""

    class Inspect(jobrt.Job):
        data: dict[str, int]

        async def run(self, ctx: jobrt.Context) -> Any:
            return [self.data, dict(ctx.job.metadata)]

    async with opened(jobs=[Inspect]) as (app, jobs):
        handle = await jobs.enqueue(Inspect({"a": 1}), metadata={"from": ["web", 2]})
        await app.drain()
        assert await handle.result() == [{"a": 1}, {"from": ["web", 2]}]


async def test_zero_attempts_are_refused(opened: Open) -> None:
    """Zero attempts could be taken to mean no limit."""
    async with opened() as (_, jobs):
        with pytest.raises(jobrt.InvalidJob, match="max_attempts"):
            await jobs.enqueue(Echo(), max_attempts=0)


async def test_blocking_runs_in_a_thread(opened: Open) -> None:
    """A plain ``def`` runs in a thread."""

    class Blocking(jobrt.Job):
        def run(self, ctx: jobrt.Context) -> bool:
            return threading.current_thread() is threading.main_thread()

    async with opened(jobs=[Blocking]) as (app, jobs):
        handle = await jobs.enqueue(Blocking())
        await app.drain()
        assert await handle.result() is False


async def test_results_done_cancel_snooze_error(opened: Open) -> None:
    """A job can succeed, cancel itself, snooze or fail; a snooze uses no attempt."""

    class Decide(jobrt.Job):
        MAX_ATTEMPTS = 1

        how: str

        async def run(self, ctx: jobrt.Context) -> Any:
            match self.how:
                case "cancel":
                    return jobrt.Cancel("no longer wanted")
                case "snooze":
                    return jobrt.Snooze(3600)
                case "error":
                    raise LookupError("typed")
                case _:
                    return None

    async with opened(jobs=[Decide]) as (app, jobs):
        handles = await jobs.enqueue_many(Decide(how) for how in ("done", "cancel", "snooze", "error"))
        await app.drain()
        done, cancel, snooze, error = [await jobs.get(handle.id) for handle in handles]
    assert done.state is State.COMPLETED
    assert (cancel.state, cancel.cancel_reason) == (State.CANCELLED, "no longer wanted")
    assert (snooze.state, snooze.attempt) == (State.SCHEDULED, 0)
    assert (error.state, error.attempts[0].error_type) == (State.DISCARDED, "LookupError")


async def test_every_option_of_the_builder(opened: Open) -> None:
    """All options are supported; options of enqueue override those of `with_options`."""
    moment = datetime(2200, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    job = Echo("data").with_options(max_attempts=3, tags=["a", "b"], priority=1, metadata={"m": 1})
    async with opened() as (_, jobs):
        at = await jobs.get((await jobs.enqueue(job.with_options(priority=-7), schedule_at=moment)).id)
        soon = await jobs.get((await jobs.enqueue(job, tags=["c"], schedule_in=timedelta(days=1))).id)
    assert (at.args, at.metadata, at.max_attempts, at.tags) == ({"value": "data"}, {"m": 1}, 3, ("a", "b"))
    assert (at.priority, at.schedule_at, at.state) == (-7, moment, State.SCHEDULED)
    assert soon.tags == ("c",)
    assert (soon.schedule_at - soon.created_at).total_seconds() == pytest.approx(86_400, abs=5)


async def test_unique_by_executor_key_within_statuses_and_on_conflict(opened: Open) -> None:
    """The criteria can be combined; `unique=` of enqueue replaces that of the class."""

    class Guarded(jobrt.Job):
        UNIQUE = jobrt.Unique(
            by=("name",), within=300, states="all", on_conflict=jobrt.Replace("priority", "args", "metadata")
        )

        value: int = 0

        async def run(self, ctx: jobrt.Context) -> None: ...

    async with opened(jobs=[Guarded, Echo]) as (app, jobs):
        first = await jobs.enqueue(Guarded(1))
        second = await jobs.enqueue(Guarded(2), priority=9, metadata={"m": 2})
        assert (second.id, second.duplicate) == (first.id, True)
        record = await jobs.get(first.id)
        assert (record.priority, record.args, record.metadata) == (9, {"value": 2}, {"m": 2})
        await app.drain()
        third = await jobs.enqueue(Guarded(3), priority=1)  # the window holds after the job has run
        assert third.duplicate
        assert (await jobs.get(first.id)).priority == 9  # a job that has run is not changed
        assert not (await jobs.enqueue(Guarded(4), unique=None)).duplicate
        by_key = jobrt.Unique(key=["k", 1], states=("scheduled",))
        assert not (await jobs.enqueue(Echo(1), unique=by_key, schedule_in=60)).duplicate
        assert (await jobs.enqueue(Echo(2), unique=by_key, schedule_in=60)).duplicate


async def test_conflict_replaces_due_time_and_attempts_in_chosen_states(opened: Open) -> None:
    """A conflict can replace the due time and the attempts, in the states of ``when``."""
    rule = jobrt.Unique(
        by=("name",), on_conflict=jobrt.Replace("schedule_at", "max_attempts", when=("scheduled",))
    )
    moment = datetime(2100, 1, 1, tzinfo=UTC)
    async with opened() as (_, jobs):
        first = await jobs.enqueue(Echo(), unique=rule, schedule_in=60)
        await jobs.enqueue(Echo(), unique=rule, schedule_at=moment, max_attempts=17)
        record = await jobs.get(first.id)
        assert (record.schedule_at, record.max_attempts) == (moment, 17)
        await jobs.update(first.id, schedule_in=0)
        await jobs.enqueue(Echo(), unique=rule, max_attempts=99)
        assert (await jobs.get(first.id)).max_attempts == 17


async def test_all_twelve_where_clauses_and_or_not(opened: Open) -> None:
    """Each filter finds its jobs, alone and combined."""
    moment = datetime(2150, 6, 1, tzinfo=UTC)
    async with opened() as (app, jobs):
        a = (await jobs.enqueue(Echo("a"), metadata={"m": 1}, tags=["x", "y"])).id
        b = (await jobs.enqueue(Echo({"b": 2}), tags=["y"], schedule_at=moment)).id
        c = (await jobs.enqueue(Other("a"), tags=["z"], schedule_in=3600)).id
        await app.drain()
        expected: list[tuple[jobrt.where.Where, set[int]]] = [
            (where.args({"value": "a"}), {a, c}),
            (where.args("value.b", 2), {b}),
            (where.metadata({"m": 1}), {a}),
            (where.id(b), {b}),
            (where.id_in([a, b]), {a, b}),
            (where.id_in([]), set()),
            (where.state("completed"), {a}),
            (where.tagged_any(["x", "z"]), {a, c}),
            (where.tagged_any([]), set()),
            (where.tagged_all(["x", "y"]), {a}),
            (where.scheduled_before(timedelta(0)), {a}),
            (where.scheduled_before(moment), {a, c}),
            (where.scheduled_within(timedelta(hours=1)), {a}),
            (where.scheduled_after(datetime(2149, 1, 1, tzinfo=UTC)), {b}),
            (where.scheduled_at(moment), {b}),
            (where.name("Echo") & (where.tagged_any(["z"]) | where.tagged_any(["y"])), {a, b}),
            (~(where.id(a) | where.id(b)), {c}),
            (~where.id(a) | where.id(b), {b, c}),
        ]
        for filtered, ids in expected:
            assert {job.id for job in await jobs.query(filtered)} == ids, filtered
            assert await jobs.count(filtered) == len(ids)


async def test_cancel_rerun_update_by_id(opened: Open) -> None:
    """A waiting job can be updated and cancelled, and a finished job rerun; anything else is refused."""
    async with opened() as (app, jobs):
        handle = await jobs.enqueue(Echo(1), schedule_in=3600)
        await jobs.update(handle.id, args=Echo(2), priority=3, tags=["t"], metadata={"k": 1}, max_attempts=9)
        record = await jobs.get(handle.id)
        assert (record.args, record.priority, record.tags, record.max_attempts) == (
            {"value": 2},
            3,
            ("t",),
            9,
        )
        with pytest.raises(jobrt.JobStateError, match="only a job that has ended"):
            await jobs.rerun(handle.id)
        await jobs.cancel(handle.id, "No longer needed")
        with pytest.raises(jobrt.JobStateError, match="only a waiting job"):
            await jobs.update(handle.id, priority=1)
        await jobs.rerun(handle.id)
        await app.drain()
        assert await handle.result() == 2
        for change in (jobs.cancel(999), jobs.rerun(999), jobs.update(999, priority=1), jobs.delete(999)):
            with pytest.raises(jobrt.JobNotFound, match="999"):
                await change


async def test_cancel_rerun_update_delete_in_bulk(opened: Open) -> None:
    """Each operation takes a filter and returns the number of changed jobs."""
    async with opened() as (app, jobs):
        await jobs.enqueue_many(Echo(number) for number in range(10))
        await jobs.enqueue_many(Other(number) for number in range(5))
        echo = where.name("Echo")
        assert await jobs.update(echo, priority=7) == 10
        assert await jobs.cancel(echo, "all of them") == 10
        assert await jobs.rerun(echo & where.state("cancelled")) == 10
        await app.drain()
        assert await jobs.count(echo & where.state("completed")) == 10
        assert await jobs.delete(echo) == 10
        assert await jobs.count() == 5


async def test_cancelling_a_running_job_stops_it_and_stays(opened: Open) -> None:
    """Its scope is cancelled, its clean-up runs, and the state stays ``cancelled``."""
    started, cleaned = trio.Event(), trio.Event()

    class Endless(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            started.set()
            try:
                await trio.sleep_forever()
            finally:
                cleaned.set()

    async with opened(jobs=[Endless]) as (app, jobs), trio.open_nursery() as nursery:
        worker = await nursery.start(app.run_worker)
        handle = await jobs.enqueue(Endless())
        await started.wait()
        with pytest.raises(jobrt.JobStateError):
            await jobs.rerun(handle.id)  # no second copy of a running job
        await jobs.cancel(handle.id, "enough")
        record = await handle.wait()
        await worker.stop()
    assert cleaned.is_set()
    assert (record.state, record.cancel_reason, record.attempts[0].end) == (
        State.CANCELLED,
        "enough",
        End.CANCELLED,
    )


async def test_attempts_lowered_below_those_made_end_the_job(opened: Open) -> None:
    """The next failure discards the job, because its attempts exceed the maximum."""
    async with opened() as (app, jobs):
        handle = await jobs.enqueue(Fail(), max_attempts=5)
        await app.drain()
        assert (await jobs.get(handle.id)).attempt == 5
        await jobs.rerun(handle.id)
        await jobs.update(handle.id, max_attempts=2)
        await app.drain()
        record = await jobs.get(handle.id)
        assert (record.state, record.attempt) == (State.DISCARDED, 6)


async def test_the_error_list_has_attempt_type_details_and_time(opened: Open) -> None:
    """Attempts record user-defined errors, exits and timeouts, and the worker continues."""

    class Ends(jobrt.Job):
        MAX_ATTEMPTS = 1
        TIMEOUT = 0.02

        how: str

        async def run(self, ctx: jobrt.Context) -> None:
            if self.how == "own":
                raise Broken("details")
            if self.how == "exit":
                raise SystemExit(3)
            await trio.sleep_forever()

    async with opened(jobs=[Ends, Echo], queues={"default": 1}) as (app, jobs):
        handles = await jobs.enqueue_many([Ends("own"), Ends("exit"), Ends("timeout")])
        last = await jobs.enqueue(Echo("still here"))
        await app.drain()
        records = [await jobs.get(handle.id) for handle in handles]
        assert await last.result() == "still here"
    ends = [(record.attempts[0].end, record.attempts[0].error_type) for record in records]
    assert ends[0] == (End.FAILED, "Broken")
    assert ends[1] == (End.FAILED, "SystemExit")
    assert ends[2][0] is End.TIMED_OUT
    first = records[0].attempts[0]
    assert (first.number, first.message) == (1, "details")
    assert first.finished_at is not None


async def test_several_schedules_of_one_job_and_seconds(opened: Open) -> None:
    """A job can have several cron entries; six fields start with seconds."""
    async with opened() as (app, jobs):
        names = {
            app.cron("* * * * * *", Echo("a")),
            app.cron("* * * * * *", Echo("b"), timezone="America/New_York"),
            app.cron("0 3 * * *", Echo("a"), timezone="Europe/Berlin"),
        }
        with completions(app, 2) as both:
            async with trio.open_nursery() as nursery:
                worker = await nursery.start(app.run_worker)
                await both.wait()
                await worker.stop()
        assert {job.args["value"] for job in await jobs.query()} == {"a", "b"}
        assert {row.name for row in await jobs.crons()} == names
        assert len(names) == 3


async def test_pruning_on_a_cron_schedule(opened: Open) -> None:
    """A cron job can prune, by state, by count and by job name."""

    class Prune(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> int:
            return await ctx.client.prune()

    keep = {"discarded": jobrt.Keep(count=1, only=Fail), "completed": jobrt.Keep()}
    async with opened(jobs=[Fail, Echo, Prune], keep=keep) as (app, jobs):
        await jobs.enqueue_many([*[Fail().with_options(max_attempts=1)] * 3, Echo()])
        await app.drain()
        app.cron("* * * * * *", Prune(), name="prune")
        with completions(app, 1, name="Prune") as pruned:
            async with trio.open_nursery() as nursery:
                worker = await nursery.start(app.run_worker)
                await pruned.wait()
                await worker.stop()
        failed = await jobs.failed()
        assert [job.id for job in failed] == [max(job.id for job in failed)]
        assert await jobs.count(where.name("Echo")) == 1


def test_backoff_constant_linear_polynomial_exponential_bounded_and_jittered() -> None:
    """All strategies are accepted; ``tests/core/test_retry.py`` checks their delays."""
    import tenacity

    for wait in (
        tenacity.wait_fixed(3),
        tenacity.wait_incrementing(start=1, increment=2),
        backoff.polynomial(2, 3),
        tenacity.wait_exponential(multiplier=4, exp_base=4, max=604_800),
        backoff.jittered(tenacity.wait_fixed(3), relative=0.1),
        backoff.jittered(tenacity.wait_fixed(3), absolute=1),
        backoff.bounded(tenacity.wait_fixed(3), min=1, max=2),
    ):

        class Waits(jobrt.Job):
            BACKOFF = wait

            async def run(self, ctx: jobrt.Context) -> None: ...

        jobrt.App("sqlite:///:memory:", jobs=[Waits])


async def test_assert_enqueued_with_all_its_matchers(opened: Open) -> None:
    """``count=1`` means exactly one; the message lists the jobs."""
    soon, later = datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC) + timedelta(hours=3)
    async with opened() as (_, jobs):
        handle = await jobs.enqueue(
            Echo("a"), queue="mail", tags=["t", "u"], priority=5, metadata={}, schedule_in=7200
        )
        (found,) = await assert_enqueued(
            jobs,
            job=Echo,
            args={"value": "a"},
            queue="mail",
            tags=["t"],
            priority=5,
            scheduled_after=soon,
            scheduled_before=later,
            count=1,
        )
        assert found.id == handle.id
        await refute_enqueued(jobs, job=Echo("b"))
        await refute_enqueued(jobs, scheduled_after=later)
        await jobs.enqueue(Echo("a"))
        with pytest.raises(AssertionError, match=r"expected exactly 1 job .*found 2(.|\n)*priority=5"):
            await assert_enqueued(jobs, job="Echo", count=1)
        with pytest.raises(AssertionError, match="expected no job"):
            await refute_enqueued(jobs, job=Echo)
