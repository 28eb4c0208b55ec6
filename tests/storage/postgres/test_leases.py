"""Heartbeats and leadership use a separate connection, and two leaders at once do no harm."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
import trio

from jobrt._core.worker_info import WorkerInfo
from jobrt._runtime.maintenance import Maintenance
from jobrt._runtime.outage import Backoff, Outage
from jobrt.events import EventBus, JobRescued
from tests.storage.postgres.build import add, ask, job
from tests.storage.postgres.conftest import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from jobrt._storage.contract import Storage


async def test_heartbeats_and_leadership_do_not_queue_behind_claims(storage: Storage) -> None:
    """All connections for claims and listings are in use: the lease is renewed, and the leader keeps its role."""
    database = storage.jobs._database
    async with AsyncExitStack() as stack:
        for pool in (database.hot, database.plain):
            for _ in range(pool.max_size):
                await stack.enter_async_context(pool.acquire())
            pool.acquire_timeout = math.inf  # who queues here waits for longer than the test does
        with trio.fail_after(PATIENCE):
            await storage.workers.register("w1", lease=30, info=WorkerInfo())
            term = await storage.workers.lead("maintenance", "w1", seconds=30)
            for _ in range(3):
                assert (await storage.workers.beat("w1", lease=30, info=WorkerInfo())).known
                assert await storage.workers.lead("maintenance", "w1", seconds=30) == term
            await storage.workers.resign("maintenance", "w1")
            await storage.workers.unregister("w1")


@pytest.mark.slow
async def test_two_leaders_do_no_harm(
    storage: Storage, another: Callable[..., Any], admin: psycopg.Connection[Any]
) -> None:
    """Leadership is taken over repeatedly, so both lead: each dead worker's job is rescued once, with one record."""
    jobs = 500
    rescued: Counter[int] = Counter()
    led: set[str] = set()

    def emit(event: object) -> None:
        assert isinstance(event, JobRescued)
        rescued[event.id] += 1

    async with another() as other, trio.open_nursery() as nursery:
        await storage.workers.register("dead", lease=30, info=WorkerInfo())
        await add(storage, *(job(max_attempts=9) for _ in range(jobs)))
        claimed = (await storage.attempts.exchange((), ask(worker="dead", limit=jobs))).jobs
        assert len(claimed) == jobs
        emitter = EventBus()
        emitter.subscribers = (emit,)
        for name, engine in (("w1", storage), ("w2", other)):

            def leads(name: str = name) -> str:
                led.add(name)
                return name

            actor = Maintenance(
                workers=engine.workers,
                jobs=engine.jobs,
                worker=leads,
                aside=engine.aside,
                interval=0.001,
                rules=(),
                backoff=Backoff(Outage(EventBus())),
                emit=emitter,
            )
            nursery.start_soon(actor.run)
        admin.execute("delete from jobrt.worker where id = 'dead'")
        with trio.fail_after(PATIENCE):
            while len(rescued) < jobs:
                admin.execute("delete from jobrt.leader")
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert set(rescued.values()) == {1}
    records = admin.execute("select count(*), count(distinct job_id) from jobrt.attempt").fetchall()
    assert records == [(jobs, jobs)]
