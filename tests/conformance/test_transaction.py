"""`AttemptStore.transaction`, progress, checkpoints and steps: what an attempt writes while it runs."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from jobrt._core import where
from jobrt._core.job import JobRef, Progress
from jobrt._core.states import End, State, Transition
from jobrt._storage.contract import Storage
from jobrt.errors import LeaseLost
from tests.conformance.build import add, claim, complete, end, job, look, ref, start, states
from tests.conformance.harness import PATIENCE, Engine


@pytest.fixture
async def orders(engine: Engine) -> None:
    """A table of the application."""
    await engine.execute("create table orders (n integer)")


async def _run(conn: Any, statement: str) -> None:
    """Run a statement on the driver's connection, whichever driver it is."""
    result = conn.execute(statement)
    if hasattr(result, "__await__"):
        await result


async def _orders(engine: Engine) -> list[int]:
    return [n for (n,) in await engine.execute("select n from orders order by n")]


async def test_writes_and_completion_commit_together(engine: Engine, orders: None) -> None:
    """At the end of the block both are committed."""
    storage = engine.storage
    claimed = await start(storage)
    async with storage.attempts.transaction(ref(claimed), end(claimed, result='"done"')) as conn:
        await _run(conn, "insert into orders values (1)")
        await _run(conn, "insert into orders values (2)")
    assert await _orders(engine) == [1, 2]
    record = await look(storage, claimed.id)
    assert (record.state, record.result) == (State.COMPLETED, "done")
    assert [one.end for one in record.attempts] == [End.FINISHED]


async def test_nothing_is_seen_before_the_end(engine: Engine, orders: None, shareable: None) -> None:
    """While the block runs others see neither."""
    storage = engine.storage
    claimed = await start(storage)
    async with engine.open() as other:
        async with storage.attempts.transaction(ref(claimed), end(claimed)) as conn:
            await _run(conn, "insert into orders values (1)")
            assert await _orders(engine) == []
            assert (await look(other, claimed.id)).state is State.EXECUTING
        assert (await look(other, claimed.id)).state is State.COMPLETED


async def test_an_error_in_the_block_rolls_back(engine: Engine, orders: None) -> None:
    """Neither the writes nor the outcome happened; the attempt is still its worker's, who can end it."""
    storage = engine.storage
    claimed = await start(storage)
    with pytest.raises(ZeroDivisionError):
        async with storage.attempts.transaction(ref(claimed), end(claimed)) as conn:
            await _run(conn, "insert into orders values (1)")
            raise ZeroDivisionError
    assert await _orders(engine) == []
    assert await states(storage) == ["executing"]
    assert await storage.attempts.finish([end(claimed, Transition.RETRY, message="no")]) == ()


async def test_a_cancelled_block_rolls_back(engine: Engine, orders: None) -> None:
    """A cancellation in the block is an error in the block."""
    storage = engine.storage
    claimed = await start(storage)
    with trio.CancelScope() as scope:
        async with storage.attempts.transaction(ref(claimed), end(claimed)) as conn:
            await _run(conn, "insert into orders values (1)")
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert await _orders(engine) == []
    assert await states(storage) == ["executing"]
    await complete(storage, claimed)


async def test_a_statement_that_the_database_refuses(engine: Engine, orders: None) -> None:
    """The driver's own error is raised; nothing was written; the storage still works."""
    storage = engine.storage
    claimed = await start(storage)
    with pytest.raises(Exception, match=r"no_such_table"):
        async with storage.attempts.transaction(ref(claimed), end(claimed)) as conn:
            await _run(conn, "insert into orders values (1)")
            await _run(conn, "insert into no_such_table values (1)")
    assert await _orders(engine) == []
    await complete(storage, claimed)


async def test_a_lease_lost_before_the_block(engine: Engine, orders: None) -> None:
    """The block is not entered."""
    storage = engine.storage
    claimed = await start(storage)
    await storage.workers.rescue()
    with pytest.raises(LeaseLost):
        async with storage.attempts.transaction(ref(claimed), end(claimed)):
            pytest.fail("the block was entered")
    assert await states(storage) == ["retryable"]


async def test_a_lease_lost_during_the_block(engine: Engine, orders: None) -> None:
    """However the lease was lost, the block's writes are rolled back and `LeaseLost` is raised."""
    storage = engine.storage
    claimed, table = await start(storage), await engine.job_table()
    with pytest.raises(LeaseLost):
        async with storage.attempts.transaction(ref(claimed), end(claimed)) as conn:
            await _run(conn, "insert into orders values (1)")
            await _run(conn, f"update {table} set lease = lease + 1000 where id = {claimed.id}")
    assert await _orders(engine) == []
    await complete(storage, claimed)


