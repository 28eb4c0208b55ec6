"""What actors send each other: frozen values, a batch of jobs or outcomes in each.

::

    fetcher ──work──▶ executors      Batch · Withdraw
    executors ──returns──▶ fetcher   Returned · Holding
    control, heartbeat, worker ──orders──▶ executors        Cancels · Resize · Fence · StopAll · Abandon
    control, worker ──orders──▶ fetcher                     Settings · IdleQuestion · CancelClaims
    fetcher ──outcomes──▶ whoever writes next               OutcomeBatch
    whoever wrote ──settled──▶ fetcher of the queue         Settled
    fetchers, completer ──due──▶ scheduler                  Due

Settings and cancels are whole states, not changes: the newest message makes those before it superfluous.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import attrs

if TYPE_CHECKING:
    import trio

    from jobrt._core.attempts import Stop
    from jobrt._core.job import Claimed, JobRef, Outcome
    from jobrt._storage.contract import CancelRequest


class Report(NamedTuple):
    """Outcome of one claimed job on its way to the database.

    ``seconds`` is how long `run` took. A named tuple, since one is made for each job.
    """

    outcome: Outcome
    job: Claimed
    seconds: float


# ---------------------------------------------------------------------- work: fetcher to executors


@attrs.frozen
class Batch:
    """Jobs claimed in one go, under the worker id ``worker``; ``number`` grows by one with each batch."""

    number: int
    worker: str
    jobs: tuple[Claimed, ...]


@attrs.frozen
class Withdraw:
    """Request to return the jobs that have not begun, except for the first ``keep``."""

    keep: int


Work: TypeAlias = Batch | Withdraw


# ---------------------------------------------------------------------- returns: executors to fetcher


@attrs.frozen
class Returned:
    """Jobs that the executors no longer hold.

    ``reports`` are to be written: ended attempts (``attempts`` of them), and jobs that were never begun.
    ``written`` are outcomes that the job's own transaction has written.
    """

    reports: tuple[Report, ...]
    attempts: int
    written: tuple[Report, ...] = ()


@attrs.frozen
class Holding:
    """What restarted executors hold: every job of batches up to ``last_batch`` that was not returned before."""

    last_batch: int
    jobs: tuple[Claimed, ...]


Returns: TypeAlias = Returned | Holding


# ---------------------------------------------------------------------- orders


@attrs.frozen
class Cancels:
    """All open requests to cancel jobs of this worker."""

    requests: tuple[CancelRequest, ...]


@attrs.frozen
class Resize:
    """How many jobs may run at once from now on."""

    concurrency: int


@attrs.frozen
class Fence:
    """The lease of the worker id ``worker`` is lost: its jobs may already run elsewhere."""

    worker: str
    reason: str


@attrs.frozen
class StopAll:
    """Order to cancel every running attempt."""

    stop: Stop
    reason: str


@attrs.frozen
class Abandon:
    """The process exits at once: report running attempts as interrupted, although their code still runs."""

    reason: str


ExecutorsOrder: TypeAlias = Cancels | Resize | Fence | StopAll | Abandon


@attrs.frozen
class Settings:
    """What an operator has set for the queue."""

    paused: bool
    concurrency: int


@attrs.frozen
class IdleQuestion:
    """Question when a look, begun after it came, finds no job while none is open.

    The answer is how many jobs the queue has claimed in all.
    """

    reply: trio.MemorySendChannel[int]


@attrs.frozen
class CancelClaims:
    """Order to give up claims under way: the worker stops, and the storage does not answer."""

    reason: str


FetcherOrder: TypeAlias = Settings | IdleQuestion | CancelClaims


# ---------------------------------------------------------------------- outcomes and due times


@attrs.frozen
class OutcomeBatch:
    """Outcomes of one queue, written and settled together; ``number`` is the queue's own count."""

    queue: str
    number: int
    reports: tuple[Report, ...]


@attrs.frozen
class Settled:
    """A batch whose outcomes were written or refused, except for the ``lost`` ones, which cannot be written."""

    number: int
    lost: tuple[JobRef, ...] = ()


@attrs.frozen
class Due:
    """A job of the queue falls due in so many seconds."""

    queue: str
    seconds: float
