"""Workers: registration, heartbeats, removal, updates and leadership."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio

from jobrt._core import where
from jobrt._core.states import Transition
from jobrt._core.worker_info import WorkerInfo
from jobrt._storage.contract import CancelRequest, Changes, QueueSettings, Storage
from tests.conformance.build import claim, complete, end, job, ref, start
from tests.conformance.harness import PATIENCE, Engine
from tests.support.worker_info import worker_info

LEASE = 30
INFO = worker_info(
    host="h",
    pid=7,
    queues={"mail": {"concurrency": 3, "stuck": [4], "cancelling": {"4": "stuck"}}},
    notices=[{"what": "slow", "job": 4, "name": "Send", "seconds": 7.5}],
    tree={"children": [{"name": "queues", "nested": {"children": [{"name": "mail"}]}}]},
)


async def test_a_registered_worker_is_listed(engine: Engine) -> None:
    """With its info as given, alive until its lease ends."""
    storage = engine.storage
    assert await storage.workers.all() == ()
    before = await storage.schema.now()
    await storage.workers.register("w1", lease=LEASE, info=INFO)
    (row,) = await storage.workers.all()
    assert (row.id, row.info, row.alive) == ("w1", INFO, True)
    assert before <= row.started_at == row.beat_at <= await storage.schema.now()
    assert row.expires_at - row.beat_at == timedelta(seconds=LEASE)
    await engine.advance(LEASE + 1)
    assert [one.alive for one in await storage.workers.all()] == [False]


async def test_workers_are_listed_by_id(storage: Storage) -> None:
    """In the order of their ids."""
    for id in ("b", "a", "c.2", "c.10"):
        await storage.workers.register(id, lease=LEASE, info=WorkerInfo())
    assert [one.id for one in await storage.workers.all()] == ["a", "b", "c.10", "c.2"]


async def test_a_damaged_description_is_read_as_far_as_possible(engine: Engine) -> None:
    """The row says what could not be read, and those of the others are not concerned."""
    storage = engine.storage
    table = await engine.table("id", "info", "beat_at")
    for id in ("a", "b", "c", "d"):
        await storage.workers.register(id, lease=LEASE, info=INFO)
    for id, info in {
        "a": '{"host": "h", "pid": "x"}',
        "b": "[",
        "c": '{"pid": 7, "queues": {"mail": 3}}',
    }.items():
        await engine.execute(f"update {table} set info = '{info}' where id = '{id}'")
    a, b, c, d = (row.info for row in await storage.workers.all())
    assert a == WorkerInfo(host="h", unreadable=("pid",))
    assert b == WorkerInfo(unreadable=("everything",))
    assert (c.pid, list(c.queues), c.unreadable) == (7, ["mail"], ("queue mail",))
    assert d == INFO


async def test_a_beat_renews(engine: Engine) -> None:
    """A heartbeat keeps a worker alive and updates its info; its start time does not change."""
    storage = engine.storage
    await storage.workers.register("w1", lease=LEASE, info=WorkerInfo())
    for n in range(5):
        await engine.advance(LEASE / 2)
        assert await storage.workers.beat("w1", lease=LEASE, info=WorkerInfo(landed=n)) == Changes(
            known=True, cancels=(), queues=()
        )
    (row,) = await storage.workers.all()
    assert (row.alive, row.info) == (True, WorkerInfo(landed=4))
    assert LEASE <= (row.expires_at - row.beat_at).total_seconds() < 2 * LEASE  # the clock is read twice
    assert row.beat_at - row.started_at >= timedelta(seconds=5 * LEASE / 2)


async def test_a_beat_may_change_the_lease_time(engine: Engine) -> None:
    """Each heartbeat sets the length of the lease."""
    storage = engine.storage
    await storage.workers.register("w1", lease=LEASE, info=WorkerInfo())
    await storage.workers.beat("w1", lease=1000, info=WorkerInfo())
    await engine.advance(900)
    assert [one.alive for one in await storage.workers.all()] == [True]


async def test_an_expired_worker_stays_expired(engine: Engine) -> None:
    """Its jobs may belong to another worker by now: a late heartbeat returns that and changes nothing."""
    storage = engine.storage
    await storage.workers.register("w1", lease=LEASE, info=WorkerInfo())
    await engine.advance(LEASE + 1)
    assert not (await storage.workers.beat("w1", lease=LEASE, info=WorkerInfo())).known
    assert not (await storage.workers.beat("w1", lease=LEASE, info=WorkerInfo())).known
    assert [one.alive for one in await storage.workers.all()] == [False]


async def test_a_worker_that_is_gone_stays_gone(storage: Storage) -> None:
    """A heartbeat does not register a worker."""
    assert not (await storage.workers.beat("w1", lease=LEASE, info=WorkerInfo())).known
    await storage.workers.register("w1", lease=LEASE, info=WorkerInfo())
    await storage.workers.unregister("w1")
    assert not (await storage.workers.beat("w1", lease=LEASE, info=WorkerInfo())).known
    assert not (await storage.workers.changes("w1")).known
    assert await storage.workers.all() == ()


async def test_unregistering_twice(storage: Storage) -> None:
    """Repeated after a lost reply, the call does nothing."""
    await storage.workers.register("w1", lease=LEASE, info=WorkerInfo())
    await storage.workers.register("w2", lease=LEASE, info=WorkerInfo())
    await storage.workers.unregister("w1")
    await storage.workers.unregister("w1")
    assert [one.id for one in await storage.workers.all()] == ["w2"]


async def test_registering_twice(storage: Storage) -> None:
    """Repeated after a lost reply, the call succeeds."""
    await storage.workers.register("w1", lease=LEASE, info=WorkerInfo())
    await storage.workers.register("w1", lease=LEASE, info=INFO)
    assert [(one.id, one.alive) for one in await storage.workers.all()] == [("w1", True)]


async def test_changes_do_not_renew(engine: Engine) -> None:
    """`changes` does not renew the lease."""
    storage = engine.storage
    await storage.workers.register("w1", lease=1000, info=WorkerInfo())
    await engine.advance(500)
    assert (await storage.workers.changes("w1")).known
    await engine.advance(501)
    assert not (await storage.workers.changes("w1")).known


async def test_a_worker_is_told_what_to_cancel(storage: Storage) -> None:
    """`beat` and `changes` return cancel requests for its own running jobs, until those have ended."""
    await storage.workers.register("w1", lease=LEASE, info=WorkerInfo())
    await storage.workers.register("w2", lease=LEASE, info=WorkerInfo())
    mine, quiet = await start(storage), await start(storage)
    theirs = await start(storage, worker="w2")
    await storage.jobs.cancel(where.id_in([mine.id, theirs.id]), "enough")
    wanted = (CancelRequest(ref(mine), "enough"),)
    assert (await storage.workers.changes("w1")).cancels == wanted
    assert (await storage.workers.beat("w1", lease=LEASE, info=WorkerInfo())).cancels == wanted
    assert (await storage.workers.changes("w2")).cancels == (CancelRequest(ref(theirs), "enough"),)
    await storage.attempts.finish([end(mine, Transition.CANCEL, message="enough")])
    assert (await storage.workers.changes("w1")).cancels == ()
    await complete(storage, quiet)


async def test_a_cancel_request_ends_with_the_attempt(storage: Storage) -> None:
    """A request is for one attempt: the next one, after a rescue or a rerun, is not cancelled by it."""
    claimed = await start(storage)
    await storage.jobs.cancel(where.id(claimed.id), "enough")
    await storage.attempts.finish([end(claimed, Transition.CANCEL)])
    await storage.jobs.rerun(where.id(claimed.id))
    assert len(await claim(storage)) == 1
    assert (await storage.workers.changes("w1")).cancels == ()


async def test_a_worker_is_told_what_queues_are_set_to(storage: Storage) -> None:
    """`beat` and `changes` return all settings of operators; queues without settings are not included."""
    await storage.workers.register("w1", lease=LEASE, info=WorkerInfo())
    await start(storage, job(queue="plain"))
    await storage.queues.set("a", paused=True)
    await storage.queues.set("b", concurrency=3)
    wanted = {QueueSettings("a", paused=True), QueueSettings("b", concurrency=3)}
    assert set((await storage.workers.changes("w1")).queues) >= wanted
    assert set((await storage.workers.beat("w1", lease=LEASE, info=WorkerInfo())).queues) >= wanted
    assert "plain" not in {one.name for one in (await storage.workers.changes("w1")).queues}


# ------------------------------------------------------------------ leadership


async def test_one_leads(storage: Storage) -> None:
    """The first takes the role; others get None; the leader renews and keeps its term."""
    term = await storage.workers.lead("maintenance", "w1", seconds=10)
    assert term is not None
    assert await storage.workers.lead("maintenance", "w2", seconds=10) is None
    assert await storage.workers.lead("maintenance", "w1", seconds=10) == term


async def test_roles_are_independent(storage: Storage) -> None:
    """Each role has its own leader."""
    assert await storage.workers.lead("maintenance", "w1", seconds=10) is not None
    assert await storage.workers.lead("cron", "w2", seconds=10) is not None


async def test_a_leader_that_does_not_renew_is_replaced(engine: Engine) -> None:
    """After its time another takes the role, with a higher term, and the first one's renewal returns None."""
    storage = engine.storage
    first = await storage.workers.lead("cron", "w1", seconds=1000)
    await engine.advance(500)
    assert await storage.workers.lead("cron", "w2", seconds=1000) is None
    await engine.advance(501)
    second = await storage.workers.lead("cron", "w2", seconds=1000)
    assert first is not None
    assert second is not None
    assert second > first
    assert await storage.workers.lead("cron", "w1", seconds=1000) is None


