"""A database that is set back to an older state while workers run."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import psycopg
import pytest
import trio
from tests.support.postgres import dump

import jobrt
from jobrt import End, Queue, State, Stop
from jobrt.events import Event, JobEnded, WorkerFenced

if TYPE_CHECKING:
    from collections.abc import Callable


@attrs.define(eq=False)
class Copy:
    """A copy of a database, and how to restore it under the processes that use the database."""

    url: str
    folder: Path

    def make(self) -> None:
        """Copy the database: the file, or all statements that make the schema."""
        if self.url.startswith("sqlite"):
            self._backup(self._path, str(self.folder / "copy.db"))
        else:
            (self.folder / "copy.sql").write_text(dump(self.url, "jobrt"), encoding="utf-8")

    def restore(self) -> None:
        """Replace what the database has now."""
        if self.url.startswith("sqlite"):
            self._backup(str(self.folder / "copy.db"), self._path)
            return
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute("drop schema jobrt cascade")
            conn.execute((self.folder / "copy.sql").read_text(encoding="utf-8").encode())

    @property
    def _path(self) -> str:
        return self.url.removeprefix("sqlite:///")

    @staticmethod
    def _backup(source: str, target: str) -> None:
        with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
            one.backup(other)


class Known:
    """Events until now, and a wait for the next ones."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._more = trio.Event()

    def __call__(self, event: Event) -> None:
        """Note an event."""
        self.events.append(event)
        self._more.set()
        self._more = trio.Event()

    async def until(self, holds: Callable[[Event], bool], *, count: int = 1) -> None:
        """Wait for the n-th of some events."""
        while sum(map(holds, self.events)) < count:
            await self._more.wait()


@pytest.mark.slow
async def test_a_worker_under_a_restored_database_starts_over(  # noqa: PLR0915 - one story
    database_url: str, tmp_path: Path
) -> None:
    """Its jobs are cancelled with `lease_lost`, it registers again, and runs what the restored database has.

    A job that had ended after the copy was made is running by the copy. It is rescued or given back, and runs again.
    """
    copy = Copy(database_url, tmp_path)
    gate, begun = trio.Event(), [trio.Event(), trio.Event()]
    cancelled: list[Any] = []

    app = jobrt.App(
        database_url, queues={"default": Queue(4, poll_interval=0.2)}, lease=4, grace=0, migrate=True
    )

    @app.job
    async def once(ctx: jobrt.Context) -> str:
        begun[0].set()
        await gate.wait()
        return "ended"

    @app.job
    async def endless(ctx: jobrt.Context) -> None:
        begun[1].set()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            cancelled.append(ctx.cancelled)
            raise

    known = Known()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery, app.open_client() as jobs:
            with app.events.subscribed(known, routine=True):
                worker = await nursery.start(app.run_worker)
                first = worker.id
                handle = await jobs.enqueue(once.new())
                await begun[0].wait()
                await trio.to_thread.run_sync(copy.make)
                gate.set()
                assert await handle.result() == "ended"
                await jobs.enqueue(endless.new())
                await begun[1].wait()
                (before,) = await jobs.workers()
                while (await jobs.workers())[0].beat_at == before.beat_at:
                    await trio.sleep(0.1)
                await trio.to_thread.run_sync(copy.restore)
                await known.until(lambda event: isinstance(event, WorkerFenced))
                await known.until(
                    lambda event: isinstance(event, JobEnded) and event.id == handle.id, count=2
                )
                await known.until(lambda event: isinstance(event, JobEnded) and event.end is End.LEASE_LOST)
                assert worker.id != first
                assert cancelled[0][0] is Stop.LEASE_LOST
                again = await jobs.get(handle.id)
                assert (again.state, again.result) == (State.COMPLETED, "ended")
                assert [one.id for one in await jobs.query(jobrt.where.everything())] == [handle.id]
                await worker.stop()
