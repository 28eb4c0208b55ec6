"""Features of *workers* (``BackgroundJob`` of crates.io), on both engines."""

from __future__ import annotations

import pytest
import trio

import jobrt
from jobrt import State, where
from jobrt.testing import assert_none_failed
from tests.parity.conftest import Open
from tests.parity.jobs import Echo, Fail, Other


class Recorded(jobrt.Job):
    """Append the value to the app's state."""

    value: int

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.state.append(self.value)


class Dedup(jobrt.Job):
    """Job that is unique by its data until it starts."""

    UNIQUE = jobrt.Unique(by=("name", "args"), states="unstarted")

    value: int

    async def run(self, ctx: jobrt.Context) -> int:
        return self.value


def test_names_are_unique_within_an_app() -> None:
    """A second class with the same name is refused, and does not replace the first."""

    class Second(jobrt.Job):
        NAME = "Echo"

        async def run(self, ctx: jobrt.Context) -> None: ...

    with pytest.raises(jobrt.DuplicateJobName, match="Echo"):
        jobrt.App(jobs=[Echo, Second])


async def test_priority_is_higher_first_and_may_be_negative(opened: Open) -> None:
    """With one slot, jobs run in the order of priority, then of age."""
    ran: list[int] = []
    async with opened(jobs=[Recorded], queues={"default": 1}, state=ran) as (app, jobs):
        priorities = [-5, 100, 0, 50, 0]
        await jobs.enqueue_many(
            Recorded(number).with_options(priority=priority) for number, priority in enumerate(priorities)
        )
        await app.drain()
    assert ran == [1, 3, 2, 4, 0]


async def test_deduplicated_gives_the_id_of_the_existing_job(opened: Open) -> None:
    """An equal job that has not started is a duplicate; one with other data, or one that has run, is not."""
    async with opened(jobs=[Dedup]) as (app, jobs):
        first, equal, other = [await jobs.enqueue(Dedup(value)) for value in (1, 1, 2)]
        assert (equal.id, equal.duplicate) == (first.id, True)
        assert (other.duplicate, first.duplicate) == (False, False)
        await app.drain()
        assert not (await jobs.enqueue(Dedup(1))).duplicate