async def test_a_rescue_during_the_block(engine: Engine, orders: None, shareable: None) -> None:
    """Rescued meanwhile or not: writes and completion are both there, or neither is."""
    storage = engine.storage
    claimed = await start(storage)
    lost = False
    with trio.fail_after(PATIENCE):
        async with engine.open() as other, trio.open_nursery() as nursery:
            try:
                async with storage.attempts.transaction(ref(claimed), end(claimed)) as conn:
                    await _run(conn, "insert into orders values (1)")
                    nursery.start_soon(other.workers.rescue)
                    for _ in range(100):
                        await trio.lowlevel.checkpoint()
            except LeaseLost:
                lost = True
    assert (lost, await _orders(engine), await states(storage)) in [
        (False, [1], ["completed"]),
        (True, [], ["retryable"]),
    ]


async def test_any_outcome_can_be_the_end(engine: Engine, orders: None) -> None:
    """A block may also end in a retry, and its writes are kept."""
    storage = engine.storage
    claimed = await start(storage)
    async with storage.attempts.transaction(
        ref(claimed), end(claimed, Transition.RETRY, delay=60.0, message="later")
    ) as conn:
        await _run(conn, "insert into orders values (1)")
    assert await _orders(engine) == [1]
    record = await look(storage, claimed.id)
    assert (record.state, [one.message for one in record.attempts]) == (State.RETRYABLE, ["later"])


async def test_a_job_enqueued_in_the_block(engine: Engine) -> None:
    """The block's connection can be used for inserts: they are stored if it commits, and otherwise not."""
    storage = engine.storage
    first, second = await start(storage), await start(storage)
    async with storage.attempts.transaction(ref(first), end(first)) as conn:
        (made,) = await storage.jobs.insert([job("next")], conn=conn)
    with pytest.raises(ZeroDivisionError):
        async with storage.attempts.transaction(ref(second), end(second)) as conn:
            await storage.jobs.insert([job("never")], conn=conn)
            raise ZeroDivisionError
    records = await storage.jobs.query(where.name("next") | where.name("never"))
    assert [one.id for one in records] == [made.id]


async def test_the_outcome_of_the_block_counts_as_landed(storage: Storage) -> None:
    """Sent again after a lost reply it is not refused."""
    claimed = await start(storage)
    async with storage.attempts.transaction(ref(claimed), end(claimed, result="1")):
        pass
    assert await storage.attempts.finish([end(claimed, result="1")]) == ()
    assert await states(storage) == ["completed"]


async def test_other_calls_go_on_beside_a_block(engine: Engine, orders: None) -> None:
    """Reading during an open block works; writing waits for its end at most."""
    storage = engine.storage
    claimed, waiting = await start(storage), (await add(storage, job("other")))[0]
    done: list[int] = []

    async def write() -> None:
        await storage.jobs.insert([job("third")])
        done.append(1)

    with trio.fail_after(PATIENCE):
        async with (
            trio.open_nursery() as nursery,
            storage.attempts.transaction(ref(claimed), end(claimed)) as conn,
        ):
            await _run(conn, "insert into orders values (1)")
            if engine.shareable:
                assert (await look(storage, waiting)).state is State.AVAILABLE
            nursery.start_soon(write)
            for _ in range(50):
                await trio.lowlevel.checkpoint()
    assert done == [1]
    assert await _orders(engine) == [1]
    assert await states(storage) == ["completed", "available", "available"]


async def test_two_blocks_at_once(engine: Engine, orders: None) -> None:
    """Each block is a separate transaction; they may have to wait for each other."""
    storage = engine.storage
    jobs = [await start(storage) for _ in range(4)]

    async def run(n: int) -> None:
        async with storage.attempts.transaction(ref(jobs[n]), end(jobs[n])) as conn:
            await _run(conn, f"insert into orders values ({n})")
            await trio.lowlevel.checkpoint()
            if n == 2:
                raise ZeroDivisionError

    with trio.fail_after(PATIENCE):
        with pytest.RaisesGroup(ZeroDivisionError):
            async with trio.open_nursery() as nursery:
                for n in (0, 1, 3):
                    await _finish_before(nursery, run, n)
                nursery.start_soon(run, 2)
    assert await _orders(engine) == [0, 1, 3]
    assert sorted(await states(storage)) == ["completed"] * 3 + ["executing"]


