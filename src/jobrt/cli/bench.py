"""The `bench` command."""

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager

import attrs
import click
import trio

from jobrt._bench.measure import Advance, Figures, describe_machine, measure
from jobrt._bench.scratch import open_scratch
from jobrt.cli.output import JSON_OPTION, print_json, print_rows, progress_bars, say
from jobrt.cli.setting import Setting, in_trio


@click.command(short_help="Measure the speed of this machine and database.")
@click.option(
    "--jobs",
    "number",
    type=click.IntRange(min=100),
    default=50_000,
    show_default=True,
    metavar="N",
    help="Number of jobs to enqueue in bulk and run.",
)
@JSON_OPTION
@in_trio
async def bench(setting: Setting, number: int, as_json: bool) -> int:
    """Measure how fast jobs that do nothing are enqueued, run and started. Client and worker are in one process.

    The jobs go into a new schema or folder beside the database, which is removed at the end. Your data is not
    touched, but the database is busy meanwhile. All settings are the defaults. A job counts as run when its outcome
    is committed.
    """
    os.environ.pop("JOBRT_DISABLED", None)  # it disables other workers, not the measured worker
    app = setting.app(create=True)
    stopped_by = 0
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def stop_at_signal() -> None:
                nonlocal stopped_by
                stopped_by = await anext(signals)
                nursery.cancel_scope.cancel()

            nursery.start_soon(stop_at_signal)
            async with open_scratch(app.url) as scratch:
                figures = await measure(scratch, number, listen=app.listen, progress=_progress)
            nursery.cancel_scope.cancel()
            about = {**scratch.about, **describe_machine()}
            if as_json:
                print_json({"about": about, **attrs.asdict(figures)})
            else:
                print_rows(("what", "figure"), [*_rows(figures), *about.items()], empty="")
    if stopped_by:
        say("interrupted; all data of the measurement is removed", err=True)
    return stopped_by and 128 + stopped_by


def _rows(figures: Figures) -> list[tuple[str, str]]:
    starts = (figures.start_p50_ms, figures.start_p95_ms, figures.start_p99_ms)
    percentiles = " / ".join(f"{start:.2f}" for start in starts)
    return [
        ("durable write of one row", f"{figures.durable_write_ms:.2f} ms"),
        ("enqueued one by one", f"{figures.one_by_one_per_second:,.0f} jobs/s"),
        (f"enqueued in bulk, {figures.jobs:,}", f"{figures.bulk_per_second:,.0f} jobs/s"),
        ("run by one worker", f"{figures.drained_per_second:,.0f} jobs/s"),
        ("from enqueue to start, idle worker, p50 / p95 / p99", f"{percentiles} ms"),
    ]


@contextmanager
def _progress(what: str, total: int | None) -> Generator[Advance]:
    """Show the progress of one measurement: a bar on a terminal, a line in a pipe."""
    bars = progress_bars(transient=True)
    if bars is None:
        say(f"measuring: {what}", err=True)
        yield lambda _: None
        return
    with bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.advance(task, done)


COMMANDS = (bench,)
