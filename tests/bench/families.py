"""Benchmark of families of jobs and of jobs that wait: ``python tests/bench/families.py``.

Each figure has a database of its own. Shares are of the no-op rate of the same round, so a busy machine affects both.
PostgreSQL is a new server with durable commits, or that of --conninfo. `design/benchmarks.md` explains the figures.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import psutil
import trio

import jobrt

sys.path.insert(0, str(Path(__file__).parents[2]))
from collections.abc import Callable

from tests.bench.measuring.databases import PostgresDatabases, SqliteDatabases
from tests.bench.measuring.rounds import say
from tests.bench.measuring.tables import markdown, spreads
from tests.bench.measuring.targets import OURS, Target, judge, report
from tests.bench.measuring.workers import FIRST_FAMILY, working
from tests.bench.postgres import serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator, Sequence

    from tests.bench.measuring.databases import Databases
    from tests.bench.measuring.parts import Figures

ROOT = Path(__file__).parents[2]

BATCH = 5_000
"""Jobs enqueued by one call."""

ELSEWHERE = "elsewhere"
"""Queue that no worker serves: its jobs wait."""


@attrs.define(eq=False)
class Tally:
    """What the jobs of a measurement tell."""

    done: int = 0
    first: float = math.inf
    last: float = 0.0
    cpu: Callable[[], float] = time.process_time
    """CPU seconds of this process and of the server."""
    wakes: list[float] = attrs.Factory(list)
    """Seconds from the end of what a job waited for until it went on."""


# ---------------------------------------------------------------------- jobs


class Noop(jobrt.Job):
    """Job that does nothing but note that it ran."""

    number: int

    async def run(self, ctx: jobrt.Context) -> None:
        """Note the time of the first and the last job."""
        tally: Tally = ctx.state
        tally.last = time.perf_counter()
        tally.first = min(tally.first, tally.last)
        tally.done += 1


class Parent(jobrt.Job):
    """Job with a nursery of no-op jobs, in a queue."""

    children: int
    where: str = "default"

    async def run(self, ctx: jobrt.Context) -> None:
        """Enqueue the children and wait for them."""
        async with ctx.open_nursery() as nursery:
            for first in range(0, self.children, BATCH):
                last = min(first + BATCH, self.children)
                jobs = map(Noop, range(first, last))
                if self.where == "default":
                    await nursery.enqueue_many(jobs)
                else:
                    await nursery.enqueue_many(job.with_options(queue=self.where) for job in jobs)


class Tree(jobrt.Job):
    """Job with two children, each with two children, down to a depth."""

    depth: int

    async def run(self, ctx: jobrt.Context) -> None:
        """Enqueue the next level and wait for it."""
        ctx.state.done += 1
        if self.depth > 1:
            async with ctx.open_nursery() as nursery:
                await nursery.enqueue_many([Tree(self.depth - 1), Tree(self.depth - 1)])


class Waits(jobrt.Job):
    """Parent of a child that never runs. It does not stay in memory while it waits."""

    PARK = 0

    number: int

    async def run(self, ctx: jobrt.Context) -> None:
        """Wait."""
        async with ctx.open_nursery() as nursery:
            await nursery.enqueue(Noop(self.number), queue=ELSEWHERE)


class Hears(jobrt.Job):
    """Job that waits for messages, and measures how long they took."""

    messages: int

    async def run(self, ctx: jobrt.Context) -> None:
        """Receive them; a message is the time of its sending."""
        for _ in range(self.messages):
            sent = await ctx.receive("beat", float)
            ctx.state.wakes.append(time.perf_counter() - sent)


class Sleeps(jobrt.Job):
    """Job that ends a while after its start, and notes when."""

    number: int

    async def run(self, ctx: jobrt.Context) -> None:
        """Sleep without giving up the slot."""
        await trio.sleep(0.05)
        ctx.state.last = time.perf_counter()


class Watches(jobrt.Job):
    """Job that waits for one child after the other, and measures how long after its child's end it went on."""

    children: int

    async def run(self, ctx: jobrt.Context) -> None:
        """Wait for each child in a nursery of its own."""
        for number in range(self.children):
            async with ctx.open_nursery(f"child {number}") as nursery:
                await nursery.enqueue(Sleeps(number))
            ctx.state.wakes.append(time.perf_counter() - ctx.state.last)


JOBS = (Noop, Parent, Tree, Waits, Hears, Sleeps, Watches)

waiting = jobrt.App(jobs=JOBS, state=Tally())
"""What the worker process runs whose memory is measured."""


# ---------------------------------------------------------------------- rates


async def noop(app: jobrt.App, tally: Tally, number: int) -> Figures:
    """Measure jobs that have nothing to do with each other, from the first body to the last."""
    async with app.open_client() as jobs:
        for first in range(0, number, BATCH):
            await jobs.enqueue_many([Noop(each) for each in range(first, min(first + BATCH, number))])
    gc.collect()
    before = tally.cpu()
    await app.drain()
    cpu = tally.cpu() - before
    assert tally.done == number
    return {"noop /s": number / (tally.last - tally.first), "noop CPU us": cpu / number * 1e6}


