"""Options that select jobs, shared by `jobs`, `cancel`, `rerun`, `delete` and `update`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import click

from jobrt._client import Client
from jobrt._core.where import Where
from jobrt._views import filters
from jobrt._views.words import jobs_in_words
from jobrt.cli.output import JOB_COLUMNS, job_row, print_rows

T = TypeVar("T")


def parse_duration(text: str) -> timedelta:
    """Return the duration ``90``, ``90s``, ``15m``, ``2h``, ``7d`` or ``1w``; raise `click.BadParameter`."""
    return _parse(filters.parse_duration, text)


def _parse(parser: Callable[..., T], *args: Any, **options: Any) -> T:
    try:
        return parser(*args, **options)
    except filters.MalformedText as error:
        raise click.BadParameter(str(error)) from None


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the selection options to a command, which receives them as a filter ``where``, or None without options."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        options = {name: kwargs.pop(name) for name in _OPTION_NAMES}
        return command(*args, where=_parse(filters.build_filter, prefix="--", **options), **kwargs)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run


_OPTION_NAMES = (
    *("states", "queues", "names", "tags", "workers"),
    *("args_equal", "metadata_equal", "since", "before"),
)
_OPTIONS = (
    click.option("--state", "states", multiple=True, help="Jobs in this state. Repeatable."),
    click.option("--queue", "queues", multiple=True, help="Jobs in this queue. Repeatable."),
    click.option("--name", "names", multiple=True, help="Jobs with this name. Repeatable."),
    click.option(
        "--tag", "tags", multiple=True, help="Jobs with this tag. If repeated, with all these tags."
    ),
    click.option("--worker", "workers", multiple=True, help="Jobs that this worker runs, or ran last."),
    click.option(
        "--args",
        "args_equal",
        multiple=True,
        metavar="FIELD=VALUE",
        help="Jobs whose payload field has this value. Repeatable.",
    ),
    click.option(
        "--meta",
        "metadata_equal",
        multiple=True,
        metavar="FIELD=VALUE",
        help="Jobs whose metadata field has this value. Repeatable.",
    ),
    click.option(
        "--since", metavar="TIME", help="Jobs enqueued after this time, or within the last 15m, 2h, 7d."
    ),
    click.option(
        "--before", metavar="TIME", help="Jobs enqueued before this time, or longer than 15m, 2h, 7d ago."
    ),
)


async def confirm(jobs: Client, where: Where, *, verb: str, yes: bool) -> bool:
    """Show the number of matching jobs and the first of them, and ask for confirmation.

    Raises:
        click.UsageError: standard input is not a terminal, so nobody can answer.

    """
    count = await jobs.count(where)
    if not count:
        click.echo("no job matches", err=True)
        return False
    if yes:
        return True
    first = await jobs.query(where, order_by="id", limit=5, details=False)
    print_rows(JOB_COLUMNS, [job_row(job) for job in first], empty="")
    if count > len(first):
        click.echo(f"… and {count - len(first)} more")
    if not sys.stdin.isatty():
        msg = f"this would {verb} {jobs_in_words(count)}: add --yes to confirm"
        raise click.UsageError(msg)
    return click.confirm(f"{verb} {jobs_in_words(count)}?", default=False)
