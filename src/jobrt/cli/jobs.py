"""The `enqueue`, `jobs`, `show`, `send`, `cancel`, `rerun`, `delete` and `update` commands."""

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from functools import partial, reduce
from typing import Any

import click
from rich.text import Text

import jobrt
from jobrt._client import Client
from jobrt._core.escape import printable, printable_lines
from jobrt._core.text import user_frames
from jobrt._core.where import Where
from jobrt._registry import JobDefinition
from jobrt._storage.contract import WorkerRow
from jobrt._views.as_json import jsonable
from jobrt._views.families import family_lines
from jobrt._views.status import apply_to_each, cancel_phase, cancel_phases, watchdog_notices
from jobrt._views.words import age, jobs_in_words, wait_in_words
from jobrt.cli.output import JSON_OPTION, console, local_time, print_jobs, print_json, say, warn
from jobrt.cli.selection import COUNT, ID, INT, confirm, parse_duration, selection_options
from jobrt.cli.setting import Setting, in_trio
from jobrt.errors import JobrtError


def _parse_time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        return found if found.tzinfo is not None else found.astimezone()
    except (OSError, OverflowError, ValueError):
        msg = f"{text!r} is not a time: write it as 2030-01-31T12:00:00+01:00"
        raise click.BadParameter(msg) from None


def _parse_pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        msg = f"{text!r} has no value: write KEY=VALUE"
        raise click.BadParameter(msg)
    try:
        return key, json.loads(value)
    except (ValueError, RecursionError):  # also a number of thousands of digits
        return key, value


_CHANGES = (
    click.option("--priority", type=INT, help="Priority of the job. Higher priorities run first."),
    click.option("--max-attempts", type=INT, help="Maximum number of attempts, including the first."),
    click.option("--timeout", type=parse_duration, metavar="TIME", help="Time limit of an attempt: 30s, 5m."),
    click.option(
        "--in",
        "schedule_in",
        type=parse_duration,
        metavar="TIME",
        help="Delay until the job is due: 90s, 15m, 2h, 7d.",
    ),
    click.option(
        "--at",
        "schedule_at",
        type=_parse_time,
        metavar="TIME",
        help="Time at which the job is due (ISO 8601).",
    ),
    click.option("--context", help="Text that says why the job exists."),
)
"""Options of a job that can be set when it is enqueued and changed while it waits."""


