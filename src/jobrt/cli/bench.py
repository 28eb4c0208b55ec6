"""Measure how fast jobrt is here: on this machine, with this database."""

from __future__ import annotations

import logging
import os
import platform
import random
import signal
import statistics
import sys
import time
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

import attrs
import click
import trio
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import jobrt
from jobrt import where
from jobrt._bench.scratch import open_scratch
from jobrt.cli.output import JSON_OPTION, on_terminal, print_json, print_rows
from jobrt.cli.setting import Setting, in_trio
from jobrt.logs import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from jobrt._bench.scratch import Scratch
    from jobrt._client import Client
    from jobrt._runtime.worker import Worker
    from jobrt.events import Emitter, Event

    Step = Callable[[int], None]

__all__ = ["COMMANDS"]

_COMMITS = 50
_ONE_BY_ONE_SECONDS = 2.0
_BULK = 10_000
_PULSES = 100
_GAPS = (0.02, 0.06)
"""Seconds between jobs on an idle worker: longer than it remembers the last one."""
_LOOK_EVERY = 0.1


@attrs.define
class Start:
    """When the latest job began."""

    at: float = 0.0
    seen: trio.Event = attrs.Factory(trio.Event)


class Noop(jobrt.Job):
    """Do nothing but tell when."""

    number: int
    pad: str = "x" * 64

    async def run(self, ctx: jobrt.Context) -> None:
        """Tell when it began."""
        ctx.state.at = time.perf_counter()
        ctx.state.seen.set()


@attrs.frozen
class Figures:
    """What was measured; per second, or milliseconds."""

    jobs: int
    durable_write_ms: float
    one_by_one_per_second: float
    bulk_per_second: float
    drained_per_second: float
    start_p50_ms: float
    start_p95_ms: float
    start_p99_ms: float

    def rows(self) -> list[tuple[str, str]]:
        """Return what people read."""
        starts = f"{self.start_p50_ms:.2f} / {self.start_p95_ms:.2f} / {self.start_p99_ms:.2f} ms"
        return [
            ("a durable write of one row", f"{self.durable_write_ms:.2f} ms"),
            ("enqueued one by one", f"{self.one_by_one_per_second:,.0f} jobs/s"),
            (f"enqueued in bulk, {self.jobs:,}", f"{self.bulk_per_second:,.0f} jobs/s"),
            ("run by one worker, no-op jobs", f"{self.drained_per_second:,.0f} jobs/s"),
            ("from the enqueue to the start, idle worker, p50 / p95 / p99", starts),
        ]


@click.command(short_help="Measure how fast this machine and this database are.")
@click.option(
    "--jobs",
    "number",
    type=click.IntRange(min=100),
    default=50_000,
    show_default=True,
    metavar="N",
    help="How many jobs to enqueue in bulk and run.",
)
@JSON_OPTION
@click.pass_obj
@in_trio
async def bench(setting: Setting, number: int, as_json: bool) -> int:
    """Measure enqueueing, running and the start of no-op jobs, with client and worker in this one process.

    In a schema or folder of its own beside the database, which is removed in the end: nothing of yours is touched, but
    the database is busy meanwhile. Settings are the defaults; each job counts when its end is committed.
    """
    os.environ.pop("JOBRT_DISABLED", None)  # that is about other workers, not about the one measured here
    told = setting.app()
    stopped = 0
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def stop_at_signal() -> None:
                nonlocal stopped
                stopped = await anext(signals)
                nursery.cancel_scope.cancel()

            nursery.start_soon(stop_at_signal)
            async with open_scratch(told.url) as scratch:
                figures = await _measure(scratch, number, listen=told.listen)
            nursery.cancel_scope.cancel()
            _print(figures, _about(scratch.about), as_json=as_json)
    if stopped:
        click.echo("interrupted; what was made for measuring is removed", err=True)
    return stopped and 128 + stopped


