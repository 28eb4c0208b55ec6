"""A program without Trio waits for what it has enqueued, while a worker elsewhere runs it."""

from __future__ import annotations

import math
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest
import trio

import jobrt
from jobrt import errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.postgres import Cluster


class Say(jobrt.Job):
    """Return, fail, or cancel itself."""

    MAX_ATTEMPTS = 1

    what: str

    async def run(self, ctx: jobrt.Context) -> object:
        if self.what == "fail":
            raise LookupError("no such address")
        return jobrt.Cancel("not needed") if self.what == "cancel" else {"said": self.what}


async def beside_a_worker(url: str, program: Callable[[jobrt.blocking.Client], None]) -> None:
    """Run a program in a thread, with a client of its own, while a worker serves the database."""

    def run() -> None:
        with jobrt.blocking.Client(url, jobs=[Say]) as client:
            program(client)

    with trio.fail_after(50):
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(jobrt.App(url, jobs=[Say], migrate=True).run_worker)
            await trio.to_thread.run_sync(run)
            await worker.stop()


def transaction(url: str) -> closing[sqlite3.Connection] | closing[psycopg.Connection]:
    """Return a connection of the program's own, which begins a transaction by itself."""
    if url.startswith("sqlite"):
        return closing(sqlite3.connect(url.removeprefix("sqlite:///")))
    return closing(psycopg.connect(url))


async def test_results_come_back(database_url: str) -> None:
    """What `run` returned; the record; another job's handle by its id."""

    def program(jobs: jobrt.blocking.Client) -> None:
        first = jobs.enqueue(Say("hello"))
        many = jobs.enqueue_many([Say("a"), Say("b")])
        assert first.result() == {"said": "hello"}
        assert [one.result(timeout=40) for one in many] == [{"said": "a"}, {"said": "b"}]
        record = jobs.handle(first.id).wait()
        assert (record, record.state) == (jobs.get(first.id), jobrt.State.COMPLETED)

    await beside_a_worker(database_url, program)


async def test_what_did_not_succeed_is_raised(database_url: str) -> None:
    """The same errors as from a handle of the Trio client, with the record."""

    def program(jobs: jobrt.blocking.Client) -> None:
        with pytest.raises(errors.JobFailed, match="LookupError: no such address") as failed:
            jobs.enqueue(Say("fail")).result()
        assert failed.value.record.state is jobrt.State.DISCARDED
        with pytest.raises(errors.JobCancelled, match="not needed"):
            jobs.enqueue(Say("cancel")).result()

    await beside_a_worker(database_url, program)


async def test_waiting_has_an_end(database_url: str) -> None:
    """Nobody runs it: the job stays as it is. The last look is at the end of the time, not before."""
    await jobrt.App(database_url).migrate()
    with jobrt.blocking.Client(database_url) as jobs:
        handle = jobs.enqueue(Say("hello"))
        for timeout in (0, 0.05):
            with pytest.raises(TimeoutError, match=rf"job {handle.id} \(Say\) is still available"):
                handle.result(timeout=timeout)
        with pytest.raises(ValueError, match="not a number"):
            handle.wait(timeout=math.nan)
    with pytest.raises(errors.StorageError, match="the client is not open"):
        handle.wait()


async def test_what_is_not_committed_is_not_there(database_url: str) -> None:
    """And is waited for once it is."""

    def program(jobs: jobrt.blocking.Client) -> None:
        with transaction(database_url) as conn:
            handle = jobs.enqueue(Say("hello"), conn=conn)
            with pytest.raises(errors.JobNotFound, match="its transaction is not committed"):
                handle.wait()
            conn.commit()
        assert handle.result() == {"said": "hello"}
        with pytest.raises(errors.JobNotFound):
            jobs.get(1 << 80)

    await beside_a_worker(database_url, program)


async def test_a_database_that_goes_away_is_waited_for(private_postgres: Cluster) -> None:
    """Until the time is over, if there is one; then it is said."""
    gone, back = threading.Event(), threading.Event()

    def restart() -> None:
        gone.wait()
        private_postgres.start()
        back.set()

    def program(jobs: jobrt.blocking.Client) -> None:
        with psycopg.connect(private_postgres.server.admin) as conn:
            handle = jobs.enqueue(Say("hello"), conn=conn, schedule_in=2)
        private_postgres.stop()
        with pytest.raises(errors.StorageUnavailable):
            handle.wait(timeout=0.1)
        gone.set()
        assert handle.result() == {"said": "hello"}
        assert back.is_set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, restart)
        try:
            await beside_a_worker(private_postgres.server.url("postgres"), program)
        finally:
            gone.set()


def test_a_database_in_memory_is_refused() -> None:
    """No worker could find its jobs."""
    with pytest.raises(errors.StorageError, match="name a file"):
        jobrt.blocking.Client("sqlite:///:memory:")
