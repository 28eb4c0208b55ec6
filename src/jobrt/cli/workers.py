"""Look at workers: their supervision trees, and everything live."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import trio
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

import jobrt
from jobrt._views.findings import COUNT_LIMIT
from jobrt._views.jobs import cancel_phase, cancel_phases
from jobrt._views.words import age, progress_in_words
from jobrt.cli.output import JSON_OPTION, console, on_terminal, print_json
from jobrt.cli.queues import COLUMNS, queue_rows
from jobrt.cli.setting import Setting, in_trio
from jobrt.cli.trees import drawn, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobrt._client import Client

__all__ = ["COMMANDS"]

_SHOWN = 15


@click.command(short_help="Show every worker's supervision tree.")
@JSON_OPTION
@click.pass_obj
@in_trio
async def workers(setting: Setting, as_json: bool) -> None:
    """Show every worker's supervision tree: state, restarts, last error, since when."""
    async with setting.app().open_client() as jobs:
        found = await jobs.workers()
    if as_json:
        print_json(found)
    elif not found:
        click.echo("no worker is registered")
    elif on_terminal():
        console().print(drawn(found))
    else:
        for one in found:
            for line in plain(one):
                click.echo(line)


@click.command()
@click.option("--once", is_flag=True, help="Print once and end.")
@click.option(
    "--every", type=click.FloatRange(0.1), default=1.0, show_default=True, help="Seconds between looks."
)
@click.pass_obj
@in_trio
async def top(setting: Setting, once: bool, every: float) -> None:
    """Watch queues, running jobs and workers; Ctrl-C ends it."""
    async with setting.app().open_client() as jobs:
        if once or not on_terminal():
            console().print(await _picture(jobs))
            return
        height = console().size.height
        with Live(
            await _picture(jobs, height=height), console=console(), screen=True, auto_refresh=False
        ) as live:
            while True:
                await trio.sleep(every)
                live.update(await _picture(jobs, height=console().size.height), refresh=True)


async def _picture(jobs: Client, *, height: int | None = None) -> Group:
    """Draw everything; for a screen, what does not fit below the tables is drawn briefly."""
    running = await jobs.query(jobrt.where.state("executing"), order_by="schedule_at", limit=_SHOWN)
    workers, queues = await jobs.workers(), await queue_rows(jobs, most=COUNT_LIMIT)
    left = None if height is None else height - len(queues) - len(running) - 4
    trees = drawn(workers, height=left)
    return Group(_queue_table(queues), "", _running_table(running, cancel_phases(workers)), "", trees)


def _queue_table(rows: list[list[Any]]) -> Table:
    table = Table(*COLUMNS, box=None, header_style="bold")
    for row in rows:
        table.add_row(*[escape(str(cell)) for cell in row])
    return table


def _running_table(running: list[jobrt.JobRecord], known: Mapping[int, str]) -> Table:
    table = Table("id", "running job", "queue", "attempt", "for", "progress", box=None, header_style="bold")
    now = datetime.now(UTC)
    for one in running:
        since = age((now - one.started_at).total_seconds()) if one.started_at else "-"
        table.add_row(
            str(one.id),
            escape(one.name),
            escape(one.queue),
            str(one.attempt),
            since,
            escape(_progress(one, known)),
        )
    return table


def _progress(job: jobrt.JobRecord, known: Mapping[int, str]) -> str:
    progress = progress_in_words(job.progress) if job.progress is not None else ""
    phase = cancel_phase(job, known)
    return f"{progress}  cancelling: {phase}" if phase else progress


COMMANDS = (workers, top)
