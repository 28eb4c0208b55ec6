"""The `stats` command."""

from __future__ import annotations

import math
from collections.abc import Iterator

import click

from jobrt._client import Counts, JobTotals
from jobrt.cli.output import JSON_OPTION, print_json, print_rows
from jobrt.cli.setting import Setting, in_trio

_COLUMNS = (
    "queue",
    "job",
    "period",
    *("enqueued", "completed", "failed", "dead", "cancelled"),
    *("mean", "median", "p95"),
)


@click.command(short_help="Show statistics by hour, day, month and in total.")
@JSON_OPTION
@click.pass_obj
@in_trio
async def stats(setting: Setting, *, as_json: bool) -> None:
    """Show how many jobs were enqueued, completed, failed, discarded (dead) and cancelled.

    Periods are the current hour, day and month in UTC, and all time. Run times are those of completed jobs; the
    median and the 95th percentile are rough estimates.
    """
    async with setting.app().open_client() as jobs:
        totals = await jobs.totals()
    if as_json:
        print_json(totals)
    else:
        rows = [row for job in totals for row in _rows(job)]
        print_rows(_COLUMNS, rows, empty="no statistics yet")


def _rows(job: JobTotals) -> Iterator[list[object]]:
    periods = {"this hour": job.hour, "today": job.day, "this month": job.month, "all time": job.all_time}
    for period, counts in periods.items():
        numbers = [counts.enqueued, counts.completed, counts.failed, counts.dead, counts.cancelled]
        yield [job.queue, job.name, period, *numbers, *_times(counts)]


def _times(counts: Counts) -> list[str]:
    return [_seconds(value) for value in (counts.mean, counts.quantile(0.5), counts.quantile(0.95))]


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return "over 17 min" if math.isinf(value) else f"{value:.3g} s"


COMMANDS = (stats,)
