"""Client of an app: it enqueues, queries and manages jobs."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Never, Unpack, cast, overload

import attrs
import trio

from jobrt._client.announce import announce
from jobrt._client.handle import Handle
from jobrt._client.hooks import EnqueueHook, Handles, around_enqueue
from jobrt._client.totals import ALL_TIME, JobTotals, add_up
from jobrt._client.unknown_queues import check_queues
from jobrt._client.waiting import Waiting, closed
from jobrt._core import where as filters
from jobrt._core.arguments import (
    checked_count,
    checked_id,
    checked_key,
    checked_limit,
    checked_moment,
    checked_name,
    checked_text,
    shown,
)
from jobrt._core.cron import CronEntry, Missed, edit
from jobrt._core.job import NewJob
from jobrt._core.keep import PruneRule
from jobrt._core.limits import check_payload
from jobrt._core.manage import check_cancelled, chosen, listing, not_found, not_rerun, not_updated, target
from jobrt._core.queues import QueueStatus
from jobrt._core.stats import Bucket
from jobrt._core.text import is_storable
from jobrt._core.where import Where
from jobrt._payload.payload import encode_value
from jobrt._records import JobRecord
from jobrt._registry import (
    Enqueueable,
    EnqueueKeywords,
    JobWithOptions,
    JsonT,
    Registry,
    ResultT,
    UpdateKeywords,
    Verdict,
    changed_job,
    child_job,
    listed,
    new_job,
    new_jobs,
    with_options,
)
from jobrt._storage.contract import CronRow, Storage, WorkerRow
from jobrt.errors import CronNotFound, InvalidJob
from jobrt.events import EventBus

_CHUNK = 10_000
"""Jobs per transaction of `enqueue_many`, which then lasts less than a second."""
_BATCH = 1000
"""Jobs per statement of a bulk operation, so that it does not hold many locks for long."""


class _Closed:
    """Storage of a client that is closed."""

    def __getattr__(self, _role: str) -> Never:
        raise closed()


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
    _queues: frozenset[str] | None = None
    """Queues that the app was given; a job for another one is checked. None: it has all that its jobs name."""
    _hooks: Sequence[EnqueueHook] = ()
    """The list of the app, to which hooks may be added later."""

    def close(self) -> None:
        """Let every later operation, and every task that waits for a job, raise `StorageError`."""
        self._storage = cast("Storage", _Closed())
        self._waiting.close()

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
            conn: a connection of the program, such as that of `transaction`, of ``sqlite3``, psycopg, SQLAlchemy
                (or its session) or Django; the insert becomes part of its transaction.
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
                * ``deadline_at``, ``deadline_in``: by when the job must have ended, whatever its attempts and waits: an
                  aware datetime, or seconds after it is first due. Then it is discarded, and its family is cancelled.
                * ``expires_at``, ``expires_in``: by when it must have started. Then it is discarded.

        Raises:
            InvalidJob: a value is invalid; the message names the field. Nothing was stored.
            UnknownJob: the app does not have this job class.

        """
        if self._hooks:
            insert = partial(self._insert_many, conn=conn)
            return (await around_enqueue(self._hooks, [with_options(job, **options)], insert))[0]
        return (await self._insert([new_job(self._registry, job, **options)], conn))[0]

    async def enqueue_from(
        self, parent: int, job: Enqueueable[Any], *, conn: object = None, **options: Unpack[EnqueueKeywords]
    ) -> Handle[Any]:
        """Insert a job for another one, which is recorded as its parent: `Context.enqueue`."""
        insert = partial(self._insert_many, conn=conn, parent=parent)
        return (await around_enqueue(self._hooks, [with_options(job, **options)], insert))[0]

    async def enqueue_children(
        self,
        jobs: Sequence[JobWithOptions[Any]],
        store: Callable[[Sequence[NewJob]], Awaitable[Handles]],
        *,
        priority: int,
        place: datetime,
    ) -> list[Handle[Any]]:
        """Store children of a nursery, inside the hooks; see `child_job` for priority and place."""

        async def insert(given: Sequence[JobWithOptions[Any]]) -> Handles:
            new = [child_job(self._registry, job, priority=priority, place=place) for job in given]
            if self._queues is not None:
                await check_queues(self._queues, new, workers=self._storage.workers)
            return await store(new)

        return await around_enqueue(self._hooks, jobs, insert)

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
        if self._hooks:
            insert = partial(self._insert_many, conn=conn)
            return await around_enqueue(self._hooks, [with_options(job) for job in listed(jobs)], insert)
        return await self._insert_many(jobs, conn)

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

    async def _insert_many(
        self, jobs: Iterable[Enqueueable[Any]], conn: object, parent: int | None = None
    ) -> list[Handle[Any]]:
        new = new_jobs(self._registry, jobs)
        if parent is not None:
            new = [job._replace(parent=parent) for job in new]
        handles: list[Handle[Any]] = []
        for start in range(0, len(new), _CHUNK):
            handles += await self._insert(new[start : start + _CHUNK], conn)
        if not new:
            await trio.lowlevel.checkpoint()
        return handles

    async def _insert(self, new: Sequence[NewJob], conn: object) -> list[Handle[Any]]:
        if self._queues is not None:
            await check_queues(self._queues, new, workers=self._storage.workers)
        inserted = await self._storage.jobs.insert(new, conn=conn)
        if self._emit.subscribers and conn is None:
            announce(self._emit, new, inserted)
        return [Handle(row.id, row.duplicate, self) for row in inserted]

    # ------------------------------------------------------------------ query

    def handle(self, job_id: int) -> Handle[Any]:
        """Return a handle for a job id, without checking whether the job exists."""
        return Handle(checked_id("handle: job_id", job_id), duplicate=False, client=self)

    async def get(self, job_id: int) -> JobRecord:
        """Return the record of a job; raise `JobNotFound` if there is no job with this id."""
        record = await self._storage.jobs.get(checked_id("get: job_id", job_id))
        if record is None:
            raise not_found(job_id)
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
        look = listing(where, order_by=order_by, limit=limit, after=after, details=details)
        found = await self._storage.jobs.query(
            look.where, order_by=look.order_by, limit=look.limit, after=look.after, details=look.details
        )
        return list(found)

    async def count(self, where: Where | None = None, *, limit: int | None = None) -> int:
        """Return how many jobs match; counting stops at `limit`, which keeps it fast."""
        wanted, limit = chosen("count", where), checked_limit("count: limit", limit)
        return await self._storage.jobs.count(wanted, limit=limit)

    async def wait(self, job_id: int) -> None:
        """Wait until a job is final; raise `JobNotFound` if there is no job with this id."""
        await self._waiting.wait(checked_id("wait: job_id", job_id))

    async def tree(self, job_id: int, *, limit: int = 10_000) -> list[JobRecord]:
        """Return a job and its descendants, parents before their children; at most `limit` records.

        Raises:
            JobNotFound: there is no job with this id.

        """
        checked_limit("tree: limit", limit)
        found = [await self.get(job_id)]
        parents = [job_id]
        while parents and len(found) < limit:
            wanted = filters.parent_in(parents[:_BATCH])
            page = await self.query(wanted, order_by="id", limit=limit - len(found))
            found += page
            parents = parents[_BATCH:] + [record.id for record in page]
        return found

    # ------------------------------------------------------------------ messages

    async def send(self, job_id: int, name: str, value: Any = None, *, key: str | None = None) -> bool:
        """Send a message to a job, which gets it by ``ctx.receive(name)``; return whether it is new.

        It is kept until the job asks for it.

        Args:
            job_id: id of the job.
            name: name of the message.
            value: plain JSON, or a value of any class that a field of a job may have.
            key: a second message with the same key is dropped.

        Raises:
            JobNotFound: there is no job with this id.
            JobStateError: the job is final.
            InvalidJob: the value cannot be stored.

        """
        checked_id("send: job_id", job_id)
        checked_name("send: name", name, error=InvalidJob)
        if key is not None:
            checked_key("send: key", key, error=InvalidJob)
        text = encode_value(value, label=f"message {name}")
        check_payload(f"message {name}", text, limit=self._registry.payload_limit)
        return await self._storage.scopes.send(job_id, name, text, key=key)

    # ------------------------------------------------------------------ manage

    async def cancel(self, job: int | Where, reason: str = "") -> int:
        """Cancel a job by its id, or all jobs that match a filter, and return how many.

        Waiting jobs are cancelled in the database, and running jobs by their workers. The reason is stored with
        the job.

        Raises:
            JobNotFound: there is no job with this id.
            JobStateError: the job with this id is already final.

        """
        where, reason = target("cancel", job), checked_text("cancel: reason", reason)
        waiting, running = await self._storage.jobs.cancel(where, reason)
        if isinstance(job, int) and not waiting + running:
            check_cancelled(await self.get(job))
        return waiting + running

    async def rerun(self, job: int | Where) -> int:
        """Run a final job again by its id, or all final jobs that match a filter, and return how many.

        A job without attempts left gets one more.

        Raises:
            JobNotFound: there is no job with this id.
            JobStateError: the job with this id is not final.

        """
        count = await self._storage.jobs.rerun(target("rerun", job))
        if isinstance(job, int) and not count:
            raise not_rerun(await self.get(job))
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
        where = target("update", job)
        name = (await self.get(job)).name if isinstance(job, int) else None
        count = await self._storage.jobs.update(where, changed_job(self._registry, name, changes))
        if isinstance(job, int) and not count:
            raise not_updated(await self.get(job))
        return count

    async def delete(self, job: int | Where) -> int:
        """Delete a job by its id, or all jobs that match a filter, and return how many.

        Running jobs are deleted too: they continue, and their outcome is refused. Raises `JobNotFound` if there is
        no job with this id.
        """
        where, total = target("delete", job), 0
        while True:
            count = await self._storage.jobs.delete(where, limit=_BATCH)
            total += count
            if count < _BATCH:
                break
        if isinstance(job, int) and not total:
            raise not_found(job)
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
