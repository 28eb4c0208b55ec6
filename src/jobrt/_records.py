"""Records of jobs, as the database holds them.

They stand below everything else in jobrt: errors carry them, and the state machine is about their states.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class State(StrEnum):
    """State of a job."""

    SCHEDULED = "scheduled"
    AVAILABLE = "available"
    EXECUTING = "executing"
    RETRYABLE = "retryable"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"


class End(StrEnum):
    """End of one attempt: how it came about."""

    FINISHED = "finished"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    SNOOZED = "snoozed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    CRASHED = "crashed"
    LEASE_LOST = "lease_lost"
    UNDECODABLE = "undecodable"


@attrs.frozen
class Progress:
    """Progress that a running job has reported: ``done`` of ``total``, in a unit of its own, and a note for people."""

    done: float
    total: float | None = None
    note: str = ""


@attrs.frozen
class AttemptRecord:
    """Record of one attempt that is over.

    Args:
        number: which attempt it was, from 1.
        end: how it ended.
        started_at: when it began, an aware UTC datetime.
        finished_at: when it ended, an aware UTC datetime.
        worker: the id of the worker that ran it.
        error_type: the name of the exception's class, if there was one.
        message: the exception's text, or why the attempt was stopped.
        traceback: the exception's traceback.

    """

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
    """Record of a job, as the database holds it. Times are aware UTC datetimes.

    Args:
        id: the job's number in its database.
        name: the name of its class.
        queue: the name of its queue.
        state: its state.
        priority: higher runs first.
        attempt: how many attempts it has used, the running one included.
        max_attempts: how many it has in total; None for no limit.
        args: its payload, as JSON values.
        metadata: what was given as ``metadata=``, as JSON values.
        tags: what was given as ``tags=``.
        context: why it exists, as given when it was enqueued.
        created_at: when it was enqueued.
        schedule_at: when it is, or was, due.
        started_at: when its latest attempt began.
        finished_at: when it became final.
        worker: the id of the worker that runs it, or ran it last.
        result: what its `run` returned, as a JSON value.
        progress: what it reported last.
        saved: its last checkpoint, as a JSON value.
        cancel_reason: the text given with a request to cancel it.
        attempts: the attempts that are over, oldest first; the newest hundred are kept.

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
