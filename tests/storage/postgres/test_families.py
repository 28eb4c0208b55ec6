"""Batches that end children of the same parents while others want the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import psycopg
import pytest
import trio

from jobrt._core import where
from jobrt._core.job import Claimed, JobRef, Wait
from jobrt._core.scopes import Child
from jobrt._core.states import End, State, Transition
from jobrt._core.worker_info import WorkerInfo
from jobrt._storage.contract import Storage
from jobrt._storage.postgres import changes
from jobrt._storage.postgres.names import Schema
from jobrt.errors import LeaseLost, StorageError
from tests.storage.postgres.build import add, ask, end, job
from tests.storage.postgres.conftest import PATIENCE


async def family(storage: Storage, *children_of: Sequence[int]) -> tuple[list[Claimed], list[Claimed]]:
    """Return as many parents as there are sequences, which wait for the children at those places, and all children."""
    await storage.workers.register("w1", lease=1000, info=WorkerInfo())
    children = 1 + max(place for places in children_of for place in places)
    await add(storage, *(job("a") for _ in range(len(children_of) + children)))
    jobs = list((await storage.attempts.exchange((), ask("a"))).jobs)
    parents, offspring = jobs[: len(children_of)], jobs[len(children_of) :]
    for parent, places in zip(parents, children_of, strict=True):
        waits = end(
            parent,
            event=Transition.SNOOZE,
            end=End.SNOOZED,
            children=tuple(offspring[place].id for place in places),
            spent=False,
        )
        assert await storage.attempts.finish([waits]) == ()
    return parents, offspring


async def until_waiting(admin: psycopg.Connection[Any], count: int) -> None:
    """Return when this many sessions wait for a lock."""
    asked = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with trio.fail_after(PATIENCE):
        while admin.execute(asked).fetchall() != [(count,)]:
            await trio.sleep(0.01)


async def until_undone(admin: psycopg.Connection[Any]) -> None:
    """Return when the server has counted a deadlock: it does so a moment after it has ended it."""
    asked = "select deadlocks from pg_stat_database where datname = current_database()"
    with trio.fail_after(PATIENCE):
        while admin.execute(asked).fetchall() == [(0,)]:
            await trio.sleep(0.01)


@pytest.mark.parametrize("result", [None, "1"], ids=["clean", "mixed"])
async def test_batches_with_the_same_parents_in_opposite_orders_do_not_cross(
    result: str | None,
    storage: Storage,
    another: Callable[..., Any],
    admin: psycopg.Connection[Any],
    postgres_url: str,
) -> None:
    """Each batch locks all its parents at once: a deadlock, which nothing would end here, does not arise."""
    parents, (first, second, third, fourth) = await family(storage, (0, 3), (1, 2))
    admin.execute(f"alter database {admin.info.dbname} set deadlock_timeout = '1h'".encode())
    async with another() as one, another() as other:
        with psycopg.connect(postgres_url) as gate, trio.fail_after(PATIENCE):
            gate.execute(
                "select from jobrt.dependency where child = %s and parent = %s for update",
                (first.id, parents[0].id),
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    one.attempts.finish, [end(first, result=result), end(second)]
                )  # waits at the gate
                await until_waiting(admin, 1)
                nursery.start_soon(other.attempts.finish, [end(third), end(fourth, result=result)])
                await until_waiting(admin, 2)
                gate.rollback()
    assert await storage.jobs.count(where.state("completed")) == 4
    due = (await storage.attempts.exchange((), ask("a"))).jobs
    assert [one.id for one in due] == [one.id for one in parents]


async def test_who_cancels_a_parent_and_its_child_does_not_lose_the_childs_end(
    storage: Storage, another: Callable[..., Any], admin: psycopg.Connection[Any], postgres_url: str
) -> None:
    """It holds the parent's row and needs the child's, the child's end the reverse: one is rolled back and repeated."""
    (parent,), (child,) = await family(storage, (0,))
    async with another() as other:
        with psycopg.connect(postgres_url) as gate, trio.fail_after(PATIENCE):
            gate.execute("select from jobrt.dependency where child = %s for update", (child.id,))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    storage.attempts.finish, [end(child)]
                )  # has the child, and waits at the gate
                await until_waiting(admin, 1)
                # Has the parent, whose id is lower, and waits for the child.
                nursery.start_soon(other.jobs.cancel, where.id_in([parent.id, child.id]), "enough")
                await until_waiting(admin, 2)
                gate.rollback()
    await until_undone(admin)
    ended = {one.id: one.state for one in await storage.jobs.query(where.everything())}
    assert ended == {parent.id: State.CANCELLED, child.id: State.COMPLETED}