async def test_renewing_lengthens(engine: Engine) -> None:
    """Each renewal sets its own time limit."""
    storage = engine.storage
    for _ in range(3):
        assert await storage.workers.lead("cron", "w1", seconds=100) is not None
        await engine.advance(60)
    assert await storage.workers.lead("cron", "w2", seconds=100) is None


async def test_a_leader_that_resigns_is_replaced_at_once(storage: Storage) -> None:
    """Another can take over without waiting, and the term grows."""
    first = await storage.workers.lead("cron", "w1", seconds=1000)
    await storage.workers.resign("cron", "w1")
    second = await storage.workers.lead("cron", "w2", seconds=1000)
    assert first is not None
    assert second is not None
    assert second > first


async def test_only_the_leader_can_resign(storage: Storage) -> None:
    """Resignations by other workers, and from roles without a leader, do nothing."""
    await storage.workers.resign("cron", "w1")
    term = await storage.workers.lead("cron", "w1", seconds=10)
    await storage.workers.resign("cron", "w2")
    await storage.workers.resign("other", "w1")
    assert await storage.workers.lead("cron", "w2", seconds=10) is None
    assert await storage.workers.lead("cron", "w1", seconds=10) == term


async def test_terms_never_go_down(engine: Engine) -> None:
    """Over losses, resignations and returns the terms of a role only grow, and each leader has its own."""
    storage = engine.storage
    terms: list[int] = []
    for n in range(12):
        term = await storage.workers.lead("cron", f"w{n % 2}", seconds=10)
        assert term is not None
        terms.append(term)
        if n % 3:
            await storage.workers.resign("cron", f"w{n % 2}")
        else:
            await engine.advance(11)
    assert terms == sorted(set(terms))


async def test_one_of_many_candidates_wins(engine: Engine) -> None:
    """Concurrent candidates get one leader."""
    terms: list[int | None] = []

    async def stand(storage: Storage, worker: str) -> None:
        terms.append(await storage.workers.lead("cron", worker, seconds=60))

    async with engine.open() as other:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for n in range(10):
                    nursery.start_soon(stand, other if n % 2 else engine.storage, f"w{n}")
    assert len([term for term in terms if term is not None]) == 1


@pytest.mark.parametrize("id", ["it's", 'a"b', "☃", "a;b -- c", "%s", "a" * 300])
async def test_worker_ids_are_only_values(storage: Storage, id: str) -> None:
    """Whatever a worker is called, it is registered, fenced and rescued like any other."""
    await storage.workers.register(id, lease=LEASE, info=WorkerInfo())
    claimed = await start(storage, worker=id)
    assert (await storage.workers.beat(id, lease=LEASE, info=WorkerInfo())).known
    await storage.workers.unregister(id)
    assert [(one.id, one.worker) for one in await storage.workers.rescue()] == [(claimed.id, id)]
