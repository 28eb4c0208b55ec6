"""Lists of jobs that one call has cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobrt._core import where
from jobrt._core.walks import walk_of
from tests.conformance.build import add, job

if TYPE_CHECKING:
    import psycopg

    from jobrt._storage.contract import Storage

MANY = 1_000


async def test_jobs_that_one_call_cancels_have_times_of_their_own(
    storage: Storage, admin: psycopg.Connection[Any]
) -> None:
    """They are in the order of an index then, and are not sorted to list the newest."""
    ids = await add(storage, *(job() for _ in range(MANY)))
    assert await storage.jobs.cancel(where.everything(), "") == (MANY, 0)
    ((times,),) = admin.execute("select count(distinct finished_at) from jobrt.job").fetchall()
    assert times > MANY // 10  # a row takes more than a tenth of a microsecond
    filter = where.state("cancelled")
    found = await storage.jobs.look(filter, walk_of(filter, newest=False), scan=MANY + 1, limit=MANY)
    assert sorted(found.ids) == ids
    records = await storage.jobs.query(where.everything(), order_by="finished_at", limit=None)
    assert [record.id for record in records] == list(found.ids)
