"""Whatever stands in a row harms that job alone: no call fails because of it, and all other jobs run."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings

from jobrt._core import where
from jobrt._core.job import Claimed, Outcome
from jobrt._core.keep import PruneRule
from jobrt._core.limits import CLAIM_BYTES, Demand
from jobrt._core.rates import Rate
from jobrt._core.states import End, State, Transition
from jobrt._runtime.services import record_of
from tests.conformance.build import add, ask, claim, end, job
from tests.conformance.drive import drive, wait
from tests.conformance.hostile import columns_of, rows

if TYPE_CHECKING:
    from jobrt._storage.contract import Storage
    from tests.conformance.harness import Engine

EXAMPLES: Final = {"memory": 25, "sqlite": 3, "postgres": 8}
_EVERYTHING: Final = where.everything()


async def test_no_row_stops_others(engine: Engine) -> None:
    """Rows with any values that their columns can hold: all good jobs run, and every call of the storage works."""
    columns = await columns_of(engine)
    sqlite = engine.name != "postgres"
    examples = EXAMPLES[engine.name] * (10 if "JOBRT_CHAOS" in os.environ else 1)

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(rows(columns, sqlite=sqlite))
    def check(statements: list[str]) -> None:
        wait(_check, engine, statements)

    await drive(check)


async def _check(engine: Engine, statements: list[str]) -> None:
    storage = engine.storage
    await storage.jobs.delete(_EVERYTHING)
    before = await add(storage, job("good"), job("good"))
    await _insert(engine, statements)
    after = await add(storage, job("good"))
    await _look(storage)
    await storage.workers.rescue()
    await _run_all(storage)
    for good in (*before, *after):
        record = await storage.jobs.get(good)
        assert record is not None
        assert record.state is State.COMPLETED
    await _look(storage)
    await _change(storage)
    await _clear(engine)


async def _insert(engine: Engine, statements: list[str]) -> None:
    """Store rows, except those that the tables refuse: an id that another row has, for example."""
    if engine.name == "postgres":
        ignored = "exception when others then null; end"
        await engine.execute("; ".join(f"do $do$ begin {one}; {ignored} $do$" for one in statements))
        return
    for statement in statements:
        with contextlib.suppress(sqlite3.IntegrityError):
            await engine.execute(statement)


_LIMITS: list[dict[str, Any]] = [
    {},
    {"key": "metadata.v", "per_key": 100},
    {"rate": Rate(10**9, burst=100_000)},
    {"key": "metadata.v", "per_key_rate": Rate(10**9, burst=100_000), "fair": True},
]


async def _run_all(storage: Storage) -> None:
    """Claim as a worker does until nothing is due: good jobs complete, and what cannot be read is discarded."""
    idle = 0
    for turn in range(60):
        demand = ask("good", "odd", "", "nope", limit=3, **_LIMITS[turn % len(_LIMITS)])
        claimed = (await storage.attempts.exchange((), demand)).jobs
        idle = 0 if claimed else idle + 1
        if idle == len(_LIMITS):
            return
        for found in claimed:
            record_of(found)
        assert await storage.attempts.finish(list(map(_outcome, claimed))) == ()
    raise AssertionError("the same jobs are due again and again")


def _outcome(claimed: Claimed) -> Outcome:
    if claimed.name == "good":
        return Outcome(claimed.id, claimed.lease)
    return Outcome(claimed.id, claimed.lease, Transition.DISCARD, End.UNDECODABLE, message="cannot be read")


async def _look(storage: Storage) -> None:
    """Ask everything that people and workers ask."""
    now = await storage.schema.now()
    found = await storage.jobs.query(_EVERYTHING)
    assert len(found) == await storage.jobs.count(_EVERYTHING)
    for order in ("schedule_at", "-finished_at"):
        assert len(await storage.jobs.query(_EVERYTHING, order_by=order, details=False)) == len(found)
    for record in found:
        assert await storage.jobs.get(record.id) is not None
    for wanted in (where.args("v", "x"), where.args({}), where.metadata("v", 1), where.tagged_any(["a"])):
        await storage.jobs.query(wanted | ~where.state("completed"), details=False)
    queues = await storage.queues.all(limit=100)
    assert {queue.name for queue in queues}.issuperset(queue.name for queue in await storage.queues.all())
    for worker in await storage.workers.all():
        assert worker.info.queues is not None
    await storage.crons.all()
    await storage.health.queue_load("default", key="args.v", limit=100)
    await storage.workers.changes("w1")
    await storage.jobs.stats(since=now - timedelta(days=1))
    await storage.jobs.stats(since=now - timedelta(days=100_000))
    await storage.jobs.await_final([record.id for record in found])


async def _change(storage: Storage) -> None:
    """Do everything that operators do."""
    await storage.jobs.rerun(where.name("odd"))
    await storage.jobs.update(where.name("odd"), {"priority": 1, "delay": timedelta(seconds=5)})
    await storage.jobs.cancel(where.name("odd"), "enough")
    rules = [
        PruneRule(state=State.COMPLETED, age=timedelta(0)),
        PruneRule(state=State.CANCELLED, age=timedelta(0), keep_at_least=1),
    ]
    await storage.jobs.prune(rules)
    await storage.jobs.delete(_EVERYTHING)
    assert await storage.jobs.count(_EVERYTHING) == 0


async def _clear(engine: Engine) -> None:
    """Leave nothing to the next example."""
    tables = [
        name
        for name in await engine.tables()
        if name.endswith(("worker", "queue", "cron", "rollup", "past", "bucket"))
    ]
    for name in tables:
        await engine.execute(f"delete from {name}")


@pytest.mark.parametrize(
    "limits", [{}, {"capped": (("send", 100),)}, {"cluster_limit": 50, "per_key": 50, "key": "name"}]
)
async def test_a_claim_of_large_jobs_is_cut(storage: Storage, limits: dict[str, Any]) -> None:
    """The jobs of a claim have a limit in bytes. The first comes whatever its size, the others with the next claims."""
    large = [job(args={"pad": "x" * size}) for size in (CLAIM_BYTES, *[1_000_000] * 18)]
    ids = await add(storage, job(), *large, job())
    names = () if "capped" in limits else ("send",)
    demand = Demand("w1", "default", 100, names, **limits)
    claims = [await storage.attempts.exchange((), demand) for _ in range(5)]
    assert [len(one.jobs) for one in claims] == [1, 1, 16, 3, 0]
    assert [one.cut for one in claims[:3]] == [True, True, True]
    assert not claims[-1].cut
    assert [found.id for one in claims for found in one.jobs] == ids
    assert [len(found.args) for found in claims[1].jobs] == [CLAIM_BYTES + 11]


async def test_what_earlier_attempts_left_counts_too(storage: Storage) -> None:
    """Jobs that have failed with long texts are claimed a few at a time."""
    await add(storage, *[job(max_attempts=None) for _ in range(400)])
    failed = await claim(storage)
    long = {"message": "m" * 10_000, "traceback": "t" * 50_000, "delay": 0}
    assert await storage.attempts.finish([end(one, Transition.RETRY, **long) for one in failed]) == ()
    exchange = await storage.attempts.exchange((), ask())
    assert exchange.cut
    assert len(exchange.jobs) == CLAIM_BYTES // 60_000
    assert len(await claim(storage)) == 400 - len(exchange.jobs)


async def test_an_unknown_state_can_be_found(engine: Engine) -> None:
    """A state of a newer version is shown as unknown; PostgreSQL's type has no such states."""
    storage = engine.storage
    (id,) = await add(storage, job())
    assert await storage.jobs.query(where.state("unknown")) == ()
    if engine.name != "postgres":
        await engine.execute(f"update jobrt_job set state = 99 where id = {id}")
        (found,) = await storage.jobs.query(where.state("unknown"))
        assert (found.id, found.state) == (id, State.UNKNOWN)
