"""Show things: tables to people, lines to pipes, JSON to programs."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs
import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobrt._core.attempts import only_leaf
from jobrt._views.words import attempt_in_words, due_in_words
from jobrt.errors import JobrtError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "console",
    "in_one_line",
    "job_row",
    "jsonable",
    "on_terminal",
    "print_json",
    "print_rows",
    "when",
]

_WIDE = 1000
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def in_one_line(error: BaseException) -> str:
    """Return an error as people are told it; a bug of ours too, with how to see more."""
    error = only_leaf(error)
    said = error.format_message() if isinstance(error, click.ClickException) else str(error)
    line = " ".join(said.split())
    if isinstance(error, JobrtError | click.ClickException):
        return line
    return f"{type(error).__name__}: {line} (JOBRT_DEBUG=1 shows the traceback)"


def on_terminal() -> bool:
    """Say whether a person reads our output."""
    return sys.stdout.isatty()


def console() -> Console:
    """Return where to write tables; in a pipe nothing is folded, whatever its width would be."""
    return Console(highlight=False, width=None if on_terminal() else _WIDE)


def jsonable(value: Any) -> Any:
    """Return a record as what JSON can carry."""
    if attrs.has(type(value)):
        return {field.name: jsonable(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if isinstance(value, dict):
        return {str(key): jsonable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(one) for one in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def print_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(jsonable(value), indent=2 if on_terminal() else None, ensure_ascii=False))


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print a table on a terminal, tab-separated lines with a header in a pipe."""
    rows = [[_text(cell) for cell in row] for row in rows]
    if not on_terminal():
        for row in [list(columns), *rows]:
            click.echo("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in row))
        return
    if not rows:
        click.echo(empty)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])
    console().print(table)


def _text(cell: Any) -> str:
    if cell is None:
        return "-"
    return when(cell) if isinstance(cell, datetime) else str(cell)


def when(moment: datetime | None) -> str:
    """Return a time in the reader's zone, to the second."""
    return "-" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def job_row(job: Any, *, now: datetime | None = None) -> list[Any]:
    """Return a job as a row of `JOB_COLUMNS`."""
    now = now or datetime.now(UTC)
    due, attempts = due_in_words(job, now), attempt_in_words(job)
    args = json.dumps(job.args, ensure_ascii=False)
    shown = args if len(args) <= 60 else args[:57] + "…"  # noqa: PLR2004 - a column's width
    return [job.id, job.name, job.queue, job.state.value, job.priority, attempts, due, shown]


JOB_COLUMNS = ("id", "name", "queue", "state", "priority", "attempt", "due", "args")
