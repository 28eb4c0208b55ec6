"""A database that is set back to an older state under its workers: no outcome reaches a job of the new state."""

from __future__ import annotations

from typing import Any

import pytest

from jobrt._core.job import Claimed
from jobrt._core.states import State
from jobrt._core.worker_info import WorkerInfo
from jobrt._storage.contract import Storage
from tests.conformance.build import ask, claim, complete, end, job, look, ref, start
from tests.conformance.harness import Engine

LEASE = 30
INFO = WorkerInfo()


async def _beat(storage: Storage, worker: str = "w1") -> bool:
    return (await storage.workers.beat(worker, lease=LEASE, info=INFO)).known


async def _set_back_under(engine: Engine) -> tuple[Claimed, Claimed]:
    """Claim a job, set the database back to before it existed, and let another worker claim a job with its id."""
    storage = engine.storage
    await complete(storage, await start(storage))
    await engine.save()
    stale = await start(storage, worker="w1")
    await engine.restore()
    await engine.advance(0.01)
    fresh = await start(storage, worker="w2")
    assert fresh.id == stale.id
    return stale, fresh


async def test_a_lease_is_not_given_out_again_after_a_restore(engine: Engine) -> None:
    """A restore sets ids and counters back; the same job id is claimed under another lease."""
    stale, fresh = await _set_back_under(engine)
    assert fresh.lease > stale.lease


async def test_an_outcome_from_before_a_restore_is_refused(engine: Engine) -> None:
    """The job that has the id now keeps its own result."""
    storage = engine.storage
    stale, fresh = await _set_back_under(engine)
    assert await storage.attempts.finish([end(stale, result='"stale"')]) == (ref(stale),)
    assert (await storage.attempts.exchange([end(stale)], ask(limit=0))).refused == (ref(stale),)
    assert await storage.attempts.save(ref(stale), saved="1") is False
    assert (await look(storage, fresh.id)).state is State.EXECUTING
    await complete(storage, fresh, result='"fresh"')
    assert (await look(storage, fresh.id)).result == "fresh"


async def test_leases_under_a_cluster_limit_are_not_given_out_again(engine: Engine) -> None:
    """The claim under a limit over the cluster takes its leases in the same way."""
    storage = engine.storage
    await engine.save()
    await storage.jobs.insert([job()])
    (stale,) = await claim(storage, cluster_limit=5)
    await engine.restore()
    await engine.advance(0.01)
    await storage.jobs.insert([job()])
    (fresh,) = await claim(storage, cluster_limit=5)
    assert (fresh.id, fresh.lease > stale.lease) == (stale.id, True)


async def test_leases_differ_while_the_clock_stands_and_when_it_steps_back(engine: Engine) -> None:
    """Each claim has a lease of its own, whatever the clock says."""
    storage = engine.storage
    leases = [(await start(storage)).lease for _ in range(20)]
    await engine.advance(-3600)
    leases += [(await start(storage)).lease for _ in range(20)]
    assert len(set(leases)) == 40


async def test_a_worker_is_not_known_after_a_restore(engine: Engine) -> None:
    """The restored row of the worker is older than its last heartbeat: other rows about it are as old."""
    storage = engine.storage
    await storage.workers.register("w1", lease=LEASE, info=INFO)
    assert await _beat(storage)
    await engine.save()
    assert await _beat(storage)
    await engine.restore()
    assert not await _beat(storage)
    assert not await _beat(storage)
    await storage.workers.register("w2", lease=LEASE, info=INFO)
    assert await _beat(storage, "w2")


async def test_a_worker_is_not_known_after_a_restore_to_its_registration(engine: Engine) -> None:
    """The registration is older than the first heartbeat."""
    storage = engine.storage
    await storage.workers.register("w1", lease=LEASE, info=INFO)
    await engine.save()
    assert await _beat(storage)
    await engine.restore()
    assert not await _beat(storage)


