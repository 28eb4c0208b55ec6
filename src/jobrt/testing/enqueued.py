"""Assert what is in the database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jobrt._core.where import And, Where, everything, tagged_all
from jobrt._core.where import args as args_equal
from jobrt._core.where import name as named
from jobrt._core.where import queue as in_queue
from jobrt._core.where import scheduled_after as after
from jobrt._core.where import scheduled_before as before
from jobrt._core.where import state as in_state
from jobrt._registry import FunctionJob, Job, JobWithOptions, definition_of, take_apart

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from jobrt._client import Client
    from jobrt._core.job import JobRecord

__all__ = ["assert_enqueued", "assert_none_failed", "refute_enqueued"]

_SHOWN = 20


async def assert_enqueued(
    jobs: Client,
    *,
    job: Any = None,
    args: Mapping[str, Any] | None = None,
    queue: str | None = None,
    tags: Iterable[str] | None = None,
    priority: int | None = None,
    scheduled_after: datetime | None = None,
    scheduled_before: datetime | None = None,
    count: int | None = None,
) -> list[JobRecord]:
    """Assert that jobs were enqueued, in whatever state they are now, and return them, the oldest first.

    Args:
        jobs: the client to look with.
        job: a job class, a function job, a name, or a job value (then its payload must be equal, too).
        args: fields that the payload must have with these values; others do not matter.
        queue: the queue.
        tags: tags that it must have, all of them.
        priority: the priority.
        scheduled_after: due later than this.
        scheduled_before: due earlier than this.
        count: exactly so many; ``None``: at least one.

    Raises:
        AssertionError: lists what was looked for and what is there.

    """
    found = await _found(
        jobs,
        job=job,
        args=args,
        queue=queue,
        tags=tags,
        priority=priority,
        scheduled_after=scheduled_after,
        scheduled_before=scheduled_before,
    )
    if (count is None and not found) or (count is not None and len(found) != count):
        wanted = "at least one job" if count is None else f"exactly {count} job{'s' if count != 1 else ''}"
        looked = _described(locals())
        raise AssertionError(await _message(jobs, f"expected {wanted}{looked}, found {len(found)}", found))
    return found


async def refute_enqueued(
    jobs: Client,
    *,
    job: Any = None,
    args: Mapping[str, Any] | None = None,
    queue: str | None = None,
    tags: Iterable[str] | None = None,
    priority: int | None = None,
    scheduled_after: datetime | None = None,
    scheduled_before: datetime | None = None,
) -> None:
    """Assert that no such job was enqueued; takes what `assert_enqueued` takes.

    Raises:
        AssertionError: lists what was looked for and what is there.

    """
    found = await _found(
        jobs,
        job=job,
        args=args,
        queue=queue,
        tags=tags,
        priority=priority,
        scheduled_after=scheduled_after,
        scheduled_before=scheduled_before,
    )
    if found:
        looked = _described(locals())
        raise AssertionError(await _message(jobs, f"expected no job{looked}, found {len(found)}", found))


async def assert_none_failed(jobs: Client) -> None:
    """Assert that no job is a dead letter, or waits to be retried after an error.

    Raises:
        AssertionError: lists the jobs, each with its last error.

    """
    failed = await jobs.query(in_state("discarded", "retryable"), order_by="id", limit=None)
    lines = [f"  {one.id} {one.name} {one.state}: {_last_error(one)}" for one in failed if one.attempts]
    if lines:
        shown = [*lines[:_SHOWN], *(["  …"] if len(lines) > _SHOWN else [])]
        raise AssertionError("\n".join([f"{len(lines)} jobs failed:", *shown]))


def _last_error(record: JobRecord) -> str:
    last = record.attempts[-1]
    return f"{last.error_type or last.end}: {last.message} (attempt {last.number})"


async def _found(
    jobs: Client,
    *,
    job: Any,
    args: Mapping[str, Any] | None,
    queue: str | None,
    tags: Iterable[str] | None,
    priority: int | None,
    scheduled_after: datetime | None,
    scheduled_before: datetime | None,
) -> list[JobRecord]:
    parts: list[Where] = [everything()]
    if job is not None:
        parts += _job_parts(job)
    parts += [args_equal(field, value) for field, value in (args or {}).items()]
    if queue is not None:
        parts.append(in_queue(queue))
    if tags is not None:
        parts.append(tagged_all(tags))
    if scheduled_after is not None:
        parts.append(after(scheduled_after))
    if scheduled_before is not None:
        parts.append(before(scheduled_before))
    records = await jobs.query(And(tuple(parts)), order_by="id", limit=None)
    return [one for one in records if priority is None or one.priority == priority]


def _job_parts(job: Any) -> list[Where]:
    if isinstance(job, str):
        return [named(job)]
    if isinstance(job, (Job, JobWithOptions)):
        definition, value, _ = take_apart(job)
        return [named(definition.name), args_equal(json.loads(definition.encode(value)))]
    job_class = job.job_class if isinstance(job, FunctionJob) else job
    return [named(definition_of(job_class).name)]


def _described(given: Mapping[str, Any]) -> str:
    names = ("job", "args", "queue", "tags", "priority", "scheduled_after", "scheduled_before")
    said = [f"{name}={given[name]!r}" for name in names if given[name] is not None]
    return f" with {', '.join(said)}" if said else ""


async def _message(jobs: Client, head: str, found: list[JobRecord]) -> str:
    everything_there = await jobs.query(order_by="id", limit=_SHOWN + 1)
    lines = [head, f"matching ({len(found)}):", *_lines(found), "all jobs:", *_lines(everything_there)]
    return "\n".join(lines)


def _lines(records: list[JobRecord]) -> list[str]:
    if not records:
        return ["  none"]
    lines = [
        f"  {one.id} {one.name} {one.state} queue={one.queue} priority={one.priority} due={one.schedule_at.isoformat()}"
        f" tags={list(one.tags)} args={json.dumps(one.args)}"
        for one in records[:_SHOWN]
    ]
    return lines + ([f"  … and more than {_SHOWN}"] if len(records) > _SHOWN else [])
