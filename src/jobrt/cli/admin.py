"""Migrate, prune, find out why nothing runs, list what an app has."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs
import click

import jobrt
from jobrt.cli.output import JSON_OPTION, age, print_json, print_rows
from jobrt.cli.setting import Setting, in_trio
from jobrt.cli.trees import notice_words
from jobrt.errors import JobrtError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jobrt._client import Client
    from jobrt._core.queues import QueueStatus
    from jobrt._storage.base import WorkerRow
    from jobrt.app import App

__all__ = ["COMMANDS"]


@click.command()
@click.option("--check", is_flag=True, help="Only say what is pending; exit status 1 if something is.")
@click.option("--sql", is_flag=True, help="Only print the statements (PostgreSQL).")
@click.pass_obj
@in_trio
async def migrate(setting: Setting, check: bool, sql: bool) -> int:
    """Bring the database up to date."""
    app = setting.app()
    if sql:
        click.echo(_migration_sql(app))
        return 0
    async with app.open_storage() as storage:
        if check:
            status = await storage.schema()
            said = "newer than this jobrt" if status.newer else f"{len(status.pending)} pending"
            click.echo("up to date" if not status.pending and not status.newer else said)
            for name in status.pending:
                click.echo(f"  {name}")
            return 1 if status.pending or status.newer else 0
        applied = await storage.migrate()
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("up to date")
    return 0


def _migration_sql(app: App) -> str:
    if not app.url.startswith("postgres"):
        msg = "SQLite files are migrated when they are opened; --sql is for PostgreSQL"
        raise click.UsageError(msg)
    from jobrt._storage.postgres import migration_sql  # noqa: PLC0415 - only where PostgreSQL is used

    return migration_sql(app.schema)


@click.command()
@click.pass_obj
@in_trio
async def prune(setting: Setting) -> None:
    """Delete finished jobs as the app's retention says, now."""
    async with setting.app().open_client() as jobs:
        click.echo(f"{await jobs.prune()} jobs deleted")


@attrs.frozen
class Finding:
    """One thing that may be wrong, and the remedy."""

    wrong: bool
    text: str


def _fine(text: str) -> Finding:
    return Finding(wrong=False, text=text)


def _wrong(text: str) -> Finding:
    return Finding(wrong=True, text=text)


@click.command(short_help="Find out why nothing is running.")
@JSON_OPTION
@click.pass_obj
@in_trio
async def doctor(setting: Setting, as_json: bool) -> int:
    """Find out why nothing is running; exit status 1 if something is wrong."""
    app = setting.app()
    try:
        async with app.open_client() as jobs:
            findings = [finding async for finding in _examine(app, jobs)]
    except JobrtError as error:
        findings = [_wrong(f"the database cannot be used: {error}")]
    if as_json:
        print_json(findings)
    else:
        for one in findings:
            click.echo(f"{'!!' if one.wrong else 'ok'}  {one.text}")
    return int(any(one.wrong for one in findings))


async def _examine(app: App, jobs: Client):  # type: ignore[no-untyped-def]  # noqa: ANN202 - an async generator of findings
    yield _fine(f"the database {app.url.rpartition('@')[2]} answers and is up to date")
    workers = await jobs.workers()
    alive = [one for one in workers if one.alive]
    yield Finding(
        not alive, f"{len(alive)} workers are alive" + ("" if alive else ": start `python -m jobrt worker`")
    )
    for one in workers:
        for finding in _examine_worker(one):
            yield finding
    for queue in await jobs.queues():
        async for finding in _examine_queue(app, jobs, queue, alive):
            yield finding
    for row in await jobs.crons():
        if row.paused:
            yield _fine(f"cron entry {row.name} is paused")


