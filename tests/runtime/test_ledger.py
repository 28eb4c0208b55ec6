"""Decisions of a fetcher: how much to claim, when to claim, and which claims are still open."""

from __future__ import annotations

import gc
import math
import weakref
from datetime import UTC, datetime, timedelta
from itertools import count

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrt._core.attempts import interrupted, suspended, unstarted
from jobrt._core.job import Claimed, JobRef, Outcome, Wait
from jobrt._core.limits import HELD_CHARACTERS, LARGE_TEXTS, Demand
from jobrt._core.looks import AGAIN, MANY_PARKED
from jobrt._core.queues import Queue
from jobrt._core.rates import Rate
from jobrt._runtime.held_texts import HeldTexts
from jobrt._runtime.ledger import LARGEST_CLAIM, UNSETTLED_LIMIT, Ledger, micros_of
from jobrt._runtime.messages import Holding, OutcomeBatch, Report, Settings
from jobrt._runtime.parked_jobs import ParkedJobs

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def job(job_id: int, lease: int = 1, *, ahead: bool = False) -> Claimed:
    """Return a job claimed under a lease, with a free slot or ahead."""
    started_at = None if ahead else NOW
    return Claimed(job_id, lease, "Work", "mail", 0, 1, 5, None, "{}", "{}", (), None, NOW, NOW, started_at)


def demand(limit: int) -> Demand:
    """Return the demand of a claim with this limit."""
    return Demand("worker", "mail", limit, ("Work",))


def batch(number: int, *jobs: Claimed) -> OutcomeBatch:
    """Return a batch with the outcomes of completed jobs."""
    return OutcomeBatch("mail", number, tuple(Report(Outcome(job.id, job.lease), job, 0.0) for job in jobs))


def claim(ledger: Ledger, *jobs: Claimed, limit: int | None = None, now: float = 0.0) -> None:
    """Let the ledger accept the jobs of a claim, whose limit is their number by default."""
    ledger.accept(demand(len(jobs) if limit is None else limit), jobs, left_out=False, now=now)


def test_a_claim_leaves_room_for_what_the_executors_do_not_hold() -> None:
    """Room becomes free when a job is returned, not when its outcome is written."""
    ledger = Ledger(Queue(3))
    assert ledger.room(0.0) == 3
    claim(ledger, job(1), job(2))
    assert ledger.room(0.0) == 1
    ledger.take_back(batch(0, job(1)), attempts=1)
    assert ledger.room(0.0) == 2
    ledger.claiming += 2
    assert ledger.room(0.0) == 0


def busy(concurrency: int, ended: int) -> Ledger:
    """Return a ledger whose queue has ended so many attempts in the second before 1.0, after some full claims."""
    ledger = Ledger(Queue(concurrency))
    for _ in range(5):
        claim(ledger, job(0))
    ledger.take_back(batch(0, job(0)), attempts=0)
    ledger.prefetch(0.0)
    ledger.finished += ended
    return ledger


def test_quick_jobs_are_prefetched() -> None:
    """What they finish in 50 ms is held beyond the slots, four thousand jobs at the most."""
    ledger = busy(10, 1000)
    assert ledger.prefetch(1.0) == 50
    ledger.finished += 1_000_000
    assert ledger.prefetch(2.0) == 4000


def test_the_first_claims_hold_little_ahead() -> None:
    """The first samples are of a few jobs. Each full claim may hold eight times as much."""
    ledger = Ledger(Queue(10))
    ledger.prefetch(0.0)
    ledger.finished += 1_000_000
    assert ledger.prefetch(1.0) == 10
    claim(ledger, job(1), limit=2, now=1.0)
    ledger.finished += 1_000_000
    assert ledger.prefetch(1.01) == 10, "this claim was not full"
    claim(ledger, job(2), now=1.01)
    assert ledger.prefetch(1.02) == 80


