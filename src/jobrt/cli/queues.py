"""The `queues`, `actions` and `stats` commands."""

import math
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import click

from jobrt._client import Client, JobTotals
from jobrt._views.status import QueueView, view_queues
from jobrt._views.words import age
from jobrt.cli.output import JSON_OPTION, REASON_OPTION, print_json, print_rows, say, warn
from jobrt.cli.setting import Setting, in_trio

COLUMNS = (
    "queue",
    "due",
    "oldest",
    "scheduled",
    "retryable",
    "claimed",
    "running",
    "workers",
    "slots",
    "state",
)
_COUNTS = ("enqueued", "completed", "failed", "dead", "cancelled")
_STATS_COLUMNS = ("queue", "job", "period", *_COUNTS, "mean", "median", "p95")


def queue_row(view: QueueView) -> list[Any]:
    """Return a queue as a row of `COLUMNS`."""
    queue, more = view.status, "+" if view.status.more else ""
    counts = [f"{number}{more}" for number in (queue.available, queue.scheduled, queue.retryable)]
    held = [queue.claimed, queue.executing, view.workers, view.slots]
    return [queue.name, counts[0], age(queue.oldest_due), *counts[1:], *held, view.state]


@click.group("queues", invoke_without_command=True, short_help="Show, pause, resume and scale queues.")
@JSON_OPTION
@click.pass_context
def queues(context: click.Context, as_json: bool) -> None:
    """Show the queues: due jobs, how long the oldest has been due, running jobs."""
    if context.invoked_subcommand is None:
        _show(as_json)


@in_trio
async def _show(setting: Setting, as_json: bool) -> None:
    async with setting.app().open_client() as jobs:
        if as_json:
            print_json(await jobs.queues())
        else:
            views = view_queues(await jobs.queues(), await jobs.workers())
            print_rows(COLUMNS, map(queue_row, views), empty="no queue has jobs or workers")


async def _change(
    setting: Setting, queue: str, change: Callable[[Client], Awaitable[object]], *, done: str
) -> None:
    """Change a queue; warn if it is unknown, which may be a misspelling or a queue that is used later."""
    app = setting.app()
    async with app.open_client() as jobs:
        known = {*app.queues, *(status.name for status in await jobs.queues())}
        known.update(name for row in await jobs.workers() for name in row.info.queues)
        await change(jobs)  # it refuses bad names, in one line
        if queue not in known:
            warn(f"warning: no job, worker or application uses queue {queue!r} yet")
    say(f"queue {queue} is {done}")


@queues.command()
@click.argument("queue")
@REASON_OPTION
@in_trio
async def pause(setting: Setting, queue: str, reason: str) -> None:
    """Pause QUEUE on all workers until it is resumed."""
    await _change(
        setting,
        queue,
        lambda jobs: jobs.pause(queue, reason=reason),
        done="paused on all workers; running jobs continue",
    )


@queues.command()
@click.argument("queue")
@REASON_OPTION
@in_trio
async def resume(setting: Setting, queue: str, reason: str) -> None:
    """Resume QUEUE on all workers."""
    await _change(setting, queue, lambda jobs: jobs.resume(queue, reason=reason), done="resumed")


@queues.command()
@click.argument("queue")
@click.argument("concurrency")
@REASON_OPTION
@in_trio
async def scale(setting: Setting, queue: str, concurrency: str, reason: str) -> None:
    """Set how many jobs of QUEUE each worker runs at once.

    CONCURRENCY is a number, or "default" for the application's setting.
    """
    if concurrency != "default" and not re.fullmatch("[0-9]{1,9}", concurrency):
        msg = f"CONCURRENCY is {concurrency!r}: use a number above zero, or default"
        raise click.BadParameter(msg)
    number = None if concurrency == "default" else int(concurrency)
    await _change(
        setting, queue, lambda jobs: jobs.scale(queue, number, reason=reason), done=f"scaled to {concurrency}"
    )


@click.command(short_help="Show what operators did: who, what, when and why.")
@click.option("--queue", metavar="QUEUE", help="Show what was about this queue.")
@click.option("--cron", metavar="NAME", help="Show what was about this cron entry.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Show at most so many."
)
@JSON_OPTION
@in_trio
async def actions(
    setting: Setting, queue: str | None, cron: str | None, *, limit: int, as_json: bool
) -> None:
    """Show what operators did with queues, cron entries and jobs, the newest first.

    Actions on jobs are those of the dashboard. The database keeps the newest 10,000 actions.
    """
    if queue is not None and cron is not None:
        msg = "use --queue or --cron, not both"
        raise click.UsageError(msg)
    async with setting.app().open_client() as jobs:
        found = await jobs.actions(limit=limit, queue=queue, cron=cron)
    if as_json:
        print_json(found)
    else:
        rows = [(action.at, action.who, action.what, action.why) for action in found]
        print_rows(("at", "who", "what", "why"), rows, empty="no action is kept")


@click.command(short_help="Show statistics by hour, day, month and in total.")
@JSON_OPTION
@in_trio
async def stats(setting: Setting, as_json: bool) -> None:
    """Show how many jobs were enqueued, completed, failed, discarded (dead) and cancelled.

    Periods are the current hour, day and month in UTC, and all time. Run times are those of completed jobs; the
    median and the 95th percentile are rough estimates.
    """
    async with setting.app().open_client() as jobs:
        totals = await jobs.totals()
    if as_json:
        print_json(totals)
    else:
        rows = [row for job in totals for row in _stats_rows(job)]
        print_rows(_STATS_COLUMNS, rows, empty="no statistics yet")


def _stats_rows(job: JobTotals) -> Iterator[list[object]]:
    periods = {"this hour": job.hour, "today": job.day, "this month": job.month, "all time": job.all_time}
    for period, counts in periods.items():
        numbers = [getattr(counts, name) for name in _COUNTS]
        times = [_seconds(value) for value in (counts.mean, counts.quantile(0.5), counts.quantile(0.95))]
        yield [job.queue, job.name, period, *numbers, *times]


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return "over 17 min" if math.isinf(value) else f"{value:.3g} s"


COMMANDS = (queues, actions, stats)
