"""`JobStore.prune`: final jobs are deleted as the rules say, and live ones never are."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobrt._core import where
from jobrt._core.keep import PruneRule
from jobrt._core.states import FINAL, State, Transition
from jobrt._storage.contract import Storage
from tests.conformance.build import add, claim, complete, end, job, look, ref, start, states
from tests.conformance.drive import drive, wait
from tests.conformance.filters import populate
from tests.conformance.test_manage import one_of_each

if TYPE_CHECKING:
    from tests.conformance.harness import Engine

HOUR = timedelta(hours=1)


def rule(state: State = State.COMPLETED, **options: Any) -> PruneRule:
    """Make a rule; without options all jobs of its state are deleted."""
    return PruneRule(state=state, **options)


async def _completed(engine: Engine, *names: str, queue: str = "default") -> list[int]:
    """Complete a job of each name, one second after the other, and return their ids."""
    ids = []
    for name in names:
        claimed = await start(engine.storage, job(name, queue=queue))
        await complete(engine.storage, claimed)
        await engine.advance(1)
        ids.append(claimed.id)
    return ids


async def _left(storage: Storage) -> list[int]:
    return [one.id for one in await storage.jobs.query(where.everything(), order_by="id")]


async def test_no_rules(storage: Storage) -> None:
    """Nothing is deleted without a rule."""
    await complete(storage, await start(storage))
    assert await storage.jobs.prune([]) == 0
    assert await states(storage) == ["completed"]


async def test_live_jobs_are_never_touched(storage: Storage) -> None:
    """Rules that delete all final jobs keep every live job."""
    ids = await one_of_each(storage)
    assert await storage.jobs.prune([rule(state) for state in FINAL]) == 3
    assert set(await _left(storage)) == {id for state, id in ids.items() if state not in FINAL}


async def test_each_state_has_its_rules(storage: Storage) -> None:
    """A rule is about one state."""
    ids = await one_of_each(storage)
    assert await storage.jobs.prune([rule(State.CANCELLED)]) == 1
    assert await storage.jobs.get(ids[State.CANCELLED]) is None
    assert len(await _left(storage)) == len(ids) - 1


async def test_by_age(engine: Engine) -> None:
    """Jobs that finished longer ago than the age are deleted; their creation time does not matter."""
    storage = engine.storage
    late = await start(storage)
    (old,) = await _completed(engine, "send")
    await engine.advance(7200)
    (new,) = await _completed(engine, "send")
    await complete(storage, late)
    assert await storage.jobs.prune([rule(age=HOUR)]) == 1
    assert await _left(storage) == sorted([late.id, new])
    assert await storage.jobs.get(old) is None


async def test_the_newest_of_each_name_stay(engine: Engine) -> None:
    """`keep_at_least` counts by name, newest finished first."""
    storage = engine.storage
    ids = await _completed(engine, "a", "b", "a", "a", "b", "c", "a")
    assert await storage.jobs.prune([rule(keep_at_least=2)]) == 2
    assert await _left(storage) == [ids[n] for n in (1, 3, 4, 5, 6)]


async def test_newest_means_finished_last(engine: Engine) -> None:
    """Not created last: a long job that ended just now is the newest."""
    storage = engine.storage
    slow = await start(storage)
    await _completed(engine, "send", "send")
    await complete(storage, slow)
    assert await storage.jobs.prune([rule(keep_at_least=1)]) == 2
    assert await _left(storage) == [slow.id]


async def test_of_those_finished_at_one_moment_exactly_so_many_stay(storage: Storage) -> None:
    """A batch of equal finish times does not make a rule keep more, or none; the highest ids stay."""
    ids = await add(storage, *(job() for _ in range(10)))
    await complete(storage, *await claim(storage))
    assert await storage.jobs.prune([rule(keep_at_least=3)]) == 7
    assert await _left(storage) == ids[-3:]


async def test_keeping_none_keeps_none(engine: Engine) -> None:
    """`keep_at_least=0` keeps no job, not one."""
    await _completed(engine, "a", "b", "a")
    assert await engine.storage.jobs.prune([rule(keep_at_least=0)]) == 3


async def test_age_and_number_together(engine: Engine) -> None:
    """Old ones go, but the newest so many of each name stay however old."""
    storage = engine.storage
    ids = await _completed(engine, "a", "a", "a", "b")
    await engine.advance(7200)
    ids += await _completed(engine, "a")
    assert await storage.jobs.prune([rule(age=HOUR, keep_at_least=2)]) == 2
    assert await _left(storage) == ids[2:]


async def test_only_some_names(engine: Engine) -> None:
    """A rule may be about some names alone, or about all but some."""
    storage = engine.storage
    ids = await _completed(engine, "a", "b", "c")
    assert await storage.jobs.prune([rule(only=("b", "x"))]) == 1
    assert await storage.jobs.prune([rule(except_=("c", "x"))]) == 1
    assert await _left(storage) == [ids[2]]


async def test_only_some_queues(engine: Engine) -> None:
    """A rule may be about one queue, or about all but some."""
    storage = engine.storage
    (a,) = await _completed(engine, "send", queue="a")
    (b,) = await _completed(engine, "send", queue="b")
    (c,) = await _completed(engine, "send", queue="c")
    assert await storage.jobs.prune([rule(except_queues=("a", "b"))]) == 1
    assert await storage.jobs.get(c) is None
    assert await storage.jobs.prune([rule(queue="a")]) == 1
    assert await storage.jobs.get(a) is None
    assert await _left(storage) == [b]


async def test_a_rule_counts_what_it_covers(engine: Engine) -> None:
    """Jobs of other queues or states are not among the newest that stay."""
    storage = engine.storage
    (a,) = await _completed(engine, "send", queue="a")
    await _completed(engine, "send", "send", queue="b")
    discarded = await start(storage, job(queue="a"))
    await storage.attempts.finish([end(discarded, Transition.DISCARD)])
    assert await storage.jobs.prune([rule(queue="a", keep_at_least=1)]) == 0
    assert (await look(storage, a)).state is State.COMPLETED


async def test_a_limit_bounds_one_call(storage: Storage) -> None:
    """At most `limit` go at a time; called again while it returns the limit, all go."""
    await add(storage, *(job() for _ in range(10)))
    await complete(storage, *await claim(storage))
    rules = [rule(keep_at_least=1), rule(State.DISCARDED)]
    assert [await storage.jobs.prune(rules, limit=4) for _ in range(4)] == [4, 4, 1, 0]


async def test_the_limit_is_for_all_rules_together(storage: Storage) -> None:
    """However many rules there are."""
    await one_of_each(storage)
    rules = [rule(state) for state in sorted(FINAL)]
    assert [await storage.jobs.prune(rules, limit=2) for _ in range(3)] == [2, 1, 0]


async def test_a_rerun_job_is_not_pruned(storage: Storage) -> None:
    """A job that was rerun is live again."""
    claimed = await start(storage)
    await complete(storage, claimed)
    await storage.jobs.rerun(where.id(claimed.id))
    assert await storage.jobs.prune([rule()]) == 0


async def test_what_belongs_to_a_pruned_job_goes_with_it(engine: Engine) -> None:
    """Details and steps are not found under an id that is gone."""
    storage = engine.storage
    claimed = await start(storage)
    await storage.attempts.save_step(ref(claimed), "fetch", "1")
    await complete(storage, claimed, result="1")
    assert await storage.jobs.prune([rule()]) == 1
    assert await storage.attempts.steps(ref(claimed)) == {}
    assert await storage.jobs.get(claimed.id) is None


async def test_two_that_prune_at_once(engine: Engine) -> None:
    """They share the work: every job goes once, and what is to stay stays."""
    ids = await add(engine.storage, *(job() for _ in range(200)))
    await complete(engine.storage, *await claim(engine.storage))
    numbers: list[int] = []

    async def prune(storage: Storage) -> None:
        while gone := await storage.jobs.prune([rule(keep_at_least=5)], limit=20):
            numbers.append(gone)

    async with engine.open() as other, trio.open_nursery() as nursery:
        nursery.start_soon(prune, engine.storage)
        nursery.start_soon(prune, other)
    assert sum(numbers) == 195
    assert await _left(engine.storage) == ids[-5:]


async def test_rules_mean_what_python_says(engine: Engine) -> None:
    """For rules drawn at random, what goes is what `PruneRule.covers` and `removes` say."""
    storage = engine.storage
    some = st.lists(st.sampled_from(["send", "Send", "it's", "x"]), max_size=2).map(tuple)
    rules = st.builds(
        PruneRule,
        state=st.sampled_from(sorted(FINAL)),
        age=st.none() | st.integers(0, 12).map(lambda n: timedelta(seconds=1000 * n + 500)),
        keep_at_least=st.integers(0, 3),
        only=some,
        except_=some,
        queue=st.none() | st.sampled_from(["default", "mail"]),
        except_queues=st.lists(st.sampled_from(["default", "mail"]), max_size=1).map(tuple),
    )

    async def check(one: PruneRule) -> None:
        await storage.jobs.delete(where.everything())
        await populate(engine)
        before, now = await storage.jobs.query(where.everything()), await storage.schema.now()
        covered = [it for it in before if one.covers(it.state, name=it.name, queue=it.queue)]
        covered.sort(key=lambda it: (it.finished_at, it.id), reverse=True)
        gone = set()
        for at, it in enumerate(covered):
            newer = sum(other.name == it.name for other in covered[:at])
            assert it.finished_at is not None
            if one.removes(it.finished_at, newer=newer, now=now):
                gone.add(it.id)
        assert await storage.jobs.prune([one]) == len(gone)
        assert set(await _left(storage)) == {it.id for it in before} - gone

    @settings(max_examples=25 if engine.name == "memory" else 5, suppress_health_check=list(HealthCheck))
    @given(rules)
    def run(one: PruneRule) -> None:
        wait(check, one)

    await drive(run)