def test_a_look_for_urgent_jobs_is_due_while_others_wait() -> None:
    """Every 40 ms at the most; if no job waits for a slot, the next free one is reason enough for a claim."""
    ledger = Ledger(Queue(1))
    assert ledger.look_at() == math.inf
    claim(ledger, job(1), job(2, ahead=True))
    assert ledger.look_at() == -math.inf
    ledger.note_look(5.0)
    assert ledger.look_at() == 5.04


def test_nothing_is_claimed_ahead_of_slow_jobs() -> None:
    """When a slot takes longer than that for a job, the first one claimed ahead would wait for too long."""
    assert busy(10, 190).prefetch(1.0) == 0
    assert busy(10, 200).prefetch(1.0) == 10


def test_nothing_is_claimed_ahead_of_unknown_jobs() -> None:
    """What ran before an idle time says nothing about what comes after it."""
    assert Ledger(Queue(10)).prefetch(0.0) == 0
    ledger = busy(10, 1000)
    assert ledger.prefetch(1.0) == 50
    ledger.held, ledger.more = 0, False
    claim(ledger, job(1), limit=5, now=1.0)
    assert ledger.prefetch(1.0) == 0


def test_what_was_claimed_ahead_in_vain_makes_cautious() -> None:
    """Four attempts must end for each such job, whatever the rate is: claims and returns cannot take turns."""
    ledger = busy(1, 1000)
    assert ledger.prefetch(1.0) == 50
    ledger.set_back(20, now=1.0)
    for _ in range(79):
        ledger.finished += 1
        assert ledger.prefetch(1.0 + ledger.finished / 1000) == 0
    ledger.finished += 1
    assert ledger.prefetch(2.1) > 0


@given(st.lists(st.tuples(st.integers(1, 500), st.floats(0.0, 0.2)), min_size=1, max_size=60))
def test_few_jobs_come_back(steps: list[tuple[int, float]]) -> None:
    """However the rate changes, and if all that is claimed ahead comes back: a quarter of what ends, and one claim."""
    ledger, now, back = Ledger(Queue(1)), 0.0, 0
    for ended, seconds in steps:
        now += seconds
        ledger.finished += ended
        if ahead := ledger.prefetch(now):
            assert back <= ledger.finished / 4
            back += ahead
            ledger.set_back(ahead, now)


def test_a_claim_shows_no_more_than_there_are_slots() -> None:
    """Jobs whose outcome is still to be written are shown, too; those whose outcome travels with the claim are not."""
    ledger, wanted = Ledger(Queue(3)), demand(5)
    assert ledger.free_slots(wanted, ()) == 3
    claim(ledger, job(1), job(2), job(3), job(4, ahead=True))
    assert ledger.free_slots(wanted, ()) == 0
    ended = batch(0, job(1), job(2), job(4, ahead=True))
    ledger.take_back(ended, attempts=3)
    assert ledger.free_slots(wanted, ()) == 0
    assert ledger.free_slots(wanted, [ended]) == 2
    ledger.starting = 1
    assert ledger.free_slots(wanted, [ended]) == 1


def test_a_start_is_shown_when_there_is_room() -> None:
    """For no more than the slots, and not while a lost reply may have shown others."""
    ledger = Ledger(Queue(3))
    claim(ledger, job(1), job(2), job(3, ahead=True))
    assert ledger.room_to_show() == 1
    ledger.starting = 1
    assert ledger.room_to_show() == 0
    ledger.starting, ledger.unresolved = 0, 1
    assert ledger.room_to_show() == 0
    ledger.unresolved = 0
    ledger.shown.add(JobRef(3, 1))
    assert ledger.room_to_show() == 0
    ledger.take_back(batch(0, job(3, ahead=True)), attempts=1)
    ledger.settle(0)
    assert ledger.room_to_show() == 1


def test_a_refill_is_wanted_when_half_of_the_prefetched_jobs_are_gone() -> None:
    """Only if the last claim was full. Otherwise no due job is known."""
    ledger = Ledger(Queue(10))
    claim(ledger, *map(job, range(12)))
    assert ledger.more
    assert not ledger.wants_refill(0.0)
    ledger.take_back(batch(0, job(0), job(1)), attempts=0)
    assert ledger.wants_refill(0.0)
    claim(ledger, limit=5)
    assert not ledger.wants_refill(0.0)


