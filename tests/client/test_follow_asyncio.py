"""Following a job from a program on asyncio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

import jobrt
from jobrt import Emitted, State, StateChange, aio
from jobrt._client import asyncio_following
from jobrt._storage.sqlite.asyncio_jobs import AsyncioSqlite
from tests.support.in_asyncio import LOOPS, in_asyncio

GO: dict[int, trio.Event] = {}
TOKEN: list[trio.lowlevel.TrioToken] = []


class Tell(jobrt.Job):
    """Job that emits numbers, one each time that it is told to go on."""

    count: int

    async def run(self, ctx: jobrt.Context) -> None:
        for number in range(1, self.count + 1):
            GO[ctx.job.id] = trio.Event()
            await ctx.emit(number)
            await GO[ctx.job.id].wait()


async def beside_a_worker(
    url: str, program: Callable[[aio.Client], Awaitable[None]], loop: str = "asyncio"
) -> None:
    """Run a program with its own client, while a worker serves the database."""

    async def run() -> None:
        async with aio.Client(url, jobs=[Tell]) as client:
            await program(client)

    TOKEN[:] = [trio.lowlevel.current_trio_token()]
    with trio.fail_after(50):
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(jobrt.App(url, jobs=[Tell], migrate=True).run_worker)
            await in_asyncio(run, loop)
            await worker.stop(grace=0)


def go_on(job_id: int) -> None:
    """Let the job go on, from another thread."""
    TOKEN[0].run_sync_soon(GO[job_id].set)


@pytest.mark.parametrize("loop", LOOPS)
async def test_who_follows_is_woken(database_url: str, loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value arrives although no look without a wake would be due for a minute. It ends with the job."""
    monkeypatch.setattr(asyncio_following, "_SHORTEST", 60.0)
    monkeypatch.setattr(AsyncioSqlite, "longest_pause", 60.0)

    async def program(jobs: aio.Client) -> None:
        handle = await jobs.enqueue(Tell(count=3))
        heard: list[object] = []
        async for update in handle.follow():
            if isinstance(update, Emitted):
                heard.append(update.value)
                go_on(handle.id)
            if isinstance(update, StateChange):
                last = update.state
        assert (heard, last) == ([1, 2, 3], State.COMPLETED)
        again = [
            update.cursor async for update in jobs.follow(handle.id, after=2) if isinstance(update, Emitted)
        ]
        assert again == [3]

    await beside_a_worker(database_url, program, loop)


async def test_what_cannot_be_followed(sqlite_url: str) -> None:
    """The errors are those of the client for Trio."""

    async def program(jobs: aio.Client) -> None:
        with pytest.raises(jobrt.JobNotFound, match="there is no job 77"):
            await anext(jobs.follow(77))
        handle = await jobs.enqueue(Tell(count=0))
        with pytest.raises(jobrt.InvalidFilter, match=f"after is 9, but job {handle.id} has 0 entries"):
            await anext(handle.follow(after=9))
        updates = handle.follow()
        await anext(updates)
        await jobs.close()
        with pytest.raises(jobrt.StorageError, match="the client is closed"):
            while True:
                await anext(updates)

    await beside_a_worker(sqlite_url, program)
