"""Conversion of rows to values and back. Tables hold times as microseconds, and lists and payloads as JSON texts."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from jobrt._core.job import AttemptRecord, JobRecord, Progress
from jobrt._core.states import End
from jobrt._storage.sqlite.states import shown

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

FAR: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""The due time of a job that waits for its children: the last that a datetime can hold."""


SMALLEST: Final = -(2**63)
LARGEST: Final = 2**63 - 1
"""The largest and smallest (`SMALLEST`) integer that SQLite can hold."""


@lru_cache(maxsize=1024)  # jobs of one batch share their times
def moment(value: int) -> datetime:
    """Return the time for a number of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=value)


def micros(value: datetime) -> int:
    """Return the microseconds from 1970 to an aware time; whole numbers, so nothing is rounded."""
    return (value - _EPOCH) // _MICROSECOND


def span(value: timedelta) -> int:
    """Return the microseconds that a timedelta lasts."""
    return value // _MICROSECOND


def later(now: int, delay: timedelta | float) -> int:
    """Return the time after a delay (seconds, or a timedelta), but never `FAR` or beyond."""
    if isinstance(delay, timedelta):
        return min(now + span(delay), FAR - 1)
    return min(now + round(min(delay, 1e12) * 1e6), FAR - 1)


dumps: Final = json.JSONEncoder(separators=(",", ":")).encode
"""Encoder of compact JSON. It is shared: creating one costs as much as encoding a dozen ids."""


def tags(text: str) -> tuple[str, ...]:
    """Return the tags that a row holds."""
    return () if text == "[]" else tuple(json.loads(text))


def attempt_record(row: Sequence[Any]) -> AttemptRecord:
    """Return an attempt from (number, end, started_at, finished_at, worker, error_type, message, traceback)."""
    number, end, started_at, finished_at, worker, *rest = row
    return AttemptRecord(number, End(end), moment(started_at), moment(finished_at), worker, *rest)


def record(
    row: Sequence[Any],
    *,
    now: int,
    details: Sequence[Any] = (None, None, None),
    attempts: Iterable[AttemptRecord] = (),
) -> JobRecord:
    """Return a job from a row of jobs/query.sql, its (result, progress, saved) texts and its attempts."""
    job_id, code, queue, name, priority, attempt, max_attempts, due, created, _lease, *rest = row
    worker, started, finished, cancel_reason, context, tag_text, args, metadata = rest
    result, progress, saved = details
    return JobRecord(
        id=job_id,
        name=name,
        queue=queue,
        state=shown(code, due, started, now=now),
        priority=priority,
        attempt=attempt,
        max_attempts=max_attempts,
        args=json.loads(args),
        metadata=json.loads(metadata),
        tags=tags(tag_text),
        context=context,
        created_at=moment(created),
        schedule_at=moment(due),
        started_at=None if started is None else moment(started),
        finished_at=None if finished is None else moment(finished),
        worker=worker,
        result=_loads(result),
        progress=None if progress is None else Progress(**json.loads(progress)),
        saved=_loads(saved),
        cancel_reason=cancel_reason,
        attempts=tuple(attempts),
    )


def _loads(text: str | None) -> Any:
    return None if text is None else json.loads(text)
