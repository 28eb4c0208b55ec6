"""Record what happens, as frozen values.

Events are a public contract: logs, metrics, traces, the tests' signals and the tables people look at all come
from them. An event is emitted after what it tells has happened.

==================== ====================================================================
event                 told when
==================== ====================================================================
`JobEnqueued`         a client's insert was committed (not for a caller's own transaction)
`JobStarted`          an executor begins an attempt
`JobEnded`            an attempt's outcome was written, with its end and the job's next state
`OutcomeRefused`      an outcome was refused because the lease is lost
`OutcomeLost`         an outcome cannot be written, and not even that it failed: the job is let go
`JobRescued`          a dead worker's job was made due again, discarded or cancelled
`JobStuck`            a running job blocks the loop, ignores its cancellation or is far past its usual time
`JobCancelPhase`      a cancel request was received, the job is cleaning up, or it is stuck
`JobsClaimed`         a claim returned, with how many jobs
`QueueStalled`        due jobs, free slots and no claim for several polls: the fetcher was restarted
`QueuePaused`         the worker learnt that a queue was paused or resumed
`StorageDown`         the storage became unavailable, or takes no outcome at all (told once per outage)
`StorageUp`           it is back
`CronFired`           a tick enqueued its job
`CronFailed`          an entry could not be fired; the others go on
`JobsPruned`          retention deleted jobs
`WorkerStarted`       a worker registered
`WorkerStopping`      a worker claims nothing new
`WorkerStopped`       a worker is gone, its outcomes written, or with the error that kept it from that
`WorkerFenced`        a worker could not renew its lease and cancelled its own jobs
`ActorRestarted`      a supervisor restarts a child, with the error and the delay
`NotifierDeaf`        the wake-up connection was lost; polling goes on
==================== ====================================================================
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from jobrt._core.states import End, State

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = [
    "ActorRestarted",
    "CronFailed",
    "CronFired",
    "Emitter",
    "Event",
    "JobCancelPhase",
    "JobEnded",
    "JobEnqueued",
    "JobRescued",
    "JobStarted",
    "JobStuck",
    "JobsClaimed",
    "JobsPruned",
    "NotifierDeaf",
    "OutcomeLost",
    "OutcomeRefused",
    "QueuePaused",
    "QueueStalled",
    "StorageDown",
    "StorageUp",
    "WorkerFenced",
    "WorkerStarted",
    "WorkerStopped",
    "WorkerStopping",
]


@attrs.frozen
class Event:
    """Be the base of all events."""


@attrs.frozen
class JobEnqueued(Event):
    """Some jobs of one name are in the database."""

    name: str
    queue: str
    ids: tuple[int, ...]
    duplicate: bool = False


@attrs.frozen
class JobStarted(Event):
    """An attempt begins."""

    id: int
    name: str
    queue: str
    attempt: int
    lease: int


@attrs.frozen
class JobEnded(Event):
    """An attempt is over and its outcome stands in the database. ``seconds`` is how long `run` took."""

    id: int
    name: str
    queue: str
    attempt: int
    end: End
    state: State
    seconds: float
    error_type: str | None = None
    message: str | None = None


@attrs.frozen
class OutcomeLost(Event):
    """The storage takes other outcomes, but no word about this attempt; its job runs again."""

    id: int
    name: str
    lease: int
    end: End | None
    error: str


@attrs.frozen
class OutcomeRefused(Event):
    """The lease was lost, so the outcome was not written."""

    id: int
    name: str
    lease: int
    end: End


@attrs.frozen
class JobRescued(Event):
    """A dead worker's job goes on, or ended for good."""

    id: int
    name: str
    queue: str
    worker: str
    state: State


@attrs.frozen
class JobStuck(Event):
    """A job misbehaves; ``why`` is ``"blocking"``, ``"uncancellable"`` or ``"slow"``; ``stack`` says where it is."""

    id: int
    name: str
    why: str
    seconds: float
    stack: str = ""


