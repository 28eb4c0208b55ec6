"""Claimed and executing: what a claim, `AttemptStore.show_started` and an outcome tell of an attempt's start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from jobrt._core import where
from jobrt._core.job import Outcome, Start
from jobrt._core.states import End, State, Transition
from jobrt._storage.contract import Storage
from tests.conformance.build import add, ask, claim, end, job, look, start, states

if TYPE_CHECKING:
    from tests.conformance.harness import Engine

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENT = timedelta(seconds=3)
ENDS = [
    one
    for one in Transition
    if one.value in {"complete", "retry", "snooze", "give_back", "discard", "cancel"}
]


def micros(moment: datetime) -> int:
    """Return a time as outcomes have it."""
    return (moment - EPOCH) // timedelta(microseconds=1)


async def test_the_first_jobs_of_a_claim_begin_at_once(storage: Storage) -> None:
    """As many as there are free slots are executing since the claim; the others are claimed and have no start."""
    ids = await add(storage, *(job(priority=-n) for n in range(5)))
    exchange = await storage.attempts.exchange((), ask(free_slots=2))
    assert [one.started_at is not None for one in exchange.jobs] == [True, True, False, False, False]
    assert all(micros(one.started_at) <= exchange.at for one in exchange.jobs if one.started_at is not None)
    assert await states(storage, ids) == ["executing"] * 2 + ["claimed"] * 3
    assert [one.started_at for one in await storage.jobs.query(where.everything(), order_by="id")] == [
        one.started_at for one in exchange.jobs
    ]
    assert {(one.attempt, one.worker) for one in await storage.jobs.query(where.everything())} == {(1, "w1")}


@pytest.mark.parametrize("limited", [{"cluster_limit": 9}, {"capped": (("one", 2), ("other", 9))}])
async def test_under_limits_the_first_in_order_begin(storage: Storage, limited: dict[str, object]) -> None:
    """Priority decides, whatever the names are."""
    await add(storage, *(job("one" if n % 2 else "other", priority=n) for n in range(6)))
    demand = (
        ask("one", "other", free_slots=3, **limited)
        if "capped" not in limited
        else ask(free_slots=3, **limited)
    )
    jobs = (await storage.attempts.exchange((), demand)).jobs
    assert [one.started_at is not None for one in jobs] == [n < 3 for n in range(len(jobs))]
    shown = {one.id for one in await storage.jobs.query(where.state("executing"))}
    assert shown == {one.id for one in jobs if one.started_at is not None}


async def test_a_retried_job_that_is_claimed_ahead_has_not_started(storage: Storage) -> None:
    """Its last attempt has a record; the new one has no start yet."""
    claimed = await start(storage)
    await storage.attempts.finish([end(claimed, Transition.RETRY)])
    (again,) = await claim(storage, free_slots=0)
    record = await look(storage, again.id)
    assert (record.state, record.started_at, record.attempt) == (State.CLAIMED, None, 2)
    assert record.attempts[0].started_at == claimed.started_at


async def test_a_start_is_shown(engine: Engine) -> None:
    """A claimed job is executing since the time that its worker tells."""
    storage = engine.storage
    claimed = await start(storage, ahead=True)
    await engine.advance(10)
    began = await storage.schema.now() - MOMENT
    await storage.attempts.show_started([Start(claimed.id, claimed.lease, micros(began))])
    record = await look(storage, claimed.id)
    assert (record.state, record.started_at) == (State.EXECUTING, began)
    await storage.attempts.show_started([Start(claimed.id, claimed.lease, micros(began) + 1)])
    assert (await look(storage, claimed.id)).started_at == began, "a start that is known stays"


async def test_a_start_is_never_later_than_now(storage: Storage) -> None:
    """The clock of the database may have stepped back since the claim."""
    claimed = await start(storage, ahead=True)
    later = micros(await storage.schema.now() + timedelta(hours=1))
    await storage.attempts.show_started([Start(claimed.id, claimed.lease, later)])
    record = await look(storage, claimed.id)
    assert record.started_at is not None
    assert record.created_at <= record.started_at <= await storage.schema.now()


async def test_a_start_under_a_lost_lease_changes_nothing(engine: Engine) -> None:
    """Ended, given back, rescued, claimed again, deleted: the lease is the fence."""
    storage = engine.storage
    done = await start(storage, ahead=True)
    await storage.attempts.finish([end(done)])
    rescued = await start(storage, ahead=True)
    await storage.workers.rescue()
    (again,) = await claim(storage, worker="w2", free_slots=0)
    gone = await start(storage, ahead=True)
    await storage.jobs.delete(where.id(gone.id))
    before = await engine.everything()
    assert again.id == rescued.id
    await storage.attempts.show_started([Start(one.id, one.lease, 1) for one in (done, rescued, gone)])
    await storage.attempts.show_started([])
    assert await engine.everything() == before


@pytest.mark.parametrize("event", ENDS, ids=lambda event: event.value)
async def test_an_outcome_tells_the_start(engine: Engine, event: Transition) -> None:
    """So the times of the job and its record are those of `run`, whatever came of it."""
    storage = engine.storage
    claimed = await start(storage, ahead=True)
    await engine.advance(10)
    began = await storage.schema.now() - MOMENT
    assert await storage.attempts.finish([end(claimed, event, message="m", began=micros(began))]) == ()
    record = await look(storage, claimed.id)
    assert record.started_at == began
    (attempt,) = record.attempts
    assert attempt.started_at == began
    assert attempt.finished_at - began >= MOMENT


@pytest.mark.parametrize("event", ENDS, ids=lambda event: event.value)
@pytest.mark.parametrize("ahead", [True, False])
async def test_a_start_that_cannot_be_is_set_right(storage: Storage, event: Transition, ahead: bool) -> None:
    """An attempt starts no later than it ends; one whose start nobody has told starts when it ends."""
    claimed = await start(storage, ahead=ahead)
    later = None if ahead else micros(await storage.schema.now() + timedelta(days=1))
    await storage.attempts.finish([end(claimed, event, message="m", began=later)])
    (attempt,) = (await look(storage, claimed.id)).attempts
    assert attempt.started_at == attempt.finished_at


@pytest.mark.parametrize("ahead", [True, False])
async def test_what_goes_back_unstarted_has_no_start(storage: Storage, ahead: bool) -> None:
    """It leaves no record, uses no attempt, and nobody takes the claim for a start."""
    claimed = await start(storage, ahead=ahead)
    await storage.attempts.finish(
        [Outcome(claimed.id, claimed.lease, Transition.GIVE_BACK, None, spent=False)]
    )
    record = await look(storage, claimed.id)
    assert (record.state, record.started_at, record.attempt, record.attempts) == (
        State.AVAILABLE,
        None,
        0,
        (),
    )


async def test_a_lost_claim_leaves_no_start(storage: Storage) -> None:
    """What is released is as if never claimed."""
    (id,) = await add(storage, job())
    await claim(storage)
    assert await storage.attempts.release_unknown("w1", "default", []) == 1
    record = await look(storage, id)
    assert (record.state, record.started_at) == (State.AVAILABLE, None)


async def test_a_claimed_job_that_is_cancelled_goes_back_as_cancelled(storage: Storage) -> None:
    """As a running one: the request stands in the row, and the worker's answer decides."""
    claimed = await start(storage, ahead=True)
    assert await storage.jobs.cancel(where.id(claimed.id), "enough") == (0, 1)
    assert [one.ref.id for one in (await storage.workers.changes("w1")).cancels] == [claimed.id]
    await storage.attempts.finish(
        [Outcome(claimed.id, claimed.lease, Transition.GIVE_BACK, None, spent=False)]
    )
    record = await look(storage, claimed.id)
    assert (record.state, record.cancel_reason, record.started_at) == (State.CANCELLED, "enough", None)


