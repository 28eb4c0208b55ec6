"""The `migrate`, `prune` and `manifest` commands."""

from functools import partial
from typing import Any

import attrs
import click

from jobrt._views.words import jobs_in_words
from jobrt.app import App
from jobrt.cli.output import JSON_OPTION, print_json, print_lines, print_rows, say
from jobrt.cli.setting import Setting, in_trio


@click.command()
@click.option(
    "--check", is_flag=True, help="Only list pending migrations. Exit with status 1 if there are any."
)
@click.option("--sql", is_flag=True, help="Only print the SQL statements (PostgreSQL).")
@click.option(
    "--grants",
    metavar="ROLE:KIND",
    help="Only print the grants of a role (PostgreSQL). KIND is enqueuer, reader or worker.",
)
@in_trio
async def migrate(setting: Setting, check: bool, sql: bool, grants: str | None) -> int:
    """Migrate the database to the schema of this version of jobrt."""
    app = setting.app(create=not (check or sql))  # for --grants too, which opens no database
    if grants is not None:
        print_lines(_grants_sql(app, grants).splitlines())
        return 0
    if sql:
        print_lines(_migration_sql(app).splitlines())
        return 0
    app.leave_schema()  # or a SQLite file is migrated before it is looked at
    async with app.open_storage() as storage:
        if check:
            status = await storage.schema.status()
            outdated = bool(status.pending or status.newer)
            state = "newer than this jobrt" if status.newer else f"{len(status.pending)} pending"
            lines = [state if outdated else "up to date", *(f"  {name}" for name in status.pending)]
            print_lines(lines)
            return int(outdated)
        applied = await storage.schema.migrate(report=partial(say, err=True))
    print_lines([f"applied {name}" for name in applied] or ["up to date"])
    return 0


def _grants_sql(app: App, grants: str) -> str:
    from jobrt._storage.postgres import KINDS, grants_sql  # noqa: PLC0415 - only where PostgreSQL is used

    role, _, kind = grants.rpartition(":")
    if not role or kind not in KINDS:
        msg = f"--grants {grants!r} is not ROLE:KIND: KIND is {', '.join(KINDS)}"
        raise click.UsageError(msg)
    return grants_sql(role, kind, schema=app.schema)


def _migration_sql(app: App) -> str:
    if not app.url.startswith("postgres"):
        msg = "--sql is for PostgreSQL: SQLite files are migrated when they are opened"
        raise click.UsageError(msg)
    from jobrt._storage.postgres import migration_sql  # noqa: PLC0415 - only where PostgreSQL is used

    return migration_sql(app.schema)


@click.command(short_help="Delete finished jobs that are not kept.")
@in_trio
async def prune(setting: Setting) -> None:
    """Delete finished jobs that the application's retention does not keep."""
    async with setting.app().open_client() as jobs:
        say(f"{jobs_in_words(await jobs.prune())} deleted")


@click.command()
@JSON_OPTION
@click.pass_obj
def manifest(setting: Setting, as_json: bool) -> None:
    """List the jobs and cron entries that the application declares."""
    app = setting.app_with_jobs()
    if as_json:
        crons = [{"name": entry.name, **entry.spec()} for entry in app.crons.values()]
        queues = {name: attrs.asdict(queue) for name, queue in app.queues.items()}
        print_json({"jobs": [_job(job) for job in app.registry], "cron": crons, "queues": queues})
        return
    columns = ("job", "queue", "priority", "max attempts", "max concurrency", "timeout", "runs in")
    rows = [
        [job.name, job.queue, job.priority, job.max_attempts, job.max_concurrency, job.timeout, job.run_in]
        for job in app.registry
    ]
    print_rows(columns, rows, empty="no jobs")
    if app.crons:
        entries = [[entry.name, entry.job, entry.schedule] for entry in app.crons.values()]
        print_rows(("cron", "job", "schedule"), entries, empty="")


def _job(definition: Any) -> dict[str, Any]:
    cls, timeout = definition.job_class, definition.timeout
    return {
        "name": definition.name,
        "class": f"{cls.__module__}.{cls.__qualname__}",
        "doc": (cls.__doc__ or "").strip().split("\n")[0],
        "queue": definition.queue,
        "priority": definition.priority,
        "max_attempts": definition.max_attempts,
        "max_concurrency": definition.max_concurrency,
        "timeout": timeout if isinstance(timeout, (int, float, type(None))) else repr(timeout),
        "run_in": definition.run_in,
        "fields": [field.name for field in attrs.fields(cls)],
    }


COMMANDS = (migrate, prune, manifest)
