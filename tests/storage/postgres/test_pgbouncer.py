"""Behind PgBouncer in transaction mode, with ``listen=False``: sessions are shared, and everything works by polling.

The conformance suite runs through it too when ``JOBRT_TEST_PGBOUNCER`` is set.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

import jobrt
from jobrt import End, Queue, State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.postgres import Server

PATIENCE = 50
inside: set[int] = set()
together: list[int] = []
begun: dict[str, trio.Event] = {}


@pytest.fixture(autouse=True)
def clean() -> None:
    """Clear the records of the previous test's jobs."""
    for one in (inside, together, begun):
        one.clear()


class Echo(jobrt.Job):
    """Return the given value; unique per value, if requested."""

    value: int = 0

    async def run(self, ctx: jobrt.Context) -> int:
        return self.value


class Alone(jobrt.Job):
    """Count how many run at the same time in a queue that allows one over the cluster."""

    QUEUE = "one"
    number: int

    async def run(self, ctx: jobrt.Context) -> None:
        inside.add(self.number)
        together.append(len(inside))
        await ctx.checkpoint(self.number)
        inside.remove(self.number)


class Book(jobrt.Job):
    """Write in the transaction that completes it."""

    text: str

    async def run(self, ctx: jobrt.Context) -> None:
        async with ctx.transaction() as conn:
            await conn.execute("insert into book values (%s)", [self.text])


class Endless(jobrt.Job):
    """Run until cancelled."""

    async def run(self, ctx: jobrt.Context) -> None:
        begun.setdefault("endless", trio.Event()).set()
        await trio.sleep_forever()


def make_app(url: str) -> jobrt.App:
    """Return an app configured for a pooler; each worker and client has its own connections."""
    queues = {"default": Queue(8, poll_interval=0.05), "one": Queue(4, cluster_limit=1, poll_interval=0.05)}
    return jobrt.App(
        url, jobs=[Echo, Alone, Book, Endless], queues=queues, listen=False, lease=60, grace=0, migrate=True
    )


@asynccontextmanager
async def workers(url: str, count: int) -> AsyncIterator[tuple[jobrt.Client, list[jobrt.Worker]]]:
    """Run some workers and open a client, all through the pooler."""
    with trio.fail_after(PATIENCE):
        async with make_app(url).open_client() as jobs, trio.open_nursery() as nursery:
            started = [await nursery.start(make_app(url).run_worker) for _ in range(count)]
            yield jobs, started
            for one in started:
                await one.stop()


def restarts(statistics: jobrt.SupervisorStatistics | None) -> int:
    """Add up the restarts in a tree."""
    children = statistics.children if statistics else ()
    return sum(child.restarts + restarts(child.nested) for child in children)


async def test_two_workers_drain_a_queue(pgbouncer_url: str) -> None:
    """Stored one by one, in a statement and by COPY; each runs once, and no actor fails."""
    async with workers(pgbouncer_url, 2) as (jobs, started):
        handles = [await jobs.enqueue(Echo(number)) for number in range(20)]
        handles += await jobs.enqueue_many([Echo(number) for number in range(20, 40)])
        handles += await jobs.enqueue_many([Echo(number) for number in range(40, 640)])
        for number, handle in enumerate(handles):
            record = await handle.wait()
            assert (record.result, record.attempt) == (number, 1)
        assert await jobs.count(jobrt.where.state("completed")) == 640
        assert [restarts(one.statistics()) for one in started] == [0, 0]
        assert not any(one.info().outage for one in started)


async def test_unique_jobs_under_concurrent_clients(pgbouncer_url: str) -> None:
    """The lock on a key is the transaction's, not the session's: of ten at once nine are duplicates."""
    handles: list[Any] = []

    async def enqueue(jobs: jobrt.Client, value: int) -> None:
        handles.append(await jobs.enqueue(Echo(value), unique=jobrt.Unique()))

    with trio.fail_after(PATIENCE):
        async with (
            make_app(pgbouncer_url).open_client() as jobs,
            make_app(pgbouncer_url).open_client() as others,
        ):
            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(enqueue, (jobs, others)[number % 2], number // 10)
            assert sorted(one.duplicate for one in handles) == [False] * 5 + [True] * 45
            assert await jobs.count(jobrt.where.name("Echo")) == 5


async def test_a_limit_over_the_cluster(pgbouncer_url: str) -> None:
    """A lock that ends with the transaction serializes the claims of the queue."""
    async with workers(pgbouncer_url, 2) as (jobs, _):
        handles = await jobs.enqueue_many([Alone(number) for number in range(30)])
        for handle in handles:
            assert (await handle.wait()).state is State.COMPLETED
        assert together == [1] * 30


async def test_transactions_of_jobs(pgbouncer_url: str, postgres_server: Server, postgres_url: str) -> None:
    """A job's writes and its outcome commit together, on whichever server session the transaction uses."""
    postgres_server.execute("create table book (text text)", url=postgres_url)
    async with workers(pgbouncer_url, 1) as (jobs, _):
        for handle in await jobs.enqueue_many([Book(f"page {number}") for number in range(20)]):
            assert (await handle.wait()).state is State.COMPLETED
    assert postgres_server.execute("select count(distinct text) from book", url=postgres_url) == [(20,)]


async def test_a_running_job_is_cancelled(pgbouncer_url: str) -> None:
    """The worker finds the request when it polls."""
    async with workers(pgbouncer_url, 1) as (jobs, _):
        handle = await jobs.enqueue(Endless())
        await begun.setdefault("endless", trio.Event()).wait()
        assert await jobs.cancel(handle.id, "enough") == 1
        record = await handle.wait()
        assert (record.state, [one.end for one in record.attempts]) == (State.CANCELLED, [End.CANCELLED])


async def test_callers_without_trio(pgbouncer_url: str) -> None:
    """Their connection prepares nothing either: twenty statements work on any session."""
    async with workers(pgbouncer_url, 1) as (jobs, _):

        def enqueue() -> list[int]:
            with jobrt.blocking.Client(pgbouncer_url, jobs=[Echo], listen=False) as client:
                return [client.enqueue(Echo(number)).id for number in range(20)]

        for id in await trio.to_thread.run_sync(enqueue):
            while (await jobs.get(id)).state is not State.COMPLETED:
                await trio.lowlevel.checkpoint()