def _add(options: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Return a decorator that adds options to a command."""
    return lambda command: reduce(lambda decorated, option: option(decorated), reversed(options), command)


@click.command()
@click.argument("name")
@click.argument("fields", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--json", "payload", metavar="JSON", help="Whole payload as a JSON object.")
@click.option("--queue", help="Queue to use instead of the job's own.")
@_add(_CHANGES)
@click.option(
    "--deadline",
    "deadline_in",
    type=parse_duration,
    metavar="TIME",
    help="Time after which the job must have ended, from when it is due: 90s, 15m, 2h, 7d.",
)
@click.option(
    "--expires",
    "expires_in",
    type=parse_duration,
    metavar="TIME",
    help="Time after which the job no longer starts, from when it is due.",
)
@click.option("--tag", "tags", multiple=True, help="Tag of the job. Repeatable.")
@click.option(
    "--meta",
    "metadata",
    type=_parse_pair,
    multiple=True,
    metavar="KEY=VALUE",
    callback=lambda _context, _option, pairs: dict(pairs),
    help="Metadata of the job. Repeatable.",
)
@click.option("--unique-key", help="Skip if an unfinished job with this name has this key.")
@click.option("--wait", is_flag=True, help="Wait until the job ends and print its result.")
@click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Format of the output; --json is the payload here.",
)
@in_trio
async def enqueue(
    setting: Setting,
    name: str,
    fields: tuple[str, ...],
    payload: str | None,
    unique_key: str | None,
    wait: bool,
    output: str,
    **options: Any,
) -> int:
    """Enqueue the job NAME with the given fields and print its id.

    With --output json, print an object with the id and whether the job is a duplicate, or after --wait the job.
    """
    app = setting.app_with_jobs()
    value = _value(app.registry.get(name), fields, payload)
    if unique_key is not None:
        options["unique"] = jobrt.Unique(key=unique_key)
    async with app.open_client() as jobs:
        handle = await jobs.enqueue(value, **_given(options))
        if not wait:
            _print_enqueued(handle, as_json=output == "json")
            return 0
        await _warn_if_unserved(jobs, handle.id)
        record = await handle.wait()
    if output == "json":
        print_json(record)
        return int(record.state is not jobrt.State.COMPLETED)
    if record.state is jobrt.State.COMPLETED:
        print_json(record.result)
        return 0
    reason = record.attempts[-1].message if record.attempts else record.cancel_reason
    warn(f"job {record.id} is {record.state}: {reason}")
    return 1


def _print_enqueued(handle: jobrt.Handle[Any], *, as_json: bool) -> None:
    if as_json:
        print_json({"id": handle.id, "duplicate": handle.duplicate})
    else:
        say(f"{handle.id}" + (" (already enqueued)" if handle.duplicate else ""))


async def _warn_if_unserved(jobs: Client, job_id: int) -> None:
    queue = (await jobs.get(job_id)).queue
    if not any(row.alive and queue in row.info.queues for row in await jobs.workers()):
        warn(f"no worker serves queue {queue!r}; job {job_id} waits until a worker does")


def _value(definition: JobDefinition, fields: tuple[str, ...], payload: str | None) -> Any:
    """Return the job value that the command line describes; raise `InvalidJob`."""
    if payload is None:
        return _from_fields(definition, fields)
    if fields:
        msg = "KEY=VALUE and --json cannot be combined"
        raise click.UsageError(msg)
    try:
        decoded = json.loads(payload)
    except (ValueError, RecursionError) as error:
        msg = f"--json is not valid JSON: {error}"
        raise click.ClickException(msg) from None
    if not isinstance(decoded, dict):
        msg = f"--json must be an object with the fields of {definition.name}, not {type(decoded).__name__}"
        raise click.ClickException(msg)
    return definition.decode(decoded)


def _from_fields(definition: JobDefinition, fields: tuple[str, ...]) -> Any:
    """Parse each value by the type of its field; raise `InvalidJob`."""
    texts: dict[str, str] = {}
    for field in fields:
        key, equals, value = field.partition("=")
        if not equals:
            msg = f"{field!r} has no value: write KEY=VALUE"
            raise click.UsageError(msg)
        texts[key] = value
    return definition.payload.parse(texts)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given: they are not None or empty."""
    return {name: value for name, value in options.items() if value not in (None, (), {})}


@click.command("jobs")
@selection_options
@click.option("--limit", type=COUNT, default=50, show_default=True, help="Maximum number of jobs.")
@click.option("--after", type=ID, metavar="ID", help="Start after this job ID.")
@click.option(
    "--order-by",
    metavar="FIELD",
    default="-id",
    show_default=True,
    help="Order by id, schedule_at, created_at, finished_at or priority; a leading - reverses the order.",
)
@click.option("--count", "only_count", is_flag=True, help="Print only the number of matching jobs.")
@JSON_OPTION
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
    """List jobs, newest first."""
    async with setting.app().open_client() as jobs:
        if only_count:
            say(await jobs.count(where))
            return
        found = await jobs.query(where, order_by=order_by, limit=limit, after=after, details=as_json)
        now = await jobs.now()
    if as_json:
        print_json(found)
    else:
        print_jobs(found, now=now)


@click.command()
@click.argument("job_id", type=ID)
@click.argument("name")
@click.argument("value", default="null", metavar="[JSON]")
@click.option("--key", help="Drop the message if one with this key was sent before.")
@in_trio
async def send(setting: Setting, job_id: int, name: str, value: str, key: str | None) -> None:
    """Send a message NAME to a job, which gets it by ctx.receive(NAME)."""
    try:
        message = json.loads(value)
    except (ValueError, RecursionError) as error:
        msg = f"the message is not JSON: {error}; write a text as '\"text\"'"
        raise click.UsageError(msg) from None
    async with setting.app().open_client() as jobs:
        new = await jobs.send(job_id, name, message, key=key)
    say("sent" if new else "not sent: a message with this key was sent before")


@click.command()
@click.argument("job_id", type=ID)
@click.option("--tree", is_flag=True, help="Show the job and its descendants, with their states.")
@JSON_OPTION
@in_trio
async def show(setting: Setting, job_id: int, tree: bool, as_json: bool) -> None:
    """Show everything about a job, including each attempt, or its family."""
    async with setting.app().open_client() as jobs:
        if tree:
            family = await jobs.tree(job_id)
            if as_json:
                print_json(family)
            else:
                _print_family(family, now=await jobs.now())
            return
        job = await jobs.get(job_id)
        now = await jobs.now()
        reported = [] if as_json or job.worker is None else _reported(job, await jobs.workers())
    if as_json:
        print_json(job)
        return
    if job.waiting is not None:
        reported.append(("waits for", wait_in_words(job.waiting, now)))
    out = console()
    heading = ((f"job {job.id}", "bold"), f"  {printable(job.name)}  ", (job.state.value, "bold"))
    out.print(Text.assemble(*heading), soft_wrap=True)
    lines = [f"  {name:<12} {printable(value)}" for name, value in [*_facts(job), *reported]]
    for attempt in job.attempts:
        lines += _attempt_lines(attempt)
    out.print("\n".join(lines), soft_wrap=True)


def _print_family(family: Sequence[jobrt.JobRecord], *, now: datetime) -> None:
    for line in family_lines(family):
        job = line.job
        waits = "" if job.waiting is None else f", waits for {wait_in_words(job.waiting, now)}"
        say(f"{line.branch}{job.id}  {job.name}  {job.state}{waits}")


def _attempt_lines(attempt: jobrt.AttemptRecord) -> Iterator[str]:
    took = age((attempt.finished_at - attempt.started_at).total_seconds())
    started = f"{local_time(attempt.started_at)}, {took}, {attempt.worker}"
    yield printable(f"attempt {attempt.number}  {attempt.end}  {started}")
    error_type = f"{attempt.error_type}: " if attempt.error_type else ""
    if attempt.message or error_type:
        yield f"  {printable_lines(error_type + (attempt.message or ''))}"
    if attempt.traceback:
        yield f"    {printable_lines(user_frames(attempt.traceback))}"


def _facts(job: jobrt.JobRecord) -> list[tuple[str, str]]:
    data = jsonable(job)
    limit = ", no limit" if job.max_attempts is None else f" of {job.max_attempts}"
    facts = [("queue", f"{job.queue}, priority {job.priority}"), ("attempt", f"{job.attempt}{limit}")]
    times = {"created": job.created_at, "due": job.schedule_at, "started": job.started_at}
    facts += [(name, local_time(time)) for name, time in {**times, "finished": job.finished_at}.items()]
    limits = {"deadline": job.deadline_at, "expires": job.expires_at}
    facts += [(name, local_time(time)) for name, time in limits.items() if time is not None]
    if job.parent is not None:
        facts.append(("parent", str(job.parent)))
    if job.progress is not None:
        total = "" if job.progress.total is None else f" of {job.progress.total:g}"
        facts.append(("progress", f"{job.progress.done:g}{total} {job.progress.note}"))
    for name in ("worker", "cancel_reason", "context"):
        if data[name] is not None:
            facts.append((name.replace("_", " "), str(data[name])))
    for name in ("args", "metadata", "tags", "saved", "result"):
        if data[name] not in (None, {}, []):
            facts.append((name, json.dumps(data[name], ensure_ascii=False)))
    return facts


def _reported(job: jobrt.JobRecord, workers: Sequence[WorkerRow]) -> list[tuple[str, str]]:
    """Return what a running job's worker reports: the phase of its cancellation, and watchdog notices."""
    phase = cancel_phase(job, cancel_phases(workers))
    facts = [("cancelling", phase)] if phase else []
    return facts + [("watchdog", notice) for notice in watchdog_notices(job, workers)]


def _bulk(
    verb: str,
    operation: Callable[..., Awaitable[int]],
    *,
    summary: str,
    options: Sequence[Callable[[Any], Any]] = (),
) -> click.Command:
    """Return a command that applies an operation to jobs, selected by id or by options."""

    @click.command(verb, help=f"{summary} Select them by id or by options.")
    @click.argument("ids", nargs=-1, type=ID)
    @selection_options
    @_add(options)
    @click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
    @in_trio
    async def command(
        setting: Setting, ids: tuple[int, ...], where: Where | None, yes: bool, **options: Any
    ) -> int:
        if bool(ids) == (where is not None):
            msg = f"select the jobs to {verb}: pass ids or selection options, not both"
            raise click.UsageError(msg)
        refused: dict[int, JobrtError] = {}
        async with setting.app().open_client() as jobs:
            if where is None:
                count, refused = await apply_to_each(jobs, ids, partial(operation, **options))
            elif not await confirm(jobs, where, verb=verb, yes=yes):
                return 0
            else:
                count = await operation(jobs, where, **options)
        for error in refused.values():
            warn(str(error))
        if count or not refused:
            say(jobs_in_words(count))
        return int(bool(refused))

    return command


async def _update(jobs: Client, job: int | Where, **options: Any) -> int:
    changes = _given(options)
    if "queue_to" in changes:
        changes["queue"] = changes.pop("queue_to")
    if not changes:
        msg = "nothing to change: use --to, --priority, --max-attempts, --timeout, --in, --at or --context"
        raise click.UsageError(msg)
    return await jobs.update(job, **changes)


_REASON = click.option("--reason", default="", help="Reason to store with the job.")
_QUEUE = click.option("--to", "queue_to", metavar="QUEUE", help="Move to this queue.")
COMMANDS = (
    enqueue,
    list_jobs,
    show,
    send,
    _bulk("cancel", Client.cancel, summary="Cancel jobs, including running jobs.", options=[_REASON]),
    _bulk("rerun", Client.rerun, summary="Run finished jobs again."),
    _bulk("delete", Client.delete, summary="Delete jobs."),
    _bulk("update", _update, summary="Change waiting jobs.", options=[_QUEUE, *_CHANGES]),
)
