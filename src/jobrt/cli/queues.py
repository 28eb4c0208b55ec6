"""Look at queues; pause, resume, scale them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from jobrt._views.queues import view_queues
from jobrt._views.words import age
from jobrt.cli.output import JSON_OPTION, print_json, print_rows
from jobrt.cli.setting import Setting, in_trio

if TYPE_CHECKING:
    from jobrt._client import Client
    from jobrt._core.queues import QueueStatus
    from jobrt.app import App

__all__ = ["COMMANDS", "queue_rows"]

COLUMNS = ("queue", "due", "oldest", "scheduled", "retryable", "running", "workers", "slots", "state")


async def queue_rows(jobs: Client, *, most: int | None = None) -> list[list[Any]]:
    """Return what people want to know of each queue, as rows of `COLUMNS`; `most` is as for `Client.queues`."""
    return [
        [
            one.status.name,
            _count(one.status.available, one.status),
            age(one.status.oldest_due),
            _count(one.status.scheduled, one.status),
            _count(one.status.retryable, one.status),
            one.status.executing,
            one.workers,
            one.slots,
            one.state,
        ]
        for one in view_queues(await jobs.queues(limit=most), await jobs.workers())
    ]


def _count(number: int, queue: QueueStatus) -> str:
    return f"{number}+" if queue.more else str(number)


@click.group("queues", invoke_without_command=True, short_help="Show the queues; pause, resume, scale them.")
@JSON_OPTION
@click.pass_context
def queues(context: click.Context, as_json: bool) -> None:
    """Show the queues: what is due, how long the oldest waits, what runs."""
    if context.invoked_subcommand is None:
        _show(context.obj, as_json)


@in_trio
async def _show(setting: Setting, as_json: bool) -> None:
    async with setting.app().open_client() as jobs:
        if as_json:
            print_json(await jobs.queues())
        else:
            print_rows(COLUMNS, await queue_rows(jobs), empty="no queue has jobs")


async def _doubt(app: App, jobs: Client, queue: str) -> None:
    """Say so if nobody has heard of the queue: it may be a slip, or come into use later."""
    known = {*app.queues, *(one.name for one in await jobs.queues())}
    known.update(name for one in await jobs.workers() for name in one.info.get("queues", ()))
    if queue not in known:
        click.echo(f"jobrt: no job and no worker uses a queue {queue!r} so far", err=True)


@queues.command()
@click.argument("queue")
@click.pass_obj
@in_trio
async def pause(setting: Setting, queue: str) -> None:
    """Let no worker claim from QUEUE until it is resumed."""
    app = setting.app()
    async with app.open_client() as jobs:
        await _doubt(app, jobs, queue)
        await jobs.pause(queue)
    click.echo(f"{queue} is paused on all workers; running jobs go on")


@queues.command()
@click.argument("queue")
@click.pass_obj
@in_trio
async def resume(setting: Setting, queue: str) -> None:
    """Let workers claim from QUEUE again."""
    app = setting.app()
    async with app.open_client() as jobs:
        await _doubt(app, jobs, queue)
        await jobs.resume(queue)
    click.echo(f"{queue} is resumed")


@queues.command()
@click.argument("queue")
@click.argument("concurrency")
@click.pass_obj
@in_trio
async def scale(setting: Setting, queue: str, concurrency: str) -> None:
    """Let each worker run CONCURRENCY jobs of QUEUE at once; ``default``: as configured."""
    if concurrency != "default" and not concurrency.isdecimal():
        msg = f"{concurrency!r}: give a number above zero, or default"
        raise click.BadParameter(msg)
    app = setting.app()
    async with app.open_client() as jobs:
        await _doubt(app, jobs, queue)
        await jobs.scale(queue, None if concurrency == "default" else int(concurrency))
    click.echo(f"{queue} is scaled to {concurrency}")


COMMANDS = (queues,)
