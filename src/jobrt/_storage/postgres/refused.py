"""Jobs that make a claim fail, because the database refuses to change or to read them: they are found and left out."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from jobrt._core.limits import Demand
from jobrt._storage.apart import Aside
from jobrt._storage.postgres.database import CALL_SECONDS, Database, retried
from jobrt._storage.postgres.encode import numbers, texts
from jobrt._storage.postgres.session import Session

ResultT = TypeVar("ResultT")

_SUSPECTS: Final = 1000
"""Jobs to look at: a claim takes no more."""


async def find_refused(database: Database, aside: Aside, demand: Demand) -> Sequence[int]:
    """Find jobs that a claim cannot have, set them aside, and return them.

    Each trial is rolled back. The jobs are the first that are due.
    """
    names = [*demand.names, *(member for name, _ in demand.capped for member in demand.members(name))]
    rows = await database.fetch(
        "attempts/refused_suspects",
        queue=demand.queue,
        names=texts(names),
        without=numbers(aside.but("claim")),
        limit=str(_SUSPECTS),
    )
    ids = [job_id for (job_id,) in rows]
    claimable: set[int] = set()

    async def attempt(part: Sequence[int]) -> None:
        async with database.session() as session, session.conn.transaction(force_rollback=True):
            await session.fetch("attempts/refused_trial", ids=numbers(part), worker=demand.worker)
        claimable.update(part)

    await aside.apart("claim", ids, attempt)
    return [job_id for job_id in ids if job_id not in claimable]


async def without_jobs(
    database: Database, ids: Sequence[int], claim: Callable[[], Awaitable[ResultT]]
) -> ResultT:
    """Claim while these jobs are locked: claims pass locked rows by, and a lock changes nothing that could be refused.

    Most claims need no statement that knows of such jobs.
    """

    async def run() -> ResultT:
        async with database.plain.call(CALL_SECONDS) as conn, conn.transaction(force_rollback=True):
            await Session(conn, database.schema).fetch("attempts/refused_lock", ids=numbers(ids))
            return await claim()

    return await retried(run)
