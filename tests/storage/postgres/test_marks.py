"""The low watermark: where a claim starts to read, tested without a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobrt._core.job import Claimed
from jobrt._core.limits import Demand
from jobrt._storage.postgres.claim import Reply, Watermark, Watermarks

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)
ASK = Demand("w", "q", 2, ("a",))
QUICK, SLOW, TOO_SLOW = 0.001, 0.02, 0.2


def job(id: int, priority: int = 0, *, name: str = "a", due: datetime = LONG_AGO) -> Claimed:
    """Make a claimed job."""
    return Claimed(id, 1, name, "q", priority, 1, None, None, "{}", "{}", (), None, due, due, NOW)


def reply(*jobs: Claimed, cost: float = SLOW, found: tuple[tuple[int, int], ...] = ()) -> Reply:
    """Make what a claim has returned."""
    return Reply(landed=None, jobs=jobs, now=NOW, cost=cost, found=found, woken=(), next_due=None)


def learned(*replies: Reply, demand: Demand = ASK, scans: int = 1) -> Watermark:
    """Make a watermark that has seen a full claim and then others that started at it."""
    watermark = Watermark([{} for _ in range(scans)])
    for number, one in enumerate(replies):
        watermark.learn(demand, one, full=number == 0, all_priorities=False, now=100.0)
    return watermark


def starts(watermark: Watermark, *, full: bool = False) -> dict[str, Any]:
    """Return the parameters for the start of the next claim."""
    return {name: value for name, value in watermark.start(full=full).items() if name != "seen_scan"}


def test_a_new_mark_looks_for_every_priority_from_the_beginning() -> None:
    """Nothing is known: one gap, from above all to below all."""
    watermark = Watermark([{}])
    assert watermark.needs_full(0.0)
    assert starts(watermark)["seen_priority"] == "{}"
    assert starts(watermark)["gap_high"] == f"{{{1 << 40}}}"


def test_a_full_batch_of_one_priority_sets_the_mark_behind_it() -> None:
    """The next claim reads above that priority, and then after its last job."""
    watermark = learned(reply(job(7, 3), job(9, 3), found=((1, 3),)))
    assert not watermark.needs_full(100.1)
    found = starts(watermark)
    assert (found["seen_priority"], found["seen_id"]) == ("{3}", "{9}")
    assert LONG_AGO.isoformat() in found["seen_at"]
    assert found["gap_high"] == f"{{{1 << 40},3}}"
    assert found["gap_low"] == f"{{3,{-(1 << 40)}}}"


def test_the_mark_never_comes_near_the_present() -> None:
    """What is being committed now may be due a little earlier than what was claimed."""
    watermark = learned(reply(job(7, due=NOW), job(9, due=NOW), found=((1, 0),)))
    assert starts(watermark)["seen_id"] == "{0}"
    assert (NOW - timedelta(seconds=0.1)).isoformat() in starts(watermark)["seen_at"]


def test_priorities_above_are_seen_up_to_now_and_those_below_are_not() -> None:
    """A claim that ended within a priority has read all above it, and nothing below it."""
    watermark = learned(reply(job(1, 5), job(2, 3), found=((1, 5), (1, 3), (1, 1))), demand=ASK)
    watermark.learn(ASK, reply(job(3, 3), job(4, 3)), full=False, all_priorities=True, now=100.1)
    levels = watermark.levels[0]
    assert levels[3] == (LONG_AGO.isoformat(), 4)
    assert levels[5][0] > LONG_AGO.isoformat()
    assert levels[1][0] == "-infinity"


def test_below_a_new_priority_nothing_counts_as_seen() -> None:
    """Only the first of the unknown priorities was read, so a short claim says nothing of the others."""
    watermark = learned(reply(job(1, 5), found=((1, 5), (1, 3))))
    assert watermark.levels[0][5][0] != "-infinity"
    assert watermark.levels[0][3][0] == "-infinity"


def test_while_full_claims_are_quick_all_are_full() -> None:
    """All claims are full while they are quick."""
    watermark = learned(reply(job(1), job(2), cost=QUICK, found=((1, 0),)))
    assert watermark.needs_full(100.0)
    assert starts(watermark, full=True)["seen_at"] == '{"-infinity"}'


def test_a_late_row_waits_a_second_at_most_while_claims_take_less_than_a_twentieth_of_it() -> None:
    """One full claim in a second, however many claims there are."""
    watermark = learned(reply(job(1), job(2), found=((1, 0),)))
    assert not watermark.needs_full(100.9)
    assert watermark.needs_full(101.0)


def test_slow_full_claims_take_a_twentieth_of_the_time() -> None:
    """A full claim that took 0.2 s is not repeated for four seconds, even if one is requested."""
    watermark = learned(reply(job(1), job(2), cost=TOO_SLOW, found=((1, 0),)))
    watermark.full_requested = True
    assert not watermark.needs_full(103.9)
    assert watermark.needs_full(104.0)


def test_a_hand_back_asks_for_a_full_claim() -> None:
    """A job given back is below the watermark: the next possible claim is full, and that fulfils the request."""
    watermarks = Watermarks(clock=lambda: 100.5)
    watermark = watermarks.of(ASK)
    watermark.learn(ASK, reply(job(1), job(2), found=((1, 0),)), full=True, all_priorities=False, now=100.0)
    watermarks.request_full("other")
    assert not watermark.needs_full(100.5)
    watermarks.request_full("q")
    assert watermark.needs_full(100.5)
    assert watermark.requested_in(100.5) == 0
    assert watermark.take_request()
    watermark.learn(ASK, reply(job(1), job(2)), full=True, all_priorities=False, now=100.5)
    assert not watermark.needs_full(101.0)
    assert watermark.requested_in(101.0) is None


def test_a_request_is_kept_until_a_full_claim_begins() -> None:
    """The worker learns when to look again, since the wake-up comes once; a later request is for another claim."""
    watermark = learned(reply(job(1), job(2), cost=TOO_SLOW, found=((1, 0),)))
    watermark.full_requested = True
    assert watermark.requested_in(101.0) == pytest.approx(3.0)
    assert watermark.take_request()
    watermark.full_requested = True  # while the claim is under way
    watermark.learn(ASK, reply(job(1), job(2), cost=TOO_SLOW), full=True, all_priorities=False, now=104.0)
    assert watermark.requested_in(104.0) == pytest.approx(4.0)


def test_a_short_claim_is_made_again_in_full_unless_that_is_too_slow() -> None:
    """While full claims are not too slow, no job is overlooked."""
    short = reply(job(3))
    assert learned(reply(job(1), job(2), cost=SLOW)).repeat(short, full=False)
    assert not learned(reply(job(1), job(2), cost=TOO_SLOW)).repeat(short, full=False)
    assert not learned(reply(job(1), job(2))).repeat(short, full=True)


def test_a_new_priority_makes_a_short_claim_look_for_more() -> None:
    """Where one unknown priority was, there may be others below it."""
    assert learned(reply()).repeat(reply(job(3, 9), found=((1, 9),)), full=True)


def test_what_a_cap_left_out_stays_ahead_of_the_mark() -> None:
    """A capped name has a scan of its own, whose watermark does not pass the jobs that its cap left out."""
    demand = Demand("w", "q", 5, ("a",), (("b", 1),))
    found = ((1, 0), (2, 0))
    watermark = learned(reply(job(1), job(2, name="b"), job(6), found=found), demand=demand, scans=2)
    free, capped = watermark.levels
    assert capped[0] == (LONG_AGO.isoformat(), 2)
    assert free[0][0] > LONG_AGO.isoformat()


def test_other_names_are_another_mark() -> None:
    """Jobs that a demand for other names skipped are not skipped for a demand with their name."""
    watermarks = Watermarks()
    assert watermarks.of(ASK) is watermarks.of(Demand("other", "q", 9, ("a",)))
    assert watermarks.of(ASK) is not watermarks.of(Demand("w", "q", 2, ("a", "b")))
    assert watermarks.of(ASK) is not watermarks.of(Demand("w", "q", 2, ("a",), (("b", 1),)))


def test_marks_do_not_pile_up() -> None:
    """A worker with ever new demands keeps only the newest few hundred watermarks."""
    watermarks = Watermarks()
    first = watermarks.of(ASK)
    for number in range(300):
        watermarks.of(Demand("w", f"q{number}", 1, ("a",)))
    assert watermarks.of(ASK) is not first


def test_what_a_job_takes_is_the_least_that_was_seen() -> None:
    """So that scanning dead entries is noticed on fast and on slow machines."""
    watermarks = Watermarks()
    assert watermarks.overhead(0.03, jobs=1000) == pytest.approx(0.0)
    assert watermarks.overhead(0.01, jobs=1000) == pytest.approx(0.0)
    assert watermarks.overhead(0.018, jobs=1000) == pytest.approx(0.008)
    assert watermarks.overhead(0.0001, jobs=90) == pytest.approx(-0.0008)
    assert watermarks.overhead(0.018, jobs=1000) == pytest.approx(0.008)