def test_a_second_claim_is_for_a_large_demand_without_doubt() -> None:
    """Unresolved claims are reconciled while no other claim is running, so they exclude a second claim."""
    ledger = Ledger(Queue(LARGEST_CLAIM))
    ledger.more = True
    assert ledger.wants_second_claim(0.0)
    ledger.unresolved = 1
    assert not ledger.wants_second_claim(0.0)


def test_ten_thousand_outcomes_stop_the_claims() -> None:
    """Settled outcomes no longer count."""
    ledger = Ledger(Queue(10))
    jobs = [job(number) for number in range(UNSETTLED_LIMIT)]
    claim(ledger, *jobs)
    ledger.take_back(batch(0, *jobs), attempts=len(jobs))
    assert ledger.crowded
    ledger.settle(0)
    assert not ledger.crowded
    assert ledger.idle


def test_operators_settings_replace_those_before() -> None:
    """Each message contains all settings."""
    ledger = Ledger(Queue(10))
    ledger.apply(Settings(paused=True, concurrency=3))
    assert (ledger.paused, ledger.concurrency) == (True, 3)


def test_an_outcome_that_is_lost_leaves_its_job_to_be_reconciled() -> None:
    """The storage then releases the job, because the worker does not know it."""
    ledger = Ledger(Queue(10))
    claim(ledger, job(1), job(2))
    ledger.take_back(batch(0, job(1), job(2)), attempts=2)
    ledger.settle(0, [JobRef(1, 1)])
    assert (ledger.unresolved, ledger.known()) == (1, [])


def test_outcomes_that_the_jobs_have_written_are_settled() -> None:
    """The job's own transaction has completed it."""
    ledger = Ledger(Queue(10))
    claim(ledger, job(1))
    ledger.take_back(None, attempts=1)
    ledger.take_written(batch(0, job(1)).reports)
    assert ledger.idle
    assert (ledger.held, ledger.finished) == (0, 1)


def test_jobs_lost_between_fetcher_and_executors_are_found() -> None:
    """Restarted executors report what they hold. Batches in the channel and unwritten outcomes are not lost."""
    ledger = Ledger(Queue(10))
    claim(ledger, job(1), job(2), job(3))
    ledger.take_back(batch(0, job(1)), attempts=1)
    claim(ledger, job(4, lease=2))
    held = ledger.compare(Holding(1, (job(2),)))
    assert [each.id for each in held] == [2, 4]
    assert sorted(ledger.known()) == [(1, 1), (2, 1), (4, 2)]
    assert (ledger.held, ledger.unresolved) == (2, 1)


def test_a_comparison_that_finds_everything_changes_nothing() -> None:
    """After a restart that lost no job, there is nothing to reconcile."""
    ledger = Ledger(Queue(10))
    claim(ledger, job(1))
    ledger.compare(Holding(1, (job(1),)))
    assert (ledger.held, ledger.unresolved) == (1, 0)


def test_batches_that_were_not_sent_are_given_back() -> None:
    """They no longer count as being in the channel to the executors."""
    ledger = Ledger(Queue(10))
    claim(ledger, job(1), job(2))
    assert [each.id for each in ledger.drop_unsent()] == [1, 2]
    assert not ledger.unsent
    assert ledger.compare(Holding(0, ())) == []


class _Payload(str):  # noqa: SLOT000 - without slots it can be referred to weakly
    """Text whose end of life can be seen."""


def test_no_payload_is_kept_after_the_outcome() -> None:
    """A batch is kept for executors that restart. Once all of its jobs are over, nothing needs their payloads."""
    ledger = Ledger(Queue(3))
    payloads = [_Payload("{}") for _ in range(3)]
    kept = [weakref.ref(payload) for payload in payloads]
    for number, payload in enumerate(payloads):
        claim(ledger, job(number, lease=number)._replace(args=payload))
    ledger.unsent.clear()
    del payload
    payloads.clear()
    ledger.take_back(batch(0, job(0, lease=0), job(1, lease=1)), attempts=2)
    ledger.settle(0)
    gc.collect()
    assert [ref() is not None for ref in kept] == [False, False, True]


