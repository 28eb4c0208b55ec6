"""What the end of an attempt means for its job."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jobrt._core.attempts import (
    Ended,
    Stop,
    classify,
    decide,
    interrupted,
    only_leaf,
    state_after_crash,
    unstarted,
)
from jobrt._core.job import Claimed
from jobrt._core.states import EXECUTING_TO, End, State, Transition

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def claimed(*, attempt: int = 1, max_attempts: int | None = 3) -> Claimed:
    """Return a job as a worker has it."""
    return Claimed(
        7, 40, "Noop", "default", 0, attempt, max_attempts, None, "{}", "{}", (), None, NOW, NOW, NOW
    )


def raised(error: BaseException) -> BaseException:
    """Return the error with a traceback."""
    try:
        raise error  # noqa: TRY301 - it is to have one
    except BaseException as caught:  # noqa: BLE001 - as above
        return caught


@pytest.mark.parametrize(
    ("stop", "end"),
    [
        (Stop.OPERATOR, End.CANCELLED),
        (Stop.TIMEOUT, End.TIMED_OUT),
        (Stop.SHUTDOWN, End.INTERRUPTED),
        (Stop.LEASE_LOST, End.LEASE_LOST),
    ],
)
def test_an_attempt_that_was_stopped_ended_as_its_stop_says(stop: Stop, end: End) -> None:
    """Who cancelled the attempt decides the end, and the note is its message."""
    assert classify(None, stop, "because") == Ended(end, message="because")
    assert classify(None, stop).message == stop.value


def test_an_error_without_a_stop_is_a_failure_with_type_message_and_traceback() -> None:
    """A failure keeps what an operator needs to understand it."""
    ended = classify(raised(LookupError("no such cat")), None)
    assert (ended.end, ended.error_type, ended.message) == (End.FAILED, "LookupError", "no such cat")
    assert ended.traceback is not None
    assert "in raised" in ended.traceback


def test_a_failed_clean_up_does_not_hide_why_the_attempt_was_stopped() -> None:
    """The stop decides; the error that came of it is in the message."""
    ended = classify(raised(OSError("disk full")), Stop.OPERATOR, "not needed")
    assert (ended.end, ended.error_type) == (End.CANCELLED, "OSError")
    assert ended.message == "not needed (while stopping: disk full)"


def test_a_group_with_one_leaf_is_recorded_as_that_leaf() -> None:
    """A nursery wraps the one error that matters; people want to read that one."""
    leaf = ValueError("bad")
    assert only_leaf(ExceptionGroup("a", [ExceptionGroup("b", [leaf])])) is leaf
    two = ExceptionGroup("a", [leaf, KeyError("k")])
    assert only_leaf(two) is two
    assert classify(raised(ExceptionGroup("a", [leaf])), None).error_type == "ValueError"


def test_an_error_without_words_is_named_by_its_type() -> None:
    """An empty message would tell nobody anything."""
    assert classify(raised(ValueError()), None).message == "ValueError"


def test_what_is_recorded_of_an_error_is_bounded() -> None:
    """A message of megabytes must not fill the database; its end is kept."""
    ended = classify(raised(ValueError("x" * 50_000 + "end")), None)
    assert ended.message is not None
    assert len(ended.message) < 10_100
    assert ended.message.endswith("end")


@pytest.mark.parametrize("end", [End.FAILED, End.TIMED_OUT, End.UNDECODABLE])
def test_a_failed_attempt_is_retried_until_attempts_are_used_up(end: End) -> None:
    """Retry after the delay while attempts are left; then discard, without a delay."""
    retried = decide(claimed(attempt=2), Ended(end), retry=True, delay=8.0)
    assert (retried.event, retried.delay, retried.spent, retried.end) == (Transition.RETRY, 8.0, True, end)
    last = decide(claimed(attempt=3), Ended(end), retry=True, delay=8.0)
    assert (last.event, last.delay) == (Transition.DISCARD, 0.0)


def test_an_attempt_beyond_the_limit_is_the_last() -> None:
    """MAX_ATTEMPTS lowered below the current attempt ends at the next failure: not an equality test."""
    assert (
        decide(claimed(attempt=9, max_attempts=3), Ended(End.FAILED), retry=True, delay=1).event
        is Transition.DISCARD
    )


def test_without_a_limit_a_job_is_retried_for_ever() -> None:
    """MAX_ATTEMPTS None."""
    assert (
        decide(claimed(attempt=10**6, max_attempts=None), Ended(End.FAILED), retry=True, delay=1).event
        is Transition.RETRY
    )


def test_a_retry_predicate_that_says_no_discards_at_once() -> None:
    """RETRY decides whether another try makes sense."""
    assert decide(claimed(), Ended(End.FAILED), retry=False, delay=1).event is Transition.DISCARD


@pytest.mark.parametrize("end", [End.INTERRUPTED, End.LEASE_LOST])
def test_an_attempt_cut_by_us_is_given_back(end: End) -> None:
    """Nobody's fault uses up no attempt, at the last attempt too."""
    outcome = decide(claimed(attempt=3), Ended(end), retry=False, delay=9)
    assert (outcome.event, outcome.spent, outcome.delay) == (Transition.GIVE_BACK, False, 0.0)


def test_a_cancelled_attempt_cancels_the_job() -> None:
    """The operator's reason is the message."""
    outcome = decide(claimed(), Ended(End.CANCELLED, message="enough"), retry=True, delay=9)
    assert (outcome.event, outcome.message, outcome.spent) == (Transition.CANCEL, "enough", True)


def test_a_job_never_begun_leaves_no_record_when_given_back() -> None:
    """It has no end, and its attempt is not spent."""
    outcome = unstarted(claimed())
    assert (outcome.event, outcome.end, outcome.spent) == (Transition.GIVE_BACK, None, False)
    assert interrupted(claimed(), "stop").end is End.INTERRUPTED


def test_every_outcome_leads_to_a_state() -> None:
    """What is decided is always legal for an executing job."""
    ends = [
        decide(claimed(), Ended(end), retry=True, delay=0).event for end in End if end is not End.FINISHED
    ]
    assert {EXECUTING_TO[event] for event in ends} <= set(State)


@pytest.mark.parametrize(
    ("attempt", "max_attempts", "cancel_asked", "state"),
    [
        (1, 3, False, State.RETRYABLE),
        (3, 3, False, State.DISCARDED),
        (4, 3, False, State.DISCARDED),
        (9, None, False, State.RETRYABLE),
        (1, 3, True, State.CANCELLED),
        (3, 3, True, State.CANCELLED),
    ],
)
def test_a_crash_uses_up_the_attempt(
    attempt: int, max_attempts: int | None, cancel_asked: bool, state: State
) -> None:
    """The job is tried again while it has attempts, unless an operator has asked to cancel it."""
    assert state_after_crash(attempt, max_attempts, cancel_asked=cancel_asked) is state
