"""Client of an app: it enqueues, queries and manages jobs."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import partial
from typing import Any, Never, Unpack, cast, overload

import attrs

from jobrt._client.enqueuer import Enqueuer
from jobrt._client.following import Following
from jobrt._client.handle import Handle
from jobrt._client.hooks import EnqueueHook
from jobrt._client.operating import Operating
from jobrt._client.waiting import Waiting, closed
from jobrt._core import where as filters
from jobrt._core.arguments import checked_id, checked_limit, checked_text
from jobrt._core.keep import PruneRule
from jobrt._core.manage import (
    check_cancelled,
    chosen,
    listing,
    not_deleted,
    not_found,
    not_rerun,
    not_updated,
    target,
)
from jobrt._core.stream import checked_cursor
from jobrt._core.updates import Update
from jobrt._core.walks import BATCH, walk_of
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
    message_text,
)
from jobrt._storage.contract import Storage
from jobrt.events import EventBus

_BATCH = 1000
"""Jobs per statement of a bulk operation, so that it does not hold many locks for long."""


class _Closed:
    """Storage of a client that is closed."""

    def __getattr__(self, _role: str) -> Never:
        raise closed()


@attrs.define(eq=False)
class Client(Operating):
    """Client of an app, opened by ``App.open_client``.

    Every ``async`` method is a checkpoint. It raises `StorageUnavailable` if a retry may succeed, and any other
    `StorageError` if not.
    """

    _registry: Registry
    _rules: Sequence[PruneRule]
    _emit: EventBus
    _waiting: Waiting
    _queues: frozenset[str] | None = None
    """Queues that the app was given; a job for another one is checked. None: it has all that its jobs name."""
    _hooks: Sequence[EnqueueHook] = ()
    """The list of the app, to which hooks may be added later."""
    _following: Following | None = None
    _enqueuer: Enqueuer = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._enqueuer = Enqueuer(
            partial(Handle, client=self), self._storage, self._registry, self._emit, self._queues, self._hooks
        )

    def close(self) -> None:
        """Let every later operation, and every task that waits for a job, raise `StorageError`."""
        self._storage = self._enqueuer.storage = cast("Storage", _Closed())
        self._waiting.close()
        if self._following is not None:
            self._following.close()

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
        return await self._enqueuer.one(job, conn, **options)

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
        return await self._enqueuer.many(jobs, conn)

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

        The answer is complete. In a large table, a filter that few jobs match and that no index knows, such as a tag,
        may take seconds: combine it with states, a name or a time. It is read in several statements, so jobs that
        change meanwhile may be in it as they were before or after.

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

    def follow(self, job_id: int, *, after: int = 0) -> AsyncIterator[Update]:
        """Return an iterator over what happens to a job; see `Handle.follow`."""
        if self._following is None:
            raise closed()
        return self._following.follow(checked_id("follow: job_id", job_id), checked_cursor(after))

    async def tree(self, job_id: int, *, limit: int | None = 10_000) -> list[JobRecord]:
        """Return a job and its descendants, parents before their children; at most `limit` records, None for all.

        Raises:
            JobNotFound: there is no job with this id.

        """
        most = checked_limit("tree: limit", limit)
        found = [await self.get(job_id)]
        parents = [job_id]
        while parents and (most is None or len(found) < most):
            wanted = filters.parent_in(parents[:_BATCH])
            left = None if most is None else most - len(found)
            page = await self.query(wanted, order_by="id", limit=left)
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
        text = message_text(self._registry, name, value, key=key)
        return await self._storage.scopes.send(checked_id("send: job_id", job_id), name, text, key=key)

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
            JobStateError: the job with this id is not final, or its parent or its nursery is over.

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

        Running jobs are deleted too: they continue, and their outcome is refused. A job takes its family with it. Jobs
        with living descendants are left alone.

        Raises:
            JobNotFound: there is no job with this id.
            JobStateError: the job with this id has living descendants.

        """
        where = target("delete", job)
        total = await (
            self._delete_all(where) if walk_of(where, newest=False).covers else self._delete_found(where)
        )
        if isinstance(job, int) and not total:
            raise not_deleted(await self.get(job))
        return total

    async def _delete_all(self, where: Where) -> int:
        """Delete jobs that an index has all together."""
        total = 0
        while count := await self._storage.jobs.delete(where, limit=_BATCH):
            total += count
            if count < _BATCH:
                break
        return total

    async def _delete_found(self, where: Where) -> int:
        """Delete the jobs that match, on a walk along those that may. Each batch goes on behind the last one."""
        walk, total, after = walk_of(where, newest=False), 0, None
        while True:
            found = await self._storage.jobs.look(where, walk, scan=BATCH, limit=_BATCH, after=after)
            if found.ids:
                total += await self._storage.jobs.delete(filters.id_in(found.ids) & where, limit=_BATCH)
            after = found.after
            if after is None:
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


def enqueuer_of(client: Client) -> Enqueuer:
    """Return what stores jobs for a client."""
    return client._enqueuer  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - for the runtime, not for users
