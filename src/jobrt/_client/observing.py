"""Questions of an observer, such as the dashboard, beyond those of `Client`. Their cost is bounded."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from jobrt._client.client import Client
from jobrt._core import where as filters
from jobrt._core.actions import Action, Subject, new_action
from jobrt._core.job import JobRecord
from jobrt._core.search import Search, needle
from jobrt._core.states import FINAL, State
from jobrt._core.stats import Ended
from jobrt._core.stream import Seen, action_value, updates
from jobrt._core.updates import ProgressChange, StateChange, Update
from jobrt._core.where import Where

_ACTIONS: Final = 1_000
"""Actions of which the last one on each queue or entry is found: a millisecond or two."""
_NOTED: Final = 500
"""Streams that one transaction adds to: some twenty milliseconds on SQLite, where it is the only one that writes."""


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


async def newest(
    client: Client, where: Where | None, states: Collection[State], *, limit: int, after: int | None = None
) -> list[JobRecord]:
    """Return the newest jobs that match, which are in some of these states, without details.

    If all states are final ones, those that ended last are the newest. By their ids, all newer jobs in other states
    would be read first.
    """
    if states and FINAL.issuperset(states):
        return await finished(client, where, states, limit=limit, after=after)
    return await client.query(where, order_by="-id", limit=limit, after=after, details=False)


async def finished(
    client: Client,
    where: Where | None,
    states: Collection[State],
    *,
    limit: int,
    after: int | None = None,
    newest: bool = True,
) -> list[JobRecord]:
    """Return the jobs that match and are in some of these final states, by when they ended, without details."""
    jobs = client._storage.jobs  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - part of the client
    matching = filters.everything() if where is None else where
    ids = await jobs.finished(matching, states, limit=limit, after=after, newest=newest)
    order = "-finished_at" if newest else "finished_at"
    return await client.query(filters.id_in(ids), order_by=order, details=False) if ids else []


async def search(
    client: Client, where: Where | None, text: str, *, scan: int, limit: int, after: int | None = None
) -> tuple[list[JobRecord], int | None]:
    """Return the newest jobs that match and have a text, without details, and the id behind which to go on.

    At most `scan` jobs are looked at; `ObservedJobs.search`.

    Raises:
        InvalidFilter: no job can have this text.

    """
    found = await search_ids(client, where, text, scan=scan, limit=limit, after=after)
    if not found.ids:
        return [], found.after
    return await client.query(filters.id_in(found.ids), order_by="-id", details=False), found.after


async def search_ids(
    client: Client, where: Where | None, text: str, *, scan: int, limit: int, after: int | None = None
) -> Search:
    """Return the ids of the jobs that `search` finds."""
    jobs = client._storage.jobs  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - part of the client
    matching = filters.everything() if where is None else where
    return await jobs.search(matching, needle(text), scan=scan, limit=limit, after=after)
