"""The `workers` and `top` commands."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click
import trio
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

import jobrt
from jobrt._client import Client
from jobrt._views.findings import COUNT_LIMIT
from jobrt._views.jobs import cancel_phase, cancel_phases
from jobrt._views.words import age, progress_in_words
from jobrt.cli.output import JSON_OPTION, console, on_terminal, print_json
from jobrt.cli.queues import COLUMNS, queue_rows
from jobrt.cli.setting import Setting, in_trio
from jobrt.cli.trees import draw_trees, plain_lines

_RUNNING_LIMIT = 15


@click.command(short_help="Show the supervision tree of each worker.")
@JSON_OPTION
@click.pass_obj
@in_trio
async def workers(setting: Setting, as_json: bool) -> None:
    """Show the supervision tree of each worker: states, restarts, last errors."""
    async with setting.app().open_client() as jobs:
        found = await jobs.workers()
    if as_json:
        print_json(found)
    elif not found:
        click.echo("no worker is registered")
    elif on_terminal():
        console().print(draw_trees(found))
    else:
        for row in found:
            for line in plain_lines(row):
                click.echo(line)


@click.command()
@click.option("--once", is_flag=True, help="Print once and exit.")
@click.option(
    "--every",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    default=1.0,
    show_default=True,
    help="Time between updates.",
)
@click.pass_obj
@in_trio
async def top(setting: Setting, once: bool, every: float) -> None:
    """Watch queues, running jobs and workers. Press Ctrl-C to exit."""
    async with setting.app().open_client() as jobs:
        if once or not on_terminal():
            console().print(await _draw(jobs))
            return
        height = console().size.height
        with Live(
            await _draw(jobs, height=height), console=console(), screen=True, auto_refresh=False
        ) as live:
            while True:
                await trio.sleep(every)
                live.update(await _draw(jobs, height=console().size.height), refresh=True)


async def _draw(jobs: Client, *, height: int | None = None) -> Group:
    """Draw all tables, and the workers' trees in what remains of `height` lines."""
    running = await jobs.query(jobrt.where.state("executing"), order_by="schedule_at", limit=_RUNNING_LIMIT)
    workers, queues = await jobs.workers(), await queue_rows(jobs, limit=COUNT_LIMIT)
    left = None if height is None else height - len(queues) - len(running) - 4
    trees = draw_trees(workers, height=left)
    return Group(_queue_table(queues), "", _running_table(running, cancel_phases(workers)), "", trees)


def _queue_table(rows: list[list[Any]]) -> Table:
    table = Table(*COLUMNS, box=None, header_style="bold")
    for row in rows:
        table.add_row(*[escape(str(cell)) for cell in row])
    return table


def _running_table(running: list[jobrt.JobRecord], phases: Mapping[int, str]) -> Table:
    table = Table("id", "running job", "queue", "attempt", "for", "progress", box=None, header_style="bold")
    now = datetime.now(UTC)
    for job in running:
        since = age((now - job.started_at).total_seconds()) if job.started_at else "-"
        name, queue, progress = escape(job.name), escape(job.queue), escape(_progress(job, phases))
        table.add_row(str(job.id), name, queue, str(job.attempt), since, progress)
    return table


def _progress(job: jobrt.JobRecord, phases: Mapping[int, str]) -> str:
    progress = progress_in_words(job.progress) if job.progress is not None else ""
    phase = cancel_phase(job, phases)
    return f"{progress}  cancelling: {phase}" if phase else progress


COMMANDS = (workers, top)
