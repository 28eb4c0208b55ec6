"""Client for programs on asyncio, such as FastAPI and aiohttp, with the default event loop or uvloop.

It is the client of Trio programs over another storage: the same checks, and the same statements.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Any, Final, Self, Unpack, cast, overload

import attrs
import trio

from jobrt import _client
from jobrt._client import Handle
from jobrt._client.asyncio_following import AsyncioFollowing
from jobrt._client.asyncio_waiting import AsyncioWaiting
from jobrt._client.following import Following
from jobrt._client.hooks import EnqueueHook
from jobrt._client.waiting import Waiting, closed
from jobrt._core.arguments import checked_flag, checked_text
from jobrt._core.limits import PAYLOAD_LIMIT, checked_payload_limit
from jobrt._core.updates import Update
from jobrt._core.where import Where
from jobrt._records import JobRecord
from jobrt._registry import (
    Enqueueable,
    EnqueueKeywords,
    FunctionJob,
    Job,
    JsonT,
    Registry,
    ResultT,
    UpdateKeywords,
    Verdict,
    registry_of,
)
from jobrt._storage.contract import Storage
from jobrt._storage.open import AsyncioJobs, open_asyncio, shared_url
from jobrt.errors import WrongEventLoop
from jobrt.events import EventBus

__all__ = ["Client", "Handle"]


@attrs.frozen
class _Jobs:
    """The part of a storage that the methods of this client use."""

    jobs: AsyncioJobs

    @property
    def scopes(self) -> AsyncioJobs:
        """The role with `send`."""
        return self.jobs


@attrs.frozen
class _Open:
    """What an open client has, in one event loop."""

    loop: asyncio.AbstractEventLoop
    jobs: AsyncioJobs
    waiting: AsyncioWaiting
    following: AsyncioFollowing
    client: _client.Client

    @classmethod
    def of(cls, jobs: AsyncioJobs, registry: Registry, hooks: Sequence[EnqueueHook]) -> _Open:
        """Put a storage and the methods of the Trio client together."""
        waiting, following = AsyncioWaiting(jobs), AsyncioFollowing(jobs)
        client = _client.Client(
            cast("Storage", _Jobs(jobs)),
            registry,
            (),
            EventBus(),
            cast("Waiting", waiting),
            None,
            hooks,
            cast("Following", following),
        )
        return cls(asyncio.get_running_loop(), jobs, waiting, following, client)


class Client:
    """Client for asyncio. It is opened by ``async with``, or by its first call, and belongs to that event loop.

    ``async with jobrt.aio.Client(url) as jobs: await (await jobs.enqueue(SendEmail(to="a@example.com"))).result()``

    A cancelled call has no effect, unless the database was committing at that moment. To limit a wait, use
    `asyncio.timeout`.

    Args:
        url: the database, as for `App`; default ``JOBRT_URL``, then ``sqlite:///jobrt.db``.
        jobs: the job classes that may be enqueued; by default all.
        schema: the PostgreSQL schema of the tables.
        listen: whether to use LISTEN and NOTIFY; turn it off behind a transaction pooler.
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
        self._open: _Open | None = None
        self._closed = False
        self._hooks: list[EnqueueHook] = []

    async def __aenter__(self) -> Self:
        self._closed = False
        self._opened()
        if self._open is not None:
            await self._open.jobs.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. Later calls, and tasks that wait for jobs, raise `StorageError`.

        The end of the ``async with`` block does it too. A new block opens the client again.
        """
        self._closed = True
        opened, self._open = self._open, None
        if opened is None:
            return
        opened.client.close()
        await opened.waiting.ended()
        await opened.following.ended()
        await opened.jobs.close()

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
            conn: a connection of the program; the insert becomes part of its transaction. On both engines SQLAlchemy's
                ``AsyncConnection`` or ``AsyncSession``; also psycopg's ``AsyncConnection``, or that of ``aiosqlite``
                or ``sqlite3``.
            options: the same as those of the Trio client's `enqueue`.

        Raises:
            InvalidJob: a value is invalid; the message names the field. Nothing was stored.
            UnknownJob: `jobs` does not have this job class.
            StorageError: the database refused the insert.

        """
        return await self._opened().enqueue(job, conn=conn, **options)

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
        client = self._opened()
        if isinstance(jobs, Iterable) and not isinstance(jobs, str | bytes):
            jobs = list(jobs)
        return [] if jobs == [] else await client.enqueue_many(jobs, conn=conn)

    # ------------------------------------------------------------------ query

    def handle(self, job_id: int) -> Handle[Any]:
        """Return a handle for a job id, without checking whether the job exists."""
        return self._opened().handle(job_id)

    async def get(self, job_id: int) -> JobRecord:
        """Return the record of a job; raise `JobNotFound` if there is no job with this id."""
        return await self._opened().get(job_id)

    async def query(
        self,
        where: Where | None = None,
        *,
        order_by: str = "-id",
        limit: int | None = 100,
        after: int | None = None,
        details: bool = True,
    ) -> list[JobRecord]:
        """Return the records of the jobs that match, by default the newest first; see the Trio client's `query`."""
        client = self._opened()
        return await client.query(where, order_by=order_by, limit=limit, after=after, details=details)

    async def count(self, where: Where | None = None, *, limit: int | None = None) -> int:
        """Return how many jobs match; counting stops at `limit`, which keeps it fast."""
        return await self._opened().count(where, limit=limit)

    async def wait(self, job_id: int) -> None:
        """Wait until a job is final; raise `JobNotFound` if there is no job with this id.

        On PostgreSQL the end of the job wakes the task. A SQLite file is looked at, ten times a second at least.
        """
        await self._opened().wait(job_id)

    def follow(self, job_id: int, *, after: int = 0) -> AsyncIterator[Update]:
        """Return an iterator over what happens to a job; see `Handle.follow`, which works here, too.

        On PostgreSQL and on SQLite, other processes wake it.
        """
        return self._opened().follow(job_id, after=after)

    # ------------------------------------------------------------------ manage

    async def cancel(self, job: int | Where, reason: str = "") -> int:
        """Cancel a job by its id, or all jobs that match a filter, and return how many.

        Waiting jobs are cancelled in the database, and running jobs by their workers.

        Raises:
            JobNotFound: there is no job with this id.
            JobStateError: the job with this id is already final.

        """
        return await self._opened().cancel(job, reason)

    async def rerun(self, job: int | Where) -> int:
        """Run a final job again by its id, or all final jobs that match a filter, and return how many.

        Raises:
            JobNotFound: there is no job with this id.
            JobStateError: the job with this id is not final, or its parent or its nursery is over.

        """
        return await self._opened().rerun(job)

    async def update(self, job: int | Where, **changes: Unpack[UpdateKeywords]) -> int:
        """Change a waiting job by its id, or all waiting jobs that match a filter, and return how many.

        Args:
            job: the job's id, or a filter.
            changes: the same as those of the Trio client's `update`.

        Raises:
            InvalidJob: a value is invalid, or there are no changes.
            JobNotFound: there is no job with this id.
            JobStateError: the job with this id is running or final.

        """
        return await self._opened().update(job, **changes)

    async def delete(self, job: int | Where) -> int:
        """Delete a job by its id, or all jobs that match a filter, and return how many.

        Running jobs are deleted too: they continue, and their outcome is refused. A job takes its family with it. Jobs
        with living descendants are left alone.

        Raises:
            JobNotFound: there is no job with this id.
            JobStateError: the job with this id has living descendants.

        """
        return await self._opened().delete(job)

    async def send(self, job_id: int, name: str, value: Any = None, *, key: str | None = None) -> bool:
        """Send a message to a job, which gets it by ``ctx.receive(name)``; return whether it is new.

        It is kept until the job asks for it. A second message with the same key is dropped.

        Raises:
            JobNotFound: there is no job with this id.
            JobStateError: the job is final.
            InvalidJob: an argument is invalid, or the value cannot be stored.

        """
        return await self._opened().send(job_id, name, value, key=key)

    # ------------------------------------------------------------------ open

    def _opened(self) -> _client.Client:
        loop = _running_loop()
        if self._open is None:
            if self._closed:
                raise closed()
            jobs = open_asyncio(self._url, schema=self._schema, listen=self._listen)
            self._open = _Open.of(jobs, self._registry, self._hooks)
        elif self._open.loop is not loop:
            raise WrongEventLoop(
                "this jobrt.aio.Client was opened in another event loop: create one in each loop"
            )
        return self._open.client


_IN_TRIO: Final = (
    "use `async with app.open_client()` of a jobrt.App in Trio, or jobrt.blocking.Client in a thread"
)
_IN_A_JOB: Final = (
    "use trio_asyncio.trio_as_aio(ctx.enqueue) in a job, and asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)"
    " elsewhere in a process that has such jobs"
)


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        how = _IN_TRIO if trio.lowlevel.in_trio_run() else "use it in a coroutine that asyncio runs"
        raise WrongEventLoop(f"jobrt.aio.Client needs asyncio, which does not run here: {how}") from None
    if any(kind.__module__.startswith("trio_asyncio") for kind in type(loop).__mro__):
        # psycopg does not find this loop, if it was imported first.
        raise WrongEventLoop(f"jobrt.aio.Client needs asyncio itself, and this is trio-asyncio: {_IN_A_JOB}")
    return loop
