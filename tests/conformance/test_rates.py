"""Rates, turns of keys, and pauses: exact over the cluster, by the database's clock."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
import trio

from jobrt._core import where
from jobrt._core.job import Claimed, Wait
from jobrt._core.rates import Rate
from jobrt._core.states import Transition
from jobrt._storage.contract import Exchange, Storage
from tests.conformance.build import add, ask, claim, complete, end, job, start
from tests.conformance.harness import PATIENCE, Engine

HOURLY = Rate(2, per=3600, burst=3)
SLOW = {"key": "args.tenant", "per_key_rate": Rate(1, per=3600)}
FAIR = {"key": "args.tenant", "fair": True}


def _of(tenant: Any, **options: Any) -> Any:
    return job(args={"tenant": tenant}, **options)


def _tenants(jobs: tuple[Claimed, ...]) -> list[Any]:
    return [json.loads(one.args)["tenant"] for one in jobs]


async def _ask(storage: Storage, **demand: Any) -> Exchange:
    return await storage.attempts.exchange((), ask(**demand))


# ---------------------------------------------------------------------- rates


async def test_a_rate_is_over_all_workers(storage: Storage) -> None:
    """A full bucket allows its burst; then nothing starts until the next token, and the claim says when that is."""
    await add(storage, *(job() for _ in range(9)))
    assert len(await claim(storage, worker="w1", limit=2, rate=HOURLY)) == 2
    last = await _ask(storage, worker="w2", rate=HOURLY)
    assert len(last.jobs) == 1
    none = await _ask(storage, worker="w3", rate=HOURLY)
    assert none.jobs == ()
    for exchange in (last, none):
        assert exchange.next_due is not None
        assert 1700 < exchange.next_due <= 1800


async def test_an_ended_attempt_gives_no_token_back(storage: Storage) -> None:
    """A rate counts starts, whatever becomes of them; a retry takes a token, too."""
    await add(storage, job())
    (first,) = await claim(storage, rate=Rate(1, per=3600))
    await storage.attempts.finish([end(first, Transition.RETRY, delay=0.0)])
    assert await claim(storage, rate=Rate(1, per=3600)) == ()


@pytest.mark.parametrize(
    "limits",
    [
        {"rate": Rate(1, per=3600, burst=2)},
        {"key": "args.tenant", "per_key_rate": Rate(1, per=3600, burst=2)},
        {"key": "args.tenant", "fair": True, "rate": Rate(1, per=3600, burst=2)},
    ],
    ids=["queue", "key", "turns"],
)
async def test_a_parked_attempt_goes_on_without_a_token(storage: Storage, limits: dict[str, Any]) -> None:
    """It had taken one. So the second token is for another job, which the next claim finds at once."""
    await _ask(storage, limit=0, **limits)  # stores the key's setting
    await add(storage, *(_of("a") for _ in range(3)))
    (first,) = await claim(storage, limit=1, **limits)
    parked = Wait("sleep", "", parked=True)
    assert await storage.attempts.finish([end(first, Transition.SUSPEND, wait=parked)]) == ()
    again = await _ask(storage, limit=1, **limits)
    assert [(one.id, one.attempt) for one in again.jobs] == [(first.id, first.attempt)]
    assert again.jobs[0].lease != first.lease
    assert again.next_due in {None, 0.0}
    (second,) = await claim(storage, **limits)
    assert second.id != first.id
    assert await claim(storage, **limits) == ()


async def test_others_start_beside_a_parked_attempt(storage: Storage) -> None:
    """The tokens count for those that start from the top, each at its time; what goes on begins at once."""
    await add(storage, *(job() for _ in range(9)))
    (first,) = await claim(storage, limit=1, rate=HOURLY)
    parked = Wait("sleep", "", parked=True)
    await storage.attempts.finish([end(first, Transition.SUSPEND, wait=parked)])
    exchange = await _ask(storage, parked=(first.id,), rate=HOURLY)
    assert exchange.jobs[0].id == first.id
    assert len(exchange.jobs) == 3
    assert exchange.next_due is not None
    assert 1700 < exchange.next_due <= 1800
    assert await claim(storage, rate=HOURLY) == ()


async def test_a_rate_of_each_key(storage: Storage) -> None:
    """Each key has tokens of its own; a key without any holds up no other."""
    await add(storage, *(_of(tenant) for tenant in "aaabab"), _of("c"))
    exchange = await _ask(storage, **SLOW)
    assert _tenants(exchange.jobs) == ["a", "b", "c"]
    again = await _ask(storage, worker="w2", **SLOW)
    assert again.jobs == ()
    assert again.next_due is not None
    assert 3500 < again.next_due <= 3600


async def test_a_rate_of_the_queue_and_of_each_key(storage: Storage) -> None:
    """Both hold; the tokens of one are not taken for jobs that the other holds back."""
    await add(storage, *(_of(tenant) for tenant in "aabcd"))
    assert _tenants(await claim(storage, rate=HOURLY, **SLOW)) == ["a", "b", "c"]
    assert await claim(storage, rate=HOURLY, **SLOW) == ()


async def test_no_more_is_claimed_than_can_start(storage: Storage) -> None:
    """Jobs of a rated queue are not claimed ahead: a token is taken for a start."""
    await add(storage, *(job() for _ in range(5)))
    got = await claim(storage, free_slots=2, rate=Rate(1, burst=5))
    assert len(got) == 2
    assert all(one.started_at is not None for one in got)


async def test_tokens_of_the_next_moment_are_taken_in_advance(storage: Storage) -> None:
    """The jobs of one claim start one after the other, each when its token is there, within 150 ms.

    The next claim comes before these are over, and so does that of a single token: or tokens would be lost.
    """
    await add(storage, *(job() for _ in range(100)))
    first = await _ask(storage, rate=Rate(100))
    got = first.jobs
    assert first.next_due is not None
    assert 0.04 <= first.next_due <= 0.06
    starts = [one.started_at for one in got]
    assert 15 <= len(got) <= 16
    pauses = [later - sooner for sooner, later in pairwise(starts) if sooner and later]
    assert pauses == [timedelta(milliseconds=10)] * (len(got) - 1)
    again = await _ask(storage, rate=Rate(100))
    assert len(again.jobs) < 50


async def test_a_rate_and_a_limit_of_the_cluster(storage: Storage) -> None:
    """The lower one counts, and no token is taken for a job that the limit holds back."""
    await add(storage, *(job() for _ in range(9)))
    first = await claim(storage, cluster_limit=1, rate=HOURLY)
    assert len(first) == 1
    assert await claim(storage, cluster_limit=1, rate=HOURLY) == ()
    await complete(storage, *first)
    assert len(await claim(storage, cluster_limit=5, rate=HOURLY)) == 2


async def test_racing_claims_never_exceed_a_rate(engine: Engine) -> None:
    """Many tasks of two processes claim at once: each token is taken once."""
    rate = Rate(1, per=3600, burst=25)
    await add(engine.storage, *(job() for _ in range(60)))
    got: list[int] = []

    async def work(storage: Storage, worker: str) -> None:
        for _ in range(6):
            got.extend(one.id for one in await claim(storage, worker=worker, limit=2, rate=rate))

    async with engine.open() as other:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for n in range(6):
                    nursery.start_soon(work, other if n % 2 else engine.storage, f"w{n}")
    assert len(got) == len(set(got)) == 25


# ---------------------------------------------------------------------- turns


async def test_keys_take_turns(storage: Storage) -> None:
    """Of each key one job, then of each the next: a thousand jobs of one key do not hold up those of another."""
    await add(
        storage, *(_of("big") for _ in range(200)), *(_of(n) for n in range(3)), *(_of(n) for n in range(3))
    )
    got = Counter(_tenants(await claim(storage, limit=8, **FAIR)))
    assert got == {"big": 2, 0: 2, 1: 2, 2: 2}


async def test_turns_go_on_over_claims_and_workers(storage: Storage) -> None:
    """The next claim begins after the last key that had its turn, in whatever process."""
    await add(storage, *(_of(n % 5) for n in range(50)))
    got: list[Any] = []
    for n in range(10):
        got += _tenants(await claim(storage, worker=f"w{n % 2}", limit=3, **FAIR))
    assert max(Counter(got[:15]).values()) == 3
    assert Counter(got) == dict.fromkeys(range(5), 6)


async def test_nobody_starves(storage: Storage) -> None:
    """One tenant with many jobs against a hundred of ten: the small ones are through after their share."""
    assert await claim(storage, **FAIR) == ()  # so that the queue has its key before its jobs
    await add(storage, *(_of("big") for _ in range(2000)), *(_of(n % 100) for n in range(1000)))
    got: list[Any] = []
    while len(got) < 1010:
        got += _tenants(await claim(storage, limit=101, **FAIR))
    assert Counter(got) == {"big": 10} | dict.fromkeys(range(100), 10)


async def test_a_higher_priority_goes_before_turns(storage: Storage) -> None:
    """Keys take turns within a priority."""
    await add(storage, _of("a"), _of("b"), *(_of("c", priority=1) for _ in range(3)))
    assert _tenants(await claim(storage, limit=4, **FAIR))[:3] == ["c", "c", "c"]


async def test_turns_keep_the_limit_of_keys(storage: Storage) -> None:
    """With `per_key`, a full key loses its turn."""
    await add(storage, *(_of(tenant) for tenant in "aaabbc"))
    got = await claim(storage, per_key=1, **FAIR)
    assert sorted(_tenants(got)) == ["a", "b", "c"]
    assert await claim(storage, per_key=1, **FAIR) == ()


async def test_one_key_alone_has_all_turns(storage: Storage) -> None:
    """A claim takes as much as is asked for."""
    await add(storage, *(_of("a") for _ in range(60)))
    assert len(await claim(storage, limit=50, **FAIR)) == 50


# ---------------------------------------------------------------------- pauses


async def test_a_pause_of_a_queue(storage: Storage) -> None:
    """Nothing of the queue starts before it is over, and a claim says when that is; other queues go on."""
    claimed = await start(storage)
    await add(storage, job(), job(queue="other"))
    await storage.attempts.finish([end(claimed, Transition.SNOOZE, delay=60.0, hold=60.0)])
    for limits in ({}, {"cluster_limit": 5}, {"rate": Rate(5)}):
        exchange = await _ask(storage, **limits)
        assert exchange.jobs == ()
        assert exchange.next_due is not None
        assert 50 < exchange.next_due <= 60
    assert len(await claim(storage, queue="other")) == 1


@pytest.mark.parametrize("limits", [{"per_key": 5}, {"per_key_rate": Rate(5, burst=5)}, {"fair": True}])
async def test_a_pause_of_a_key(storage: Storage, limits: dict[str, Any]) -> None:
    """In a queue with a key it is a pause of that key alone."""
    demand = limits | {"key": "args.tenant"}
    await add(storage, _of("a"))
    (claimed,) = await claim(storage, **demand)
    await add(storage, _of("a"), _of("b"))
    await storage.attempts.finish([end(claimed, Transition.SNOOZE, delay=60.0, hold=60.0)])
    exchange = await _ask(storage, **demand)
    assert _tenants(exchange.jobs) == ["b"]
    assert exchange.next_due is not None
    assert 50 < exchange.next_due <= 60


async def test_of_two_pauses_the_later_counts(storage: Storage) -> None:
    """A shorter one that is written later does not end the longer one."""
    await add(storage, job(), job(), job())
    first, second = await claim(storage, limit=2)
    await storage.attempts.finish([end(first, Transition.SNOOZE, delay=600.0, hold=600.0)])
    await storage.attempts.finish([end(second, Transition.SNOOZE, delay=1.0, hold=1.0)])
    exchange = await _ask(storage)
    assert exchange.next_due is not None
    assert 500 < exchange.next_due <= 600


async def test_a_pause_that_was_refused_is_none(storage: Storage) -> None:
    """An outcome whose lease is lost pauses nothing."""
    claimed = await start(storage)
    await storage.workers.rescue()
    assert await storage.attempts.finish([end(claimed, Transition.SNOOZE, delay=60.0, hold=60.0)]) != ()
    assert len(await claim(storage)) == 1


# ---------------------------------------------------------------------- what is held back


async def test_due_jobs_that_wait_for_a_token_are_told(storage: Storage) -> None:
    """A drain waits for them; it does not wait for tokens that no job needs."""
    (first, *_) = await add(storage, job(), job(), job(name="other"))
    demand = ask(rate=Rate(1, per=3600))
    assert not (await storage.attempts.exchange((), demand)).held_back
    exchange = await storage.attempts.exchange((), demand)
    assert (exchange.jobs, exchange.held_back) == ((), True)
    await storage.jobs.cancel(where.name("send") & ~where.id(first), "")
    assert not (await storage.attempts.exchange((), demand)).held_back
