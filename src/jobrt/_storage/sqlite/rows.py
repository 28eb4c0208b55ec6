"""Conversion of rows to values and back. Tables hold times as microseconds, and lists and payloads as JSON texts.

No function here raises for a value that a row can hold; see `jobrt._core.stored`.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from jobrt._core import stored
from jobrt._core.job import AttemptRecord, JobRecord
from jobrt._core.limits import LARGE_TEXTS, SHOWN_CHARACTERS
from jobrt._core.stored import EARLIEST, LATEST
from jobrt._records import Waiting
from jobrt._storage.sqlite.states import STATES, shown

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

FAR: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""The due time of a job that waits for its children: the last that a datetime can hold."""


SMALLEST: Final = -(2**63)
LARGEST: Final = 2**63 - 1
"""The largest and smallest (`SMALLEST`) integer that SQLite can hold."""


@lru_cache(maxsize=1024)  # jobs of one batch share their times
def moment(value: int) -> datetime:
    """Return the time for a number of microseconds since 1970; the nearest one if a datetime cannot hold it."""
    try:
        return _EPOCH + timedelta(microseconds=value)
    except OverflowError:
        return EARLIEST if value < 0 else LATEST


def _moment(value: int | None) -> datetime | None:
    return None if value is None else moment(value)


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


def tags_of(text: str) -> object:
    """Return what stands for the tags of a row: a list of strings, if it can be read."""
    return () if text == "[]" else stored.json_value(text)


def attempt_record(row: Sequence[Any]) -> AttemptRecord:
    """Return an attempt from (number, end, started_at, finished_at, worker, error_type, message, traceback)."""
    number, end, started_at, finished_at, *rest = row
    times = {"started_at": _moment(started_at), "finished_at": _moment(finished_at)}
    return stored.attempt_record(number, end, *rest, **times)


def record(
    row: Sequence[Any],
    *,
    now: int,
    texts: Sequence[Any],
    details: Sequence[Any] = (None, None, None),
    attempts: Iterable[AttemptRecord] = (),
    scope: Sequence[Any] | None = None,
    whole: bool = True,
) -> JobRecord:
    """Return a job from a row of jobs/query.sql, its texts, its (result, progress, saved) texts and its attempts.

    `scope` is what scopes/of_jobs.sql says of it.

    Unless the texts are ``whole``, a payload that is large is shown by its beginning.
    """
    (job_id, code, priority, attempt, limit, due, created, _lease, started, finished, version, _texts) = row
    queue, name, worker, cancel_reason, context, tag_text, args, metadata = texts
    result, progress, saved = details
    parent, waiting, deadline_at, expires_at = scope or _NO_SCOPE
    return JobRecord(
        id=job_id,
        name=name,
        queue=queue,
        state=shown(code, due, started, now=now),
        priority=priority,
        attempt=attempt,
        max_attempts=limit,
        args=_object(args, whole=whole),
        metadata=_object(metadata, whole=whole),
        tags=stored.shown_tags(tags_of(tag_text)),
        context=context,
        created_at=moment(created),
        schedule_at=moment(due),
        started_at=_moment(started),
        finished_at=_moment(finished),
        worker=worker,
        result=stored.json_value(result),
        progress=stored.progress_of(progress),
        saved=stored.json_value(saved),
        cancel_reason=cancel_reason,
        attempts=tuple(attempts),
        version=stored.version_of(version),
        parent=parent,
        waiting=None if waiting is None else _waiting(*waiting),
        deadline_at=_moment(deadline_at),
        expires_at=_moment(expires_at),
    )


_NO_SCOPE: Final = (None, None, None, None)


def _waiting(kind: str, name: str, since: int, *rest: Any) -> Waiting:
    until, worker = rest
    if kind == "close":
        name = STATES[int(name)].value
    return Waiting(kind, name, moment(since), _moment(until), worker)


def _object(text: str, *, whole: bool) -> dict[str, Any]:
    if whole or len(text) <= LARGE_TEXTS:
        return stored.json_object(text)
    return stored.truncated(text[:SHOWN_CHARACTERS])
