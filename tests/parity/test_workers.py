"""What *workers* (crates.io's ``BackgroundJob``) offers, on both engines."""

from __future__ import annotations

import pytest
import trio

import jobrt
from jobrt import State, where
from jobrt.testing import assert_none_failed
from tests.parity.conftest import Open
from tests.parity.jobs import Echo, Fail, Other


class Noted(jobrt.Job):
    """Write down in the app's state that it ran."""

    value: int

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.state.append(self.value)


class Dedup(jobrt.Job):
    """Be there once, unstarted, with the same data."""

    UNIQUE = jobrt.Unique(by=("name", "args"), states="unstarted")

    value: int

    async def run(self, ctx: jobrt.Context) -> int:
        return self.value


def test_names_are_unique_within_an_app() -> None:
    """A second class of a name is refused, and does not silently take the first one's place."""

    class Second(jobrt.Job):
        NAME = "Echo"

        async def run(self, ctx: jobrt.Context) -> None: ...

    with pytest.raises(jobrt.DuplicateJobName, match="Echo"):
        jobrt.App(jobs=[Echo, Second])


async def test_priority_is_higher_first_and_may_be_negative(opened: Open) -> None:
    """With one slot, jobs run in the order of their priority and, where that is equal, of their age."""
    ran: list[int] = []
    async with opened(jobs=[Noted], queues={"default": 1}, state=ran) as (app, jobs):
        wanted = [-5, 100, 0, 50, 0]
        await jobs.enqueue_many(
            Noted(number).with_options(priority=priority) for number, priority in enumerate(wanted)
        )
        await app.drain()
    assert ran == [1, 3, 2, 4, 0]


async def test_deduplicated_gives_the_id_of_the_job_that_was_there(opened: Open) -> None:
    """An unstarted equal job is found; one with other data, or one that has begun, is no duplicate."""
    async with opened(jobs=[Dedup]) as (app, jobs):
        first, equal, other = [await jobs.enqueue(Dedup(value)) for value in (1, 1, 2)]
        assert (equal.id, equal.duplicate) == (first.id, True)
        assert (other.duplicate, first.duplicate) == (False, False)
        await app.drain()
        assert not (await jobs.enqueue(Dedup(1))).duplicate


async def test_a_job_in_backoff_is_a_duplicate(opened: Open) -> None:
    """``states="unstarted"`` is scheduled, available and retryable."""

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


async def test_a_running_job_is_no_duplicate(opened: Open) -> None:
    """``states="unstarted"`` lets one wait while another runs."""
    unstarted = jobrt.Unique(by=("name",), states="unstarted")
    begun = trio.Event()

    class Waits(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            begun.set()
            await ctx.state.wait()

    async with opened(jobs=[Waits], state=trio.Event) as (app, jobs), trio.open_nursery() as nursery:
        worker = await nursery.start(app.run_worker)
        await jobs.enqueue(Waits(), unique=unstarted)
        await begun.wait()
        assert not (await jobs.enqueue(Waits(), unique=unstarted, schedule_in=60)).duplicate
        assert (await jobs.enqueue(Waits(), unique=unstarted)).duplicate
        worker.state.set()
        await worker.stop()


async def test_queue_per_job_and_per_enqueue(opened: Open) -> None:
    """The class says where a job goes, the enqueue may say otherwise; a worker may serve some queues only."""

    class Mail(jobrt.Job):
        QUEUE = "mail"

        async def run(self, ctx: jobrt.Context) -> None: ...

    async with opened(jobs=[Mail], queues={"mail": 1, "fast": 1}) as (app, jobs):
        mail, fast = await jobs.enqueue(Mail()), await jobs.enqueue(Mail(), queue="fast")
        await app.drain("fast")
        assert [(await jobs.get(one.id)).state for one in (mail, fast)] == [State.AVAILABLE, State.COMPLETED]
        assert (await jobs.get(mail.id)).queue == "mail"


async def test_every_run_has_the_application_context(opened: Open) -> None:
    """`state=` of the app is what each job finds as ``ctx.state``."""
    ran: list[int] = []
    async with opened(jobs=[Noted], state=ran) as (app, jobs):
        await jobs.enqueue_many([Noted(1), Noted(2)])
        await app.drain()
    assert sorted(ran) == [1, 2]


async def test_drain_runs_until_the_queue_is_empty_and_failures_are_told(opened: Open) -> None:
    """`drain` ends by itself, jobs enqueued meanwhile included; `failed` and `assert_none_failed` are the check."""
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
        assert [one.id for one in await jobs.failed()] == [broken.id]
        with pytest.raises(AssertionError, match=r"1 jobs failed:\n.*LookupError: attempt 2"):
            await assert_none_failed(jobs)


async def test_a_batch_keeps_order_and_finds_its_own_duplicates(opened: Open) -> None:
    """Handles are in input order; an equal job within the batch is a duplicate; nothing is nothing."""
    async with opened(jobs=[Dedup]) as (_, jobs):
        assert await jobs.enqueue_many([]) == []
        handles = await jobs.enqueue_many([Dedup(3), Dedup(1), Dedup(3), Dedup(2)])
        assert [one.duplicate for one in handles] == [False, False, True, False]
        assert handles[2].id == handles[0].id
        assert [(await jobs.get(one.id)).args["value"] for one in handles] == [3, 1, 3, 2]


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (jobrt.Keep(), (3, 3)),  # ArchivalPolicy::Always
        (jobrt.Keep(age=0), (0, 0)),  # ArchivalPolicy::Never
        (jobrt.Keep(count=2), (2, 2)),  # MaxCount
        (jobrt.Keep(count=0), (0, 0)),  # which theirs read as one
        (jobrt.Keep(age=3600), (3, 3)),  # MaxAge
        (jobrt.Keep(age=0, count=1), (1, 1)),  # Retain { max_age, keep_at_least }
        (jobrt.Keep(age=0, only=Echo), (0, 3)),  # per job type
        (jobrt.Keep(age=0, except_=Echo), (3, 0)),
    ],
)
async def test_clean_up_by_age_count_and_type(opened: Open, keep: jobrt.Keep, left: tuple[int, int]) -> None:
    """Finished jobs are the archive; what is not wanted there goes."""
    async with opened(keep={"completed": keep}) as (app, jobs):
        await jobs.enqueue_many([Echo(), Other(), Echo(), Other(), Echo(), Other()])
        await app.drain()
        await jobs.prune()
        assert (await jobs.count(where.name("Echo")), await jobs.count(where.name("Other"))) == left


async def test_a_condition_on_the_job_decides_what_is_archived(opened: Open) -> None:
    """`ArchivalPolicy::If`: whatever can be said with `where` can be deleted, by a job of one's own."""

    class Forget(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> int:
            return await ctx.client.delete(where.state("completed") & ~where.args("value", "keep me"))

    async with opened(jobs=[Echo, Forget]) as (app, jobs):
        await jobs.enqueue_many([Echo("keep me"), Echo("forget me")])
        await app.drain()
        forget = await jobs.enqueue(Forget())
        await app.drain()
        assert await forget.result() == 1
        assert [one.args["value"] for one in await jobs.query(where.name("Echo"))] == ["keep me"]


async def test_a_slow_queue_does_not_hold_up_another(opened: Open) -> None:
    """A queue whose slots are all busy leaves the others' jobs alone."""

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
            assert [(await one.wait()).state for one in slow] == [State.COMPLETED] * 2
            await worker.stop()
