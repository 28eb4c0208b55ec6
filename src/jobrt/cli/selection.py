"""Options that select jobs, shared by `jobs`, `cancel`, `rerun`, `delete` and `update`."""

import functools
import math
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import click

from jobrt._client import Client
from jobrt._core.where import Where
from jobrt._views import filters
from jobrt._views.words import jobs_in_words
from jobrt.cli.interrupts import interrupted_at_once
from jobrt.cli.output import print_jobs, say

T = TypeVar("T")


def parse_duration(text: str) -> timedelta:
    """Return the duration ``90``, ``90s``, ``15m``, ``2h``, ``7d`` or ``1w``; raise `click.BadParameter`."""
    return _parse(filters.parse_duration, text)


def _parse(parser: Callable[..., T], *args: Any, **options: Any) -> T:
    try:
        return parser(*args, **options)
    except filters.MalformedText as error:
        raise click.BadParameter(str(error)) from None


class Seconds(click.FloatRange):
    """Type of an option in seconds. Unlike `click.FloatRange` it refuses ``nan``, which no timer understands."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number; raise `click.BadParameter`."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return number


class Number(click.types.IntParamType):
    """Type of whole numbers in a range. The help does not show the range, which is that of the databases."""

    def __init__(self, least: int, most: int) -> None:
        self.least: int = least
        self.most: int = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number; raise `click.BadParameter`."""
        number = super().convert(value, param, ctx)
        if not self.least <= number <= self.most:
            self.fail(f"{number} is not a number from {self.least} to {self.most}", param, ctx)
        return number


ID = Number(1, (1 << 63) - 1)
"""Type of job ids: what both databases store."""
INT = Number(-(1 << 31), (1 << 31) - 1)
"""Type of numbers that both databases store in four bytes."""
COUNT = Number(0, (1 << 31) - 1)


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the selection options to a command, which receives them as a filter ``where``, or None without options."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) or () for name in filters.FIELDS}
        given |= {name: (text,) for name, text in given.items() if isinstance(text, str)}
        return command(*args, where=_parse(filters.build_filter, given, prefix="--"), **kwargs)

    for name, metavar, help_text in reversed(_OPTIONS):
        repeatable = name in filters.REPEATABLE
        run = click.option(f"--{name}", multiple=repeatable, metavar=metavar, help=help_text)(run)
    return run


_OPTIONS = (
    ("state", None, "Jobs in this state. Repeatable."),
    ("queue", None, "Jobs in this queue. Repeatable."),
    ("name", None, "Jobs with this name. Repeatable."),
    ("tag", None, "Jobs with this tag. If repeated, with all these tags."),
    ("worker", None, "Jobs that this worker runs, or ran last."),
    ("parent", "ID", "Jobs that this job has enqueued."),
    ("args", "FIELD=VALUE", "Jobs whose payload field has this value. Repeatable."),
    ("meta", "FIELD=VALUE", "Jobs whose metadata field has this value. Repeatable."),
    ("since", "TIME", "Jobs enqueued after this time, or within the last 15m, 2h, 7d."),
    ("before", "TIME", "Jobs enqueued before this time, or longer than 15m, 2h, 7d ago."),
)


async def confirm(jobs: Client, where: Where, *, verb: str, yes: bool) -> bool:
    """Show the number of matching jobs and the first of them, and ask for confirmation.

    Raises:
        click.UsageError: standard input is not a terminal, so nobody can answer.

    """
    count = await jobs.count(where)
    if not count:
        say("no job matches", err=True)
        return False
    if yes:
        return True
    first = await jobs.query(where, order_by="id", limit=5, details=False)
    print_jobs(first, now=await jobs.now())
    if count > len(first):
        say(f"… and {count - len(first)} more")
    if not sys.stdin.isatty():
        msg = f"this would {verb} {jobs_in_words(count)}: add --yes to confirm"
        raise click.UsageError(msg)
    with interrupted_at_once():
        return click.confirm(f"{verb} {jobs_in_words(count)}?", default=False)
