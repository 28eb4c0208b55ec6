"""Jobs that wait in a worker for a slot of a limit that it has alone."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.test_fencing import scene
from tests.runtime.test_ledger import job
from trio.testing import MockClock

import jobrt
from jobrt import where
from jobrt._core.job import Claimed, Outcome
from jobrt._core.limits import Demand
from jobrt._core.queues import Queue
from jobrt._runtime.chains import WAIT_LIMIT, Chains, Link
from jobrt._runtime.ledger import Ledger
from jobrt._runtime.messages import OutcomeBatch, Report
from jobrt.testing import open_app

KEYED = Queue(10, key="args.who", per_key=2)


def links(*ids: int, **fields: Any) -> list[Link]:
    """Return jobs of one claim."""
    return [Link(job(number, ahead=True)._replace(**fields), "w", 0, 0.0) for number in ids]


def ids(found: list[Link]) -> list[int]:
    """Return the ids of jobs."""
    return [link.job.id for link in found]


def all_of(key: str, *numbers: int) -> dict[int, str]:
    """Return the keys of jobs that have the same."""
    return dict.fromkeys(numbers, key)


@given(st.integers(0, 2**32))
def test_no_key_has_more_jobs_than_slots_and_none_is_lost(seed: int) -> None:
    """Whatever the order of claims, ends and returns: what has a slot is within the limits, and all get theirs."""
    plan = random.Random(seed)
    limit = plan.choice([math.inf, 3])
    chains = Chains(2, limit)
    keys = {number: plan.choice("abc") for number in range(plan.randint(1, 30))}
    unclaimed: list[int] = list(keys)
    running: dict[int, Claimed] = {}
    over: set[int] = set()
    while len(over) < len(keys):
        free: list[Link] = []
        if unclaimed and plan.random() < 0.4:
            batch, unclaimed = unclaimed[:8], unclaimed[8:]
            free = chains.add(links(*batch), keys=keys, now=0.0)
        elif running and plan.random() < 0.8:
            ended = plan.sample(sorted(running), plan.randint(1, len(running)))
            free = chains.end([running.pop(number) for number in ended])
            over.update(ended)
        elif chains.jobs and plan.random() < 0.3:
            ended = [held.id for held in chains.withdraw(plan.sample(chains.jobs, 1))]
            assert chains.end([job(number) for number in ended]) == []
            over.update(ended)
        else:
            unclaimed += sorted(back.id for back in chains.drop())
        running |= {link.job.id: link.job for link in free}
        assert len(running) <= limit
        assert all(number <= 2 for number in Counter(keys[number] for number in running).values())
        waiting = {held.id for held in chains.jobs}
        assert waiting | set(running) | over | set(unclaimed) == set(keys)
        assert running or not waiting


def test_slots_go_to_the_jobs_of_their_key_by_priority() -> None:
    """The order within a key is that of the claim, and urgent ones go first."""
    chains = Chains.of(KEYED)
    first = chains.add(links(1, 2, 3, 4), keys=all_of("a", 1, 2, 3, 4), now=0.0)
    assert ids(first) == [1, 2]
    chains.add(links(5, priority=7), keys=all_of("a", 5), now=0.0)
    assert ids(chains.end([first[0].job])) == [5]
    assert ids(chains.end([first[1].job])) == [3]


def test_a_claim_is_wanted_when_a_lane_is_low() -> None:
    """Not while more than a third of the jobs wait, unless a key without any has a free slot."""
    chains = Chains.of(KEYED)
    first = chains.add(links(*range(8)), keys=all_of("a", *range(8)), now=0.0)
    chains.add(links(9), keys=all_of("b", 9), now=0.0)
    wanted = []
    for _ in range(4):
        first += chains.end([first.pop(0).job])
        wanted.append(chains.low)
    assert wanted == [False, False, False, True]
    chains.end([job(9)])
    assert chains.low


def test_a_parked_job_that_ends_while_its_claim_waits_for_a_slot_frees_none() -> None:
    """It was claimed ahead, and its attempt was cancelled under that claim. The slot is another's."""
    ledger = Ledger(KEYED)
    keys = all_of("a", 1, 2, 3, 4)
    asked = Demand("w", "mail", 4, ("Work",), key="args.who", per_key=2, ahead=2)
    claimed = tuple(job(number, ahead=number > 2) for number in range(1, 5))
    ledger.accept(asked, claimed, left_out=False, now=0.0, keys=keys)
    assert (ledger.sent, ledger.chained, ledger.held) == (2, 2, 4)
    ended = OutcomeBatch("mail", 1, (Report(Outcome(3, 1), job(3), 0.0),))
    assert [back.id for back in ledger.withdraw(ended.reports)] == [3]
    ledger.take_back(ended, attempts=0)
    assert (ledger.sent, ledger.chained, ledger.held) == (2, 1, 3)
    assert [one.id for one in ledger.drop_unsent()] == [1, 2, 4]
    assert Ledger(Queue(4)).withdraw(ended.reports) == []


