"""Messages between actors: frozen values, each with a batch of jobs or outcomes.

::

    fetcher ──work──▶ executors      Batch · Withdraw
    executors ──returns──▶ fetcher   Returned · Holding
    control, heartbeat, worker ──orders──▶ executors        Cancels · Resize · Fence · StopAll · Abandon
    control, worker ──orders──▶ fetcher                     Settings · IdleQuestion · CancelClaims
    fetcher ──outcomes──▶ the next writer, of any queue     OutcomeBatch
    writer ──settled──▶ fetcher of the queue                Settled
    fetchers, completer ──due──▶ scheduler                  Due

Settings and Cancels contain the whole state and not changes, so the newest message replaces those before it.
"""

from typing import NamedTuple, TypeAlias

import attrs
import trio

from jobrt._core.attempts import Stop
from jobrt._core.job import Claimed, JobRef, Outcome
from jobrt._storage.contract import CancelRequest, NurseryEnding


class Report(NamedTuple):
    """Outcome of one claimed job on its way to the database.

    ``seconds`` is the run time. It is a named tuple because one is created for each job.
    """

    outcome: Outcome
    job: Claimed
    seconds: float

    @property
    def ref(self) -> JobRef:
        """The claim to which the outcome belongs."""
        return JobRef(self.job.id, self.job.lease)


@attrs.frozen
class Batch:
    """Jobs of one claim by the worker id ``worker``; batches are numbered consecutively.

    ``at`` is the time of the claim in microseconds by the storage's clock, ``received`` that of its reply by Trio's.
    ``sent`` is when they were sent, if they had to wait for it.
    """

    number: int
    worker: str
    jobs: tuple[Claimed, ...]
    at: int = 0
    received: float = 0.0
    sent: float = 0.0


@attrs.frozen
class Withdraw:
    """Request to return the jobs that have not started, except for the first ``keep``."""

    keep: int


Work: TypeAlias = Batch | Withdraw


@attrs.frozen
class Returned:
    """Jobs that the executors no longer hold.

    ``reports`` are to be written: those of ended attempts (``attempts`` in number) and of unstarted jobs.
    ``written`` were written by the job's own transaction. ``parked`` are outcomes of parked attempts, whose jobs were
    returned before.
    """

    reports: tuple[Report, ...]
    attempts: int
    written: tuple[Report, ...] = ()
    parked: tuple[Report, ...] = ()


@attrs.frozen
class Holding:
    """Jobs that restarted executors hold: all jobs of batches up to ``last_batch`` that were not returned."""

    last_batch: int
    jobs: tuple[Claimed, ...]


Returns: TypeAlias = Returned | Holding


@attrs.frozen
class Cancels:
    """All open requests to cancel jobs of this worker, and all nurseries of its jobs that are being ended."""

    requests: tuple[CancelRequest, ...]
    nurseries: tuple[NurseryEnding, ...] = ()


@attrs.frozen
class Resize:
    """New maximum number of concurrent attempts."""

    concurrency: int


@attrs.frozen
class Fence:
    """Notice that the worker id ``worker`` has lost its lease: its jobs may already run elsewhere."""

    worker: str
    reason: str


@attrs.frozen
class StopAll:
    """Order to cancel every running attempt."""

    stop: Stop
    reason: str


@attrs.frozen
class Abandon:
    """Order to report running attempts as interrupted although their code still runs, because the process exits."""

    reason: str


ExecutorsOrder: TypeAlias = Cancels | Resize | Fence | StopAll | Abandon


@attrs.frozen
class Settings:
    """Settings of a queue, as changed by an operator."""

    paused: bool
    concurrency: int


@attrs.frozen
class IdleQuestion:
    """Question that is answered when the queue is idle: a later fetch finds no job while none is open.

    The answer is the number of jobs that the queue has claimed so far.
    """

    reply: trio.MemorySendChannel[int]


@attrs.frozen
class CancelClaims:
    """Order to cancel running claims, because the worker stops and the storage does not respond."""

    reason: str


FetcherOrder: TypeAlias = Settings | IdleQuestion | CancelClaims


@attrs.frozen
class OutcomeBatch:
    """Outcomes of one queue, written and settled together; each queue numbers its own batches."""

    queue: str
    number: int
    reports: tuple[Report, ...]


@attrs.frozen
class Settled:
    """Notice that all outcomes of a batch were written or refused, except the ``lost``, which cannot be written."""

    number: int
    lost: tuple[JobRef, ...] = ()


@attrs.frozen
class Due:
    """Notice that a job of the queue becomes due in ``seconds``."""

    queue: str
    seconds: float
