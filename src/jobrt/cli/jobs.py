"""Enqueue jobs, list them, show one, cancel, rerun, delete."""

from __future__ import annotations

import json
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

import jobrt
from jobrt._views.jobs import apply_to_each, cancel_phase, cancel_phases, watchdog_notices
from jobrt._views.words import age, jobs_in_words
from jobrt.cli.output import (
    JOB_COLUMNS,
    JSON_OPTION,
    console,
    job_row,
    jsonable,
    print_json,
    print_rows,
    when,
)
from jobrt.cli.selection import confirmed, duration, pick_options
from jobrt.cli.setting import Setting, in_trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from jobrt._client import Client
    from jobrt._core.where import Where
    from jobrt._registry import JobDefinition
    from jobrt._storage.contract import WorkerRow
    from jobrt.errors import JobrtError

__all__ = ["COMMANDS"]

_CHANGES = (
    click.option("--priority", type=int, help="Higher runs first."),
    click.option("--max-attempts", type=int, help="Runs in total."),
    click.option("--timeout", metavar="TIME", help="How long one attempt may take: 30s, 5m."),
    click.option("--in", "schedule_in", metavar="TIME", help="Run not before 90s, 15m, 2h, 7d from now."),
    click.option("--at", "schedule_at", metavar="TIME", help="Run not before this time (ISO 8601)."),
    click.option("--context", help="Why the job exists."),
)
"""What can be said of a job when it is enqueued, and changed while it waits."""


def _changes(command: Any) -> Any:
    for option in reversed(_CHANGES):
        command = option(command)
    return command


