"""Measurements of enqueueing, running and starting jobs that do nothing, with client and worker in one process."""

import logging
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from typing import TypeAlias

import attrs
import trio

import jobrt
from jobrt import where
from jobrt._bench.scratch import Scratch
from jobrt.events import Event, EventBus
from jobrt.logs import describe

Advance: TypeAlias = Callable[[int], object]
"""Function that receives the number of steps since its last call."""
Progress: TypeAlias = Callable[[str, int | None], AbstractContextManager[Advance]]
"""Function that shows the progress of a measurement, given its name and its number of steps, if known."""

_WRITES = 50
_ONE_BY_ONE_SECONDS = 2.0
_BATCH = 10_000
"""Jobs per call of `enqueue_many`."""
_STARTS = 100
"""Number of jobs whose start is measured."""
_GAPS = (0.02, 0.06)
"""Shortest and longest pause between two of them, in seconds: longer than a worker stays active after a job."""
_PROGRESS_INTERVAL = 0.1


@attrs.define
class Start:
    """Start of the latest job: its time, and an event that is set by it."""

    at: float = 0.0
    seen: trio.Event = attrs.Factory(trio.Event)


class Noop(jobrt.Job):
    """Job that only records the time at which it starts."""

    number: int
    pad: str = "x" * 64

    async def run(self, ctx: jobrt.Context) -> None:
        """Record the time."""
        ctx.state.at = time.perf_counter()
        ctx.state.seen.set()


@attrs.frozen
class Figures:
    """Results of all measurements.

    ``jobs`` were enqueued in bulk and run. A durable write changes one row; its figure is the median. A start takes
    from the call of `enqueue` to the first line of `run` in an idle worker.
    """

    jobs: int
    durable_write_ms: float
    one_by_one_per_second: float
    bulk_per_second: float
    drained_per_second: float
    start_p50_ms: float
    start_p95_ms: float
    start_p99_ms: float


async def measure(scratch: Scratch, jobs: int, *, listen: bool, progress: Progress) -> Figures:
    """Run all measurements and return their figures.

    Args:
        scratch: the empty database or schema for the jobs.
        jobs: the number of jobs to enqueue in bulk and run.
        listen: whether the worker is woken by LISTEN and NOTIFY.
        progress: function that shows the progress of each measurement.

    Raises:
        JobrtError: the worker reported an error, or some jobs were not run.

    """
    start = Start()
    app = jobrt.App(scratch.url, jobs=[Noop], state=start, schema=scratch.schema, listen=listen, migrate=True)
    with _stopped_by_errors(app.events):
        return await _figures(app, start, jobs=jobs, progress=progress)


def describe_machine() -> dict[str, str]:
    """Return the versions of Python and of libraries, and the machine's properties, by name."""
    return {
        "Python": platform.python_version(),
        **{name: version(name) for name in ("jobrt", "trio")},
        "cores": str(os.cpu_count()),
        "machine": platform.platform(),
    }


@contextmanager
def _stopped_by_errors(events: EventBus) -> Generator[None]:
    """Cancel the block at the first event that is logged as an error, and raise an exception.

    A worker waits while its database is unavailable. That time must not be measured.
    """
    errors: list[str] = []

    def on_event(event: Event) -> None:
        level, message = describe(event)
        if level >= logging.ERROR:
            errors.append(message)
            scope.cancel()

    with trio.CancelScope() as scope, events.subscribed(on_event, routine=False):
        yield
    if errors:
        raise jobrt.errors.JobrtError(f"the measurement failed; the worker reported: {errors[0]}")


async def _figures(app: jobrt.App, start: Start, *, jobs: int, progress: Progress) -> Figures:
    async with app.open_client() as client:
        with progress("durable writes", _WRITES) as advance:
            write_ms = await _durable_write(client, advance)
        with progress("one by one", None) as advance:
            one_by_one, enqueued = await _one_by_one(client, advance)
        with progress("in bulk", jobs) as advance:
            bulk = await _in_bulk(client, jobs, advance)
        async with trio.open_nursery() as nursery:
            with progress("run", enqueued + jobs) as advance:
                begin = time.perf_counter()
                worker = await nursery.start(app.run_worker)
                await _run_all(client, worker, jobs=enqueued + jobs, advance=advance)
                drained = (enqueued + jobs) / (time.perf_counter() - begin)
            with progress("starts", _STARTS) as advance:
                p50, p95, p99 = await _starts(client, start, advance)
            await worker.stop()
    return Figures(jobs, write_ms, one_by_one, bulk, drained, p50, p95, p99)


async def _durable_write(client: jobrt.Client, advance: Advance) -> float:
    """Return the median time of a change of one small row, in milliseconds."""
    times: list[float] = []
    for number in range(_WRITES):
        begin = time.perf_counter()
        await client.scale("default", number + 1)
        times.append((time.perf_counter() - begin) * 1000)
        advance(1)
    await client.scale("default", None)
    return statistics.median(times)


async def _one_by_one(client: jobrt.Client, advance: Advance) -> tuple[float, int]:
    """Return jobs per second, and the number of jobs."""
    begin = time.perf_counter()
    number = 0
    while (seconds := time.perf_counter() - begin) < _ONE_BY_ONE_SECONDS:
        await client.enqueue(Noop(number))
        number += 1
        advance(1)
    return number / seconds, number


async def _in_bulk(client: jobrt.Client, jobs: int, advance: Advance) -> float:
    """Return jobs per second, including the time to create the payloads."""
    begin = time.perf_counter()
    for first in range(0, jobs, _BATCH):
        batch = [Noop(number) for number in range(first, min(first + _BATCH, jobs))]
        await client.enqueue_many(batch)
        advance(len(batch))
    return jobs / (time.perf_counter() - begin)


async def _run_all(client: jobrt.Client, worker: jobrt.Worker, *, jobs: int, advance: Advance) -> None:
    """Wait until the outcomes of all jobs are committed; raise `JobrtError` if some jobs were not run."""

    async def show() -> None:
        shown = 0
        while True:
            await trio.sleep(_PROGRESS_INTERVAL)
            landed = worker.info().landed
            advance(landed - shown)
            shown = landed

    async with trio.open_nursery() as nursery:
        nursery.start_soon(show)
        await worker.wait_idle()
        nursery.cancel_scope.cancel()
    completed = await client.count(where.state("completed"))
    if completed != jobs:
        raise jobrt.errors.JobrtError(f"the measurement failed: {completed} of {jobs} jobs were run")


async def _starts(client: jobrt.Client, start: Start, advance: Advance) -> tuple[float, float, float]:
    """Return the 50th, 95th and 99th percentile of the time to start a job, in milliseconds."""
    gaps = random.Random(42)  # noqa: S311 - varied, so that starts do not coincide with polls
    waits: list[float] = []
    for number in range(_STARTS):
        await trio.sleep(gaps.uniform(*_GAPS))
        start.seen = trio.Event()
        called = time.perf_counter()
        await client.enqueue(Noop(number))
        await start.seen.wait()
        waits.append((start.at - called) * 1000)
        advance(1)
    cuts = statistics.quantiles(waits, n=100, method="inclusive")
    return cuts[49], cuts[94], cuts[98]
