"""`AttemptStore.exchange`, the claiming half: which jobs, in which order, under which lease."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
import trio

from jobrt._core import where
from jobrt._core.job import JobRef
from jobrt._core.limits import Demand
from jobrt._core.states import End, State, Transition
from jobrt._core.worker_info import WorkerInfo
from jobrt._storage.contract import Exchange, Storage
from tests.conformance.build import add, ask, claim, complete, end, job, look, ref, start, states
from tests.conformance.harness import PATIENCE, Engine

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


async def test_nothing_to_claim(storage: Storage) -> None:
    """An empty queue gives no jobs and refuses nothing."""
    exchange = await storage.attempts.exchange((), ask())
    assert exchange == Exchange((), (), None, exchange.at)


async def test_a_claimed_job_is_as_it_was_enqueued(storage: Storage) -> None:
    """A claim has all values that an attempt needs; a first attempt has no history."""
    await add(
        storage,
        job(
            "mail.send",
            {"to": "a@b.c"},
            queue="mail",
            priority=3,
            max_attempts=7,
            timeout=1.5,
            tags=("b", "a"),
            metadata={"m": 1},
            context="why",
        ),
    )
    (claimed,) = await claim(storage, "mail.send", queue="mail")
    record = await look(storage, claimed.id)
    assert (claimed.name, claimed.queue, claimed.priority) == ("mail.send", "mail", 3)
    assert (claimed.attempt, claimed.max_attempts, claimed.timeout) == (1, 7, 1.5)
    assert (json.loads(claimed.args), json.loads(claimed.metadata)) == ({"to": "a@b.c"}, {"m": 1})
    assert (claimed.tags, claimed.context) == (("b", "a"), "why")
    assert (claimed.saved, claimed.progress, claimed.attempts) == (None, None, ())
    assert (claimed.created_at, claimed.schedule_at) == (record.created_at, record.schedule_at)
    assert claimed.started_at == record.started_at


async def test_a_claim_makes_the_job_executing(engine: Engine) -> None:
    """The row shows who runs it since when, and counts the attempt."""
    storage = engine.storage
    (id,) = await add(storage, job())
    before = await storage.schema.now()
    await claim(storage, worker="w7")
    record = await look(storage, id)
    assert (record.state, record.worker, record.attempt) == (State.EXECUTING, "w7", 1)
    assert record.started_at is not None
    assert before <= record.started_at <= await storage.schema.now()
    assert (record.finished_at, record.attempts) == (None, ())


async def test_a_claimed_job_is_not_claimed_again(storage: Storage) -> None:
    """A job has one owner at a time, whichever worker claims."""
    await start(storage)
    assert await claim(storage) == ()
    assert await claim(storage, worker="w2") == ()


async def test_the_order_is_priority_then_due_time_then_id(storage: Storage) -> None:
    """Higher priorities first, negative ones last; then what has been due longest; then the lowest id."""
    now = await storage.schema.now()
    given = [(0, 10), (5, 10), (-3, 99), (5, 20), (0, 10), (0, 30), (5, 10), (100, 1), (0, 20)]
    jobs = [job(priority=priority, schedule_at=now - ago * SECOND) for priority, ago in given]
    ids = await add(storage, *jobs)
    wanted = [id for _, _, id in sorted((-one, -ago, id) for (one, ago), id in zip(given, ids, strict=True))]
    assert [one.id for one in await claim(storage)] == wanted


async def test_the_order_holds_over_several_claims(storage: Storage) -> None:
    """Claiming three at a time gives the same order as claiming all at once."""
    ids = await add(storage, *(job(priority=n % 4, args={"n": n}) for n in range(20)))
    wanted = [id for _, id in sorted((-(n % 4), id) for n, id in enumerate(ids))]
    got: list[int] = []
    while batch := await claim(storage, limit=3):
        assert len(batch) <= 3
        got += [one.id for one in batch]
    assert got == wanted


async def test_a_limit_is_not_exceeded(storage: Storage) -> None:
    """At most `limit` jobs, of all names together."""
    await add(storage, *(job(f"n{n % 3}") for n in range(9)))
    assert len(await claim(storage, "n0", "n1", "n2", limit=4)) == 4
    assert sorted(set(await states(storage))) == ["available", "executing"]


@pytest.mark.parametrize(
    "demand",
    [Demand("w1", "default", 0, ("send",)), Demand("w1", "default", 5, ()), Demand("w1", "default", 0, ())],
    ids=["no room", "no names", "neither"],
)
async def test_an_empty_demand_claims_nothing(storage: Storage, demand: Demand) -> None:
    """With no limit left, or without names, nothing is claimed."""
    (id,) = await add(storage, job())
    assert (await storage.attempts.exchange((), demand)).jobs == ()
    assert (await look(storage, id)).state is State.AVAILABLE


async def test_other_queues_are_left_alone(storage: Storage) -> None:
    """A demand names one queue."""
    here, _ = await add(storage, job(queue="a"), job(queue="b", priority=9))
    assert [one.id for one in await claim(storage, queue="a")] == [here]


async def test_unknown_names_are_left_alone(storage: Storage) -> None:
    """Jobs that no worker here can run are left, and do not block others."""
    unknown, known = await add(storage, job("strange", priority=9), job("send"))
    assert [one.id for one in await claim(storage, "send", limit=1)] == [known]
    record = await look(storage, unknown)
    assert (record.state, record.attempt) == (State.AVAILABLE, 0)


async def test_many_unknown_jobs_ahead_do_not_hide_a_known_one(storage: Storage) -> None:
    """However many jobs of other names come first, the one that can run is found."""
    await add(storage, *(job("strange", priority=9) for _ in range(1200)))
    (known,) = await add(storage, job("send"))
    assert [one.id for one in await claim(storage, limit=1)] == [known]


async def test_future_jobs_are_not_claimed(engine: Engine) -> None:
    """A job is claimed when it is due, not before."""
    storage = engine.storage
    (id,) = await add(storage, job(delay=HOUR, priority=9))
    assert await claim(storage) == ()
    await engine.advance(3000)
    assert await claim(storage) == ()
    await engine.advance(601)
    assert [one.id for one in await claim(storage)] == [id]


async def test_a_claim_says_when_the_next_job_is_due(storage: Storage) -> None:
    """A claim below its limit returns the seconds until the queue's first future job is due."""
    await add(storage, job(), job(delay=HOUR), job(delay=2 * HOUR), job(queue="other", delay=SECOND))
    exchange = await storage.attempts.exchange((), ask())
    assert len(exchange.jobs) == 1
    assert exchange.next_due == pytest.approx(3600, abs=50)


