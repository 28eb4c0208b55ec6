"""Following a job: what is told, from where, and until when."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import jobrt
from jobrt import Emitted, Gap, LogLine, ProgressChange, State, StateChange
from jobrt._client import following
from jobrt._storage.sqlite import open_sqlite
from jobrt.testing import drain, open_app
from tests.simulation.faulty import AppOn, Fault, FaultyStorage

GO: dict[int, trio.Event] = {}


class Tell(jobrt.Job):
    """Job that emits numbers, one each time that it is told to go on."""

    count: int = 3

    async def run(self, ctx: jobrt.Context) -> None:
        for number in range(1, self.count + 1):
            GO[ctx.job.id] = trio.Event()
            await ctx.emit(number)
            await GO[ctx.job.id].wait()


class Burst(jobrt.Job):
    """Job that logs many lines at once."""

    count: int

    async def run(self, ctx: jobrt.Context) -> None:
        for number in range(self.count):
            ctx.log.info("line %d", number)


class Flaky(jobrt.Job):
    """Job that fails once."""

    BACKOFF = staticmethod(lambda _record: jobrt.backoff.seconds_of(5))

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.progress(ctx.job.attempt, 2)
        await ctx.emit(ctx.job.attempt)
        if ctx.job.attempt == 1:
            raise OSError("not yet")


async def until(updates: AsyncIterator[jobrt.Update], found: Callable[[Any], bool]) -> list[jobrt.Update]:
    """Return updates up to the first for which a condition holds."""
    heard: list[jobrt.Update] = []
    with trio.fail_after(30):
        async for update in updates:
            heard.append(update)
            if found(update):
                break
    return heard


def plain(updates: list[jobrt.Update]) -> list[object]:
    """Return emitted values and states, in order."""
    return [
        update.value if isinstance(update, Emitted) else update.state
        for update in updates
        if isinstance(update, Emitted | StateChange)
    ]


async def test_it_ends_with_the_job(autojump_clock: MockClock) -> None:
    """The states, entries and progress of both attempts; the final state is the last update."""
    async with open_app(jobs=[Flaky]) as (app, jobs), trio.open_nursery() as nursery:
        handle = await jobs.enqueue(Flaky())
        worker = await nursery.start(app.run_worker)
        heard = [update async for update in handle.follow()]
        assert [value for value in plain(heard) if value is not State.AVAILABLE] == [
            *(State.EXECUTING, 1, State.RETRYABLE),
            *(State.EXECUTING, 2, State.COMPLETED),
        ]
        assert [update.cursor for update in heard] == sorted(update.cursor for update in heard)
        assert [one.progress.done for one in heard if isinstance(one, ProgressChange)] == [1, 2]
        again = [update async for update in jobs.follow(handle.id)]
        assert plain(again) == [1, 2, State.COMPLETED]
        assert plain([update async for update in handle.follow(after=1)]) == [2, State.COMPLETED]
        assert plain([update async for update in handle.follow(after=2)]) == [State.COMPLETED]
        await worker.stop()


async def test_what_is_not_kept_is_told_as_a_gap(autojump_clock: MockClock) -> None:
    """Of 2,500 lines the newest thousand are kept, and numbered as they were written."""
    async with open_app(jobs=[Burst]) as (app, jobs):
        handle = await jobs.enqueue(Burst(count=2500))
        await drain(app)
        gap, *lines, end = [update async for update in handle.follow(after=7)]
        assert gap == Gap(1500, 1493)
        assert [line.cursor for line in lines] == list(range(1501, 2501))
        assert [line.message for line in lines if isinstance(line, LogLine)][::999] == [
            "line 1500",
            "line 2499",
        ]
        assert isinstance(end, StateChange)


async def test_who_follows_is_woken(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another client: each value arrives although no look without a wake would be due for a minute."""
    monkeypatch.setattr(following, "_SHORTEST", 60.0)
    monkeypatch.setattr(following, "_LONGEST", 60.0)
    app = jobrt.App(database_url, jobs=[Tell], migrate=True)
    other = jobrt.App(database_url, jobs=[Tell])
    with trio.fail_after(50):
        async with app.open_client() as jobs, other.open_client() as others, trio.open_nursery() as nursery:
            worker = await nursery.start(app.run_worker)
            handle = await jobs.enqueue(Tell(count=5))
            updates = others.handle(handle.id).follow()
            for number in range(1, 6):
                heard = await until(updates, lambda update: isinstance(update, Emitted))
                assert plain(heard)[-1] == number
                GO[handle.id].set()
            assert plain(await until(updates, lambda _: False)) == [State.COMPLETED]
            await worker.stop()


