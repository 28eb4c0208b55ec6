"""Benchmark of maintenance, counting and listing in a large table: ``python tests/bench/scale.py``.

It fills a SQLite file and a PostgreSQL database with SQL: ``--finished`` finished jobs, ``--scheduled`` scheduled jobs,
``--waiting`` due jobs of a thousand tenants, and a thousand jobs of a dead worker. Then it calls the methods of the
storage that workers, clients, the command line and the dashboard call often. It prints the median and the slowest of
the calls in milliseconds of real time; on a busy machine these are upper bounds. There are seven names and three
queues, and finish times within ten days.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import asynccontextmanager, closing, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import psycopg
import trio

from jobrt._core.worker_info import WorkerInfo

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.support.shared import Clusters

from jobrt._core import where
from jobrt._core.job import NewJob
from jobrt._core.keep import PruneRule
from jobrt._core.limits import Demand
from jobrt._core.rates import Rate
from jobrt._core.states import State
from jobrt._storage.postgres import migration_sql, open_postgres
from jobrt._storage.sqlite import open_sqlite
from jobrt.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from jobrt._storage.contract import Storage

NAMES = tuple(f"job{number}" for number in range(7))
TEN_DAYS = 864_000
CALLS = 5
TOO_LONG = 10_000
"""Milliseconds after which a call is not repeated."""

SQLITE_FILL = """
WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :count)
INSERT INTO jobrt_job (state, queue, name, priority, attempt, max_attempts, schedule_at, created_at, lease, worker,
                       started_at, finished_at, limit_key, args)
SELECT :state, 'q' || (n % 3), 'job' || (n % 7), n % 3, :attempt, 5, :at + n * :step, :past + n * :step, :lease * n,
       :worker, CASE WHEN :state > 2 THEN :past + n * :step END, CASE WHEN :state > 3 THEN :past + n * :step + 5000 END,
       CASE WHEN :state = 1 THEN 'args.tenant=' || (n % 1000) END, '{"n": ' || n || ', "tenant": ' || (n % 1000) || '}'
FROM n
"""
POSTGRES_FILL = """
insert into jobrt.job (state, queue, name, priority, attempt, max_attempts, schedule_at, created_at, lease, worker,
                       started_at, finished_at, limit_key, args)
select %(state)s::jobrt.job_state, 'q' || n %% 3, 'job' || n %% 7, n %% 3, %(attempt)s, 5,
       now() + make_interval(secs => %(at)s + n * %(step)s),
       now() - interval '10 days' + make_interval(secs => n * %(step)s),
       %(lease)s * n, %(worker)s,
       case when %(over)s or %(runs)s then now() - interval '10 days' + make_interval(secs => n * %(step)s) end,
       case when %(over)s then now() - interval '10 days' + make_interval(secs => n * %(step)s + 0.005) end,
       case when %(state)s = 'available' then 'args.tenant=' || n %% 1000 end,
       '{"n": ' || n || ', "tenant": ' || n %% 1000 || '}'
  from generate_series(1, %(count)s) n
"""


def kinds(options: argparse.Namespace) -> list[tuple[str, int]]:
    """Return the number of jobs in each state."""
    return [
        ("completed", options.finished),
        ("scheduled", options.scheduled),
        ("available", options.waiting),
        ("executing", 1000),
    ]


def fill_sqlite(path: Path, options: argparse.Namespace) -> None:
    """Insert the jobs into a SQLite file."""
    states = {"scheduled": 0, "available": 1, "executing": 3, "completed": 4}
    now = time.time_ns() // 1000
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA cache_size = -500000")
        for state, count in kinds(options):
            future = 3600_000_000 if state == "scheduled" else -TEN_DAYS * 1_000_000
            runs = state in {"executing", "completed"}
            values = {
                "state": states[state],
                "count": count,
                "attempt": int(runs),
                "at": now + future,
                "past": now - TEN_DAYS * 1_000_000,
                "step": TEN_DAYS * 1_000_000 // max(count, 1),
                "lease": {"executing": 1, "completed": -1}.get(state),
                "worker": "dead" if runs else None,
            }
            if count:
                db.execute(SQLITE_FILL, values)
        db.commit()


def fill_postgres(url: str, options: argparse.Namespace) -> None:
    """Insert the jobs into a PostgreSQL database."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(migration_sql().encode())
        for state, count in kinds(options):
            runs, over = state == "executing", state == "completed"
            values = {
                "state": state,
                "count": count,
                "attempt": int(runs or over),
                "at": 3600 if state == "scheduled" else -TEN_DAYS,
                "step": TEN_DAYS / max(count, 1),
                "lease": 1 if runs else -1 if over else None,
                "worker": "dead" if runs or over else None,
                "runs": runs,
                "over": over,
            }
            db.execute(POSTGRES_FILL.encode(), values)
        db.execute("vacuum analyze jobrt.job")


