"""Benchmark of the dashboard's pages in a large table: ``python tests/bench/pages.py``.

It fills a SQLite file and a PostgreSQL database as ``scale.py`` does, and requests each page in this process. It prints
milliseconds of real time: the first, the median and the slowest of the others; and the median of the processor time of
this process, which has no PostgreSQL in it. The charts count more with each request. The last lines say how many
requests of our script, and how many seconds, it takes until all is counted.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import trio

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.bench.scale import NAMES, fill_postgres, fill_sqlite
from tests.support.shared import Clusters

import jobrt
import jobrt.dashboard
import jobrt.probes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REQUESTS = 11
SLOWEST = 5
STATES = [state.value for state in jobrt.State if state is not jobrt.State.UNKNOWN]
PAGES = (
    "/",
    "/jobs",
    "/jobs?state=completed",
    "/jobs?state=discarded",
    "/jobs?state=completed&name=job3",
    "/jobs?text=nowhere",
    "/jobs?state=completed&text=nowhere",
    "/jobs?tag=rare",
    "/jobs?args=n%3D-1",
    "/jobs?queue=nowhere",
    "/jobs?worker=nobody&before=5d",
    "/jobs?state=completed&queue=nowhere",
    "/jobs?state=scheduled&order=oldest",
    "/jobs?state=available&order=oldest",
    "/jobs/confirm?action=rerun&state=completed",
    "/jobs/confirm?action=delete&tag=rare",
    "/jobs/1",
    "/charts?period=hour",
    "/charts?period=day",
    "/charts?period=week",
    "/workers",
    "/cron",
    "/actions",
    "/api/jobs",
    "/api/queues",
    "/api/doctor",
)


@asynccontextmanager
async def database(engine: str, options: argparse.Namespace) -> AsyncIterator[str]:
    """Make a filled database and yield its URL."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if engine == "sqlite":
            path = Path(folder, "jobs.db")
            async with jobrt.App(f"sqlite:///{path}").open_client():
                pass
            await trio.to_thread.run_sync(fill_sqlite, path, options)
            yield f"sqlite:///{path}"
            return
        clusters = Clusters.of_this_run()
        try:
            with clusters.private({"shared_buffers": "256MB", "max_wal_size": "4GB"}) as cluster:
                url = cluster.server.create_database("pages")
                await trio.to_thread.run_sync(fill_postgres, url, options)
                yield url
        finally:
            clusters.destroy()


async def request(pages: Any, target: str, *, live: bool = False) -> tuple[float, str, float]:
    """Request a page; return the milliseconds, the text, and the milliseconds of processor time in this process."""
    path, _, query = target.partition("?")
    headers = [(b"host", b"localhost")] + [(b"x-jobrt-live", b"1")] * live
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": headers,
        "scheme": "http",
        "server": ("localhost", 80),
        "client": ("127.0.0.1", 1),
        "http_version": "1.1",
        "root_path": "",
    }
    text = b""
    status = 0

    async def receive() -> dict[str, Any]:
        await trio.sleep_forever()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        nonlocal text, status
        await trio.lowlevel.checkpoint()
        text += message.get("body", b"")
        status = message.get("status", status)

    start, before = time.perf_counter(), time.process_time()
    await pages(scope, receive, send)
    if status != 200:
        raise RuntimeError(f"{target}: {status} {text[-500:].decode()}")
    took, busy = time.perf_counter() - start, time.process_time() - before
    return took * 1000, text.decode(), busy * 1000


def numbered(ctx: jobrt.Context, n: int) -> None:
    """Job with the payload of the filled tables."""


def in_words(requests: list[tuple[float, str, float]]) -> str:
    """Return the first time, the median and the slowest of the others, and the processor time, in milliseconds."""
    first, *others = requests
    times = [took for took, _, _ in others]
    busy = statistics.median(cpu for _, _, cpu in others)
    return f"{first[0]:.0f}, {statistics.median(times):.0f} ({max(times):.0f}), {busy:.0f}"


async def at_random(pages: Any, options: argparse.Namespace) -> dict[str, str]:
    """Request lists and previews with drawn combinations of filters; return the slowest, by their medians."""
    draw = random.Random(options.seed)
    medians: dict[str, float] = {}
    for _ in range(options.random):
        target = drawn(draw)
        medians[target] = statistics.median([(await request(pages, target))[0] for _ in range(3)])
    if not medians:
        return {}
    overview = statistics.median([(await request(pages, "/"))[0] for _ in range(REQUESTS)])
    slowest = sorted(medians, key=lambda target: medians[target], reverse=True)[:SLOWEST]
    typical = statistics.median(medians.values())
    summary = f"median {typical:.0f}, {typical / overview:.2f} of the overview"
    found = {f"{options.random} drawn": f"{summary}; slowest:"}
    for number, target in enumerate(slowest):
        share = medians[target] / overview
        found[f"drawn {number}"] = f"{medians[target]:.0f}, {share:.2f} of the overview: `{target}`"
    return found


