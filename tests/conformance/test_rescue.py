"""`WorkerStore.rescue`: the jobs of dead workers run again, and those of live workers are unchanged."""

from __future__ import annotations

import pytest
import trio

from jobrt._core import where
from jobrt._core.job import Claimed
from jobrt._core.states import End, State
from jobrt._core.worker_info import WorkerInfo
from jobrt._storage.contract import Rescued, Storage
from tests.conformance.build import add, claim, complete, job, look, ref, start, states
from tests.conformance.harness import PATIENCE, Engine

LEASE = 30


async def _alive(storage: Storage, worker: str = "w1", **options: object) -> Claimed:
    """Let a registered worker run a job."""
    await storage.workers.register(worker, lease=LEASE, info=WorkerInfo())
    return await start(storage, job(**options), worker=worker)


async def test_nothing_to_rescue(storage: Storage) -> None:
    """No workers, no jobs, waiting jobs, final jobs: nothing is rescued."""
    assert await storage.workers.rescue() == ()
    await complete(storage, await start(storage))
    await add(storage, job())
    assert await storage.workers.rescue() == ()
    assert await states(storage) == ["completed", "available"]


async def test_a_dead_workers_job_runs_again(engine: Engine) -> None:
    """The crashed attempt counts and is on record; the job is due at once, priority and due time kept."""
    storage = engine.storage
    claimed = await _alive(storage, priority=3)
    early = await look(storage, claimed.id)
    waited = early.schedule_at - early.created_at
    await engine.advance(LEASE + 1)
    assert await storage.workers.rescue() == (Rescued(claimed.id, "send", "default", "w1", "retryable"),)
    record = await look(storage, claimed.id)
    assert (record.state, record.attempt, record.priority) == (State.RETRYABLE, 1, 3)
    assert record.schedule_at - record.created_at == waited
    assert (record.finished_at, record.cancel_reason) == (None, None)
    (attempt,) = record.attempts
    assert (attempt.number, attempt.end, attempt.worker) == (1, End.CRASHED, "w1")
    assert attempt.started_at <= attempt.finished_at
    (again,) = await claim(storage, worker="w2")
    assert (again.id, again.attempt) == (claimed.id, 2)
    assert [one.end for one in again.attempts] == [End.CRASHED]


async def test_a_rescued_job_can_still_succeed(engine: Engine) -> None:
    """The record shows the crash and then the clean end."""
    storage = engine.storage
    claimed = await start(storage)
    await storage.workers.rescue()
    await complete(storage, *await claim(storage, worker="w2"))
    record = await look(storage, claimed.id)
    assert record.state is State.COMPLETED
    assert [(one.number, one.end, one.worker) for one in record.attempts] == [
        (1, End.CRASHED, "w1"),
        (2, End.FINISHED, "w2"),
    ]


async def test_a_live_workers_job_is_never_rescued(engine: Engine) -> None:
    """However long a job runs: while its worker sends heartbeats, it is not rescued."""
    storage = engine.storage
    claimed = await _alive(storage)
    for _ in range(10):
        await engine.advance(LEASE / 2)  # PostgreSQL's clock goes on meanwhile, on a busy machine by seconds
        assert (await storage.workers.beat("w1", lease=LEASE, info=WorkerInfo())).known
        assert await storage.workers.rescue() == ()
    assert (await look(storage, claimed.id)).state is State.EXECUTING
    await complete(storage, claimed)


async def test_only_the_dead_workers_jobs(engine: Engine) -> None:
    """One worker's death does not touch another's jobs."""
    storage = engine.storage
    dead = await _alive(storage, "w1")
    await engine.advance(LEASE / 2)
    living = await _alive(storage, "w2")
    await engine.advance(LEASE / 2 + 1)
    assert [one.id for one in await storage.workers.rescue()] == [dead.id]
    assert await states(storage, [dead.id, living.id]) == ["retryable", "executing"]
    assert [one.id for one in await storage.workers.all()] == ["w2"]


async def test_each_worker_has_its_own_lease_time(engine: Engine) -> None:
    """Each worker's own lease time decides whether it is dead."""
    storage = engine.storage
    await storage.workers.register("short", lease=5, info=WorkerInfo())
    await storage.workers.register("long", lease=500, info=WorkerInfo())
    short, long = await start(storage, worker="short"), await start(storage, worker="long")
    await engine.advance(6)
    assert [one.id for one in await storage.workers.rescue()] == [short.id]
    assert (await look(storage, long.id)).state is State.EXECUTING


async def test_a_worker_that_was_never_registered_is_gone(storage: Storage) -> None:
    """A job whose worker has no row is rescued."""
    claimed = await start(storage, worker="nobody")
    assert [(one.id, one.worker) for one in await storage.workers.rescue()] == [(claimed.id, "nobody")]