async def _finish_before(nursery: trio.Nursery, run: Any, n: int) -> None:
    """Run one block; all but the failing one are done before that begins, so that it cancels none of them."""
    await run(n)


# ------------------------------------------------------------------ progress, checkpoint


async def test_progress_is_seen_while_the_job_runs(storage: Storage) -> None:
    """The latest; how far, of how much, and a note."""
    claimed = await start(storage)
    assert await storage.attempts.save(ref(claimed), progress='{"done": 1, "total": null, "note": ""}')
    assert (await look(storage, claimed.id)).progress == Progress(1)
    assert await storage.attempts.save(
        ref(claimed), progress='{"done": 2.5, "total": 10, "note": "half-way ☃"}'
    )
    assert (await look(storage, claimed.id)).progress == Progress(2.5, 10, "half-way ☃")


async def test_progress_and_checkpoint_do_not_touch_each_other(storage: Storage) -> None:
    """Values that are not given are unchanged."""
    claimed = await start(storage)
    await storage.attempts.save(ref(claimed), saved='{"page": 1}')
    await storage.attempts.save(ref(claimed), progress='{"done": 1, "total": 2, "note": ""}')
    await storage.attempts.save(ref(claimed), saved='{"page": 2}')
    record = await look(storage, claimed.id)
    assert (record.progress, record.saved) == (Progress(1, 2), {"page": 2})
    assert (record.state, record.attempt, record.attempts) == (State.EXECUTING, 1, ())


@pytest.mark.parametrize("text", ["null", "0", "[]", '"' + "x" * 100_000 + '"'], ids=lambda text: text[:4])
async def test_any_json_can_be_a_checkpoint(storage: Storage, text: str) -> None:
    """Empty ones are checkpoints, too."""
    claimed = await start(storage)
    assert await storage.attempts.save(ref(claimed), saved=text)
    assert (await look(storage, claimed.id)).saved == json.loads(text)
    await storage.attempts.finish([end(claimed, Transition.SNOOZE)])
    (again,) = await claim(storage)
    assert again.saved is not None
    assert json.loads(again.saved) == json.loads(text)


async def test_saving_nothing(storage: Storage) -> None:
    """The call still returns whether the lease is held."""
    claimed = await start(storage)
    assert await storage.attempts.save(ref(claimed)) is True
    await storage.workers.rescue()
    assert await storage.attempts.save(ref(claimed)) is False


# ------------------------------------------------------------------ steps


async def test_steps_are_kept_by_name(storage: Storage) -> None:
    """Each with its value; none at first."""
    claimed = await start(storage)
    assert await storage.attempts.steps(ref(claimed)) == {}
    assert await storage.attempts.save_step(ref(claimed), "fetch", '{"n": 1}')
    assert await storage.attempts.save_step(ref(claimed), "it's ☃", "null")
    steps = await storage.attempts.steps(ref(claimed))
    assert {name: json.loads(text) for name, text in steps.items()} == {"fetch": {"n": 1}, "it's ☃": None}


async def test_a_finished_step_stays_as_it_was(storage: Storage) -> None:
    """Stored again, by the same attempt or by a later one, the first value is kept and nothing is refused."""
    claimed = await start(storage)
    assert await storage.attempts.save_step(ref(claimed), "fetch", "1")
    assert await storage.attempts.save_step(ref(claimed), "fetch", "2")
    await storage.attempts.finish([end(claimed, Transition.RETRY)])
    (again,) = await claim(storage)
    assert await storage.attempts.save_step(ref(again), "fetch", "3")
    assert await storage.attempts.steps(ref(again)) == {"fetch": "1"}


async def test_steps_belong_to_one_job(storage: Storage) -> None:
    """Of the same name, another job has its own."""
    first, second = await start(storage), await start(storage)
    await storage.attempts.save_step(ref(first), "fetch", "1")
    await storage.attempts.save_step(ref(second), "fetch", "2")
    assert await storage.attempts.steps(ref(first)) == {"fetch": "1"}
    assert await storage.attempts.steps(ref(second)) == {"fetch": "2"}
    await storage.jobs.delete(where.id(first.id))
    assert await storage.attempts.steps(JobRef(first.id, first.lease)) == {}
    assert await storage.attempts.steps(ref(second)) == {"fetch": "2"}
