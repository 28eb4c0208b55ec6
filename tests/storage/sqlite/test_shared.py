"""Short writes that wait for the lock at the same time share a transaction, and each fails alone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from jobrt._core.job import Outcome
from jobrt._core.states import State
from jobrt._storage.sqlite import open_sqlite
from jobrt._storage.sqlite.database import Database, open_database
from jobrt._storage.sqlite.transaction import Transaction
from jobrt.errors import StorageError
from tests.conformance.build import ask, job, look, ref, start
from tests.storage.sqlite.files import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _note(tx: Transaction, number: int) -> int:
    """Store a number, once, and return it."""
    tx.run("INSERT INTO noted (number) VALUES (?)", (number,))
    return number


async def _write_all(
    database: Database, works: list[Callable[[Transaction], int]], ends: dict[int, object]
) -> None:
    """Have all of this written while somebody else has the turn until all wait."""

    async def write(number: int, work: Callable[[Transaction], int]) -> None:
        try:
            ends[number] = await database.write(work, shared=True)
        except StorageError as error:
            ends[number] = type(error)

    async with trio.open_nursery() as nursery, database._writing.turn():
        for number, work in enumerate(works):
            nursery.start_soon(write, number, work)
        await wait_all_tasks_blocked()


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of writes in each transaction."""
    sizes: list[int] = []
    transact = Database._transact

    def counted(self: Database, connection: object, works: list[object]) -> object:
        sizes.append(len(works))
        return transact(self, connection, works)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(Database, "_transact", counted)
    return sizes


async def test_writes_share_a_transaction(tmp_path: Path, begun: list[int]) -> None:
    """Five writes that wait take one transaction, and each gets its own result."""
    with trio.fail_after(PATIENCE):
        async with open_database(str(tmp_path / "jobs.db"), lambda: 0) as database:
            await database.write(lambda tx: tx.run("CREATE TABLE noted (number INTEGER UNIQUE)"))
            begun.clear()
            ends: dict[int, object] = {}
            await _write_all(database, [partial(_note, number=number) for number in range(5)], ends)
            assert begun == [5]
            assert ends == {number: number for number in range(5)}


async def test_one_that_fails_harms_no_other(tmp_path: Path, begun: list[int]) -> None:
    """After an error nothing is stored, and each is written by itself. Only the cause raises."""
    with trio.fail_after(PATIENCE):
        async with open_database(str(tmp_path / "jobs.db"), lambda: 0) as database:
            await database.write(lambda tx: tx.run("CREATE TABLE noted (number INTEGER UNIQUE)"))
            await database.write(partial(_note, number=2))
            begun.clear()
            ends: dict[int, object] = {}
            await _write_all(database, [partial(_note, number=number) for number in range(4)], ends)
            assert sorted(begun) == [1, 1, 1, 1, 4]
            assert ends == {0: 0, 1: 1, 2: StorageError, 3: 3}
            stored = await database.read(lambda tx: tx.rows("SELECT number FROM noted ORDER BY number"))
            assert stored == [(0,), (1,), (2,), (3,)]


async def test_outcomes_steps_and_claims_share_one(tmp_path: Path, begun: list[int]) -> None:
    """What a busy worker writes at the same moment is one transaction, durable before any of the calls returns."""
    with trio.fail_after(PATIENCE):
        async with open_sqlite(tmp_path / "jobs.db") as storage:
            ended, working = await start(storage), await start(storage)
            await storage.jobs.insert([job()])
            begun.clear()
            async with trio.open_nursery() as nursery, storage.jobs.transaction():
                nursery.start_soon(storage.attempts.finish, [Outcome(ended.id, ended.lease)])
                nursery.start_soon(storage.attempts.save_step, ref(working), "paid", "1")
                nursery.start_soon(storage.attempts.exchange, (), ask())
                await wait_all_tasks_blocked()
            assert begun == [3]
            assert (await look(storage, ended.id)).state is State.COMPLETED
            assert await storage.attempts.steps(ref(working)) == {"paid": "1"}
