"""Parked attempts go on without a token of their queue's rate: `Demand.parked`, and what else holds them back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobrt._core import where
from jobrt._core.job import Claimed, Wait
from jobrt._core.rates import Rate
from jobrt._core.states import Transition
from jobrt._storage.contract import Exchange, Storage
from tests.conformance.build import add, ask, claim, end, job, ref

ONE = Rate(1, per=3600)
OF_KEY = {"key": "args.tenant", "per_key_rate": ONE}
LIMITS = [
    {"rate": ONE},
    OF_KEY,
    {"key": "args.tenant", "fair": True, "rate": ONE},
    {"fair": True, **OF_KEY},
    {"key": "args.tenant", "per_key": 9, "rate": ONE},
    {"cluster_limit": 9, "rate": ONE},
]
NAMES = ["queue", "key", "turns", "turns of keys", "slots of keys", "slots"]


def _of(tenant: Any, **options: Any) -> Any:
    return job(args={"tenant": tenant}, **options)


def _tenants(jobs: tuple[Claimed, ...]) -> list[Any]:
    return [json.loads(one.args)["tenant"] for one in jobs]


async def _ask(storage: Storage, *parked: Claimed, **demand: Any) -> Exchange:
    return await storage.attempts.exchange((), ask(parked=tuple(one.id for one in parked), **demand))


async def _park(storage: Storage, *jobs: Claimed, name: str = "x") -> None:
    for one in jobs:
        await storage.scopes.receive(ref(one), name, 0, within=None)
        wait = Wait("message", name, parked=True)
        assert await storage.attempts.finish([end(one, Transition.SUSPEND, wait=wait)]) == ()


async def _wake(storage: Storage, *jobs: Claimed, name: str = "x") -> None:
    for one in jobs:
        await storage.scopes.send(one.id, name, "1")


async def _woken(storage: Storage, *jobs: Any, **demand: Any) -> tuple[Claimed, ...]:
    """Begin jobs, which take all tokens, park them, and end their waits."""
    await claim(storage, limit=0, **demand)  # stores the key's setting
    await add(storage, *jobs)
    parked = await claim(storage, limit=len(jobs), **demand)
    assert len(parked) == len(jobs)
    await _park(storage, *parked)
    await _wake(storage, *parked)
    return parked


@pytest.mark.parametrize("limits", LIMITS, ids=NAMES)
async def test_no_token_is_needed_to_go_on(storage: Storage, limits: dict[str, Any]) -> None:
    """The wait is over, so its worker gets the job at once. Others wait for the next token, as if it were not there."""
    (parked,) = await _woken(storage, _of("a"), **limits)
    await add(storage, *(_of("a") for _ in range(3)))
    exchange = await _ask(storage, parked, **limits)
    (again,) = exchange.jobs
    assert (again.id, again.attempt) == (parked.id, parked.attempt)
    assert again.lease != parked.lease
    assert again.started_at is not None
    none = await _ask(storage, parked, **limits)
    assert (none.jobs, none.held_back) == ((), True)
    for due in (exchange.next_due, none.next_due):
        assert due is not None
        assert 3500 < due <= 3600


@pytest.mark.parametrize("limits", LIMITS, ids=NAMES)
async def test_what_still_waits_does_not_go_on(storage: Storage, limits: dict[str, Any]) -> None:
    """A worker names all that is parked there: those whose waits are not over, and those that have ended, too."""
    await claim(storage, limit=0, **limits)
    await add(storage, _of("a"), _of("a"))
    (parked,) = await claim(storage, **limits)
    await _park(storage, parked)
    assert (await _ask(storage, parked, **limits)).jobs == ()
    await _wake(storage, parked)
    (again,) = (await _ask(storage, parked, **limits)).jobs
    assert (await _ask(storage, parked, **limits)).jobs == ()
    await storage.attempts.finish([end(again)])
    assert (await _ask(storage, parked, **limits)).jobs == ()


@pytest.mark.parametrize("limits", LIMITS, ids=NAMES)
async def test_nobody_else_lets_it_go_on(storage: Storage, limits: dict[str, Any]) -> None:
    """Another worker, or this one after a request to cancel."""
    (parked,) = await _woken(storage, _of("a"), **limits)
    assert (await _ask(storage, parked, worker="w2", **limits)).jobs == ()
    assert (await _ask(storage, parked, **limits | {"queue": "other"})).jobs == ()
    await storage.jobs.cancel(where.id(parked.id), "enough")
    assert (await _ask(storage, parked, **limits)).jobs == ()


@pytest.mark.parametrize("limits", LIMITS, ids=NAMES)
async def test_slots_and_operators_hold_it_back(storage: Storage, limits: dict[str, Any]) -> None:
    """They say how many run at once: the slots of the worker and of the job's name, and a pause."""
    (parked,) = await _woken(storage, _of("a"), **limits)
    assert (await _ask(storage, parked, free_slots=0, **limits)).jobs == ()
    assert (await storage.attempts.exchange((), ask("other", parked=(parked.id,), **limits))).jobs == ()
    await storage.queues.set("default", paused=True)
    assert (await _ask(storage, parked, **limits)).jobs == ()
    await storage.queues.set("default", paused=False)
    assert len((await _ask(storage, parked, capped=(("send", 1),), **limits)).jobs) == 1


async def test_a_limit_of_the_cluster_holds_it_back(storage: Storage) -> None:
    """It counts in the limit while it runs."""
    limits = {"rate": Rate(2, per=3600, burst=2), "cluster_limit": 1}
    (parked,) = await _woken(storage, job(), **limits)
    await add(storage, job())
    (running,) = await claim(storage, worker="w2", **limits | {"parked": ()})
    assert (await _ask(storage, parked, **limits)).jobs == ()
    await storage.attempts.finish([end(running)])
    assert [one.id for one in (await _ask(storage, parked, **limits)).jobs] == [parked.id]


