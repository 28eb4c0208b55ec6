"""Pick the storage engine that a URL names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from jobrt.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from jobrt._storage.contract import Storage

__all__ = ["Address", "open_storage", "parse_url"]

_HOW = "use sqlite:///FILE, sqlite:///:memory: or postgresql://USER@HOST/DATABASE"


@attrs.frozen
class Address:
    """Where the jobs are: the engine, and the file (``:memory:`` too) or conninfo for it."""

    engine: str
    target: str


def parse_url(url: str) -> Address:
    """Return what a URL names.

    ``sqlite:///jobs.db`` is a relative path, ``sqlite:////var/jobs.db`` an absolute one.

    Raises:
        StorageError: it names no engine of ours; says which there are.

    """
    scheme, sep, rest = url.partition("://")
    if sep and scheme == "sqlite":
        path = rest.removeprefix("/")
        if path:
            return Address("sqlite", path)
    if sep and scheme in {"postgresql", "postgres"}:
        return Address("postgres", url)
    msg = f"{_masked(url)!r} is not a database URL: {_HOW}"
    raise StorageError(msg)


def _masked(url: str) -> str:
    """Return the URL without what may be a password."""
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://…@{tail}" if at else url


def open_storage(
    url: str,
    *,
    schema: str = "jobrt",
    listen: bool = True,
    migrate: bool = True,
    clock: Callable[[], datetime] | None = None,
) -> AbstractAsyncContextManager[Storage]:
    """Return a context manager that opens the storage a URL names.

    Args:
        url: see `parse_url`.
        schema: PostgreSQL's schema for the tables.
        listen: whether to use LISTEN and NOTIFY; off behind a transaction pooler.
        migrate: whether to bring a SQLite file up to date when it is opened.
        clock: SQLite's clock, for tests under virtual time.

    """
    address = parse_url(url)
    options: dict[str, Any]
    if address.engine == "sqlite":
        from jobrt._storage.sqlite import open_sqlite  # noqa: PLC0415 - only the engine in use is loaded

        options = {"migrate": migrate, "clock": clock}
        return open_sqlite(address.target, **options)
    from jobrt._storage.postgres import open_postgres  # noqa: PLC0415 - as above

    return open_postgres(address.target, schema=schema, listen=listen)
