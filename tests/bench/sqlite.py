"""Measure jobrt on a SQLite file: ``python tests/bench/sqlite.py [--jobs 100000] [--json]``.

One process, no-op jobs, default settings, synchronous FULL. A job counts when its end is committed. Prints the
versions and settings with the figures; compare figures of one run only, machines differ and drift.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sqlite3
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import trio

import jobrt

started: dict[int, float] = {}


class Noop(jobrt.Job):
    """Do nothing."""

    number: int
    pad: str = "x" * 64

    async def run(self, ctx: jobrt.Context) -> None:
        """Note when it began."""
        started[self.number] = time.perf_counter()


async def _enqueue_one_by_one(client: jobrt.Client, seconds: float) -> float:
    count, begin = 0, time.perf_counter()
    while time.perf_counter() < begin + seconds:
        await client.enqueue(Noop(count))
        count += 1
    return count / (time.perf_counter() - begin)


async def _bulk(client: jobrt.Client, count: int) -> float:
    begin = time.perf_counter()
    await client.enqueue_many([Noop(number) for number in range(count)])
    return count / (time.perf_counter() - begin)


async def _drain(app: jobrt.App, client: jobrt.Client, count: int) -> float:
    """Return jobs per second from the first body to the moment that all ends are committed."""
    started.clear()
    await app.drain()
    end = time.perf_counter()
    left = await client.count(~jobrt.where.state("completed"))
    assert left == 0, f"{left} jobs are not completed"
    return count / (end - min(started.values()))


async def _latency(app: jobrt.App, client: jobrt.Client, count: int) -> dict[str, float]:
    """Return milliseconds from the call of enqueue to the first line of the body, on an idle worker."""
    started.clear()
    waits = []
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.run_worker)
        for number in range(count):
            begin = time.perf_counter()
            handle = await client.enqueue(Noop(number))
            await handle.wait()
            waits.append((started[number] - begin) * 1000)
        cpu, begin = time.process_time(), time.perf_counter()
        await trio.sleep(5)
        idle = (time.process_time() - cpu) / (time.perf_counter() - begin) * 100
        await worker.stop()
    cuts = statistics.quantiles(waits, n=100)
    return {"p50_ms": cuts[49], "p95_ms": cuts[94], "p99_ms": cuts[98], "idle_cpu_percent": idle}


async def measure(jobs: int, folder: Path) -> dict[str, Any]:
    """Return all figures."""
    app = jobrt.App(f"sqlite:///{folder}/bench.db", jobs=[Noop])
    figures: dict[str, Any] = {}
    async with app.open_client() as client:
        figures["enqueue_one_per_s"] = await _enqueue_one_by_one(client, 3)
        await app.drain()
        figures["enqueue_many_per_s"] = await _bulk(client, jobs)
        figures["drain_per_s"] = await _drain(app, client, jobs)
        figures |= await _latency(app, client, 300)
    figures["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = trio.run(measure, options.jobs, Path(folder))
    about = {
        "jobs": options.jobs,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "trio": version("trio"),
        "synchronous": "FULL",
        "concurrency": 10,
    }
    if options.json:
        print(json.dumps(about | figures))
        return
    print("  ".join(f"{key} {value}" for key, value in about.items()))
    for key, value in figures.items():
        print(f"{key:>20} {value:>12,.2f}")


if __name__ == "__main__":
    main()
