"""Jobs whose payload cannot be decoded: tried again without using attempts, and discarded in the end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from jobrt._core.attempts import Ended
from jobrt._core.job import AttemptRecord, Claimed, Outcome
from jobrt._core.states import End, State, Transition, transition
from jobrt._core.undecodable import undecodable

if TYPE_CHECKING:
    from jobrt.errors import Problem

FIRST = datetime(2031, 5, 14, tzinfo=UTC)
ENDED = Ended(End.UNDECODABLE, "UndecodablePayload", "Send.to: is missing")


def tried(after: float | None = None, *, number: int = 1, attempt: int = 1) -> Claimed:
    """Return a job that was tried first at `FIRST` and is claimed so many seconds after that."""
    record = AttemptRecord(number, End.UNDECODABLE, FIRST, FIRST, "w")
    now = FIRST if after is None else FIRST + timedelta(seconds=after)
    job = Claimed(7, 40, "Send", "default", 0, attempt, 3, None, "{}", "{}", (), None, FIRST, FIRST, now)
    return job if after is None else job._replace(attempts=(record,))


def _outcome(job: Claimed, problem: Problem) -> Outcome:
    """Return the outcome at the time of the claim."""
    assert job.started_at is not None
    return undecodable(job, ENDED, problem=problem, shape=77, now=job.started_at)


def follow(problem: Problem) -> list[Outcome]:
    """Return the outcomes of a job that is tried until it is discarded, at most for two days."""
    outcomes = [_outcome(tried(), problem)]
    seconds = outcomes[0].delay
    while outcomes[-1].event is Transition.SNOOZE and seconds < 2 * 86_400:
        outcomes.append(_outcome(tried(seconds), problem))
        seconds += outcomes[-1].delay
    return outcomes


def test_what_no_class_can_read_is_discarded_at_once() -> None:
    """A payload that is no JSON object will be none tomorrow."""
    (only,) = follow("text")
    assert (only.event, only.end, only.spent) == (Transition.DISCARD, End.UNDECODABLE, True)
    assert only.message == ENDED.message


def test_what_does_not_match_is_discarded_after_a_day() -> None:
    """It is tried again after delays that double, up to ten minutes; no try but the last uses an attempt."""
    outcomes = follow("value")
    delays = [outcome.delay for outcome in outcomes[:-1]]
    assert delays[:5] == [1, 1, 2, 4, 8]
    assert max(delays) == 600
    assert 86_400 <= sum(delays) < 86_400 + 600
    assert {outcome.spent for outcome in outcomes[:-1]} == {False}
    assert (outcomes[-1].event, outcomes[-1].end, outcomes[-1].spent) == (
        Transition.DISCARD,
        End.UNDECODABLE,
        True,
    )


def test_unknown_fields_wait_for_a_worker_that_knows_them() -> None:
    """Like an unknown name: for ever, and no attempt used. Classes of other shapes may try each minute."""
    outcomes = follow("fields")
    assert outcomes[0].delay == 0
    assert {outcome.unfit for outcome in outcomes} == {77}
    assert {outcome.unfit for outcome in follow("value")} == {None}
    assert {outcome.event for outcome in outcomes} == {Transition.SNOOZE}
    assert max(outcome.delay for outcome in outcomes) == 60
    assert not any(outcome.spent for outcome in outcomes)


@pytest.mark.parametrize("problem", ["value", "fields"])
def test_only_the_first_try_leaves_a_record(problem: Problem) -> None:
    """The newest hundred records are kept: a record of each try would push out the first, by which time is told."""
    first, *others = follow(problem)
    assert (first.end, first.message) == (End.UNDECODABLE, ENDED.message)
    assert {outcome.end for outcome in others if outcome.event is Transition.SNOOZE} == {None}


def test_a_rerun_has_its_own_day() -> None:
    """The record of a job that was discarded and run again is of another attempt."""
    again = _outcome(tried(9e5, number=1, attempt=2), "value")
    assert (again.event, again.delay, again.end) == (Transition.SNOOZE, 1, End.UNDECODABLE)


def test_the_outcomes_are_legal() -> None:
    """A job that is tried again is scheduled."""
    assert transition(State.EXECUTING, Transition.SNOOZE) is State.SCHEDULED
