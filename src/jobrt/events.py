"""Events that a program can subscribe to, as frozen records.

The logs of jobrt and the notices in the supervision tree are built from them. So can be metrics, traces and alerts::

    def on_event(event: jobrt.events.Event) -> None:
        if isinstance(event, jobrt.events.JobEnded) and event.state is jobrt.State.DISCARDED:
            alert(f"{event.name} {event.id} failed for good: {event.message}")

    with app.events.subscribed(on_event):
        await app.run_worker()

An event is emitted after what it reports, in the process where that happened. A worker logs each event to the logger
``jobrt``, at the level in this table. It is a subscriber itself: `jobrt.logs.log_event`.

====================== ===================================================================== =====================
Event                  Emitted when                                                          Log level
====================== ===================================================================== =====================
`JobEnqueued`          a client inserted jobs; not for inserts in the caller's transaction   DEBUG
`JobStarted`           an attempt starts                                                     DEBUG
`JobsClaimed`          a worker claimed jobs from a queue                                    DEBUG
`JobEnded`             the outcome of an attempt was written                                 DEBUG, WARNING, ERROR
`OutcomeRefused`       an outcome was refused, because another worker owns the job           WARNING
`OutcomeLost`          an outcome cannot be written; the worker releases the job             ERROR
`JobRescued`           a job of a dead worker became due again, or final                     WARNING
`JobSetAside`          the database refuses to change a job in the background; once a minute WARNING
`JobStuck`             a job blocks the event loop, ignores its cancellation, or takes far   WARNING
                       longer than usual
`JobCancelPhase`       a running job was cancelled, is still cleaning up, or is stuck        INFO
`QueueStalled`         a queue has due jobs and free slots, but its fetcher does not claim   ERROR
`QueuePaused`          a worker learned that a queue was paused or resumed                   INFO
`StorageDown`          the database became unavailable; once per outage                      ERROR
`StorageUp`            the database is available again                                       INFO
`CronFired`            a tick of a cron entry enqueued its job                               DEBUG
`CronFailed`           a cron entry cannot enqueue its job; once per error                   ERROR
`JobNotBegun`          a hook kept a job from running; once a minute for each hook and error ERROR
`JobsPruned`           the retention rules deleted jobs                                      INFO
`WorkerStarted`        a worker is registered and serves its queues                          INFO
`WorkerStopping`       a worker stopped claiming jobs                                        INFO
`WorkerStopped`        a worker has ended                                                    INFO, WARNING
`WorkerFenced`         a worker could not renew its lease in time and cancelled its jobs     ERROR
`ActorRestarted`       a supervisor restarts an actor of the worker after a failure          ERROR
`NotifierDisconnected` the connection for wake-ups was lost; the worker polls                WARNING
====================== ===================================================================== =====================

`JobEnded` is logged at DEBUG for a clean end, at ERROR for a discarded job, and otherwise at WARNING. `WorkerStopped`
is logged at WARNING if it has an error or threads.

The first three, and `JobEnded` with a clean end, are *routine*: every successful job causes them. A subscriber with
``routine=False`` does not get them. A worker logs them if the logger is enabled for DEBUG when the worker starts.

Fields with the same meaning in all events:

* ``id``, ``name``, ``queue``: those of the job; ``ids``: those of several jobs, in input order.
* ``attempt``: number of the attempt, from 1; ``lease``: number of the claim. Id and lease identify an attempt.
* ``end``: how the attempt ended; ``state``: state of the job after the event.
* ``worker``: id of the worker.
* ``seconds``, ``grace``, ``delay``: floats, in seconds.
* ``error``: description of the error for users.
"""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeAlias

import attrs

from jobrt._records import End, State

