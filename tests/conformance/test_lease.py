"""Fencing: every write about an attempt names its lease, and one with another lease changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from jobrt._core import where
from jobrt._core.job import Claimed, JobRef
from jobrt._core.states import State, Transition
from jobrt._core.worker_info import WorkerInfo
from jobrt._storage.contract import Storage
from jobrt.errors import LeaseLost
from tests.conformance.build import add, ask, claim, complete, end, job, look, ref, start
from tests.conformance.harness import PATIENCE, Engine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Losing = Callable[[Storage, Claimed], Awaitable[object]]

NO_OUTCOMES = {"fall_due", "claim", "start", "postpone", "rerun", "wake", "close"}
"""What happens to a job otherwise than by an outcome."""


async def _rescued(storage: Storage, claimed: Claimed) -> None:
    assert len(await storage.workers.rescue()) == 1  # the worker never registered, so it is gone


async def _rescued_and_claimed(storage: Storage, claimed: Claimed) -> None:
    await _rescued(storage, claimed)
    assert [one.id for one in await claim(storage, worker="w2")] == [claimed.id]


async def _rescued_and_completed(storage: Storage, claimed: Claimed) -> None:
    await _rescued(storage, claimed)
    await complete(storage, *await claim(storage, worker="w2"), result='"theirs"')


async def _rescued_and_claimed_by_itself(storage: Storage, claimed: Claimed) -> None:
    await _rescued(storage, claimed)
    assert [one.id for one in await claim(storage)] == [claimed.id]


async def _completed_and_rerun(storage: Storage, claimed: Claimed) -> None:
    await complete(storage, claimed)
    assert await storage.jobs.rerun(where.id(claimed.id)) == 1


async def _snoozed_and_claimed(storage: Storage, claimed: Claimed) -> None:
    await storage.attempts.finish([end(claimed, Transition.SNOOZE)])
    assert [one.attempt for one in await claim(storage)] == [
        claimed.attempt
    ]  # the same number, another lease


async def _deleted(storage: Storage, claimed: Claimed) -> None:
    assert await storage.jobs.delete(where.id(claimed.id)) == 1


async def _never_had(storage: Storage, claimed: Claimed) -> None:
    await trio.lowlevel.checkpoint()


LOST = [
    _rescued,
    _rescued_and_claimed,
    _rescued_and_completed,
    _rescued_and_claimed_by_itself,
    _completed_and_rerun,
    _snoozed_and_claimed,
    _deleted,
    _never_had,
]


ENDED = [_completed_and_rerun, _snoozed_and_claimed]


@pytest.fixture(params=LOST, ids=lambda lost: lost.__name__.strip("_"))
async def lost(request: pytest.FixtureRequest, storage: Storage) -> JobRef:
    """A lost lease, for each way to lose one."""
    how: Losing = request.param
    claimed = await start(storage)
    await how(storage, claimed)
    return JobRef(claimed.id, claimed.lease + (10_000 if how is _never_had else 0))


@pytest.fixture
def answers(request: pytest.FixtureRequest, lost: JobRef) -> tuple[tuple[JobRef, ...], ...]:
    """Allowed results for an outcome under the lost lease.

    An attempt that ended before its job continued had its outcome written: repeated, it may count as accepted.
    """
    ended = request.node.callspec.params["lost"] in ENDED
    return ((lost,), ()) if ended else ((lost,),)


@pytest.mark.parametrize("event", [one for one in Transition if one.value not in NO_OUTCOMES])
async def test_a_stale_outcome_is_refused(
    engine: Engine, lost: JobRef, answers: tuple[tuple[JobRef, ...], ...], event: Transition
) -> None:
    """The outcome of an attempt that lost its lease is reported as refused, and not one byte changes."""
    storage = engine.storage
    before = await engine.everything()
    assert await storage.attempts.finish([end(lost, event, message="stale", result='"stale"')]) in answers
    assert await engine.everything() == before


async def test_a_stale_outcome_is_refused_by_exchange(
    engine: Engine, lost: JobRef, answers: tuple[tuple[JobRef, ...], ...]
) -> None:
    """`exchange` refuses as `finish` does."""
    before = await engine.everything()
    assert (await engine.storage.attempts.exchange([end(lost)], ask(limit=0))).refused in answers
    assert await engine.everything() == before


async def test_stale_progress_is_refused(engine: Engine, lost: JobRef) -> None:
    """An attempt that lost its lease stores neither progress nor checkpoint."""
    before = await engine.everything()
    stored = await engine.storage.attempts.save(
        lost, progress='{"done": 9, "total": 9, "note": ""}', saved='"stale"'
    )
    assert stored is False
    assert await engine.everything() == before


async def test_a_stale_step_is_refused(engine: Engine, lost: JobRef) -> None:
    """An attempt that lost its lease stores no step."""
    before = await engine.everything()
    assert await engine.storage.attempts.save_step(lost, "fetch", '"stale"') is False
    assert await engine.everything() == before


async def test_a_stale_transaction_does_not_begin(engine: Engine, lost: JobRef) -> None:
    """An attempt that lost its lease gets no transaction."""
    before = await engine.everything()
    with pytest.raises(LeaseLost):
        async with engine.storage.attempts.transaction(lost, end(lost)):
            pytest.fail("the block was entered")
    assert await engine.everything() == before


@pytest.mark.parametrize(
    "event", [Transition.COMPLETE, Transition.RETRY, Transition.SNOOZE, Transition.DISCARD]
)
async def test_an_attempt_that_ended_cannot_save(engine: Engine, event: Transition) -> None:
    """Once its outcome is written an attempt is over: it stores nothing more."""
    storage = engine.storage
    claimed = await start(storage)
    await storage.attempts.finish([end(claimed, event, delay=60.0)])
    before = await engine.everything()
    assert await storage.attempts.save(ref(claimed), saved="1") is False
    assert await storage.attempts.save_step(ref(claimed), "fetch", "1") is False
    with pytest.raises(LeaseLost):
        async with storage.attempts.transaction(ref(claimed), end(claimed)):
            pytest.fail("the block was entered")
    assert await engine.everything() == before


async def test_a_lease_belongs_to_one_job(storage: Storage) -> None:
    """Another job's lease, even from the same claim, is refused."""
    a, b = await add(storage, job(), job(delay=None))
    first, second = await claim(storage)
    assert (first.id, second.id) == (a, b)
    await storage.jobs.delete(where.id(a))
    third = await start(storage)
    crossed = JobRef(third.id, second.lease)
    assert crossed != ref(third)
    assert await storage.attempts.finish([end(crossed)]) == (crossed,)
    assert (await look(storage, third.id)).state is State.EXECUTING


