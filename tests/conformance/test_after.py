"""Jobs that wait for their children: due when the last of them is final, in any final state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jobrt._core import where
from jobrt._core.job import Claimed, JobRef
from jobrt._core.keep import PruneRule
from jobrt._core.scopes import Child
from jobrt._core.states import State, Transition
from jobrt._storage.contract import Storage
from tests.conformance.build import add, claim, complete, end, job, look, next_due, ref, start, states
from tests.conformance.test_listen import listening

if TYPE_CHECKING:
    from tests.conformance.harness import Engine

PARENT = job("parent", queue="parents")


async def _wait_for(storage: Storage, *children: int) -> Claimed:
    """Let a parent end its attempt by waiting for the children."""
    parent = await start(storage, PARENT)
    outcome = end(parent, Transition.SNOOZE, children=children)
    assert await storage.attempts.finish([outcome]) == ()
    return parent


async def _due(storage: Storage) -> list[int]:
    return [one.id for one in await claim(storage, "parent", queue="parents")]


async def test_a_parent_waits_for_its_children(engine: Engine) -> None:
    """It is scheduled, however much time goes by, until the last of them is final."""
    storage = engine.storage
    await add(storage, *(job() for _ in range(3)))
    children = await claim(storage)
    parent = await _wait_for(storage, *(one.id for one in children))
    for child in children:
        assert (await look(storage, parent.id)).state is State.SCHEDULED
        assert await _due(storage) == []
        await engine.advance(10 * 365 * 86_400)
        assert await _due(storage) == []
        await complete(storage, child)
    assert (await look(storage, parent.id)).state is State.AVAILABLE
    assert await _due(storage) == [parent.id]


@pytest.mark.parametrize(
    "event", [Transition.COMPLETE, Transition.DISCARD, Transition.CANCEL], ids=lambda event: event.value
)
async def test_every_final_state_counts(storage: Storage, event: Transition) -> None:
    """The parent becomes due and can read the failure; it does not wait forever."""
    child = await start(storage)
    parent = await _wait_for(storage, child.id)
    await storage.attempts.finish([end(child, event)])
    assert await _due(storage) == [parent.id]


async def test_a_child_that_is_retried_is_not_final(storage: Storage) -> None:
    """After retry, snooze and give-back the child is not final, so the parent still waits."""
    child = await start(storage, job(max_attempts=None))
    parent = await _wait_for(storage, child.id)
    for event in (Transition.RETRY, Transition.SNOOZE, Transition.GIVE_BACK):
        await storage.attempts.finish([end(child, event)])
        assert await _due(storage) == []
        (child,) = await claim(storage)
    await complete(storage, child)
    assert await _due(storage) == [parent.id]


async def test_children_that_ended_before(storage: Storage) -> None:
    """Children that are final or gone when the parent begins to wait do not count."""
    done, gone, running = await start(storage), await start(storage), await start(storage)
    await complete(storage, done)
    await storage.jobs.delete(where.id(gone.id))
    parent = await _wait_for(storage, done.id, gone.id, running.id)
    assert await _due(storage) == []
    await complete(storage, running)
    assert await _due(storage) == [parent.id]


async def test_all_children_ended_before(storage: Storage) -> None:
    """There is nothing to wait for: the parent is due immediately."""
    done = await start(storage)
    await complete(storage, done)
    parent = await _wait_for(storage, done.id, 10**9)
    assert (await look(storage, parent.id)).state is State.AVAILABLE
    assert await _due(storage) == [parent.id]


async def test_a_delay_without_children_to_wait_for(engine: Engine) -> None:
    """The delay of the outcome counts only if all children have ended already."""
    storage = engine.storage
    done, running = await start(storage), await start(storage)
    await complete(storage, done)
    free, waiting = await start(storage, PARENT), await start(storage, PARENT)
    await storage.attempts.finish(
        [
            end(free, Transition.SNOOZE, children=(done.id,), delay=5.0),
            end(waiting, Transition.SNOOZE, children=(done.id, running.id), delay=5.0),
        ]
    )
    assert await _due(storage) == []
    await complete(storage, running)
    assert await _due(storage) == [waiting.id]
    await engine.advance(5)
    assert await _due(storage) == [free.id]


async def test_a_child_that_ends_in_the_same_batch(storage: Storage) -> None:
    """The result does not depend on the order within the batch."""
    for first in (0, 1):
        child = await start(storage)
        parent = await start(storage, PARENT)
        batch = [end(child), end(parent, Transition.SNOOZE, children=(child.id,))]
        assert await storage.attempts.finish(batch if first else batch[::-1]) == ()
        assert await _due(storage) == [parent.id]


@pytest.mark.parametrize("how", ["cancel", "delete", "rescue"])
async def test_a_child_may_end_otherwise(storage: Storage, how: str) -> None:
    """Cancelled while it waits, deleted, or dead with its worker at its last attempt."""
    if how == "rescue":
        child = (await start(storage, job(max_attempts=1))).id
    else:
        (child,) = await add(storage, job())
    parent = await _wait_for(storage, child)
    assert await _due(storage) == []
    if how == "cancel":
        await storage.jobs.cancel(where.id(child), "x")
    elif how == "delete":
        await storage.jobs.delete(where.id(child))
    else:
        assert [one.state for one in await storage.workers.rescue()] == ["discarded"]
    assert await _due(storage) == [parent.id]


async def test_a_child_pruned_later_is_no_matter(storage: Storage) -> None:
    """It was final before the deletion, so the deletion does not change the count."""
    done, running = await start(storage), await start(storage)
    parent = await _wait_for(storage, done.id, running.id)
    await complete(storage, done)
    assert await storage.jobs.prune([PruneRule(state=State.COMPLETED)]) == 1
    assert await _due(storage) == []
    await complete(storage, running)
    assert await _due(storage) == [parent.id]


async def test_a_child_that_is_rerun_does_not_count_twice(storage: Storage) -> None:
    """Once it has been final, the parent has its answer from it."""
    first, second = await start(storage), await start(storage)
    parent = await _wait_for(storage, first.id, second.id)
    await complete(storage, first)
    await storage.jobs.rerun(where.id(first.id))
    (again,) = await claim(storage)
    await complete(storage, again)
    assert await _due(storage) == []
    await complete(storage, second)
    assert await _due(storage) == [parent.id]


async def test_a_child_named_twice(storage: Storage) -> None:
    """It is one child."""
    child = await start(storage)
    parent = await _wait_for(storage, child.id, child.id)
    await complete(storage, child)
    assert await _due(storage) == [parent.id]


async def test_two_parents_of_one_child(storage: Storage) -> None:
    """Both are due when it is final."""
    child = await start(storage)
    parents = [await _wait_for(storage, child.id) for _ in range(2)]
    await complete(storage, child)
    assert await _due(storage) == [one.id for one in parents]


async def test_children_that_end_together(storage: Storage) -> None:
    """In one batch, from one claim."""
    await add(storage, *(job() for _ in range(50)))
    children = await claim(storage)
    parent = await _wait_for(storage, *(one.id for one in children))
    await complete(storage, *children)
    assert await _due(storage) == [parent.id]


async def test_a_batch_in_which_not_every_child_ends(storage: Storage) -> None:
    """One is completed, one is tried again, and the outcome of one is refused: the parent waits for these two."""
    await add(storage, *(job() for _ in range(3)))
    ended, failed, kept = await claim(storage)
    parent = await _wait_for(storage, ended.id, failed.id, kept.id)
    late = kept._replace(lease=kept.lease + 1000)
    refused = await storage.attempts.finish([end(ended), end(failed, Transition.RETRY), end(late)])
    assert refused == (JobRef(late.id, late.lease),)
    assert await _due(storage) == []
    (failed,) = await claim(storage)
    await complete(storage, failed)
    assert await _due(storage) == []
    await complete(storage, kept)
    assert await _due(storage) == [parent.id]


async def test_a_batch_that_also_ends_a_closing_job(storage: Storage) -> None:
    """A parent waits for a job, and for one that is over when its own child is: both children end in one batch."""
    owner = await start(storage, job("owner"))
    await storage.scopes.open(ref(owner), "children", on_failure="cancel", seconds=None)
    await storage.scopes.enqueue(ref(owner), "children", [Child("only", job("member"))])
    (member,) = await claim(storage, "member")
    await complete(storage, owner)
    child = await start(storage)
    parent = await _wait_for(storage, child.id, owner.id)
    await complete(storage, child, member)
    assert (await look(storage, owner.id)).state is State.COMPLETED
    assert await _due(storage) == [parent.id]


async def test_a_parent_cancelled_while_it_waits(storage: Storage) -> None:
    """It stays cancelled when its children end."""
    child = await start(storage)
    parent = await _wait_for(storage, child.id)
    assert await storage.jobs.cancel(where.id(parent.id), "enough") == (1, 0)
    await complete(storage, child)
    assert (await look(storage, parent.id)).state is State.CANCELLED
    assert await _due(storage) == []


async def test_a_parent_deleted_while_it_waits(storage: Storage) -> None:
    """Its children run on as before."""
    child = await start(storage)
    parent = await _wait_for(storage, child.id)
    await storage.jobs.delete(where.id(parent.id))
    await complete(storage, child)
    assert await states(storage) == ["completed"]


async def test_waiting_uses_up_no_attempt_if_the_outcome_says_so(storage: Storage) -> None:
    """As for any snooze, and it may wait again for others."""
    first = await start(storage)
    parent = await _wait_for(storage, first.id)
    await complete(storage, first)
    (again,) = await claim(storage, "parent", queue="parents")
    assert (again.id, again.attempt) == (parent.id, parent.attempt)
    second = await start(storage)
    await storage.attempts.finish([end(again, Transition.SNOOZE, children=(second.id, first.id))])
    assert await _due(storage) == []
    await complete(storage, second)
    assert await _due(storage) == [parent.id]


async def test_the_same_outcome_again(storage: Storage) -> None:
    """After a lost reply the outcome is accepted, and the parent still waits for the same children."""
    child = await start(storage)
    parent = await start(storage, PARENT)
    outcome = end(parent, Transition.SNOOZE, children=(child.id,))
    assert await storage.attempts.finish([outcome]) == ()
    assert await storage.attempts.finish([outcome]) == ()
    assert await _due(storage) == []
    await complete(storage, child)
    assert await storage.attempts.finish([outcome]) == ()
    assert await _due(storage) == [parent.id]


async def test_the_last_child_wakes_the_parents_queue(storage: Storage) -> None:
    """The parent's queue is woken, so no worker has to poll."""
    children = [await start(storage) for _ in range(2)]
    await _wait_for(storage, *(one.id for one in children))
    async with listening(storage) as ear:
        for child in children:
            await ear.all_until(f"before {child.id}", storage)
            await complete(storage, child)
        await ear.until("jobs", "parents")


async def test_a_parent_that_was_to_be_cancelled_does_not_wait(storage: Storage) -> None:
    """An operator's request wins over waiting."""
    child = await start(storage)
    parent = await start(storage, PARENT)
    await storage.jobs.cancel(where.id(parent.id), "enough")
    await storage.attempts.finish([end(parent, Transition.SNOOZE, children=(child.id,))])
    assert (await look(storage, parent.id)).state is State.CANCELLED
    await complete(storage, child)
    assert (await look(storage, parent.id)).state is State.CANCELLED


async def test_next_due_does_not_count_on_children(storage: Storage) -> None:
    """A job that waits for others has no due time, so it does not count for the next due time."""
    child = await start(storage)
    await _wait_for(storage, child.id)
    assert await next_due(storage, "parents") == {}
