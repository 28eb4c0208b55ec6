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
from rich.tree import Tree

import jobrt
from jobrt.cli.output import JSON_OPTION, age, console, on_terminal, print_json
from jobrt.cli.queues import COLUMNS, queue_rows
from jobrt.cli.setting import Setting, in_trio

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobrt._client import Client
    from jobrt._storage.base import WorkerRow

__all__ = ["COMMANDS"]

_SHOWN = 15


@click.command()
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
        for one in found:
            console().print(_tree(one))
    else:
        for one in found:
            for line in _lines(one):
                click.echo(line)


def _headline(row: WorkerRow) -> str:
    info = row.info
    state = "alive" if row.alive else "dead, its jobs await rescue"
    if row.alive and info.get("stopping"):
        state = "stopping"
    if info.get("outage"):
        state += f", database away: {info['outage']}"
    up = age((datetime.now(UTC) - row.started_at).total_seconds())
    return f"{row.id}  {state}, up {up}{', leader' if info.get('leader') else ''}"


def _queue_words(row: WorkerRow, name: str) -> str:
    queue = row.info.get("queues", {}).get(name)
    if queue is None:
        return ""
    slots = f"  {queue['running']} of {queue['concurrency']} slots"
    words = f"{slots}, {queue['claimed']} claimed, {queue['finished']} done"
    return (
        words
        + ("  paused" if queue["paused"] else "")
        + (f"  stuck: {queue['stuck']}" if queue["stuck"] else "")
    )


def _child_words(row: WorkerRow, child: Mapping[str, Any]) -> str:
    words = f"{child['name']}  {child['state']}{_queue_words(row, child['name'])}"
    if child["restarts"]:
        words += f"  restarts {child['restarts']} ({child['recent_restarts']} lately)"
    if child["last_error"]:
        words += f"  last error: {child['last_error']}"
    return words + (f"  since {child['since'][:19]}" if child["since"] else "")


def _walk(row: WorkerRow, tree: Mapping[str, Any] | None, depth: int) -> Iterator[tuple[int, str]]:
    for child in (tree or {}).get("children", ()):
        yield depth, _child_words(row, child)
        yield from _walk(row, child["nested"], depth + 1)


def _lines(row: WorkerRow) -> Iterator[str]:
    yield _headline(row)
    for depth, words in _walk(row, row.info.get("tree"), 1):
        yield "  " * depth + words


def _tree(row: WorkerRow) -> Tree:
    root = Tree(f"[bold]{escape(_headline(row))}[/]")
    branches = [root]
    for depth, words in _walk(row, row.info.get("tree"), 1):
        del branches[depth:]
        style = "red" if "failed" in words.split("  ")[1] or "last error" in words else "none"
        branches.append(branches[-1].add(escape(words), style=style))
    return root


@click.command()
@click.option("--once", is_flag=True, help="Print once and end.")
@click.option("--every", default=1.0, show_default=True, help="Seconds between looks.")
@click.pass_obj
@in_trio
async def top(setting: Setting, once: bool, every: float) -> None:
    """Watch queues, running jobs and workers; Ctrl-C ends it."""
    async with setting.app().open_client() as jobs:
        if once or not on_terminal():
            console().print(await _picture(jobs))
            return
        with Live(await _picture(jobs), console=console(), screen=True, auto_refresh=False) as live:
            while True:
                await trio.sleep(every)
                live.update(await _picture(jobs), refresh=True)


async def _picture(jobs: Client) -> Group:
    running = await jobs.query(jobrt.where.state("executing"), order_by="schedule_at", limit=_SHOWN)
    trees = [_tree(one) for one in await jobs.workers()]
    return Group(_queue_table(await queue_rows(jobs)), "", _running_table(running), "", *trees)


def _queue_table(rows: list[list[Any]]) -> Table:
    table = Table(*COLUMNS, box=None, header_style="bold")
    for row in rows:
        table.add_row(*[escape(str(cell)) for cell in row])
    return table


def _running_table(running: list[jobrt.JobRecord]) -> Table:
    table = Table("id", "running job", "queue", "attempt", "for", "progress", box=None, header_style="bold")
    now = datetime.now(UTC)
    for one in running:
        since = age((now - one.started_at).total_seconds()) if one.started_at else "-"
        table.add_row(
            str(one.id), escape(one.name), escape(one.queue), str(one.attempt), since, _progress(one)
        )
    return table


def _progress(job: jobrt.JobRecord) -> str:
    if job.progress is None:
        return ""
    done, total = job.progress.done, job.progress.total
    share = f"{done:g}" if not total else f"{done:g}/{total:g} ({done / total:.0%})"
    return escape(f"{share} {job.progress.note}")


COMMANDS = (workers, top)
