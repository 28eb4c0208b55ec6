"""Assertions about the jobs in the database."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypedDict, Unpack

from jobrt._client import Client
from jobrt._core import where
from jobrt._core.job import JobRecord
from jobrt._core.where import Where
from jobrt._registry import FunctionJob, Job, JobWithOptions, definition_of, take_apart

_LIMIT = 20
"""Maximum number of jobs that a message lists."""


class Criteria(TypedDict, total=False):
    """Criteria that a job must meet; None accepts any value."""

    job: Any
    args: Mapping[str, Any] | None
    queue: str | None
    tags: Iterable[str] | None
    priority: int | None
    scheduled_after: datetime | None
    scheduled_before: datetime | None


async def assert_enqueued(
    jobs: Client, *, count: int | None = None, **criteria: Unpack[Criteria]
) -> list[JobRecord]:
    """Assert that matching jobs were enqueued, and return them, oldest first. Their current state does not matter.

    Args:
        jobs: the client to use.
        count: the exact number of matching jobs; None means at least one.
        criteria: what a job must match; None matches every job:

            * ``job``: a job class, a function job, a job name, or a job value. A value must have an equal payload;
            * ``args``: fields of the payload and their values; other fields do not matter;
            * ``queue``, ``priority``: the queue and the priority;
            * ``tags``: tags that the job must have, all of them;
            * ``scheduled_after``, ``scheduled_before``: the job is due later or earlier than this.

    Raises:
        AssertionError: the number of matching jobs is wrong. The message lists the jobs that exist.

    """
    found = await _find(jobs, **criteria)
    if (count is None and not found) or (count is not None and len(found) != count):
        wanted = "at least one job" if count is None else f"exactly {count} job{'s' if count != 1 else ''}"
        raise AssertionError(await _message(jobs, wanted, criteria=criteria, found=found))
    return found


async def refute_enqueued(jobs: Client, **criteria: Unpack[Criteria]) -> None:
    """Assert that no matching job was enqueued. The criteria are those of `assert_enqueued`.

    Raises:
        AssertionError: a job matches. The message lists the jobs that exist.

    """
    found = await _find(jobs, **criteria)
    if found:
        raise AssertionError(await _message(jobs, "no job", criteria=criteria, found=found))


async def assert_none_failed(jobs: Client) -> None:
    """Assert that no job is a dead letter or waits for a retry after an error.

    Raises:
        AssertionError: lists the failed jobs, each with its last error.

    """
    failed = await jobs.query(where.state("discarded", "retryable"), order_by="id", limit=None)
    lines = [f"  {job.id} {job.name} {job.state}: {_last_error(job)}" for job in failed if job.attempts]
    if lines:
        shown = [*lines[:_LIMIT], *(["  …"] if len(lines) > _LIMIT else [])]
        raise AssertionError("\n".join([f"{len(lines)} jobs failed:", *shown]))


def _last_error(record: JobRecord) -> str:
    last = record.attempts[-1]
    return f"{last.error_type or last.end}: {last.message} (attempt {last.number})"


async def _find(
    jobs: Client,
    *,
    job: Any = None,
    args: Mapping[str, Any] | None = None,
    queue: str | None = None,
    tags: Iterable[str] | None = None,
    priority: int | None = None,
    scheduled_after: datetime | None = None,
    scheduled_before: datetime | None = None,
) -> list[JobRecord]:
    """Return the matching jobs, oldest first."""
    parts: list[Where] = [] if job is None else _job_parts(job)
    parts += [where.args(field, value) for field, value in (args or {}).items()]
    if queue is not None:
        parts.append(where.queue(queue))
    if tags is not None:
        parts.append(where.tagged_all(tags))
    if scheduled_after is not None:
        parts.append(where.scheduled_after(scheduled_after))
    if scheduled_before is not None:
        parts.append(where.scheduled_before(scheduled_before))
    found = await jobs.query(where.And((where.everything(), *parts)), order_by="id", limit=None)
    return [record for record in found if priority is None or record.priority == priority]


def _job_parts(job: Any) -> list[Where]:
    if isinstance(job, str):
        return [where.name(job)]
    if isinstance(job, (Job, JobWithOptions)):
        definition, value, _ = take_apart(job)
        return [where.name(definition.name), where.args(json.loads(definition.encode(value)))]
    job_class = job.job_class if isinstance(job, FunctionJob) else job
    return [where.name(definition_of(job_class).name)]


async def _message(jobs: Client, wanted: str, *, criteria: Criteria, found: list[JobRecord]) -> str:
    given = ", ".join(f"{name}={value!r}" for name, value in criteria.items() if value is not None)
    head = f"expected {wanted}{' with ' if given else ''}{given}, found {len(found)}"
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