def test_what_waits_for_too_long_goes_back() -> None:
    """All jobs, if none has started meanwhile; else a multiple of those that have may stay."""
    chains = Chains.of(KEYED)
    first = chains.add(links(*range(12)), keys=all_of("a", *range(12)), now=0.0)
    assert chains.due() == WAIT_LIMIT
    chains.end([first[0].job])
    late, stuck = chains.late(WAIT_LIMIT, standstill=False)
    assert ([one.id for one in late], stuck) == ([7, 8, 9, 10, 11], False)
    assert chains.late(WAIT_LIMIT, standstill=False) == ([], False)
    assert chains.late(2 * WAIT_LIMIT, standstill=True) == ([], False)
    late, stuck = chains.late(3 * WAIT_LIMIT, standstill=False)
    assert ([one.id for one in late], stuck) == ([3, 4, 5, 6], True)
    assert not chains.waiting


def test_which_queues_claim_ahead_for_their_limits() -> None:
    """Not under rates or in turns, where the order of starts matters to others; not under two limits."""
    rate = jobrt.Rate(1)
    assert KEYED.has_chains
    assert Queue(cluster_limit=3).has_chains
    others = [
        Queue(),
        Queue(rate=rate),
        Queue(key="name", per_key=1, fair=True),
        Queue(key="name", per_key=1, cluster_limit=2),
        Queue(key="name", per_key=1, per_key_rate=rate),
        Queue(cluster_limit=1, rate=rate),
    ]
    assert not any(queue.has_chains for queue in others)


# ---------------------------------------------------------------------- in a worker


class Work(jobrt.Job):
    """Take as long as the payload says, and count how many do."""

    who: str = "a"
    seconds: float = 0.0

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.state[self.who] += 1
        ctx.state["most"] = max(ctx.state["most"], ctx.state[self.who])
        if self.seconds:
            await trio.sleep(self.seconds)
        ctx.state[self.who] -= 1


LIMITED = pytest.mark.parametrize(
    "queue", [KEYED, Queue(10, cluster_limit=2)], ids=["of a key", "of the queue"]
)


@LIMITED
async def test_quick_jobs_under_a_limit_need_few_claims(queue: Queue, autojump_clock: MockClock) -> None:
    """They are claimed in hundreds, although only two of them run at once."""
    calls: Counter[str] = Counter()

    def count(name: str) -> None:
        calls[name] += 1

    running: Counter[str] = Counter()
    async with scene(count, [Work], state=running, queues={"default": queue}) as here:
        await here.client.enqueue_many([Work(seconds=0.0001)] * 1000)
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(here.app.run_worker)
            await worker.wait_idle()
            await worker.stop()
    assert running["most"] == 2
    assert calls["exchange"] < 100


@LIMITED
async def test_slow_jobs_under_a_limit_are_not_kept(queue: Queue, autojump_clock: MockClock) -> None:
    """What does not start soon goes back, so that another worker could take it; no attempt is used."""
    running: Counter[str] = Counter()
    opened = open_app(jobs=[Work], queues={"default": queue}, state=running)
    async with opened as (app, client), trio.open_nursery() as nursery:
        await client.enqueue_many([Work(seconds=0.001)] * 100 + [Work(seconds=5.0)] * 100)
        worker = await nursery.start(app.run_worker)
        await trio.sleep(2)
        counts = Counter(record.state.value for record in await client.query(limit=None))
        assert counts == {"completed": 100, "executing": 2, "available": 98}
        assert all(record.attempt <= 1 for record in await client.query(where.state("executing")))
        assert not any(record.attempt for record in await client.query(where.state("available")))
        await worker.wait_idle()
        await worker.stop()
    assert running["most"] == 2


async def test_a_pause_of_a_key_holds_what_was_claimed_ahead(autojump_clock: MockClock) -> None:
    """A job that returns Throttle stops the jobs of its key that wait in the worker."""
    starts: list[float] = []

    class Paused(jobrt.Job):
        who: str = "a"

        async def run(self, ctx: jobrt.Context) -> jobrt.Throttle | None:
            starts.append(trio.current_time())
            if len(starts) == 60:
                return jobrt.Throttle(30)
            await trio.sleep(0.0001)
            return None

    opened = open_app(jobs=[Paused], queues={"default": Queue(10, key="args.who", per_key=1)})
    async with opened as (app, client), trio.open_nursery() as nursery:
        await client.enqueue_many([Paused()] * 200)
        worker = await nursery.start(app.run_worker)
        await worker.wait_idle()
        await trio.sleep(40)
        await worker.wait_idle()
        await worker.stop()
    assert len(starts) == 201
    assert starts[60] - starts[59] >= 30