async def family(app: jobrt.App, tally: Tally, children: int) -> Figures:
    """Measure two jobs with children, each from its enqueue to its end; the worker has run a small family before."""
    rates: list[float] = []
    async with working(app) as jobs:
        await (await jobs.enqueue(Parent(FIRST_FAMILY))).result()
        before = tally.cpu()
        for _ in range(2):
            gc.collect()
            began = time.perf_counter()
            await (await jobs.enqueue(Parent(children))).result()
            rates.append(children / (time.perf_counter() - began))
        cpu = (tally.cpu() - before) / 2
    return {"family /s": rates[0], "second family /s": rates[1], "family CPU us": cpu / children * 1e6}


async def tree(app: jobrt.App, tally: Tally, depth: int) -> Figures:
    """Measure a tree of jobs with two children each. The worker has one slot."""
    async with working(app) as jobs:
        began = time.perf_counter()
        await (await jobs.enqueue(Tree(depth))).result()
        taken = time.perf_counter() - began
    assert tally.done >= 2**depth - 1
    return {"tree /s": (2**depth - 1) / taken, "runs of a job of the tree": tally.done / (2**depth - 1)}


# ---------------------------------------------------------------------- wakes


def wakes(name: str, tally: Tally) -> Figures:
    """Return the percentiles of the wakes, in milliseconds."""
    times = sorted(tally.wakes)
    p50, p95 = statistics.median(times), times[int(len(times) * 0.95)]
    return {f"{name} p50 ms": p50 * 1e3, f"{name} p95 ms": p95 * 1e3}


async def start(app: jobrt.App, tally: Tally, number: int) -> Figures:
    """Measure how long after the call of `enqueue` a job starts, for comparison."""
    async with working(app) as jobs:
        for each in range(number):
            await trio.sleep(0.05)
            began = time.perf_counter()
            await (await jobs.enqueue(Noop(each))).result()
            tally.wakes.append(tally.last - began)
    return wakes("start", tally)


async def message(app: jobrt.App, tally: Tally, number: int) -> Figures:
    """Measure how long after its sending a message is received, from the call of `send`."""
    async with working(app) as jobs:
        handle = await jobs.enqueue(Hears(number))
        for _ in range(number):
            await trio.sleep(0.05)
            await handle.send("beat", time.perf_counter())
        await handle.result()
    return wakes("message", tally)


async def child(app: jobrt.App, tally: Tally, number: int) -> Figures:
    """Measure how long after the end of a child's body its parent goes on."""
    async with working(app) as jobs:
        await (await jobs.enqueue(Watches(number))).result()
    return wakes("child", tally)


# ---------------------------------------------------------------------- many that wait


@contextmanager
def worker_process(url: str) -> Generator[psutil.Popen]:
    """Run a worker process."""
    command = [sys.executable, "-m", "jobrt", "--app", "tests.bench.families:waiting", "--url", url, "worker"]
    process = psutil.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


async def idle(process: psutil.Popen, seconds: float) -> float:
    """Return the CPU of a process over some seconds, in percent of a core."""
    await trio.sleep(2.0)
    before = sum(process.cpu_times()[:2])
    await trio.sleep(seconds)
    return (sum(process.cpu_times()[:2]) - before) / seconds * 100


async def parents(app: jobrt.App, number: int, seconds: float) -> Figures:
    """Measure a worker process, idle without and with parents that wait."""
    with worker_process(app.url) as process:
        async with app.open_client() as jobs:
            while not await jobs.workers():
                await trio.sleep(0.05)
            without = await idle(process, seconds)
            began = time.perf_counter()
            for first in range(0, number, BATCH):
                await jobs.enqueue_many([Waits(each) for each in range(first, min(first + BATCH, number))])
            peak = 0
            while await jobs.count(jobrt.where.state("suspended")) < number:
                peak = max(peak, process.memory_info().rss)
                await trio.sleep(0.05)
            taken = time.perf_counter() - began
            waits = await idle(process, seconds)
            peak = max(peak, process.memory_info().rss)
    return {
        "parents suspended /s": number / taken,
        "parents peak MB": peak / 1e6,
        "idle %": without,
        "idle with parents %": waits,
    }


# ---------------------------------------------------------------------- cancellation


