"""Managing jobs and queues: cancel, rerun, update, delete, await, and queues' settings."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta
from typing import Any

import attrs
import pytest
import trio

from jobrt._core import where
from jobrt._core.job import Claimed, Wait
from jobrt._core.queues import QueueStatus
from jobrt._core.scopes import Child
from jobrt._core.states import ALL, FINAL, HELD, UNSTARTED, End, State, Transition
from jobrt._storage.contract import Storage
from tests.conformance.build import add, claim, complete, end, job, look, ref, start, states
from tests.conformance.harness import PATIENCE, Engine

MINUTE = timedelta(minutes=1)
EVERYTHING = where.everything()


async def one_of_each(storage: Storage) -> dict[State, int]:
    """Store one job in every state, each with a payload that names it; they are not due when not final.

    The one that executes is a child, for which the one that is closing waits.
    """
    events = [Transition.RETRY, Transition.COMPLETE, Transition.CANCEL, Transition.DISCARD]
    found: dict[State, int] = {}
    for event in events:
        claimed = await start(storage, job(args={"event": event.value}))
        await storage.attempts.finish([end(claimed, event, delay=60.0, message="m", result="1")])
        found[(await look(storage, claimed.id)).state] = claimed.id
    slept = await start(storage)
    await storage.scopes.sleep(ref(slept), "night", seconds=3600)
    await storage.attempts.finish([end(slept, Transition.SUSPEND, wait=Wait("sleep", "night"))])
    found[State.SUSPENDED] = slept.id
    parent = await start(storage)
    await storage.scopes.open(ref(parent), "children", on_failure="cancel", seconds=None)
    await storage.scopes.enqueue(ref(parent), "children", [Child("send", job())])
    found[State.EXECUTING] = (await claim(storage))[0].id
    await complete(storage, parent)
    found[State.CLOSING] = parent.id
    found[State.CLAIMED] = (await start(storage, ahead=True)).id
    found[State.SCHEDULED], found[State.AVAILABLE] = await add(storage, job(delay=MINUTE), job())
    assert set(found) == ALL
    return found


# ------------------------------------------------------------------ cancel


async def test_cancel_takes_waiting_jobs_and_asks_running_ones(storage: Storage) -> None:
    """Both numbers are returned; final jobs are unchanged; the reason is set immediately."""
    ids = await one_of_each(storage)
    final = {state: await look(storage, ids[state]) for state in FINAL}
    assert await storage.jobs.cancel(EVERYTHING, "enough") == (4, 2)
    for state in UNSTARTED | {State.SUSPENDED}:
        record = await look(storage, ids[state])
        assert (record.state, record.cancel_reason) == (State.CANCELLED, "enough")
        assert record.finished_at is not None
    for state in HELD:
        held = await look(storage, ids[state])
        assert (held.state, held.cancel_reason, held.finished_at) == (state, "enough", None)
    assert {state: await look(storage, ids[state]) for state in FINAL} == final


async def test_cancel_leaves_no_attempt_record(storage: Storage) -> None:
    """A job that never ran has no attempts; one that had run keeps what it had."""
    ids = await one_of_each(storage)
    await storage.jobs.cancel(EVERYTHING, "enough")
    assert (await look(storage, ids[State.AVAILABLE])).attempts == ()
    assert [one.end for one in (await look(storage, ids[State.RETRYABLE])).attempts] == [End.FAILED]


async def test_asking_twice_changes_nothing(storage: Storage) -> None:
    """Running jobs with a request are not counted again, and keep the first reason."""
    claimed = await start(storage)
    assert await storage.jobs.cancel(where.id(claimed.id), "first") == (0, 1)
    assert await storage.jobs.cancel(where.id(claimed.id), "second") == (0, 0)
    assert (await look(storage, claimed.id)).cancel_reason == "first"


async def test_a_cancelled_job_is_not_claimed(storage: Storage) -> None:
    """A cancelled job is not claimed."""
    await add(storage, job())
    await storage.jobs.cancel(EVERYTHING, "enough")
    assert await claim(storage) == ()


async def test_cancel_up_to_a_limit(storage: Storage) -> None:
    """Waiting and running ones together are at most the limit."""
    await add(storage, *(job() for _ in range(6)))
    await claim(storage, limit=3)
    waiting, asked = await storage.jobs.cancel(EVERYTHING, "some", limit=4)
    assert waiting + asked == 4
    rest = await storage.jobs.cancel(EVERYTHING, "rest", limit=100)
    assert sum(rest) == 2


async def test_cancel_while_the_queue_is_paused(storage: Storage) -> None:
    """A pause affects only claims."""
    claimed = await start(storage)
    await add(storage, job())
    await storage.queues.set("default", paused=True)
    assert await storage.jobs.cancel(EVERYTHING, "enough") == (1, 1)
    await storage.attempts.finish([end(claimed, Transition.CANCEL, message="enough")])
    assert await states(storage) == ["cancelled", "cancelled"]


# ------------------------------------------------------------------ rerun


async def test_rerun_makes_final_jobs_available(engine: Engine) -> None:
    """Final jobs are due immediately; all others are unchanged, running ones too."""
    storage = engine.storage
    ids = await one_of_each(storage)
    others = {state: await look(storage, ids[state]) for state in ALL - FINAL}
    assert await storage.jobs.rerun(EVERYTHING) == 3
    for state in FINAL:
        record = await look(storage, ids[state])
        assert record.state is State.AVAILABLE
        assert record.schedule_at <= await storage.schema.now()
        assert (record.result, record.cancel_reason, record.finished_at) == (None, None, None)
    assert {state: await look(storage, ids[state]) for state in ALL - FINAL} == others
    assert {one.id for one in await claim(storage)} == {ids[state] for state in FINAL | {State.AVAILABLE}}


@pytest.mark.parametrize(
    ("used", "allowed", "then"),
    [(1, 5, 5), (1, 1, 2), (3, 3, 4), (3, 2, 4), (1, None, None)],
    ids=["attempts left", "only one", "used up", "beyond", "no limit"],
)
async def test_rerun_gives_one_more_attempt(
    storage: Storage, used: int, allowed: int | None, then: int | None
) -> None:
    """An attempt is added only if none is left; the used ones stay counted."""
    (id,) = await add(storage, job(max_attempts=allowed))
    for n in range(used):
        (claimed,) = await claim(storage)
        await storage.attempts.finish(
            [end(claimed, Transition.DISCARD if n == used - 1 else Transition.RETRY, message="m")]
        )
    assert await storage.jobs.rerun(where.id(id)) == 1
    record = await look(storage, id)
    assert (record.attempt, record.max_attempts, len(record.attempts)) == (used, then, used)
    (claimed,) = await claim(storage)
    assert claimed.attempt == used + 1


async def test_rerun_keeps_what_the_job_has_learnt(storage: Storage) -> None:
    """Attempts, checkpoint and steps stay: also the record of a clean attempt."""
    claimed = await start(storage)
    await storage.attempts.save(ref(claimed), saved='{"page": 3}')
    await storage.attempts.save_step(ref(claimed), "fetch", "1")
    await complete(storage, claimed, result='"old"')
    before = await look(storage, claimed.id)
    await storage.jobs.rerun(where.id(claimed.id))
    record = await look(storage, claimed.id)
    assert (record.attempts, record.saved, record.result) == (before.attempts, {"page": 3}, None)
    (again,) = await claim(storage)
    assert json.loads(again.saved or "") == {"page": 3}
    assert [one.end for one in again.attempts] == [End.FINISHED]
    assert await storage.attempts.steps(ref(again)) == {"fetch": "1"}
    await complete(storage, again, result='"new"')
    record = await look(storage, claimed.id)
    assert record.result == "new"
    assert [(one.number, one.end) for one in record.attempts] == [(1, End.FINISHED), (2, End.FINISHED)]


async def test_rerun_up_to_a_limit(storage: Storage) -> None:
    """At most so many."""
    await add(storage, *(job() for _ in range(5)))
    await complete(storage, *await claim(storage))
    assert await storage.jobs.rerun(EVERYTHING, limit=2) == 2
    assert sorted(await states(storage)) == ["available"] * 2 + ["completed"] * 3


async def test_a_rerun_counts_as_one_job(storage: Storage) -> None:
    """The same row, the same id, created when it was."""
    claimed = await start(storage)
    created = (await look(storage, claimed.id)).created_at
    await complete(storage, claimed)
    await storage.jobs.rerun(EVERYTHING)
    assert (await look(storage, claimed.id)).created_at == created
    assert await storage.jobs.count(EVERYTHING) == 1


# ------------------------------------------------------------------ update

CHANGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"queue": "mail"}, {"queue": "mail"}),
    ({"priority": -3}, {"priority": -3}),
    ({"max_attempts": 9}, {"max_attempts": 9}),
    ({"max_attempts": None}, {"max_attempts": None}),
    ({"args": '{"a": [1, "\\u2603"]}'}, {"args": {"a": [1, "☃"]}}),
    ({"metadata": '{"m": null}'}, {"metadata": {"m": None}}),
    ({"tags": ("x", "y")}, {"tags": ("x", "y")}),
    ({"tags": ()}, {"tags": ()}),
    ({"context": "because"}, {"context": "because"}),
    ({"context": None}, {"context": None}),
    ({"priority": 1, "tags": ("z",), "args": "{}"}, {"priority": 1, "tags": ("z",), "args": {}}),
]


@pytest.mark.parametrize(("changes", "wanted"), CHANGES, ids=str)
async def test_update_changes_what_is_named(
    storage: Storage, changes: dict[str, Any], wanted: dict[str, Any]
) -> None:
    """The fields named have the new values and no others have changed."""
    (id,) = await add(storage, job(args={"old": 1}, tags=("old",), context="old", metadata={"old": 1}))
    before = await look(storage, id)
    assert await storage.jobs.update(where.id(id), changes) == 1
    assert await look(storage, id) == attrs.evolve(before, **wanted)


async def test_update_changes_waiting_jobs_only(storage: Storage) -> None:
    """Running and final ones are left alone and not counted."""
    ids = await one_of_each(storage)
    assert await storage.jobs.update(EVERYTHING, {"priority": 7, "context": "changed"}) == 3
    changed = {state for state in ALL if (await look(storage, ids[state])).priority == 7}
    assert changed == UNSTARTED


async def test_update_of_nothing(storage: Storage) -> None:
    """A filter that matches none changes none."""
    await add(storage, job())
    assert await storage.jobs.update(where.name("x"), {"priority": 7}) == 0


async def test_a_job_moves_to_another_queue(storage: Storage) -> None:
    """It is claimed from the new queue, in its place there."""
    (id,) = await add(storage, job())
    await storage.jobs.update(where.id(id), {"queue": "mail", "priority": 5})
    await add(storage, job(queue="mail"))
    assert await claim(storage) == ()
    assert (await claim(storage, queue="mail", limit=1))[0].id == id


async def test_update_of_the_timeout(storage: Storage) -> None:
    """A timeout is in seconds, or None to use the job class's."""
    ids = await add(storage, job(), job(timeout=3.0))
    await storage.jobs.update(where.id(ids[0]), {"timeout": 1.5})
    await storage.jobs.update(where.id(ids[1]), {"timeout": None})
    assert [one.timeout for one in await claim(storage)] == [1.5, None]