@attrs.frozen
class JobCancelPhase(Event):
    """A cancel request goes its way: ``"received"``, ``"cleaning"`` (half a second later) or ``"stuck"`` (five)."""

    id: int
    name: str
    phase: str
    reason: str


@attrs.frozen
class JobsClaimed(Event):
    """A claim returned."""

    queue: str
    asked: int
    count: int


@attrs.frozen
class QueueStalled(Event):
    """A queue has due jobs and free slots but did not claim; its fetcher is restarted."""

    queue: str
    due: int
    free: int


@attrs.frozen
class QueuePaused(Event):
    """A queue was paused or resumed by an operator."""

    queue: str
    paused: bool


@attrs.frozen
class StorageDown(Event):
    """The database cannot be used."""

    error: str


@attrs.frozen
class StorageUp(Event):
    """The database can be used again, after so many seconds."""

    seconds: float


@attrs.frozen
class CronFired(Event):
    """A tick enqueued its job."""

    name: str
    tick: str
    job_id: int


@attrs.frozen
class CronFailed(Event):
    """A cron entry could not be fired."""

    name: str
    error: str


@attrs.frozen
class JobsPruned(Event):
    """Retention deleted jobs."""

    count: int


@attrs.frozen
class WorkerStarted(Event):
    """A worker is registered and its queues are served."""

    worker: str
    queues: tuple[str, ...]


@attrs.frozen
class WorkerStopping(Event):
    """A worker claims nothing new; running jobs have ``grace`` seconds."""

    worker: str
    grace: float
    running: int


@attrs.frozen
class WorkerStopped(Event):
    """A worker is gone. ``error``: why it could not write all it had to before, the first reason; else empty."""

    worker: str
    error: str = ""


@attrs.frozen
class WorkerFenced(Event):
    """A worker could not renew in time, so it cancelled its own jobs."""

    worker: str
    seconds: float


@attrs.frozen
class ActorRestarted(Event):
    """A supervisor starts a failed child again after ``delay`` seconds."""

    supervisor: str
    child: str
    error: str
    delay: float
    restarts: int


@attrs.frozen
class NotifierDeaf(Event):
    """Wake-ups do not arrive; polling goes on."""

    error: str


@attrs.define(eq=False)
class Emitter:
    """Hand each event to whoever subscribed, in order, in the emitting task.

    A subscriber must not block. One that raises is logged and skipped: watching jobs must not break them.

    ``subscribers`` hear everything, ``watchers`` all but the *routine*: what every job causes when all is well
    (`JobEnqueued`, `JobsClaimed`, `JobStarted`, and `JobEnded` with a clean end). To make those events and words for
    them took a third of a no-op job's time, so nobody makes them where nobody hears them.
    """

    subscribers: tuple[Callable[[Event], object], ...] = ()
    watchers: tuple[Callable[[Event], object], ...] = ()

    def __call__(self, event: Event) -> None:
        """Tell all subscribers."""
        _tell(self.subscribers, event)
        _tell(self.watchers, event)

    def routine(self, event: Event) -> None:
        """Tell those who want to hear of each job; ask for ``subscribers`` before making the event."""
        _tell(self.subscribers, event)

    @contextmanager
    def subscribed(self, subscriber: Callable[[Event], object], *, routine: bool = True) -> Generator[None]:
        """Subscribe for the length of a block; ``routine=False`` leaves out what every job causes."""
        if routine:
            self.subscribers = (*self.subscribers, subscriber)
        else:
            self.watchers = (*self.watchers, subscriber)
        try:
            yield
        finally:
            self.subscribers = tuple(one for one in self.subscribers if one is not subscriber)
            self.watchers = tuple(one for one in self.watchers if one is not subscriber)


def _tell(subscribers: tuple[Callable[[Event], object], ...], event: Event) -> None:
    for subscriber in subscribers:
        try:
            subscriber(event)
        except Exception:
            logging.getLogger("jobrt").exception("a subscriber failed on %r", event)
