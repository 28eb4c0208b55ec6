"""Queues, workers, cron entries and statistics: the part of a client that is about no single job."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import attrs

from jobrt._client.this_process import this_process
from jobrt._client.totals import ALL_TIME, JobTotals, add_up
from jobrt._core.actions import ACTIONS_KEPT, Action, NewAction, Subject, new_action
from jobrt._core.arguments import (
    checked_count,
    checked_limit,
    checked_moment,
    checked_name,
    checked_text,
    shown,
)
from jobrt._core.cron import CronEntry, Missed, edit
from jobrt._core.escape import printable
from jobrt._core.queues import QueueStatus
from jobrt._core.stats import Bucket
from jobrt._core.text import is_storable, text_from
from jobrt._storage.contract import CronRow, Storage, WorkerRow
from jobrt.errors import CronNotFound, InvalidFilter, StorageError

_log: Final = logging.getLogger("jobrt")


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

    async def pause(self, queue: str, *, reason: str = "", by: str | None = None) -> None:
        """Pause a queue: workers claim no jobs from it until it is resumed. Running jobs continue.

        The change is kept among the `actions`, as those of all methods that take these two arguments.

        Args:
            queue: name of the queue.
            reason: why, for those who look at the actions.
            by: who does it; None stands for the user and the host of this process.

        """
        name = checked_name("pause: queue", queue)
        action = _action("queue", name, f"paused queue {name}", by=by, reason=reason)
        await self._storage.queues.set(name, paused=True)
        await self._keep(action)

    async def resume(self, queue: str, *, reason: str = "", by: str | None = None) -> None:
        """Resume a queue: workers claim jobs from it again. `reason` and `by` are as for `pause`."""
        name = checked_name("resume: queue", queue)
        action = _action("queue", name, f"resumed queue {name}", by=by, reason=reason)
        await self._storage.queues.set(name, paused=False)
        await self._keep(action)

    async def scale(
        self, queue: str, concurrency: int | None, *, reason: str = "", by: str | None = None
    ) -> None:
        """Set how many jobs of a queue each worker runs at once; None restores the setting of the worker's app.

        `reason` and `by` are as for `pause`.

        Raises:
            InvalidSetting: the number is below 1.

        """
        name = checked_name("scale: queue", queue)
        if concurrency is not None:
            concurrency = checked_count("scale: concurrency", concurrency, least=1)
        what = f"scaled queue {name} to {'the setting of the application' if concurrency is None else concurrency}"
        action = _action("queue", name, what, by=by, reason=reason)
        if concurrency is None:
            await self._storage.queues.set(name, concurrency="default")
        else:
            await self._storage.queues.set(name, concurrency=concurrency)
        await self._keep(action)

    async def actions(
        self, *, limit: int | None = 100, queue: str | None = None, cron: str | None = None
    ) -> list[Action]:
        """Return what operators did, the newest first: all, or what was about a queue or a cron entry.

        The newest 10,000 actions are kept. Those on jobs are here if they were made in the dashboard.

        Args:
            limit: how many at most; None for all that are kept.
            queue: name of a queue.
            cron: name of a cron entry.

        Raises:
            InvalidFilter: both a queue and a cron entry are given.

        """
        if queue is not None and cron is not None:
            raise InvalidFilter("actions: queue and cron are given: use one of them")
        subject: Subject | None = (
            None if queue is None and cron is None else "cron" if queue is None else "queue"
        )
        name = cron if queue is None else queue
        if name is not None and not is_storable(checked_text(f"actions: {subject}", name)):
            return []
        most = checked_limit("actions: limit", limit)
        kept = ACTIONS_KEPT if most is None else most
        return list(await self._storage.actions.newest(limit=kept, subject=subject, name=name))

    async def _keep(self, action: NewAction) -> None:
        """Keep an action that was carried out; a database that does not store it undoes nothing."""
        try:
            await self._storage.actions.record(action)
        except StorageError as error:
            _log.warning(
                "the action is not stored: %s %s: %s", action.who, action.what, printable(str(error))
            )

    async def workers(self) -> list[WorkerRow]:
        """Return the workers that are alive, and the dead ones whose jobs are not rescued yet."""
        return list(await self._storage.workers.all())

    async def crons(self) -> list[CronRow]:
        """Return the cron entries."""
        return list(await self._storage.crons.all())

    async def pause_cron(self, name: str, *, reason: str = "", by: str | None = None) -> None:
        """Pause a cron entry until it is resumed; raise `CronNotFound` if there is no such entry."""
        name = checked_text("pause_cron: name", name)
        action = _action("cron", name, f"paused cron entry {name}", by=by, reason=reason)
        await self._edit_cron(name, paused=True)
        await self._keep(action)

    async def resume_cron(self, name: str, *, reason: str = "", by: str | None = None) -> None:
        """Resume a cron entry from now on; raise `CronNotFound` if there is no such entry."""
        name = checked_text("resume_cron: name", name)
        action = _action("cron", name, f"resumed cron entry {name}", by=by, reason=reason)
        await self._edit_cron(name, paused=False)
        await self._keep(action)

    async def update_cron(
        self,
        name: str,
        *,
        expression: str | None = None,
        interval: timedelta | float | None = None,
        timezone: str | None = None,
        missed: Missed | None = None,
        args: Mapping[str, Any] | None = None,
        reason: str = "",
        by: str | None = None,
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
            reason: why, for those who look at the actions.
            by: who does it; None stands for the user and the host of this process.

        Raises:
            CronNotFound: there is no such entry.
            InvalidSetting: a field is invalid; the message names it. Nothing was changed.

        """
        name = checked_text("update_cron: name", name)
        given: dict[str, Any] = {"timezone": timezone, "missed": missed, "args": args}
        given = {key: value for key, value in given.items() if value is not None}
        if expression is not None or interval is not None:
            given |= {"expression": expression, "interval": interval}
        fields = ", ".join(f"{key} {_text(value)}" for key, value in given.items() if value is not None)
        action = _action("cron", name, f"changed cron entry {name}: {fields}", by=by, reason=reason)
        await self._edit_cron(name, **given)
        await self._keep(action)

    async def delete_cron(self, name: str, *, reason: str = "", by: str | None = None) -> None:
        """Delete a cron entry; raise `CronNotFound` if there is no such entry.

        A worker whose code declares the entry adds it again when it starts.
        """
        name = checked_text("delete_cron: name", name)
        action = _action("cron", name, f"deleted cron entry {name}", by=by, reason=reason)
        if not is_storable(name) or not await self._storage.crons.delete(name):
            raise _no_cron(name)
        await self._keep(action)

    async def _edit_cron(self, name: str, **changes: Any) -> None:
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


def _action(subject: Subject, name: str, what: str, *, by: str | None, reason: str) -> NewAction:
    """Return the action to keep, before it is carried out."""
    who = this_process() if by is None else checked_text("by", by)
    return new_action(subject, name, who=who, what=what, why=checked_text("reason", reason))


def _text(value: object) -> str:
    return text_from(lambda: str(value), f"a {type(value).__name__} whose str() failed")


def _no_cron(name: str) -> CronNotFound:
    return CronNotFound(f"there is no cron entry {shown(name)}")
