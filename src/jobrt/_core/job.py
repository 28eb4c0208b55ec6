"""Forms of a job: as enqueued, as claimed, as ended and as stored.

`NewJob`, `Claimed` and `Outcome` are named tuples and not attrs classes. One of each is created per job, and the
budget of an attempt is 25 µs. A named tuple from a database row takes 0.3 µs, a frozen attrs class 2 µs.
"""

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from jobrt._core.states import Transition
from jobrt._core.unique import UniqueKey
from jobrt._records import AttemptRecord, End, JobRecord, Progress, State
from jobrt.errors import JobCancelled, JobDiscarded, JobFailed

__all__ = [
    "AttemptRecord",
    "Claimed",
    "JobRecord",
    "JobRef",
    "NewJob",
    "Outcome",
    "Progress",
    "Save",
    "Start",
    "Wait",
    "result_of",
    "used_up",
]


class NewJob(NamedTuple):
    """A job to insert into the database.

    ``args`` and ``metadata`` are JSON text. The job is due at ``schedule_at``, or ``delay`` after the time of the
    database; by default immediately. Only one of the two may be set. ``timeout`` is in seconds; ``None`` means
    the timeout of the job class. ``deadline`` and ``expires`` are times, or count from when the job is first due.
    ``parent`` is the job that enqueued this one, which is independent of it all the same. ``version`` is that of the
    payload; ``None`` is the first.
    """

    name: str
    args: str
    queue: str = "default"
    priority: int = 0
    max_attempts: int | None = 5
    schedule_at: datetime | None = None
    delay: timedelta | None = None
    timeout: float | None = None
    tags: tuple[str, ...] = ()
    metadata: str = "{}"
    context: str | None = None
    unique: UniqueKey | None = None
    deadline: datetime | timedelta | None = None
    expires: datetime | timedelta | None = None
    parent: int | None = None
    version: int | None = None


_new: Final = tuple.__new__
"""Makes a named tuple of all of its values, in less than half the time of its constructor."""


def plain_job(
    name: str,
    args: str,
    *,
    queue: str,
    priority: int,
    max_attempts: int | None,
    schedule_at: datetime | None = None,
    unique: UniqueKey | None = None,
    version: int | None = None,
) -> NewJob:
    """Return a job without other options."""
    rest = _NO_OPTIONS
    if unique is not None or version is not None:
        rest = (None, None, (), "{}", None, unique, None, None, None, version)
    return _new(NewJob, (name, args, queue, priority, max_attempts, schedule_at) + rest)  # noqa: RUF005 - faster


_NO_OPTIONS: Final[tuple[Any, ...]] = (None, None, (), "{}", None, None, None, None, None, None)
"""The last values of a job without options, from `delay` on."""


class JobRef(NamedTuple):
    """Identity of an attempt: job and lease. Every write about an attempt is fenced by it."""

    id: int
    lease: int


class Claimed(NamedTuple):
    """A job that a worker has just claimed.

    ``args`` and ``metadata`` are JSON text; ``saved`` and ``progress`` are JSON text or ``None``. These two and
    ``attempts`` have values only for a job that has run before. ``started_at`` is ``None`` if it is claimed ahead.
    ``defect`` says what the storage could not read of the row. Such a job does not run: it ends as undecodable.
    ``kept`` is false if no earlier attempt can have stored a step.
    ``version`` is that of the payload; ``None`` is the first.
    """

    id: int
    lease: int
    name: str
    queue: str
    priority: int
    attempt: int
    max_attempts: int | None
    timeout: float | None
    args: str
    metadata: str
    tags: tuple[str, ...]
    context: str | None
    created_at: datetime
    schedule_at: datetime
    started_at: datetime | None
    saved: str | None = None
    progress: str | None = None
    attempts: tuple[AttemptRecord, ...] = ()
    defect: str | None = None
    kept: bool = False
    version: int | None = None


