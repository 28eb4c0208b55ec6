"""The only place that chooses a storage engine, by the URL."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol

from jobrt._core.arguments import shown
from jobrt._core.database_url import Address, parse_url
from jobrt._core.job import JobRecord, NewJob
from jobrt._core.search import Needle
from jobrt._core.stream import StreamPage
from jobrt._core.walks import Look, Place, Walk
from jobrt._core.where import Where
from jobrt._storage.contract import Inserted, Storage, Wake
from jobrt.errors import InvalidSetting, StorageError

DEFAULT_URL = "sqlite:///jobrt.db"


def database_url(url: str | None) -> str:
    """Return the URL that was given; by default ``JOBRT_URL``, if it is not empty, then a file in this folder."""
    if url is None:
        return os.environ.get("JOBRT_URL") or DEFAULT_URL
    if isinstance(url, str) and url:
        return url
    how = "use sqlite:///FILE or postgresql://USER@HOST/DATABASE, or None for JOBRT_URL"
    raise InvalidSetting(f"url is {shown(url)}: {how}")


def open_storage(
    url: str,
    *,
    schema: str = "jobrt",
    listen: bool = True,
    migrate: bool = True,
    clock: Callable[[], datetime] | None = None,
) -> AbstractAsyncContextManager[Storage]:
    """Return a context manager that opens the storage at a URL, for Trio.

    Args:
        url: see `parse_url`.
        schema: PostgreSQL's schema for the tables.
        listen: whether to use LISTEN and NOTIFY; off behind a transaction pooler.
        migrate: whether to bring a SQLite file up to date when it is opened.
        clock: SQLite's clock, for tests under virtual time.

    """
    address = parse_url(url)
    if address.engine == "sqlite":
        from jobrt._storage.sqlite import open_sqlite  # noqa: PLC0415 - only the engine in use is loaded

        return open_sqlite(address.target, migrate=migrate, clock=clock)
    from jobrt._storage.postgres import open_postgres  # noqa: PLC0415 - as above

    return open_postgres(address.target, schema=schema, listen=listen)


class BlockingJobs(Protocol):
    """Jobs for programs without Trio, for any number of threads; the methods mean what those of `JobStore` do.

    A call that needs a connection opens one. No connection is used on both sides of a fork.
    """

    def open(self) -> None:
        """Find out now whether the database can be used, if that is possible without a server."""
        ...

    def close(self) -> None:
        """Close all connections; later calls raise `StorageError`."""
        ...

    def insert(self, jobs: Sequence[NewJob], *, conn: object = None) -> tuple[Inserted, ...]:
        """Store jobs, in a new transaction or in the caller's, and return the result for each."""
        ...

    def get(self, job_id: int) -> JobRecord | None:
        """Return a job with all its details, or None."""
        ...

    def query(
        self, where: Where, *, order_by: str, limit: int | None, after: int | None, details: bool
    ) -> tuple[JobRecord, ...]:
        """Return the jobs that match, in order."""
        ...

    def count(self, where: Where, *, limit: int | None = None) -> int:
        """Return how many jobs match, at most `limit`."""
        ...

    def cancel(self, where: Where, reason: str) -> tuple[int, int]:
        """Cancel waiting jobs, request it of running ones, and return both numbers."""
        ...

    def rerun(self, where: Where) -> int:
        """Make final jobs available, and return how many."""
        ...

    def update(self, where: Where, changes: Mapping[str, Any]) -> int:
        """Change waiting jobs, and return how many."""
        ...

    def delete(self, where: Where, *, limit: int | None = None) -> int:
        """Delete jobs, and return how many."""
        ...

    def send(self, job_id: int, name: str, value: str, *, key: str | None = None) -> bool:
        """Send a message to a job; see `ScopeStore.send`."""
        ...


