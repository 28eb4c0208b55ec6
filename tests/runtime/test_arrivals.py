"""Arrivals of claims: when their jobs begin, and which have waited for too long."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jobrt._core.job import Claimed
from jobrt._runtime.arrivals import WAIT_LIMIT, Arrivals
from jobrt._runtime.messages import Batch

_NOW = datetime(2030, 1, 1, tzinfo=UTC)


def _job(number: int, *, lease: int = 7, ahead: bool = True) -> Claimed:
    start = None if ahead else _NOW
    return Claimed(number, lease, "Work", "mail", 0, 1, None, None, "{}", "{}", (), None, _NOW, _NOW, start)


def _arrived(*jobs: Claimed) -> Arrivals:
    arrivals = Arrivals()
    arrivals.add(Batch(1, "w", jobs, at=1_000_000, received=5.0), inbox=(), finished=0)
    return arrivals


def test_a_job_claimed_ahead_begins_when_its_turn_comes() -> None:
    """The time since the reply is added to the time of the claim by the storage's clock."""
    assert _arrived(_job(1)).began(_job(1), 5.25) == 1_250_000


@pytest.mark.parametrize(("waited", "began"), [(0.0, None), (0.5, 1_500_000)])
def test_a_job_that_begins_at_once_begins_with_its_claim(waited: float, began: int | None) -> None:
    """Unless it has waited for longer than jobs may."""
    job = _job(1, ahead=False)
    assert _arrived(job).began(job, 5.0 + waited) == began


@pytest.mark.parametrize(
    ("waited", "finished", "standstill", "late"),
    [(2, 0, False, {7}), (2, 1, False, set()), (2, 0, True, set()), (0.5, 0, False, set())],
)
def test_jobs_are_late_if_the_slots_do_not_turn(
    waited: float, finished: int, standstill: bool, late: set[int]
) -> None:
    """A claim's jobs wait for too long if few attempts have ended, and the event loop did not stand still."""
    jobs = [_job(1), _job(2)]
    now = 5.0 + waited * WAIT_LIMIT
    assert _arrived(*jobs).late(jobs, now, finished=finished, standstill=standstill) == late


def test_a_claim_is_judged_again_after_as_long() -> None:
    """What counts then are the attempts that have ended since the last judgement."""
    jobs = [_job(1), _job(2)]
    arrivals = _arrived(*jobs)
    now = arrivals.due(*jobs)
    assert arrivals.late(jobs, now, finished=9, standstill=False) == set()
    assert arrivals.due(*jobs) == now + WAIT_LIMIT
    assert arrivals.late(jobs, now + WAIT_LIMIT, finished=9, standstill=False) == {7}