@pytest.mark.parametrize("result", [None, "1"], ids=["clean", "mixed"])
async def test_outcomes_release_parents_without_the_trigger_for_each_row(
    result: str | None, storage: Storage, admin: psycopg.Connection[Any]
) -> None:
    """It costs ten times as much as the rest of an outcome. Whoever ends jobs otherwise needs it."""
    (parent, _), (first, second, third) = await family(storage, (0, 1), (2,))
    admin.execute(
        "create or replace function jobrt.settle() returns trigger language plpgsql as"
        " $$ begin raise exception 'for each row'; end $$"
    )
    assert await storage.attempts.finish([end(first, result=result), end(second)]) == ()
    assert [job.id for job in (await storage.attempts.exchange((), ask("a"))).jobs] == [parent.id]
    with pytest.raises(StorageError, match="for each row"):
        await storage.jobs.delete(where.id(parent.id) | where.id(third.id))


async def test_ends_that_older_workers_write_are_noted(
    storage: Storage, admin: psycopg.Connection[Any]
) -> None:
    """Their statements do not hand on the ids of their batch."""
    await storage.workers.register("w1", lease=1000, info=WorkerInfo())
    await add(storage, job("parent"))
    (parent,) = (await storage.attempts.exchange((), ask("parent"))).jobs
    place = JobRef(parent.id, parent.lease)
    await storage.scopes.open(place, "n", on_failure="cancel", seconds=None)
    await storage.scopes.enqueue(place, "n", [Child("a", job("a"))])
    (child,) = (await storage.attempts.exchange((), ask("a"))).jobs
    waits = end(parent, event=Transition.SUSPEND, end=End.FINISHED, wait=Wait("children", "n"), spent=False)
    assert await storage.attempts.finish([waits]) == ()
    admin.execute(
        "update jobrt.job set state = 'completed', lease = -lease, finished_at = now() where id = %s",
        [child.id],
    )
    record = await storage.jobs.get(parent.id)
    assert record is not None
    assert record.state is State.AVAILABLE


async def test_children_end_while_others_are_stored(
    storage: Storage, another: Callable[..., Any], admin: psycopg.Connection[Any], postgres_url: str
) -> None:
    """New children are written before their parent's row is locked: ends of the others wait for the commit only."""
    await storage.workers.register("w1", lease=1000, info=WorkerInfo())
    await add(storage, job("a"))
    (parent,) = (await storage.attempts.exchange((), ask("a"))).jobs
    ref = JobRef(parent.id, parent.lease)
    await storage.scopes.open(ref, "n", on_failure="cancel", seconds=None)
    await storage.scopes.enqueue(ref, "n", [Child("first", job("child"))], fresh=True)
    (first,) = (await storage.attempts.exchange((), ask("child"))).jobs
    async with another() as other:
        with psycopg.connect(postgres_url) as gate, trio.fail_after(PATIENCE):
            gate.execute("lock table jobrt.member in share mode")
            async with trio.open_nursery() as nursery:
                new = [Child(str(number), job("child")) for number in range(3)]
                nursery.start_soon(partial(other.scopes.enqueue, ref, "n", new, fresh=True))
                await until_waiting(admin, 1)
                assert await storage.attempts.finish([end(first)]) == ()
                gate.rollback()
    row = await storage.scopes.seal(ref, "n")
    assert row.alive


async def test_a_parent_that_goes_on_locks_nothing(storage: Storage, postgres_url: str) -> None:
    """Its body has ended before its wait: to ask whether the members are over only reads, and needs no commit."""
    await storage.workers.register("w1", lease=1000, info=WorkerInfo())
    await add(storage, job("a"))
    (parent,) = (await storage.attempts.exchange((), ask("a"))).jobs
    ref = JobRef(parent.id, parent.lease)
    await storage.scopes.open(ref, "n", on_failure="cancel", seconds=None)
    await storage.scopes.enqueue(ref, "n", [Child("first", job("child"))], fresh=True)
    sealed = await storage.scopes.seal(ref, "n")
    assert (sealed.sealed, sealed.alive, sealed.members) == (True, True, True)
    (first,) = (await storage.attempts.exchange((), ask("child"))).jobs
    with trio.fail_after(PATIENCE):
        for alive in (True, False):
            with psycopg.connect(postgres_url) as gate:
                gate.execute("select from jobrt.job where id = %s for update", (parent.id,))
                assert await storage.scopes.seal(ref, "n") == sealed._replace(alive=alive)
                gate.rollback()
            await storage.attempts.finish([end(first)])
        with pytest.raises(LeaseLost):
            await storage.scopes.seal(JobRef(parent.id, parent.lease + 1), "n")
        cancelled = await storage.scopes.seal(ref, "n", end="cancelled", reason="r")
    assert (cancelled.state, cancelled.reason, cancelled.sealed) == ("cancelled", "r", True)


