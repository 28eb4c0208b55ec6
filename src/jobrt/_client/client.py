"""Client of an app: it enqueues, queries and manages jobs."""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Unpack, overload

import attrs
import trio

from jobrt._client.handle import Handle
from jobrt._client.totals import ALL_TIME, JobTotals, add_up
from jobrt._client.waiting import Waiting
from jobrt._core import where as filters
from jobrt._core.cron import CronEntry, Missed, edit
from jobrt._core.job import NewJob
from jobrt._core.keep import PruneRule
from jobrt._core.queues import QueueStatus, checked_queue_name
from jobrt._core.states import FINAL
from jobrt._core.stats import Bucket
from jobrt._core.text import is_storable
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
    changed_job,
    new_job,
)
from jobrt._storage.contract import CronRow, Inserted, Storage, WorkerRow
from jobrt.errors import CronNotFound, InvalidSetting, JobNotFound, JobStateError
from jobrt.events import EventBus, JobEnqueued

_CHUNK = 10_000
"""Jobs per transaction of `enqueue_many`, which then lasts less than a second."""
_BATCH = 1000
"""Jobs per statement of a bulk operation, so that it does not hold many locks for long."""


@attrs.define(eq=False)
class Client:
    """Client of an app, opened by ``App.open_client``.

    Every ``async`` method is a checkpoint. It raises `StorageUnavailable` if a retry may succeed, and any other
    `StorageError` if not.
    """

    _storage: Storage
    _registry: Registry
    _rules: Sequence[PruneRule]
    _emit: EventBus
    _waiting: Waiting

    @property
    def registry(self) -> Registry:
        """The jobs of the app, by name."""
        return self._registry

    async def now(self) -> datetime:
        """Return the time by the database's clock, by which all times of jobs are judged."""
        return await self._storage.schema.now()

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
            job: a job value, or ``job.with_options(...)``; the options below replace those.
            conn: an open connection; the insert becomes part of its transaction.
            options: settings that replace those of the job class:

                * ``queue``: name of the queue.
                * ``priority``: higher runs first.
                * ``max_attempts``: maximum number of attempts; None for no limit.
                * ``timeout``: time limit of an attempt, in seconds or as a timedelta.
                * ``schedule_at``: when the job is due, as an aware datetime.
                * ``schedule_in``: delay until then, in seconds or as a timedelta, by the database's clock.
                * ``tags``: strings to find the job by.
                * ``metadata``: a dict of plain JSON.
                * ``context``: why the job exists, as a string.
                * ``unique``: a `Unique` rule; None for no rule.

        Raises:
            InvalidJob: a value is invalid; the message names the field. Nothing was stored.
            UnknownJob: the app does not have this job class.

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
        """Insert any number of jobs with few statements, and return their handles in input order.

        Without `conn`, each transaction inserts up to ten thousand jobs.

        Raises:
            InvalidJob: a value is invalid; the message names the field. No job was stored.

        """
        new = [new_job(self._registry, job) for job in jobs]
        handles: list[Handle[Any]] = []
        for start in range(0, len(new), _CHUNK):
            handles += await self._insert(new[start : start + _CHUNK], conn)
        if not new:
            await trio.lowlevel.checkpoint()
        return handles

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Open a transaction for the program's own rows and, as ``conn=``, for jobs to enqueue.

        ``async with jobs.transaction() as conn: await conn.execute(…); await jobs.enqueue(job, conn=conn)``

        The end of the block commits, an exception rolls back. The connection is psycopg's asynchronous one, driven by
        Trio, or one with the same methods for SQLite: ``cur = await conn.execute(sql, params)``, ``await
        cur.fetchall()``. ``%s`` and ``%(name)s`` are placeholders on both; on SQLite ``?`` and ``:name`` as well, and
        ``conn.raw`` is the connection of ``sqlite3``.

        Keep it short on SQLite: nobody else can write meanwhile. It is rolled back after a quarter of the shortest
        lease of the workers, and after 10 s at most.

        Raises:
            StorageError: the block took too long, or the database refused the commit.

        """
        return self._storage.jobs.transaction()

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

    # ------------------------------------------------------------------ query

    def handle(self, job_id: int) -> Handle[Any]:
        """Return a handle for a job id, without checking whether the job exists."""
        return Handle(job_id, duplicate=False, client=self)

    async def get(self, job_id: int) -> JobRecord:
        """Return the record of a job; raise `JobNotFound` if there is no job with this id."""
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
            where: a filter of `jobrt.where`; None matches all jobs.
            order_by: ``id``, ``schedule_at``, ``created_at``, ``finished_at`` or ``priority``; a leading ``-``
                reverses the order.
            limit: maximum number of records; None for all.
            after: id of the last job of the previous page.
            details: whether to read attempts, results and progress, which takes longer.

        Raises:
            InvalidFilter: the filter, order or limit is invalid.

        """
        jobs, where = self._storage.jobs, filters.everything() if where is None else where
        return list(await jobs.query(where, order_by=order_by, limit=limit, after=after, details=details))

    async def count(self, where: Where | None = None, *, limit: int | None = None) -> int:
        """Return how many jobs match; counting stops at `limit`, which keeps it fast."""
        where = filters.everything() if where is None else where
        return await self._storage.jobs.count(where, limit=limit)

    async def wait(self, job_id: int) -> None:
        """Wait until a job is final; raise `JobNotFound` if there is no job with this id."""
        await self._waiting.wait(job_id)

    # ------------------------------------------------------------------ manage

    async def cancel(self, job: int | Where, reason: str = "") -> int:
        """Cancel a job by its id, or all jobs that match a filter, and return how many.

        Waiting jobs are cancelled in the database, and running jobs by their workers. The reason is stored with
        the job.

        Raises:
            JobNotFound: there is no job with this id.
            JobStateError: the job with this id is already final.

        """
        waiting, running = await self._storage.jobs.cancel(_filter(job), reason)
        if isinstance(job, int) and not waiting + running:
            record = await self.get(job)
            if record.state in FINAL:
                raise JobStateError(
                    f"job {job} ({record.name}) is {record.state} already: there is nothing to cancel"
                )
        return waiting + running

    async def rerun(self, job: int | Where) -> int:
        """Run a final job again by its id, or all final jobs that match a filter, and return how many.

        A job without attempts left gets one more.

        Raises:
            JobNotFound: there is no job with this id.
            JobStateError: the job with this id is not final.

        """
        count = await self._storage.jobs.rerun(_filter(job))
        if isinstance(job, int) and not count:
            raise _refused(await self.get(job), "only a job that has ended can be run again")
        return count

    async def update(self, job: int | Where, **changes: Unpack[UpdateKeywords]) -> int:
        """Change a waiting job by its id, or all waiting jobs that match a filter, and return how many.

        Args:
            job: the job's id, or a filter.
            changes: the options of `enqueue` except ``unique``; for an id also ``args``: a job value of the same
                class, or a dict of all its fields. If the app has the class, the dict is checked against it.

        Raises:
            InvalidJob: a value is invalid, or there are no changes.
            JobNotFound: there is no job with this id.
            JobStateError: the job with this id is running or final.

        """
        name = (await self.get(job)).name if isinstance(job, int) else None
        count = await self._storage.jobs.update(_filter(job), changed_job(self._registry, name, changes))
        if isinstance(job, int) and not count:
            raise _refused(await self.get(job), "only a waiting job can be changed")
        return count

    async def delete(self, job: int | Where) -> int:
        """Delete a job by its id, or all jobs that match a filter, and return how many.

        Running jobs are deleted too: they continue, and their outcome is refused. Raises `JobNotFound` if there is
        no job with this id.
        """
        total = 0
        while True:
            count = await self._storage.jobs.delete(_filter(job), limit=_BATCH)
            total += count
            if count < _BATCH:
                break
        if isinstance(job, int) and not total:
            raise _not_found(job)
        return total

    async def prune(self) -> int:
        """Apply the app's retention rules now, and return how many jobs were deleted."""
        total = 0
        while count := await self._storage.jobs.prune(self._rules, limit=_BATCH):
            total += count
        return total

    async def failed(self) -> list[JobRecord]:
        """Return up to a hundred discarded jobs, the newest first."""
        return await self.query(filters.state("discarded"))

    # ------------------------------------------------------------------ queues, workers, cron, statistics

    async def queues(self, *, limit: int | None = None) -> list[QueueStatus]:
        """Return the status of every queue that has settings or unfinished jobs.

        With `limit`, counting stops at so many due jobs of each priority, and at so many scheduled jobs. This keeps
        the call fast. If a queue has more, ``more`` is true. ``names`` has the names of the due jobs.
        """
        return list(await self._storage.queues.all(limit=limit))

    async def pause(self, queue: str) -> None:
        """Pause a queue: workers claim no jobs from it until it is resumed. Running jobs continue."""
        await self._storage.queues.set(checked_queue_name(queue), paused=True)

    async def resume(self, queue: str) -> None:
        """Resume a queue: workers claim jobs from it again."""
        await self._storage.queues.set(checked_queue_name(queue), paused=False)

    async def scale(self, queue: str, concurrency: int | None) -> None:
        """Set how many jobs of a queue each worker runs at once; None restores the setting of the worker's app.

        Raises:
            InvalidSetting: the number is below 1.

        """
        if concurrency is not None and (isinstance(concurrency, bool) or concurrency < 1):
            raise InvalidSetting(
                f"queue {queue!r} cannot be scaled to {concurrency!r}: use a number above zero, or pause it"
            )
        await self._storage.queues.set(
            checked_queue_name(queue), concurrency="default" if concurrency is None else concurrency
        )

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
        if not is_storable(name) or not await self._storage.crons.delete(name):
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
        """Return the counts of jobs by hour, queue and name, from `since` (an aware datetime) on."""
        return list(await self._storage.jobs.stats(since=since))

    async def totals(self, *, since: datetime | None = None) -> list[JobTotals]:
        """Return the counts of this hour, this day, this month (in UTC) and all time, by queue and name.

        They include jobs that were deleted or pruned. With `since`, an aware datetime, "all time" starts then.
        """
        now = await self._storage.schema.now()
        return add_up(await self._storage.jobs.stats(since=since or ALL_TIME), now=now)


@asynccontextmanager
async def open_client(
    storage: Storage, registry: Registry, *, rules: Sequence[PruneRule], emit: EventBus
) -> AsyncGenerator[Client]:
    """Open a client for a block; its nursery runs the task that polls the jobs for which callers wait.

    An exception that the block raises propagates unchanged and not in a group.

    Args:
        storage: an open storage.
        registry: the jobs that may be enqueued; empty: any.
        rules: retention rules that `Client.prune` applies.
        emit: event bus that receives `JobEnqueued`.

    """
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield Client(storage, registry, rules, emit, Waiting(storage, nursery))
            except BaseException as error:
                raised = error
                raise
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if raised is not None and group.exceptions == (raised,):
            raise raised from raised.__cause__
        raise


def _filter(job: int | Where) -> Where:
    return filters.id(job) if isinstance(job, int) else job


def _not_found(job_id: int) -> JobNotFound:
    return JobNotFound(f"there is no job {job_id}")


def _refused(job: JobRecord, reason: str) -> JobStateError:
    return JobStateError(f"job {job.id} ({job.name}) is {job.state}: {reason}")


def _no_cron(name: str) -> CronNotFound:
    return CronNotFound(f"there is no cron entry {name!r}")