async def test_a_worker_is_not_known_after_a_restore_to_before_it(engine: Engine) -> None:
    """Its row is gone."""
    storage = engine.storage
    await engine.save()
    await storage.workers.register("w1", lease=LEASE, info=INFO)
    assert await _beat(storage)
    await engine.restore()
    assert not await _beat(storage)


async def test_a_restored_row_expires(engine: Engine) -> None:
    """The refused heartbeat does not renew the restored row, so that the worker's restored jobs are rescued."""
    storage = engine.storage
    await storage.workers.register("w1", lease=LEASE, info=INFO)
    assert await _beat(storage)
    held = await start(storage, worker="w1")
    await engine.save()
    assert await _beat(storage)
    await complete(storage, held)
    await engine.restore()
    assert not await _beat(storage)
    await engine.advance(LEASE + 1)
    assert [one.id for one in await storage.workers.rescue()] == [held.id]


async def test_a_damaged_row_makes_no_heartbeat_fail(engine: Engine) -> None:
    """Whatever the row of a worker holds, its heartbeat has an answer."""
    storage = engine.storage
    await storage.workers.register("w1", lease=LEASE, info=INFO)
    assert await _beat(storage)
    table = await engine.table("id", "beat_at", "expires_at", "info")
    for damaged in ("{", "[]", '{"beat": "x"}', '{"beat": null}', '{"beat": {}}', "7"):
        await storage.workers.register("w1", lease=LEASE, info=INFO)
        assert await _beat(storage)
        await engine.execute(f"update {table} set info = '{damaged}'")
        await _beat(storage)


async def test_another_storage_may_beat_for_a_worker(engine: Engine) -> None:
    """Only the storage that registered a worker knows the number of its last heartbeat; others ask for none."""
    storage = engine.storage
    await storage.workers.register("w1", lease=LEASE, info=INFO)
    for _ in range(3):
        assert await _beat(storage)
    async with engine.open() as other:
        assert await _beat(other)


_LIMITS: list[dict[str, Any]] = [{}, {"capped": (("send", 5),)}, {"cluster_limit": 5}]


@pytest.fixture(params=_LIMITS, ids=["plain", "capped", "clustered"])
def limits(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The limits of a claim, for each form of its statement."""
    return request.param  # type: ignore[no-any-return]


async def test_a_worker_whose_row_is_gone_claims_nothing(engine: Engine, limits: dict[str, Any]) -> None:
    """The restored copy is older than its registration. Its outcomes are written nevertheless."""
    storage = engine.storage
    await storage.jobs.insert([job() for _ in range(3)])
    (held,) = await claim(storage, worker="other", limit=1)
    await engine.save()
    await storage.workers.register("w1", lease=LEASE, info=INFO)
    assert len(await claim(storage, worker="w1", limit=1, **limits)) == 1
    await engine.restore()
    exchange = await storage.attempts.exchange([end(held)], ask(worker="w1", **limits))
    assert (exchange.refused, exchange.jobs) == ((), ())
    await storage.workers.register("w2", lease=LEASE, info=INFO)
    assert len(await claim(storage, worker="w2", **limits)) == 2


async def test_a_worker_with_an_older_row_claims_nothing(engine: Engine, limits: dict[str, Any]) -> None:
    """The restored copy is older than its last heartbeat that was answered."""
    storage = engine.storage
    await storage.jobs.insert([job() for _ in range(2)])
    await storage.workers.register("w1", lease=LEASE, info=INFO)
    await engine.save()
    assert await _beat(storage)
    assert len(await claim(storage, worker="w1", limit=1, **limits)) == 1
    await engine.restore()
    assert await claim(storage, worker="w1", **limits) == ()


async def test_an_expired_worker_claims_nothing(engine: Engine, limits: dict[str, Any]) -> None:
    """Others would take its new jobs for those of a dead worker at once."""
    storage = engine.storage
    await storage.jobs.insert([job()])
    await storage.workers.register("w1", lease=LEASE, info=INFO)
    await engine.advance(LEASE + 1)
    assert await claim(storage, worker="w1", **limits) == ()
