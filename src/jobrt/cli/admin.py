"""Migrate, prune, find out why nothing runs, list what an app has."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs
import click

from jobrt._views.findings import Finding, examine, take_snapshot
from jobrt.cli.output import JSON_OPTION, print_json, print_rows
from jobrt.cli.setting import Setting, in_trio
from jobrt.errors import JobrtError

if TYPE_CHECKING:
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


@click.command(short_help="Find out why nothing is running.")
@JSON_OPTION
@click.pass_obj
@in_trio
async def doctor(setting: Setting, as_json: bool) -> int:
    """Find out why nothing is running; exit status 1 if something is wrong."""
    app = setting.app()
    try:
        async with app.open_client() as jobs:
            snapshot = await take_snapshot(jobs)
        place = app.url.rpartition("@")[2]
        findings = [Finding(wrong=False, text=f"the database {place} answers and is up to date")]
        findings += examine(snapshot, names=app.registry.names, now=datetime.now(UTC))
    except JobrtError as error:
        findings = [Finding(wrong=True, text=f"the database cannot be used: {error}")]
    if as_json:
        print_json(findings)
    else:
        for one in findings:
            click.echo(f"{'!!' if one.wrong else 'ok'}  {one.text}")
    return int(any(one.wrong for one in findings))


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
