"""Interface of a storage, role by role; ``tests/conformance`` checks every engine against it.

All times are judged by the storage's own clock: callers pass delays, or aware datetimes to be compared with
that clock. Every method is a checkpoint and is all-or-nothing: if it raises (cancellation included), nothing
happened. The exception is a commit whose reply was lost: then repeating the call is safe. Every method may raise
`StorageUnavailable` (transient) or `StorageError`.

A *claim* gives a job to a worker under a *lease*, a number that is never given out twice, even if older data are
restored. Every write about an attempt names the job and the lease; one that does not match is refused, changes nothing,
and is reported.

Calls that work on many jobs in the background (`rescue`, `tend`, `prune`, `release_unknown`, `show_started`) do not
fail because of one of them: it is set aside (``Storage.aside``), and the others are done.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Literal, Protocol

import attrs
import trio

from jobrt._core.health import QueueLoad, Vitals
from jobrt._core.job import JobRef, NewJob, Outcome, Start
from jobrt._core.limits import Demand
from jobrt._core.queues import QueueStatus
from jobrt._core.worker_info import WorkerInfo
from jobrt._storage.action_store import ActionStore
from jobrt._storage.apart import Aside
from jobrt._storage.job_store import JobStore
from jobrt._storage.scope_store import ScopeStore
from jobrt._storage.sql_files import SchemaStatus
from jobrt._storage.stream_store import StreamStore
from jobrt._storage.values import (
    CancelRequest,
    Changes,
    CronRow,
    DatabaseReplaced,
    Exchange,
    Inserted,
    NurseryEnding,
    QueueSettings,
    Records,
    Rescued,
    Wake,
    WorkerRow,
)

__all__ = [
    "AttemptStore",
    "CancelRequest",
    "Changes",
    "CronRow",
    "CronStore",
    "DatabaseReplaced",
    "Exchange",
    "HealthStore",
    "Inserted",
    "JobStore",
    "NurseryEnding",
    "QueueSettings",
    "QueueStore",
    "Records",
    "Rescued",
    "SchemaStore",
    "ScopeStore",
    "Storage",
    "Wake",
    "WakeSource",
    "WorkerRow",
    "WorkerStore",
]


class SchemaStore(Protocol):
    """The tables, their migrations, and the clock that judges all times."""

    async def status(self) -> SchemaStatus:
        """Return which migrations are applied and pending. Never raises `SchemaError`."""
        ...

    async def migrate(self, report: Callable[[str], None] | None = None) -> tuple[str, ...]:
        """Apply the pending migrations, each in a transaction, and return their names.

        Safe from many processes at once and while workers run. It gives way to transactions of others that hold locks
        which it needs, and tries again; `report` gets a line about each such wait.

        Raises:
            SchemaError: the schema is newer than this jobrt.
            StorageUnavailable: others held the locks for ten minutes.

        """
        ...

    async def check(self) -> None:
        """Raise `SchemaError`, with the remedy, unless the schema is exactly this jobrt's."""
        ...

    async def now(self) -> datetime:
        """Return the time of the storage's clock, as an aware datetime in UTC."""
        ...