__all__ = [
    "ActorRestarted",
    "CronFailed",
    "CronFired",
    "Event",
    "EventBus",
    "JobCancelPhase",
    "JobEnded",
    "JobEnqueued",
    "JobNotBegun",
    "JobRescued",
    "JobSetAside",
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
    """Jobs with the same name that a client inserted with one call.

    ``duplicate`` is true if equal jobs already existed (`Unique`). Then the ids are those of the existing jobs.
    """

    name: str
    queue: str
    ids: tuple[int, ...]
    duplicate: bool = False


@attrs.frozen
class JobStarted(Event):
    """Attempt that starts."""

    id: int
    name: str
    queue: str
    attempt: int
    lease: int


@attrs.frozen
class JobEnded(Event):
    """Finished attempt whose outcome is in the database.

    ``seconds`` is the run time. ``error_type`` is the name of the exception's class. ``message`` is its text, or why
    the attempt was stopped. ``traceback`` is the exception's traceback, as text. ``exception`` is what the attempt
    raised; None if it raised nothing, or in another process what cannot be brought to this one.
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
    traceback: str | None = attrs.field(default=None, repr=False)
    exception: BaseException | None = attrs.field(default=None, repr=False, eq=False)


@attrs.frozen
class OutcomeLost(Event):
    """Outcome that the database refuses, although it accepts others; the job runs again.

    ``end`` is None if the attempt never started.
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
    """Job of a dead worker that is due again or final, as ``state`` says."""

    id: int
    name: str
    queue: str
    worker: str
    state: State


@attrs.frozen
class JobSetAside(Event):
    """Job that the database refuses to change in the background. The others are done; it is tried again in a minute.

    ``doing`` is what could not be done: ``"claim"`` (to start it), ``"rescue"`` (its worker is dead), ``"tend"`` (its
    wait, deadline or parent is over), ``"prune"``, ``"start"`` (to show that it runs), or ``"release"`` (a claim whose
    reply was lost).
    """

    id: int
    doing: str
    error: str


@attrs.frozen
class JobStuck(Event):
    """Running job that blocks the event loop, ignores its cancellation or is slow; reported once per attempt.

    ``why`` is ``"blocking"``, ``"uncancellable"`` or ``"slow"``, and ``seconds`` the time since the loop was blocked,
    the job was cancelled, or it started. ``stack`` is a traceback of its code.
    """

    id: int
    name: str
    why: str
    seconds: float
    stack: str = ""


@attrs.frozen
class JobNotBegun(Event):
    """Job that a hook around attempts kept from running; it is given back, and no attempt is used.

    ``hook`` is the name of the function. ``problem`` says what it did.
    """

    id: int
    name: str
    hook: str
    problem: str


@attrs.frozen
class JobCancelPhase(Event):
    """Progress of a cancel request for a running job.

    ``phase`` is ``"received"`` when its scope is cancelled, ``"cleaning"`` if it still runs half a second later, and
    ``"stuck"`` if it still runs after five seconds. ``reason`` is that of the request.
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

    ``due`` is the number of due jobs, counted up to 1000. ``free`` is the number of free slots of the worker.
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
    """Start of an outage: the database is unavailable, or accepts no outcome."""

    error: str


@attrs.frozen
class StorageUp(Event):
    """End of an outage that lasted ``seconds``."""

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
    """Cron entry ``name`` that cannot enqueue its job; other entries continue."""

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

    ``error`` is the first error for which it could not write everything, or empty. ``threads`` are the names of
    threads that were started while it ran and keep the process from ending.
    """

    worker: str
    error: str = ""
    threads: tuple[str, ...] = ()


@attrs.frozen
class WorkerFenced(Event):
    """Worker that could not renew its lease for ``seconds``, and so cancelled its own jobs."""

    worker: str
    seconds: float


@attrs.frozen
class ActorRestarted(Event):
    """Actor of a worker that failed and restarts in ``delay`` seconds.

    ``child`` is the name of the actor, ``supervisor`` that of its supervisor. ``restarts`` counts its restarts within
    the supervisor's period; it is 0 if the actor failed too often and is set aside until then.
    """

    supervisor: str
    child: str
    error: str
    delay: float
    restarts: int


@attrs.frozen
class NotifierDisconnected(Event):
    """Worker that gets no wake-ups and polls."""

    error: str


Subscriber: TypeAlias = Callable[[Event], object]
"""Function that is called with each event."""


@attrs.define(eq=False)
class EventBus:
    """Event bus of an app, ``app.events``: it passes events to the subscribers.

    Subscribers are called in order, in the task and thread that emits the event. They must not block. An exception
    of a subscriber is logged, and the others are still called. A function that was subscribed more than once is
    called once for an event.

    ``subscribers`` get all events, ``watchers`` all except routine ones. Creating routine events took a third of the
    time of an empty job. So check ``subscribers`` before you create one.
    """

    subscribers: tuple[Subscriber, ...] = ()
    watchers: tuple[Subscriber, ...] = ()

    def __call__(self, event: Event) -> None:
        """Emit an event to all subscribers."""
        _deliver((*self.subscribers, *self.watchers), event)

    def routine(self, event: Event) -> None:
        """Emit a routine event to the subscribers of routine events."""
        _deliver(self.subscribers, event)

    def subscribe(self, subscriber: Subscriber, *, routine: bool = True) -> None:
        """Call `subscriber` with each event from now on; `routine` includes routine events."""
        if routine:
            self.subscribers = (*self.subscribers, subscriber)
        else:
            self.watchers = (*self.watchers, subscriber)

    @contextmanager
    def subscribed(self, subscriber: Subscriber, *, routine: bool = True) -> Generator[None]:
        """Call `subscriber` with each event during a ``with`` block; `routine` includes routine events."""
        self.subscribe(subscriber, routine=routine)
        try:
            yield
        finally:
            if routine:
                self.subscribers = _without(self.subscribers, subscriber)
            else:
                self.watchers = _without(self.watchers, subscriber)


def _without(subscribers: tuple[Subscriber, ...], subscriber: Subscriber) -> tuple[Subscriber, ...]:
    """Remove a subscriber once: two workers of an app have the same subscriber for the log."""
    for index, other in enumerate(subscribers):
        if other is subscriber:
            return subscribers[:index] + subscribers[index + 1 :]
    return subscribers


def _deliver(subscribers: tuple[Subscriber, ...], event: Event) -> None:
    if len(subscribers) > 1:
        subscribers = tuple({id(subscriber): subscriber for subscriber in subscribers}.values())
    for subscriber in subscribers:
        try:
            subscriber(event)
        except Exception:
            logging.getLogger("jobrt").exception("a subscriber failed on %r", event)
