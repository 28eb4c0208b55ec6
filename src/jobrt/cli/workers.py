"""The `workers` command."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import click
from rich.console import Group
from rich.table import Table
from rich.text import Text

from jobrt._core.escape import printable
from jobrt._storage.contract import WorkerRow
from jobrt._views.trees import TreeLine, headline, load_of_queues, problem_lines, tree_lines
from jobrt._views.words import notice_in_words
from jobrt.cli.output import JSON_OPTION, console, on_terminal, print_json, say
from jobrt.cli.setting import Setting, in_trio

TREE_OPTION = click.option(
    "--tree", is_flag=True, help="Show the whole supervision trees. By default, only what needs attention."
)


@click.command(short_help="Show the workers, and what is wrong with them.")
@TREE_OPTION
@JSON_OPTION
@in_trio
async def workers(setting: Setting, tree: bool, as_json: bool) -> None:
    """Show each worker: its condition, its load, and those actors that failed or need attention.

    With --tree, show all actors of its supervision tree: states, restarts, last errors.
    """
    async with setting.app().open_client() as jobs:
        found, now = await jobs.workers(), await jobs.now()
    if as_json:
        print_json(found)
    elif not found:
        say("no worker is registered")
    elif on_terminal():
        console().print(draw_trees(found, now=now, whole=tree))
    else:
        for row in found:
            for line in _plain_lines(row, now=now, whole=tree):
                say(line)


def _plain_lines(row: WorkerRow, *, now: datetime, whole: bool) -> Iterator[str]:
    """Return a worker as lines for a pipe."""
    yield headline(row, now)
    if not whole:
        yield f"  {load_of_queues(row)}"
    for line in tree_lines(row, now) if whole else problem_lines(row, now):
        words = [line.name, line.state, line.load]
        words += [f"restarts {line.restarts}"] * bool(line.restarts)
        words += [f"last error: {line.error}"] * bool(line.error)
        words += [f"for {line.since}"] * bool(line.since)
        yield "  " * line.depth + "  ".join(filter(None, words))
    for notice in row.info.notices:
        yield f"  watchdog: {notice_in_words(notice)}"


def draw_trees(rows: Sequence[WorkerRow], *, now: datetime, whole: bool, height: int | None = None) -> Group:
    """Draw the workers for a terminal; with their whole trees if asked, and if these fit into `height` lines."""
    size = sum(1 + sum(1 for _ in tree_lines(row, now)) for row in rows)
    whole = whole and (height is None or size <= height)
    return Group(*(part for row in rows for part in _draw_tree(row, now=now, whole=whole)))


def _draw_tree(row: WorkerRow, *, now: datetime, whole: bool) -> Iterator[Text | Table]:
    yield Text(printable(headline(row, now)), style="bold" if row.alive else "bold red")
    if not whole:
        yield Text(printable(f"   {load_of_queues(row)}"))
    lines = list(tree_lines(row, now)) if whole else problem_lines(row, now)
    if lines:
        yield _draw_lines(lines, whole=whole)
    for notice in row.info.notices:
        yield Text(printable(f"   ! {notice_in_words(notice)}"), style="yellow")


def _draw_lines(lines: Sequence[TreeLine], *, whole: bool) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    open_at: dict[int, bool] = {}
    for line in lines:
        open_at[line.depth] = not line.last
        guide = "".join("│  " if open_at.get(depth) else "   " for depth in range(1, line.depth))
        guide = guide + ("└─ " if line.last else "├─ ") if whole else "   " * line.depth
        error = f"{'restarts ' + line.restarts if line.restarts else ''}  {line.error}".strip()
        style = "red" if line.unhealthy else "" if line.load else "dim"
        cells = (guide + line.name, line.state, line.since, line.load, error)
        table.add_row(*[Text(printable(cell)) for cell in cells], style=style)
    return table


COMMANDS = (workers,)