@pytest.mark.parametrize("how", ["delay", "schedule_at"])
async def test_a_job_is_put_off(storage: Storage, how: str) -> None:
    """By a delay from now, or to a time: available becomes scheduled, what waits for a retry stays retryable."""
    ids = await one_of_each(storage)
    moment = await storage.schema.now() + 10 * MINUTE
    changes = {"delay": 10 * MINUTE} if how == "delay" else {"schedule_at": moment}
    assert await storage.jobs.update(EVERYTHING, changes) == 3
    for state in UNSTARTED:
        record = await look(storage, ids[state])
        assert record.state is (State.RETRYABLE if state is State.RETRYABLE else State.SCHEDULED)
        assert timedelta(0) <= record.schedule_at - moment < MINUTE
        assert how == "delay" or record.schedule_at == moment
    assert await claim(storage) == ()


@pytest.mark.parametrize("how", ["delay", "schedule_at"])
async def test_a_job_is_brought_forward(storage: Storage, how: str) -> None:
    """A job moved to now, or to the past, can be claimed immediately."""
    scheduled, available = await add(storage, job(delay=MINUTE), job())
    past = await storage.schema.now() - MINUTE
    changes = {"delay": timedelta(0)} if how == "delay" else {"schedule_at": past}
    assert await storage.jobs.update(where.id(scheduled), changes) == 1
    assert (await look(storage, scheduled)).state is State.AVAILABLE
    assert {one.id for one in await claim(storage)} == {scheduled, available}


