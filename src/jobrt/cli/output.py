"""Output of commands: tables on a terminal, lines in a pipe, JSON for programs."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from jobrt._core.attempts import only_leaf
from jobrt._core.job import JobRecord
from jobrt._views.words import attempt_in_words, due_in_words
from jobrt.errors import JobrtError

_PIPE_WIDTH = 1000
_ARGS_WIDTH = 60
_JOB_COLUMNS = ("id", "name", "queue", "state", "priority", "attempt", "due", "args")
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def in_one_line(error: BaseException) -> str:
    """Return an error as one line; an unexpected error with its type and how to see its traceback."""
    error = only_leaf(error)
    message = error.format_message() if isinstance(error, click.ClickException) else str(error)
    line = " ".join(message.split())
    if isinstance(error, JobrtError | click.ClickException):
        return line
    return f"{type(error).__name__}: {line} (set JOBRT_DEBUG=1 to see the traceback)"


def on_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def console() -> Console:
    """Return a console for tables. In a pipe it is so wide that no line is wrapped."""
    return Console(highlight=False, width=None if on_terminal() else _PIPE_WIDTH)


def progress_bars(*columns: ProgressColumn, transient: bool = False) -> Progress | None:
    """Return progress bars with additional columns, or None if standard output or error is not a terminal."""
    if not (on_terminal() and sys.stderr.isatty()):
        return None
    usual = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*usual, *columns, transient=transient)


def jsonable(value: Any) -> Any:
    """Return a record as values that `json` can encode."""
    if attrs.has(type(value)):
        return {field.name: jsonable(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value


def print_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(jsonable(value), indent=2 if on_terminal() else None, ensure_ascii=False))


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print a table on a terminal, or tab-separated lines with a header in a pipe."""
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
    return local_time(cell) if isinstance(cell, datetime) else str(cell)


def local_time(moment: datetime | None) -> str:
    """Return a time in this machine's time zone, to the second."""
    return "-" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def print_jobs(jobs: Iterable[JobRecord]) -> None:
    """Print a table of jobs."""
    print_rows(_JOB_COLUMNS, [_job_row(job) for job in jobs], empty="no job matches")


def _job_row(job: JobRecord) -> list[Any]:
    due, attempts = due_in_words(job, datetime.now(UTC)), attempt_in_words(job)
    args = json.dumps(job.args, ensure_ascii=False)
    shown = args if len(args) <= _ARGS_WIDTH else f"{args[: _ARGS_WIDTH - 3]}…"
    return [job.id, job.name, job.queue, job.state.value, job.priority, attempts, due, shown]
