"""Tests of the blocking client: a thread enqueues jobs and waits for them, while a worker runs them."""

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
    """Job that returns a value, fails, or cancels itself."""

    MAX_ATTEMPTS = 1

    what: str

    async def run(self, ctx: jobrt.Context) -> object:
        if self.what == "fail":
            raise LookupError("no such address")
        return jobrt.Cancel("not needed") if self.what == "cancel" else {"text": self.what}


async def beside_a_worker(url: str, program: Callable[[jobrt.blocking.Client], None]) -> None:
    """Run a program in a thread with its own client, while a worker serves the database."""

    def run() -> None:
        with jobrt.blocking.Client(url, jobs=[Say]) as client:
            program(client)

    with trio.fail_after(50):
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(jobrt.App(url, jobs=[Say], migrate=True).run_worker)
            await trio.to_thread.run_sync(run)
            await worker.stop()


def transaction(url: str) -> closing[sqlite3.Connection] | closing[psycopg.Connection]:
    """Return another connection, which begins a transaction implicitly."""
    if url.startswith("sqlite"):
        return closing(sqlite3.connect(url.removeprefix("sqlite:///")))
    return closing(psycopg.connect(url))


async def test_a_handle_returns_the_result(database_url: str) -> None:
    """A handle returns the result and the record. A handle can be created from a job id."""

    def program(jobs: jobrt.blocking.Client) -> None:
        first = jobs.enqueue(Say("hello"))
        many = jobs.enqueue_many([Say("a"), Say("b")])
        assert first.result() == {"text": "hello"}
        assert [handle.result(timeout=40) for handle in many] == [{"text": "a"}, {"text": "b"}]
        record = jobs.handle(first.id).wait()
        assert (record, record.state) == (jobs.get(first.id), jobrt.State.COMPLETED)

    await beside_a_worker(database_url, program)


async def test_an_unsuccessful_job_raises(database_url: str) -> None:
    """The exceptions are those of the Trio client's handle, with the record."""

    def program(jobs: jobrt.blocking.Client) -> None:
        with pytest.raises(errors.JobFailed, match="LookupError: no such address") as failed:
            jobs.enqueue(Say("fail")).result()
        assert failed.value.record.state is jobrt.State.DISCARDED
        with pytest.raises(errors.JobCancelled, match="not needed"):
            jobs.enqueue(Say("cancel")).result()

    await beside_a_worker(database_url, program)


async def test_waiting_has_a_timeout(database_url: str) -> None:
    """After the timeout, the job is unchanged. The job is queried a last time when the time is over."""
    await jobrt.App(database_url).migrate()
    with jobrt.blocking.Client(database_url) as jobs:
        handle = jobs.enqueue(Say("hello"))
        for timeout in (0, 0.05):
            with pytest.raises(TimeoutError, match=rf"job {handle.id} \(Say\) is still available"):
                handle.result(timeout=timeout)
        with pytest.raises(ValueError, match="timeout is nan: use seconds"):
            handle.wait(timeout=math.nan)
    with pytest.raises(errors.StorageError, match="the client is closed"):
        handle.wait()


async def test_an_uncommitted_job_is_not_found(database_url: str) -> None:
    """After the commit, the job can be waited for."""

    def program(jobs: jobrt.blocking.Client) -> None:
        with transaction(database_url) as conn:
            handle = jobs.enqueue(Say("hello"), conn=conn)
            with pytest.raises(errors.JobNotFound, match="its transaction is not committed"):
                handle.wait()
            conn.commit()
        assert handle.result() == {"text": "hello"}
        with pytest.raises(errors.JobNotFound):
            jobs.get(1 << 80)

    await beside_a_worker(database_url, program)


async def test_waiting_survives_an_unavailable_database(private_postgres: Cluster) -> None:
    """With a timeout, the wait ends with an error. Without a timeout, it lasts until the job has run."""
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
        assert handle.result() == {"text": "hello"}
        assert back.is_set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, restart)
        try:
            await beside_a_worker(private_postgres.server.url("postgres"), program)
        finally:
            gone.set()


def test_an_in_memory_database_is_refused() -> None:
    """No worker could find its jobs."""
    with pytest.raises(errors.StorageError, match="name a file"):
        jobrt.blocking.Client("sqlite:///:memory:")