async def test_update_and_claim_race(engine: Engine) -> None:
    """A job is changed before it is claimed, and then the worker sees it; or not at all."""
    async with engine.open() as other:
        for _ in range(10):
            (id,) = await add(engine.storage, job())
            taken: list[Claimed] = []
            changed: list[int] = []

            async def take(taken: list[Claimed]) -> None:
                taken.extend(await claim(engine.storage))

            async def change(id: int, changed: list[int]) -> None:
                changed.append(await other.jobs.update(where.id(id), {"args": '{"new": 1}'}))

            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(take, taken)
                    nursery.start_soon(change, id, changed)
            if not taken:  # a claim skips rows that another transaction is writing
                await take(taken)
            assert json.loads(taken[0].args) == ({"new": 1} if changed == [1] else {})
            assert (await look(engine.storage, id)).args == json.loads(taken[0].args)


# ------------------------------------------------------------------ delete


async def test_delete_takes_jobs_of_all_states(storage: Storage) -> None:
    """Jobs and all their rows are deleted; other jobs are unchanged, and so is one with living children."""
    ids = await one_of_each(storage)
    (kept,) = await add(storage, job("kept"))
    assert await storage.jobs.delete(where.name("send")) == len(ids) - 1
    assert {one.id for one in await storage.jobs.query(EVERYTHING)} == {kept, ids[State.CLOSING]}