async def test_without_future_jobs_there_is_no_next(storage: Storage) -> None:
    """Claimed and finished jobs do not count for the next due time."""
    await complete(storage, await start(storage))
    await add(storage, job())
    assert (await storage.attempts.exchange((), ask())).next_due is None


async def test_leases_are_never_given_out_twice(engine: Engine) -> None:
    """Every claim has a lease of its own: for the same job, after a rerun, by another process, after a deletion."""
    storage = engine.storage
    seen = set()
    (id,) = await add(storage, job(max_attempts=None))
    async with engine.open() as other:
        for at in (storage, other, storage, other):
            (claimed,) = await claim(at)
            assert claimed.lease not in seen
            seen.add(claimed.lease)
            await at.attempts.finish([end(claimed, Transition.RETRY)])
    assert await storage.jobs.delete(where.id(id)) == 1
    assert (await start(storage)).lease not in seen


async def test_leases_are_never_given_out_twice_over_a_restart(engine: Engine, shareable: None) -> None:
    """A restarted process does not reuse old numbers."""
    async with engine.open() as other:
        first = await start(other)
        await other.jobs.delete(where.everything())
    async with engine.open() as again:
        assert (await start(again)).lease != first.lease


async def test_a_capped_name_gets_no_more_than_its_number(storage: Storage) -> None:
    """Each capped name gets at most its cap; the other names fill the rest, in order."""
    order = ["a", "a", "b", "a", "c", "b", "a", "c"]
    ids = await add(storage, *(job(name) for name in order))
    got = await claim(storage, "c", capped=(("a", 2), ("b", 1)))
    assert [one.id for one in got] == [ids[0], ids[1], ids[2], ids[4], ids[7]]


async def test_capped_names_share_the_limit(storage: Storage) -> None:
    """The limit is for all names together, capped or not."""
    ids = await add(storage, *(job(name) for name in ("a", "b", "c", "a")))
    got = await claim(storage, "c", capped=(("a", 5), ("b", 5)), limit=3)
    assert [one.id for one in got] == ids[:3]


async def test_only_capped_names(storage: Storage) -> None:
    """A demand may have only capped names; other names are not claimed."""
    ids = await add(storage, job("x"), job("a", priority=1), job("a", priority=2), job("a", priority=3))
    got = await claim(storage, capped=(("a", 2),))
    assert [one.id for one in got] == [ids[3], ids[2]]


async def test_many_jobs_of_a_full_name_do_not_hide_the_others(storage: Storage) -> None:
    """A name at its cap does not use up the limit for other names."""
    await add(storage, *(job("slow", priority=9) for _ in range(500)))
    (quick,) = await add(storage, job("quick"))
    got = await claim(storage, "quick", capped=(("slow", 1),), limit=5)
    assert [one.name for one in got] == ["slow", "quick"]
    assert got[1].id == quick


