"""Conversion of rows to values.

Times are read as UTC timestamps without a time zone. With a time zone, the driver's result depends on the
session's time zone, and some years fit no datetime in some zones.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from jobrt._core.job import AttemptRecord, Claimed, JobRecord, Progress
from jobrt._core.states import End, State

_ATTEMPTS_KEPT: Final = 100

Row: TypeAlias = tuple[Any, ...]


def aware(moment: datetime | None) -> datetime | None:
    """Return a time read from the database as an aware one."""
    return None if moment is None else moment.replace(tzinfo=UTC)


def claimed_jobs(rows: Sequence[Row], *, queue: str, starting: int, now: datetime) -> tuple[Claimed, ...]:
    """Return the jobs of a claim, the first `starting` as started; values that they share are not in the rows."""
    at_once = _claimed(rows[:starting], queue=queue, started_at=now)
    return tuple(at_once + _claimed(rows[starting:], queue=queue, started_at=None))


def _claimed(rows: Sequence[Row], *, queue: str, started_at: datetime | None) -> list[Claimed]:
    utc = UTC
    return [
        Claimed(
            id,
            lease,
            name,
            queue,
            priority,
            attempt,
            max_attempts,
            timeout,
            args,
            "{}" if metadata is None else metadata,
            () if tags is None else tuple(tags),
            context,
            created_at.replace(tzinfo=utc),
            schedule_at.replace(tzinfo=utc),
            started_at,
            None if details is None else json.loads(details)[0],
            None if details is None else json.loads(details)[1],
            () if attempts is None else _attempts(attempts),
        )
        for (
            id,
            lease,
            name,
            priority,
            attempt,
            max_attempts,
            timeout,
            args,
            metadata,
            tags,
            context,
            created_at,
            schedule_at,
            details,
            attempts,
        ) in rows
    ]


def _attempts(text: str) -> tuple[AttemptRecord, ...]:
    return tuple(map(_attempt, json.loads(text)))


def _attempt(values: Sequence[Any]) -> AttemptRecord:
    number, end, started_at, finished_at, *rest = values
    return AttemptRecord(number, End(end), _parsed(started_at), _parsed(finished_at), *rest)


def _parsed(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def job_record(row: Row) -> JobRecord:
    """Return the job in a row of jobs/query.sql."""
    id, name, queue, state, priority, attempt, max_attempts, args, metadata, tags, context, *rest = row
    created_at, schedule_at, started_at, finished_at, worker, cancel_reason, *rest = rest
    result, progress, saved, attempts, clean = rest
    records = () if attempts is None else _attempts(attempts)
    if clean:  # the last attempt has no record
        ran = (started_at.replace(tzinfo=UTC), finished_at.replace(tzinfo=UTC), worker)
        last = AttemptRecord(attempt, End.FINISHED, *ran)
        records = (*records, last)[-_ATTEMPTS_KEPT:]
    return JobRecord(
        id=id,
        name=name,
        queue=queue,
        state=State(state),
        priority=priority,
        attempt=attempt,
        max_attempts=max_attempts,
        args=_object(args),
        metadata=_object(metadata),
        tags=() if tags is None else tuple(tags),
        context=context,
        created_at=created_at.replace(tzinfo=UTC),
        schedule_at=schedule_at.replace(tzinfo=UTC),
        started_at=aware(started_at),
        finished_at=aware(finished_at),
        worker=worker,
        result=None if result is None else json.loads(result),
        progress=None if progress is None else Progress(**json.loads(progress)),
        saved=None if saved is None else json.loads(saved),
        cancel_reason=cancel_reason,
        attempts=records,
    )


def _object(text: str | None) -> Mapping[str, Any]:
    """Return a stored payload; one that is not a JSON object is wrapped, so that the job can still be shown."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {"undecodable": text}
    return found if isinstance(found, dict) else {"undecodable": found}