async def test_nothing_is_left_of_a_deleted_job(engine: Engine) -> None:
    """No attempts, results, steps or requests stay behind."""
    storage = engine.storage
    empty = await engine.everything()
    first = await start(storage)
    await storage.attempts.save(ref(first), progress='{"done": 1, "total": 1, "note": ""}', saved="1")
    await storage.attempts.save_step(ref(first), "fetch", "1")
    await storage.attempts.finish([end(first, Transition.RETRY, message="no")])
    (second,) = await claim(storage)
    await storage.jobs.cancel(EVERYTHING, "x")
    await storage.jobs.await_final([first.id])
    await complete(storage, second, result="1")
    await storage.jobs.await_final([first.id])
    assert await storage.jobs.delete(EVERYTHING) == 1
    left = {
        name for name, rows in (await engine.everything()).items() if len(rows) > len(empty.get(name, []))
    }
    rolled_up = {name for name in left if {"hour", "queue"} <= (await engine.tables())[name]}
    assert left - rolled_up <= await _not_about_jobs(engine)


async def _not_about_jobs(engine: Engine) -> set[str]:
    """Return the tables whose rows name no job."""
    job_table = await engine.job_table()
    return {
        name
        for name, columns in (await engine.tables()).items()
        if name != job_table and not columns & {"job_id", "job", "parent_id", "child_id", "parent", "child"}
    }


async def test_a_job_deleted_while_it_runs(storage: Storage) -> None:
    """Its outcome is refused later, and nothing comes back."""
    claimed = await start(storage)
    assert await storage.jobs.delete(where.id(claimed.id)) == 1
    assert await storage.attempts.finish([end(claimed, Transition.RETRY, message="no")]) == (ref(claimed),)
    assert await storage.jobs.get(claimed.id) is None
    assert await storage.workers.rescue() == ()


async def test_delete_up_to_a_limit(storage: Storage) -> None:
    """At most so many."""
    await add(storage, *(job() for _ in range(5)))
    assert await storage.jobs.delete(EVERYTHING, limit=2) == 2
    assert await storage.jobs.count(EVERYTHING) == 3


# ------------------------------------------------------------------ await


async def test_await_final_tells_each_jobs_state(storage: Storage) -> None:
    """The current state is returned; None for jobs that do not exist."""
    ids = await one_of_each(storage)
    states = await storage.jobs.await_final([*ids.values(), 10**9])
    assert states == {**{id: state.value for state, id in ids.items()}, 10**9: None}
    assert await storage.jobs.await_final([]) == {}


async def test_awaiting_changes_nothing_about_the_job(storage: Storage) -> None:
    """Awaiting a job does not change its record."""
    ids = await one_of_each(storage)
    before = await storage.jobs.query(EVERYTHING)
    await storage.jobs.await_final(list(ids.values()))
    assert await storage.jobs.query(EVERYTHING) == before


# ------------------------------------------------------------------ queues


async def _queue(storage: Storage, name: str) -> QueueStatus | None:
    return {one.name: one for one in await storage.queues.all()}.get(name)


async def test_no_queues(storage: Storage) -> None:
    """Nothing enqueued, nothing set: there are none."""
    assert await storage.queues.all() == ()