async def test_unregistered_means_rescuable_at_once(storage: Storage) -> None:
    """Jobs of a worker that has unregistered do not wait for the end of its lease."""
    claimed = await _alive(storage)
    await storage.workers.unregister("w1")
    assert [one.id for one in await storage.workers.rescue()] == [claimed.id]


async def test_the_same_worker_started_anew_is_another(storage: Storage) -> None:
    """A restarted worker has a new id, so the old one's jobs are rescued while the new one is alive."""
    old = await _alive(storage, "host.1.aaaa")
    new = await _alive(storage, "host.1.bbbb")
    await storage.workers.unregister("host.1.aaaa")
    assert [one.id for one in await storage.workers.rescue()] == [old.id]
    assert (await look(storage, new.id)).state is State.EXECUTING


async def test_dead_workers_are_removed(engine: Engine) -> None:
    """After the rescue the dead are no longer listed, and their jobs are not rescued twice."""
    storage = engine.storage
    await _alive(storage)
    await engine.advance(LEASE + 1)
    assert [(one.id, one.alive) for one in await storage.workers.all()] == [("w1", False)]
    assert len(await storage.workers.rescue()) == 1
    assert await storage.workers.all() == ()
    assert await storage.workers.rescue() == ()


async def test_a_dead_worker_without_jobs_is_removed(engine: Engine) -> None:
    """Rescue cleans up after idle workers as well."""
    await engine.storage.workers.register("idle", lease=LEASE, info=WorkerInfo())
    await engine.advance(LEASE + 1)
    assert await engine.storage.workers.rescue() == ()
    assert await engine.storage.workers.all() == ()


@pytest.mark.parametrize("max_attempts", [1, 3])
async def test_a_job_that_kills_its_process_is_discarded_in_the_end(
    storage: Storage, max_attempts: int
) -> None:
    """Crashes count as attempts: after the last one the job is a dead letter."""
    (id,) = await add(storage, job(max_attempts=max_attempts))
    for attempt in range(1, max_attempts + 1):
        (claimed,) = await claim(storage, worker=f"w{attempt}")
        assert (claimed.id, claimed.attempt) == (id, attempt)
        (rescued,) = await storage.workers.rescue()
        assert rescued.state == ("discarded" if attempt == max_attempts else "retryable")
    record = await look(storage, id)
    assert (record.state, record.attempt) == (State.DISCARDED, max_attempts)
    assert record.finished_at is not None
    assert [one.end for one in record.attempts] == [End.CRASHED] * max_attempts
    assert await claim(storage) == ()


async def test_a_job_without_a_maximum_is_never_discarded(storage: Storage) -> None:
    """None means no limit, for crashes too."""
    await add(storage, job(max_attempts=None))
    for _ in range(7):
        assert len(await claim(storage)) == 1
        assert [one.state for one in await storage.workers.rescue()] == ["retryable"]


async def test_a_maximum_lowered_meanwhile_ends_at_the_next_crash(storage: Storage) -> None:
    """A job with more attempts than allowed has used them up, too."""
    (id,) = await add(storage, job(max_attempts=None))
    for _ in range(3):
        await claim(storage)
        await storage.workers.rescue()
    assert await storage.jobs.update(where.id(id), {"max_attempts": 2}) == 1
    await claim(storage)
    assert [one.state for one in await storage.workers.rescue()] == ["discarded"]


async def test_a_dead_workers_job_that_was_to_be_cancelled(storage: Storage) -> None:
    """The operator's request is carried out: cancelled, with the reason, crash on record, request cleared."""
    claimed = await start(storage)
    assert await storage.jobs.cancel(where.id(claimed.id), "enough") == (0, 1)
    assert [one.state for one in await storage.workers.rescue()] == ["cancelled"]
    record = await look(storage, claimed.id)
    assert (record.state, record.cancel_reason) == (State.CANCELLED, "enough")
    assert record.finished_at is not None
    assert [one.end for one in record.attempts] == [End.CRASHED]
    assert (await storage.workers.changes("w1")).cancels == ()


async def test_a_rescue_forgets_nothing_that_was_saved(storage: Storage) -> None:
    """Checkpoint, progress and steps of the crashed attempt help the next one."""
    claimed = await start(storage)
    await storage.attempts.save(
        ref(claimed), progress='{"done": 1, "total": 9, "note": ""}', saved='{"at": 1}'
    )
    await storage.attempts.save_step(ref(claimed), "fetch", '"x"')
    await storage.workers.rescue()
    (again,) = await claim(storage, worker="w2")
    assert (again.saved, dict(await storage.attempts.steps(ref(again)))) == ('{"at": 1}', {"fetch": '"x"'})


