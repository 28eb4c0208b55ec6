"""`AttemptStore.finish`: the new state of the job, and the attempt records."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from jobrt._core import where
from jobrt._core.job import JobRef, Progress
from jobrt._core.states import FINAL, End, State, Transition
from jobrt._storage.contract import Storage
from jobrt.errors import StorageError
from tests.conformance.build import add, ask, claim, complete, end, job, look, ref, start, states
from tests.conformance.harness import Engine

MINUTE = timedelta(minutes=1)


async def test_finishing_nothing(storage: Storage) -> None:
    """No outcomes, nothing refused."""
    assert await storage.attempts.finish([]) == ()


async def test_a_completed_job(engine: Engine) -> None:
    """It is final, has a finish time and its result, and its clean attempt is on record."""
    storage = engine.storage
    claimed = await start(storage)
    before = await storage.schema.now()
    assert await storage.attempts.finish([end(claimed, result='{"lines": [1, 2]}')]) == ()
    record = await look(storage, claimed.id)
    assert (record.state, record.attempt, record.result) == (State.COMPLETED, 1, {"lines": [1, 2]})
    assert record.finished_at is not None
    assert before <= record.finished_at <= await storage.schema.now()
    assert record.started_at == claimed.started_at
    (attempt,) = record.attempts
    assert (attempt.number, attempt.end, attempt.worker) == (1, End.FINISHED, "w1")
    assert (attempt.started_at, attempt.finished_at) == (record.started_at, record.finished_at)
    assert (attempt.error_type, attempt.message, attempt.traceback) == (None, None, None)


@pytest.mark.parametrize(
    "text",
    ["null", "0", '""', "false", "[]", '"x"', "1.5", '"' + "y" * 200_000 + '"'],
    ids=lambda text: text[:4],
)
async def test_any_json_can_be_a_result(storage: Storage, text: str) -> None:
    """Empty and false results are results, and long ones are kept whole."""
    claimed = await start(storage)
    await complete(storage, claimed, result=text)
    assert (await look(storage, claimed.id)).result == json.loads(text)


async def test_a_failed_attempt_waits_for_its_backoff(engine: Engine) -> None:
    """A retry is due `delay` seconds after the database's time, and its record has the error."""
    storage = engine.storage
    claimed = await start(storage)
    before = await storage.schema.now()
    outcome = end(
        claimed,
        Transition.RETRY,
        delay=60.0,
        error_type="ValueError",
        message="it's \x00 no ☃",
        traceback="a\n  b",
    )
    assert await storage.attempts.finish([outcome]) == ()
    record = await look(storage, claimed.id)
    assert (record.state, record.attempt, record.finished_at) == (State.RETRYABLE, 1, None)
    assert before + MINUTE <= record.schedule_at <= await storage.schema.now() + MINUTE
    (attempt,) = record.attempts
    assert (attempt.number, attempt.end, attempt.worker) == (1, End.FAILED, "w1")
    assert attempt.started_at == claimed.started_at <= attempt.finished_at
    assert (attempt.error_type, attempt.traceback) == ("ValueError", "a\n  b")
    assert attempt.message == "it's \\x00 no ☃"
    assert await claim(storage) == ()
    await engine.advance(61)
    assert [one.attempt for one in await claim(storage)] == [2]


async def test_a_snoozed_attempt_is_not_counted(engine: Engine) -> None:
    """A snooze is scheduled for later and gives the attempt back; it stays on record as snoozed."""
    storage = engine.storage
    claimed = await start(storage, job(max_attempts=1))
    await storage.attempts.finish([end(claimed, Transition.SNOOZE, delay=60.0)])
    record = await look(storage, claimed.id)
    assert (record.state, record.attempt, record.finished_at) == (State.SCHEDULED, 0, None)
    assert [(one.number, one.end) for one in record.attempts] == [(1, End.SNOOZED)]
    await engine.advance(61)
    assert (await look(storage, claimed.id)).state is State.AVAILABLE
    (again,) = await claim(storage)
    assert (again.attempt, [one.end for one in again.attempts]) == (1, [End.SNOOZED])


