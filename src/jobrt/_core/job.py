"""Hold what is known of a job: as enqueued, as claimed, as ended, as stored.

`NewJob`, `Claimed` and `Outcome` are named tuples, not attrs classes, because one of each is made per job and an
attempt's whole budget is 25 µs: a named tuple from a database row costs 0.3 µs, a frozen attrs class 2 µs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from jobrt._core.states import End, Event, State
from jobrt.errors import JobCancelled, JobDiscarded, JobFailed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from jobrt._core.unique import UniqueKey

__all__ = [
    "AttemptRecord",
    "Claimed",
    "JobRecord",
    "JobRef",
    "NewJob",
    "Outcome",
    "Progress",
    "result_of",
    "used_up",
]


@attrs.frozen
class Progress:
    """How far a running job says it is."""

    done: float
    total: float | None = None
    note: str = ""


@attrs.frozen
class AttemptRecord:
    """One attempt that is over: when, where, and how it ended."""

    number: int
    end: End
    started_at: datetime
    finished_at: datetime
    worker: str
    error_type: str | None = None
    message: str | None = None
    traceback: str | None = None


@attrs.frozen(kw_only=True)
class JobRecord:
    """A job as the database holds it. Times are aware UTC datetimes.

    ``attempt`` counts the attempts used, the running one included; ``attempts`` holds those that are over,
    oldest first (the newest hundred are kept).
    """

    id: int
    name: str
    queue: str
    state: State
    priority: int
    attempt: int
    max_attempts: int | None
    args: Mapping[str, Any]
    metadata: Mapping[str, Any]
    tags: tuple[str, ...]
    context: str | None
    created_at: datetime
    schedule_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    worker: str | None = None
    result: Any = None
    progress: Progress | None = None
    saved: Any = None
    cancel_reason: str | None = None
    attempts: tuple[AttemptRecord, ...] = ()


class NewJob(NamedTuple):
    """A job on its way into the database.

    ``args`` and ``metadata`` are JSON texts. ``schedule_at`` is a time, ``delay`` seconds from the
    database's now; with neither the job is due at once, with both is a caller's mistake.
    ``timeout`` is seconds for this job alone; ``None`` leaves it to the job class.
    """

    name: str
    args: str
    queue: str = "default"
    priority: int = 0
    max_attempts: int | None = 5
    schedule_at: datetime | None = None
    delay: timedelta | None = None
    timeout: float | None = None
    tags: tuple[str, ...] = ()
    metadata: str = "{}"
    context: str | None = None
    unique: UniqueKey | None = None


class JobRef(NamedTuple):
    """Name one claim of one job; every write about an attempt is fenced by it."""

    id: int
    lease: int


class Claimed(NamedTuple):
    """A job that a worker has just leased.

    ``args``, ``metadata`` are JSON texts, ``saved`` and ``progress`` JSON texts or ``None``. The last
    fields are filled only for a job that has been run before.
    """

    id: int
    lease: int
    name: str
    queue: str
    priority: int
    attempt: int
    max_attempts: int | None
    timeout: float | None
    args: str
    metadata: str
    tags: tuple[str, ...]
    context: str | None
    created_at: datetime
    schedule_at: datetime
    started_at: datetime
    saved: str | None = None
    progress: str | None = None
    attempts: tuple[AttemptRecord, ...] = ()


class Outcome(NamedTuple):
    """How an attempt ended and what follows, for `AttemptStore.finish`.

    ``delay`` is seconds from the database's now until the job is due again (retry, snooze).
    ``spent`` says whether the attempt counts against ``max_attempts``; if not it is given back.
    ``result`` is a JSON text. ``children`` are ids of jobs to wait for (`After`): the job is due when
    all of them are final. A clean end has no message and needs no row of its own. ``end`` is ``None`` for
    a claimed job that was never started and is given back: it leaves no record at all.
    """

    id: int
    lease: int
    event: Event = Event.COMPLETE
    end: End | None = End.FINISHED
    delay: float = 0.0
    spent: bool = True
    result: str | None = None
    error_type: str | None = None
    message: str | None = None
    traceback: str | None = None
    children: tuple[int, ...] = ()


def used_up(attempt: int, max_attempts: int | None) -> bool:
    """Say whether a job has no attempt left; `attempt` is the number of those it has had."""
    return max_attempts is not None and attempt >= max_attempts


def result_of(record: JobRecord) -> Any:
    """Return what a final job returned.

    Raises:
        JobFailed: its attempts are used up.
        JobCancelled: it was cancelled.
        JobDiscarded: it gave itself up, or its RETRY predicate did.

    """
    if record.state is State.COMPLETED:
        return record.result
    last = record.attempts[-1] if record.attempts else None
    what = f"job {record.id} ({record.name})"
    if record.state is State.CANCELLED:
        raise JobCancelled(f"{what} was cancelled: {record.cancel_reason or 'no reason given'}", record)
    said = f"{last.error_type or last.end}: {last.message}" if last is not None else "no attempt was made"
    if used_up(record.attempt, record.max_attempts):
        raise JobFailed(f"{what} failed in all of its {record.attempt} attempts, at last with {said}", record)
    raise JobDiscarded(f"{what} was discarded after {record.attempt} attempts: {said}", record)
