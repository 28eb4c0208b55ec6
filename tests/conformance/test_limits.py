"""Cluster-wide limits: exact under concurrent claims, and no slot is ever lost."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
import trio

from jobrt._core import where
from jobrt._core.states import Transition
from jobrt._storage.contract import Storage
from tests.conformance.build import add, ask, claim, complete, end, job, start
from tests.conformance.harness import PATIENCE, Engine, Postgres

PER_TENANT = {"key": "args.tenant", "per_key": 2}


async def test_a_cluster_limit_counts_all_workers(storage: Storage) -> None:
    """Jobs that other workers run count; one freed slot allows one more claim."""
    await add(storage, *(job() for _ in range(9)))
    first = await claim(storage, worker="w1", limit=2, cluster_limit=3)
    assert len(first) == 2
    assert len(await claim(storage, worker="w2", cluster_limit=3)) == 1
    assert await claim(storage, worker="w3", cluster_limit=3) == ()
    await complete(storage, first[0])
    assert len(await claim(storage, worker="w3", cluster_limit=3)) == 1


async def test_a_cluster_limit_takes_the_best_first(storage: Storage) -> None:
    """The limited claim keeps the order."""
    ids = await add(storage, *(job(priority=n) for n in range(5)))
    assert [one.id for one in await claim(storage, cluster_limit=2)] == [ids[4], ids[3]]


async def test_a_cluster_limit_is_for_one_queue(storage: Storage) -> None:
    """Other queues' running jobs do not count."""
    await start(storage, job(queue="other"))
    await add(storage, job(), job())
    assert len(await claim(storage, cluster_limit=1)) == 1


async def test_a_cluster_limit_counts_names_that_are_not_asked_for(storage: Storage) -> None:
    """The limit is the queue's, whatever the jobs are called."""
    await start(storage, job("other"))
    await add(storage, job("send"), job("send"))
    assert len(await claim(storage, "send", cluster_limit=2)) == 1


async def test_a_limit_below_what_runs_claims_nothing(storage: Storage) -> None:
    """A lowered limit applies to the next claim; running jobs may exceed it."""
    await add(storage, *(job() for _ in range(6)))
    assert len(await claim(storage, limit=4)) == 4
    assert await claim(storage, cluster_limit=2) == ()


async def test_outcomes_make_room_in_the_same_call(storage: Storage) -> None:
    """Outcomes in a call free their slots for that call's claim, or for the next; the limit holds."""
    claimed = await start(storage)
    await add(storage, job(), job())
    exchange = await storage.attempts.exchange([end(claimed)], ask(cluster_limit=1))
    assert len(exchange.jobs or await claim(storage, cluster_limit=1)) == 1
    assert await storage.jobs.count(where.state("executing")) == 1


@pytest.mark.parametrize("how", ["rescue", "delete", "cancel", "retry", "give back"])
async def test_no_way_out_leaks_a_place(storage: Storage, how: str) -> None:
    """However an attempt ends, its slot is freed exactly once."""
    claimed = await start(storage)
    await add(storage, job("next"), job("next"))
    assert await claim(storage, "next", cluster_limit=1) == ()
    if how == "rescue":
        assert len(await storage.workers.rescue()) == 1
    elif how == "delete":
        await storage.jobs.delete(where.id(claimed.id))
    elif how == "cancel":
        await storage.jobs.cancel(where.id(claimed.id), "x")
        await storage.attempts.finish([end(claimed, Transition.CANCEL)])
    elif how == "retry":
        await storage.attempts.finish([end(claimed, Transition.RETRY, delay=60.0)])
    else:
        await storage.attempts.finish([end(claimed, Transition.GIVE_BACK)])
    assert len(await claim(storage, "next", cluster_limit=1)) == 1
    assert await claim(storage, "next", cluster_limit=1) == ()


async def test_a_limit_per_key(storage: Storage) -> None:
    """Each key has at most its limit running; jobs of other keys are claimed, in order."""
    tenants = ["a", "a", "a", "b", "a", "c", "b", "b"]
    ids = await add(storage, *(job(args={"tenant": one}) for one in tenants))
    first = await claim(storage, **PER_TENANT)
    assert [one.id for one in first] == [ids[0], ids[1], ids[3], ids[5], ids[6]]
    assert await claim(storage, worker="w2", **PER_TENANT) == ()
    await complete(storage, first[0])
    assert [one.id for one in await claim(storage, worker="w2", **PER_TENANT)] == [ids[2]]


async def test_one_key_with_many_jobs_does_not_hide_the_others(storage: Storage) -> None:
    """However many jobs of a full key come first, other keys' jobs are found."""
    await add(storage, *(job(args={"tenant": "big"}, priority=9) for _ in range(600)))
    (small,) = await add(storage, job(args={"tenant": "small"}))
    got = await claim(storage, limit=5, **PER_TENANT)
    assert [json.loads(one.args)["tenant"] for one in got] == ["big", "big", "small"]
    assert got[2].id == small


