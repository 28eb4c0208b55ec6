"""Supervision trees of workers, for a terminal or a pipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.console import Group
from rich.table import Table
from rich.text import Text

from jobrt._storage.contract import WorkerRow
from jobrt._views.trees import headline, tree_lines
from jobrt._views.words import notice_words


def plain_lines(row: WorkerRow) -> Iterator[str]:
    """Return a worker's tree as lines for a pipe."""
    yield headline(row, datetime.now(UTC))
    for line in tree_lines(row, datetime.now(UTC)):
        words = [line.name, line.state, line.load]
        words += [f"restarts {line.restarts}"] * bool(line.restarts)
        words += [f"last error: {line.error}"] * bool(line.error)
        words += [f"for {line.since}"] * bool(line.since)
        yield "  " * line.depth + "  ".join(filter(None, words))
    for notice in row.info.notices:
        yield f"  watchdog: {notice_words(notice)}"


def draw_trees(rows: Sequence[WorkerRow], *, height: int | None = None) -> Group:
    """Draw the trees for a terminal. If they exceed `height` lines, omit children that are healthy and have no load."""
    size = sum(1 + sum(1 for _ in tree_lines(row, datetime.now(UTC))) for row in rows)
    brief = height is not None and size > height
    return Group(*(part for row in rows for part in _draw(row, brief=brief)))


def _draw(row: WorkerRow, *, brief: bool) -> Iterator[Text | Table]:
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
        yield Text(f"   ! {notice_words(notice)}", style="yellow")
