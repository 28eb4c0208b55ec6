"""Inserts of many jobs: all or none, and few writes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobrt._core import where
from jobrt._core.states import INCOMPLETE
from jobrt._core.unique import UniqueKey
from jobrt._storage.sqlite import open_sqlite
from jobrt.errors import StorageError
from tests.conformance.build import job

if TYPE_CHECKING:
    from jobrt._core.job import NewJob

WRITES = Path("/proc/self/io")
"""What Linux counts for this process."""


def _batch(number: int) -> list[NewJob]:
    """Return jobs, of which the database refuses one in the second half of a statement."""
    refused: Any = "urgent"
    return [job(priority=refused if place == 100 else 0) for place in range(number)]


async def test_a_refused_job_leaves_none_of_its_batch(tmp_path: Path) -> None:
    """Not even those before it in the same statement."""
    async with open_sqlite(tmp_path / "jobs.db") as storage:
        with pytest.raises(StorageError, match="priority"):
            await storage.jobs.insert(_batch(120))
        assert await storage.jobs.count(where.everything()) == 0


async def test_a_refused_job_leaves_the_callers_own_writes(tmp_path: Path) -> None:
    """A caller that goes on and commits has no job of the batch, and keeps the rest."""
    path = tmp_path / "jobs.db"
    async with open_sqlite(path) as storage:
        with closing(sqlite3.connect(path)) as caller:
            caller.execute("CREATE TABLE orders (id INTEGER)")
            caller.execute("INSERT INTO orders VALUES (1)")
            with pytest.raises(StorageError, match="priority"):
                await storage.jobs.insert(_batch(120), conn=caller)
            caller.commit()
            assert caller.execute("SELECT count(*) FROM orders").fetchone() == (1,)
        assert await storage.jobs.count(where.everything()) == 0


@pytest.mark.skipif(not WRITES.exists(), reason="only Linux counts the writes of a process")
async def test_unique_jobs_are_written_without_a_journal(tmp_path: Path) -> None:
    """The log gets each changed page once. With a journal of each statement it is 8,000 writes more."""
    jobs = [
        job(unique=UniqueKey(f"{7919 * number % 10_007:032x}", None, INCOMPLETE, None))
        for number in range(10_000)
    ]
    async with open_sqlite(tmp_path / "jobs.db") as storage:
        before = _writes()
        await storage.jobs.insert(jobs)
        assert _writes() - before < 5_000


def _writes() -> int:
    return int(dict(line.split(": ") for line in WRITES.read_text().splitlines())["syscw"])
