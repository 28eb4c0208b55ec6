"""Conversion of rows to values.

Times are read as UTC timestamps without a time zone. With a time zone, the driver's result depends on the
session's time zone, and some years fit no datetime in some zones.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, TypeAlias

from jobrt._core import stored
from jobrt._core.job import AttemptRecord, Claimed, JobRecord
from jobrt._core.states import End, State
from jobrt._core.stream import StoredEntry, StreamPage
from jobrt._records import Waiting

_ATTEMPTS_KEPT: Final = 100
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_BINARY_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)

Row: TypeAlias = tuple[Any, ...]

_PLAIN: Final = 9
_NO_OPTIONS: Final = (None,) * 7
"""The values of a claimed row from `_PLAIN` on, of a job without options that has not run before."""

_SHORT: Final = 20
"""Columns of jobs/records.sql."""

_NEVER_RUN: Final = (None, None, (), None, False, None)
"""The last fields of the `Claimed` of such a job, from `saved` on."""

_new: Final = tuple.__new__
"""Makes a named tuple of all of its fields, in half the time of its constructor."""


def aware(moment: datetime | None) -> datetime | None:
    """Return a time read from the database as an aware one."""
    return None if moment is None else moment.replace(tzinfo=UTC)


@lru_cache(maxsize=1024)  # jobs of one batch share their times
def moment(binary: bytes) -> datetime:
    """Return the time in PostgreSQL's binary format; the nearest one if a datetime cannot hold it."""
    value = int.from_bytes(binary, "big", signed=True)
    try:
        return _BINARY_EPOCH + timedelta(microseconds=value)
    except OverflowError:
        return stored.EARLIEST if value < 0 else stored.LATEST


def claimed_jobs(rows: Sequence[Row], *, queue: str, starting: int, now: datetime) -> tuple[Claimed, ...]:
    """Return the jobs of a claim, the first `starting` as started; values that they share are not in the rows."""
    at_once = _readable(rows[:starting], queue=queue, started_at=now)
    return tuple(at_once + _readable(rows[starting:], queue=queue, started_at=None))


def _readable(rows: Sequence[Row], *, queue: str, started_at: datetime | None) -> list[Claimed]:
    jobs: list[Claimed] = []
    for row in rows:
        if row[_PLAIN:] != _NO_OPTIONS:
            jobs.append(_special_or_defect(row, queue=queue, started_at=started_at))
            continue
        id, lease, name, priority, attempt, limit, args, created, due, *_ = row
        made, due_at = moment(created), moment(due)
        # fmt: off
        values = (
            id, lease, name, queue, priority, attempt, limit, None, args, "{}", (), None, made, due_at, started_at,
        )
        # fmt: on
        jobs.append(_new(Claimed, values + _NEVER_RUN))
    return jobs


def _special(row: Row, *, queue: str, started_at: datetime | None) -> Claimed:
    """Return a job with options, or one that has run before."""
    (id, lease, name, priority, attempt, max_attempts, args, created, due, timeout, *rest) = row
    metadata, tags, context, details, attempts, version = rest
    labels = stored.tags_of(tags)
    saved, progress = (None, None) if details is None else json.loads(details)
    return Claimed(
        id=id,
        lease=lease,
        name=name,
        queue=queue,
        priority=priority,
        attempt=attempt,
        max_attempts=max_attempts,
        timeout=timeout,
        args=args,
        metadata="{}" if metadata is None else metadata,
        tags=labels or (),
        context=context,
        created_at=moment(created),
        schedule_at=moment(due),
        started_at=started_at,
        saved=saved,
        progress=progress,
        attempts=() if attempts is None else _attempts(attempts),
        defect=stored.BAD_TAGS if labels is None else None,
        kept=details is not None or attempts is not None,
        version=version,
    )


def _special_or_defect(row: Row, *, queue: str, started_at: datetime | None) -> Claimed:
    """Return a job of a claim; one that cannot be read with no more than its name and a defect."""
    try:
        return _special(row, queue=queue, started_at=started_at)
    except Exception as error:  # noqa: BLE001 - whatever stands in a row, it must not keep the other jobs from their worker
        id, lease, name, priority, attempt, max_attempts, *_ = row
        defect = f"the stored row cannot be read ({type(error).__name__}: {error})"
        others = (None, "{}", "{}", (), None, stored.EARLIEST, stored.EARLIEST, started_at)
        return Claimed(id, lease, name, queue, priority, attempt, max_attempts, *others, defect=defect)


