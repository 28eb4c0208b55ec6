"""Jobs that are set aside: for how long, and which errors are those of a single row."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
import pytest
import trio
import trio.testing

from jobrt._storage.apart import RETRY, Aside, Refused
from jobrt.errors import SchemaError, StorageError, StorageUnavailable


async def _work(ids: Sequence[int]) -> int:
    """Refuse the batches with 3, 4 or 11."""
    await trio.lowlevel.checkpoint()
    if {3, 4, 11}.intersection(ids):
        raise StorageError("refused")
    return len(ids)


async def test_all_but_the_cause_are_done(autojump_clock: trio.testing.MockClock) -> None:
    """The causes are left out of the next search, for a minute."""
    aside = Aside()
    assert sum(await aside.apart("tend", range(20), _work)) == 17
    assert aside.take() == tuple(Refused(job_id, "tend", "refused") for job_id in (3, 4, 11))
    assert aside.take() == ()
    assert (aside.but("tend"), aside.but("rescue")) == ([3, 4, 11], [])
    await trio.sleep(RETRY)
    assert aside.but("tend") == []
    assert await aside.apart("tend", [], _work) == []


@pytest.mark.parametrize(
    "error",
    [
        StorageUnavailable("gone"),
        SchemaError("not migrated"),
        psycopg.errors.InsufficientPrivilege("denied"),
        psycopg.errors.UndefinedTable("gone"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_error_that_all_jobs_share_is_raised(error: Exception) -> None:
    """None is tried by itself."""
    tried: list[Sequence[int]] = []

    async def fail(ids: Sequence[int]) -> None:
        await trio.lowlevel.checkpoint()
        tried.append(ids)
        if isinstance(error, StorageError):
            raise error
        raise StorageError("refused") from error

    aside = Aside()
    with pytest.raises(StorageError):
        await aside.apart("prune", [1, 2, 3], fail)
    assert tried == [[1, 2, 3]]
    assert aside.take() == ()


async def test_memory_of_many_is_limited() -> None:
    """However many jobs are refused."""
    await trio.lowlevel.checkpoint()
    aside = Aside()
    aside.put(Refused(job_id, "prune", "refused") for job_id in range(11_000))
    assert len(aside.but("prune")) == len(aside.take()) == 10_000
