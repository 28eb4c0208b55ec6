"""What a database tells of itself to people who ask why nothing runs."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
import trio

from jobrt._core.health import QueueLoad
from jobrt._core.rates import Rate
from jobrt._core.states import End, Transition
from jobrt._storage.contract import Storage
from jobrt.errors import StorageUnavailable
from tests.conformance.build import add, claim, end, job
from tests.conformance.harness import PATIENCE, Engine


async def test_a_tried_write_leaves_nothing(engine: Engine, storage: Storage) -> None:
    """The write is rolled back: all tables are as before, and writes go on."""
    await add(storage, job())
    before = await engine.everything()
    await storage.health.try_write(seconds=1)
    assert await engine.everything() == before
    assert "jobrt_probe" not in await engine.tables()
    await add(storage, job())


async def test_a_locked_database_is_told(engine: Engine, storage: Storage) -> None:
    """A write that would wait for another session raises after the given time."""
    if not engine.shareable:
        pytest.skip("nobody else can lock it")
    with trio.fail_after(PATIENCE):
        async with engine.caller() as caller:
            table = await engine.job_table()
            lock = "update {} set priority = 1" if engine.name == "sqlite" else "lock table {}"
            await caller.execute(lock.format(table))
            with pytest.raises(StorageUnavailable, match=r"locked for writing by (process|session|another)"):
                await storage.health.try_write(seconds=0.1)
        await storage.health.try_write(seconds=1)


async def test_the_load_of_a_queue_by_name_and_key(storage: Storage) -> None:
    """Running and due jobs are counted by name and by the key of the queue's limit; later jobs are not due."""
    payloads = [{"c": 1}, {"c": 1}, {"c": "x"}, {}]
    await add(
        storage,
        *(job(args=payload) for payload in payloads),
        job("other", {"c": 1}, delay=timedelta(minutes=1)),
    )
    await add(storage, job(queue="elsewhere", args={"c": 1}))
    assert len(await claim(storage, limit=1)) == 1
    load = await storage.health.queue_load("default", key="args.c", limit=10)
    assert load.running == {("send", "1"): 1}
    assert load.due == {("send", "1"): 1, ("send", '"x"'): 1, ("send", "null"): 1}
    assert load.running_keys() == {"1": 1}
    assert load.running_names() == {"send": 1}
    assert sum((await storage.health.queue_load("default", key="args.c", limit=2)).due.values()) == 2


async def test_the_load_without_a_key(storage: Storage) -> None:
    """Without a key all keys are equal. The key ``name`` is the name."""
    await add(storage, job(), job("other"))
    without = await storage.health.queue_load("default", key=None, limit=10)
    assert sorted(name for name, _ in without.due) == ["other", "send"]
    assert len({key for _, key in without.due}) == 1
    named = await storage.health.queue_load("default", key="name", limit=10)
    assert len({key for _, key in named.due}) == 2
    assert await storage.health.queue_load("none", key=None, limit=10) == QueueLoad()


async def test_a_row_that_is_no_json_has_the_key_of_a_missing_field(engine: Engine, storage: Storage) -> None:
    """A payload that cannot be read does not hide the others."""
    (bad, _) = await add(storage, job(args={"c": 1}), job(args={"c": 2}))
    await engine.execute(f"update {await engine.job_table()} set args = '{{' where id = {bad}")
    load = await storage.health.queue_load("default", key="args.c", limit=10)
    assert load.due == {("send", "null"): 1, ("send", "2"): 1}


async def test_vitals(engine: Engine, storage: Storage) -> None:
    """A file has a disk and a write-ahead log."""
    vitals = await storage.health.vitals()
    if engine.name != "sqlite":
        assert (vitals.disk_free, vitals.wal) == (None, None)
        return
    assert vitals.disk_free is not None
    assert vitals.disk_total is not None
    assert 0 < vitals.disk_free <= vitals.disk_total
    assert vitals.wal is not None


async def test_the_load_has_tokens_and_pauses(storage: Storage) -> None:
    """Those of the queue, and those of the keys of due jobs; times are relative to now."""
    await add(storage, *[job(args={"c": n % 3}) for n in range(9)])
    hourly = Rate(1, per=3600)
    first, second = await claim(storage, key="args.c", per_key_rate=hourly, rate=Rate(2, per=3600, burst=2))
    await storage.attempts.finish([end(first, Transition.SNOOZE, end=End.SNOOZED, delay=60.0, hold=60.0)])
    load = await storage.health.queue_load("default", key="args.c", limit=100)
    keys = {str(json.loads(found.args)["c"]): found for found in (first, second)}
    assert set(load.buckets) == {None, *keys}
    assert load.buckets[None].filled(Rate(2, per=3600, burst=2), 0).tokens(hourly) == 0
    held, free = (
        load.buckets[key].held_until for key, _ in sorted(keys.items(), key=lambda one: one[1] != first)
    )
    assert 0 < held <= 60_000_000
    assert free <= 0


async def test_the_load_has_the_pause_of_a_queue(storage: Storage) -> None:
    """Jobs without a key hold their queue."""
    await add(storage, job(), job())
    (claimed,) = await claim(storage, limit=1)
    await storage.attempts.finish([end(claimed, Transition.SNOOZE, end=End.SNOOZED, delay=60.0, hold=60.0)])
    load = await storage.health.queue_load("default", key=None, limit=100)
    assert 0 < load.buckets[None].held_until <= 60_000_000
