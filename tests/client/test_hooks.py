"""Hooks around enqueues: in clients, jobs and cron entries; they keep number and order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import jobrt
from jobrt import events
from jobrt.testing import drain, open_app, perform
from tests.runtime.test_worker import working


class Echo(jobrt.Job):
    """Job with options of its class."""

    QUEUE = "mail"
    PRIORITY = 3
    value: int = 0

    async def run(self, ctx: jobrt.Context) -> Any:
        return self.value


class Other(jobrt.Job):
    """Job that enqueues another."""

    async def run(self, ctx: jobrt.Context) -> int:
        return (await ctx.enqueue(Echo(1), metadata={"by": "Other"})).id


class Quiet(jobrt.Job):
    """Job that does nothing."""

    async def run(self, ctx: jobrt.Context) -> None: ...


async def stamp(jobs: Sequence[Any], enqueue: Any) -> Any:
    """Add to the metadata of each job."""
    return await enqueue([job.with_options(metadata={**job.metadata, "host": "here"}) for job in jobs])


async def test_a_hook_changes_options(database_url: str) -> None:
    """It gets jobs with their options, of one enqueue or many, and what it passes on is stored."""
    seen: list[Any] = []

    async def look(jobs: Sequence[Any], enqueue: Any) -> Any:
        seen.extend((job.name, job.queue, job.priority, job.tags, job.context) for job in jobs)
        return await enqueue(jobs)

    app = jobrt.App(database_url, jobs=[Echo, Other], around_enqueue=[look], migrate=True)
    app.around_enqueue(stamp)
    async with app.open_client() as jobs:
        with trio.fail_after(50):
            one = await jobs.enqueue(Echo(1), metadata={"a": 1}, queue="default", tags=["x"], context="why")
            many = await jobs.enqueue_many([Echo(value) for value in range(20)])
            assert (await jobs.get(one.id)).metadata == {"a": 1, "host": "here"}
            records = [await jobs.get(handle.id) for handle in many]
            assert [record.args["value"] for record in records] == list(range(20))
            assert all(record.metadata == {"host": "here"} for record in records)
            assert await jobs.enqueue_many([]) == []
    assert seen[:2] == [("Echo", "default", 3, ("x",), "why"), ("Echo", "mail", 3, (), None)]


async def test_they_surround_what_jobs_and_tests_enqueue(autojump_clock: MockClock) -> None:
    """`ctx.enqueue` goes through them, in a worker and in `perform`."""
    async with open_app([Echo, Other], around_enqueue=[stamp]) as (app, jobs):
        handle = await jobs.enqueue(Other())
        await drain(app)
        record = await jobs.get(await handle.result())
        assert record.metadata == {"by": "Other", "host": "here"}
        assert await perform(Other(), app=app) > 0


async def test_a_hook_that_comes_later_counts(autojump_clock: MockClock) -> None:
    """An open client uses the hooks that its app has when it enqueues."""
    async with open_app([Echo]) as (app, jobs):
        app.around_enqueue(stamp)
        handle = await jobs.enqueue(Echo())
        assert (await jobs.get(handle.id)).metadata == {"host": "here"}


async def test_a_transaction_of_the_caller_has_them(autojump_clock: MockClock) -> None:
    """Rolled back means nothing was enqueued."""
    async with open_app([Echo], around_enqueue=[stamp]) as (_, jobs):
        async with jobs.transaction() as conn:
            handle = await jobs.enqueue(Echo(), conn=conn)
        assert (await jobs.get(handle.id)).metadata == {"host": "here"}
        with pytest.raises(ValueError, match="away"):
            async with jobs.transaction() as conn:
                await jobs.enqueue(Echo(), conn=conn)
                raise ValueError("away")
        assert await jobs.count() == 1


async def test_ticks_have_them(autojump_clock: MockClock) -> None:
    """The job of a tick is stamped; there is one for each tick, though two workers run the hook."""
    handles: list[Any] = []

    async def look(jobs: Sequence[Any], enqueue: Any) -> Any:
        returned = await enqueue(jobs)
        handles.extend(returned)
        return returned

    async with open_app([Echo], around_enqueue=[look, stamp], queues={"mail": 1}) as (app, jobs):
        app.every(timedelta(minutes=1), Echo(5), name="often")
        async with working(app), working(app):
            await trio.sleep(150)
        records = await jobs.query(details=False)
    assert {record.metadata["host"] for record in records} == {"here"}
    assert {(record.context or "").split()[1] for record in records} == {"often"}
    stored = [handle.id for handle in handles if not handle.duplicate]
    assert sorted(stored) == sorted(record.id for record in records)
    assert len(records) >= 2
    assert len({record.context for record in records}) == len(records)


async def test_a_hook_that_fails_at_a_tick_harms_that_entry_alone(autojump_clock: MockClock) -> None:
    """It is a `CronFailed`, the actor goes on, and the tick is fired when the hook works again."""
    told: list[events.Event] = []
    failing = True

    async def broken(jobs: Sequence[Any], enqueue: Any) -> Any:
        if failing and jobs[0].name == "Echo":
            raise OSError("no host")
        return await enqueue(jobs)

    async with open_app([Echo, Quiet], around_enqueue=[broken], queues={"mail": 1}) as (app, jobs):
        app.every(60, Echo(), name="bad")
        app.every(60, Quiet(), name="good")
        with app.events.subscribed(told.append, routine=False):
            async with working(app):
                await trio.sleep(70)
                assert await jobs.count(jobrt.where.name("Echo")) == 0
                assert await jobs.count(jobrt.where.name("Quiet")) >= 1
                failing = False
                await trio.sleep(20)
        assert await jobs.count(jobrt.where.name("Echo")) >= 1
    failed = [event for event in told if isinstance(event, events.CronFailed)]
    assert [(event.name, "OSError: no host" in event.error) for event in failed] == [("bad", True)]
    assert not [event for event in told if isinstance(event, events.ActorRestarted)]


async def fewer(jobs: Sequence[Any], enqueue: Any) -> Any:
    """Drop a job."""
    return await enqueue(jobs[1:])


async def other(jobs: Sequence[Any], enqueue: Any) -> Any:
    """Pass on other jobs."""
    return await enqueue([Other() for _ in jobs])


async def no_list(jobs: Sequence[Any], enqueue: Any) -> Any:
    """Pass on no list."""
    return await enqueue(7)


async def no_jobs(jobs: Sequence[Any], enqueue: Any) -> Any:
    """Pass on what is no job."""
    return await enqueue([Echo for _ in jobs])


async def silent(jobs: Sequence[Any], enqueue: Any) -> Any:
    """Do not call on."""
    return []


async def swallowing(jobs: Sequence[Any], enqueue: Any) -> Any:
    """Hide that nothing was stored."""
    try:
        return await enqueue(7)
    except jobrt.HookFailed:
        return []


STORES_NOTHING = {
    fewer: "passed on 1 of 2 jobs: keep their number and order",
    other: r"passed on Other, where Echo was \(job 0\): keep the number and order of jobs",
    no_list: "called enqueue with 7: call it with a list of jobs",
    no_jobs: "called enqueue with a list in which Echo is a class",
    silent: "returned without calling enqueue, so nothing is stored",
    swallowing: "ended without what enqueue raised, so nothing is stored",
}


@pytest.mark.parametrize("hook", STORES_NOTHING, ids=lambda hook: hook.__name__)
async def test_a_wrong_hook_stores_nothing(hook: Any, autojump_clock: MockClock) -> None:
    """One line names it, what it did, and what to do."""
    async with open_app([Echo, Other], around_enqueue=[stamp, hook, stamp]) as (_, jobs):
        with pytest.raises(jobrt.HookFailed, match=rf"^hook [\w.]+\.{hook.__name__} {STORES_NOTHING[hook]}"):
            await jobs.enqueue_many([Echo(1), Echo(2)])
        assert await jobs.count() == 0


async def test_a_second_call_is_refused(autojump_clock: MockClock) -> None:
    """The first has stored the jobs; they are not stored again."""

    async def twice(jobs: Sequence[Any], enqueue: Any) -> Any:
        await enqueue(jobs)
        return await enqueue(jobs)

    async with open_app([Echo], around_enqueue=[twice]) as (_, jobs):
        with pytest.raises(jobrt.HookFailed, match="twice called enqueue twice"):
            await jobs.enqueue(Echo())
        assert await jobs.count() == 1


@pytest.mark.parametrize("returned", [[], None, [1, 2]])
async def test_other_handles_are_refused(returned: Any, autojump_clock: MockClock) -> None:
    """The message says which jobs are stored, since a caller that tries again would store them twice."""

    async def wrong(jobs: Sequence[Any], enqueue: Any) -> Any:
        await enqueue(jobs)
        return returned

    async with open_app([Echo], around_enqueue=[wrong]) as (_, jobs):
        with pytest.raises(jobrt.HookFailed, match=r"for 2 jobs: return what .* stored \(id 1, 2\)"):
            await jobs.enqueue_many([Echo(), Echo()])


async def test_what_is_no_hook_is_refused() -> None:
    """A function that is not async would return before anything is stored."""

    def plain(jobs: Any, enqueue: Any) -> Any: ...

    hook: Any = plain
    with pytest.raises(
        jobrt.InvalidSetting, match=r"plain is not async: use async def hook\(jobs, enqueue\)"
    ):
        jobrt.App("sqlite:///:memory:", around_enqueue=[hook])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([stamp, fewer, other, silent, swallowing, no_jobs]), max_size=4),
    st.integers(0, 5),
)
def test_any_hooks_keep_number_and_order_or_store_nothing(hooks: list[Any], count: int) -> None:
    """Whatever hooks pass on: the handles are those of the jobs in order, or an error says that there are none."""

    async def once() -> None:
        async with open_app([Echo, Other], around_enqueue=hooks) as (_, jobs):
            try:
                handles = await jobs.enqueue_many([Echo(value) for value in range(count)])
            except jobrt.HookFailed:
                assert await jobs.count() == 0
            else:
                values = [(await jobs.get(handle.id)).args["value"] for handle in handles]
                assert values == list(range(count))

    trio.run(once, clock=MockClock(autojump_threshold=0))
