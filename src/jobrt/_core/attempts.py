"""Decisions about what the end of an attempt means for its job.

`classify` determines the kind of end from the error that `run` raised and from the reason of a cancellation. `decide`
converts it to the `Outcome` that is written. Neither waits, reads a clock, or uses random numbers.
"""

from enum import StrEnum

import attrs

from jobrt._core.interrupt import leaves_of
from jobrt._core.job import Claimed, Outcome, Wait, used_up
from jobrt._core.states import End, State, Transition, transition
from jobrt._core.text import REASON_LIMIT, Described, clipped, describe, message_of, type_name


class Stop(StrEnum):
    """Reason why jobrt cancelled a running attempt."""

    OPERATOR = "operator"
    TIMEOUT = "timeout"
    SHUTDOWN = "shutdown"
    LEASE_LOST = "lease_lost"
    PARENT = "parent"
    SUSPENDED = "suspended"


@attrs.frozen
class Ended:
    """End of an attempt, and the recorded details of an error."""

    end: End
    error_type: str | None = None
    message: str | None = None
    traceback: str | None = None
    error: BaseException | None = None


END_OF_STOP = {
    Stop.OPERATOR: End.CANCELLED,
    Stop.TIMEOUT: End.TIMED_OUT,
    Stop.SHUTDOWN: End.INTERRUPTED,
    Stop.LEASE_LOST: End.LEASE_LOST,
    Stop.PARENT: End.CANCELLED,
    Stop.SUSPENDED: End.SUSPENDED,
}


def only_leaf(error: BaseException) -> BaseException:
    """Return the only exception in a group or in nested groups; else the error itself."""
    while len(leaves := leaves_of(error)) == 1:
        (error,) = leaves
    return error


def classify(error: BaseException | None, stop: Stop | None, reason: str = "") -> Ended:
    """Return the end of an attempt that did not return: it raised `error`, or was cancelled because of `stop`.

    If a cancelled job then raised another error (its clean-up failed), it still ended because it was cancelled. The
    error is recorded in the message. `reason` describes the stop: the operator's reason, or the time limit.
    """
    if error is None:
        assert stop is not None  # noqa: S101 - only a stop can end an attempt with neither result nor error
        return Ended(END_OF_STOP[stop], message=clipped(reason or stop.value))
    leaf = only_leaf(error)
    what = describe(leaf)
    if type(leaf) is Described and leaf.original is not None:
        leaf = leaf.original
    if stop is None:
        return Ended(End.FAILED, what.error_type, what.message, what.traceback, leaf)
    message = f"{clipped(reason or stop.value)} (while stopping: {what.message})"
    return Ended(END_OF_STOP[stop], what.error_type, message, what.traceback, leaf)


def decide(job: Claimed, ended: Ended, *, retry: bool, delay: float) -> Outcome:
    """Return the outcome of an attempt that was not successful.

    Args:
        job: the job as claimed; its `attempt` is the one that ended.
        ended: how the attempt ended.
        retry: whether the job's RETRY predicate allows another attempt.
        delay: seconds of backoff before another attempt.

    """
    match ended.end:
        case End.CANCELLED:
            event, spent = Transition.CANCEL, True
        case End.INTERRUPTED | End.LEASE_LOST | End.SUSPENDED:
            event, spent = Transition.GIVE_BACK, False
        case _:
            retries = retry and not used_up(job.attempt, job.max_attempts)
            event, spent = (Transition.RETRY if retries else Transition.DISCARD), True
    return Outcome(
        job.id,
        job.lease,
        event,
        ended.end,
        delay if event is Transition.RETRY else 0.0,
        spent,
        None,
        ended.error_type,
        ended.message,
        ended.traceback,
        exception=None if type(ended.error) is Described else ended.error,
    )


def interrupted(job: Claimed, reason: str) -> Outcome:
    """Return the outcome that releases a job whose attempt was interrupted by a shutdown."""
    return Outcome(job.id, job.lease, Transition.GIVE_BACK, End.INTERRUPTED, spent=False, message=reason)


def unwritable(outcome: Outcome, job: Claimed, *, error: Exception, delay: float) -> Outcome:
    """Return the outcome to write instead of one that the storage refuses, without any of its texts.

    A cancellation, a discard and a release keep their event. Anything else becomes a failed attempt: the result
    cannot be stored, so the job did not complete.
    """
    ended = "completion" if outcome.end is None else outcome.end.value
    reason = ascii(message_of(error)[-REASON_LIMIT:])[1:-1][-REASON_LIMIT:]
    event, end, spent = outcome.event, outcome.end, outcome.spent
    if event not in {Transition.CANCEL, Transition.DISCARD, Transition.GIVE_BACK}:
        retries = not used_up(job.attempt, job.max_attempts)
        event, end, spent = (Transition.RETRY if retries else Transition.DISCARD), End.FAILED, True
    return Outcome(
        job.id,
        job.lease,
        event,
        end,
        delay if event is Transition.RETRY else 0.0,
        spent,
        error_type=type_name(error),
        message=f"its outcome ({ended}) could not be written: {reason}",
        began=outcome.began,
    )


def state_after_crash(attempt: int, max_attempts: int | None, *, cancel_asked: bool) -> State:
    """Return the state of a job whose worker died: the attempt counts, and a cancel request takes effect."""
    last = Transition.DISCARD if used_up(attempt, max_attempts) else Transition.RETRY
    event = Transition.CANCEL if cancel_asked else last
    return transition(State.EXECUTING, event)


def suspended(job: Claimed, wait: Wait) -> Outcome:
    """Return the outcome that parks or suspends a job."""
    return Outcome(job.id, job.lease, Transition.SUSPEND, End.SUSPENDED, spent=False, wait=wait)


def unstarted(job: Claimed) -> Outcome:
    """Return the outcome that releases a job that was claimed and never started."""
    return Outcome(job.id, job.lease, Transition.GIVE_BACK, None, spent=False)
