"""Claims where so many jobs of other names wait that no claim can look at all of them: in parts.

New jobs are claimed from the watermark on, as while full claims are slow. Older ones are found by bounded looks, one
after the other: see `jobrt._core.sweeps`.
"""

from collections.abc import Sequence
from datetime import UTC
from typing import Any, Final

import attrs

from jobrt._core.job import Claimed
from jobrt._core.limits import Demand, Room
from jobrt._core.sweeps import LOOK, Sweep
from jobrt._storage.postgres.claim import (
    Reply,
    Watermark,
    Watermarks,
    claim_values,
    read_reply,
    take_statement,
)
from jobrt._storage.postgres.encode import numbers, texts
from jobrt._storage.postgres.session import Session

SLOW: Final = 1.0
"""Seconds of a full claim above which it is made in parts."""

_BEGINNING: Final = (1 << 40, "-infinity", 0)


@attrs.frozen
class _Look:
    """Result of one look: the ids and names of jobs of the names, where it ended, and whether it was as long as may be.

    ``place`` is None if no more jobs are due.
    """

    jobs: Sequence[tuple[int, str]]
    place: Any
    exhausted: bool


async def probe(session: Session, demand: Demand, watermark: Watermark) -> None:
    """Claim in parts from now on if a look finds too few of the wanted jobs."""
    watermark.probed = True
    look = await _look(session, demand, place=None)
    if look.exhausted:
        await begin(session, demand, watermark)


async def begin(session: Session, demand: Demand, watermark: Watermark) -> None:
    """Claim in parts from now on."""
    rows = await session.fetch("attempts/look_levels", queue=demand.queue, priority=str(_BEGINNING[0]))
    watermark.start_recent(rows[0][0].replace(tzinfo=UTC), [row[1] for row in rows if row[1] is not None])
    watermark.sweep, watermark.too_slow = Sweep(), False


async def claim_old(
    session: Session, demand: Demand, sweep: Sweep, *, now: float, since: int | None, watermarks: Watermarks
) -> tuple[Reply | None, Sweep | None]:
    """Claim jobs that the next look finds; return the reply, if there is one, and the memory.

    `now` is the client's time, and `since` that of `Beats`.
    """
    room = Room(demand)
    names = room.names
    if now < sweep.next_at or demand.limit < 1 or any(cap < 1 for _, cap in demand.capped):
        return None, sweep
    look = await _look(session, demand, place=sweep.place)
    ids = [job_id for job_id, name in look.jobs if room.take(name)]
    reply = None
    if ids:
        values = claim_values(demand, since) | {"ids": numbers(ids)}
        rows = await session.run(take_statement(session.schema), **values)
        reply = read_reply(rows, demand, ended=0, watermarks=watermarks)
    if room.names != names or (reply is not None and reply.cut):
        return reply, sweep  # some jobs were passed by that can be claimed later
    return reply, sweep.after(now, place=look.place, in_vain=look.exhausted and not ids)


def rest_of(demand: Demand, jobs: Sequence[Claimed]) -> Demand:
    """Return what is left of a demand after these jobs, with the same names: the watermark stays the same."""
    members = {name: demand.members(name) for name, _ in demand.capped}
    capped = tuple(
        (name, cap - sum(job.name in members[name] for job in jobs)) for name, cap in demand.capped
    )
    free_slots = max(demand.starting - len(jobs), 0)
    return attrs.evolve(demand, limit=demand.limit - len(jobs), capped=capped, free_slots=free_slots)


async def _look(session: Session, demand: Demand, *, place: Any) -> _Look:
    priority, at, after_id = place or _BEGINNING
    names = texts(Room(demand).names)
    where = {
        "queue": demand.queue,
        "priority": str(priority),
        "at": at,
        "id": str(after_id),
        "look": str(LOOK),
    }
    rows = await session.fetch("attempts/look", **where, names=names, limit=str(demand.limit))
    jobs = [(row[2], row[3]) for row in rows]
    if len(rows) == demand.limit:
        return _Look(jobs, tuple(rows[-1][:3]), exhausted=False)
    ends = await session.fetch("attempts/look_end", **where)
    return _Look(jobs, tuple(ends[0]) if ends else None, exhausted=bool(ends))