class Wait(NamedTuple):
    """What a job waits for, in an `Outcome` that parks or suspends it.

    ``kind``: ``"children"`` (all members of the nursery ``name``), ``"child"`` (the job whose id is ``name``),
    ``"message"`` or ``"sleep"`` (the answer ``name``, ``number``). ``parked``: the worker keeps lease and coroutine.
    ``bodies``: the nurseries in whose bodies it waits. The wait is also over when one of them is being ended.
    """

    kind: str
    name: str
    number: int = 0
    parked: bool = False
    bodies: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """Outcome of an attempt, to be written by `AttemptStore.finish`.

    ``delay`` is the time in seconds until a retried or snoozed job is due again. ``spent`` is false if the attempt
    does not count towards ``max_attempts``. ``result`` is JSON text. ``children`` are ids of the jobs to wait for
    (`After`): the job is due when all of them are final; if all are already, after ``delay``. A successful attempt
    has no message, and needs no row of its own. ``end`` is ``None`` for a claimed job that was released before it
    started: it leaves no record. ``wait`` belongs to `Transition.SUSPEND`.
    ``began`` is when `run` began, in microseconds since 1970 by the storage's clock. ``None``: with the claim, or as
    written by `AttemptStore.show_started`. ``exception`` is what the attempt raised, for subscribers of events. No
    storage writes it. ``unfit`` is the shape of a class that is too old for the payload: claims for classes of this
    shape leave the job alone.
    ``hold`` is the time in seconds for which no job with the same key starts, or none of the queue (`Throttle`).
    ``was_parked``: the attempt has waited in its worker's memory. The storage knows it as parked until it is written.
    """

    id: int
    lease: int
    event: Transition = Transition.COMPLETE
    end: End | None = End.FINISHED
    delay: float = 0.0
    spent: bool = True
    result: str | None = None
    error_type: str | None = None
    message: str | None = None
    traceback: str | None = None
    children: tuple[int, ...] = ()
    began: int | None = None
    wait: Wait | None = None
    hold: float | None = None
    exception: BaseException | None = None
    unfit: int | None = None
    was_parked: bool = False


_COMPLETE, _FINISHED = Transition.COMPLETE, End.FINISHED


def completed(id: int, lease: int, began: int | None) -> Outcome:
    """Return the outcome of an attempt that ended cleanly."""
    values = (
        id,
        lease,
        _COMPLETE,
        _FINISHED,
        0.0,
        True,
        None,
        None,
        None,
        None,
        (),
        began,
        None,
        None,
        None,
        None,
        False,
    )
    return _new(Outcome, values)


class Start(NamedTuple):
    """Start of an attempt: the claim, and when `run` began, in microseconds since 1970 by the storage's clock."""

    id: int
    lease: int
    began: int


class Save(NamedTuple):
    """What a running job stores: progress, a checkpoint, the value of a finished step (JSON texts).

    ``step`` is the step's name. A step that is already stored is unchanged.
    """

    id: int
    lease: int
    progress: str | None = None
    saved: str | None = None
    step: str | None = None
    value: str | None = None


def used_up(attempt: int, max_attempts: int | None) -> bool:
    """Return whether a job has no attempt left; `attempt` is the number of attempts it has used."""
    return max_attempts is not None and attempt >= max_attempts


def result_of(record: JobRecord) -> Any:
    """Return the result of a final job.

    Raises:
        JobFailed: all attempts were used.
        JobCancelled: the job was cancelled.
        JobDiscarded: the job returned `Discard`, or its RETRY predicate refused a retry.

    """
    if record.state is State.COMPLETED:
        return record.result
    last = record.attempts[-1] if record.attempts else None
    label = f"job {record.id} ({record.name})"
    if record.state is State.CANCELLED:
        raise JobCancelled(f"{label} was cancelled: {record.cancel_reason or 'no reason given'}", record)
    error = f"{last.error_type or last.end}: {last.message}" if last is not None else "it never ran"
    if used_up(record.attempt, record.max_attempts):
        raise JobFailed(f"{label} failed; last error of {record.attempt} attempts: {error}", record)
    raise JobDiscarded(f"{label} was discarded; last error of {record.attempt} attempts: {error}", record)
