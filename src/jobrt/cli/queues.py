"""The `queues` commands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import click

from jobrt._client import Client
from jobrt._core.queues import QueueStatus
from jobrt._views.queues import view_queues
from jobrt._views.words import age
from jobrt.cli.output import JSON_OPTION, print_json, print_rows
from jobrt.cli.setting import Setting, in_trio

COLUMNS = ("queue", "due", "oldest", "scheduled", "retryable", "running", "workers", "slots", "state")


async def queue_rows(jobs: Client, *, limit: int | None = None) -> list[list[Any]]:
    """Return each queue as a row of `COLUMNS`; jobs are counted up to `limit`, as by `Client.queues`."""
    return [
        [
            view.status.name,
            _count(view.status.available, view.status),
            age(view.status.oldest_due),
            _count(view.status.scheduled, view.status),
            _count(view.status.retryable, view.status),
            view.status.executing,
            view.workers,
            view.slots,
            view.state,
        ]
        for view in view_queues(await jobs.queues(limit=limit), await jobs.workers())
    ]


def _count(number: int, queue: QueueStatus) -> str:
    return f"{number}+" if queue.more else str(number)


@click.group("queues", invoke_without_command=True, short_help="Show, pause, resume and scale queues.")
@JSON_OPTION
@click.pass_context
def queues(context: click.Context, as_json: bool) -> None:
    """Show the queues: due jobs, how long the oldest has been due, running jobs."""
    if context.invoked_subcommand is None:
        _show(context.obj, as_json)


@in_trio
async def _show(setting: Setting, as_json: bool) -> None:
    async with setting.app().open_client() as jobs:
        if as_json:
            print_json(await jobs.queues())
        else:
            print_rows(COLUMNS, await queue_rows(jobs), empty="no queue has jobs")


async def _change(
    setting: Setting, queue: str, change: Callable[..., Awaitable[object]], *arguments: object
) -> None:
    """Change a queue; warn if it is unknown, which may be a misspelling or a queue that is used later."""
    app = setting.app()
    async with app.open_client() as jobs:
        known = {*app.queues, *(status.name for status in await jobs.queues())}
        known.update(name for row in await jobs.workers() for name in row.info.queues)
        if queue not in known:
            click.echo(f"jobrt: warning: no job, worker or application uses queue {queue!r} yet", err=True)
        await change(jobs, queue, *arguments)


@queues.command()
@click.argument("queue")
@click.pass_obj
@in_trio
async def pause(setting: Setting, queue: str) -> None:
    """Pause QUEUE on all workers until it is resumed."""
    await _change(setting, queue, Client.pause)
    click.echo(f"queue {queue} is paused on all workers; running jobs continue")


@queues.command()
@click.argument("queue")
@click.pass_obj
@in_trio
async def resume(setting: Setting, queue: str) -> None:
    """Resume QUEUE on all workers."""
    await _change(setting, queue, Client.resume)
    click.echo(f"queue {queue} is resumed")


@queues.command()
@click.argument("queue")
@click.argument("concurrency")
@click.pass_obj
@in_trio
async def scale(setting: Setting, queue: str, concurrency: str) -> None:
    """Set how many jobs of QUEUE each worker runs at once.

    CONCURRENCY is a number, or "default" for the application's setting.
    """
    if concurrency != "default" and not concurrency.isdecimal():
        msg = f"CONCURRENCY is {concurrency!r}: use a number above zero, or default"
        raise click.BadParameter(msg)
    await _change(setting, queue, Client.scale, None if concurrency == "default" else int(concurrency))
    click.echo(f"queue {queue} is scaled to {concurrency}")


COMMANDS = (queues,)
