"""Look at cron entries; pause, resume, change, delete them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import click

from jobrt._views.crons import view_cron
from jobrt.cli.output import JSON_OPTION, print_json, print_rows
from jobrt.cli.selection import duration
from jobrt.cli.setting import Setting, in_trio

if TYPE_CHECKING:
    from jobrt._storage.contract import CronRow

__all__ = ["COMMANDS"]


def _row(row: CronRow) -> list[object]:
    one = view_cron(row, datetime.now(UTC))
    schedule = f"broken: {one.error}" if one.error else one.schedule
    return [one.name, one.job, schedule, one.last, one.upcoming, "paused" if one.paused else one.missed]


@click.group("cron", invoke_without_command=True)
@JSON_OPTION
@click.pass_context
def cron(context: click.Context, as_json: bool) -> None:
    """Show the cron entries and their next ticks."""
    if context.invoked_subcommand is None:
        _show(context.obj, as_json)


@in_trio
async def _show(setting: Setting, as_json: bool) -> None:
    app = setting.app()
    async with app.open_client() as jobs:
        await app.declare_crons()
        rows = await jobs.crons()
    if as_json:
        print_json(rows)
    else:
        print_rows(
            ("name", "job", "schedule", "last", "next", "missed"), map(_row, rows), empty="no cron entries"
        )


@cron.command()
@click.argument("name")
@click.pass_obj
@in_trio
async def pause(setting: Setting, name: str) -> None:
    """Let the entry NAME tick no more until it is resumed."""
    async with setting.app().open_client() as jobs:
        await jobs.pause_cron(name)
    click.echo(f"{name} is paused")


@cron.command()
@click.argument("name")
@click.pass_obj
@in_trio
async def resume(setting: Setting, name: str) -> None:
    """Let the entry NAME tick again."""
    async with setting.app().open_client() as jobs:
        await jobs.resume_cron(name)
    click.echo(f"{name} is resumed")


@cron.command("set")
@click.argument("name")
@click.option("--schedule", metavar="CRON", help="Five or six fields, or @daily and the like.")
@click.option("--every", metavar="TIME", help="An interval instead: 90s, 15m, 2h, 7d.")
@click.option("--timezone", metavar="ZONE", help="Whose clock the schedule means.")
@click.option("--missed", type=click.Choice(["skip", "once", "all"]), help="What becomes of missed ticks.")
@click.pass_obj
@in_trio
async def change(
    setting: Setting,
    name: str,
    *,
    schedule: str | None,
    every: str | None,
    timezone: str | None,
    missed: Literal["skip", "once", "all"] | None,
) -> None:
    """Change when the entry NAME ticks, until the code that declares it says something new."""
    if schedule is every is timezone is missed is None:
        msg = "give what to change: --schedule, --every, --timezone or --missed"
        raise click.UsageError(msg)
    interval = None if every is None else duration(every)
    async with setting.app().open_client() as jobs:
        await jobs.update_cron(name, expression=schedule, interval=interval, timezone=timezone, missed=missed)
    click.echo(f"{name} is changed")


@cron.command()
@click.argument("name")
@click.pass_obj
@in_trio
async def delete(setting: Setting, name: str) -> None:
    """Remove the entry NAME; a worker whose code declares it adds it again."""
    async with setting.app().open_client() as jobs:
        await jobs.delete_cron(name)
    click.echo(f"{name} is deleted")


COMMANDS = (cron,)