async def test_the_slots_of_its_key_hold_it_back(storage: Storage) -> None:
    """The key of another is free, and has a token."""
    limits = {"key": "args.tenant", "per_key": 1, "per_key_rate": Rate(2, per=3600, burst=2)}
    (parked,) = await _woken(storage, _of("a"), **limits)
    await add(storage, _of("a"))
    (running,) = await claim(storage, worker="w2", **limits)
    await add(storage, _of("b"))
    assert _tenants((await _ask(storage, parked, **limits)).jobs) == ["b"]
    await storage.attempts.finish([end(running)])
    assert [one.id for one in (await _ask(storage, parked, **limits)).jobs] == [parked.id]


async def test_a_key_without_tokens_goes_on_beside_others(storage: Storage) -> None:
    """In the same claim as jobs that begin, and without a token of another key."""
    (parked,) = await _woken(storage, _of("a"), **OF_KEY)
    await add(storage, *(_of(tenant) for tenant in "abbc"))
    exchange = await _ask(storage, parked, **OF_KEY)
    assert sorted(_tenants(exchange.jobs)) == ["a", "b", "c"]
    assert parked.id in {one.id for one in exchange.jobs}
    assert (await _ask(storage, parked, **OF_KEY)).jobs == ()


@pytest.mark.parametrize("fair", [False, True], ids=["in order", "in turns"])
@pytest.mark.parametrize("rate", ["rate", "per_key_rate"])
async def test_it_has_its_turn_among_those_that_begin(storage: Storage, rate: str, fair: bool) -> None:
    """By priority, then by due times or in turns. So who may begin waits for nobody who goes on again and again."""
    limits = {"key": "args.tenant", "fair": fair, rate: Rate(5, per=3600, burst=5)}
    if not fair and rate == "rate":
        del limits["key"]
    (parked,) = await _woken(storage, _of("a"), **limits)
    (urgent, other) = await add(storage, _of("b", priority=1), _of("c"))
    got = [(await _ask(storage, parked, limit=1, **limits)).jobs[0].id for _ in range(3)]
    assert got == ([urgent, other, parked.id] if fair else [urgent, parked.id, other])


async def test_names_at_their_number_leave_it_out(storage: Storage) -> None:
    """MAX_CONCURRENCY counts those that go on and those that begin, in the order of claims."""
    limits = {"rate": Rate(9, per=3600, burst=9), "capped": (("send", 2),)}
    parked = await _woken(storage, job(), job(), **limits)
    (urgent, _) = await add(storage, job(priority=1), job())
    got = (await _ask(storage, *parked, **limits)).jobs
    assert {one.id for one in got} == {urgent, parked[0].id}


@pytest.mark.parametrize("limits", LIMITS, ids=NAMES)
async def test_a_pause_that_a_job_asked_for_does_not_hold_it_back(
    storage: Storage, limits: dict[str, Any]
) -> None:
    """`Throttle` lets nothing begin. What has begun goes on."""
    many = {name: Rate(9, per=3600, burst=9) if value is ONE else value for name, value in limits.items()}
    await claim(storage, limit=0, **many)
    await add(storage, *(_of("a") for _ in range(3)))
    parked, asking = await claim(storage, limit=2, **many)
    await _park(storage, parked)
    await storage.attempts.finish([end(asking, Transition.SNOOZE, delay=600.0, hold=600.0)])
    assert (await _ask(storage, parked, **many)).jobs == ()
    await _wake(storage, parked)
    exchange = await _ask(storage, parked, **many)
    assert [one.id for one in exchange.jobs] == [parked.id]
    none = await _ask(storage, parked, **many)
    assert none.jobs == ()
    assert none.next_due is not None
    assert 500 < none.next_due <= 600


@pytest.mark.parametrize("fair", [False, True], ids=["in order", "in turns"])
async def test_more_keys_than_a_claim_looks_at(storage: Storage, fair: bool) -> None:
    """It is found by its id, wherever its key is."""
    limits = {**OF_KEY, "fair": fair}
    parked = await _woken(storage, *(_of(f"{n:03}") for n in range(70)), **limits)
    await add(storage, *(_of(f"{n:03}") for n in range(140)))
    got = (await _ask(storage, *parked, limit=90, **limits)).jobs
    again = (await _ask(storage, *parked, limit=90, **limits)).jobs
    assert len(got) == 90
    assert len(again) == 50
    assert {one.id for one in parked} <= {one.id for one in (*got, *again)}
    assert (await _ask(storage, *parked, limit=90, **limits)).jobs == ()


async def test_keys_take_turns_with_those_that_go_on(storage: Storage) -> None:
    """Each goes on again and again, while others wait for tokens that are there: everybody has one turn in a round."""
    limits = {"key": "args.tenant", "fair": True, "rate": Rate(6, per=3600, burst=6)}
    parked = {one.id: one for one in await _woken(storage, _of("a"), _of("b"), **limits)}
    await add(storage, *(_of(tenant) for tenant in "ccdd"))
    order: list[Any] = []
    for turn in range(8):
        (got,) = (await _ask(storage, *parked.values(), limit=1, **limits)).jobs
        order += _tenants((got,))
        if got.id in parked:
            await _park(storage, got, name=f"{turn}")
            await _wake(storage, got, name=f"{turn}")
    assert [sorted(order[n : n + 4]) for n in (0, 4)] == [list("abcd")] * 2
