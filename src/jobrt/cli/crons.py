"""The `cron` commands."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Literal

import click

from jobrt._client import Client
from jobrt._storage.contract import CronRow
from jobrt._views.status import view_cron
from jobrt.cli.output import JSON_OPTION, REASON_OPTION, print_json, print_rows, say
from jobrt.cli.selection import parse_duration
from jobrt.cli.setting import Setting, in_trio

_COLUMNS = ("name", "job", "schedule", "last", "next", "missed")


def _row(row: CronRow, *, now: datetime) -> list[object]:
    entry = view_cron(row, now)
    schedule = f"invalid: {entry.error}" if entry.error else entry.schedule
    missed = "paused" if entry.paused else entry.missed
    return [entry.name, entry.job, schedule, entry.last, entry.upcoming, missed]


@click.group("cron", invoke_without_command=True)
@JSON_OPTION
@click.pass_context
def cron(context: click.Context, as_json: bool) -> None:
    """Show, pause, resume, change and delete cron entries."""
    if context.invoked_subcommand is None:
        _show(as_json)


@in_trio
async def _show(setting: Setting, as_json: bool) -> None:
    app = setting.app()
    async with app.open_client() as jobs:
        await app.declare_crons()
        rows, now = await jobs.crons(), await jobs.now()
    if as_json:
        print_json(rows)
    else:
        print_rows(_COLUMNS, [_row(row, now=now) for row in rows], empty="no cron entries")


def _add_command(verb: str, change: Callable[..., Awaitable[object]], *, done: str, note: str = "") -> None:
    """Add a command that changes the cron entry NAME."""

    @cron.command(verb, help=f"{verb.capitalize()} the cron entry NAME.{note}")
    @click.argument("name")
    @REASON_OPTION
    @in_trio
    async def command(setting: Setting, name: str, reason: str) -> None:
        async with setting.app().open_client() as jobs:
            await change(jobs, name, reason=reason)
        say(f"cron entry {name} is {done}")


_add_command("pause", Client.pause_cron, done="paused")
_add_command("resume", Client.resume_cron, done="resumed")
_add_command(
    "delete", Client.delete_cron, done="deleted", note=" A worker whose code declares it adds it again."
)


@cron.command("set")
@click.argument("name")
@click.option(
    "--schedule", metavar="CRON", help="Cron expression of five or six fields, or a name such as @daily."
)
@click.option(
    "--every", type=parse_duration, metavar="TIME", help="Interval instead of a schedule: 90s, 15m, 2h, 7d."
)
@click.option("--timezone", metavar="ZONE", help="Time zone of the schedule.")
@click.option("--missed", type=click.Choice(["skip", "once", "all"]), help="What to do about missed ticks.")
@REASON_OPTION
@in_trio
async def change(
    setting: Setting,
    name: str,
    *,
    schedule: str | None,
    every: timedelta | None,
    timezone: str | None,
    missed: Literal["skip", "once", "all"] | None,
    reason: str,
) -> None:
    """Change the cron entry NAME. The change lasts until its declaration in the code changes."""
    if all(value is None for value in (schedule, every, timezone, missed)):
        msg = "nothing to change: use --schedule, --every, --timezone or --missed"
        raise click.UsageError(msg)
    async with setting.app().open_client() as jobs:
        await jobs.update_cron(
            name, expression=schedule, interval=every, timezone=timezone, missed=missed, reason=reason
        )
    say(f"cron entry {name} is changed")


COMMANDS = (cron,)
