"""Client of an app: enqueues jobs, looks at them, manages them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack, overload

import attrs
import trio

from jobrt._client.arguments import as_filter, job_filter, queue_name
from jobrt._client.handle import Handle
from jobrt._client.totals import ALL_TIME, JobTotals, add_up
from jobrt._client.waiting import Waiting
from jobrt._core import where as filters
from jobrt._core.cron import CronEntry, edit
from jobrt._core.states import FINAL
from jobrt._registry import changed_job, new_job
from jobrt.errors import CronNotFound, InvalidSetting, JobNotFound, JobStateError
from jobrt.events import EventBus, JobEnqueued

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime, timedelta

    from jobrt._core.cron import Missed
    from jobrt._core.job import NewJob
    from jobrt._core.keep import PruneRule
    from jobrt._core.queues import QueueStatus
    from jobrt._core.where import Where
    from jobrt._records import JobRecord
    from jobrt._registry import (
        Enqueueable,
        EnqueueKeywords,
        JsonT,
        Registry,
        ResultT,
        UpdateKeywords,
        Verdict,
    )
    from jobrt._storage.contract import Bucket, CronRow, Inserted, Storage, WorkerRow


_CHUNK = 10_000
"""Jobs per transaction of `enqueue_many`: it takes a few statements and lasts less than a second."""
_BATCH = 1000
"""Jobs that one statement of a bulk operation changes, so that it does not hold many locks for long."""


@attrs.define(eq=False)
class Client:
    """Client of an app, as ``App.open_client`` opens it. Every ``async`` method is a checkpoint.

    Every one may raise `StorageUnavailable`, after which another try can succeed, or another `StorageError`.
    """

    _storage: Storage
    _registry: Registry
    _rules: Sequence[PruneRule]
    _emit: EventBus
    _waiting: Waiting

    @property
    def registry(self) -> Registry:
        """Return the jobs that this client knows, by name."""
        return self._registry

    # ------------------------------------------------------------------ enqueue

    @overload
    async def enqueue(
        self, job: Enqueueable[JsonT], *, conn: object = None, **options: Unpack[EnqueueKeywords]
    ) -> Handle[JsonT]: ...
    @overload
    async def enqueue(
        self, job: Enqueueable[ResultT | Verdict], *, conn: object = None, **options: Unpack[EnqueueKeywords]
    ) -> Handle[ResultT]: ...
    async def enqueue(
        self, job: Enqueueable[Any], *, conn: object = None, **options: Unpack[EnqueueKeywords]
    ) -> Handle[Any]:
        """Insert a job into the database and return a handle to it.

        Args:
            job: a job value, or one with options (``job.with_options(...)``); options given here win over those.
            conn: an open connection of the caller's; the insert becomes part of its transaction.
            options: what this job has instead of its class's settings:

                * ``queue``: the queue's name.
                * ``priority``: higher runs first.
                * ``max_attempts``: runs in total; None for no limit.
                * ``timeout``: seconds or a timedelta for one attempt.
                * ``schedule_at``: when it is due, an aware datetime.
                * ``schedule_in``: or in how many seconds (or a timedelta) from the database's now.
                * ``tags``: texts to find it by.
                * ``metadata``: a dict of plain JSON.
                * ``context``: a text that says why the job exists.
                * ``unique``: a `Unique` instead of the class's ``UNIQUE``; None for no such rule.

        Raises:
            InvalidJob: a value does not fit; the message names the field. Nothing was stored.
            UnknownJob: the app does not know this job class.

        """
        new = new_job(self._registry, job, **options)
        return (await self._insert([new], conn))[0]

    @overload
    async def enqueue_many(
        self, jobs: Iterable[Enqueueable[JsonT]], *, conn: object = None
    ) -> list[Handle[JsonT]]: ...
    @overload
    async def enqueue_many(
        self, jobs: Iterable[Enqueueable[ResultT | Verdict]], *, conn: object = None
    ) -> list[Handle[ResultT]]: ...
    async def enqueue_many(
        self, jobs: Iterable[Enqueueable[Any]], *, conn: object = None
    ) -> list[Handle[Any]]:
        """Insert any number of jobs with few statements and return their handles in input order.

        Without `conn`, each ten thousand commit together.

        Raises:
            InvalidJob: a value does not fit; the message names the field. No job was stored.

        """
        new = [new_job(self._registry, job) for job in jobs]
        handles: list[Handle[Any]] = []
        for start in range(0, len(new), _CHUNK):
            handles += await self._insert(new[start : start + _CHUNK], conn)
        if not new:
            await trio.lowlevel.checkpoint()
        return handles

    async def _insert(self, new: Sequence[NewJob], conn: object) -> list[Handle[Any]]:
        inserted = await self._storage.jobs.insert(new, conn=conn)
        if self._emit.subscribers and conn is None:
            self._emit_enqueued(new, inserted)
        return [Handle(row.id, row.duplicate, self) for row in inserted]

    def _emit_enqueued(self, new: Sequence[NewJob], inserted: Sequence[Inserted]) -> None:
        groups: dict[tuple[str, str, bool], list[int]] = {}
        for job, row in zip(new, inserted, strict=True):
            groups.setdefault((job.name, job.queue, row.duplicate), []).append(row.id)
        for (name, queue, duplicate), ids in groups.items():
            self._emit.routine(JobEnqueued(name, queue, tuple(ids), duplicate))

    # ------------------------------------------------------------------ look

    def handle(self, job_id: int) -> Handle[Any]:
        """Return a handle for the job of that id, whether or not it exists."""
        return Handle(job_id, duplicate=False, client=self)

    async def get(self, job_id: int) -> JobRecord:
        """Return the record of a job; raise `JobNotFound` if there is none of that id."""
        record = await self._storage.jobs.get(job_id)
        if record is None:
            raise _not_found(job_id)
        return record

    async def query(
        self,
        where: Where | None = None,
        *,
        order_by: str = "-id",
        limit: int | None = 100,
        after: int | None = None,
        details: bool = True,
    ) -> list[JobRecord]:
        """Return the records of the jobs that match, by default the newest first.

        Args:
            where: a filter made with `jobrt.where`; None matches every job.
            order_by: ``id``, ``schedule_at``, ``created_at``, ``finished_at`` or ``priority``; with ``-`` in front,
                descending.
            limit: how many to return at most; None for all.
            after: the id of the last job of the page before.
            details: whether to read attempts, results and progress; without them it is faster.

        Raises:
            InvalidFilter: the filter, order or limit makes no sense.

        """
        return list(
            await self._storage.jobs.query(
                as_filter(where), order_by=order_by, limit=limit, after=after, details=details
            )
        )

    async def count(self, where: Where | None = None, *, limit: int | None = None) -> int:
        """Return how many jobs match; `limit` is where the counting stops, which keeps it quick."""
        return await self._storage.jobs.count(as_filter(where), limit=limit)

    async def wait(self, job_id: int) -> None:
        """Wait until a job is final; raise `JobNotFound` if there is none of that id."""
        await self._waiting.wait(job_id)

    # ------------------------------------------------------------------ manage

    async def cancel(self, job: int | Where, reason: str = "") -> int:
        """Cancel a job, or all jobs that match, and return how many.

        Waiting jobs are cancelled in the database; running ones in their workers, wherever those are.

        Args:
            job: the job's id, or a filter.
            reason: why, for people; it is kept with the job.

        Raises:
            JobNotFound: there is no job with this id.
            JobStateError: the job with this id is final already.

        """
        waiting, running = await self._storage.jobs.cancel(job_filter(job), reason)
        if isinstance(job, int) and not waiting + running:
            record = await self.get(job)
            if record.state in FINAL:
                msg = f"job {job} ({record.name}) is {record.state} already: there is nothing to cancel"
                raise JobStateError(msg)
        return waiting + running

    async def rerun(self, job: int | Where) -> int:
        """Run a final job again, or all final jobs that match, and return how many.

        A job that has used up its attempts gets one more.

        Args:
            job: the job's id, or a filter.

        Raises:
            JobNotFound: there is no job with this id.
            JobStateError: the job with this id is not final.

        """
        count = await self._storage.jobs.rerun(job_filter(job))
        if isinstance(job, int) and not count:
            record = await self.get(job)
            msg = f"job {job} ({record.name}) is {record.state}: only a job that has ended can be run again"
            raise JobStateError(msg)
        return count

    async def update(self, job: int | Where, **changes: Unpack[UpdateKeywords]) -> int:
        """Change a waiting job, or all waiting jobs that match, and return how many were changed.

        Args:
            job: the job's id, or a filter.
            changes: the options of `enqueue` but ``unique``; and, for one job, ``args``: a job value of the same
                class, or a dict of all its fields. If the app knows the class, the dict is checked against it.

        Raises:
            InvalidJob: a value does not fit, or nothing is to be changed.
            JobNotFound: there is no job with this id.
            JobStateError: the job with this id is running or final.

        """
        name = (await self.get(job)).name if isinstance(job, int) else None
        count = await self._storage.jobs.update(job_filter(job), changed_job(self._registry, name, changes))
        if isinstance(job, int) and not count:
            record = await self.get(job)
            msg = f"job {job} ({record.name}) is {record.state}: only a waiting job can be changed"
            raise JobStateError(msg)
        return count

    async def delete(self, job: int | Where) -> int:
        """Delete a job, or all jobs that match, and return how many.

        Running jobs are deleted too: they go on, and then their outcome is refused.

        Args:
            job: the job's id, or a filter.

        Raises:
            JobNotFound: there is no job with this id.

        """
        total = 0
        while True:
            count = await self._storage.jobs.delete(job_filter(job), limit=_BATCH)
            total += count
            if count < _BATCH:
                break
        if isinstance(job, int) and not total:
            raise _not_found(job)
        return total

    async def prune(self) -> int:
        """Apply the app's retention rules now and return how many jobs were deleted."""
        total = 0
        while count := await self._storage.jobs.prune(self._rules, limit=_BATCH):
            total += count
        return total

    async def failed(self) -> list[JobRecord]:
        """Return the discarded jobs, the newest first, at most a hundred."""
        return await self.query(filters.state("discarded"))

    # ------------------------------------------------------------------ queues, workers, cron, statistics

    async def queues(self, *, limit: int | None = None) -> list[QueueStatus]:
        """Return the status of every queue that has settings or unfinished jobs.

        Args:
            limit: where the counting stops, for the due jobs of each priority and for the scheduled ones. It keeps the
                call quick. ``more`` is then true where there are more, and ``names`` are the names of the due jobs.

        """
        return list(await self._storage.queues.all(limit=limit))

    async def pause(self, queue: str) -> None:
        """Pause a queue: workers claim no job from it until it is resumed; running jobs go on."""
        await self._storage.queues.set(queue_name(queue), paused=True)

    async def resume(self, queue: str) -> None:
        """Resume a queue: workers claim jobs from it again."""
        await self._storage.queues.set(queue_name(queue), paused=False)

    async def scale(self, queue: str, concurrency: int | None) -> None:
        """Set how many jobs of a queue each worker runs at once; None resets it to what the worker's app says.

        Raises:
            InvalidSetting: the number is below 1.

        """
        if concurrency is not None and (isinstance(concurrency, bool) or concurrency < 1):
            raise InvalidSetting(
                f"queue {queue!r} cannot be scaled to {concurrency!r}: give a number above zero, or pause it"
            )
        await self._storage.queues.set(
            queue_name(queue), concurrency="default" if concurrency is None else concurrency
        )

    async def workers(self) -> list[WorkerRow]:
        """Return the workers that are alive or whose jobs are still to be rescued, with their supervision trees."""
        return list(await self._storage.workers.all())

    async def crons(self) -> list[CronRow]:
        """Return the cron entries."""
        return list(await self._storage.crons.all())

    async def pause_cron(self, name: str) -> None:
        """Pause a cron entry until it is resumed; raise `CronNotFound` if there is none of that name."""
        await self._edit_cron(name, paused=True)

    async def resume_cron(self, name: str) -> None:
        """Resume a cron entry from now on; raise `CronNotFound` if there is none of that name."""
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
        """Change a cron entry for all workers; what is None stays as it is.

        The change holds over restarts, until the code that declares the entry is changed.

        Args:
            name: the entry's name.
            expression: a cron expression to tick by.
            interval: seconds or a timedelta to tick by, instead of an expression.
            timezone: the time zone of the expression.
            missed: what becomes of ticks that passed while no worker ran.
            args: the payload of the entry's jobs.

        Raises:
            CronNotFound: there is no entry of that name.
            InvalidSetting: the entry could not tick; the message names the field. Nothing was changed.

        """
        changes = {
            "expression": expression,
            "interval": interval,
            "timezone": timezone,
            "missed": missed,
            "args": args,
        }
        given: dict[str, Any] = {key: value for key, value in changes.items() if value is not None}
        if len(given.keys() & {"expression", "interval"}) == 1:  # either takes the place of the other
            given = {"expression": None, "interval": None, **given}
        await self._edit_cron(name, **given)

    async def delete_cron(self, name: str) -> None:
        """Delete a cron entry; raise `CronNotFound` if there is none of that name.

        A worker whose code declares the entry adds it again when it starts.
        """
        if not await self._storage.crons.delete(name):
            raise _no_cron(name)

    async def _edit_cron(self, name: str, **changes: Any) -> None:
        row = next((row for row in await self._storage.crons.all() if row.name == name), None)
        if row is None:
            raise _no_cron(name)
        entry = CronEntry.from_spec(name, row.spec, paused=row.paused, anchor=row.created_at)
        edited = edit(entry, now=await self._storage.schema.now(), **changes)
        if not await self._storage.crons.set(name, paused=edited.paused, spec=edited.spec()):
            raise _no_cron(name)

    async def stats(self, *, since: datetime) -> list[Bucket]:
        """Return how many jobs were enqueued, completed, failed and discarded, by hour, queue and name.

        Args:
            since: the beginning, an aware datetime.

        """
        return list(await self._storage.jobs.stats(since=since))

    async def totals(self, *, since: datetime | None = None) -> list[JobTotals]:
        """Return the counts of this hour, today, this month (in UTC) and all time, by queue and name.

        Jobs that were deleted or pruned are counted, too.

        Args:
            since: what "all time" begins with, an aware datetime; default the first job.

        """
        now = await self._storage.schema.now()
        return add_up(await self._storage.jobs.stats(since=since or ALL_TIME), now=now)


def _not_found(job_id: int) -> JobNotFound:
    return JobNotFound(f"there is no job {job_id}")


def _no_cron(name: str) -> CronNotFound:
    return CronNotFound(f"there is no cron entry {name!r}")