async def test_a_paused_queue_gives_nothing(storage: Storage) -> None:
    """A pause applies to every worker; after resuming, jobs are claimed in order."""
    (id,) = await add(storage, job())
    await storage.queues.set("default", paused=True)
    assert await claim(storage) == ()
    await storage.queues.set("default", paused=False)
    assert [one.id for one in await claim(storage)] == [id]


async def test_a_paused_queue_still_takes_outcomes(storage: Storage) -> None:
    """Jobs that run when a queue is paused may finish."""
    claimed = await start(storage)
    await add(storage, job())
    await storage.queues.set("default", paused=True)
    exchange = await storage.attempts.exchange([end(claimed)], ask())
    assert (exchange.refused, exchange.jobs) == ((), ())
    assert await states(storage) == ["completed", "available"]


async def test_pausing_one_queue_leaves_the_others(storage: Storage) -> None:
    """Each queue has its own settings."""
    await add(storage, job(queue="a"), job(queue="b"))
    await storage.queues.set("a", paused=True)
    assert await claim(storage, queue="a") == ()
    assert len(await claim(storage, queue="b")) == 1


async def test_outcomes_and_a_claim_travel_together(storage: Storage) -> None:
    """One call writes outcomes, returns the refused ones, and claims due jobs."""
    first, second = await start(storage), await start(storage)
    (waiting,) = await add(storage, job())
    stale = JobRef(second.id, second.lease + 1000)
    exchange = await storage.attempts.exchange([end(first), end(stale)], ask())
    assert exchange.refused == (stale,)
    assert [one.id for one in exchange.jobs] == [waiting]
    assert await states(storage) == ["completed", "executing", "executing"]


async def test_outcomes_without_a_claim(storage: Storage) -> None:
    """The claim may be empty: the outcomes are written."""
    claimed = await start(storage)
    exchange = await storage.attempts.exchange([end(claimed)], ask(limit=0))
    assert exchange == Exchange((), (), exchange.next_due, exchange.at)
    assert await states(storage) == ["completed"]


async def test_a_job_whose_outcome_travels_may_be_claimed_by_the_same_call(storage: Storage) -> None:
    """A job given back is available: this claim or the next one returns it, and it is not lost."""
    claimed = await start(storage)
    exchange = await storage.attempts.exchange([end(claimed, Transition.GIVE_BACK)], ask())
    again = exchange.jobs or await claim(storage)
    assert [(one.id, one.attempt) for one in again] == [(claimed.id, 1)]
    assert again[0].lease != claimed.lease


async def test_a_retried_job_keeps_its_priority(engine: Engine) -> None:
    """When its delay is over it precedes jobs of lower priority that waited all the time."""
    storage = engine.storage
    claimed = await start(storage, job(priority=5))
    await storage.attempts.finish([end(claimed, Transition.RETRY, delay=60.0, message="no")])
    low, high = await add(storage, job(priority=1), job(priority=9))
    assert [one.id for one in await claim(storage, limit=1)] == [high]
    await engine.advance(61)
    assert [one.id for one in await claim(storage)] == [claimed.id, low]


async def test_a_rescued_job_keeps_its_place(engine: Engine) -> None:
    """Its priority and its due time put it before all that came after it."""
    storage = engine.storage
    claimed = await start(storage, job(priority=5), worker="gone")
    low, same, high = await add(storage, job(priority=1), job(priority=5), job(priority=9))
    assert len(await storage.workers.rescue()) == 1
    assert [one.id for one in await claim(storage)] == [high, claimed.id, same, low]


async def test_a_job_given_back_keeps_its_place(storage: Storage) -> None:
    """A job that a stopping worker gives back is first in the order again."""
    claimed = await start(storage)
    await add(storage, job(), job())
    await storage.attempts.finish([end(claimed, Transition.GIVE_BACK, end=None)])
    assert (await claim(storage))[0].id == claimed.id


async def test_a_second_attempt_knows_the_first(storage: Storage) -> None:
    """A job that has been run before brings its records, checkpoint and progress along."""
    first = await start(storage)
    await storage.attempts.save(
        ref(first), progress='{"done": 1, "total": 2, "note": ""}', saved='{"page": 7}'
    )
    await storage.attempts.finish(
        [end(first, Transition.RETRY, error_type="ValueError", message="no", traceback="tb")]
    )
    (second,) = await claim(storage)
    assert (second.id, second.attempt) == (first.id, 2)
    assert json.loads(second.saved or "") == {"page": 7}
    assert json.loads(second.progress or "") == {"done": 1, "total": 2, "note": ""}
    (record,) = second.attempts
    assert (record.number, record.end, record.worker) == (1, End.FAILED, "w1")
    assert (record.error_type, record.message, record.traceback) == ("ValueError", "no", "tb")


