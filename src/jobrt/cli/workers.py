"""The `workers` and `top` commands."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click
import trio
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

import jobrt
from jobrt._client import Client
from jobrt._storage.contract import WorkerRow
from jobrt._views.findings import COUNT_LIMIT
from jobrt._views.status import cancel_phase, cancel_phases
from jobrt._views.trees import headline, tree_lines
from jobrt._views.words import age, notice_in_words, progress_in_words
from jobrt.cli.output import JSON_OPTION, console, on_terminal, print_json
from jobrt.cli.queues import COLUMNS, queue_rows
from jobrt.cli.setting import Setting, in_trio

_RUNNING_LIMIT = 15


@click.command(short_help="Show the supervision tree of each worker.")
@JSON_OPTION
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
            for line in _plain_lines(row):
                click.echo(line)


def _plain_lines(row: WorkerRow) -> Iterator[str]:
    """Return a worker's tree as lines for a pipe."""
    yield headline(row, datetime.now(UTC))
    for line in tree_lines(row, datetime.now(UTC)):
        words = [line.name, line.state, line.load]
        words += [f"restarts {line.restarts}"] * bool(line.restarts)
        words += [f"last error: {line.error}"] * bool(line.error)
        words += [f"for {line.since}"] * bool(line.since)
        yield "  " * line.depth + "  ".join(filter(None, words))
    for notice in row.info.notices:
        yield f"  watchdog: {notice_in_words(notice)}"


def draw_trees(rows: Sequence[WorkerRow], *, height: int | None = None) -> Group:
    """Draw the trees for a terminal. If they exceed `height` lines, omit children that are healthy and have no load."""
    size = sum(1 + sum(1 for _ in tree_lines(row, datetime.now(UTC))) for row in rows)
    brief = height is not None and size > height
    return Group(*(part for row in rows for part in _draw_tree(row, brief=brief)))


def _draw_tree(row: WorkerRow, *, brief: bool) -> Iterator[Text | Table]:
    yield Text(headline(row, datetime.now(UTC)), style="bold" if row.alive else "bold red")
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    open_at: dict[int, bool] = {}
    for line in tree_lines(row, datetime.now(UTC)):
        if brief and not line.unhealthy and not line.load:
            continue
        open_at[line.depth] = not line.last
        guide = "".join("│  " if open_at.get(depth) else "   " for depth in range(1, line.depth))
        guide = "   " * line.depth if brief else guide + ("└─ " if line.last else "├─ ")
        error = f"{'restarts ' + line.restarts if line.restarts else ''}  {line.error}".strip()
        style = "red" if line.unhealthy else "" if line.load else "dim"
        table.add_row(guide + line.name, line.state, line.since, line.load, error, style=style)
    yield table
    for notice in row.info.notices:
        yield Text(f"   ! {notice_in_words(notice)}", style="yellow")


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
@in_trio
async def top(setting: Setting, once: bool, every: float) -> None:
    """Watch queues, running jobs and workers. Press Ctrl-C to exit."""
    async with setting.app().open_client() as jobs:
        if once or not on_terminal():
            console().print(await _draw(jobs))
            return
        first = await _draw(jobs, height=console().size.height)
        with Live(first, console=console(), screen=True, auto_refresh=False) as live:
            while True:
                await trio.sleep(every)
                live.update(await _draw(jobs, height=console().size.height), refresh=True)


async def _draw(jobs: Client, *, height: int | None = None) -> Group:
    """Draw all tables, and the workers' trees in what remains of `height` lines."""
    running = await jobs.query(jobrt.where.state("executing"), order_by="schedule_at", limit=_RUNNING_LIMIT)
    found, queues = await jobs.workers(), await queue_rows(jobs, limit=COUNT_LIMIT)
    left = None if height is None else height - len(queues) - len(running) - 4
    trees = draw_trees(found, height=left)
    return Group(_queue_table(queues), "", _running_table(running, cancel_phases(found)), "", trees)


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
        progress = progress_in_words(job.progress) if job.progress is not None else ""
        if phase := cancel_phase(job, phases):
            progress += f"  cancelling: {phase}"
        cells = (str(job.id), job.name, job.queue, str(job.attempt), since, progress)
        table.add_row(*map(escape, cells))
    return table


COMMANDS = (workers, top)
