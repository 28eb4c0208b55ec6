"""Client for programs without Trio (threads, scripts, Django, Flask), and functions to enqueue from asyncio.

They execute the same statements as the Trio client, over plain ``sqlite3`` and psycopg.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack, cast, overload

import attrs
from tenacity import Retrying, retry_if_exception_type, wait_exponential

from jobrt._core.database_url import Address, parse_url
from jobrt._core.job import NewJob, result_of
from jobrt._core.states import FINAL
from jobrt._records import JobRecord
from jobrt._registry import (
    Enqueueable,
    EnqueueKeywords,
    FunctionJob,
    Job,
    JsonT,
    Registry,
    ResultT,
    Verdict,
    new_job,
)
from jobrt._storage.open import BlockingJobs, open_blocking
from jobrt.errors import JobNotFound, StorageError, StorageUnavailable

if TYPE_CHECKING:
    import psycopg


__all__ = ["Client", "Enqueued", "Handle", "enqueue_async", "enqueue_many_async"]

ResultT_co = TypeVar("ResultT_co", covariant=True)

_PAUSES = wait_exponential(multiplier=0.01, max=1.0)
"""Seconds between two queries of a job. They double, because a job that has run for long will probably run on."""


@attrs.frozen
class Enqueued:
    """Job in the database. ``duplicate`` is true if ``id`` is that of an equal job that already existed (`Unique`)."""

    id: int
    duplicate: bool = False


@attrs.frozen
class Handle(Enqueued, Generic[ResultT_co]):
    """Job that can be waited for while its `Client` is open; the type parameter is the type of its result."""

    _client: Client = attrs.field(alias="client", repr=False, eq=False, kw_only=True)

    def wait(self, timeout: float | None = None) -> JobRecord:
        """Wait until the job is final, at most `timeout` seconds, and return its record.

        The job is queried at growing intervals, at least once a second, even while the database is unavailable.

        Raises:
            TimeoutError: the job is not final yet; it continues.
            JobNotFound: the job was deleted, or the transaction that enqueued it is not committed.
            StorageUnavailable: the database was unavailable when the time was over.
            ValueError: `timeout` is not a number.

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
    """Client without Trio, for one thread at a time.

    ``with jobrt.blocking.Client(url) as jobs: jobs.enqueue(SendEmail(to="a@example.com")).result()``

    Args:
        url: the database, as for `App`; default ``JOBRT_URL``, then ``sqlite:///jobrt.db``.
        jobs: the job classes that may be enqueued; by default all.
        schema: the PostgreSQL schema of the tables.
        listen: whether workers are woken by NOTIFY; turn it off behind a transaction pooler.

    Raises:
        StorageError: the URL is invalid, or of an in-memory database, in which no worker would find the jobs.

    """

    def __init__(
        self,
        url: str | None = None,
        *,
        jobs: Iterable[type[Job] | FunctionJob[Any, Any]] = (),
        schema: str = "jobrt",
        listen: bool = True,
    ) -> None:
        self._url = url or os.environ.get("JOBRT_URL") or "sqlite:///jobrt.db"
        if parse_url(self._url) == Address("sqlite", ":memory:"):
            raise StorageError(
                "sqlite:///:memory: belongs to a single client, so no worker would find its jobs: name a file"
            )
        self._schema = schema
        self._listen = listen
        self._registry = Registry()
        for job in jobs:
            self._registry.add(job)
        self._stack = ExitStack()
        self._storage: BlockingJobs | None = None

    def __enter__(self) -> Self:
        opening = open_blocking(self._url, schema=self._schema, listen=self._listen)
        self._storage = self._stack.enter_context(opening)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._storage = None
        self._stack.close()

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
            conn: the caller's ``sqlite3`` or psycopg connection; the insert becomes part of its transaction.
            options: the same as those of the Trio client's `enqueue`.

        Raises:
            InvalidJob: a field has an invalid value; the message names the field. Nothing was stored.
            StorageError: the database refused the insert.

        """
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
        return self._insert([new_job(self._registry, job) for job in jobs], conn)

    def get(self, job_id: int) -> JobRecord:
        """Return a job; raise `JobNotFound`."""
        record = self._opened().get(job_id)
        if record is None:
            raise JobNotFound(
                f"there is no job {job_id}: it was deleted, pruned, or its transaction is not committed"
            )
        return record

    def handle(self, job_id: int) -> Handle[Any]:
        """Return a handle for a job id, whether or not the job exists."""
        return Handle(job_id, client=self)

    def wait(self, job_id: int, timeout: float | None = None) -> JobRecord:
        """Wait until a job is final; see `Handle.wait`."""
        if timeout is not None and math.isnan(timeout):
            raise ValueError("timeout is not a number: use seconds")
        deadline = math.inf if timeout is None else time.monotonic() + timeout
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
        if self._storage is None:
            raise StorageError("the client is not open: use it as `with jobrt.blocking.Client(url) as jobs:`")
        return self._storage


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
    new = [new_job(Registry(), job) for job in jobs]
    return await _insert_async(conn, new, schema=schema) if new else []


async def _insert_async(
    conn: psycopg.AsyncConnection[Any], new: Sequence[NewJob], *, schema: str
) -> list[Enqueued]:
    from jobrt._storage.postgres.blocking import insert_async  # noqa: PLC0415 - only where PostgreSQL is used

    return [Enqueued(row.id, row.duplicate) for row in await insert_async(conn, new, schema=schema)]
