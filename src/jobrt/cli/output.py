"""Output of commands: tables on a terminal, lines in a pipe, JSON for programs.

Other commands print by these functions only. They escape all text, because names, errors and payloads come from others.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

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

from jobrt._core.escape import printable, printable_json
from jobrt._core.job import JobRecord
from jobrt._views.as_json import jsonable
from jobrt._views.words import attempt_in_words, due_in_words
from jobrt.errors import JobrtError

_PIPE_WIDTH = 1000
_LINE_LIMIT = 1000
"""Characters of an error that are printed. An argument that it quotes can be of any length."""
_QUOTE_LIMIT = 100
_ARGS_WIDTH = 60
_JOB_COLUMNS = ("id", "name", "queue", "state", "priority", "attempt", "due", "args")
REASON_OPTION = click.option("--reason", default="", help="Why, for those who look at the actions.")
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def in_one_line(error: BaseException) -> str:
    """Return an error as one line; an unexpected error with its type and how to see its traceback.

    Of a group, the line has the different errors in it.
    """
    lines = dict.fromkeys(_line(leaf) for leaf in _leaves(error))
    return "; ".join(lines)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error


def _line(error: BaseException) -> str:
    if isinstance(error, UnicodeEncodeError):
        return f"{printable(repr(error.object[:_QUOTE_LIMIT]))} is not valid text: it has bytes that are not UTF-8"
    message = error.format_message() if isinstance(error, click.ClickException) else str(error)
    line = printable(" ".join(message.split()))
    line = line if len(line) <= _LINE_LIMIT else f"{line[: _LINE_LIMIT - 1]}…"
    if isinstance(error, JobrtError | click.ClickException):
        return line
    return f"{type(error).__name__}: {line} (set JOBRT_DEBUG=1 to see the traceback)"


def say(text: object, *, err: bool = False) -> None:
    """Print a line; what is unsafe to print is escaped."""
    click.echo(printable(str(text)), err=err)


def print_lines(lines: Iterable[str]) -> None:
    """Print several lines."""
    for line in lines:
        say(line)


def warn(text: str) -> None:
    """Print a line for the user to standard error."""
    say(f"jobrt: {text}", err=True)


def on_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


class _Console(Console):
    """Console that lets `main` deal with a closed pipe, instead of exiting with status 1."""

    def on_broken_pipe(self) -> None:
        """Raise the error again."""
        raise BrokenPipeError


def console() -> Console:
    """Return a console, on which brackets and colons in a text mean nothing. In a pipe no line is wrapped."""
    width = None if on_terminal() else _PIPE_WIDTH
    return _Console(highlight=False, markup=False, emoji=False, width=width)


def progress_bars(*columns: ProgressColumn, transient: bool = False) -> Progress | None:
    """Return progress bars with additional columns, or None if standard output or error is not a terminal."""
    if not (on_terminal() and sys.stderr.isatty()):
        return None
    usual = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*usual, *columns, transient=transient)


def print_json(value: Any) -> None:
    """Print one JSON document."""
    text = json.dumps(jsonable(value), indent=2 if on_terminal() else None, ensure_ascii=False, default=str)
    click.echo(printable_json(text))


def print_json_line(value: Any) -> None:
    """Print a JSON value as one line."""
    click.echo(printable_json(json.dumps(value, ensure_ascii=False)))


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print a table on a terminal, or tab-separated lines with a header in a pipe."""
    rows = [[_text(cell) for cell in row] for row in rows]
    if not on_terminal():
        for row in [list(columns), *rows]:
            click.echo("\t".join(row))
        return
    if not rows:
        say(empty)
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
    return local_time(cell) if isinstance(cell, datetime) else printable(str(cell))


def local_time(moment: datetime | None) -> str:
    """Return a time in this machine's time zone, to the second; in UTC if it is too far away for that."""
    if moment is None:
        return "-"
    try:
        return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OSError, OverflowError, ValueError):
        return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def print_jobs(jobs: Iterable[JobRecord], *, now: datetime) -> None:
    """Print a table of jobs; `now` is the time by the database's clock."""
    print_rows(_JOB_COLUMNS, [_job_row(job, now) for job in jobs], empty="no job matches")


def _job_row(job: JobRecord, now: datetime) -> list[Any]:
    due, attempts = due_in_words(job, now), attempt_in_words(job)
    args = json.dumps(job.args, ensure_ascii=False)
    shown = args if len(args) <= _ARGS_WIDTH else f"{args[: _ARGS_WIDTH - 3]}…"
    return [job.id, job.name, job.queue, job.state.value, job.priority, attempts, due, shown]