@given(st.data())
def test_every_claim_is_known_from_reply_to_settlement(data: st.DataObject) -> None:
    """This holds for any order of claims, returns and writes. `held` is never too low."""
    ledger = Ledger(Queue(10))
    ids, numbers = count(), count()
    at_executors: list[Claimed] = []
    returned: dict[int, list[Claimed]] = {}
    for lease in range(data.draw(st.integers(1, 12))):
        match data.draw(st.sampled_from(["claim", "return", "settle"])):
            case "claim":
                jobs = [job(next(ids), lease) for _ in range(data.draw(st.integers(0, 5)))]
                claim(ledger, *jobs, limit=5)
                at_executors += jobs
            case "return" if at_executors:
                size = data.draw(st.integers(1, len(at_executors)))
                back, at_executors = at_executors[:size], at_executors[size:]
                returned[number := next(numbers)] = back
                ledger.take_back(batch(number, *back), attempts=size)
            case "settle" if returned:
                number = data.draw(st.sampled_from(sorted(returned)))
                del returned[number]
                ledger.settle(number)
        open_jobs = [*at_executors, *(each for jobs in returned.values() for each in jobs)]
        assert sorted(ledger.known()) == sorted(JobRef(each.id, each.lease) for each in open_jobs)
        assert ledger.held == len(at_executors)
        assert ledger.unsettled == len(open_jobs) - len(at_executors)
        assert ledger.idle is not bool(open_jobs)


@pytest.mark.parametrize("clustered", [True, False])
def test_claims_in_turn_always_leave_a_reason_to_look_again(clustered: bool) -> None:
    """With a limit for the cluster, due jobs may have been left out, however few were claimed."""
    ledger = Ledger(Queue(10, cluster_limit=1))
    wanted = Demand("worker", "mail", 10, ("Work",), cluster_limit=1 if clustered else None)
    ledger.accept(wanted, (), left_out=False, now=0.0)
    assert ledger.more is clustered


@pytest.mark.parametrize(
    ("claimed", "starting", "more"), [(2, 2, True), (1, 2, False), (0, 0, True), (0, 2, False)]
)
def test_without_a_token_a_free_slot_is_no_reason_to_look(claimed: int, starting: int, more: bool) -> None:
    """The claim has told when the next token is there. If only slots were missing, the next free one is a reason."""
    ledger = Ledger(Queue(10, rate=Rate(1000)))
    wanted = attrs.evolve(rated(10), free_slots=starting)
    ledger.accept(wanted, tuple(map(job, range(claimed))), left_out=False, now=0.0)
    assert ledger.more is more


def rated(limit: int) -> Demand:
    """Return the demand of a claim under a rate."""
    return attrs.evolve(demand(limit), rate=Rate(1000))


def test_while_tokens_are_taken_ahead_no_slot_costs_a_claim() -> None:
    """The next claim comes when the jobs that wait for their tokens last for 50 ms, and brings many."""
    ledger = Ledger(Queue(100, rate=Rate(1000)))
    jobs = tuple(
        job(number)._replace(started_at=NOW + timedelta(milliseconds=number)) for number in range(100)
    )
    ledger.accept(rated(100), jobs, left_out=False, now=0.0, at=micros_of(NOW))
    assert ledger.more
    wanted: list[bool] = []
    for number in range(100):
        ledger.release(number / 1000)
        ledger.take_back(batch(number, job(number)), attempts=1)
        wanted.append(ledger.wants_refill(number / 1000))
    assert wanted.index(True) == pytest.approx(49, abs=1)
    assert all(wanted[50:])


def outcomes(*found: Outcome) -> OutcomeBatch:
    """Return a batch with these outcomes."""
    return OutcomeBatch("mail", 0, tuple(Report(outcome, job(outcome.id), 0.0) for outcome in found))


