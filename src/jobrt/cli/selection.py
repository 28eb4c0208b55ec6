"""Pick jobs: the options that `jobs`, `cancel`, `rerun` and `delete` share."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click

from jobrt._views import filters
from jobrt._views.words import jobs_in_words
from jobrt.cli.output import JOB_COLUMNS, job_row, print_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from jobrt._client import Client
    from jobrt._core.where import Where

__all__ = ["chosen", "confirmed", "duration", "pick_options"]

T = TypeVar("T")


def duration(text: str) -> timedelta:
    """Return what ``90``, ``90s``, ``15m``, ``2h``, ``7d`` or ``1w`` means; raise `click.BadParameter`."""
    return _understood(filters.parse_duration, text)


def chosen(**options: Any) -> Where | None:
    """Return the filter that the options make: all of them must match; None if there are none."""
    return _understood(filters.build_filter, prefix="--", **options)


def _understood(read: Callable[..., T], *args: Any, **options: Any) -> T:
    try:
        return read(*args, **options)
    except filters.MalformedText as error:
        raise click.BadParameter(str(error)) from None


def pick_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that pick jobs to a command, which gets them as one filter, ``where`` (None: no option given)."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        options = {name: kwargs.pop(name) for name in _OPTION_NAMES}
        return command(*args, where=chosen(**options), **kwargs)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run


_OPTION_NAMES = (
    "states",
    "queues",
    "names",
    "tags",
    "workers",
    "args_equal",
    "metadata_equal",
    "since",
    "before",
)
_OPTIONS = (
    click.option("--state", "states", multiple=True, help="Jobs in this state; repeat for more."),
    click.option("--queue", "queues", multiple=True, help="Jobs in this queue; repeat for more."),
    click.option("--name", "names", multiple=True, help="Jobs of this name; repeat for more."),
    click.option("--tag", "tags", multiple=True, help="Jobs with this tag; repeated: with all of them."),
    click.option("--worker", "workers", multiple=True, help="Jobs that this worker runs or ran last."),
    click.option(
        "--args", "args_equal", multiple=True, metavar="FIELD=VALUE", help="Jobs whose payload has this."
    ),
    click.option(
        "--meta", "metadata_equal", multiple=True, metavar="FIELD=VALUE", help="Jobs whose metadata has this."
    ),
    click.option("--since", metavar="TIME", help="Enqueued after this time, or within the last 15m, 2h, 7d."),
    click.option(
        "--before", metavar="TIME", help="Enqueued before this time, or longer ago than 15m, 2h, 7d."
    ),
)


async def confirmed(jobs: Client, where: Where, *, verb: str, yes: bool) -> bool:
    """Show how many jobs match and the first of them, and ask; raise `click.UsageError` if nobody can answer."""
    count = await jobs.count(where)
    if not count:
        click.echo("no job matches", err=True)
        return False
    if yes:
        return True
    first = await jobs.query(where, order_by="id", limit=5, details=False)
    print_rows(JOB_COLUMNS, [job_row(one) for one in first], empty="")
    if count > len(first):
        click.echo(f"… and {count - len(first)} more")
    if not sys.stdin.isatty():
        msg = f"this would {verb} {jobs_in_words(count)}: add --yes to do it"
        raise click.UsageError(msg)
    return click.confirm(f"{verb} {jobs_in_words(count)}?", default=False)
