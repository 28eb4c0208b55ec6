"""Records of jobs as the database holds them.

They stand below everything else, because errors carry them and the state machine is about them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = ["AttemptRecord", "End", "JobRecord", "Progress", "State"]


class State(StrEnum):
    """Where a job is in its life."""

    SCHEDULED = "scheduled"
    AVAILABLE = "available"
    EXECUTING = "executing"
    RETRYABLE = "retryable"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"


class End(StrEnum):
    """How one attempt ended."""

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