class AsyncioJobs(Protocol):
    """Jobs for programs on asyncio, in one event loop; the methods mean what those of `JobStore` do.

    A cancelled call has no effect, unless its commit had begun.
    """

    longest_pause: float
    """Seconds between two calls of `await_final`, at most, because wakes may be lost."""

    async def open(self) -> None:
        """Find out now whether the database can be used, if that is possible without a server."""
        ...

    async def close(self) -> None:
        """Close all connections; later calls raise `StorageError`."""
        ...

    async def insert(self, jobs: Sequence[NewJob], *, conn: object = None) -> tuple[Inserted, ...]:
        """Store jobs, in a new transaction or in the caller's, and return the result for each."""
        ...

    async def get(self, job_id: int) -> JobRecord | None:
        """Return a job with all its details, or None."""
        ...

    async def query(
        self, where: Where, *, order_by: str, limit: int | None, after: int | None, details: bool
    ) -> tuple[JobRecord, ...]:
        """Return the jobs that match, in order."""
        ...

    async def look(
        self,
        where: Where,
        walk: Walk,
        *,
        scan: int,
        limit: int,
        after: Place | None = None,
        needle: Needle | None = None,
    ) -> Look:
        """Return the first jobs of a walk that match; `ObservedJobs.look`."""
        ...

    async def count(self, where: Where, *, limit: int | None = None) -> int:
        """Return how many jobs match, at most `limit`."""
        ...

    async def cancel(self, where: Where, reason: str) -> tuple[int, int]:
        """Cancel waiting jobs, request it of running ones, and return both numbers."""
        ...

    async def rerun(self, where: Where) -> int:
        """Make final jobs available, and return how many."""
        ...

    async def update(self, where: Where, changes: Mapping[str, Any]) -> int:
        """Change waiting jobs, and return how many."""
        ...

    async def delete(self, where: Where, *, limit: int | None = None) -> int:
        """Delete jobs, and return how many."""
        ...

    async def send(self, job_id: int, name: str, value: str, *, key: str | None = None) -> bool:
        """Send a message to a job; see `ScopeStore.send`."""
        ...

    async def await_final(self, ids: Sequence[int]) -> Mapping[int, str | None]:
        """Return each job's state (None: no such job), and request a wake for when the others become final."""
        ...

    async def read_stream(self, job_id: int, after: int, *, wake: bool = False) -> StreamPage | None:
        """Return a job and its entries behind a number; see `StreamStore.read`."""
        ...

    async def listen(self, wake: Callable[[], None], news: Callable[[Wake], None] | None = None) -> None:
        """Call `wake` once it listens, and when an awaited job may be final; return at once if the engine cannot.

        `news` is called with ``stream`` wakes.

        Raises:
            StorageUnavailable: the connection is lost; call again.

        """
        ...


def shared_url(url: str | None) -> str:
    """Return the `database_url` of a client without workers; raise `StorageError` if no worker can share it."""
    found = database_url(url)
    if parse_url(found) == Address("sqlite", ":memory:"):
        raise StorageError(
            "sqlite:///:memory: belongs to a single client, so no worker would find its jobs: name a file"
        )
    return found


def open_asyncio(url: str, *, schema: str = "jobrt", listen: bool = True) -> AsyncioJobs:
    """Return the storage that a URL names, for programs on asyncio; connections are opened on first use."""
    address = parse_url(url)
    if address.engine == "sqlite":
        from jobrt._storage.sqlite.asyncio_jobs import AsyncioSqlite  # noqa: PLC0415 - as above

        return AsyncioSqlite(address.target)
    from jobrt._storage.postgres.asyncio_jobs import AsyncioPostgres  # noqa: PLC0415 - as above

    return AsyncioPostgres(address.target, schema, listen=listen)


def open_blocking(url: str, *, schema: str = "jobrt", listen: bool = True) -> BlockingJobs:
    """Return the storage that a URL names, for programs without Trio; connections are opened on first use."""
    address = parse_url(url)
    if address.engine == "sqlite":
        from jobrt._storage.sqlite.blocking import BlockingSqlite  # noqa: PLC0415 - as above

        return BlockingSqlite(address.target)
    from jobrt._storage.postgres.blocking import BlockingPostgres  # noqa: PLC0415 - as above

    return BlockingPostgres(address.target, schema, listen=listen)