async def test_an_interrupted_attempt_is_given_back(storage: Storage) -> None:
    """It is available immediately; the attempt is not counted, and a record has the reason."""
    claimed = await start(storage, job(priority=4))
    await storage.attempts.finish([end(claimed, Transition.GIVE_BACK, message="shutdown")])
    record = await look(storage, claimed.id)
    assert (record.state, record.attempt, record.priority) == (State.AVAILABLE, 0, 4)
    assert [(one.end, one.message) for one in record.attempts] == [(End.INTERRUPTED, "shutdown")]
    assert [one.id for one in await claim(storage)] == [claimed.id]


async def test_a_job_never_started_leaves_no_record(storage: Storage) -> None:
    """A claimed job that is given back unstarted is as if it had never been claimed."""
    claimed = await start(storage)
    await storage.attempts.finish([end(claimed, Transition.GIVE_BACK, end=None)])
    record = await look(storage, claimed.id)
    assert (record.state, record.attempt, record.attempts) == (State.AVAILABLE, 0, ())


async def test_a_discarded_job(storage: Storage) -> None:
    """The dead letter keeps its payload, its times and the error."""
    claimed = await start(storage, job(args={"a": 1}))
    await storage.attempts.finish(
        [end(claimed, Transition.DISCARD, error_type="E", message="m", traceback="t")]
    )
    record = await look(storage, claimed.id)
    assert (record.state, record.args, record.result) == (State.DISCARDED, {"a": 1}, None)
    assert record.finished_at is not None
    (attempt,) = record.attempts
    assert (attempt.end, attempt.error_type, attempt.message) == (End.FAILED, "E", "m")


async def test_a_job_that_cancels_itself(storage: Storage) -> None:
    """The message of a cancel outcome is the cancel reason."""
    claimed = await start(storage)
    await storage.attempts.finish([end(claimed, Transition.CANCEL, message="not needed")])
    record = await look(storage, claimed.id)
    assert (record.state, record.cancel_reason) == (State.CANCELLED, "not needed")
    assert record.finished_at is not None
    assert [(one.end, one.message) for one in record.attempts] == [(End.CANCELLED, "not needed")]


@pytest.mark.parametrize(
    "ended", [one for one in End if one not in {End.FINISHED, End.LEASE_LOST}], ids=lambda one: one.value
)
async def test_every_end_is_recorded_as_it_was(storage: Storage, ended: End) -> None:
    """The record has the worker's message."""
    claimed = await start(storage)
    await storage.attempts.finish([end(claimed, Transition.RETRY, end=ended, message="m")])
    assert [one.end for one in (await look(storage, claimed.id)).attempts] == [ended]


async def test_attempts_are_kept_oldest_first(storage: Storage) -> None:
    """All attempts stay on record, the clean last one too."""
    await add(storage, job(max_attempts=None))
    for n in range(4):
        (claimed,) = await claim(storage)
        assert claimed.attempt == n + 1
        await storage.attempts.finish([end(claimed, Transition.RETRY, message=f"m{n}")])
    (claimed,) = await claim(storage)
    await complete(storage, claimed)
    attempts = (await look(storage, claimed.id)).attempts
    assert [(one.number, one.message) for one in attempts] == [
        (1, "m0"),
        (2, "m1"),
        (3, "m2"),
        (4, "m3"),
        (5, None),
    ]
    assert [one.started_at for one in attempts] == sorted(one.started_at for one in attempts)


async def test_the_newest_hundred_attempts_are_kept(storage: Storage) -> None:
    """A job that fails forever does not fill the disk."""
    (id,) = await add(storage, job(max_attempts=None))
    for _ in range(105):
        (claimed,) = await claim(storage)
        await storage.attempts.finish([end(claimed, Transition.RETRY, message="m")])
    attempts = (await look(storage, id)).attempts
    assert [one.number for one in attempts] == list(range(6, 106))
    (claimed,) = await claim(storage)
    assert [one.number for one in claimed.attempts] == list(range(6, 106))


async def test_a_success_after_failures_is_a_success(storage: Storage) -> None:
    """Earlier failures do not change the final state."""
    first = await start(storage)
    await storage.attempts.finish([end(first, Transition.RETRY, message="no")])
    (second,) = await claim(storage)
    await complete(storage, second, result='"yes"')
    record = await look(storage, first.id)
    assert (record.state, record.result, record.attempt) == (State.COMPLETED, "yes", 2)
    assert [one.end for one in record.attempts] == [End.FAILED, End.FINISHED]