@pytest.mark.parametrize(
    ("key", "jobs"),
    [
        ("name", [job("a"), job("a"), job("b")]),
        ("args.user", [job("a", {"user": 1}), job("b", {"user": 1}), job("a", {"user": 2})]),
        ("metadata.org", [job("a", metadata={"org": x}) for x in ("x", "x", "y")]),
        ("args.deep.er", [job("a", {"deep": {"er": n}}) for n in (1, 1, 2)]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_key_can_be_the_name_or_a_field(storage: Storage, key: str, jobs: list[Any]) -> None:
    """By name, by a field of the payload, by a field of the metadata."""
    ids = await add(storage, *jobs)
    got = await claim(storage, "a", "b", key=key, per_key=1)
    assert [one.id for one in got] == [ids[0], ids[2]]


@pytest.mark.parametrize("values", [("1", 1), (True, "true"), ("", " "), ("a'b", "a''b"), (None, "null")])
async def test_keys_that_look_alike_are_different(storage: Storage, values: tuple[Any, Any]) -> None:
    """A key is a JSON value: the number 1 and the text "1" are two keys."""
    ids = await add(storage, *(job(args={"tenant": one}) for one in values))
    got = await claim(storage, key="args.tenant", per_key=1)
    assert [one.id for one in got] == ids


async def test_both_limits_at_once(storage: Storage) -> None:
    """With limits per key and in total, neither is exceeded."""
    await add(storage, *(job(args={"tenant": n % 4}) for n in range(16)))
    got = await claim(storage, cluster_limit=5, **PER_TENANT)
    assert len(got) == 5
    assert max(Counter(json.loads(one.args)["tenant"] for one in got).values()) <= 2


async def test_capped_names_and_cluster_limits_together(storage: Storage) -> None:
    """A worker's own caps hold within the limits of the cluster."""
    await add(storage, *(job(name) for name in ("a", "a", "a", "b", "b")))
    got = await claim(storage, "b", capped=(("a", 1),), cluster_limit=2)
    assert [one.name for one in got] == ["a", "b"]


@pytest.mark.parametrize("limits", [{"cluster_limit": 3}, PER_TENANT], ids=["over all", "per key"])
async def test_racing_claims_never_exceed_a_limit(engine: Engine, limits: dict[str, Any]) -> None:
    """Many tasks of two processes claim and finish at once: the limit is never exceeded."""
    running: Counter[Any] = Counter()
    done: list[int] = []

    def key(args: str) -> object:
        return json.loads(args)["tenant"] if "per_key" in limits else None

    most = limits.get("per_key") or limits["cluster_limit"]
    ids = await add(engine.storage, *(job(args={"tenant": n % 3}) for n in range(60)))

    async def work(storage: Storage, worker: str) -> None:
        while len(done) < len(ids):
            for one in await claim(storage, worker=worker, limit=2, **limits):
                running[key(one.args)] += 1
                assert running[key(one.args)] <= most
                await trio.lowlevel.checkpoint()
                running[key(one.args)] -= 1
                await complete(storage, one)
                done.append(one.id)

    async with engine.open() as other:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for n in range(6):
                    nursery.start_soon(work, other if n % 2 else engine.storage, f"w{n}")
    assert sorted(done) == ids


async def pass_time(engine: Engine, seconds: float) -> None:
    """Let time pass for the memory of a client. On PostgreSQL that is real time, and the rows must not be moved."""
    await (trio.sleep if isinstance(engine, Postgres) else engine.advance)(seconds)


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches for jobs without a key look at ten jobs in one go."""
    for module in ("sqlite", "postgres"):
        monkeypatch.setattr(f"jobrt._storage.{module}.keys._FIRST", 10)
        monkeypatch.setattr(f"jobrt._storage.{module}.keys._PAGE", 10)


@pytest.mark.usefixtures("short_pages")
async def test_claims_do_not_wait_for_a_search_in_a_long_queue(engine: Engine) -> None:
    """A worker that finds its setting in force claims at once, and looks for jobs without a key meanwhile."""
    await claim(engine.storage, **PER_TENANT)
    await add(engine.storage, *(job(args={"tenant": n}) for n in range(30)))
    async with engine.open() as other:
        exchange = await other.attempts.exchange((), ask(worker="w2", limit=9, **PER_TENANT))
        assert len(exchange.jobs) == 9
        assert not exchange.cut


@pytest.mark.usefixtures("short_pages")
async def test_a_worker_that_changes_the_setting_claims_while_it_looks_for_all_jobs(engine: Engine) -> None:
    """Jobs get their keys in the order of claims, and are claimed when they have them. It says when to go on."""
    ids = await add(engine.storage, *(job(args={"tenant": n}) for n in range(30)))
    found: list[int] = []
    with trio.fail_after(PATIENCE):
        while len(found) < len(ids):
            exchange = await engine.storage.attempts.exchange((), ask(limit=50, **PER_TENANT))
            found += [claimed.id for claimed in exchange.jobs]
            assert found == ids[: len(found)]
            if len(found) < len(ids):
                assert found or exchange.held_back
                assert exchange.next_due is not None
                assert not exchange.cut
                await pass_time(engine, exchange.next_due)


@pytest.mark.usefixtures("short_pages")
async def test_a_search_goes_on_where_nothing_may_be_claimed(engine: Engine) -> None:
    """The jobs of a full key are before those of the others: no wake-up comes, and a drain must not end."""
    await add(
        engine.storage, *(job(args={"tenant": "big"}) for _ in range(25)), job(args={"tenant": "small"})
    )
    assert len(await claim(engine.storage, limit=50, **PER_TENANT)) == 2
    with trio.fail_after(PATIENCE):
        while not (exchange := await engine.storage.attempts.exchange((), ask(limit=50, **PER_TENANT))).jobs:
            assert exchange.held_back
            assert exchange.next_due is not None
            await pass_time(engine, exchange.next_due)
    assert [json.loads(claimed.args) for claimed in exchange.jobs] == [{"tenant": "small"}]
