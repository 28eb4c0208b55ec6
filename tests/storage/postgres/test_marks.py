"""The low watermark: from where a claim starts to read, decided without a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobrt._core.job import Claimed
from jobrt._core.limits import Demand
from jobrt._storage.postgres.claim import Mark, Marks, Reply

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


def learned(*replies: Reply, demand: Demand = ASK, scans: int = 1) -> Mark:
    """Make a mark that has seen a full claim and then others that started at it."""
    mark = Mark([{} for _ in range(scans)])
    for number, one in enumerate(replies):
        mark.learn(demand, one, full=number == 0, every=False, now=100.0)
    return mark


def starts(mark: Mark, *, full: bool = False) -> dict[str, Any]:
    """Say from where the next claim reads."""
    return {name: value for name, value in mark.start(full=full).items() if name != "seen_scan"}


def test_a_new_mark_looks_for_every_priority_from_the_beginning() -> None:
    """Nothing is known: one gap, from above all to below all."""
    mark = Mark([{}])
    assert mark.wants_full(0.0)
    assert starts(mark)["seen_priority"] == "{}"
    assert starts(mark)["gap_high"] == f"{{{1 << 40}}}"


def test_a_full_batch_of_one_priority_sets_the_mark_behind_it() -> None:
    """The next claim looks above that priority, and then behind the last job of it."""
    mark = learned(reply(job(7, 3), job(9, 3), found=((1, 3),)))
    assert not mark.wants_full(100.1)
    found = starts(mark)
    assert (found["seen_priority"], found["seen_id"]) == ("{3}", "{9}")
    assert LONG_AGO.isoformat() in found["seen_at"]
    assert found["gap_high"] == f"{{{1 << 40},3}}"
    assert found["gap_low"] == f"{{3,{-(1 << 40)}}}"


def test_the_mark_never_comes_near_the_present() -> None:
    """What is being committed now may be due a little earlier than what was claimed."""
    mark = learned(reply(job(7, due=NOW), job(9, due=NOW), found=((1, 0),)))
    assert starts(mark)["seen_id"] == "{0}"
    assert (NOW - timedelta(seconds=0.1)).isoformat() in starts(mark)["seen_at"]


def test_priorities_above_are_seen_up_to_now_and_those_below_are_not() -> None:
    """A claim that ended within a priority has read all above it, and nothing below it."""
    mark = learned(reply(job(1, 5), job(2, 3), found=((1, 5), (1, 3), (1, 1))), demand=ASK)
    mark.learn(ASK, reply(job(3, 3), job(4, 3)), full=False, every=True, now=100.1)
    levels = mark.levels[0]
    assert levels[3] == (LONG_AGO.isoformat(), 4)
    assert levels[5][0] > LONG_AGO.isoformat()
    assert levels[1][0] == "-infinity"


def test_below_a_new_priority_nothing_counts_as_seen() -> None:
    """Only the first of the unknown priorities was read, so a short claim says nothing of the others."""
    mark = learned(reply(job(1, 5), found=((1, 5), (1, 3))))
    assert mark.levels[0][5][0] != "-infinity"
    assert mark.levels[0][3][0] == "-infinity"


def test_while_full_claims_are_quick_all_are_full() -> None:
    """There is nothing to save, and nothing to miss."""
    mark = learned(reply(job(1), job(2), cost=QUICK, found=((1, 0),)))
    assert mark.wants_full(100.0)
    assert starts(mark, full=True)["seen_at"] == '{"-infinity"}'


def test_a_late_row_waits_a_second_at_most_while_claims_take_less_than_a_twentieth_of_it() -> None:
    """One full claim in a second, however many claims there are."""
    mark = learned(reply(job(1), job(2), found=((1, 0),)))
    assert not mark.wants_full(100.9)
    assert mark.wants_full(101.0)


def test_slow_full_claims_take_a_twentieth_of_the_time() -> None:
    """A full claim that took 0.2 s is not made again for four seconds, whoever asks."""
    mark = learned(reply(job(1), job(2), cost=TOO_SLOW, found=((1, 0),)))
    mark.asked = True
    assert not mark.wants_full(103.9)
    assert mark.wants_full(104.0)


def test_a_hand_back_asks_for_a_full_claim() -> None:
    """A job given back lies below the mark: the next claim that may is full, and then the matter is closed."""
    marks = Marks(clock=lambda: 100.5)
    mark = marks.of(ASK)
    mark.learn(ASK, reply(job(1), job(2), found=((1, 0),)), full=True, every=False, now=100.0)
    marks.doubt("other")
    assert not mark.wants_full(100.5)
    marks.doubt("q")
    assert mark.wants_full(100.5)
    mark.learn(ASK, reply(job(1), job(2)), full=True, every=False, now=100.5)
    assert not mark.wants_full(101.0)


def test_a_short_claim_is_made_again_in_full_unless_that_is_too_slow() -> None:
    """While full claims are bearable nothing is overlooked at all."""
    short = reply(job(3))
    assert learned(reply(job(1), job(2), cost=SLOW)).repeat(short, full=False)
    assert not learned(reply(job(1), job(2), cost=TOO_SLOW)).repeat(short, full=False)
    assert not learned(reply(job(1), job(2))).repeat(short, full=True)


def test_a_new_priority_makes_a_short_claim_look_for_more() -> None:
    """Where one unknown priority was, there may be others below it."""
    assert learned(reply()).repeat(reply(job(3, 9), found=((1, 9),)), full=True)


def test_what_a_cap_left_out_stays_ahead_of_the_mark() -> None:
    """A capped name has a scan of its own, whose mark does not pass the jobs that its cap left out."""
    demand = Demand("w", "q", 5, ("a",), (("b", 1),))
    found = ((1, 0), (2, 0))
    mark = learned(reply(job(1), job(2, name="b"), job(6), found=found), demand=demand, scans=2)
    free, capped = mark.levels
    assert capped[0] == (LONG_AGO.isoformat(), 2)
    assert free[0][0] > LONG_AGO.isoformat()


def test_other_names_are_another_mark() -> None:
    """Jobs passed over because nobody asked for them are not passed over for those who do."""
    marks = Marks()
    assert marks.of(ASK) is marks.of(Demand("other", "q", 9, ("a",)))
    assert marks.of(ASK) is not marks.of(Demand("w", "q", 2, ("a", "b")))
    assert marks.of(ASK) is not marks.of(Demand("w", "q", 2, ("a",), (("b", 1),)))


def test_marks_do_not_pile_up() -> None:
    """A worker that asks in ever new ways keeps the newest few hundred."""
    marks = Marks()
    first = marks.of(ASK)
    for number in range(300):
        marks.of(Demand("w", f"q{number}", 1, ("a",)))
    assert marks.of(ASK) is not first


def test_what_a_job_takes_is_the_least_that_was_seen() -> None:
    """So that walking over dead entries is noticed on a quick machine as well as on a slow one."""
    marks = Marks()
    assert marks.beyond_the_work(0.03, jobs=1000) == pytest.approx(0.0)
    assert marks.beyond_the_work(0.01, jobs=1000) == pytest.approx(0.0)
    assert marks.beyond_the_work(0.018, jobs=1000) == pytest.approx(0.008)
    assert marks.beyond_the_work(0.0001, jobs=90) == pytest.approx(-0.0008)
    assert marks.beyond_the_work(0.018, jobs=1000) == pytest.approx(0.008)