def test_claims_under_a_rate_name_the_parked_jobs() -> None:
    """From the report that an attempt is parked until it has ended, or its job is suspended."""
    parked = [suspended(job(number), Wait("message", "x", parked=True)) for number in range(1, 6)]
    ledger = Ledger(Queue(10, rate=Rate(1000)))
    claim(ledger, *map(job, range(1, 6)))
    ledger.take_back(outcomes(*parked), attempts=5)
    claim(ledger, *map(job, range(1, 6)))
    assert ledger.parked.named() == (1, 2, 3, 4, 5)
    ledger.take_back(outcomes(unstarted(job(1)), Outcome(2, 1), interrupted(job(3), "stop")), attempts=2)
    ledger.take_back(outcomes(suspended(job(4), Wait("message", "x"))), attempts=1)
    ledger.take_written([Report(Outcome(5, 1), job(5), 0.0)])
    assert ledger.parked.named() == (1,)
    others = Ledger(Queue(10))
    claim(others, job(1))
    others.take_back(outcomes(parked[0]), attempts=1)
    assert others.parked.named() == ()


@pytest.mark.parametrize(("number", "due"), [(MANY_PARKED, None), (MANY_PARKED + 1, AGAIN)])
def test_a_claim_names_so_many_parked_jobs_at_most(number: int, due: float | None) -> None:
    """The next one, which comes soon, names the others first."""
    jobs = ParkedJobs()
    parked = [suspended(job(n), Wait("message", "x", parked=True)) for n in range(number)]
    jobs.note(outcomes(*parked).reports)
    named = jobs.named(), jobs.named()
    assert set(named[0]) | set(named[1]) == set(range(number))
    assert {len(ids) for ids in named} == {MANY_PARKED}
    assert jobs.next_claim(None) == due
    assert jobs.next_claim(0.01) == 0.01


def large(job_id: int, characters: int) -> Claimed:
    """Return a claimed job with a payload of this size."""
    return job(job_id)._replace(args="x" * characters)


def test_large_payloads_bound_how_many_jobs_are_held() -> None:
    """However many slots are free: no claim, ahead or for a look either, until a job has come back."""
    half = large(1, HELD_CHARACTERS // 2 + 1)
    other = half._replace(id=2)
    ledger = Ledger(Queue(1000))
    claim(ledger, half)
    assert ledger.room(0.0) == 999
    claim(ledger, other)
    assert ledger.room(0.0) == ledger.room_ahead(0.0) == 0
    assert ledger.look_at() == math.inf
    ledger.more = True
    ledger.take_back(batch(0, half), attempts=1)
    assert ledger.room(0.0) == 999
    assert ledger.wants_refill(0.0)


def test_a_payload_is_counted_until_its_job_has_come_back_in_whatever_way() -> None:
    """It has ended, is parked, has written its outcome itself, or was lost between fetcher and executors."""
    jobs = [large(number, HELD_CHARACTERS) for number in range(1, 5)]
    ledger = Ledger(Queue(1000))
    claim(ledger, *jobs, job(5))
    ledger.take_back(batch(0, jobs[0]), attempts=1)
    ledger.take_back(batch(1, jobs[1]), attempts=0)
    ledger.take_written([Report(Outcome(3, 1), jobs[2], 0.0)])
    assert ledger.texts.full
    ledger.compare(Holding(1, (job(5),)))
    assert not ledger.texts.full
    assert ledger.texts.total == 0


@given(st.lists(st.tuples(st.integers(0, 3 * LARGE_TEXTS), st.booleans())))
def test_small_texts_are_not_counted(sizes: list[tuple[int, bool]]) -> None:
    """Unless there are others of the job, which may be large; what was counted is taken away again."""
    jobs = [large(number, size)._replace(kept=kept) for number, (size, kept) in enumerate(sizes)]
    texts = HeldTexts()
    texts.add(jobs)
    counted = [size for size, kept in sizes if kept or size + 2 > LARGE_TEXTS]
    assert texts.total == sum(counted) + 2 * len(counted)
    texts.remove([*jobs, *jobs])
    assert texts.total == 0