@click.command()
@click.argument("name")
@click.argument("fields", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--json", "payload", metavar="JSON", help="The whole payload as a JSON object.")
@click.option("--queue", help="Where to, instead of the job's queue.")
@_changes
@click.option("--tag", "tags", multiple=True, help="A tag; repeat for more.")
@click.option("--meta", "metadata", multiple=True, metavar="KEY=VALUE", help="Metadata; repeat for more.")
@click.option("--unique-key", help="Not if a job of this name with this key is still to be done.")
@click.option("--wait", is_flag=True, help="Wait for its end and print its result.")
@click.pass_obj
@in_trio
async def enqueue(
    setting: Setting, name: str, fields: tuple[str, ...], payload: str | None, **options: Any
) -> int:
    """Put a job NAME into the database and print its id."""
    app = setting.app_with_jobs()
    wait = options.pop("wait")
    value = _value(app.registry.get(name), fields, payload)
    async with app.open_client() as jobs:
        handle = await jobs.enqueue(value, **_options(options))
        if not wait:
            click.echo(f"{handle.id}" + (" (was there already)" if handle.duplicate else ""))
            return 0
        await _say_if_nobody_runs_it(jobs, handle.id)
        record = await handle.wait()
    if record.state is jobrt.State.COMPLETED:
        print_json(record.result)
        return 0
    last = record.attempts[-1] if record.attempts else None
    click.echo(
        f"jobrt: job {record.id} is {record.state}: {last.message if last else record.cancel_reason}",
        err=True,
    )
    return 1


async def _say_if_nobody_runs_it(jobs: Client, job_id: int) -> None:
    queue = (await jobs.get(job_id)).queue
    if not any(one.alive and queue in one.info.get("queues", ()) for one in await jobs.workers()):
        click.echo(f"jobrt: no worker serves {queue!r} now; job {job_id} waits for one", err=True)


def _value(definition: JobDefinition, fields: tuple[str, ...], payload: str | None) -> Any:
    """Return the job value that the command line describes; raise `InvalidJob`."""
    if payload is not None and fields:
        msg = "give KEY=VALUE arguments or --json, not both"
        raise click.UsageError(msg)
    if payload is None:
        return _from_fields(definition, fields)
    try:
        decoded = json.loads(payload)
    except json.JSONDecodeError as error:
        msg = f"--json is not JSON: {error}"
        raise click.ClickException(msg) from None
    if not isinstance(decoded, dict):
        msg = f"--json is to be an object with the fields of {definition.name}, not {type(decoded).__name__}"
        raise click.ClickException(msg)
    return definition.decode(decoded)


def _from_fields(definition: JobDefinition, fields: tuple[str, ...]) -> Any:
    """Read each value as its field's type wants it; raise `InvalidJob`."""
    texts: dict[str, str] = {}
    for field in fields:
        key, equals, value = field.partition("=")
        if not equals:
            msg = f"{field!r}: write KEY=VALUE"
            raise click.UsageError(msg)
        texts[key] = value
    return definition.payload.parse(texts)


def _options(given: dict[str, Any]) -> dict[str, Any]:
    options = {name: value for name, value in given.items() if value not in (None, ())}
    for name in ("schedule_in", "timeout"):
        if name in options:
            options[name] = duration(options[name])
    if "schedule_at" in options:
        options["schedule_at"] = _time(options["schedule_at"])
    if "metadata" in options:
        options["metadata"] = dict(_pair(one) for one in options["metadata"])
    if "unique_key" in options:
        options["unique"] = jobrt.Unique(key=options.pop("unique_key"))
    return options


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        msg = f"--at {text!r} is no time: write it as 2030-01-31T12:00:00+01:00"
        raise click.BadParameter(msg) from None
    return found if found.tzinfo is not None else found.astimezone()


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        msg = f"--meta {text!r}: write KEY=VALUE"
        raise click.BadParameter(msg)
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


@click.command("jobs")
@pick_options
@click.option("--limit", type=click.IntRange(min=0), default=50, show_default=True, help="How many at most.")
@click.option("--after", type=int, metavar="ID", help="Go on behind this job.")
@click.option(
    "--order-by", default="-id", show_default=True, help="id, schedule_at, created_at, finished_at, priority."
)
@click.option("--count", "only_count", is_flag=True, help="Print only how many match.")
@JSON_OPTION
@click.pass_obj
@in_trio
async def list_jobs(
    setting: Setting,
    where: Where | None,
    limit: int,
    after: int | None,
    order_by: str,
    only_count: bool,
    as_json: bool,
) -> None:
    """List jobs, the newest first."""
    async with setting.app().open_client() as jobs:
        if only_count:
            click.echo(await jobs.count(where))
            return
        found = await jobs.query(where, order_by=order_by, limit=limit, after=after, details=as_json)
    if as_json:
        print_json(found)
    else:
        print_rows(JOB_COLUMNS, [job_row(one) for one in found], empty="no job matches")


@click.command()
@click.argument("job_id", type=int)
@JSON_OPTION
@click.pass_obj
@in_trio
async def show(setting: Setting, job_id: int, as_json: bool) -> None:
    """Show everything about a job."""
    async with setting.app().open_client() as jobs:
        job = await jobs.get(job_id)
        about = [] if as_json or job.worker is None else _told(job, await jobs.workers())
    if as_json:
        print_json(job)
        return
    out = console()
    out.print(f"[bold]job {job.id}[/]  {escape(job.name)}  [bold]{job.state}[/]", soft_wrap=True)
    for name, value in [*_facts(job), *about]:
        out.print(f"  {name:<12} {escape(value)}", soft_wrap=True)
    for attempt in job.attempts:
        took = age((attempt.finished_at - attempt.started_at).total_seconds())
        said = f"{attempt.error_type}: " if attempt.error_type else ""
        line = (
            f"attempt {attempt.number}  {attempt.end}  {when(attempt.started_at)}, {took}, {attempt.worker}"
        )
        out.print(escape(line), soft_wrap=True)
        if attempt.message or said:
            out.print(f"  {escape(said + (attempt.message or ''))}", soft_wrap=True)
        for trace_line in (attempt.traceback or "").rstrip().splitlines():
            out.print(f"    {escape(trace_line)}", soft_wrap=True)


def _facts(job: jobrt.JobRecord) -> list[tuple[str, str]]:
    data = jsonable(job)
    facts = [
        ("queue", f"{job.queue}, priority {job.priority}"),
        ("attempt", f"{job.attempt} of {'any number' if job.max_attempts is None else job.max_attempts}"),
        ("created", when(job.created_at)),
        ("due", when(job.schedule_at)),
        ("started", when(job.started_at)),
        ("finished", when(job.finished_at)),
    ]
    if job.progress is not None:
        total = "" if job.progress.total is None else f" of {job.progress.total:g}"
        facts.append(("progress", f"{job.progress.done:g}{total} {job.progress.note}"))
    facts += [
        (name.replace("_", " "), str(data[name]))
        for name in ("worker", "cancel_reason", "context")
        if data[name] is not None
    ]
    facts += [
        (name, json.dumps(data[name], ensure_ascii=False))
        for name in ("args", "metadata", "tags", "saved", "result")
        if data[name] not in (None, {}, [])
    ]
    return facts


def _told(job: jobrt.JobRecord, workers: Sequence[WorkerRow]) -> list[tuple[str, str]]:
    """Return what the worker of a running job says of it: how far its cancellation is, what the watchdog saw."""
    phase = cancel_phase(job, cancel_phases(workers))
    facts = [("cancelling", phase)] if phase else []
    return facts + [("watchdog", one) for one in watchdog_notices(job, workers)]


def _bulk(
    verb: str, does: Callable[..., Awaitable[int]], text: str, *, options: Sequence[Callable[[Any], Any]] = ()
) -> click.Command:
    """Make a command that does something to jobs named by id or picked by options."""

    @click.command(verb, help=text)
    @click.argument("ids", nargs=-1, type=int)
    @pick_options
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @click.pass_obj
    @in_trio
    async def command(
        setting: Setting, ids: tuple[int, ...], where: Where | None, yes: bool, **options: Any
    ) -> int:
        if bool(ids) == (where is not None):
            msg = f"name the jobs to {verb} by id, or pick them with options"
            raise click.UsageError(msg)
        refused: list[JobrtError] = []
        async with setting.app().open_client() as jobs:
            if where is None:
                count, refused = await apply_to_each(jobs, ids, partial(does, **options))
            elif not await confirmed(jobs, where, verb=verb, yes=yes):
                return 0
            else:
                count = await does(jobs, where, **options)
        for error in refused:
            click.echo(f"jobrt: {error}", err=True)
        if count or not refused:
            click.echo(jobs_in_words(count))
        return int(bool(refused))

    for option in reversed(options):
        command = option(command)
    return command


async def _cancel(jobs: Client, job: int | Where, *, reason: str) -> int:
    return await jobs.cancel(job, reason)


async def _rerun(jobs: Client, job: int | Where) -> int:
    return await jobs.rerun(job)


async def _delete(jobs: Client, job: int | Where) -> int:
    return await jobs.delete(job)


async def _update(jobs: Client, job: int | Where, **options: Any) -> int:
    changes = _options(options)
    if "queue_to" in changes:
        changes["queue"] = changes.pop("queue_to")
    if not changes:
        msg = "give what to change: --to, --priority, --max-attempts, --timeout, --in, --at or --context"
        raise click.UsageError(msg)
    return await jobs.update(job, **changes)


COMMANDS = (
    enqueue,
    list_jobs,
    show,
    _bulk(
        "cancel",
        _cancel,
        "Cancel jobs, running ones too, by id or by options.",
        options=[click.option("--reason", default="", help="Kept with the job.")],
    ),
    _bulk("rerun", _rerun, "Run final jobs again, by id or by options."),
    _bulk("delete", _delete, "Delete jobs, by id or by options."),
    _bulk(
        "update",
        _update,
        "Change waiting jobs, by id or by options.",
        options=[click.option("--to", "queue_to", metavar="QUEUE", help="Move it to this queue."), *_CHANGES],
    ),
)