async def test_a_cancellation_reads_no_members_of_others(
    storage: Storage, admin: psycopg.Connection[Any], postgres_url: str
) -> None:
    """With fresh statistics, the planner would look for one of these members past all of another job."""
    parents = await add(storage, job("a"), job("a"))
    admin.execute("update jobrt.job set flags = 16, state = 'suspended'")
    for place, parent in enumerate(parents):
        admin.execute("insert into jobrt.nursery (job_id, name, cancels) values (%s, 'n', true)", (parent,))
        admin.execute(
            "insert into jobrt.living select n, %s, 'n' from generate_series(%s::bigint, %s) n",
            (parent, place * 5000 + 100, place * 5000 + 5099),
        )
    admin.execute("analyze jobrt.living, jobrt.nursery")
    read = "select sum(seq_tup_read + idx_tup_fetch) from pg_stat_xact_user_tables where relname = 'living'"
    cancel = changes.cancel(Schema("jobrt"), where.id(parents[1]), reason="enough", limit=None)
    with psycopg.connect(postgres_url, cursor_factory=psycopg.RawCursor) as conn:
        (found,) = conn.execute(cancel.statement.text, cancel.statement.arguments(cancel.values)).fetchall()
        assert tuple(found) == (0, 1)
        assert conn.execute(read).fetchall()[0][0] < 50


async def test_no_trigger_locks_rows_before_an_update(
    storage: Storage, admin: psycopg.Connection[Any]
) -> None:
    """With any such trigger, each claim and each end locks its row twice: a twentieth of what they cost."""
    assert await storage.jobs.count(where.everything()) == 0
    found = admin.execute(
        "select tgname from pg_trigger where tgrelid = 'jobrt.job'::regclass and tgtype & 19 = 19"
    )
    assert found.fetchall() == []


async def test_a_failure_in_a_batch_leaves_alone_a_job_that_has_to_close(
    storage: Storage, admin: psycopg.Connection[Any]
) -> None:
    """Its end is seen for a moment, in the middle of the batch, while its own child is still alive."""
    await storage.workers.register("w1", lease=1000, info=WorkerInfo())
    await add(storage, job("parent"))
    (parent,) = (await storage.attempts.exchange((), ask("parent"))).jobs
    ref = JobRef(parent.id, parent.lease)
    for name in ("first", "second"):
        await storage.scopes.open(ref, name, on_failure="continue", seconds=None)
    await storage.scopes.enqueue(ref, "first", [Child("a", job("a"))])
    await storage.scopes.enqueue(ref, "second", [Child("b", job("b"))])
    fails, closes = (await storage.attempts.exchange((), ask("a", "b"))).jobs
    inner = JobRef(closes.id, closes.lease)
    await storage.scopes.open(inner, "n", on_failure="continue", seconds=None)
    await storage.scopes.enqueue(inner, "n", [Child("c", job("c"))])
    waits = end(
        parent, event=Transition.SUSPEND, end=End.FINISHED, wait=Wait("children", "first"), spent=False
    )
    assert await storage.attempts.finish([waits]) == ()
    batch = [end(fails, event=Transition.DISCARD, end=End.FAILED), end(closes)]
    assert await storage.attempts.finish(batch) == ()
    states = {one.name: one.state for one in await storage.jobs.query(where.everything())}
    assert states["a"] is State.DISCARDED
    assert states["b"] is State.CLOSING
    assert states["parent"] is State.AVAILABLE
    alive = admin.execute("select child_id from jobrt.living where child_id = %s", [closes.id])
    assert alive.fetchall() == [(closes.id,)]


async def test_a_large_batch_from_a_worker_is_waited_for_without_a_write_of_its_rows(
    storage: Storage, admin: psycopg.Connection[Any]
) -> None:
    """They have the flag since their insert. To set it later took a third of a fan-in."""
    await storage.workers.register("w1", lease=1000, info=WorkerInfo())
    await add(storage, job("parent"))
    (parent,) = (await storage.attempts.exchange((), ask("parent"))).jobs
    ids = await add(storage, *(job("a") for _ in range(500)))
    places = "select array_agg(ctid::text order by id) from jobrt.job where name = 'a'"
    before = admin.execute(places).fetchall()
    waits = end(parent, event=Transition.SNOOZE, end=End.SNOOZED, children=tuple(ids), spent=False)
    assert await storage.attempts.finish([waits]) == ()
    assert admin.execute(places).fetchall() == before
    *most, last = (await storage.attempts.exchange((), ask("a"))).jobs
    assert await storage.attempts.finish([end(child) for child in most]) == ()
    assert (await storage.attempts.exchange((), ask("parent"))).jobs == ()
    assert await storage.attempts.finish([end(last)]) == ()
    assert [due.id for due in (await storage.attempts.exchange((), ask("parent"))).jobs] == [parent.id]