async def test_all_kinds_of_outcomes_in_one_batch(storage: Storage) -> None:
    """Each job gets its own outcome, in one transaction, whatever the others get."""
    ids = await add(storage, *(job(args={"n": n}) for n in range(6)))
    by_id = {one.id: one for one in await claim(storage)}
    events = list(_STATES)
    outcomes = [
        end(
            by_id[id],
            event,
            delay=60.0 * (event in {Transition.RETRY, Transition.SNOOZE}),
            message=event.value,
        )
        for id, event in zip(ids, events, strict=True)
    ]
    assert await storage.attempts.finish(list(reversed(outcomes))) == ()
    assert await states(storage, ids) == [_STATES[event].value for event in events]
    for id, event in zip(ids, events, strict=True):
        assert (await look(storage, id)).attempts[-1].message in {event.value, None}


_STATES = {
    Transition.COMPLETE: State.COMPLETED,
    Transition.RETRY: State.RETRYABLE,
    Transition.SNOOZE: State.SCHEDULED,
    Transition.GIVE_BACK: State.AVAILABLE,
    Transition.DISCARD: State.DISCARDED,
    Transition.CANCEL: State.CANCELLED,
}


async def test_a_large_batch(storage: Storage) -> None:
    """Hundreds of outcomes at once, each with its own result."""
    await add(storage, *(job(args={"n": n}) for n in range(700)))
    batch = await claim(storage)
    assert len(batch) == 700
    assert await storage.attempts.finish([end(one, result=one.args) for one in batch]) == ()
    records = await storage.jobs.query(where.everything())
    assert all(one.state is State.COMPLETED and one.result == one.args for one in records)


async def test_refused_and_landed_in_one_batch(storage: Storage) -> None:
    """A stale outcome is reported and does not affect the others."""
    good, gone, stale = await start(storage), await start(storage), await start(storage)
    await storage.jobs.delete(where.id(gone.id))
    wrong = JobRef(stale.id, stale.lease + 1000)
    refused = await storage.attempts.finish([end(gone), end(good), end(wrong)])
    assert sorted(refused) == sorted([ref(gone), wrong])
    assert await states(storage, [good.id, stale.id]) == ["completed", "executing"]


async def test_a_refused_write_leaves_all_outcomes_unwritten(engine: Engine) -> None:
    """When the database fails on one outcome of a batch none is written, and all can be written later."""
    storage = engine.storage
    first, second = await start(storage), await start(storage)
    await engine.refuse("update", f"new.id = {second.id} and new.finished_at is not null")
    with pytest.raises(StorageError):
        await storage.attempts.finish([end(first), end(second)])
    assert await states(storage) == ["executing", "executing"]
    assert await storage.attempts.finish([end(first), end(second, Transition.RETRY)]) == ()


@pytest.mark.parametrize("event", _STATES, ids=lambda event: event.value)
async def test_the_same_outcome_again_counts_as_landed(engine: Engine, event: Transition) -> None:
    """The reply was lost, so the worker sends it again: it is not refused, and not one byte changes."""
    storage = engine.storage
    claimed = await start(storage)
    outcome = end(
        claimed, event, delay=60.0, message="m", result='"r"' if event is Transition.COMPLETE else None
    )
    assert await storage.attempts.finish([outcome]) == ()
    before = await engine.everything()
    await engine.advance(0)
    assert await storage.attempts.finish([outcome]) == ()
    assert (await storage.attempts.exchange([outcome], ask(limit=0))).refused == ()
    assert await engine.everything() == before


@pytest.mark.parametrize(
    "event", [Transition.RETRY, Transition.DISCARD, Transition.CANCEL], ids=lambda event: event.value
)
async def test_another_outcome_under_the_same_lease_changes_nothing(
    engine: Engine, event: Transition
) -> None:
    """The first outcome is kept."""
    storage = engine.storage
    claimed = await start(storage)
    await complete(storage, claimed, result="1")
    before = await engine.everything()
    await storage.attempts.finish([end(claimed, event, message="m")])
    assert await engine.everything() == before


