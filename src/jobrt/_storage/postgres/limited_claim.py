"""Claims under exact cluster-wide limits: claims of a queue run one at a time, and each counts the running jobs."""

from datetime import UTC, datetime
from typing import Final

from jobrt._core.job import Claimed
from jobrt._core.limits import CLAIM_BYTES, Demand, Room
from jobrt._storage.postgres.encode import numbers, texts
from jobrt._storage.postgres.rows import Row, claimed_jobs
from jobrt._storage.postgres.session import Session

_ABOVE_ALL: Final = 1 << 40
"""More than any priority."""

_PAGE: Final = 100
"""Least number of candidates to read per statement."""


async def take_turn(session: Session, demand: Demand) -> None:
    """Lock out other claims of this queue until the end of the transaction; wait for a running one."""
    await session.fetch("attempts/exchange_limited_lock", name=f"{session.schema.name} {demand.queue}")


async def claim_in_turn(
    session: Session, demand: Demand, *, since: int | None
) -> tuple[tuple[Claimed, ...], float | None, datetime, bool]:
    """Claim as the limits allow; return the jobs, the seconds until the next one if there is room, the time, and `cut`.

    `Exchange` describes these values. `since` is that of `Beats`.
    """
    now = (await session.fetch("schema/now"))[0][0].replace(tzinfo=UTC)
    rows: list[Row] = []
    starting: list[int] = []
    ids, cut = await _choose(session, demand, since=since)
    if ids:
        starting = ids[: demand.starting]
        rows = await session.fetch(
            "attempts/exchange_limited_take",
            ids=numbers(ids),
            starting=numbers(starting),
            worker=demand.worker,
            queue=demand.queue,
            now=now.isoformat(),
        )
    # Some may have been passed over. The order is that of the ids chosen, so those that start still come first.
    started = len({row[0] for row in rows}.intersection(starting))
    jobs = claimed_jobs(rows, queue=demand.queue, starting=started, now=now)
    if cut or len(jobs) == demand.limit:
        return jobs, None, now, cut
    due = await session.fetch("attempts/exchange_limited_next_due", queues=texts([demand.queue]))
    return jobs, due[0][1] if due else None, now, False


async def _choose(session: Session, demand: Demand, *, since: int | None) -> tuple[list[int], bool]:
    """Return the ids of due jobs that may run now, in order, and whether their size left out others."""
    root, _, path = (demand.key or "").partition(".")
    key = {"root": root, "path": texts(path.split(".")) if path else None}
    rows = await session.fetch("attempts/exchange_limited_running", queue=demand.queue, **key)
    room = Room(demand, dict(rows))
    chosen: list[int] = []
    size = 0
    after: Row = (_ABOVE_ALL, "-infinity", 0)
    while room.left:
        page = max(_PAGE, 2 * room.left)
        rows = await session.fetch(
            "attempts/exchange_limited_candidates",
            queue=demand.queue,
            worker=demand.worker,
            since=None if since is None else str(since),
            **key,
            names=texts(room.names),
            fits=demand.fits,
            full=texts(room.full_keys),
            priority=str(after[0]),
            at=after[1],
            id=str(after[2]),
            limit=str(page),
        )
        for id, name, job_key, *_, bytes_of_job in rows:
            if not room.take(name, job_key):
                continue
            size += bytes_of_job
            if chosen and size > CLAIM_BYTES:
                return chosen, True
            chosen.append(id)
        if len(rows) < page:
            break
        after = rows[-1][3:6]
    return chosen, False
