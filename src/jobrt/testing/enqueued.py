"""Assertions about the jobs in the database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import attrs

from jobrt._client import Client
from jobrt._core.job import JobRecord
from jobrt._core.where import And, Where, everything, tagged_all
from jobrt._core.where import args as args_equal
from jobrt._core.where import name as named
from jobrt._core.where import queue as in_queue
from jobrt._core.where import scheduled_after as after
from jobrt._core.where import scheduled_before as before
from jobrt._core.where import state as in_state
from jobrt._registry import FunctionJob, Job, JobWithOptions, definition_of, take_apart

_LIMIT = 20
"""Jobs that a message lists."""


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
    """Assert that matching jobs were enqueued, and return them, oldest first. Their current state does not matter.

    Args:
        jobs: the client to use.
        job: a job class, a function job, a job name, or a job value. A value must have an equal payload.
        args: fields of the payload and their values; other fields do not matter.
        queue: the queue.
        tags: tags that the job must have, all of them.
        priority: the priority.
        scheduled_after: the job is due later than this.
        scheduled_before: the job is due earlier than this.
        count: the exact number of matching jobs; ``None`` means at least one.

    Raises:
        AssertionError: the number of matching jobs is wrong. The message lists the jobs that exist.

    """
    criteria = _Criteria(job, args, queue, tags, priority, scheduled_after, scheduled_before)
    found = await criteria.find(jobs)
    if (count is None and not found) or (count is not None and len(found) != count):
        wanted = "at least one job" if count is None else f"exactly {count} job{'s' if count != 1 else ''}"
        raise AssertionError(await _message(jobs, f"expected {wanted}{criteria}, found {len(found)}", found))
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
    """Assert that no matching job was enqueued. The arguments are those of `assert_enqueued`.

    Raises:
        AssertionError: a job matches. The message lists the jobs that exist.

    """
    criteria = _Criteria(job, args, queue, tags, priority, scheduled_after, scheduled_before)
    found = await criteria.find(jobs)
    if found:
        raise AssertionError(await _message(jobs, f"expected no job{criteria}, found {len(found)}", found))


async def assert_none_failed(jobs: Client) -> None:
    """Assert that no job is a dead letter or waits for a retry after an error.

    Raises:
        AssertionError: lists the failed jobs, each with its last error.

    """
    failed = await jobs.query(in_state("discarded", "retryable"), order_by="id", limit=None)
    lines = [f"  {job.id} {job.name} {job.state}: {_last_error(job)}" for job in failed if job.attempts]
    if lines:
        shown = [*lines[:_LIMIT], *(["  …"] if len(lines) > _LIMIT else [])]
        raise AssertionError("\n".join([f"{len(lines)} jobs failed:", *shown]))


def _last_error(record: JobRecord) -> str:
    last = record.attempts[-1]
    return f"{last.error_type or last.end}: {last.message} (attempt {last.number})"


@attrs.frozen
class _Criteria:
    """Criteria that a job must meet; ``None`` accepts any value."""

    job: Any
    args: Mapping[str, Any] | None
    queue: str | None
    tags: Iterable[str] | None
    priority: int | None
    scheduled_after: datetime | None
    scheduled_before: datetime | None

    def __str__(self) -> str:
        given = attrs.asdict(self, recurse=False, filter=lambda _, value: value is not None)
        return f" with {', '.join(f'{name}={value!r}' for name, value in given.items())}" if given else ""

    async def find(self, jobs: Client) -> list[JobRecord]:
        """Return the jobs that meet the criteria, oldest first."""
        parts: list[Where] = [everything()]
        if self.job is not None:
            parts += _job_parts(self.job)
        parts += [args_equal(field, value) for field, value in (self.args or {}).items()]
        if self.queue is not None:
            parts.append(in_queue(self.queue))
        if self.tags is not None:
            parts.append(tagged_all(self.tags))
        if self.scheduled_after is not None:
            parts.append(after(self.scheduled_after))
        if self.scheduled_before is not None:
            parts.append(before(self.scheduled_before))
        records = await jobs.query(And(tuple(parts)), order_by="id", limit=None)
        return [record for record in records if self.priority is None or record.priority == self.priority]


def _job_parts(job: Any) -> list[Where]:
    if isinstance(job, str):
        return [named(job)]
    if isinstance(job, (Job, JobWithOptions)):
        definition, value, _ = take_apart(job)
        return [named(definition.name), args_equal(json.loads(definition.encode(value)))]
    job_class = job.job_class if isinstance(job, FunctionJob) else job
    return [named(definition_of(job_class).name)]


async def _message(jobs: Client, head: str, found: list[JobRecord]) -> str:
    existing = await jobs.query(order_by="id", limit=_LIMIT + 1)
    lines = [head, f"matching ({len(found)}):", *_lines(found), "all jobs:", *_lines(existing)]
    return "\n".join(lines)


def _lines(records: list[JobRecord]) -> list[str]:
    if not records:
        return ["  none"]
    lines = [
        f"  {job.id} {job.name} {job.state} queue={job.queue} priority={job.priority} due={job.schedule_at.isoformat()}"
        f" tags={list(job.tags)} args={json.dumps(job.args)}"
        for job in records[:_LIMIT]
    ]
    return lines + ([f"  … more than {_LIMIT} jobs"] if len(records) > _LIMIT else [])