class AttemptStore(Protocol):
    """Attempts of workers: claims, outcomes, and what a running job saves."""

    async def exchange(self, outcomes: Sequence[Outcome], demand: Demand) -> Exchange:
        """Write outcomes and claim new jobs in one step; either part may be empty.

        Claims at most ``demand.limit`` due jobs of a queue that is not paused, by priority (higher first),
        then due time, then id. Each gets the claim's lease, the worker and one attempt more. The first
        ``demand.starting`` of them are ``executing``, with the time of the claim as ``started_at``. The others are
        ``claimed``, without one. Limits over the cluster count both, and are never exceeded. A worker that this storage
        has registered gets nothing unless its heartbeat would be accepted now. Outcomes are as for
        `finish`; whoever sees the new jobs sees the outcomes, too.

        A job whose ancestor is over or being ended, or that has expired, is not claimed. One that is parked is claimed
        by its own worker only.

        The jobs of one claim have `CLAIM_BYTES` of large texts at most, or there is one job. A row that cannot be
        read harms no other: its job comes with a ``defect``, or with texts that its class cannot decode.
        """
        ...

    async def finish(self, outcomes: Sequence[Outcome]) -> tuple[JobRef, ...]:
        """Write the outcomes of attempts, in one transaction, and return the refused ones.

        ``started_at`` becomes ``outcome.began``, but no later than now. Without ``began`` it is unchanged, or now if
        there is none. An outcome without ``end`` clears it: the attempt has not started.

        An outcome is refused if its job is gone or no longer has that lease. An outcome that was written before
        (its reply was lost) counts as accepted and changes nothing. An attempt that did not end cleanly leaves
        an attempt record; the newest hundred are kept. Its texts are made storable (`jobrt._core.text`). Results are
        stored separately.

        If an operator has requested to cancel the job meanwhile, retry, snooze and give-back become ``cancelled``
        with the operator's reason. A completion or discard is unchanged, and the reason is cleared. The message of
        a cancel outcome is the cancel reason. A job whose outcome names children is ``scheduled``, and becomes
        due when the last of them is final; after the outcome's delay, if all of them are already. Waiters for jobs
        that are now final are woken, and so are queues whose jobs are due again immediately.

        A SUSPEND outcome keeps the job's place and does not spend the attempt. The job is ``suspended``; ``available``
        if its wait is over already. With ``wait.parked`` it keeps its lease, and the same attempt may have other
        outcomes later, in the same batch too: SUSPEND gives up the lease, any other ends the attempt as usual.

        A job with living children does not become final, and not ``retryable`` by its own outcome: it is ``closing``
        until they are over (``design/scopes.md``).
        """
        ...

    async def show_started(self, starts: Sequence[Start]) -> None:
        """Make claimed jobs ``executing``, with the time of their start, but never later than now.

        Jobs that are executing already, and those that no longer have that lease, are left alone.
        """
        ...

    async def release_unknown(self, worker: str, queue: str, known: Sequence[JobRef]) -> int:
        """Release the queue's jobs that are leased to this worker but not among the `known`; return how many.

        The reply to a claim may be lost although the claim was committed. Its jobs would never run, and no rescue
        would take them from a live worker. Their attempt does not count and leaves no record.
        """
        ...

    async def save(
        self, ref: JobRef, *, progress: str | None = None, saved: str | None = None, forget: bool = False
    ) -> bool:
        """Store an attempt's progress and/or checkpoint (JSON texts); False if the lease is lost.

        `forget` deletes the job's finished steps and answers in the same transaction.
        """
        ...

    async def steps(self, ref: JobRef) -> Mapping[str, str]:
        """Return the JSON texts of the steps that this job has finished, by name."""
        ...

    async def save_step(self, ref: JobRef, name: str, value: str) -> bool:
        """Store a finished step; False if the lease is lost. A step that is already stored is unchanged."""
        ...

    def transaction(self, ref: JobRef, outcome: Outcome) -> AbstractAsyncContextManager[Any]:
        """Open a transaction under the lease and yield its connection, which has psycopg's asynchronous methods.

        At the end of the block the outcome is written and everything commits together. On SQLite nobody else can
        write meanwhile. So it may stay open for a quarter of the shortest lease of any live worker, and at most 10 s.

        Raises:
            LeaseLost: on entry or on exit; everything written in the block is rolled back.
            StorageError: on SQLite, the block took too long; everything written in it is rolled back.

        """
        ...


class WorkerStore(Protocol):
    """Workers, the rescue of jobs whose worker died, and leadership."""

    async def register(self, worker: str, *, lease: float, info: WorkerInfo) -> None:
        """Add a worker. It counts as dead after `lease` seconds without a heartbeat."""
        ...

    async def beat(self, worker: str, *, lease: float, info: WorkerInfo) -> Changes:
        """Renew a worker's lease and return its updates. A removed or expired worker stays so (not ``known``).

        Nor is a worker known whose row is older than its last heartbeat that was answered: the database was set back.
        If the updates cannot be read in time, the last ones are returned.
        """
        ...

    async def changes(self, worker: str) -> Changes:
        """Return the updates for a worker without renewing its lease."""
        ...

    async def unregister(self, worker: str) -> None:
        """Remove a worker that stops; jobs that it still holds can be rescued immediately."""
        ...

    async def all(self) -> tuple[WorkerRow, ...]:
        """Return all workers by id, dead ones that still await rescue included."""
        ...

    async def rescue(self, *, limit: int = 1000) -> tuple[Rescued, ...]:
        """End, as ``crashed``, the attempts of workers that are dead or gone; at most `limit`.

        The attempt counts. The job is ``retryable`` and due immediately, its priority and due time kept;
        ``discarded`` if its attempts are used up; ``cancelled`` if an operator had requested that. Jobs that a dead
        worker has parked wait on without it. Dead workers are then removed. One that cannot be handled is set aside.
        """
        ...

    async def lead(self, role: str, worker: str, *, seconds: float) -> int | None:
        """Take or renew the leadership of a role; return its term, or None if another holds it.

        A term grows with each change of leader. Trust it for `seconds` from before the call, no longer.
        """
        ...

    async def resign(self, role: str, worker: str) -> None:
        """Give up a leadership so that another worker can take it immediately."""
        ...


