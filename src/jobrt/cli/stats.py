"""Show how much was done, per hour, day, month and in all time, and how long it took."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from jobrt.cli.output import JSON_OPTION, print_json, print_rows
from jobrt.cli.setting import Setting, in_trio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobrt._client import Counts, JobTotals

__all__ = ["COMMANDS"]

_COLUMNS = (
    "queue",
    "job",
    "in",
    *("enqueued", "completed", "failed", "dead", "cancelled"),
    *("mean", "half", "95 %"),
)


@click.command(short_help="Count what happened, by hour, day, month and in all.")
@JSON_OPTION
@click.pass_obj
@in_trio
async def stats(setting: Setting, *, as_json: bool) -> None:
    """Count what was enqueued, completed, failed and discarded, by the hour, day and month (UTC) and in all.

    Run times are those of completed jobs: the mean, and what half and 95 % of them stayed below (coarsely).
    """
    async with setting.app().open_client() as jobs:
        totals = await jobs.totals()
    if as_json:
        print_json(totals)
    else:
        print_rows(_COLUMNS, [row for one in totals for row in _rows(one)], empty="nothing was counted yet")


def _rows(one: JobTotals) -> Iterator[list[object]]:
    periods = {"this hour": one.hour, "today": one.day, "this month": one.month, "all time": one.all_time}
    for period, counts in periods.items():
        numbers = [counts.enqueued, counts.completed, counts.failed, counts.dead, counts.cancelled]
        yield [one.queue, one.name, period, *numbers, *_times(counts)]


def _times(counts: Counts) -> list[str]:
    return [_seconds(one) for one in (counts.mean, counts.quantile(0.5), counts.quantile(0.95))]


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return "over 17 min" if math.isinf(value) else f"{value:.3g} s"


COMMANDS = (stats,)
