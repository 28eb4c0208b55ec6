"""Events: what happened, as frozen records that a program can subscribe to.

Events are public. jobrt's logs and the notices in the supervision tree are made of them; so can be metrics, traces and
alerts::

    def on_event(event: jobrt.events.Event) -> None:
        if isinstance(event, jobrt.events.JobEnded) and event.state is jobrt.State.DISCARDED:
            alert(f"{event.name} {event.id} failed for good: {event.message}")

    with app.events.subscribed(on_event):
        await app.run_worker()

An event is emitted after what it reports, in the process where that happened: by the client that enqueued a job, by
the worker that ran it. `jobrt.logs.log_event` is a subscriber that logs each event at the level that stands here.

====================== ===================================================================== =====================
Event                  Emitted when                                                          Log level
====================== ===================================================================== =====================
`JobEnqueued`          a client's insert was committed; not for a transaction of the         DEBUG
                       caller's
`JobStarted`           an attempt begins                                                     DEBUG
`JobsClaimed`          a worker claimed jobs from a queue                                    DEBUG
`JobEnded`             the outcome of an attempt was written                                 DEBUG, WARNING, ERROR
`OutcomeRefused`       an outcome was refused, because another worker owns the job           WARNING
`OutcomeLost`          an outcome cannot be written; the worker releases the job             ERROR
`JobRescued`           a dead worker's job became due again, or ended for good               WARNING
`JobStuck`             a job blocks the event loop, ignores its cancellation, or takes far   WARNING
                       longer than usual
`JobCancelPhase`       a running job was asked to end, is still cleaning up, or is stuck     INFO
`QueueStalled`         a queue has due jobs and free slots, but its fetcher does not claim   ERROR
`QueuePaused`          a worker learned that a queue was paused or resumed                   INFO
`StorageDown`          the database became unavailable; once per outage                      ERROR
`StorageUp`            the database is available again                                       INFO
`CronFired`            a tick of a cron entry enqueued its job                               DEBUG
`CronFailed`           a cron entry cannot enqueue its job; once per error                   ERROR
`JobsPruned`           the retention rules deleted jobs                                      INFO
`WorkerStarted`        a worker is registered and serves its queues                          INFO
`WorkerStopping`       a worker stopped claiming jobs                                        INFO
`WorkerStopped`        a worker has ended                                                    INFO, WARNING
`WorkerFenced`         a worker could not renew its lease in time and cancelled its jobs     ERROR
`ActorRestarted`       a supervisor restarts an actor of the worker after a failure          ERROR
`NotifierDisconnected` the connection for wake-ups was lost; the worker polls                WARNING
====================== ===================================================================== =====================

`JobEnded` is logged at DEBUG for a clean end, at ERROR for a job that is discarded, else at WARNING; `WorkerStopped` at
WARNING if it has an error.

The first three, and `JobEnded` with a clean end, are *routine*: every job causes them when all is well. A subscriber
with ``routine=False`` does not get them.

Fields that mean the same wherever they stand:

* ``id``, ``name``, ``queue``: the job's; ``ids``: those of several jobs, in input order.
* ``attempt``: the attempt's number, from 1; ``lease``: the number of the claim. With the id it names an attempt.
* ``end``: how the attempt ended; ``state``: the job's state after the event.
* ``worker``: the worker's id.
* ``seconds``, ``grace``, ``delay``: floats, in seconds.
* ``error``: what went wrong, as text for people.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import attrs

from jobrt._records import End, State

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = [
    "ActorRestarted",
    "CronFailed",
    "CronFired",
    "Event",
    "EventBus",
    "JobCancelPhase",
    "JobEnded",
    "JobEnqueued",
    "JobRescued",
    "JobStarted",
    "JobStuck",
    "JobsClaimed",
    "JobsPruned",
    "NotifierDisconnected",
    "OutcomeLost",
    "OutcomeRefused",
    "QueuePaused",
    "QueueStalled",
    "StorageDown",
    "StorageUp",
    "Subscriber",
    "WorkerFenced",
    "WorkerStarted",
    "WorkerStopped",
    "WorkerStopping",
]


@attrs.frozen
class Event:
    """Base class for all events."""


@attrs.frozen
class JobEnqueued(Event):
    """Jobs of one name that a client inserted with one call.

    ``duplicate`` is true if equal jobs were there already (`Unique`); the ids are then those jobs'.
    """

    name: str
    queue: str
    ids: tuple[int, ...]
    duplicate: bool = False


@attrs.frozen
class JobStarted(Event):
    """Attempt that begins."""

    id: int
    name: str
    queue: str
    attempt: int
    lease: int


@attrs.frozen
class JobEnded(Event):
    """Attempt that is over and whose outcome is in the database.

    ``seconds`` is how long `run` took. ``error_type`` is the name of the exception's class. ``message`` is its text, or
    says why the attempt was stopped.
    """

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
    """Outcome that the database does not take, although it takes others; the job runs again.

    ``end`` is None if the attempt never began.
    """

    id: int
    name: str
    lease: int
    end: End | None
    error: str


@attrs.frozen
class OutcomeRefused(Event):
    """Outcome that was not written, because the lease is lost and another worker owns the job."""

    id: int
    name: str
    lease: int
    end: End


@attrs.frozen
class JobRescued(Event):
    """Job that was taken from a dead worker; it is due again or, as ``state`` says, ended for good."""

    id: int
    name: str
    queue: str
    worker: str
    state: State


@attrs.frozen
class JobStuck(Event):
    """Running job that misbehaves; reported once per attempt and reason.

    ``why`` is ``"blocking"`` (the event loop), ``"uncancellable"`` or ``"slow"``. ``seconds`` is for how long: blocking
    the loop, running on after its cancellation, or running at all. ``stack`` is where its code is, as a traceback.
    """

    id: int
    name: str
    why: str
    seconds: float
    stack: str = ""


@attrs.frozen
class JobCancelPhase(Event):
    """Progress of a cancel request for a running job.

    ``phase`` is ``"received"`` when its scope is cancelled, ``"cleaning"`` if it still runs half a second later, and
    ``"stuck"`` if it still runs after five seconds. ``reason`` is the text given with the request.
    """

    id: int
    name: str
    phase: str
    reason: str


@attrs.frozen
class JobsClaimed(Event):
    """Jobs that a worker claimed from a queue: it asked for ``asked`` jobs and got ``count``."""

    queue: str
    asked: int
    count: int


@attrs.frozen
class QueueStalled(Event):
    """Queue with due jobs and free slots whose fetcher does not claim; the fetcher is restarted.

    ``due`` is how many jobs are due, counted up to 1000; ``free`` is how many of the worker's slots are free.
    """

    queue: str
    due: int
    free: int


@attrs.frozen
class QueuePaused(Event):
    """Queue that an operator paused or, if ``paused`` is false, resumed."""

    queue: str
    paused: bool


@attrs.frozen
class StorageDown(Event):
    """Beginning of an outage: the database is unavailable, or takes no outcome at all."""

    error: str


@attrs.frozen
class StorageUp(Event):
    """End of an outage that took ``seconds``."""

    seconds: float


@attrs.frozen
class CronFired(Event):
    """Tick of a cron entry that enqueued its job.

    ``name`` is the entry's name, ``tick`` the time of the tick in ISO format, ``job_id`` the id of the job.
    """

    name: str
    tick: str
    job_id: int


@attrs.frozen
class CronFailed(Event):
    """Cron entry ``name`` that cannot enqueue its job; the other entries go on."""

    name: str
    error: str


@attrs.frozen
class JobsPruned(Event):
    """Deletion of ``count`` jobs by the retention rules."""

    count: int


@attrs.frozen
class WorkerStarted(Event):
    """Worker that is registered and serves ``queues``."""

    worker: str
    queues: tuple[str, ...]


@attrs.frozen
class WorkerStopping(Event):
    """Worker that has stopped claiming jobs; ``running`` jobs have ``grace`` seconds to end."""

    worker: str
    grace: float
    running: int


@attrs.frozen
class WorkerStopped(Event):
    """Worker that has ended.

    ``error`` is the first reason why it could not write all it had to; it is empty if there was none.
    """

    worker: str
    error: str = ""


@attrs.frozen
class WorkerFenced(Event):
    """Worker that could not renew its lease in time and so cancelled its own jobs.

    ``seconds`` is how long ago the lease was renewed last.
    """

    worker: str
    seconds: float


@attrs.frozen
class ActorRestarted(Event):
    """Actor of a worker that failed and starts again in ``delay`` seconds.

    ``child`` is the actor's name, ``supervisor`` that of its supervisor. ``restarts`` counts its restarts within the
    supervisor's period; it is 0 for an actor that failed too often and is set aside for the time of the delay.
    """

    supervisor: str
    child: str
    error: str
    delay: float
    restarts: int


@attrs.frozen
class NotifierDisconnected(Event):
    """Worker that receives no wake-ups; it finds its jobs by polling."""

    error: str


Subscriber: TypeAlias = Callable[[Event], object]
"""A function that is called with each event."""


@attrs.define(eq=False)
class EventBus:
    """Distributor of events to the subscribers of an app: ``app.events``.

    Subscribers are called in order, in the task and thread that emits. They must not block. The exception of a
    subscriber is logged, and the others are still called: watching jobs must not break them.

    ``subscribers`` get every event, ``watchers`` all but the routine ones. To make routine events and the text for
    them took a third of a no-op job's time; so ask for ``subscribers`` before making one.
    """

    subscribers: tuple[Subscriber, ...] = ()
    watchers: tuple[Subscriber, ...] = ()

    def __call__(self, event: Event) -> None:
        """Emit an event to all subscribers."""
        _deliver(self.subscribers, event)
        _deliver(self.watchers, event)

    def routine(self, event: Event) -> None:
        """Emit a routine event: to the subscribers that want those."""
        _deliver(self.subscribers, event)

    @contextmanager
    def subscribed(self, subscriber: Subscriber, *, routine: bool = True) -> Generator[None]:
        """Call `subscriber` with each event, for the length of a ``with`` block.

        Args:
            subscriber: a function that does not block; what it returns is ignored.
            routine: whether it gets routine events, too.

        """
        if routine:
            self.subscribers = (*self.subscribers, subscriber)
        else:
            self.watchers = (*self.watchers, subscriber)
        try:
            yield
        finally:
            self.subscribers = tuple(other for other in self.subscribers if other is not subscriber)
            self.watchers = tuple(other for other in self.watchers if other is not subscriber)


def _deliver(subscribers: tuple[Subscriber, ...], event: Event) -> None:
    for subscriber in subscribers:
        try:
            subscriber(event)
        except Exception:
            logging.getLogger("jobrt").exception("a subscriber failed on %r", event)
