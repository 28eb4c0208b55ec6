"""Jobs claimed ahead for slots of a limit that are taken: only by the worker that has all of them."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import trio

from jobrt._core.states import Transition
from tests.conformance.build import add, ask, claim, complete, end, job
from tests.conformance.harness import PATIENCE

if TYPE_CHECKING:
    from jobrt._core.job import Claimed
    from jobrt._storage.contract import Storage
    from tests.conformance.harness import Engine

PER_TENANT: dict[str, Any] = {"key": "args.tenant", "per_key": 2}
LIMITS = pytest.mark.parametrize(
    "limits", [{"cluster_limit": 2}, PER_TENANT], ids=["of the queue", "of a key"]
)


def of(*tenants: str) -> list[Any]:
    """Return a job of each of these tenants."""
    return [job(args={"tenant": tenant}) for tenant in tenants]


@LIMITS
async def test_the_jobs_with_slots_come_first_and_the_others_are_shown_as_claimed(
    storage: Storage, limits: dict[str, Any]
) -> None:
    """Two begin at once, three wait in the worker, and the rest waits in the database."""
    ids = await add(storage, *of(*"aaaaaaa"))
    jobs = await claim(storage, ahead=3, **limits)
    assert [one.id for one in jobs] == ids[:5]
    assert [one.started_at is not None for one in jobs] == [True, True, False, False, False]
    status = (await storage.queues.all())[0]
    assert (status.executing, status.claimed) == (2, 3)


@LIMITS
async def test_more_can_be_claimed_ahead_later(storage: Storage, limits: dict[str, Any]) -> None:
    """While its slots are taken, the worker claims the next ones."""
    ids = await add(storage, *of(*"aaaaa"))
    await claim(storage, **limits)
    jobs = await claim(storage, ahead=2, **limits)
    assert [one.id for one in jobs] == ids[2:4]
    assert not any(one.started_at for one in jobs)


@LIMITS
async def test_others_wait_until_fewer_are_left_than_the_limit(
    storage: Storage, limits: dict[str, Any]
) -> None:
    """What one worker has claimed ahead takes all slots. With the last of it, slots come free for others."""
    await add(storage, *of(*"aaaaaa"))
    first, second, third = await claim(storage, ahead=1, **limits)
    assert await claim(storage, worker="w2", ahead=9, **limits) == ()
    await complete(storage, first)
    assert await claim(storage, worker="w2", ahead=9, **limits) == ()
    await complete(storage, second)
    assert len(await claim(storage, worker="w2", ahead=9, **limits)) == 1
    await complete(storage, third)


@LIMITS
async def test_nothing_is_claimed_ahead_beside_another_worker(
    storage: Storage, limits: dict[str, Any]
) -> None:
    """Whoever has not all slots gets the free ones only, also with the outcomes in the same call."""
    await add(storage, *of(*"aaaaaa"))
    (theirs,) = await claim(storage, worker="w2", limit=1, **limits)
    (own,) = await claim(storage, ahead=9, **limits)
    exchange = await storage.attempts.exchange([end(own)], ask(ahead=9, **limits))
    (own,) = exchange.jobs or await claim(storage, ahead=9, **limits)
    await complete(storage, theirs)
    assert len(await claim(storage, ahead=9, **limits)) == 3


async def test_only_keys_of_one_worker_are_claimed_ahead(storage: Storage) -> None:
    """Each key counts by itself, and free slots of other keys go first."""
    await add(storage, *of(*"aaaa", *"bbbb", *"cc"))
    theirs = await claim(storage, worker="w2", limit=1, **PER_TENANT)
    exchange = await storage.attempts.exchange((), ask(ahead=9, **PER_TENANT))
    found = [(json.loads(one.args)["tenant"], one.started_at is not None) for one in exchange.jobs]
    assert Counter(found) == {("a", True): 1, ("b", True): 2, ("b", False): 2, ("c", True): 2}
    assert [json.loads(one.args)["tenant"] for one in theirs] == ["a"]
    by_key: dict[str, set[str]] = {}
    for one in exchange.jobs:
        by_key.setdefault(exchange.keys[one.id], set()).add(json.loads(one.args)["tenant"])
    assert sorted(map(sorted, by_key.values())) == [["a"], ["b"], ["c"]]


async def test_a_key_that_is_paused_is_not_claimed_ahead(storage: Storage) -> None:
    """A pause holds as well what would only wait."""
    await add(storage, *of(*"aaaa"))
    first, _ = await claim(storage, **PER_TENANT)
    await storage.attempts.finish([end(first, Transition.SNOOZE, hold=30.0, delay=30.0)])
    assert await claim(storage, ahead=9, **PER_TENANT) == ()


@LIMITS
async def test_urgent_jobs_are_claimed_ahead_first(storage: Storage, limits: dict[str, Any]) -> None:
    """The order is that of all claims."""
    await add(storage, *of(*"aaa"))
    (urgent,) = await add(storage, job(args={"tenant": "a"}, priority=5))
    await add(storage, *of("a"))
    assert [one.id for one in await claim(storage, limit=1, **limits)] == [urgent]
    (more,) = await add(storage, job(args={"tenant": "a"}, priority=3))
    assert next(one.id for one in await claim(storage, ahead=9, limit=2, **limits)) == more


@LIMITS
async def test_racing_workers_that_claim_ahead_keep_the_limit(engine: Engine, limits: dict[str, Any]) -> None:
    """Of each key either one worker holds jobs, or no more are held than the limit allows."""
    holders: Counter[tuple[str, str]] = Counter()
    done: list[int] = []
    ids = await add(engine.storage, *of(*"abc" * 20))

    def key(one: Claimed) -> str:
        return json.loads(one.args)["tenant"] if "per_key" in limits else ""

    def check() -> None:
        for held in {held for _, held in holders}:
            by_worker = [number for (_, of_key), number in holders.items() if of_key == held and number]
            assert len(by_worker) < 2 or sum(by_worker) <= 2

    async def work(storage: Storage, worker: str) -> None:
        while len(done) < len(ids):
            jobs = await claim(storage, worker=worker, limit=6, ahead=3, **limits)
            holders.update((worker, key(one)) for one in jobs)
            check()
            await trio.lowlevel.checkpoint()
            for one in jobs:
                holders[worker, key(one)] -= 1
                await complete(storage, one)
                done.append(one.id)

    async with engine.open() as other:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for n in range(4):
                    nursery.start_soon(work, other if n % 2 else engine.storage, f"w{n}")
    assert sorted(done) == ids
