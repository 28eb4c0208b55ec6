"""Outcomes that park or suspend a job."""

import json
from collections.abc import Sequence

from jobrt._core.job import JobRef, Outcome, Wait
from jobrt._storage.postgres.encode import booleans, numbers, texts
from jobrt._storage.postgres.session import Session

_OVER = Wait("", "")


async def suspend(session: Session, outcomes: Sequence[Outcome]) -> tuple[tuple[JobRef, ...], list[str]]:
    """Write outcomes that suspend; return the refused ones, and the queues of jobs whose wait is over already.

    Call it in a transaction. Of one attempt there may be two, in order: they are written one after the other.
    """
    refused: list[JobRef] = []
    woken: list[str] = []
    left = list(outcomes)
    while left:
        batch = {outcome.id: outcome for outcome in reversed(left)}
        left = [outcome for outcome in left if batch[outcome.id] is not outcome]
        chosen = sorted(batch.values(), reverse=True)
        rows = await _write(session, chosen)
        written = {JobRef(id, lease) for id, lease, *_ in rows}
        missing = [
            JobRef(each.id, each.lease) for each in chosen if JobRef(each.id, each.lease) not in written
        ]
        refused += await _refused(session, missing)
        woken += [queue for _, _, queue, due, _ in rows if due]
        if any(limited for *_, limited in rows):
            await session.fetch("wakes/control", channel=session.schema.channel)
    return tuple(refused), woken


async def _write(session: Session, outcomes: Sequence[Outcome]) -> list[tuple[int, int, str, bool, bool]]:
    ids = numbers([outcome.id for outcome in outcomes])
    await session.fetch("attempts/finish_suspend_lock", ids=ids)
    waits = [outcome.wait or _OVER for outcome in outcomes]
    rows = await session.fetch(
        "attempts/finish_suspend",
        ids=ids,
        leases=numbers([outcome.lease for outcome in outcomes]),
        parks=booleans([wait.parked for wait in waits]),
        kinds=texts([wait.kind for wait in waits]),
        names=texts([wait.name for wait in waits]),
        bodies=texts([json.dumps(wait.bodies) for wait in waits]),
        numbers=numbers([wait.number for wait in waits]),
        began=numbers([outcome.began for outcome in outcomes]),
    )
    return [(id, lease, queue, due, limited) for id, lease, queue, due, limited in rows]


async def _refused(session: Session, refs: Sequence[JobRef]) -> list[JobRef]:
    """Return the outcomes that were refused, without those that an earlier sending has written."""
    if not refs:
        return []
    rows = await session.fetch(
        "attempts/finish_landed",
        ids=numbers(ref.id for ref in refs),
        leases=numbers(ref.lease for ref in refs),
    )
    before = {JobRef(*row) for row in rows}
    return [ref for ref in refs if ref not in before]