async def test_a_limit_bounds_one_call(storage: Storage) -> None:
    """At most `limit` jobs at a time; called again, the next ones, until there are none."""
    await storage.workers.register("w1", lease=LEASE, info=WorkerInfo())
    await add(storage, *(job() for _ in range(10)))
    await claim(storage)
    await storage.workers.unregister("w1")
    rescued: list[int] = []
    for expected in (4, 4, 2, 0):
        batch = await storage.workers.rescue(limit=4)
        assert len(batch) == expected
        rescued += [one.id for one in batch]
    assert len(set(rescued)) == 10


async def test_a_limit_does_not_hide_a_dead_workers_rest(engine: Engine) -> None:
    """A worker that died with more jobs than one call rescues: the rest is rescued by the next calls."""
    storage = engine.storage
    await storage.workers.register("w1", lease=LEASE, info=WorkerInfo())
    await add(storage, *(job() for _ in range(5)))
    await claim(storage)
    await engine.advance(LEASE + 1)
    assert [len(await storage.workers.rescue(limit=3)) for _ in range(3)] == [3, 2, 0]
    assert await storage.workers.all() == ()


async def test_a_job_that_cannot_be_handled_does_not_block_the_rest(engine: Engine) -> None:
    """The database refuses one job's rescue: all the others are rescued, in this and in later calls."""
    storage = engine.storage
    ids = await add(storage, *(job() for _ in range(5)))
    await claim(storage)
    await engine.refuse("update", f"old.id = {ids[1]}")
    rescued = {one.id for one in await storage.workers.rescue()}
    assert rescued == set(ids) - {ids[1]}
    assert await states(storage) == ["retryable", "executing", "retryable", "retryable", "retryable"]
    another = await start(storage, job("other"))
    assert [one.id for one in await storage.workers.rescue()] == [another.id]


async def test_many_jobs_that_cannot_be_handled_do_not_fill_the_limit(engine: Engine) -> None:
    """However many there are, and however small the limit, those that can be rescued are, call by call."""
    storage = engine.storage
    bad = await add(storage, *(job() for _ in range(6)))
    await claim(storage)
    await engine.refuse("update", f"old.id <= {bad[-1]}")
    good = (await start(storage)).id
    for _ in range(5):
        if [one.id for one in await storage.workers.rescue(limit=2)] == [good]:
            break
    assert (await look(storage, good)).state is State.RETRYABLE


async def test_a_payload_that_is_no_longer_json_is_rescued_too(engine: Engine, corrupt: str) -> None:
    """A rescuer need not understand the jobs that it rescues."""
    storage = engine.storage
    ids = await add(storage, *(job() for _ in range(3)))
    await claim(storage)
    await engine.execute(f"update {await engine.job_table()} set args = {corrupt} where id = {ids[0]}")
    assert {one.id for one in await storage.workers.rescue()} == set(ids)


async def test_a_row_that_has_lost_its_start_is_rescued_too(engine: Engine) -> None:
    """A job is rescued even if its row lacks values; the record's start is then the same as its end."""
    storage = engine.storage
    ids = await add(storage, *(job() for _ in range(3)))
    await claim(storage)
    await engine.execute(f"update {await engine.job_table()} set started_at = null where id = {ids[0]}")
    assert {one.id for one in await storage.workers.rescue()} == set(ids)
    (record,) = (await look(storage, ids[0])).attempts
    assert record.started_at == record.finished_at


async def test_two_rescuers_rescue_each_job_once(engine: Engine) -> None:
    """Rescues that race share the jobs: each attempt ends once, with one record."""
    ids = await add(engine.storage, *(job() for _ in range(60)))
    await claim(engine.storage)
    rescued: list[int] = []

    async def rescue(storage: Storage) -> None:
        while batch := await storage.workers.rescue(limit=7):
            rescued.extend(one.id for one in batch)

    async with engine.open() as other:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for storage in (engine.storage, other, engine.storage, other):
                    nursery.start_soon(rescue, storage)
    assert sorted(rescued) == ids
    records = await engine.storage.jobs.query(where.everything())
    assert {(one.state, len(one.attempts)) for one in records} == {(State.RETRYABLE, 1)}


async def test_a_rescue_and_the_late_beat_of_the_dead(engine: Engine) -> None:
    """Once its jobs are rescued a worker stays dead, so that its next heartbeat reports it."""
    storage = engine.storage
    await _alive(storage)
    await engine.advance(LEASE + 1)
    await storage.workers.rescue()
    assert not (await storage.workers.beat("w1", lease=LEASE, info=WorkerInfo())).known
    assert await storage.workers.all() == ()