@asynccontextmanager
async def engine(name: str, options: argparse.Namespace) -> AsyncIterator[Storage]:
    """Open a filled database."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if name == "sqlite":
            path = Path(folder, "jobs.db")
            async with open_sqlite(path):
                pass
            await trio.to_thread.run_sync(fill_sqlite, path, options)
            async with open_sqlite(path) as storage:
                yield storage
            return
        clusters = Clusters.of_this_run()
        try:
            with clusters.private({"shared_buffers": "256MB", "max_wal_size": "4GB"}) as cluster:
                url = cluster.server.create_database("scale")
                await trio.to_thread.run_sync(fill_postgres, url, options)
                async with open_postgres(url) as storage:
                    yield storage
        finally:
            clusters.destroy()


def calls(storage: Storage) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Return the calls to measure."""
    demand = Demand("worker", "q1", limit=100, names=NAMES)
    nothing = Demand("worker", "q1", limit=100, names=("none",))
    keyed = attrs.evolve(demand, key="args.tenant")
    one, many = NewJob("job1", "{}", queue="q1"), [NewJob("job1", "{}", queue="q1")] * 1000
    claim = partial(partial, claim_all, storage)
    aged = [PruneRule(state=state, age=timedelta(days=9)) for state in (State.COMPLETED, State.DISCARDED)]
    counted = [PruneRule(state=State.COMPLETED, keep_at_least=1000)]
    listed = partial(storage.jobs.query, limit=50, details=False)
    return {
        "claim 100": claim(demand),
        "claim, nothing for us": partial(storage.attempts.exchange, [], nothing),
        "claim 100, cluster_limit": claim(attrs.evolve(demand, cluster_limit=100_000)),
        "claim 100, rate": claim(attrs.evolve(demand, rate=Rate(1000, burst=1000))),
        "claim 100 of keys, per_key": claim(attrs.evolve(keyed, per_key=2)),
        "claim 100 of keys, fair": claim(attrs.evolve(keyed, fair=True)),
        "enqueue one": partial(storage.jobs.insert, [one]),
        "enqueue 1000": partial(storage.jobs.insert, many),
        "rescue 100": partial(storage.workers.rescue, limit=100),
        "prune 1000 by age": partial(storage.jobs.prune, aged, limit=1000),
        "prune 1000 by number": partial(storage.jobs.prune, counted, limit=1000),
        "prune, nothing to do": partial(storage.jobs.prune, [PruneRule(state=State.CANCELLED)], limit=1000),
        "queues": storage.queues.all,
        "queues, at most 10,000": partial(storage.queues.all, limit=10_000),
        "list the newest 50": partial(listed, where.everything()),
        "list 50 completed": partial(listed, where.state("completed")),
        "list 50 discarded (none)": partial(listed, where.state("discarded")),
        "list 50 of a name": partial(listed, where.name("job3") & where.state("scheduled")),
        "count due": partial(storage.jobs.count, where.state("available")),
        "count scheduled": partial(storage.jobs.count, where.state("scheduled")),
        "count completed": partial(storage.jobs.count, where.state("completed")),
        "count completed, at most 10,000": partial(
            storage.jobs.count, where.state("completed"), limit=10_000
        ),
    }


async def claim_all(storage: Storage, demand: Demand) -> None:
    """Claim as many as are asked for; the first claim by a new key looks for jobs that have none."""
    while not (await storage.attempts.exchange([], demand)).jobs:
        pass


async def measure(name: str, options: argparse.Namespace) -> dict[str, list[float]]:
    """Return the times of each call in milliseconds."""
    began = time.perf_counter()
    async with engine(name, options) as storage:
        print(f"{name}: filled in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        await storage.workers.register("worker", lease=3600.0, info=WorkerInfo())
        found: dict[str, list[float]] = {}
        for what, call in calls(storage).items():
            for _ in range(CALLS):
                start = time.perf_counter()
                with suppress(StorageUnavailable):  # a claim on PostgreSQL is given up after 20 s
                    await call()
                found.setdefault(what, []).append((time.perf_counter() - start) * 1000)
                if found[what][-1] > TOO_LONG:
                    break
        for what, since in (
            ("statistics of an hour", timedelta(hours=1)),
            ("statistics of all time", timedelta(days=999)),
        ):
            start = time.perf_counter()
            await storage.jobs.stats(since=await storage.schema.now() - since)
            found[what] = [(time.perf_counter() - start) * 1000]
    return found


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--finished", type=int, default=1_000_000, help="number of finished jobs")
    parser.add_argument("--scheduled", type=int, default=1_000_000, help="number of scheduled jobs")
    parser.add_argument(
        "--waiting", type=int, default=10_000, help="number of due jobs, ten thousand or more"
    )
    parser.add_argument(
        "--engine", choices=["sqlite", "postgres"], action="append", help="measure only this engine"
    )
    parser.add_argument("--folder", type=Path, help="folder for the SQLite file")
    options = parser.parse_args()
    engines = options.engine or ["sqlite", "postgres"]
    print(
        f"{options.finished:,} finished, {options.scheduled:,} scheduled and {options.waiting:,} due jobs;"
        f" Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores,"
        f" load {os.getloadavg()[0]:.1f}\n"
    )
    tables = {name: trio.run(measure, name, options) for name in engines}
    print("| ms: median (slowest) | " + " | ".join(engines) + " |")
    print("| --- |" + " --- |" * len(engines))
    for what in next(iter(tables.values())):
        cells = [
            f"{statistics.median(times[what]):.1f} ({max(times[what]):.1f})" for times in tables.values()
        ]
        print(f"| {what} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