async def test_a_job_in_backoff_is_a_duplicate(opened: Open) -> None:
    """``states="unstarted"`` means scheduled, available and retryable."""

    class Flaky(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            raise OSError("later")

    unstarted = jobrt.Unique(by=("name",), states="unstarted")
    async with opened(jobs=[Flaky]) as (app, jobs):
        failing = await jobs.enqueue(Flaky(), unique=unstarted)
        await app.drain()
        assert (await jobs.get(failing.id)).state is State.RETRYABLE
        second = await jobs.enqueue(Flaky(), unique=unstarted)
        assert (second.id, second.duplicate) == (failing.id, True)


async def test_a_running_job_is_not_a_duplicate(opened: Open) -> None:
    """With ``states="unstarted"``, one job can wait while another runs."""
    unstarted = jobrt.Unique(by=("name",), states="unstarted")
    started = trio.Event()

    class Waits(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            started.set()
            await ctx.state.wait()

    async with opened(jobs=[Waits], state=trio.Event) as (app, jobs), trio.open_nursery() as nursery:
        worker = await nursery.start(app.run_worker)
        await jobs.enqueue(Waits(), unique=unstarted)
        await started.wait()
        assert not (await jobs.enqueue(Waits(), unique=unstarted, schedule_in=60)).duplicate
        assert (await jobs.enqueue(Waits(), unique=unstarted)).duplicate
        worker.state.set()
        await worker.stop()


async def test_queue_per_job_and_per_enqueue(opened: Open) -> None:
    """The class has a queue, enqueue can override it, and a drain can be limited to a queue."""

    class Mail(jobrt.Job):
        QUEUE = "mail"

        async def run(self, ctx: jobrt.Context) -> None: ...

    async with opened(jobs=[Mail], queues={"mail": 1, "fast": 1}) as (app, jobs):
        mail, fast = await jobs.enqueue(Mail()), await jobs.enqueue(Mail(), queue="fast")
        await app.drain("fast")
        assert [(await jobs.get(handle.id)).state for handle in (mail, fast)] == [
            State.AVAILABLE,
            State.COMPLETED,
        ]
        assert (await jobs.get(mail.id)).queue == "mail"


async def test_every_run_has_the_application_context(opened: Open) -> None:
    """`state=` of the app is ``ctx.state`` of each job."""
    ran: list[int] = []
    async with opened(jobs=[Recorded], state=ran) as (app, jobs):
        await jobs.enqueue_many([Recorded(1), Recorded(2)])
        await app.drain()
    assert sorted(ran) == [1, 2]


async def test_drain_runs_until_the_queue_is_empty_and_failures_are_reported(opened: Open) -> None:
    """`drain` runs all due jobs and returns; `failed` and `assert_none_failed` find failed jobs."""
    async with opened() as (app, jobs):
        await jobs.enqueue_many(Echo(number) for number in range(30))
        await jobs.enqueue(Echo(), schedule_in=3600)
        await app.drain()
        assert await jobs.count(where.state("completed")) == 30
        assert await jobs.count(where.state("scheduled")) == 1
        await assert_none_failed(jobs)
        assert await jobs.failed() == []
        broken = await jobs.enqueue(Fail(), max_attempts=2)
        await app.drain()
        assert [job.id for job in await jobs.failed()] == [broken.id]
        with pytest.raises(AssertionError, match=r"1 jobs failed:\n.*LookupError: attempt 2"):
            await assert_none_failed(jobs)


async def test_a_batch_keeps_order_and_finds_its_own_duplicates(opened: Open) -> None:
    """Handles are in input order, and an equal job within the batch is a duplicate."""
    async with opened(jobs=[Dedup]) as (_, jobs):
        assert await jobs.enqueue_many([]) == []
        handles = await jobs.enqueue_many([Dedup(3), Dedup(1), Dedup(3), Dedup(2)])
        assert [handle.duplicate for handle in handles] == [False, False, True, False]
        assert handles[2].id == handles[0].id
        assert [(await jobs.get(handle.id)).args["value"] for handle in handles] == [3, 1, 3, 2]


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (jobrt.Keep(), (3, 3)),  # ArchivalPolicy::Always
        (jobrt.Keep(age=0), (0, 0)),  # ArchivalPolicy::Never
        (jobrt.Keep(count=2), (2, 2)),  # MaxCount
        (jobrt.Keep(count=0), (0, 0)),  # which *workers* takes as one
        (jobrt.Keep(age=3600), (3, 3)),  # MaxAge
        (jobrt.Keep(age=0, count=1), (1, 1)),  # Retain { max_age, keep_at_least }
        (jobrt.Keep(age=0, only=Echo), (0, 3)),  # per job type
        (jobrt.Keep(age=0, except_=Echo), (3, 0)),
    ],
)
async def test_clean_up_by_age_count_and_type(opened: Open, keep: jobrt.Keep, left: tuple[int, int]) -> None:
    """The retention decides which finished jobs are kept."""
    async with opened(keep={"completed": keep}) as (app, jobs):
        await jobs.enqueue_many([Echo(), Other(), Echo(), Other(), Echo(), Other()])
        await app.drain()
        await jobs.prune()
        assert (await jobs.count(where.name("Echo")), await jobs.count(where.name("Other"))) == left


async def test_a_condition_on_the_job_decides_what_is_archived(opened: Open) -> None:
    """`ArchivalPolicy::If` is a job that deletes by `where`."""

    class Forget(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> int:
            return await ctx.client.delete(where.state("completed") & ~where.args("value", "keep me"))

    async with opened(jobs=[Echo, Forget]) as (app, jobs):
        await jobs.enqueue_many([Echo("keep me"), Echo("forget me")])
        await app.drain()
        forget = await jobs.enqueue(Forget())
        await app.drain()
        assert await forget.result() == 1
        assert [job.args["value"] for job in await jobs.query(where.name("Echo"))] == ["keep me"]


async def test_a_slow_queue_does_not_delay_another(opened: Open) -> None:
    """Jobs of other queues run while all slots of a queue are in use."""

    class Slow(jobrt.Job):
        QUEUE = "slow"

        async def run(self, ctx: jobrt.Context) -> None:
            await ctx.state.wait()

    async with opened(jobs=[Slow, Echo], queues={"slow": 1, "default": 1}, state=trio.Event) as (app, jobs):
        slow = await jobs.enqueue_many([Slow(), Slow()])
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app.run_worker)
            assert await (await jobs.enqueue(Echo("quick"))).result() == "quick"
            worker.state.set()
            assert [(await handle.wait()).state for handle in slow] == [State.COMPLETED] * 2
            await worker.stop()