def _examine_worker(one: WorkerRow) -> Iterator[Finding]:
    if not one.alive:
        yield _wrong(f"worker {one.id} is dead; its jobs run again as soon as another worker is there")
        return
    if one.info.get("outage"):
        yield _wrong(f"worker {one.id} cannot reach the database: {one.info['outage']}")
    late = (datetime.now(UTC) - one.beat_at) / (one.expires_at - one.beat_at)
    if late > 0.5:  # noqa: PLR2004 - it beats three times in the time after which it counts as dead
        said = age((datetime.now(UTC) - one.beat_at).total_seconds())
        yield _wrong(f"worker {one.id} was last heard from {said} ago: does a job block its event loop?")
    notices = one.info.get("notices", ())
    for notice in notices:
        yield _wrong(f"worker {one.id}: {notice_words(notice)}; its log has the stack")
    told = {notice.get("job") for notice in notices}
    for name, queue in one.info.get("queues", {}).items():
        stuck = [job for job in queue["stuck"] if job not in told]
        if stuck:
            ids = ", ".join(map(str, stuck))
            yield _wrong(f"worker {one.id}: jobs {ids} in queue {name} are stuck; its log has their stacks")
    for child in _failed(one.info.get("tree") or {}):
        yield _wrong(f"worker {one.id}: {child['name']} has failed: {child['last_error']}")


def _failed(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for child in tree.get("children", ()):
        if child["state"] == "failed":
            yield child
        yield from _failed(child["nested"] or {})


async def _examine_queue(app: App, jobs: Client, queue: QueueStatus, alive: Sequence[WorkerRow]):  # type: ignore[no-untyped-def]  # noqa: ANN202
    due = queue.available
    serving = [one for one in alive if queue.name in one.info.get("queues", {})]
    if queue.paused:
        yield Finding(
            bool(due), f"queue {queue.name} is paused with {due} due jobs: `queues resume {queue.name}`"
        )
    elif due and not serving:
        yield _wrong(
            f"queue {queue.name}: {due} due jobs, but no live worker serves it: add it to App(queues=…)"
        )
    elif due:
        slots = sum(one.info["queues"][queue.name]["concurrency"] for one in serving)
        full = queue.executing >= slots
        said = "all slots are busy" if full else f"{slots - queue.executing} slots are free"
        late = (queue.oldest_due or 0) > 60 and not full  # noqa: PLR2004 - a minute with free slots is not a burst
        yield Finding(
            late, f"queue {queue.name}: {due} due jobs, the oldest for {age(queue.oldest_due)}; {said}"
        )
    else:
        yield _fine(f"queue {queue.name}: nothing due, {queue.executing} running, {queue.scheduled} later")
    if due and len(app.registry):
        async for finding in _unknown_names(app, jobs, queue):
            yield finding


async def _unknown_names(app: App, jobs: Client, queue: QueueStatus):  # type: ignore[no-untyped-def]  # noqa: ANN202
    where = jobrt.where.state("available", "retryable") & jobrt.where.queue(queue.name)
    names = {one.name for one in await jobs.query(where, order_by="schedule_at", limit=1000, details=False)}
    for name in sorted(names - set(app.registry.names)):
        yield _wrong(f"queue {queue.name}: jobs named {name!r} wait, which this app does not know")


@click.command()
@JSON_OPTION
@click.pass_obj
def manifest(setting: Setting, as_json: bool) -> None:
    """List the jobs and cron entries that the app's code declares."""
    app = setting.app_with_jobs()
    if as_json:
        crons = [{"name": one.name, **one.spec()} for one in app.crons.values()]
        queues = {name: attrs.asdict(queue) for name, queue in app.queues.items()}
        print_json({"jobs": [_job(one) for one in app.registry], "cron": crons, "queues": queues})
        return
    columns = ("job", "queue", "priority", "max attempts", "max concurrency", "timeout", "runs in")
    rows = [
        [one.name, one.queue, one.priority, one.max_attempts, one.max_concurrency, one.timeout, one.run_in]
        for one in app.registry
    ]
    print_rows(columns, rows, empty="no jobs")
    if app.crons:
        print_rows(
            ("cron", "job", "schedule"), [[c.name, c.job, c.schedule] for c in app.crons.values()], empty=""
        )


def _job(one: Any) -> dict[str, Any]:
    cls = one.job_class
    return {
        "name": one.name,
        "class": f"{cls.__module__}.{cls.__qualname__}",
        "doc": (cls.__doc__ or "").strip().split("\n")[0],
        "queue": one.queue,
        "priority": one.priority,
        "max_attempts": one.max_attempts,
        "max_concurrency": one.max_concurrency,
        "timeout": one.timeout if isinstance(one.timeout, (int, float, type(None))) else repr(one.timeout),
        "run_in": one.run_in,
        "fields": [field.name for field in attrs.fields(cls)],
    }


COMMANDS = (migrate, prune, doctor, manifest)