async def test_a_worker_that_slept_past_its_lease_is_fenced(engine: Engine) -> None:
    """A worker is stopped, its job rescued and run by another: the other's outcome is kept, its own is refused."""
    storage = engine.storage
    await storage.workers.register("sleeper", lease=30, info=WorkerInfo())
    slept = await start(storage, worker="sleeper")
    await engine.advance(31)
    async with engine.open() as other:
        await other.workers.register("w2", lease=30, info=WorkerInfo())
        assert [one.id for one in await other.workers.rescue()] == [slept.id]
        (again,) = await claim(other, worker="w2")
        await complete(other, again, result='"theirs"')
    before = await engine.everything()
    assert await storage.attempts.finish([end(slept, result='"mine"')]) == (ref(slept),)
    assert await engine.everything() == before
    record = await look(storage, slept.id)
    assert (record.state, record.result, record.worker, record.attempt) == (
        State.COMPLETED,
        "theirs",
        "w2",
        2,
    )


async def test_cancel_and_completion_race(engine: Engine) -> None:
    """In either order, the job is completed and intact, and an accepted request was made while it ran."""
    async with engine.open() as other:
        for _ in range(10):
            claimed = await start(engine.storage)
            numbers: list[tuple[int, int]] = []

            async def ask_to_cancel(id: int, numbers: list[tuple[int, int]]) -> None:
                numbers.append(await other.jobs.cancel(where.id(id), "race"))

            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(ask_to_cancel, claimed.id, numbers)
                    nursery.start_soon(complete, engine.storage, claimed)
            record = await look(engine.storage, claimed.id)
            assert record.state is State.COMPLETED
            assert numbers in ([(0, 0)], [(0, 1)])
            if numbers == [(0, 0)]:
                assert record.cancel_reason is None


async def test_cancel_and_claim_race(engine: Engine) -> None:
    """A job is either cancelled while it waits or gets a request while it runs; never both, never neither."""
    async with engine.open() as other:
        for _ in range(10):
            (id,) = await add(engine.storage, job())
            results: dict[str, object] = {}

            async def cancel(id: int, results: dict[str, object]) -> None:
                results["cancel"] = await other.jobs.cancel(where.id(id), "race")

            async def take(results: dict[str, object]) -> None:
                results["claimed"] = [one.id for one in await claim(engine.storage)]

            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(cancel, id, results)
                    nursery.start_soon(take, results)
            state = (await look(engine.storage, id)).state
            assert (results["cancel"], results["claimed"], state) in [
                ((1, 0), [], State.CANCELLED),
                ((0, 1), [id], State.EXECUTING),
            ]
            await engine.storage.jobs.delete(where.everything())


async def test_rescue_and_completion_race(engine: Engine) -> None:
    """Either the outcome is refused and the job waits again, or it was accepted and there was nothing to rescue."""
    async with engine.open() as other:
        for _ in range(10):
            claimed = await start(engine.storage)
            results: dict[str, object] = {}

            async def finish(claimed: Claimed, results: dict[str, object]) -> None:
                results["refused"] = await engine.storage.attempts.finish([end(claimed)])

            async def rescue(results: dict[str, object]) -> None:
                results["rescued"] = [one.id for one in await other.workers.rescue()]

            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(finish, claimed, results)
                    nursery.start_soon(rescue, results)
            state = (await look(engine.storage, claimed.id)).state
            assert (results["refused"], results["rescued"], state) in [
                ((), [], State.COMPLETED),
                ((ref(claimed),), [claimed.id], State.RETRYABLE),
            ]
            await engine.storage.jobs.delete(where.everything())
