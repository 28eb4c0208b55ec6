"""Values that a storage takes and returns; `contract.py` says what they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, overload

import attrs

from jobrt._core.job import Claimed, JobRecord, JobRef
from jobrt._core.worker_info import WorkerInfo
from jobrt.errors import StorageUnavailable


class DatabaseReplaced(StorageUnavailable):
    """Raised once when another database is found in place of the one that was open; workers register anew in it."""


class Inserted(NamedTuple):
    """Result for one `NewJob`: its id, or the id of the equal job that already existed."""

    id: int
    duplicate: bool = False


@attrs.define
class Records(Sequence[JobRecord]):
    """Records of jobs, each of which is made when it is first asked for: a parent may not look at its children."""

    rows: list[Any]
    make: Callable[[Any], JobRecord]

    @classmethod
    def joined(cls, parts: Sequence[Records]) -> Records:
        """Return the records of several parts, of one storage, in one sequence."""
        make = parts[0].make if parts else _no_record
        return cls([row for part in parts for row in part.rows], make)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> JobRecord: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[JobRecord, ...]: ...
    def __getitem__(self, index: int | slice) -> JobRecord | tuple[JobRecord, ...]:
        if isinstance(index, slice):
            return tuple(self[number] for number in range(*index.indices(len(self))))
        found = self.rows[index]
        if not isinstance(found, JobRecord):
            found = self.rows[index] = self.make(found)
        return found


def _no_record(row: Any) -> JobRecord:
    raise LookupError(row)


@attrs.frozen
class Exchange:
    """Result of `AttemptStore.exchange`: the outcomes that were refused, and the jobs claimed, in order.

    ``at`` is the time of the claim, in microseconds since 1970 by the storage's clock; 0 if no job was requested.
    ``next_due`` is the number of seconds until the queue's first waiting job that is not yet due; ``None`` if there is
    none, or if the claim was full and did not check. ``cut``: whether the size of the jobs ended the claim, so that
    more may be due. ``held_back``: no job was claimed, but some are due that wait for a token, and the claim at
    ``next_due`` goes on with them. ``keys`` has the keys of the jobs by id, if the number of each is limited.
    """

    refused: tuple[JobRef, ...]
    jobs: tuple[Claimed, ...]
    next_due: float | None = None
    at: int = 0
    cut: bool = False
    held_back: bool = False
    keys: Mapping[int, str] = attrs.field(factory=dict[int, str])


@attrs.frozen
class CancelRequest:
    """Request to cancel a job that a worker is running or has parked: by an operator, its parent, or its deadline."""

    ref: JobRef
    reason: str
    stop: Literal["operator", "parent", "timeout"] = "operator"


@attrs.frozen
class NurseryEnding:
    """Notice that a nursery of a job that this worker runs is being ended, although its body may still run."""

    ref: JobRef
    name: str


@attrs.frozen
class QueueSettings:
    """An operator's settings for a queue; ``concurrency`` None means as configured."""

    name: str
    paused: bool = False
    concurrency: int | None = None


@attrs.frozen(kw_only=True)
class WorkerRow:
    """A worker as other processes see it.

    ``info`` is from its last heartbeat. ``alive`` is evaluated by the storage's clock when the row is
    read. A worker that is not alive has missed its lease and awaits rescue.
    """

    id: str
    started_at: datetime
    beat_at: datetime
    expires_at: datetime
    alive: bool
    info: WorkerInfo


@attrs.frozen
class Changes:
    """Updates for a worker: whether it is registered, which jobs and nurseries to cancel, and settings of queues."""

    known: bool
    cancels: tuple[CancelRequest, ...]
    queues: tuple[QueueSettings, ...]
    nurseries: tuple[NurseryEnding, ...] = ()


@attrs.frozen
class Rescued:
    """A dead worker's job, and its state after the rescue."""

    id: int
    name: str
    queue: str
    worker: str
    state: str


@attrs.frozen
class Wake:
    """A hint that there may be something to do; hints may be lost, duplicated or late.

    ``"jobs"``: the queue has a new job (``None``: any may have one); ``"control"``: cancel requests or
    queue settings changed; ``"finished"``: an awaited job is final; ``"stream"``: `jobs` that are followed have news
    (``None``: any may have some).
    """

    kind: Literal["jobs", "control", "finished", "stream"]
    queue: str | None = None
    jobs: frozenset[int] | None = None


@attrs.frozen(kw_only=True)
class CronRow:
    """A cron entry as stored; ``spec`` is JSON-able (the schedule, and the job that a tick enqueues)."""

    name: str
    spec: Mapping[str, Any]
    paused: bool = False
    last_tick: datetime | None = None
    created_at: datetime | None = None
