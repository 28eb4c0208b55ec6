"""Benchmark of limits over all workers, as shares of the rate of no-ops: ``python tests/bench/limits.py``.

As `shapes.py`, with queues that have limits. The last part runs two worker processes under a rate for ten seconds. Then
it looks at the starts in the table: how many there were, and whether any window of time has too many.
`design/limits.md` explains the figures.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

import jobrt

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.bench.measuring.databases import PostgresDatabases, SqliteDatabases
from tests.bench.measuring.rounds import say
from tests.bench.measuring.tables import markdown, spreads
from tests.bench.measuring.targets import OURS, Target, judge, report
from tests.bench.postgres import serving

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from tests.bench.measuring.databases import Databases
    from tests.bench.measuring.parts import Figures

ROOT = Path(__file__).parents[2]

BATCH = 5_000
"""Jobs enqueued by one call."""

SECONDS = 10.0
"""Time under a rate, and the longest time for one shape."""

RATE = jobrt.Rate(1000)


class Work(jobrt.Job):
    """Job that does nothing, of a tenant."""

    tenant: int

    async def run(self, ctx: jobrt.Context) -> None:
        """Do nothing."""


rated = jobrt.App(jobs=[Work], queues={"default": jobrt.Queue(100, rate=RATE)})
"""What the worker processes of the last part run."""


@attrs.frozen
class Shape:
    """A queue, its jobs, and the share of the rate of no-ops that it must reach.

    ``keys`` is the number of tenants. ``part`` is the number of jobs to run as a part of --jobs, and ``waiting`` the
    number that still waits then.
    """

    name: str
    queue: jobrt.Queue
    keys: int = 1
    part: float = 1.0
    waiting: int | None = None
    least: float | None = None


ONE_KEY = jobrt.Queue(key="args.tenant", per_key=2)

SHAPES = (
    Shape("noop", jobrt.Queue()),
    Shape("cluster_limit=10", jobrt.Queue(cluster_limit=10), part=0.25, least=0.2),
    Shape("thousand keys", ONE_KEY, keys=1000, part=0.5, least=0.3),
    Shape("one key", ONE_KEY, part=0.1, waiting=1000, least=0.05),
    Shape("one key, a million wait", ONE_KEY, part=0.1, waiting=1_000_000, least=0.05),
    Shape("fair, thousand keys", jobrt.Queue(key="args.tenant", fair=True), keys=1000, part=0.25),
    Shape("rate that is never reached", jobrt.Queue(rate=jobrt.Rate(100_000, burst=1000)), part=0.25),
)


async def run_some(app: jobrt.App, shape: Shape, number: int) -> float:
    """Return how many jobs of a shape run per second while others wait."""
    waiting = number if shape.waiting is None else number + shape.waiting
    if shape.queue.key is not None:
        await _declare(app)
    async with app.open_client() as jobs:
        for first in range(0, waiting, BATCH):
            numbers = range(first, min(first + BATCH, waiting))
            await jobs.enqueue_many([Work(tenant=each % shape.keys) for each in numbers])
        gc.collect()
        gc.freeze()
        completed = jobrt.where.state("completed")
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            await nursery.start(app.run_worker)
            done = 0
            while done < number and time.perf_counter() < began + SECONDS:
                await trio.sleep(0.02)
                done = await jobs.count(completed)
            taken = time.perf_counter() - began
            nursery.cancel_scope.cancel()
    return done / taken


async def _declare(app: jobrt.App) -> None:
    """Run a worker, which stores the key of its queue, so that jobs are enqueued with theirs."""
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.run_worker)
        await worker.wait_idle()
        await worker.stop()


def measure(databases: Databases, shapes: Sequence[Shape], jobs: int) -> Figures:
    """Return the rates of all shapes, and their shares."""
    figures: Figures = {}
    for shape in shapes:
        with databases.fresh() as database:
            app = jobrt.App(database.url, jobs=[Work], queues={"default": shape.queue}, migrate=True)
            figures[f"{shape.name} /s"] = rate = trio.run(
                run_some, app, shape, max(1, int(jobs * shape.part))
            )
        figures[shape.name] = rate / figures["noop /s"]
        say(f"{shape.name}: {rate:,.0f} /s, {figures[shape.name]:.3f}")
    if {"one key /s", "one key, a million wait /s"} <= figures.keys():
        figures["a million / a thousand"] = figures["one key, a million wait /s"] / figures["one key /s"]
    return figures


# ---------------------------------------------------------------------- rates


@contextmanager
def workers(url: str, number: int) -> Generator[None]:
    """Run worker processes under the rate."""
    command = [sys.executable, "-m", "jobrt", "--app", "tests.bench.limits:rated", "--url", url, "worker"]
    started = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) for _ in range(number)]
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def under_a_rate(databases: Databases) -> Figures:
    """Return what two workers made of a rate: the share of the starts, and the most in any window."""
    with databases.fresh() as database:
        app = jobrt.App(database.url, migrate=True)
        number = int(RATE.count * (SECONDS + 5))
        trio.run(_enqueue, app, number)
        with workers(database.url, 2):
            starts = trio.run(_starts, app)
    first = starts[0] + 2.0  # both have come up by then
    window = [start for start in starts if first <= start < first + SECONDS]
    return {
        "starts / rate": len(window) / (RATE.count * SECONDS),
        "most above the bound": max(_excess(starts)),
    }


async def _enqueue(app: jobrt.App, number: int) -> None:
    async with app.open_client() as jobs:
        await jobs.enqueue_many([Work(tenant=0)] * number)


async def _starts(app: jobrt.App) -> list[float]:
    async with app.open_client() as jobs:
        while not await jobs.count(jobrt.where.state("completed")):
            await trio.sleep(0.05)
        await trio.sleep(SECONDS + 2.5)
        found = await jobs.query(jobrt.where.state("completed"), order_by="id", limit=None)
    return sorted(job.started_at.timestamp() for job in found if job.started_at)


def _excess(starts: Sequence[float]) -> Iterator[float]:
    """Yield, for each start, how many starts the worst window that ends with it has above its bound."""
    least = float("inf")
    for number, at in enumerate(starts):
        line = number - RATE.count * at / RATE.per
        least = min(least, line)
        yield line - least + 1 - RATE.burst


# ---------------------------------------------------------------------- command line


def show(engine: str, rounds: Sequence[Figures], shapes: Sequence[Shape]) -> None:
    """Print the rates and shares of an engine, and what must be reached."""
    rows = [(name, str(spread)) for name, spread in spreads(rounds).items()]
    shares = [
        Target(f"{shape.name} / noop", shape.name, least=shape.least, rival=None)
        for shape in shapes
        if shape.least is not None
    ]
    shares.append(Target("one key: a million / a thousand", "a million / a thousand", least=0.8, rival=None))
    shares.append(Target("starts under Rate(1000)", "starts / rate", least=0.99, rival=None))
    print("\n" + markdown((engine, "median (lowest-highest)"), rows))
    print("\n" + report(judge({OURS: rounds}, shares)))


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=3, help="number of rounds; figures are medians")
    parser.add_argument("--jobs", type=int, default=40_000, help="no-op jobs; of other shapes it is a part")
    parser.add_argument(
        "--only", default="", help="names of some shapes, with semicolons; no-op is measured always"
    )
    parser.add_argument("--engine", choices=("sqlite", "postgres"), action="append", help="default: both")
    parser.add_argument("--conninfo", help="URL of another PostgreSQL server")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of all rounds to FILE")
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    options = parse()
    wanted = set(filter(None, options.only.split(";")))
    shapes = [shape for shape in SHAPES if not wanted or shape.name in {"noop", *wanted}]
    rounds: dict[str, list[Figures]] = {}
    with ExitStack() as stack:
        engines: dict[str, Databases] = {}
        if "sqlite" in (options.engine or ("sqlite",)):
            engines["sqlite"] = SqliteDatabases(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        if "postgres" in (options.engine or ("postgres",)):
            engines["postgres"] = PostgresDatabases(stack.enter_context(serving(options.conninfo)))
        for number in range(options.repeat):
            for engine, databases in engines.items():
                say(f"round {number + 1} of {options.repeat}, {engine}, load {os.getloadavg()[0]:.1f}")
                figures = measure(databases, shapes, options.jobs)
                if not wanted or "rate" in wanted:
                    figures |= under_a_rate(databases)
                    say(f"two workers: {figures['starts / rate']:.4f}, {figures['most above the bound']:.3f}")
                rounds.setdefault(engine, []).append(figures)
    for engine, measured in rounds.items():
        show(engine, measured, shapes)
    if options.json:
        options.json.write_text(json.dumps({"rounds": rounds}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