def _print(figures: Figures, about: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        print_json({"about": about, **attrs.asdict(figures)})
    else:
        print_rows(("what", "figure"), [*figures.rows(), *about.items()], empty="")


def _about(database: dict[str, str]) -> dict[str, str]:
    return {
        **database,
        "Python": platform.python_version(),
        **{name: version(name) for name in ("jobrt", "trio")},
        "cores": str(os.cpu_count()),
        "machine": platform.platform(),
    }


async def _measure(scratch: Scratch, number: int, *, listen: bool) -> Figures:
    start = Start()
    app = jobrt.App(scratch.url, jobs=[Noop], state=start, schema=scratch.schema, listen=listen, migrate=True)
    with _undisturbed(app.events):
        return await _figures(app, start, number)


@contextmanager
def _undisturbed(events: Emitter) -> Generator[None]:
    """Give up at what a worker's log calls an error: a worker waits for its database, a measurement must not."""
    errors: list[str] = []

    def hear(event: Event) -> None:
        level, words = describe(event)
        if level >= logging.ERROR:
            errors.append(words)
            scope.cancel()

    with trio.CancelScope() as scope, events.subscribed(hear, routine=False):
        yield
    if errors:
        raise jobrt.errors.JobrtError(f"this is no measurement; the worker said: {errors[0]}")


async def _figures(app: jobrt.App, start: Start, number: int) -> Figures:
    async with app.open_client() as jobs:
        with _progress("durable writes", _COMMITS) as step:
            write = await _durable_write(jobs, step)
        with _progress("one by one", None) as step:
            one, enqueued = await _one_by_one(jobs, step)
        with _progress("in bulk", number) as step:
            bulk = await _in_bulk(jobs, number, step)
        async with trio.open_nursery() as nursery:
            with _progress("run", enqueued + number) as step:
                begin = time.perf_counter()
                worker = await nursery.start(app.run_worker)
                await _all_run(jobs, worker, enqueued + number, step)
                drained = (enqueued + number) / (time.perf_counter() - begin)
            with _progress("starts", _PULSES) as step:
                p50, p95, p99 = await _starts(jobs, start, step)
            await worker.stop()
    return Figures(number, write, one, bulk, drained, p50, p95, p99)


async def _durable_write(jobs: Client, step: Step) -> float:
    """Return the median milliseconds of changing one small row."""
    times = []
    for number in range(_COMMITS):
        begin = time.perf_counter()
        await jobs.scale("default", number + 1)
        times.append((time.perf_counter() - begin) * 1000)
        step(1)
    await jobs.scale("default", None)
    return statistics.median(times)


async def _one_by_one(jobs: Client, step: Step) -> tuple[float, int]:
    """Return jobs per second, and how many there were."""
    begin = time.perf_counter()
    number = 0
    while (seconds := time.perf_counter() - begin) < _ONE_BY_ONE_SECONDS:
        await jobs.enqueue(Noop(number))
        number += 1
        step(1)
    return number / seconds, number


async def _in_bulk(jobs: Client, number: int, step: Step) -> float:
    """Return jobs per second, the making of their payloads included."""
    begin = time.perf_counter()
    for first in range(0, number, _BULK):
        some = [Noop(one) for one in range(first, min(first + _BULK, number))]
        await jobs.enqueue_many(some)
        step(len(some))
    return number / (time.perf_counter() - begin)


async def _all_run(jobs: Client, worker: Worker, number: int, step: Step) -> None:
    """Wait until all ends are committed."""

    async def show() -> None:
        shown = 0
        while True:
            await trio.sleep(_LOOK_EVERY)
            landed = worker.info().landed
            step(landed - shown)
            shown = landed

    async with trio.open_nursery() as nursery:
        nursery.start_soon(show)
        await worker.wait_idle()
        nursery.cancel_scope.cancel()
    completed = await jobs.count(where.state("completed"))
    if completed != number:
        raise jobrt.errors.JobrtError(f"this is no measurement: {completed} of {number} jobs were run")


async def _starts(jobs: Client, start: Start, step: Step) -> tuple[float, float, float]:
    """Return the 50th, 95th and 99th percentile of the milliseconds from the call to the first line of `run`."""
    gaps, waits = random.Random(42), []  # noqa: S311 - uneven, so as not to keep step with a poll
    for number in range(_PULSES):
        await trio.sleep(gaps.uniform(*_GAPS))
        start.seen = trio.Event()
        called = time.perf_counter()
        await jobs.enqueue(Noop(number))
        await start.seen.wait()
        waits.append((start.at - called) * 1000)
        step(1)
    cuts = statistics.quantiles(waits, n=100, method="inclusive")
    return cuts[49], cuts[94], cuts[98]


@contextmanager
def _progress(what: str, total: int | None) -> Generator[Step]:
    """Show how far a part is: a bar on a terminal, a line in a pipe."""
    if not (on_terminal() and sys.stderr.isatty()):
        click.echo(f"measuring: {what}", err=True)
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, transient=True) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.advance(task, done)


COMMANDS = (bench,)
