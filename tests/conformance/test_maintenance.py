"""What works on many jobs at once in the background: no job makes it fail, and none is left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import pytest

from jobrt._core import where
from jobrt._core.job import Start
from jobrt._core.keep import PruneRule
from jobrt._core.states import FINAL, State, Transition
from jobrt._storage.apart import Refused
from jobrt.errors import StorageError
from tests.conformance.build import add, ask, claim, end, job, ref
from tests.conformance.population import LIVING, PASSED, Case, Population, cases, populate

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from jobrt._storage.contract import Storage
    from tests.conformance.harness import Engine

EVERYTHING = where.everything()


async def _until_done(storage: Storage, *names: str) -> None:
    for name in names:
        if name == "rescue":
            for _ in range(20):  # parked jobs are not counted
                await storage.workers.rescue(limit=50)
        else:
            while (await storage.scopes.tend(limit=50)).more:
                pass


async def _nothing_due_is_left(
    engine: Engine, people: Population, *, but: AbstractSet[int] = frozenset()
) -> None:
    """Look at each job, `but` at some that nothing could be done with."""
    storage = engine.storage
    waiting = await engine.execute(
        f"select job_id, worker from {await engine.table('job_id', 'until', 'worker')}"
    )
    assert {worker for job_id, worker in waiting if job_id not in but} <= {None, LIVING}
    rows = await engine.execute(f"select id, lease, worker from {await engine.job_table()}")
    holders = {
        worker for job_id, lease, worker in rows if job_id not in but and lease is not None and lease > 0
    }
    assert holders <= {LIVING}
    told = {request.ref.id for request in (await storage.workers.changes(LIVING)).cancels}
    records = {record.id: record for record in await storage.jobs.query(EVERYTHING)}
    for job_id, case in people.cases.items():
        if job_id not in but:
            held = job_id in people.held
            _is_maintained(case, records[job_id].state, held=held, told=job_id in told)


def _is_maintained(case: Case, state: State, *, held: bool, told: bool) -> None:
    over = state in FINAL | {State.CLOSING}
    if not held:
        assert state not in {State.EXECUTING, State.CLAIMED}, case
    if case.held == "retryable" and case.family in {"child", "running"}:
        return  # it was closing, and nobody could end it
    if case.stop in {"cancel", "parent", "late"}:
        assert over or (held and told), case
    elif case.stop == "expired" and case.held in {"waiting", "scheduled"}:
        assert state is State.DISCARDED, case
    elif case.stop == "":
        assert not over, case


async def _all_end(storage: Storage, people: Population) -> None:
    """Everything is cancelled, and the living worker ends what it holds: then all jobs are final."""
    await storage.jobs.cancel(EVERYTHING, "all")
    await storage.attempts.finish(
        [end(one, Transition.CANCEL, message="asked") for one in people.held.values()]
    )
    await _until_done(storage, "tend")
    await storage.jobs.cancel(EVERYTHING, "all")  # those that wait for a retry were closing before
    await _until_done(storage, "tend")
    left = [record for record in await storage.jobs.query(EVERYTHING) if record.state not in FINAL]
    assert [(people.cases.get(record.id), record.name, record.state) for record in left] == []


@pytest.mark.parametrize("order", [("rescue", "tend"), ("tend", "rescue", "tend")], ids="-".join)
async def test_every_combination_is_maintained(engine: Engine, order: tuple[str, ...]) -> None:
    """Every combination of holder, wait, family and end, all at once: nothing fails, and nothing due is left."""
    storage = engine.storage
    wanted = list(cases(all_of_them=engine.name == "memory"))
    if engine.name != "memory":  # half of them in each order: files and servers take their time
        wanted = wanted[len(order) % 2 :: 2]
    people = await populate(storage, wanted)
    assert storage.aside.take() == ()
    await engine.advance(PASSED)
    await storage.attempts.show_started([Start(*ref(one), 0) for one in people.held.values()])
    await _until_done(storage, *order)
    assert storage.aside.take() == ()
    due = (await storage.scopes.tend()).next_due
    assert due is None or due > 0
    assert [worker.id for worker in await storage.workers.all()] == [LIVING]
    await _nothing_due_is_left(engine, people)
    await _all_end(storage, people)
    await _prune_all(storage)
    assert storage.aside.take() == ()
    left = {name for name, rows in (await engine.everything()).items() if rows}
    assert {name.removeprefix("jobrt_").rpartition(".")[2].strip('"') for name in left} <= _NOT_OF_A_JOB


async def _prune_all(storage: Storage) -> None:
    for _ in range(2):  # children go with their parents
        await storage.jobs.prune([PruneRule(state=state) for state in sorted(FINAL)])


_NOT_OF_A_JOB = {"worker", "past", "rollup", "migration", "lease", "sequence", "queue", "bucket"}


@pytest.mark.parametrize("retry", [0.0, 60.0])
async def test_a_job_that_cannot_be_changed_is_set_aside(engine: Engine, retry: float) -> None:
    """The database refuses to change every third job: the others are maintained, and it is told of those only."""
    storage = engine.storage
    storage.aside.retry = retry
    wanted = list(cases(all_of_them=False))[::7]
    people = await populate(storage, wanted, bad=range(0, len(wanted), 3))
    await engine.advance(PASSED)
    for operation in ("update", "delete"):
        await engine.refuse(operation, "old.name = 'bad'")
    await storage.attempts.show_started([Start(*ref(one), 0) for one in people.held.values()])
    await _until_done(storage, "rescue", "tend")
    refused = {one.id for one in storage.aside.take()}
    bad = {record.id for record in await storage.jobs.query(where.name("bad"))}
    assert refused & bad
    below = {record.id for record in await storage.jobs.query(where.name("child"))}
    assert refused <= bad | below  # the end of a child changes its parent
    await _nothing_due_is_left(engine, people, but=bad)
    if retry:  # they are left out, so that nobody looks at them again and again
        due = (await storage.scopes.tend()).next_due
        assert due is None or due > 0
        return
    for operation in ("update", "delete"):
        await engine.allow(operation)
    await _until_done(storage, "rescue", "tend")
    await _nothing_due_is_left(engine, people)


async def test_final_jobs_that_cannot_be_deleted_are_set_aside(engine: Engine) -> None:
    """The database refuses to delete some: the others are pruned, and later calls do not meet those again."""
    storage = engine.storage
    bad = await add(storage, *(job("bad") for _ in range(3)))
    await add(storage, *(job() for _ in range(4)))
    await storage.jobs.cancel(EVERYTHING, "all")
    await engine.refuse("delete", "old.name = 'bad'")
    assert (
        await storage.jobs.prune([PruneRule(state=State.CANCELLED)], limit=5)
        + await storage.jobs.prune([PruneRule(state=State.CANCELLED)], limit=5)
        == 4
    )
    assert sorted(storage.aside.take()) == [Refused(job_id, "prune", ANY) for job_id in bad]
    assert await storage.jobs.prune([PruneRule(state=State.CANCELLED)]) == 0
    assert storage.aside.take() == ()
    assert await storage.jobs.count(EVERYTHING) == 3


async def test_unknown_claims_that_cannot_be_released_are_set_aside(engine: Engine) -> None:
    """A reply to a claim was lost, and the database refuses to change one of its jobs: the others come back."""
    storage = engine.storage
    (bad,) = await add(storage, job("bad"))
    ids = await add(storage, *(job() for _ in range(4)))
    assert len(await claim(storage, "send", "bad")) == 5
    await engine.refuse("update", "old.name = 'bad'")
    assert await storage.attempts.release_unknown("w1", "default", ()) == 4
    assert [one.id for one in storage.aside.take()] == [bad]
    assert {one.id for one in await claim(storage)} == set(ids)


async def test_a_start_that_cannot_be_shown_is_set_aside(engine: Engine) -> None:
    """The starts of the others are shown."""
    storage = engine.storage
    await add(storage, job("bad"), *(job() for _ in range(4)))
    claimed = await claim(storage, "send", "bad", free_slots=0)
    await engine.refuse("update", "old.name = 'bad'")
    await storage.attempts.show_started([Start(*ref(one), 1) for one in claimed])
    assert [(one.id, one.doing) for one in storage.aside.take()] == [(claimed[0].id, "start")]
    states = [record.state for record in await storage.jobs.query(EVERYTHING, order_by="id")]
    assert states == [State.CLAIMED, *[State.EXECUTING] * 4]


async def test_a_job_that_refuses_changes_is_awaited_like_others(engine: Engine) -> None:
    """Nothing notes that somebody waits for it. Those who wait for others are not disturbed."""
    storage = engine.storage
    ids = await add(storage, job("bad"), *(job() for _ in range(4)))
    await engine.refuse("update", "old.name = 'bad'")
    assert await storage.jobs.await_final(ids) == dict.fromkeys(ids, "available")


LIMITS: dict[str, dict[str, Any]] = {
    "none": {},
    "of names": {"capped": (("bad", 9), ("send", 9))},
    "of the cluster": {"cluster_limit": 50},
    "of keys": {"key": "args.tenant", "per_key": 9},
}


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("retry", [0.0, 60.0], ids=["tried at once", "tried later"])
async def test_a_job_that_cannot_be_claimed_is_set_aside(
    engine: Engine, limits: dict[str, Any], retry: float
) -> None:
    """The others are claimed, whatever limits there are."""
    storage = engine.storage
    storage.aside.retry = retry
    demand = ask(*(() if "capped" in limits else ("bad", "send")), limit=5, **limits)
    (first,) = await add(storage, job("bad", priority=2))
    ids = await add(storage, *(job() for _ in range(3)))
    (second,) = await add(storage, job("bad"))
    await engine.refuse("update", "old.name = 'bad'")
    exchange = await storage.attempts.exchange((), demand)
    assert [one.id for one in exchange.jobs] == ids
    assert exchange.cut or "key" in limits, "more jobs may be due"
    refused = storage.aside.take()
    assert refused == (Refused(first, "claim", ANY), Refused(second, "claim", ANY))
    assert "refused by the test" in refused[0].error
    # Jobs without a key are not met before the next search for such jobs.
    tried = [] if retry or "key" in limits else [first, second]
    (last,) = await add(storage, job())
    assert [one.id for one in (await storage.attempts.exchange((), demand)).jobs] == [last]
    assert [one.id for one in storage.aside.take()] == tried
    await engine.allow("update")
    assert [one.id for one in (await storage.attempts.exchange((), demand)).jobs] == tried


async def test_a_claim_that_fails_for_another_reason_is_not_repeated(engine: Engine) -> None:
    """If no job is the cause, the error is raised, and none is set aside."""
    await add(engine.storage, job())
    await engine.execute(f"alter table {await engine.job_table()} rename to gone")
    with pytest.raises(StorageError):
        await claim(engine.storage)
    assert engine.storage.aside.take() == ()
