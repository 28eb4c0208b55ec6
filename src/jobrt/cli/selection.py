"""Pick jobs: the options that `jobs`, `cancel`, `rerun` and `delete` share."""

from __future__ import annotations

import functools
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from jobrt import where as w
from jobrt.cli.output import JOB_COLUMNS, job_row, jobs_in_words, print_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobrt._client import Client
    from jobrt._core.where import Where

__all__ = ["chosen", "confirmed", "duration", "pick_options"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def duration(text: str) -> timedelta:
    """Return what ``90``, ``90s``, ``15m``, ``2h``, ``7d`` or ``1w`` means; raise `click.BadParameter`."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        return timedelta(seconds=float(number) * _UNITS[unit])
    except (ValueError, OverflowError):
        msg = f"{text!r} is no length of time: use seconds, or 90s, 15m, 2h, 7d, 1w"
        raise click.BadParameter(msg) from None


def moment(text: str) -> datetime | timedelta:
    """Return what an ISO time, or a length of time ago, means; raise `click.BadParameter`."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return duration(text)
    return found if found.tzinfo is not None else found.astimezone(UTC)


def _field(text: str, option: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        msg = f"{option} {text!r}: write FIELD=VALUE"
        raise click.BadParameter(msg)
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


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


def chosen(
    *,
    states: tuple[str, ...],
    queues: tuple[str, ...],
    names: tuple[str, ...],
    tags: tuple[str, ...],
    workers: tuple[str, ...],
    args_equal: tuple[str, ...],
    metadata_equal: tuple[str, ...],
    since: str | None,
    before: str | None,
) -> Where | None:
    """Return the filter that the options make: all of them must match; None if there are none."""
    parts: list[Where] = []
    if states:
        parts.append(w.state(*states))
    for make, values in ((w.queue, queues), (w.name, names), (w.worker, workers)):
        if values:
            parts.append(w.Or(tuple(make(one) for one in values)))
    if tags:
        parts.append(w.tagged_all(tags))
    parts += [w.args(*_field(one, "--args")) for one in args_equal]
    parts += [w.metadata(*_field(one, "--meta")) for one in metadata_equal]
    if since is not None:
        parts.append(w.created_after(moment(since)))
    if before is not None:
        parts.append(w.created_before(moment(before)))
    return w.And(tuple(parts)) if parts else None


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