async def test_landed_and_new_outcomes_in_one_batch(storage: Storage) -> None:
    """A batch that is sent again with more outcomes is written only once."""
    first, second = await start(storage), await start(storage)
    await complete(storage, first)
    assert await storage.attempts.finish([end(first), end(second)]) == ()
    assert await states(storage) == ["completed", "completed"]


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (Transition.RETRY, State.CANCELLED),
        (Transition.SNOOZE, State.CANCELLED),
        (Transition.GIVE_BACK, State.CANCELLED),
        (Transition.CANCEL, State.CANCELLED),
        (Transition.COMPLETE, State.COMPLETED),
        (Transition.DISCARD, State.DISCARDED),
    ],
    ids=lambda value: value.value,
)
async def test_an_operators_cancel_meets_an_outcome(
    storage: Storage, event: Transition, state: State
) -> None:
    """A job that would run again is cancelled with the operator's reason; a final outcome is unchanged."""
    claimed = await start(storage)
    assert await storage.jobs.cancel(where.id(claimed.id), "operator says so") == (0, 1)
    await storage.attempts.finish([end(claimed, event, delay=60.0, message="attempt's own")])
    record = await look(storage, claimed.id)
    assert record.state is state
    assert record.finished_at is not None
    if event is Transition.CANCEL:
        assert record.cancel_reason == "attempt's own"
    else:
        assert record.cancel_reason == ("operator says so" if state is State.CANCELLED else None)
    assert await claim(storage) == ()


async def test_a_job_given_back_unstarted_honours_a_cancel(storage: Storage) -> None:
    """A claimed job that was cancelled before it began does not run again."""
    claimed = await start(storage)
    await storage.jobs.cancel(where.id(claimed.id), "enough")
    await storage.attempts.finish([end(claimed, Transition.GIVE_BACK, end=None)])
    record = await look(storage, claimed.id)
    assert (record.state, record.cancel_reason) == (State.CANCELLED, "enough")


async def test_a_completion_forgets_the_request_to_cancel(storage: Storage) -> None:
    """A job that completed first is completed, whole: rerun, it is not cancelled by the old request."""
    claimed = await start(storage)
    await storage.jobs.cancel(where.id(claimed.id), "too late")
    await complete(storage, claimed)
    assert await storage.jobs.rerun(where.id(claimed.id)) == 1
    (again,) = await claim(storage)
    assert (await storage.workers.changes("w1")).cancels == ()
    await storage.attempts.finish([end(again, Transition.RETRY, delay=1.0)])
    assert (await look(storage, claimed.id)).state is State.RETRYABLE


@pytest.mark.parametrize("event", _STATES, ids=lambda event: event.value)
async def test_finished_at_is_set_for_final_states_only(storage: Storage, event: Transition) -> None:
    """A job that will run again has no finish time."""
    claimed = await start(storage)
    await storage.attempts.finish([end(claimed, event)])
    record = await look(storage, claimed.id)
    assert (record.finished_at is not None) == (record.state in FINAL)


async def test_details_survive_the_end(storage: Storage) -> None:
    """Progress and checkpoint are still there when the job is over."""
    claimed = await start(storage)
    await storage.attempts.save(ref(claimed), progress='{"done": 2, "total": 2, "note": "n"}', saved="[1]")
    await complete(storage, claimed, result="3")
    record = await look(storage, claimed.id)
    assert (record.progress, record.saved, record.result) == (Progress(2, 2, "n"), [1], 3)


async def test_attempts_beyond_the_maximum_are_the_workers_affair(storage: Storage) -> None:
    """The storage writes the given outcome: its callers decide whether a failure is the last one."""
    claimed = await start(storage, job(max_attempts=1))
    await storage.attempts.finish([end(claimed, Transition.RETRY)])
    (again,) = await claim(storage)
    assert (again.attempt, again.max_attempts) == (2, 1)


@pytest.mark.parametrize("delay", [0.0, 0.001, 1e9])
async def test_delays_of_any_length(storage: Storage, delay: Any) -> None:
    """Delays from zero to thirty years work."""
    claimed = await start(storage)
    before = await storage.schema.now()
    await storage.attempts.finish([end(claimed, Transition.RETRY, delay=delay)])
    wait = timedelta(seconds=delay)
    record = await look(storage, claimed.id)
    assert before + wait <= record.schedule_at <= await storage.schema.now() + wait
