"""`ctx.transaction`: the job's writes, the jobs that it enqueues and its completion commit together, or not at all."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import tenacity
import trio
from tests.runtime.test_fencing import scene
from tests.runtime.test_worker import working
from trio.testing import MockClock

import jobrt
from jobrt import End, State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TABLE = "create table if not exists payments (job bigint, amount bigint)"


async def execute(conn: Any, sql: str, *values: Any) -> Any:
    """Execute with the placeholders of the engine, and return the first row if there is one."""
    cursor = await conn.execute(sql if hasattr(conn, "raw") else sql.replace("?", "%s"), values)
    return None if cursor.description is None else await cursor.fetchone()


class Child(jobrt.Job):
    """Job that is enqueued by another job."""

    async def run(self, ctx: jobrt.Context) -> str:
        return "child"


class Setup(jobrt.Job):
    """Job that creates the table."""

    async def run(self, ctx: jobrt.Context) -> None:
        async with ctx.transaction() as conn:
            await execute(conn, TABLE)


class Pay(jobrt.Job):
    """Job that writes, enqueues and completes, and then raises if it should."""

    BACKOFF = tenacity.wait_fixed(0.01)
    then: str = ""

    async def run(self, ctx: jobrt.Context) -> Any:
        async with ctx.transaction(result={"paid": 7}) as conn:
            await execute(conn, "insert into payments values (?, 7)", ctx.job.id)
            await ctx.enqueue(Child(), conn=conn)
            if self.then == "raise inside" and ctx.job.attempt == 1:
                raise OSError("inside")
        if self.then == "raise after":
            raise OSError("after")
        return "this is ignored"


class Count(jobrt.Job):
    """Job that returns the number of payments."""

    async def run(self, ctx: jobrt.Context) -> Any:
        async with ctx.transaction() as conn:
            ctx.state.append((await execute(conn, "select count(*) from payments"))[0])


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[jobrt.App, Any, list[int]]]:
    """Open an app with a payments table and a worker."""
    counts: list[int] = []
    app = jobrt.App(url, jobs=[Setup, Pay, Child, Count], state=counts, migrate=True)
    with trio.fail_after(60):
        async with app.open_client() as jobs, working(app):
            await (await jobs.enqueue(Setup())).result()
            yield app, jobs, counts


@pytest.mark.parametrize("then", ["", "raise inside", "raise after"])
async def test_writes_children_and_completion_commit_together(database_url: str, then: str) -> None:
    """They commit once. If `run` raises inside the block, all is rolled back and the next attempt repeats it."""
    async with opened(database_url) as (_, jobs, counts):
        handle = await jobs.enqueue(Pay(then))
        record = await handle.wait()
        await (await jobs.enqueue(Count())).wait()
        children = await jobs.query(jobrt.where.name("Child"))
    assert (record.state, record.result) == (State.COMPLETED, {"paid": 7})
    assert counts == [1]
    assert len(children) == 1
    ends = [one.end for one in record.attempts]
    assert ends == ([End.FAILED, End.FINISHED] if then == "raise inside" else [End.FINISHED])


async def test_a_stale_lease_rolls_all_of_it_back(database_url: str) -> None:
    """If the job was deleted before or during the block, `LeaseLost` is raised, and nothing is written."""
    raised: list[str] = []

    class Late(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            await ctx.client.delete(ctx.job.id)
            try:
                async with ctx.transaction() as conn:
                    await execute(conn, "insert into payments values (?, 1)", ctx.job.id)
            except jobrt.LeaseLost:
                raised.append("lost")
                raise

    counts: list[int] = []
    app = jobrt.App(database_url, jobs=[Setup, Late, Count], state=counts, migrate=True)
    with trio.fail_after(60):
        async with app.open_client() as jobs, working(app):
            await (await jobs.enqueue(Setup())).result()
            handle = await jobs.enqueue(Late())
            with pytest.raises(jobrt.JobNotFound):
                await handle.wait()
            while not raised:
                await trio.sleep(0.01)
            await (await jobs.enqueue(Count())).wait()
    assert (raised, counts) == (["lost"], [0])


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"], ids=["NUL", "half a surrogate pair"])
@pytest.mark.parametrize("place", ["error", "result", "checkpoint", "progress"])
async def test_text_that_a_database_cannot_hold_holds_nothing_up(
    database_url: str, text: str, place: str
) -> None:
    """An outcome that cannot be written does not keep others from being written, nor its job claimed."""

    class Odd(jobrt.Job):
        MAX_ATTEMPTS = 1

        async def run(self, ctx: jobrt.Context) -> Any:
            match place:
                case "error":
                    raise ValueError(text)
                case "checkpoint":
                    await ctx.checkpoint(text)
                case "progress":
                    ctx.progress(1, 2, text)
                case _:
                    return text
            return None

    app = jobrt.App(database_url, jobs=[Odd, Child], migrate=True)
    with trio.fail_after(20):
        async with app.open_client() as jobs, working(app):
            odd = await jobs.enqueue(Odd())
            plain = await jobs.enqueue(Child())
            assert await plain.result() == "child"
            assert (await odd.wait()).state in {State.COMPLETED, State.DISCARDED}


async def test_after_children_that_are_final_already_the_parent_goes_on_at_once(
    autojump_clock: MockClock,
) -> None:
    """There is no child to wait for."""

    class Parent(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> Any:
            if ctx.saved is None:
                child = await ctx.enqueue(Child())
                await ctx.checkpoint(child.id)
                await child.wait()
                return jobrt.After([child])
            return (await ctx.client.get(ctx.saved)).result

    async with scene(lambda _: None, [Parent, Child]) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        with trio.fail_after(5):
            assert await (await here.client.enqueue(Parent())).result() == "child"
        await worker.stop()
