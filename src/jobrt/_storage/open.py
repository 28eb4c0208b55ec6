"""The only place that chooses a storage engine, by the URL."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime
from typing import Protocol

from jobrt._core.database_url import parse_url
from jobrt._core.job import JobRecord, NewJob
from jobrt._storage.contract import Inserted, Storage


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
    """Jobs for programs without Trio, in one thread at a time; the methods correspond to those of `JobStore`."""

    def insert(self, jobs: Sequence[NewJob], *, conn: object = None) -> tuple[Inserted, ...]:
        """Store jobs, in a new transaction or in the caller's, and return the result for each."""
        ...

    def get(self, job_id: int) -> JobRecord | None:
        """Return a job with all its details, or None."""
        ...


def open_blocking(
    url: str, *, schema: str = "jobrt", listen: bool = True
) -> AbstractContextManager[BlockingJobs]:
    """Return a context manager that opens the storage at a URL, for programs without Trio; see `open_storage`."""
    address = parse_url(url)
    if address.engine == "sqlite":
        from jobrt._storage.sqlite.blocking import open_blocking as open_sqlite  # noqa: PLC0415 - as above

        return open_sqlite(address.target)
    from jobrt._storage.postgres.blocking import open_blocking as open_postgres  # noqa: PLC0415 - as above

    return open_postgres(address.target, schema=schema, listen=listen)