async def test_a_queue_shows_its_unfinished_jobs(engine: Engine) -> None:
    """Counts by state as of now: a due job counts as available; finished ones are not shown."""
    storage = engine.storage
    await one_of_each(storage)
    status = await _queue(storage, "default")
    assert status is not None
    counts = (status.available, status.scheduled, status.retryable, status.claimed, status.executing)
    assert (counts, status.paused, status.concurrency) == ((1, 1, 1, 1, 1), False, None)
    await engine.advance(61)
    status = await _queue(storage, "default")
    assert status is not None
    assert (status.available, status.scheduled, status.retryable, status.executing) == (2, 0, 1, 1)


async def test_queues_are_listed_by_name(storage: Storage) -> None:
    """Those with settings and those with unfinished jobs, each once."""
    await add(storage, job(queue="b"), job(queue="b"), job(queue="c", delay=MINUTE))
    await storage.queues.set("a", paused=True)
    await storage.queues.set("b", concurrency=2)
    await complete(storage, await start(storage, job(queue="done")))
    assert [(one.name, one.paused, one.concurrency) for one in await storage.queues.all()] == [
        ("a", True, None),
        ("b", False, 2),
        ("c", False, None),
    ]


async def test_a_queue_shows_how_long_its_oldest_waits(engine: Engine) -> None:
    """Seconds since the longest-due waiting job fell due; nothing when none is due."""
    storage = engine.storage
    await add(storage, job(delay=timedelta(seconds=100)))
    status = await _queue(storage, "default")
    assert status is not None
    assert status.oldest_due is None
    await engine.advance(160)
    await add(storage, job())
    status = await _queue(storage, "default")
    assert status is not None
    assert status.oldest_due == pytest.approx(60, abs=30)


async def test_queues_are_counted_no_further_than_asked(engine: Engine) -> None:
    """Counts up to the limit for each priority, due and future; the result says that there are more, not how many."""
    storage = engine.storage
    later = [job(name="later", delay=MINUTE) for _ in range(5)]
    await add(storage, *(job(priority=number % 2) for number in range(7)), *later, job(queue="few"))
    few, many = await storage.queues.all(limit=3), await storage.queues.all(limit=4)
    assert [(one.available, one.scheduled, one.more) for one in few] == [(6, 3, True), (1, 0, False)]
    assert [(one.available, one.scheduled, one.more) for one in many] == [(7, 4, True), (1, 0, False)]
    everything = [(one.available, one.scheduled, one.more) for one in await storage.queues.all()]
    assert everything == [(7, 5, False), (1, 0, False)]


async def test_queues_name_their_due_jobs(engine: Engine) -> None:
    """If no more than some are counted: each name once; what is not due is not among them."""
    storage = engine.storage
    await add(storage, job(name="b"), job(name="a", priority=3), job(name="a"), job(name="c", delay=MINUTE))
    assert [one.names for one in await storage.queues.all(limit=10)] == [("a", "b")]
    assert [one.names for one in await storage.queues.all()] == [()]
    await engine.advance(61)
    assert [one.names for one in await storage.queues.all(limit=10)] == [("a", "b", "c")]


async def test_settings_change_one_at_a_time(storage: Storage) -> None:
    """Settings that are not given are unchanged."""
    await storage.queues.set("a", paused=True)
    await storage.queues.set("a", concurrency=3)
    assert await storage.queues.all() == (QueueStatus(name="a", paused=True, concurrency=3),)
    await storage.queues.set("a", paused=False)
    assert await storage.queues.all() == (QueueStatus(name="a", paused=False, concurrency=3),)
    await storage.queues.set("a", concurrency="default")
    status = await _queue(storage, "a")
    assert status is None or (status.paused, status.concurrency) == (False, None)


async def test_settings_are_seen_by_all_and_survive_restarts(engine: Engine, shareable: None) -> None:
    """A pause is stored, not remembered by a process."""
    async with engine.open() as other:
        await other.queues.set("default", paused=True)
    await add(engine.storage, job())
    assert await claim(engine.storage) == ()
    async with engine.open() as again:
        assert [one.paused for one in await again.queues.all()] == [True]
        assert await claim(again) == ()


async def test_each_state_is_found(storage: Storage) -> None:
    """By itself, with others, and negated."""
    ids = await one_of_each(storage)
    for state, job_id in ids.items():
        found = [one.id for one in await storage.jobs.query(where.state(state))]
        assert found == [job_id], state
        assert await storage.jobs.count(~where.state(state)) == len(ids) - 1, state
    for one, other in itertools.combinations(ids, 2):
        assert await storage.jobs.count(where.state(one, other)) == 2, (one, other)