def _attempts(text: str) -> tuple[AttemptRecord, ...]:
    return tuple(map(_attempt, json.loads(text)))


def _attempt(values: Sequence[Any]) -> AttemptRecord:
    number, end, started_at, finished_at, *rest = values
    times = {"started_at": _parsed(started_at), "finished_at": _parsed(finished_at)}
    return stored.attempt_record(number, end, *rest, **times)


def _parsed(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def stream_page(row: Row) -> StreamPage:
    """Return the job and its entries in the row of streams/read.sql."""
    state, attempt, progress, last, text = row
    entries = () if text is None else tuple(map(_stored_entry, json.loads(text)))
    return StreamPage(state, attempt, progress, last, entries)


def _stored_entry(values: Sequence[Any]) -> StoredEntry:
    number, at, *rest = values
    return StoredEntry(number, _moment(at), *rest)


def _moment(microseconds: int) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return stored.EARLIEST if microseconds < 0 else stored.LATEST


def job_record(row: Row) -> JobRecord:
    """Return the job in a row of jobs/query.sql."""
    id, name, queue, state, priority, attempt, max_attempts, args, metadata, tags, context, *rest = row
    created_at, schedule_at, started_at, finished_at, worker, cancel_reason, *rest = rest
    result, progress, saved, attempts, clean, cut_args, cut_metadata, version, parent, waiting, limits = rest
    records = () if attempts is None else _attempts(attempts)
    if clean:  # the last attempt has no record
        columns = (worker, None, None, None)
        ran = {"started_at": aware(started_at), "finished_at": aware(finished_at)}
        last = stored.attempt_record(attempt, End.FINISHED, *columns, **ran)
        records = (*records, last)[-_ATTEMPTS_KEPT:]
    return JobRecord(
        id=id,
        name=name,
        queue=queue,
        state=stored.state_of(state),
        priority=priority,
        attempt=attempt,
        max_attempts=max_attempts,
        args=_object(args, cut=cut_args),
        metadata=_object(metadata, cut=cut_metadata),
        tags=stored.shown_tags(tags),
        context=context,
        created_at=created_at.replace(tzinfo=UTC),
        schedule_at=schedule_at.replace(tzinfo=UTC),
        started_at=aware(started_at),
        finished_at=aware(finished_at),
        worker=worker,
        result=stored.json_value(result),
        progress=stored.progress_of(progress),
        saved=stored.json_value(saved),
        cancel_reason=cancel_reason,
        attempts=records,
        parent=parent,
        waiting=None if waiting is None else _waiting(waiting),
        deadline_at=None if limits is None else _parsed_or_none(json.loads(limits)[0]),
        expires_at=None if limits is None else _parsed_or_none(json.loads(limits)[1]),
        version=stored.version_of(version),
    )


def any_record(row: Row) -> JobRecord:
    """Return the job in a row of jobs/query.sql or jobs/records.sql."""
    if len(row) != _SHORT:
        return job_record(row)
    id, name, queue, *numbers, args, metadata, tags, context = row[:10]
    times = [None if time is None else moment(time) for time in row[10:14]]
    worker, result, progress, saved, version, parent = row[14:]
    first = (
        id,
        name,
        queue,
        State.COMPLETED.value,
        *numbers,
        args,
        metadata,
        tags,
        context,
        *times,
        worker,
        None,
    )
    return job_record(
        (*first, result, progress, saved, None, True, False, False, version, parent, None, None)
    )


def _waiting(text: str) -> Waiting:
    kind, name, since, until, worker = json.loads(text)
    return Waiting(kind, name, _parsed(since), _parsed_or_none(until), worker)


def _parsed_or_none(text: str | None) -> datetime | None:
    return None if text is None else _parsed(text)


def _object(text: str | None, *, cut: bool | None) -> dict[str, Any]:
    return stored.truncated(text) if cut and text is not None else stored.json_object(text)
