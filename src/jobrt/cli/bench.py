"""``bench``: how fast jobrt is on this machine, with this database."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager

import attrs
import click
import trio
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from jobrt._bench.measure import Advance, Figures, describe_machine, measure
from jobrt._bench.scratch import open_scratch
from jobrt.cli.output import JSON_OPTION, on_terminal, print_json, print_rows
from jobrt.cli.setting import Setting, in_trio


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
    """Measure how fast no-op jobs are enqueued, run and started, with client and worker in this one process.

    The jobs go into a schema or folder of their own beside the database, which is removed at the end. Your data is not
    touched, but the database is busy meanwhile. Settings are the defaults; a job counts when its end is committed.
    """
    os.environ.pop("JOBRT_DISABLED", None)  # it is meant for other workers, not for the one that is measured
    app = setting.app()
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
            _print(figures, {**scratch.about, **describe_machine()}, as_json=as_json)
    if stopped_by:
        click.echo("interrupted; what was made for measuring is removed", err=True)
    return stopped_by and 128 + stopped_by


def _print(figures: Figures, about: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        print_json({"about": about, **attrs.asdict(figures)})
    else:
        print_rows(("what", "figure"), [*_rows(figures), *about.items()], empty="")


def _rows(figures: Figures) -> list[tuple[str, str]]:
    starts = (figures.start_p50_ms, figures.start_p95_ms, figures.start_p99_ms)
    return [
        ("a durable write of one row", f"{figures.durable_write_ms:.2f} ms"),
        ("enqueued one by one", f"{figures.one_by_one_per_second:,.0f} jobs/s"),
        (f"enqueued in bulk, {figures.jobs:,}", f"{figures.bulk_per_second:,.0f} jobs/s"),
        ("run by one worker, no-op jobs", f"{figures.drained_per_second:,.0f} jobs/s"),
        (
            "from the enqueue to the start, idle worker, p50 / p95 / p99",
            f"{' / '.join(f'{start:.2f}' for start in starts)} ms",
        ),
    ]


@contextmanager
def _progress(what: str, total: int | None) -> Generator[Advance]:
    """Show the progress of one measurement: a bar on a terminal, a line in a pipe."""
    if not (on_terminal() and sys.stderr.isatty()):
        click.echo(f"measuring: {what}", err=True)
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, transient=True) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.advance(task, done)


COMMANDS = (bench,)