def drawn(draw: random.Random) -> str:
    """Return the address of a list, or of a preview, with filters of several kinds."""
    values = {
        "state": [*STATES],
        "queue": ["q0", "q1", "nowhere"],
        "name": [*NAMES[:2], "nothing"],
        "tag": ["rare"],
        "worker": ["dead", "nobody"],
        "args": ["n=77", "n=-1", 'text="x"'],
        "meta": ["n=1"],
        "parent": ["1"],
        "since": ["1h", "3d", "9d"],
        "before": ["1h", "3d", "9d"],
        "text": ["nowhere", "job3"],
    }
    pairs = []
    for key in draw.sample(sorted(values), draw.randint(1, 4)):
        several = draw.randint(1, 3) if key == "state" else 1
        pairs += [(key, value) for value in draw.sample(values[key], several)]
    if draw.random() < 0.3:
        return f"/jobs/confirm?{urlencode([*pairs, ('action', draw.choice(['cancel', 'rerun', 'delete']))])}"
    if not any(key == "text" for key, _ in pairs):
        pairs.append(("order", draw.choice(["newest", "oldest"])))
    return f"/jobs?{urlencode(pairs)}"


async def scrape(url: str) -> str:
    """Request the metrics of a worker that claims none of the jobs. They are counted once in some seconds."""
    logging.getLogger("jobrt").setLevel(logging.ERROR)  # it rescues the jobs of the dead worker
    app = jobrt.App(url, queues={"idle": 1})
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.run_worker)
        assert worker is not None
        found = in_words([await request(jobrt.probes.asgi(app), "/metrics") for _ in range(REQUESTS)])
        await worker.stop()
    return found


async def measure(engine: str, options: argparse.Namespace) -> dict[str, str]:
    """Return the times of each page in words."""
    found: dict[str, str] = {}
    async with database(engine, options) as url:
        app = jobrt.App(url, queues={"q0": 1, "q1": 1, "q2": 1})
        for name in NAMES:
            app.job(name=name)(numbered)
        async with app.open_client() as jobs:
            pages = jobrt.dashboard.asgi(app, jobs)
            for target in PAGES:
                found[target] = in_words([await request(pages, target) for _ in range(REQUESTS)])
            found |= await at_random(pages, options)
            for period in () if options.skip_counting else ("hour", "day", "week"):
                start = time.perf_counter()
                asked = 0
                slowest = 0.0
                while True:
                    took, text, _ = await request(pages, f"/charts?period={period}", live=True)
                    asked, slowest = asked + 1, max(slowest, took)
                    if "data-soon" not in text:
                        break
                seconds = time.perf_counter() - start
                found[f"{period} counted"] = f"{asked} requests, {seconds:.1f} s, at most {slowest:.0f}"
        found["/metrics"] = await scrape(url)
    return found


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--jobs", type=int, default=1_000_000, help="number of jobs; a tenth of them is scheduled"
    )
    parser.add_argument(
        "--skip-counting", action="store_true", help="do not wait until the charts are counted"
    )
    parser.add_argument(
        "--engine", choices=["sqlite", "postgres"], action="append", help="measure only this engine"
    )
    parser.add_argument(
        "--random",
        type=int,
        default=0,
        metavar="N",
        help="request lists under N combinations of filters, too",
    )
    parser.add_argument("--seed", type=int, default=1, help="start of the random numbers")
    parser.add_argument("--folder", type=Path, help="folder for the SQLite file")
    options = parser.parse_args()
    options.scheduled = options.jobs // 10
    options.finished = options.jobs - options.scheduled
    options.waiting = 0
    engines = options.engine or ["sqlite", "postgres"]
    print(
        f"{options.finished:,} finished and {options.scheduled:,} scheduled jobs; Python {platform.python_version()},"
        f" SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
    )
    tables = {name: trio.run(measure, name, options) for name in engines}
    print("| ms: first, median (slowest), CPU | " + " | ".join(engines) + " |")
    print("| --- |" + " --- |" * len(engines))
    for what in next(iter(tables.values())):
        print(f"| `{what}` | " + " | ".join(table[what] for table in tables.values()) + " |")


if __name__ == "__main__":
    main()