async def test_a_rescued_job_that_was_claimed_has_used_an_attempt(storage: Storage) -> None:
    """It may have started unseen, and ended its worker at once: it must not do that for ever."""
    claimed = await start(storage, job(max_attempts=1), ahead=True)
    (rescued,) = await storage.workers.rescue()
    record = await look(storage, claimed.id)
    assert (rescued.state, record.state, record.attempt) == ("discarded", State.DISCARDED, 1)
    assert [(one.end, one.started_at == one.finished_at) for one in record.attempts] == [(End.CRASHED, True)]


async def test_claimed_and_executing_are_told_apart(storage: Storage) -> None:
    """By the filter, in the status of the queue, and by who waits for the job."""
    running, ahead = await start(storage), await start(storage, ahead=True)
    for state, wanted in (("executing", [running.id]), ("claimed", [ahead.id])):
        assert [one.id for one in await storage.jobs.query(where.state(state))] == wanted
    assert await storage.jobs.count(where.state("executing", "claimed")) == 2
    assert await storage.jobs.count(~where.state("executing")) == 1
    (status,) = await storage.queues.all()
    assert (status.claimed, status.executing) == (1, 1)
    assert await storage.jobs.await_final([running.id, ahead.id]) == {
        running.id: "executing",
        ahead.id: "claimed",
    }


async def test_run_times_are_counted_from_the_start(engine: Engine) -> None:
    """Not from the claim: the statistics say how long jobs run."""
    storage = engine.storage
    claimed = [await start(storage, ahead=True) for _ in range(2)]
    await engine.advance(600)
    began = micros(await storage.schema.now() - MOMENT)
    await storage.attempts.show_started([Start(*claimed[0][:2], began)])
    await storage.attempts.finish([end(claimed[0]), end(claimed[1], began=began)])
    (bucket,) = [one for one in await storage.jobs.stats(since=EPOCH) if one.completed]
    assert 6 <= bucket.seconds < 60
    assert sum(bucket.histogram[:6]) == 0
    assert sum(bucket.histogram[6:8]) == 2
