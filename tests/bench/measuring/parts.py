"""Measurements; each returns figures by name."""

from __future__ import annotations

import math
import statistics
import time
from typing import TYPE_CHECKING, TypeAlias

from tests.bench.measuring.processes import MeasurementError
from tests.bench.peers.harness import WARM_UP

if TYPE_CHECKING:
    from tests.bench.measuring.databases import Database
    from tests.bench.measuring.processes import Bench, Contestant, Working

__all__ = ["Figures", "drain", "one_by_one", "pulse", "run_down"]

Figures: TypeAlias = dict[str, float]


def one_by_one(bench: Bench, who: Contestant, *, seconds: float) -> Figures:
    """Measure enqueueing one by one, each job committed before the next."""
    with bench.database(who) as database:
        server = bench.databases.cpu()
        result = bench.ask(who, "one", database.url, str(seconds))
        return {
            "one /s": result["jobs"] / result["seconds"],
            "one client s/k": result["cpu"] / result["jobs"] * 1000,
            "one server s/k": (bench.databases.cpu() - server) / result["jobs"] * 1000,
        }


def drain(bench: Bench, who: Contestant, *, jobs: int, limit: float) -> Figures:
    """Measure enqueueing many no-op jobs in bulk, and running them."""
    with bench.database(who) as database:
        wal, server = database.wal(), bench.databases.cpu()
        result = bench.ask(who, "many", database.url, str(jobs))
        figures = {
            "bulk /s": jobs / result["seconds"],
            "bulk client s/k": result["cpu"] / jobs * 1000,
            "bulk server s/k": (bench.databases.cpu() - server) / jobs * 1000,
            "bulk WAL B": (database.wal() - wal) / jobs,
        }
        database.settle()
        return figures | run_down(bench, who, database=database, jobs=jobs, limit=limit)


def run_down(
    bench: Bench, who: Contestant, *, database: Database, jobs: int, limit: float, others: int = 0
) -> Figures:
    """Measure a worker that runs all jobs of a database, from the first body to the last committed end.

    After `limit` seconds, the jobs committed until then are measured. `others` is the number of other clients that
    stay connected.
    """
    before = database.counters(others=others)
    with bench.working(who, database.url, jobs=jobs) as worker:
        figures = _race(bench, who, worker=worker, database=database, jobs=jobs, limit=limit)
    after = database.counters(others=others)
    done = jobs - database.left(who.peer.left, jobs)
    return figures | {
        "commits": (after.commits - before.commits) / done,
        "dead rows": (after.dead - before.dead) / done,
    }


def _race(
    bench: Bench, who: Contestant, *, worker: Working, database: Database, jobs: int, limit: float
) -> Figures:
    wal = database.wal()
    worker.begin()
    cpu, server, deadline = worker.cpu(), bench.databases.cpu(), time.monotonic() + limit
    left, end = jobs, 0

    def over() -> bool:
        nonlocal left, end
        end = time.monotonic_ns()  # before the query: all that it sees was committed earlier
        left = database.left(who.peer.left, jobs)
        return left == 0

    begun = worker.until(lambda: worker.marks.all_begun(jobs), deadline=deadline)
    if not (begun and worker.until(over, deadline=deadline)):
        over()
    if (done := jobs - left) == 0:
        raise MeasurementError(f"no job was finished within {limit:.0f} s")
    starts = worker.marks.starts()
    figures = {
        "drain /s": done / (end - starts[0]) * 1e9,
        "drained %": done / jobs * 100,
        "client s/k": (worker.cpu() - cpu) / done * 1000,
        "server s/k": (bench.databases.cpu() - server) / done * 1000,
        "WAL B": (database.wal() - wal) / done,
        "peak MiB": worker.peak(),
    }
    return figures | _fifths(starts)


def _fifths(starts: list[int]) -> Figures:
    """Return the rates of the first and the last fifth of a drain."""
    part = len(starts) // 5
    if part < 1 or starts[part] == starts[0] or starts[-1] == starts[-1 - part]:
        return {"first fifth /s": math.nan, "last fifth /s": math.nan}
    return {
        "first fifth /s": part / (starts[part] - starts[0]) * 1e9,
        "last fifth /s": part / (starts[-1] - starts[-1 - part]) * 1e9,
    }


def pulse(bench: Bench, who: Contestant, *, jobs: int, idle: float) -> Figures:
    """Measure the time from an enqueue in one process to the start of the body in an idle worker.

    It is measured from the call, and from its return, when the job is committed. The job may start before the return,
    so the second figure is better for clients that return late. Then measure the CPU of the idle worker.
    """
    with bench.database(who) as database, bench.working(who, database.url, jobs=jobs + WARM_UP) as worker:
        times = bench.ask(who, "pulse", database.url, str(jobs))
        if not worker.until(lambda: worker.marks.all_begun(jobs), deadline=time.monotonic() + 60):
            raise MeasurementError("a job was not started within 60 s")
        starts = [worker.marks.start(job) for job in range(jobs)]
        called = [(start - times[job][0]) / 1e6 for job, start in enumerate(starts)]
        committed = [(start - times[job][1]) / 1e6 for job, start in enumerate(starts)]
        return (
            _percentiles("call", called) | _percentiles("commit", committed) | {"idle %": _idle(worker, idle)}
        )


def _percentiles(since: str, waits: list[float]) -> Figures:
    cuts = statistics.quantiles(waits, n=100, method="inclusive")
    return {f"{since} p50 ms": cuts[49], f"{since} p95 ms": cuts[94], f"{since} p99 ms": cuts[98]}


def _idle(worker: Working, seconds: float) -> float:
    """Return the CPU of an idle worker in percent of a core."""
    time.sleep(min(1.0, seconds))
    cpu, begin = worker.cpu(), time.monotonic()
    time.sleep(seconds)
    return (worker.cpu() - cpu) / (time.monotonic() - begin) * 100
