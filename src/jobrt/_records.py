"""Records of jobs in the database.

This is the lowest layer, because errors have records as attributes.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import attrs


class State(StrEnum):
    """State of a job."""

    SCHEDULED = "scheduled"
    AVAILABLE = "available"
    CLAIMED = "claimed"
    EXECUTING = "executing"
    RETRYABLE = "retryable"
    SUSPENDED = "suspended"
    """It waits for its children, a message or a time, and is held by nobody."""
    CLOSING = "closing"
    """Its outcome is decided, and its descendants are still ending."""
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"
    UNKNOWN = "unknown"
    """A state that this version of jobrt does not know; no job of its own has it."""


class End(StrEnum):
    """Kind of end of an attempt."""

    FINISHED = "finished"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    SNOOZED = "snoozed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    CRASHED = "crashed"
    LEASE_LOST = "lease_lost"
    UNDECODABLE = "undecodable"
    SUSPENDED = "suspended"
    EXPIRED = "expired"
    UNKNOWN = "unknown"
    """An end that this version of jobrt does not know; the record's message has it as stored."""


@attrs.frozen
class Progress:
    """Progress that a running job reported: ``done`` of ``total`` in any unit, and a note for users."""

    done: float
    total: float | None = None
    note: str = ""


@attrs.frozen
class AttemptRecord:
    """Record of a finished attempt. Times are aware UTC datetimes.

    Args:
        number: number of the attempt, from 1.
        end: how it ended.
        started_at: when its `run` began.
        finished_at: when it ended.
        worker: id of the worker that ran it.
        error_type: name of the exception's class; None without an exception.
        message: text of the exception, or why the attempt was stopped.
        traceback: traceback of the exception.

    """

    number: int
    end: End
    started_at: datetime
    finished_at: datetime
    worker: str
    error_type: str | None = None
    message: str | None = None
    traceback: str | None = None


@attrs.frozen
class Waiting:
    """What a parked, suspended or closing job waits for. Times are aware UTC datetimes.

    Args:
        kind: ``"children"``, ``"child"``, ``"message"``, ``"sleep"``, or ``"close"`` for a closing job.
        name: name of the nursery, message or sleep; id of the child; state that a closing job will have.
        since: when it began to wait.
        until: when the wait ends at the latest; None without a limit.
        worker: id of the worker in which it is parked; None if it is suspended.

    """

    kind: str
    name: str
    since: datetime
    until: datetime | None = None
    worker: str | None = None


@attrs.frozen(kw_only=True)
class JobRecord:
    """Record of a job in the database. Times are aware UTC datetimes.

    Args:
        id: id of the job in its database.
        name: name of the job class.
        queue: name of the queue.
        state: current state.
        priority: higher runs first.
        attempt: number of attempts used, including one that is claimed or running.
        max_attempts: maximum number of attempts; None for no limit.
        args: payload, as JSON values.
        metadata: value of ``metadata=``, as JSON values.
        tags: value of ``tags=``.
        context: value of ``context=``: why the job exists.
        created_at: when it was enqueued.
        schedule_at: when it is or was due.
        started_at: when `run` of its latest attempt began; None if that has not begun.
        finished_at: when it became final.
        worker: id of the worker that runs it or ran it last.
        result: return value of `run`, as a JSON value.
        progress: last reported progress.
        saved: last checkpoint, as a JSON value.
        cancel_reason: reason given with a cancel request.
        attempts: finished attempts, oldest first, up to a hundred.
        parent: id of the job that enqueued it, in a nursery or with ``ctx.enqueue``.
        waiting: what it waits for, if it is parked, suspended or closing.
        deadline_at: by when it must have ended.
        expires_at: by when it must have started.
        version: ``VERSION`` of the job class that made the payload.

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
    parent: int | None = None
    waiting: Waiting | None = None
    deadline_at: datetime | None = None
    expires_at: datetime | None = None
    version: int = 1
