"""Queues, workers, cron entries and statistics: the part of a client that is about no single job."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import attrs

from jobrt._client.totals import ALL_TIME, JobTotals, add_up
from jobrt._core.arguments import (
    checked_count,
    checked_limit,
    checked_moment,
    checked_name,
    checked_text,
    shown,
)
from jobrt._core.cron import CronEntry, Missed, edit
from jobrt._core.queues import QueueStatus
from jobrt._core.stats import Bucket
from jobrt._core.text import is_storable
from jobrt._storage.contract import CronRow, Storage, WorkerRow
from jobrt.errors import CronNotFound


@attrs.define(eq=False)
class Operating:
    """Base of `Client`, with its storage."""

    _storage: Storage

    async def queues(self, *, limit: int | None = None) -> list[QueueStatus]:
        """Return the status of every queue that has settings or unfinished jobs.

        With `limit`, counting stops at so many due jobs of each priority, and at so many scheduled jobs. This keeps
        the call fast. If a queue has more, ``more`` is true. ``names`` has the names of the due jobs.
        """
        return list(await self._storage.queues.all(limit=checked_limit("queues: limit", limit)))

    async def pause(self, queue: str) -> None:
        """Pause a queue: workers claim no jobs from it until it is resumed. Running jobs continue."""
        await self._storage.queues.set(checked_name("pause: queue", queue), paused=True)

    async def resume(self, queue: str) -> None:
        """Resume a queue: workers claim jobs from it again."""
        await self._storage.queues.set(checked_name("resume: queue", queue), paused=False)

    async def scale(self, queue: str, concurrency: int | None) -> None:
        """Set how many jobs of a queue each worker runs at once; None restores the setting of the worker's app.

        Raises:
            InvalidSetting: the number is below 1.

        """
        name = checked_name("scale: queue", queue)
        if concurrency is None:
            await self._storage.queues.set(name, concurrency="default")
        else:
            number = checked_count("scale: concurrency", concurrency, least=1)
            await self._storage.queues.set(name, concurrency=number)

    async def workers(self) -> list[WorkerRow]:
        """Return the workers that are alive, and the dead ones whose jobs are not rescued yet."""
        return list(await self._storage.workers.all())

    async def crons(self) -> list[CronRow]:
        """Return the cron entries."""
        return list(await self._storage.crons.all())

    async def pause_cron(self, name: str) -> None:
        """Pause a cron entry until it is resumed; raise `CronNotFound` if there is no such entry."""
        await self._edit_cron(name, paused=True)

    async def resume_cron(self, name: str) -> None:
        """Resume a cron entry from now on; raise `CronNotFound` if there is no such entry."""
        await self._edit_cron(name, paused=False)

    async def update_cron(
        self,
        name: str,
        *,
        expression: str | None = None,
        interval: timedelta | float | None = None,
        timezone: str | None = None,
        missed: Missed | None = None,
        args: Mapping[str, Any] | None = None,
    ) -> None:
        """Change a cron entry for all workers; None keeps a field as it is.

        The change survives restarts, until the declaration of the entry in code changes.

        Args:
            name: name of the entry.
            expression: cron expression.
            interval: time between ticks, in seconds or as a timedelta; it replaces an expression, and vice versa.
            timezone: time zone of the expression.
            missed: policy for ticks that passed while no worker ran, as in `App.cron`.
            args: payload of the jobs.

        Raises:
            CronNotFound: there is no such entry.
            InvalidSetting: a field is invalid; the message names it. Nothing was changed.

        """
        given: dict[str, Any] = {"timezone": timezone, "missed": missed, "args": args}
        given = {key: value for key, value in given.items() if value is not None}
        if expression is not None or interval is not None:
            given |= {"expression": expression, "interval": interval}
        await self._edit_cron(name, **given)

    async def delete_cron(self, name: str) -> None:
        """Delete a cron entry; raise `CronNotFound` if there is no such entry.

        A worker whose code declares the entry adds it again when it starts.
        """
        checked_text("delete_cron: name", name)
        if not is_storable(name) or not await self._storage.crons.delete(name):
            raise _no_cron(name)

    async def _edit_cron(self, name: str, **changes: Any) -> None:
        checked_text("name", name)
        row = next((row for row in await self._storage.crons.all() if row.name == name), None)
        if row is None:
            raise _no_cron(name)
        entry = CronEntry.from_spec(name, row.spec, paused=row.paused, anchor=row.created_at)
        edited = edit(entry, now=await self._storage.schema.now(), **changes)
        if not await self._storage.crons.set(name, paused=edited.paused, spec=edited.spec()):
            raise _no_cron(name)

    async def stats(self, *, since: datetime) -> list[Bucket]:
        """Return the counts of jobs by hour, queue and name, from `since` (an aware datetime) on."""
        return list(await self._storage.jobs.stats(since=checked_moment("stats: since", since)))

    async def totals(self, *, since: datetime | None = None) -> list[JobTotals]:
        """Return the counts of this hour, this day, this month (in UTC) and all time, by queue and name.

        They include jobs that were deleted or pruned. With `since`, an aware datetime, "all time" starts then.
        """
        since = ALL_TIME if since is None else checked_moment("totals: since", since)
        now = await self._storage.schema.now()
        return add_up(await self._storage.jobs.stats(since=since), now=now)


def _no_cron(name: str) -> CronNotFound:
    return CronNotFound(f"there is no cron entry {shown(name)}")
