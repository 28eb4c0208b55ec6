"""Client for programs without Trio (threads, scripts, Django, Flask), and functions to enqueue from asyncio.

They execute the same statements as the Trio client, over plain ``sqlite3`` and psycopg.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack, cast, overload

import attrs
from tenacity import Retrying, retry_if_exception_type, wait_exponential

from jobrt._client.hooks import BlockingHook
from jobrt._core.arguments import checked_flag, checked_id, checked_limit, checked_text, checked_wait
from jobrt._core.job import NewJob, result_of
from jobrt._core.limits import PAYLOAD_LIMIT, checked_payload_limit
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
from jobrt._core.states import FINAL
from jobrt._core.where import Where
from jobrt._records import JobRecord
from jobrt._registry import (
    Enqueueable,
    EnqueueKeywords,
    FunctionJob,
    Job,
    JobWithOptions,
    JsonT,
    Registry,
    ResultT,
    UpdateKeywords,
    Verdict,
    changed_job,
    listed,
    message_text,
    new_job,
    new_jobs,
    registry_of,
    with_options,
)
from jobrt._storage.open import BlockingJobs, open_blocking, shared_url
from jobrt.errors import StorageError, StorageUnavailable

if TYPE_CHECKING:
    import psycopg


__all__ = ["Client", "Enqueued", "Handle", "enqueue_async", "enqueue_many_async"]

ResultT_co = TypeVar("ResultT_co", covariant=True)

_BATCH = 1000
"""Jobs per statement of `delete`, so that it does not hold many locks for long."""

_PAUSES = wait_exponential(multiplier=0.01, max=1.0)
"""Seconds between two queries of a job. They double, because a job that has run for long will probably run on."""


@attrs.frozen
class Enqueued:
    """Job in the database. ``duplicate`` is true if ``id`` is that of an equal job that already existed (`Unique`)."""

    id: int
    duplicate: bool = False


@attrs.frozen
class Handle(Enqueued, Generic[ResultT_co]):
    """Job that can be waited for until its `Client` is closed; the type parameter is the type of its result."""

    _client: Client = attrs.field(alias="client", repr=False, eq=False, kw_only=True)

    def wait(self, timeout: float | None = None) -> JobRecord:
        """Wait until the job is final, at most `timeout` seconds, and return its record.

        The job is queried at growing intervals, at least once a second, even while the database is unavailable.

        Raises:
            TimeoutError: the job is not final yet; it continues.
            JobNotFound: the job was deleted, or the transaction that enqueued it is not committed.
            StorageUnavailable: the database was unavailable when the time was over.
            InvalidSetting: `timeout` is not a number.

        """
        return self._client.wait(self.id, timeout)

    def result(self, timeout: float | None = None) -> ResultT_co:
        """Wait as `wait` does, and return the return value of the job's `run`.

        The value was stored as JSON: a tuple becomes a list, and an enum member becomes its value.

        Raises:
            JobFailed: all attempts were used.
            JobCancelled: the job was cancelled.
            JobDiscarded: the job returned `Discard`, or its RETRY predicate refused a retry.
            Exception: see `wait`.

        """
        return cast("ResultT_co", result_of(self.wait(timeout)))


class Client:
    """Client without Trio, for all threads of a process.

    ``with jobrt.blocking.Client(url) as jobs: jobs.enqueue(SendEmail(to="a@example.com")).result()``

    A web application creates one in a module and uses it in every request, without ``with``. The first call opens the
    database, and the end of the process closes it. Each call borrows a connection of its own, at most ten at a time.
    After a fork, the child opens connections of its own and leaves the parent's alone.

    Args:
        url: the database, as for `App`; default ``JOBRT_URL``, then ``sqlite:///jobrt.db``.
        jobs: the job classes that may be enqueued; by default all.
        schema: the PostgreSQL schema of the tables.
        listen: whether workers are woken by NOTIFY; turn it off behind a transaction pooler.
        payload_limit: the same as for `App`.

    Raises:
        InvalidSetting: an argument is invalid.
        StorageError: the URL is invalid, or of an in-memory database, in which no worker would find the jobs.

    """

    def __init__(
        self,
        url: str | None = None,
        *,
        jobs: Iterable[type[Job] | FunctionJob[Any, Any]] = (),
        schema: str = "jobrt",
        listen: bool = True,
        payload_limit: int = PAYLOAD_LIMIT,
    ) -> None:
        self._url = shared_url(url)
        self._schema = checked_text("Client: schema", schema)
        self._listen = checked_flag("Client: listen", listen)
        limit = checked_payload_limit(payload_limit)
        self._registry = registry_of("Client: jobs", jobs, payload_limit=limit)
        self._lock = threading.RLock()
        self._storage: BlockingJobs | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None
        self._blocks = 0
        self._closed = False
        self._hook: BlockingHook | None = None

    def __enter__(self) -> Self:
        with self._lock:
            self._closed = False
            self._opened().open()
            self._blocks += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._blocks -= 1
            if not self._blocks:
                self.close()

    def close(self) -> None:
        """Close all connections; those in use, when their calls have ended. Later calls raise `StorageError`.

        The end of the outermost ``with`` block does it too. A new ``with`` block opens the client again.
        """
        with self._lock:
            self._storage, self._closed = None, True
            close = self._finalizer
        if close is not None:
            close()

    @overload
    def enqueue(
        self, job: Enqueueable[JsonT], *, conn: object = None, **options: Unpack[EnqueueKeywords]
    ) -> Handle[JsonT]: ...
    @overload
    def enqueue(
        self, job: Enqueueable[ResultT | Verdict], *, conn: object = None, **options: Unpack[EnqueueKeywords]
    ) -> Handle[ResultT]: ...
    def enqueue(
        self, job: Enqueueable[Any], *, conn: object = None, **options: Unpack[EnqueueKeywords]
    ) -> Handle[Any]:
        """Insert a job into the database and return its handle.

        Args:
            job: a job value, or a job value with options.
            conn: the caller's connection of ``sqlite3``, psycopg, SQLAlchemy (or its session) or Django; the insert
                becomes part of its transaction.
            options: the same as those of the Trio client's `enqueue`.

        Raises:
            InvalidJob: a field has an invalid value; the message names the field. Nothing was stored.
            StorageError: the database refused the insert.

        """
        if self._hook is not None:
            return enqueue_within(self._hook, self, [with_options(job, **options)], conn=conn)[0]
        return self._insert([new_job(self._registry, job, **options)], conn)[0]

    @overload
    def enqueue_many(
        self, jobs: Iterable[Enqueueable[JsonT]], *, conn: object = None
    ) -> list[Handle[JsonT]]: ...
    @overload
    def enqueue_many(
        self, jobs: Iterable[Enqueueable[ResultT | Verdict]], *, conn: object = None
    ) -> list[Handle[ResultT]]: ...
    def enqueue_many(self, jobs: Iterable[Enqueueable[Any]], *, conn: object = None) -> list[Handle[Any]]:
        """Insert any number of jobs in one transaction and return their handles in input order."""
        if self._hook is not None:
            return enqueue_within(self._hook, self, [with_options(job) for job in listed(jobs)], conn=conn)
        return self._insert(new_jobs(self._registry, jobs), conn)

    # ------------------------------------------------------------------ query

    def get(self, job_id: int) -> JobRecord:
        """Return a job; raise `JobNotFound`."""
        record = self._opened().get(checked_id("get: job_id", job_id))
        if record is None:
            raise not_found(job_id, ": it was deleted, pruned, or its transaction is not committed")
        return record

    def query(
        self,
        where: Where | None = None,
        *,
        order_by: str = "-id",
        limit: int | None = 100,
        after: int | None = None,
        details: bool = True,
    ) -> list[JobRecord]:
        """Return the records of the jobs that match, by default the newest first; see the Trio client's `query`."""
        look = listing(where, order_by=order_by, limit=limit, after=after, details=details)
        found = self._opened().query(
            look.where, order_by=look.order_by, limit=look.limit, after=look.after, details=look.details
        )
        return list(found)

    def count(self, where: Where | None = None, *, limit: int | None = None) -> int:
        """Return how many jobs match; counting stops at `limit`, which keeps it fast."""
        wanted, limit = chosen("count", where), checked_limit("count: limit", limit)
        return self._opened().count(wanted, limit=limit)

    # ------------------------------------------------------------------ manage

    def cancel(self, job: int | Where, reason: str = "") -> int:
        """Cancel a job by its id, or all jobs that match a filter, and return how many.

        Waiting jobs are cancelled in the database, and running jobs by their workers.

        Raises:
            JobNotFound: there is no job with this id.
            JobStateError: the job with this id is already final.

        """
        where, reason = target("cancel", job), checked_text("cancel: reason", reason)
        waiting, running = self._opened().cancel(where, reason)
        if isinstance(job, int) and not waiting + running:
            check_cancelled(self.get(job))
        return waiting + running

    def rerun(self, job: int | Where) -> int:
        """Run a final job again by its id, or all final jobs that match a filter, and return how many.

        Raises:
            JobNotFound: there is no job with this id.
            JobStateError: the job with this id is not final.

        """
        count = self._opened().rerun(target("rerun", job))
        if isinstance(job, int) and not count:
            raise not_rerun(self.get(job))
        return count

    def update(self, job: int | Where, **changes: Unpack[UpdateKeywords]) -> int:
        """Change a waiting job by its id, or all waiting jobs that match a filter, and return how many.

        Args:
            job: the job's id, or a filter.
            changes: the same as those of the Trio client's `update`.

        Raises:
            InvalidJob: a value is invalid, or there are no changes.
            JobNotFound: there is no job with this id.
            JobStateError: the job with this id is running or final.

        """
        where = target("update", job)
        name = self.get(job).name if isinstance(job, int) else None
        count = self._opened().update(where, changed_job(self._registry, name, changes))
        if isinstance(job, int) and not count:
            raise not_updated(self.get(job))
        return count

    def delete(self, job: int | Where) -> int:
        """Delete a job by its id, or all jobs that match a filter, and return how many.

        Running jobs are deleted too: they continue, and their outcome is refused. A job takes its family with it. Jobs
        with living descendants are left alone.

        Raises:
            JobNotFound: there is no job with this id.
            JobStateError: the job with this id has living descendants.

        """
        where, total = target("delete", job), 0
        while True:
            count = self._opened().delete(where, limit=_BATCH)
            total += count
            if count < _BATCH:
                break
        if isinstance(job, int) and not total:
            raise not_deleted(self.get(job))
        return total

    def send(self, job_id: int, name: str, value: Any = None, *, key: str | None = None) -> bool:
        """Send a message to a job, which gets it by ``ctx.receive(name)``; return whether it is new.

        It is kept until the job asks for it. A second message with the same key is dropped.

        Raises:
            JobNotFound: there is no job with this id.
            JobStateError: the job is final.
            InvalidJob: an argument is invalid, or the value cannot be stored.

        """
        text = message_text(self._registry, name, value, key=key)
        return self._opened().send(checked_id("send: job_id", job_id), name, text, key=key)

    # ------------------------------------------------------------------ wait

    def handle(self, job_id: int) -> Handle[Any]:
        """Return a handle for a job id, whether or not the job exists."""
        return Handle(checked_id("handle: job_id", job_id), client=self)

    def wait(self, job_id: int, timeout: float | None = None) -> JobRecord:
        """Wait until a job is final; see `Handle.wait`."""
        checked_id("wait: job_id", job_id)
        deadline = time.monotonic() + checked_wait("wait: timeout", timeout)
        retrying = Retrying(
            retry=retry_if_exception_type((TimeoutError, StorageUnavailable)),
            wait=lambda state: min(_PAUSES(state), max(0.0, deadline - time.monotonic())),
            stop=lambda _: time.monotonic() >= deadline,
            reraise=True,
        )
        return retrying(self._final, job_id)

    def _final(self, job_id: int) -> JobRecord:
        record = self.get(job_id)
        if record.state not in FINAL:
            raise TimeoutError(f"job {job_id} ({record.name}) is still {record.state}; it continues")
        return record

    def _insert(self, new: Sequence[NewJob], conn: object) -> list[Handle[Any]]:
        storage = self._opened()
        rows = storage.insert(new, conn=conn) if new else ()
        return [Handle(row.id, row.duplicate, client=self) for row in rows]

    def _opened(self) -> BlockingJobs:
        storage = self._storage
        if storage is not None:
            return storage
        with self._lock:
            if self._closed:
                raise StorageError(
                    "the client is closed: use it inside of its `with` block, or create another"
                )
            if self._storage is None:
                self._storage = open_blocking(self._url, schema=self._schema, listen=self._listen)
                # At the end of the process at the latest.
                self._finalizer = weakref.finalize(self, self._storage.close)
            return self._storage


