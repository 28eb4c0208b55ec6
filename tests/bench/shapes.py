"""Benchmark of jobs that are not no-ops, as shares of the rate of no-ops: ``python tests/bench/shapes.py``.

One process is client and worker, with default settings. The last part runs no-ops with ``worker --processes 1`` and
with 2. Each figure has a database of its own. A job counts when its end is committed. A share is between figures of
the same round, so a busy machine affects both. PostgreSQL is a new server with durable commits, or that of --conninfo.
`design/benchmarks.md` explains the figures.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
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
from tests.bench.measuring.workers import FIRST_FAMILY, working
from tests.bench.postgres import serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence

    from tests.bench.measuring.databases import Databases
    from tests.bench.measuring.parts import Figures

BATCH = 5_000
"""Jobs enqueued by one call, and children of the job that waits for them."""


class Noop(jobrt.Job):
    """Job that does nothing."""

    number: int

    async def run(self, ctx: jobrt.Context) -> None:
        """Do nothing."""


class FailsOnce(jobrt.Job):
    """Job whose first attempt fails, in a function of its own."""

    BACKOFF = staticmethod(lambda _record: 0.0)

    number: int

    async def run(self, ctx: jobrt.Context) -> None:
        """Fail at first."""
        if ctx.job.attempt == 1:
            self.read()

    def read(self) -> None:
        """Fail."""
        raise ValueError(f"{self.number} cannot be read")


class OneStep(jobrt.Job):
    """Job with one step."""

    number: int

    async def run(self, ctx: jobrt.Context) -> None:
        """Do the step."""
        async with ctx.step("only") as step:
            step.value = self.number


class OneCheckpoint(jobrt.Job):
    """Job that stores one checkpoint."""

    number: int

    async def run(self, ctx: jobrt.Context) -> None:
        """Store it."""
        await ctx.checkpoint(self.number)


class FanIn(jobrt.Job):
    """Job that enqueues children, and runs again when all of them have ended."""

    PRIORITY = 1

    children: int

    async def run(self, ctx: jobrt.Context) -> jobrt.After | None:
        """Enqueue them and wait."""
        if ctx.job.attempts:
            return None
        return jobrt.After(await ctx.client.enqueue_many([Noop(number) for number in range(self.children)]))


JOBS = (Noop, FailsOnce, OneStep, OneCheckpoint, FanIn)

alone = jobrt.App(jobs=JOBS)
"""What the worker processes of the last part run."""

UNIQUE = jobrt.Unique()


async def enqueue(app: jobrt.App, job: Callable[[int], object], number: int) -> float:
    """Enqueue jobs in batches, and return the seconds that the calls took."""
    taken = 0.0
    async with app.open_client() as jobs:
        for first in range(0, number, BATCH):
            batch = [job(each) for each in range(first, min(first + BATCH, number))]
            began = time.perf_counter()
            await jobs.enqueue_many(batch)
            taken += time.perf_counter() - began
    return taken


async def drained(app: jobrt.App, job: Callable[[int], object], number: int) -> float:
    """Return how many of such jobs run per second."""
    await enqueue(app, job, number)
    return await drain(app, number)


async def drain(app: jobrt.App, number: int) -> float:
    """Return how many of the enqueued jobs run per second."""
    gc.collect()
    began = time.perf_counter()
    await app.drain()
    taken = time.perf_counter() - began
    async with app.open_client() as jobs:
        left = await jobs.count(~jobrt.where.state("completed"))
    if left:
        raise SystemExit(f"{left} of {number} jobs are not completed")
    return number / taken


async def noop(app: jobrt.App, number: int) -> float:
    """Return how many jobs that do nothing run per second."""
    return await drained(app, Noop, number)


async def retry(app: jobrt.App, number: int) -> float:
    """Return how many jobs run per second whose first attempt fails, and the second does not."""
    return await drained(app, FailsOnce, number)


async def step(app: jobrt.App, number: int) -> float:
    """Return how many jobs with one step run per second."""
    return await drained(app, OneStep, number)


async def checkpoint(app: jobrt.App, number: int) -> float:
    """Return how many jobs with one checkpoint run per second."""
    return await drained(app, OneCheckpoint, number)


async def fan_in(app: jobrt.App, number: int) -> float:
    """Return how many children per second one job enqueues, waits for, and sees at their end.

    The worker has had such a job before. Its start would be a sixth of the time, but little of that of the no-ops.
    """
    async with working(app) as jobs:
        await (await jobs.enqueue(FanIn(FIRST_FAMILY))).result()
        gc.collect()
        began = time.perf_counter()
        await (await jobs.enqueue(FanIn(number))).result()
        return number / (time.perf_counter() - began)


async def bulk(app: jobrt.App, number: int) -> float:
    """Return how many jobs per second are enqueued in batches."""
    return number / await enqueue(app, Noop, number)


async def unique_bulk(app: jobrt.App, number: int) -> float:
    """Return how many unique jobs per second are enqueued in batches."""
    return number / await enqueue(app, lambda each: Noop(each).with_options(unique=UNIQUE), number)


@attrs.frozen
class Shape:
    """A kind of work, its number of jobs as a part of --jobs, and the share that it must reach."""

    name: str
    measure: Callable[[jobrt.App, int], Awaitable[float]]
    part: float = 1.0
    least: float | None = None
    of: str = "noop"
    """The figure of which it is a share."""


SHAPES = (
    Shape("noop", noop),
    Shape("retry once", retry, 0.25, 0.12),
    Shape("step", step, 0.1, 0.12),
    Shape("checkpoint", checkpoint, 0.1, 0.12),
    Shape("fan-in", fan_in, 0.125, 0.35),
    Shape("bulk", bulk),
    Shape("unique bulk", unique_bulk, 0.5, 0.5, of="bulk"),
)


def measure(databases: Databases, shapes: Sequence[Shape], jobs: int) -> Figures:
    """Return the rates of all shapes, and their shares."""
    figures: Figures = {}
    for shape in shapes:
        with databases.fresh() as database:
            app = jobrt.App(database.url, jobs=JOBS, migrate=True)
            figures[f"{shape.name} /s"] = rate = trio.run(shape.measure, app, max(1, int(jobs * shape.part)))
        if shape.least is not None and f"{shape.of} /s" in figures:
            figures[shape.name] = rate / figures[f"{shape.of} /s"]
        say(f"{shape.name}: {rate:,.0f} /s, {figures.get(shape.name, 1):.3f}")
    return figures


# ---------------------------------------------------------------------- processes


@contextmanager
def worker_processes(url: str, processes: int) -> Generator[None]:
    """Run a worker of so many processes."""
    command = [sys.executable, "-m", "jobrt", "--app", "tests.bench.shapes:alone", "--url", url, "worker"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [*command, f"--processes={processes}"], cwd=root, stderr=subprocess.DEVNULL
    ) as worker:
        try:
            yield
        finally:
            worker.terminate()


def by_processes(databases: Databases, jobs: int) -> Figures:
    """Return the rates of no-ops in one and in two processes, and their ratio."""
    figures: Figures = {}
    for processes in (1, 2):
        with databases.fresh() as database:
            app = jobrt.App(database.url, jobs=JOBS, migrate=True)
            trio.run(enqueue, app, Noop, jobs)
            with worker_processes(database.url, processes):
                figures[f"processes={processes} /s"] = rate = trio.run(_completed, app, jobs)
        say(f"--processes {processes}: {rate:,.0f} /s")
    figures["two processes / one"] = figures["processes=2 /s"] / figures["processes=1 /s"]
    return figures


async def _completed(app: jobrt.App, number: int) -> float:
    """Return how many jobs end per second, from the start of the first."""
    async with app.open_client() as jobs:
        while await jobs.count(jobrt.where.state("completed")) < number:
            await trio.sleep(0.01)
        ended = time.time()
        (first,) = await jobs.query(order_by="id", limit=1)
    assert first.started_at is not None
    return number / (ended - first.started_at.timestamp())


def show(engine: str, rounds: Sequence[Figures], shapes: Sequence[Shape]) -> None:
    """Print the rates of an engine, and the shares that must be reached."""
    rates = [
        (name, str(spread))
        for name, spread in spreads(rounds).items()
        if name.endswith("/s") or name.startswith("two")
    ]
    shares = tuple(
        Target(f"{shape.name} / {shape.of}", shape.name, least=shape.least, rival=None)
        for shape in shapes
        if shape.least is not None
    )
    print("\n" + markdown((engine, "median (lowest-highest)"), rates))
    print("\n" + report(judge({OURS: rounds}, shares)))


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=3, help="number of rounds; figures are medians")
    parser.add_argument("--jobs", type=int, default=40_000, help="no-op jobs; of other shapes it is a part")
    parser.add_argument(
        "--only",
        default="",
        help="names of some shapes, or processes, with commas; no-op and bulk are always measured",
    )
    parser.add_argument("--engine", choices=("sqlite", "postgres"), action="append", help="default: both")
    parser.add_argument("--conninfo", help="URL of another PostgreSQL server")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of all rounds to FILE")
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    options = parse()
    logging.getLogger("jobrt").addHandler(logging.NullHandler())  # failures are logged, but not shown
    wanted = set(filter(None, options.only.split(",")))
    shapes = [shape for shape in SHAPES if not wanted or shape.least is None or shape.name in wanted]
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
                if not wanted or "processes" in wanted:
                    figures |= by_processes(databases, 5 * options.jobs)
                rounds.setdefault(engine, []).append(figures)
    for engine, measured in rounds.items():
        show(engine, measured, shapes)
    if options.json:
        options.json.write_text(json.dumps({"rounds": rounds}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