async def test_several_follow_one_job(autojump_clock: MockClock) -> None:
    """Each gets everything behind its own cursor."""
    async with open_app(jobs=[Tell]) as (app, jobs), trio.open_nursery() as nursery:
        worker = await nursery.start(app.run_worker)
        handle = await jobs.enqueue(Tell(count=2))
        first = await until(handle.follow(), lambda update: isinstance(update, Emitted))
        heard: list[list[object]] = []

        async def follow(after: int) -> None:
            heard.append([after, *plain([update async for update in handle.follow(after)])])

        for after in (0, 0, 1):
            nursery.start_soon(follow, after)
        await trio.sleep(1)
        for _ in range(2):
            GO[handle.id].set()
            await trio.sleep(1)
        await trio.sleep(1)
        assert plain(first)[-1] == 1
        ends = [2, State.COMPLETED]
        assert sorted(heard, key=str) == [[0, State.EXECUTING, 1, *ends]] * 2 + [[1, State.EXECUTING, *ends]]
        await worker.stop()


async def test_an_iterator_that_nobody_has_is_forgotten(autojump_clock: MockClock) -> None:
    """A loop that is left needs no `aclose`: the listener ends."""
    async with open_app(jobs=[Tell]) as (_, jobs):
        handle = await jobs.enqueue(Tell())
        assert len(await until(handle.follow(), lambda _: True)) == 1
        home = jobs._following
        assert home is not None
        assert home._listening
        await trio.sleep(5)
        assert not home._listening
        assert len(await until(handle.follow(), lambda _: True)) == 1
        assert home._listening


async def test_a_job_that_does_not_exist(autojump_clock: MockClock) -> None:
    """The iterator says so, at once, or when the job is deleted."""
    async with open_app(jobs=[Tell]) as (_, jobs):
        with pytest.raises(jobrt.JobNotFound, match="there is no job 77"):
            await until(jobs.follow(77), lambda _: True)
        handle = await jobs.enqueue(Tell())
        updates = handle.follow()
        await until(updates, lambda _: True)
        await jobs.delete(handle.id)
        with pytest.raises(jobrt.JobNotFound, match=f"there is no job {handle.id}: it was deleted"):
            await until(updates, lambda _: False)


async def test_a_cursor_of_another_job(autojump_clock: MockClock) -> None:
    """One beyond the job's entries is refused, and so is what is no cursor."""
    async with open_app(jobs=[Tell]) as (_, jobs):
        handle = await jobs.enqueue(Tell())
        with pytest.raises(jobrt.InvalidFilter, match=f"after is 1, but job {handle.id} has 0 entries"):
            await until(handle.follow(after=1), lambda _: True)
        with pytest.raises(jobrt.InvalidFilter, match="follow: after is -1: use 0, or"):
            handle.follow(after=-1)
        with pytest.raises(jobrt.InvalidFilter, match="follow: job_id is 'x'"):
            jobs.follow("x")  # type: ignore[arg-type]


async def test_a_client_that_is_closed(autojump_clock: MockClock) -> None:
    """Who follows gets an error, and so does who begins to."""
    raised: list[str] = []

    async def follow(handle: jobrt.Handle[object]) -> None:
        with pytest.raises(jobrt.StorageError, match="the client is closed"):
            await until(handle.follow(), lambda _: False)
        raised.append("yes")

    async with trio.open_nursery() as nursery, open_app(jobs=[Tell]) as (_, jobs):
        handle = await jobs.enqueue(Tell())
        nursery.start_soon(follow, handle)
        await trio.sleep(1)
    await follow(handle)
    assert raised == ["yes", "yes"]


async def test_a_lost_connection_is_no_end(autojump_clock: MockClock) -> None:
    """While the database is away the iterator waits, and goes on without a hole or an entry twice."""
    away = False

    def decide(name: str) -> tuple[Fault, float] | None:
        return (Fault.REFUSED, 0.0) if away and name in {"read", "listen"} else None

    async with open_sqlite(":memory:") as real:
        app = AppOn(real, jobs=[Tell])
        async with (
            AppOn(FaultyStorage(real, decide), jobs=[Tell]).open_client() as others,
            app.open_client() as jobs,
            trio.open_nursery() as nursery,
        ):
            worker = await nursery.start(app.run_worker)
            handle = await jobs.enqueue(Tell(count=3))
            updates = others.handle(handle.id).follow()
            await until(updates, lambda update: isinstance(update, Emitted))
            away = True
            for _ in range(2):
                GO[handle.id].set()
                await trio.sleep(20)
            away = False
            heard = await until(updates, lambda update: update.cursor == 3)
            assert plain(heard) == [2, 3]
            GO[handle.id].set()
            assert plain(await until(updates, lambda _: False)) == [State.COMPLETED]
            await worker.stop()