def enqueue_within(
    hook: BlockingHook, client: Client, jobs: Sequence[JobWithOptions[Any]], *, conn: object
) -> list[Handle[Any]]:
    """Enqueue jobs with a client, within a hook."""

    def insert(given: Sequence[JobWithOptions[Any]]) -> list[Handle[Any]]:
        new = new_jobs(client._registry, given)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - part of the client
        return client._insert(new, conn)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    return list(hook(jobs, insert))


async def enqueue_async(
    conn: psycopg.AsyncConnection[Any],
    job: Enqueueable[Any],
    *,
    schema: str = "jobrt",
    **options: Unpack[EnqueueKeywords],
) -> Enqueued:
    """Insert a job from an asyncio program, over the caller's psycopg connection.

    The insert is part of the open transaction on `conn`. Without an open transaction, it is committed.

    Raises:
        InvalidJob: a field has an invalid value; the message names the field. Nothing was stored.
        StorageError: the database refused the insert.

    """
    (enqueued,) = await _insert_async(conn, [new_job(Registry(), job, **options)], schema=schema)
    return enqueued


async def enqueue_many_async(
    conn: psycopg.AsyncConnection[Any], jobs: Iterable[Enqueueable[Any]], *, schema: str = "jobrt"
) -> list[Enqueued]:
    """Insert any number of jobs in one transaction, as `enqueue_async` does; return them in input order."""
    new = new_jobs(Registry(), jobs)
    return await _insert_async(conn, new, schema=schema) if new else []


async def _insert_async(
    conn: psycopg.AsyncConnection[Any], new: Sequence[NewJob], *, schema: str
) -> list[Enqueued]:
    from jobrt._storage.postgres.blocking import insert_async  # noqa: PLC0415 - only where PostgreSQL is used

    return [Enqueued(row.id, row.duplicate) for row in await insert_async(conn, new, schema=schema)]
