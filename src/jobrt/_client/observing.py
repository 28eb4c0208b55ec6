"""Questions of an observer, such as the dashboard, beyond those of `Client`. Their cost is bounded."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from jobrt._client.client import Client
from jobrt._core import where as filters
from jobrt._core.actions import Action, Subject, new_action
from jobrt._core.job import JobRecord
from jobrt._core.search import needle
from jobrt._core.stats import Ended
from jobrt._core.stream import Seen, action_value, updates
from jobrt._core.updates import ProgressChange, StateChange, Update
from jobrt._core.walks import Look, Place, Walk, walk_of
from jobrt._core.where import Where
from jobrt.errors import InvalidFilter

_ACTIONS: Final = 1_000
"""Actions of which the last one on each queue or entry is found: a millisecond or two."""
_NOTED: Final = 500
"""Streams that one transaction adds to: some twenty milliseconds on SQLite, where it is the only one that writes."""

_FIRST: Final = 5
"""Jobs that a list looks at first, for each that it shows."""
_MORE: Final = 4
"""How many times as many it looks at next, and so on."""
_ROUNDS: Final = 4
"""Times that a list looks further. On a walk by time it passes by fewer jobs than it reads of the index."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


async def count_each(client: Client, wheres: Sequence[Where], *, limit: int) -> tuple[int, ...]:
    """Return how many jobs match each of these filters, at most `limit` of each."""
    jobs = client._storage.jobs  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - part of the client
    return await jobs.count_each(wheres, limit=limit)


async def ended(
    client: Client, since: datetime, until: datetime, *, step: int, limit: int, deleted: bool = False
) -> Ended:
    """Return what ended in a range of time: `ObservedJobs.ended`."""
    jobs = client._storage.jobs  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - part of the client
    return await jobs.ended(since, until, step=step, limit=limit, deleted=deleted)


async def entries(client: Client, job_id: int) -> list[Update]:
    """Return the entries of a job's stream that are kept, in order, and where some are missing."""
    streams = client._storage.streams  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - part of the client
    page = await streams.read(job_id, 0)
    found = [] if page is None else updates(Seen(0), page)[1]
    return [update for update in found if not isinstance(update, StateChange | ProgressChange)]


async def actions_on(client: Client, subject: Subject) -> Sequence[Action]:
    """Return the newest actions on queues or on cron entries, the newest first."""
    actions = client._storage.actions  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - part of the client
    return await actions.newest(limit=_ACTIONS, subject=subject)


async def note_action(
    client: Client, ids: Sequence[int], *, who: str, what: str, why: str, cron: str | None = None
) -> None:
    """Keep an action of an operator on jobs, or on a cron entry, and add it to the streams of these.

    Some hundred streams are added to in a transaction.
    """
    storage, value = client._storage, action_value(who, what, why)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - part of the client
    subject: Subject = "jobs" if cron is None else "cron"
    name = cron if cron is not None else str(ids[0]) if len(ids) == 1 else ""
    await storage.actions.record(new_action(subject, name, who=who, what=what, why=why))
    for start in range(0, len(ids), _NOTED):
        await storage.streams.note(ids[start : start + _NOTED], value)


async def look(
    client: Client,
    where: Where | None,
    *,
    limit: int,
    scan: int,
    newest: bool = True,
    after: Place | None = None,
    text: str = "",
) -> Look:
    """Return the first jobs that match, and have a text, in the order that an index has (`jobrt._core.walks`).

    About `scan` jobs are looked at, from the place `after` on, and at most `limit` are returned.

    Raises:
        InvalidFilter: no job can have this text, or be at this place.

    """
    jobs = client._storage.jobs  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - part of the client
    matching = filters.everything() if where is None else where
    walk, wanted = walk_of(matching, newest=newest), needle(text) if text else None
    if after is not None and walk.timed and after.at is None:
        after = await _place(client, walk, after.id)
    found = Look((), after, 0)
    # At first a few: in most lists, most jobs match.
    size = limit + 1 if walk.covers and not text else min(scan, _FIRST * limit)
    for _ in range(_ROUNDS):
        left = limit - len(found.ids)
        more = await jobs.look(matching, walk, scan=size, limit=left, after=found.after, needle=wanted)
        found = Look(found.ids + more.ids, more.after, found.looked_at + more.looked_at)
        size = min(scan - found.looked_at, _MORE * size)
        if found.after is None or len(found.ids) >= limit or size <= 0:
            break
    return found


async def _place(client: Client, walk: Walk, job_id: int) -> Place:
    """Return the place of a job on a walk by time."""
    for record in await client.query(filters.id(job_id), details=False):
        moment = record.finished_at if walk.by == "ends" else record.schedule_at
        if moment is not None:
            return Place(job_id, (moment - _EPOCH) // _MICROSECOND)
    raise InvalidFilter(
        f"after is {job_id}: this job is not in the list any more, so begin with its first page"
    )


async def looked_up(client: Client, ids: Sequence[int], *, details: bool = False) -> list[JobRecord]:
    """Return the records of jobs in the order of the ids; jobs that do not exist are left out."""
    if not ids:
        return []
    records = await client.query(filters.id_in(ids), order_by="id", limit=None, details=details)
    by_id = {record.id: record for record in records}
    return [by_id[job_id] for job_id in ids if job_id in by_id]
