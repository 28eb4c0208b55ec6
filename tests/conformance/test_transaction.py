"""What an attempt or a program writes: transactions, progress, checkpoints and steps."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format

from jobrt._core import where
from jobrt._core.job import JobRef, Progress
from jobrt._core.states import End, State, Transition
from jobrt._core.unique import Replace, UniqueKey
from jobrt._storage.contract import Inserted, Storage, Wake
from jobrt.errors import LeaseLost
from tests.conformance.build import add, claim, complete, end, job, look, ref, start, states
from tests.conformance.harness import PATIENCE, Engine


@pytest.fixture
async def orders(engine: Engine) -> None:
    """A table of the application."""
    await engine.execute("create table orders (n integer)")


async def _run(conn: Any, statement: str) -> None:
    """Run a statement on the block's connection."""
    await conn.execute(statement)


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


# ------------------------------------------------------------------ the program's own transactions


async def test_a_programs_rows_and_jobs_commit_together(engine: Engine, orders: None) -> None:
    """A block that ends keeps both, one that raises neither."""
    storage = engine.storage
    async with storage.jobs.transaction() as conn:
        await _run(conn, "insert into orders values (1)")
        (made,) = await storage.jobs.insert([job()], conn=conn)
    with pytest.raises(ZeroDivisionError):
        async with storage.jobs.transaction() as conn:
            await _run(conn, "insert into orders values (2)")
            await storage.jobs.insert([job()], conn=conn)
            raise ZeroDivisionError
    assert await _orders(engine) == [1]
    assert [one.id for one in await storage.jobs.query(where.everything())] == [made.id]


async def test_jobs_of_a_programs_transaction_wake_at_its_end(engine: Engine) -> None:
    """Nobody is woken for a job that may never be there."""
    storage = engine.storage
    heard: list[Wake] = []
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(storage.wakes.listen, heard.append)
            async with storage.jobs.transaction() as conn:
                await storage.jobs.insert([job(queue="mail")], conn=conn)
                assert heard == []
            while not any(wake.kind == "jobs" and wake.queue in {"mail", None} for wake in heard):
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()


async def test_a_cancelled_programs_transaction_is_rolled_back(engine: Engine, orders: None) -> None:
    """Cancelled, it leaves nothing, and the storage goes on."""
    with trio.CancelScope() as scope:
        async with engine.storage.jobs.transaction() as conn:
            await _run(conn, "insert into orders values (1)")
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert await _orders(engine) == []
    await add(engine.storage, job())


# ------------------------------------------------------------------ the connection


async def test_the_connection_is_psycopgs_on_every_engine(storage: Storage) -> None:
    """The same lines run on both: execute, the three ways to fetch, iteration, cursors, counts."""
    async with storage.jobs.transaction() as conn:
        await conn.execute("create table item (n integer, name varchar)")
        cursor = await conn.execute("insert into item values (%s, %s)", (1, "one"))
        assert (cursor.rowcount, cursor.description) == (1, None)
        async with conn.cursor() as cursor:
            await cursor.executemany("insert into item values (%s, %s)", [(2, "two"), (3, "100%"), (4, None)])
            assert cursor.rowcount == 3
            done = await cursor.execute(
                "select n, name from item where n > %(least)s order by n", {"least": 1}
            )
            assert done is cursor
            assert [column[0] for column in cursor.description or ()] == ["n", "name"]
            assert cursor.rowcount == 3
            assert await cursor.fetchone() == (2, "two")
            assert await cursor.fetchmany(1) == [(3, "100%")]
            assert await cursor.fetchall() == [(4, None)]
            assert await cursor.fetchone() is None
            assert await cursor.fetchall() == []
        found = [n async for (n,) in await conn.execute("select n from item order by n")]
        assert found == [1, 2, 3, 4]
        changed = await conn.execute("update item set name = 'x' where n > 2 returning n")
        assert (sorted(await changed.fetchall()), changed.rowcount) == ([(3,), (4,)], 2)
        assert (await conn.execute("delete from item")).rowcount == 4


async def test_a_savepoint_in_a_block(engine: Engine, orders: None) -> None:
    """A part of a block can fail, and the rest of it stays."""
    async with engine.storage.jobs.transaction() as conn:
        await _run(conn, "insert into orders values (1)")
        with pytest.raises(ZeroDivisionError):
            async with conn.transaction():
                await _run(conn, "insert into orders values (2)")
                raise ZeroDivisionError
        async with conn.transaction():
            await _run(conn, "insert into orders values (3)")
    assert await _orders(engine) == [1, 3]


def _unreadable(*_: Any) -> Any:
    """Stand for a row factory of a program's own; it is not for rows of the storage's."""
    raise AssertionError("this row is not the program's")


class _TextLoader(Loader):
    """Loader of a program's own."""

    def load(self, data: Any) -> Any:
        return _unreadable(data)


class _BinaryLoader(_TextLoader):
    """The same for the other format."""

    format = Format.BINARY


class _Dumper(Dumper):
    """Dumper of a program's own."""

    def dump(self, obj: Any) -> Any:
        return _unreadable(obj)


def _set_adapters(conn: Any) -> None:
    """Have psycopg read and write values on this connection as no statement of ours could bear it."""
    for name in ("bool", "text", "varchar", "int4", "int8", "timestamptz", "jsonb"):
        conn.adapters.register_loader(name, _TextLoader)
        conn.adapters.register_loader(name, _BinaryLoader)
    conn.adapters.register_dumper(str, _Dumper)


async def test_what_a_block_sets_on_its_connection_is_for_its_own_rows(engine: Engine) -> None:
    """Jobs are enqueued, and the outcome is written, whatever the block makes of rows and texts."""
    storage = engine.storage
    claimed = await start(storage)
    unique = UniqueKey("0" * 32, None, frozenset({State.AVAILABLE}), Replace("priority"))
    async with storage.attempts.transaction(ref(claimed), end(claimed, result="1")) as conn:
        conn.row_factory = _unreadable
        if hasattr(conn, "raw"):
            conn.raw.text_factory = _unreadable
        else:
            _set_adapters(conn)
        first = await storage.jobs.insert([job(unique=unique), job(), job()], conn=conn)
        again = await storage.jobs.insert([job(unique=unique, priority=7)], conn=conn)
        await storage.jobs.insert([job()], conn=conn)
    assert again == (Inserted(first[0].id, duplicate=True),)
    assert (await look(storage, first[0].id)).priority == 7
    assert (await look(storage, claimed.id)).state is State.COMPLETED
    assert len(await storage.jobs.query(where.everything())) == 5


async def test_what_a_caller_sets_on_its_connection_is_for_its_own_rows(
    engine: Engine, shareable: None
) -> None:
    """The same with a connection that the program opened itself; and what it set stays set."""
    unique = UniqueKey("0" * 32, None, frozenset({State.AVAILABLE}), Replace("priority"))
    async with engine.caller() as caller:
        conn = caller.conn
        conn.row_factory = _unreadable
        if engine.name == "sqlite":
            conn.text_factory = bytes
        else:
            _set_adapters(conn)
        first = await engine.storage.jobs.insert([job(unique=unique), job()], conn=conn)
        again = await engine.storage.jobs.insert([job(unique=unique, priority=7)], conn=conn)
        assert conn.row_factory is _unreadable
        assert getattr(conn, "text_factory", bytes) is bytes
        await caller.commit()
    assert again == (Inserted(first[0].id, duplicate=True),)
    assert (await look(engine.storage, first[0].id)).priority == 7


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
