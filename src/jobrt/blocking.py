"""Enqueue from programs without Trio, and wait for results: threads, scripts, Django, Flask; and enqueue from asyncio.

The statements are those of the Trio client, driven over plain ``sqlite3`` and psycopg.
"""

from __future__ import annotations

import math
import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self, Unpack

import attrs
from tenacity import Retrying, retry_if_exception_type, wait_exponential

from jobrt._core.job import result_of
from jobrt._core.states import FINAL
from jobrt._registry import Registry, new_job
from jobrt._storage.open import Address, open_blocking, parse_url
from jobrt.errors import JobNotFound, StorageError, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    import psycopg

    from jobrt._core.job import JobRecord, NewJob
    from jobrt._registry import EnqueueKeywords, FunctionJob, Job, JobWithOptions
    from jobrt._storage.open import BlockingJobs

__all__ = ["Client", "Enqueued", "Handle", "enqueue_async", "enqueue_many_async"]

_PAUSES = wait_exponential(multiplier=0.01, max=1.0)
"""Between two looks at a job that is waited for: doubling, as a job that took long takes longer."""


@attrs.frozen
class Enqueued:
    """A job in the database; ``duplicate`` says that an equal one was there already, and ``id`` is that job's."""

    id: int
    duplicate: bool = False


@attrs.frozen
class Handle(Enqueued):
    """A job that was enqueued by a `Client`, which is to be open to wait for it."""

    _client: Client = attrs.field(alias="client", repr=False, eq=False, kw_only=True)

    def wait(self, timeout: float | None = None) -> JobRecord:
        """Wait until the job is final, at most `timeout` seconds, and return its record.

        It is looked at again and again, in the end each second. A database that is away meanwhile is waited for.

        Raises:
            TimeoutError: it is not final yet. Nothing happens to the job.
            JobNotFound: it was deleted, or the transaction that it was enqueued in is not committed.
            StorageUnavailable: the time was over with the database away.
            ValueError: `timeout` is not a number.

        """
        return self._client.wait(self.id, timeout)

    def result(self, timeout: float | None = None) -> Any:
        """Wait as `wait` does and return what the job returned.

        Raises:
            JobFailed: its attempts are used up.
            JobCancelled: it was cancelled.
            JobDiscarded: it gave itself up, or its RETRY predicate did.
            Exception: what `wait` raises.

        """
        return result_of(self.wait(timeout))


class Client:
    """Enqueue jobs: ``with jobrt.blocking.Client(url) as jobs: jobs.enqueue(SendEmail(to="a@example.com")).result()``.

    For one thread at a time.

    Args:
        url: as for `App`; default ``JOBRT_URL``, then ``sqlite:///jobrt.db``.
        jobs: the job classes that may be enqueued; none: any.
        schema: PostgreSQL's schema for the tables.
        listen: as for `App`: whether workers are woken; off behind a transaction pooler.

    Raises:
        StorageError: the URL names no database, or one in memory, where no worker would find a job.

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
            msg = (
                "sqlite:///:memory: is for this client alone, and no worker would find its jobs: name a file"
            )
            raise StorageError(msg)
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

    def enqueue(
        self, job: Job | JobWithOptions[Any], *, conn: object = None, **options: Unpack[EnqueueKeywords]
    ) -> Handle:
        """Put a job into the database; takes the options of the Trio client's `enqueue`.

        With `conn`, a ``sqlite3`` or psycopg connection of yours, it happens in that one's open transaction.

        Raises:
            InvalidJob: a value does not fit; names the field. Nothing was stored.
            StorageError: the database said no.

        """
        return self._insert([new_job(self._registry, job, **options)], conn)[0]

    def enqueue_many(self, jobs: Iterable[Job | JobWithOptions[Any]], *, conn: object = None) -> list[Handle]:
        """Put many jobs in, in one transaction, and return handles in input order."""
        return self._insert([new_job(self._registry, job) for job in jobs], conn)

    def get(self, job_id: int) -> JobRecord:
        """Return a job; raise `JobNotFound`."""
        record = self._opened().get(job_id)
        if record is None:
            msg = f"there is no job {job_id}: it was deleted, pruned, or its transaction is not committed"
            raise JobNotFound(msg)
        return record

    def handle(self, job_id: int) -> Handle:
        """Return a handle for a job of that id, whether or not it exists."""
        return Handle(job_id, client=self)

    def wait(self, job_id: int, timeout: float | None = None) -> JobRecord:
        """Do as `Handle.wait`."""
        if timeout is not None and math.isnan(timeout):
            msg = "timeout is to be seconds, not NaN"
            raise ValueError(msg)
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        looks = Retrying(
            retry=retry_if_exception_type((TimeoutError, StorageUnavailable)),
            wait=lambda state: min(_PAUSES(state), max(0.0, deadline - time.monotonic())),
            stop=lambda _: time.monotonic() >= deadline,
            reraise=True,
        )
        return looks(self._final, job_id)

    def _final(self, job_id: int) -> JobRecord:
        record = self.get(job_id)
        if record.state not in FINAL:
            msg = f"job {job_id} ({record.name}) is {record.state} still; nothing happens to it"
            raise TimeoutError(msg)
        return record

    def _insert(self, new: Sequence[NewJob], conn: object) -> list[Handle]:
        storage = self._opened()
        if not new:
            return []
        return [Handle(one.id, one.duplicate, client=self) for one in storage.insert(new, conn=conn)]

    def _opened(self) -> BlockingJobs:
        if self._storage is None:
            msg = "the client is not open: use it as `with jobrt.blocking.Client(url) as jobs:`"
            raise StorageError(msg)
        return self._storage


async def enqueue_async(
    conn: psycopg.AsyncConnection[Any],
    job: Job | JobWithOptions[Any],
    *,
    schema: str = "jobrt",
    **options: Unpack[EnqueueKeywords],
) -> Enqueued:
    """Put a job in from an asyncio program, over a psycopg connection of its own.

    In a transaction that is open on `conn`, it is part of that; else it is one of its own.

    Raises:
        InvalidJob: a value does not fit; names the field. Nothing was stored.
        StorageError: the database said no.

    """
    (one,) = await _insert_async(conn, [new_job(Registry(), job, **options)], schema=schema)
    return one


async def enqueue_many_async(
    conn: psycopg.AsyncConnection[Any], jobs: Iterable[Job | JobWithOptions[Any]], *, schema: str = "jobrt"
) -> list[Enqueued]:
    """Put many jobs in, in one transaction, as `enqueue_async` does one; return what became of them in input order."""
    new = [new_job(Registry(), job) for job in jobs]
    return await _insert_async(conn, new, schema=schema) if new else []


async def _insert_async(
    conn: psycopg.AsyncConnection[Any], new: Sequence[NewJob], *, schema: str
) -> list[Enqueued]:
    from jobrt._storage.postgres.blocking import insert_async  # noqa: PLC0415 - only where PostgreSQL is used

    return [Enqueued(one.id, one.duplicate) for one in await insert_async(conn, new, schema=schema)]
