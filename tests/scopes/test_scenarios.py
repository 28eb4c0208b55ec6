"""Families under kills, stops and races: what a naive build of durable scopes gets wrong."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import psycopg
import pytest
import trio

import jobrt
from jobrt import End, State, where
from jobrt.events import Event, JobRescued
from tests.runtime.test_worker import working
from tests.scopes import program
from tests.storage.sqlite.files import locked

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

    from tests.scopes.conftest import Scene, Site

LIMIT = 60
"""Seconds after which a test fails; none needs more than a few."""


class Slow(jobrt.Job):
    """Child that ends when its worker stops, or when the gate is open."""

    number: int

    async def run(self, ctx: jobrt.Context) -> int:
        ctx.state.append(f"slow {self.number}")
        while "open" not in ctx.state and not ctx.shutting_down.is_set():
            await trio.sleep(0.005)
        return self.number


class Asks(jobrt.Job):
    """Parent that waits for a message in its block, and never stays in memory."""

    PARK = 0

    async def run(self, ctx: jobrt.Context) -> list[Any]:
        ctx.state.append("asks")
        async with ctx.open_nursery() as nursery:
            await nursery.enqueue(Slow(1))
            await nursery.enqueue(Slow(2))
            word = await ctx.receive("word")
        return [word, *(child.result for child in nursery.children)]


async def test_children_run_once_although_their_parent_was_suspended_in_its_body(site: Site) -> None:
    """One of them runs at the stop, the other one has not started: one slot."""
    async with site(Asks, Slow, slots=1) as scene:
        with trio.fail_after(LIMIT):
            async with working(scene.app) as worker:
                parent = await scene.jobs.enqueue(Asks())
                await _until(scene, "slow 1")
                assert (await scene.jobs.get(parent.id)).state is State.SUSPENDED
                await worker.stop(grace=30)
            assert "slow 2" not in scene.log
            scene.log.append("open")
            async with working(scene.app):
                await parent.send("word", "go")
                assert await parent.result() == ["go", 1, 2]
        family = await scene.jobs.tree(parent.id)
    assert [job.attempt for job in family] == [1, 1, 1]
    assert [scene.log.count(f"slow {number}") for number in (1, 2)] == [1, 1]


async def test_a_new_version_of_the_code_finds_the_children(url: str, site: Site) -> None:
    """A worker is killed after the body; the next one has a field more, and the payloads have another time."""

    class Newer(jobrt.Job):
        NAME = "Page"

        number: int
        at: float
        colour: str = "red"

        async def run(self, ctx: jobrt.Context) -> int:
            ctx.state.append(f"newer {self.number}")
            await ctx.receive("go")
            return self.number

    class Book(program.Book):
        NAME = "Book"

        async def run(self, ctx: jobrt.Context) -> list[int]:
            async with ctx.open_nursery("pages") as nursery:
                await nursery.enqueue_many([Newer(number, time.time()) for number in range(program.COUNT)])
            return [child.result for child in nursery.children]

    async with site(Newer, Book) as scene:
        parent = await scene.jobs.enqueue(Book())
        with trio.fail_after(LIMIT):
            with process(url) as dead:
                while await scene.jobs.count(where.state("suspended")) < 1 + program.COUNT // 2:
                    await trio.sleep(0.02)
                waiting = (await scene.jobs.get(parent.id)).waiting
                assert waiting is not None
                assert (waiting.kind, waiting.name, waiting.worker) == ("children", "pages", dead.worker)
            await _bury(scene, dead.worker)
            for child in (await scene.jobs.tree(parent.id))[1:]:
                if child.state is State.SUSPENDED:
                    await scene.jobs.send(child.id, "go")
            async with working(scene.app):
                assert await parent.result() == list(range(program.COUNT))
        family = await scene.jobs.tree(parent.id)
    assert len(family) == 1 + program.COUNT
    assert {job.attempt for job in family} == {1}
    assert sorted(scene.log) == sorted(f"newer {number}" for number in range(1, program.COUNT, 2))


async def test_a_limit_that_has_passed_stays_so(site: Site) -> None:
    """The message comes while the job sleeps. The runs after that take the same branch again."""

    class Patient(jobrt.Job):
        PARK = 0

        async def run(self, ctx: jobrt.Context) -> Any:
            try:
                await ctx.receive("word", within=0.02)
            except trio.TooSlowError:
                ctx.state.append("too slow")
            else:
                ctx.state.append("in time")
            await ctx.sleep(0.1)
            return [await ctx.receive("end"), await ctx.receive("word")]

    async with site(Patient) as scene, working(scene.app):
        with trio.fail_after(LIMIT):
            job = await scene.jobs.enqueue(Patient())
            await _until(scene, "too slow")
            await job.send("word", "late")
            while (waiting := (await scene.jobs.get(job.id)).waiting) is None or waiting.name != "end":
                await trio.sleep(0.01)
            await job.send("end", "end")
            assert await job.result() == ["end", "late"]
    assert "in time" not in scene.log
    assert scene.log.count("too slow") >= 2


class Grandchild(jobrt.Job):
    """Job that must not survive."""

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.state.append("grandchild")
        await trio.sleep_forever()


class Middle(jobrt.Job):
    """Parent of a job that ends, and of one whose insert is slow."""

    async def run(self, ctx: jobrt.Context) -> None:
        async with ctx.open_nursery() as nursery:
            await nursery.enqueue(Slow(3))
            while "insert" not in ctx.state:
                await trio.sleep(0.005)
            await nursery.enqueue(Grandchild())


class Grandparent(jobrt.Job):
    """Root of the family."""

    async def run(self, ctx: jobrt.Context) -> None:
        async with ctx.open_nursery() as nursery:
            await nursery.enqueue(Slow(4))
            await nursery.enqueue(Middle())


@pytest.mark.parametrize("at_commit", [False, True], ids=["before the locks", "with the locks"])
async def test_nothing_survives_a_cancel_during_an_insert(url: str, site: Site, *, at_commit: bool) -> None:
    """A grandparent is cancelled while its grandchild is uncommitted, and siblings of both end. Nobody deadlocks."""
    async with site(Grandparent, Middle, Grandchild, Slow, slots=8) as scene, working(scene.app):
        root = await scene.jobs.enqueue(Grandparent())
        with trio.fail_after(LIMIT):
            await _until(scene, "slow 3")
            await _until(scene, "slow 4")
            async with held_insert(url, at_commit=at_commit) as insert:
                scene.log.append("insert")
                await insert.begun()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(scene.jobs.cancel, root.id, "enough")
                    scene.log.append("open")
                    await insert.others_wait()
                    insert.commit()
            record = await root.wait()
        family = await scene.jobs.tree(root.id)
    assert (record.state, record.cancel_reason) == (State.CANCELLED, "enough")
    assert {job.state for job in family} <= {State.CANCELLED, State.COMPLETED}, family
    assert insert.deadlocks() == 0


async def test_a_parked_parent_outlives_its_worker(url: str, site: Site) -> None:
    """Its siblings are cancelled before any rescue; it goes on with its only attempt, and raises once."""
    rescued: list[Event] = []
    async with site(*program.JOBS, queues=program.QUEUES) as scene, trio.open_nursery() as nursery:
        scene.app.events.subscribe(rescued.append)
        with trio.fail_after(LIMIT), process(url, "parents") as dead:
            parent = await scene.jobs.enqueue(program.Parent())
            while (
                waiting := (await scene.jobs.get(parent.id)).waiting
            ) is None or waiting.worker != dead.worker:
                await trio.sleep(0.01)
            second = await nursery.start(scene.app.run_worker)
            await _until(scene, "bad")
            dead.kill()
            scene.log.append("fail")
            siblings = where.name("Sibling")
            while await scene.jobs.count(siblings & where.state("cancelled")) < 2:
                await trio.sleep(0.005)
            assert not [event for event in rescued if isinstance(event, JobRescued)]
            await _bury(scene, dead.worker)
            record = await parent.wait()
            await second.stop()
    assert (record.state, record.attempt) == (State.DISCARDED, 1)
    assert [(end.end, end.error_type) for end in record.attempts] == [(End.FAILED, "JobFailed")]
    assert [entry for entry in scene.log if entry in {"parent 1", "raised"}] == ["parent 1", "raised"]


# ---------------------------------------------------------------------- small parts


@attrs.define(eq=False)
class Process:
    """A worker in a process of its own."""

    worker: str
    lines: list[str]
    _process: subprocess.Popen[str]

    def kill(self) -> None:
        """Kill it by SIGKILL."""
        self._process.kill()
        self.lines += self._process.communicate()[0].splitlines()


@contextmanager
def process(url: str, *queues: str) -> Generator[Process]:
    """Run a worker of `program` in a process, and kill it at the end of the block."""
    started = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.scopes.program", url, *queues],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    first = started.stdout.readline().split()
    worker = Process(first[1] if first else "", [], started)
    try:
        assert worker.worker, "the worker did not start"
        yield worker
    finally:
        if started.poll() is None:
            worker.kill()


@attrs.define(eq=False)
class HeldInsert:
    """An insert of a grandchild that does not commit before the test lets it."""

    begun: Callable[[], Awaitable[None]]
    others_wait: Callable[[], Awaitable[None]]
    commit: Callable[[], None]
    deadlocks: Callable[[], int]


@asynccontextmanager
async def held_insert(url: str, *, at_commit: bool) -> AsyncGenerator[HeldInsert]:
    """Hold the next insert of a grandchild: in PostgreSQL within its transaction, in SQLite before it.

    In PostgreSQL it is held when the row is written, or `at_commit`, when it has locked its parent.
    """

    async def nothing() -> None:
        await trio.lowlevel.checkpoint()

    if url.startswith("sqlite"):
        with locked(Path(url.removeprefix("sqlite:///"))) as lock:
            yield HeldInsert(nothing, nothing, lock.release, lambda: 0)
        return
    with psycopg.connect(url, autocommit=True) as conn:

        def hold() -> None:
            conn.execute(
                """create function hold() returns trigger language plpgsql as
                   'begin perform pg_advisory_xact_lock(42); return null; end'"""
            )
            conn.execute(
                "create constraint trigger hold after insert on jobrt.job deferrable initially"
                f" {'deferred' if at_commit else 'immediate'}"
                " for each row when (new.name = 'Grandchild') execute function hold()"
            )
            conn.execute("select pg_advisory_lock(42)")

        async def begun() -> None:
            waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            while conn.execute(waiting).fetchone() == (0,):
                await trio.sleep(0.005)

        async def others_wait() -> None:
            blocked = "select count(*) from pg_locks where locktype <> 'advisory' and not granted"
            while conn.execute(blocked).fetchone() == (0,):
                await trio.sleep(0.005)

        async def cancelled() -> None:
            asked = "select count(*) from jobrt.job where name = 'Grandparent' and cancel_reason is not null"
            while conn.execute(asked).fetchone() == (0,):
                await trio.sleep(0.005)

        def commit() -> None:
            conn.execute("select pg_advisory_unlock(42)")

        def deadlocks() -> int:
            with psycopg.connect(url) as look:
                found = look.execute(
                    "select deadlocks from pg_stat_database where datname = current_database()"
                )
                return int((found.fetchone() or (0,))[0])

        await trio.to_thread.run_sync(hold)  # it waits for transactions that only this event loop can end
        yield HeldInsert(begun, others_wait if at_commit else cancelled, commit, deadlocks)


async def _bury(scene: Scene, worker: str) -> None:
    """Release the jobs of a killed worker at once, as `worker --processes` does."""
    async with scene.app.open_storage() as storage:
        await storage.workers.unregister(worker)
        await storage.workers.rescue()


async def _until(scene: Scene, entry: object) -> None:
    """Wait until a job has written an entry."""
    while entry not in scene.log:
        await trio.sleep(0.005)