async def test_the_past_goes_to_the_right_job(storage: Storage) -> None:
    """In a batch of new and old jobs each has its own history."""
    await add(storage, *(job(args={"n": n}) for n in range(6)))
    old = [one for one in await claim(storage) if json.loads(one.args)["n"] % 2]
    others = [one for one in await storage.jobs.query(where.state("executing")) if one.args["n"] % 2 == 0]
    for one in old:
        await storage.attempts.save(ref(one), saved=one.args)
    await storage.attempts.finish([end(one, Transition.RETRY, message=one.args) for one in old])
    await add(storage, *(job(args={"n": n}) for n in range(10, 13)))
    for one in await claim(storage):
        n = json.loads(one.args)["n"]
        assert (one.saved is not None) == (n < 10)
        assert [record.message for record in one.attempts] == ([one.args] if n < 10 else [])
    assert len(others) == 3


async def test_many_workers_drain_a_queue_each_job_once(engine: Engine) -> None:
    """Concurrent claims never return a job twice, never lose one, and never return one out of order."""
    number, done = 300, []

    async def work(storage: Storage, worker: str) -> None:
        while batch := await claim(storage, limit=7, worker=worker):
            done.extend((one.id, one.attempt) for one in batch)
            await complete(storage, *batch)

    ids = await add(engine.storage, *(job(priority=n % 3) for n in range(number)))
    async with engine.open() as other, engine.open() as third:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for n, storage in enumerate([engine.storage, other, third] * 3):
                    nursery.start_soon(work, storage, f"w{n}")
    assert sorted(done) == [(id, 1) for id in ids]
    assert set(await states(engine.storage)) == {"completed"}


async def test_release_unknown_gives_back_what_nobody_heard_of(storage: Storage) -> None:
    """After a lost reply to a claim its jobs are available again, without a record or a counted attempt."""
    heard, lost = await start(storage), await start(storage)
    assert await storage.attempts.release_unknown("w1", "default", [ref(heard)]) == 1
    assert await states(storage) == ["executing", "available"]
    record = await look(storage, lost.id)
    assert (record.attempt, record.attempts) == (0, ())
    (again,) = await claim(storage)
    assert (again.id, again.attempt, again.attempts) == (lost.id, 1, ())


async def test_release_unknown_touches_one_queue_of_one_worker(storage: Storage) -> None:
    """Jobs of other workers and other queues are unchanged; repeating the call does nothing."""
    await start(storage, job(queue="a"), worker="w1")
    await start(storage, job(queue="b"), worker="w1")
    await start(storage, job(queue="a"), worker="w2")
    assert await storage.attempts.release_unknown("w1", "a", []) == 1
    assert await storage.attempts.release_unknown("w1", "a", []) == 0
    assert await states(storage) == ["available", "executing", "executing"]


async def test_release_unknown_goes_by_the_lease(storage: Storage) -> None:
    """An older known lease of the job does not protect this one; the released lease is refused afterwards."""
    first = await start(storage)
    await storage.attempts.finish([end(first, Transition.GIVE_BACK, end=None)])
    (second,) = await claim(storage)
    assert await storage.attempts.release_unknown("w1", "default", [ref(first)]) == 1
    assert await storage.attempts.finish([end(second)]) == (ref(second),)


async def test_release_unknown_honours_a_cancel_request(storage: Storage) -> None:
    """As for any job given back: one with a cancel request becomes cancelled."""
    claimed = await start(storage)
    await storage.jobs.cancel(where.id(claimed.id), "enough")
    await storage.attempts.release_unknown("w1", "default", [])
    record = await look(storage, claimed.id)
    assert (record.state, record.cancel_reason) == (State.CANCELLED, "enough")


async def test_a_cancelled_claim_leaves_nothing_executing(engine: Engine) -> None:
    """A claim cancelled at any moment has claimed nothing, or `release_unknown` gives its jobs back."""
    storage = engine.storage
    await storage.workers.register("w1", lease=30, info=WorkerInfo())
    await add(storage, *(job() for _ in range(5)))
    for checkpoints in range(12):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_after, scope, checkpoints)
                batch = await claim(storage)
                await complete(storage, *batch)
                nursery.cancel_scope.cancel()
        await storage.attempts.release_unknown("w1", "default", [])
        assert await storage.jobs.count(where.state("executing")) == 0


async def _cancel_after(scope: trio.CancelScope, checkpoints: int) -> None:
    for _ in range(checkpoints):
        await trio.lowlevel.checkpoint()
    scope.cancel()