class QueueStore(Protocol):
    """Queues: their settings, and the jobs waiting in them."""

    async def all(self, *, limit: int | None = None) -> tuple[QueueStatus, ...]:
        """Return every queue that has settings or unfinished jobs, by name.

        With `limit`, at most that many due jobs of each priority are counted, and at most that many future ones. The
        names of the due ones are included.
        """
        ...

    async def set(
        self, name: str, *, paused: bool | None = None, concurrency: int | Literal["default"] | None = None
    ) -> None:
        """Change a queue's settings (None: no change) and wake all workers to read them."""
        ...


class CronStore(Protocol):
    """Cron entries and their ticks."""

    async def put(self, row: CronRow) -> CronRow:
        """Add an entry or change its spec, and return the stored entry.

        ``paused`` and ``last_tick`` of an existing entry are unchanged.
        """
        ...

    async def all(self) -> tuple[CronRow, ...]:
        """Return all entries by name."""
        ...

    async def set(
        self, name: str, *, paused: bool | None = None, spec: Mapping[str, Any] | None = None
    ) -> bool:
        """Pause, resume or change an entry; False if there is none."""
        ...

    async def delete(self, name: str) -> bool:
        """Remove an entry; False if there is none."""
        ...

    async def fire(
        self, name: str, tick: datetime, job: NewJob | None, *, last: datetime | None = None
    ) -> int | None:
        """Enqueue one tick's job and return its id; None if that tick or a later one has been fired.

        `last` is the last fired tick that the caller has read. If the database knows only an older one, it was set
        back meanwhile: then None too, because ticks in between may be due again.

        If `job` is None, the tick is only marked as passed, and None is returned. The database guarantees one job per
        tick in the whole cluster.
        """
        ...


class HealthStore(Protocol):
    """The database itself, for people who ask why nothing runs."""

    async def try_write(self, *, seconds: float) -> None:
        """Write to the tables in a transaction that is rolled back.

        Raises:
            StorageUnavailable: they are locked for longer than `seconds` (the message says by whom, if that is
                known), or the disk is full.
            StorageError: they cannot be written.

        """
        ...

    async def vitals(self) -> Vitals:
        """Return the state of the database and its disk."""
        ...

    async def queue_load(self, queue: str, *, key: str | None, limit: int) -> QueueLoad:
        """Return the running jobs of a queue, at most `limit` of its due jobs, by name and by `key`, and their tokens.

        `key` is that of `Queue`; without one all keys are equal.
        """
        ...


class WakeSource(Protocol):
    """Hints that there may be something to do."""

    async def listen(
        self,
        deliver: Callable[[Wake], None],
        *,
        news: bool = False,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Deliver hints until cancelled; call ``task_status.started()`` once it listens.

        ``stream`` hints are delivered only if `news` is true.

        Raises:
            StorageUnavailable: the connection is lost; call again, and act as if every hint had been delivered.

        """
        ...


@attrs.frozen(kw_only=True)
class Storage:
    """An open database, divided into roles. Give each caller only the role that it uses.

    ``private``: it is in memory, so no other process can use it, and every change wakes at once who listens.
    ``aside``: the jobs that calls for many jobs at once have left out, because the database refuses to change them.
    """

    engine: Literal["sqlite", "postgres"]
    schema: SchemaStore
    jobs: JobStore
    attempts: AttemptStore
    workers: WorkerStore
    scopes: ScopeStore
    queues: QueueStore
    crons: CronStore
    streams: StreamStore
    actions: ActionStore
    health: HealthStore
    wakes: WakeSource
    aside: Aside
    private: bool = False