async def subtree(app: jobrt.App, _tally: Tally, number: int) -> Figures:
    """Measure the cancellation of a job with children that wait, and enqueues beside it."""
    refused: list[jobrt.events.Event] = []

    def fenced(event: jobrt.events.Event) -> None:
        if isinstance(event, jobrt.events.WorkerFenced | jobrt.events.OutcomeRefused):
            refused.append(event)

    async with working(app) as jobs:
        handle = await jobs.enqueue(Parent(number, where=ELSEWHERE))
        while (await jobs.get(handle.id)).state != "suspended":
            await trio.sleep(0.2)
        assert await jobs.count(jobrt.where.queue(ELSEWHERE)) == number
        slowest = 0.0
        with app.events.subscribed(fenced, routine=False):
            began = time.perf_counter()
            await jobs.cancel(handle.id)
            returned = time.perf_counter() - began
            while (await jobs.get(handle.id)).state != "cancelled":
                before = time.perf_counter()
                await jobs.enqueue(Noop(0))
                slowest = max(slowest, time.perf_counter() - before)
                await trio.sleep(0.02)
            taken = time.perf_counter() - began
    return {
        "cancel ms": returned * 1e3,
        "cancelled /s": number / taken,
        "enqueue beside it, slowest ms": slowest * 1e3,
        "fenced": len(refused),
    }


# ---------------------------------------------------------------------- command line


@attrs.frozen
class Part:
    """A measurement with its size, and how many slots its worker has."""

    name: str
    measure: Callable[[jobrt.App, Tally, int], Awaitable[Figures]]
    size: int
    slots: int = 10


PARTS = (
    Part("noop", noop, 40_000),
    Part("family", family, 5_000),
    Part("tree", tree, 10, slots=1),
    Part("start", start, 100),
    Part("message", message, 100),
    Part("child", child, 100),
    Part("subtree", subtree, 1_000_000),
)

TARGETS = (
    Target("family of 5,000 / noop", "family", least=0.35, rival=None),
    Target("family of 5,000 / noop, by CPU", "family by CPU", least=0.35, rival=None),
    Target("peak memory with 10,000 parents in MB", "parents peak MB", most=300, rival=None),
    Target("idle CPU with parents / without", "idle with / without", most=1.1, rival=None),
    Target("wake by a message, p50 in ms", "message p50 ms", most=5, rival=None),
    Target("wake by the last child, p50 in ms", "child p50 ms", most=5, rival=None),
    Target("cancel a million, ms until it returns", "cancel ms", most=50, rival=None),
    Target("workers fenced, outcomes refused", "fenced", most=0, rival=None),
)


def cpu_seconds(databases: Databases) -> float:
    """Return the CPU seconds of this process and of the server, if there is one."""
    server = databases.cpu()
    return time.process_time() + (0.0 if math.isnan(server) else server)


def measure(databases: Databases, wanted: set[str], options: argparse.Namespace) -> Figures:
    """Return the figures of all parts."""
    figures: Figures = {}
    for part in PARTS:
        if part.name not in wanted:
            continue
        with databases.fresh() as database:
            tally, size = Tally(cpu=partial(cpu_seconds, databases)), max(2, int(part.size * options.scale))
            app = jobrt.App(
                database.url, jobs=JOBS, queues={"default": part.slots}, state=tally, migrate=True
            )
            figures |= (found := trio.run(part.measure, app, tally, size))
        say(f"{part.name}: " + ", ".join(f"{name} {value:,.2f}" for name, value in found.items()))
    if "parents" in wanted:
        with databases.fresh() as database:
            app = jobrt.App(database.url, jobs=JOBS, state=Tally(), migrate=True)
            size = max(2, int(10_000 * options.scale))
            figures |= (found := trio.run(parents, app, size, options.idle))
        say("parents: " + ", ".join(f"{name} {value:,.2f}" for name, value in found.items()))
        figures["idle with / without"] = figures["idle with parents %"] / max(figures["idle %"], 0.01)
    if {"noop /s", "family /s"} <= figures.keys():
        figures["family"] = figures["family /s"] / figures["noop /s"]
        figures["second family"] = figures["second family /s"] / figures["noop /s"]
        figures["family by CPU"] = figures["noop CPU us"] / figures["family CPU us"]
    return figures


def show(engine: str, rounds: Sequence[Figures]) -> None:
    """Print the figures of an engine, and what must be reached."""
    rows = [(name, str(spread)) for name, spread in spreads(rounds).items()]
    print("\n" + markdown((engine, "median (lowest-highest)"), rows))
    print("\n" + report(judge({OURS: rounds}, TARGETS)))


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    names = ", ".join([part.name for part in PARTS] + ["parents"])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=3, help="number of rounds; figures are medians")
    parser.add_argument("--scale", type=float, default=1.0, help="sizes, as a multiple of the usual ones")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds to measure an idle worker")
    parser.add_argument("--only", default="", help=f"some of: {names}; with commas")
    parser.add_argument("--engine", choices=("sqlite", "postgres"), action="append", help="default: both")
    parser.add_argument("--conninfo", help="URL of another PostgreSQL server")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of all rounds to FILE")
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    options = parse()
    logging.getLogger("jobrt").addHandler(logging.NullHandler())
    wanted = set(filter(None, options.only.split(","))) or {part.name for part in PARTS} | {"parents"}
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
                rounds.setdefault(engine, []).append(measure(databases, wanted, options))
    for engine, measured in rounds.items():
        show(engine, measured)
    if options.json:
        options.json.write_text(json.dumps({"rounds": rounds}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
