"""Enqueue from programs without Trio: threads, scripts, Django, Flask; and from asyncio.

The statements are those of the Trio client, driven over plain ``sqlite3`` and psycopg.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, Protocol, Self, Unpack

import attrs

from jobrt._registry import Registry, new_job
from jobrt._storage.urls import parse_url
from jobrt.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    import psycopg

    from jobrt._core.job import NewJob
    from jobrt._registry import EnqueueKeywords, FunctionJob, Job, JobWithOptions
    from jobrt._storage.base import Inserted

__all__ = ["Client", "Enqueued", "enqueue_async"]


@attrs.frozen
class Enqueued:
    """A job in the database; ``duplicate`` says that an equal one was there already, and ``id`` is that job's."""

    id: int
    duplicate: bool = False


class _Inserter(Protocol):
    """What both engines offer here."""

    def insert(self, jobs: Sequence[NewJob], *, conn: object = None) -> tuple[Inserted, ...]: ...


class Client:
    """Enqueue jobs: ``with jobrt.blocking.Client(url) as jobs: jobs.enqueue(SendEmail(to="a@example.com"))``.

    For one thread at a time.

    Args:
        url: as for `App`; default ``JOBRT_URL``, then ``sqlite:///jobrt.db``.
        jobs: the job classes that may be enqueued; none: any.
        schema: PostgreSQL's schema for the tables.
        listen: as for `App`: whether workers are woken; off behind a transaction pooler.

    """

    def __init__(
        self,
        url: str | None = None,
        *,
        jobs: Iterable[type[Job] | FunctionJob[Any, Any]] = (),
        schema: str = "jobrt",
        listen: bool = True,
    ) -> None:
        self._address = parse_url(url or os.environ.get("JOBRT_URL") or "sqlite:///jobrt.db")
        self._schema = schema
        self._listen = listen
        self._registry = Registry()
        for job in jobs:
            self._registry.add(job)
        self._stack = ExitStack()
        self._inserter: _Inserter | None = None

    def __enter__(self) -> Self:
        if self._address.engine == "sqlite":
            from jobrt._storage.sqlite import open_blocking  # noqa: PLC0415 - only the engine in use is loaded

            self._inserter = self._stack.enter_context(open_blocking(self._address.target))
        else:
            from jobrt._storage.postgres.blocking import BlockingPostgres  # noqa: PLC0415 - as above

            self._inserter = self._stack.enter_context(
                closing(BlockingPostgres(self._address.target, self._schema, listen=self._listen))
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inserter = None
        self._stack.close()

    def enqueue(
        self, job: Job | JobWithOptions[Any], *, conn: object = None, **options: Unpack[EnqueueKeywords]
    ) -> Enqueued:
        """Put a job into the database; takes the options of the Trio client's `enqueue`.

        With `conn`, a ``sqlite3`` or psycopg connection of yours, it happens in that one's open transaction.

        Raises:
            InvalidJob: a value does not fit; names the field. Nothing was stored.
            StorageError: the database said no.

        """
        return self._insert([new_job(self._registry, job, **options)], conn)[0]

    def enqueue_many(
        self, jobs: Iterable[Job | JobWithOptions[Any]], *, conn: object = None
    ) -> list[Enqueued]:
        """Put many jobs in, in one transaction, and return what became of them in input order."""
        return self._insert([new_job(self._registry, job) for job in jobs], conn)

    def _insert(self, new: Sequence[NewJob], conn: object) -> list[Enqueued]:
        if self._inserter is None:
            msg = "the client is not open: use it as `with jobrt.blocking.Client(url) as jobs:`"
            raise StorageError(msg)
        return (
            [Enqueued(one.id, one.duplicate) for one in self._inserter.insert(new, conn=conn)] if new else []
        )


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
    from jobrt._storage.postgres.blocking import insert_async  # noqa: PLC0415 - only where PostgreSQL is used

    (one,) = await insert_async(conn, [new_job(Registry(), job, **options)], schema=schema)
    return Enqueued(one.id, one.duplicate)
