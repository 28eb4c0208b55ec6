"""What an attempt is given: services of its worker, the record of its job, its time limit."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import attrs
import trio

from jobrt._client import Client
from jobrt._core.job import Claimed, JobRecord
from jobrt._core.states import State
from jobrt._core.stored import json_object, json_value, progress_of
from jobrt._registry import JobDefinition
from jobrt._storage.contract import AttemptStore, ScopeStore
from jobrt._storage.stream_store import StreamStore

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@attrs.frozen
class Services:
    """Services of a worker for its attempts: the app's state, database writes, a client, the shutdown event."""

    state: Any
    attempts: AttemptStore
    scopes: ScopeStore
    client: Client
    shutting_down: trio.Event
    later: Callable[[float, Callable[[], Awaitable[None]]], None]
    grace: float = 1.0
    """Seconds that a job in a process has to end when it is cancelled, before its process is killed."""
    streams: StreamStore = attrs.field(kw_only=True)
    token: trio.lowlevel.TrioToken = attrs.field(factory=trio.lowlevel.current_trio_token, kw_only=True)


def record_of(job: Claimed, began: int | None = None) -> JobRecord:
    """Return the public record of a claimed job; `began` is in microseconds since 1970, if not with the claim."""
    return JobRecord(
        id=job.id,
        name=job.name,
        queue=job.queue,
        state=State.EXECUTING,
        priority=job.priority,
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        args=json_object(job.args),
        metadata=json_object(job.metadata),
        tags=tuple(job.tags),
        context=job.context,
        created_at=job.created_at,
        schedule_at=job.schedule_at,
        started_at=job.started_at if began is None else _EPOCH + timedelta(microseconds=began),
        progress=progress_of(job.progress),
        saved=json_value(job.saved),
        attempts=tuple(job.attempts),
        version=job.version or 1,
    )


def time_limit(definition: JobDefinition, job: Claimed) -> float | None:
    """Return the time limit of an attempt in seconds: the job's own, else that of its class."""
    if job.timeout is not None:
        return job.timeout
    limit = definition.timeout
    if limit is None:  # as usual: this runs for each attempt
        return None
    decided = limit(record_of(job)) if callable(limit) else limit
    return decided.total_seconds() if isinstance(decided, timedelta) else decided
