"""A PostgreSQL database for programs without Trio: over plain psycopg, and over psycopg on asyncio."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from jobrt._core.job import JobRecord, NewJob
from jobrt._storage.contract import Inserted
from jobrt._storage.postgres.insert import insert_steps
from jobrt._storage.postgres.names import Schema
from jobrt._storage.postgres.query import by_id
from jobrt._storage.postgres.rows import job_record
from jobrt._storage.postgres.session import BlockingSession, Session
from jobrt._storage.postgres.steps import drive, drive_sync
from jobrt._trio_psycopg.errors import translate
from jobrt._trio_psycopg.pool import place_of
from jobrt.errors import StorageError


@contextmanager
def open_blocking(url: str, *, schema: str = "jobrt", listen: bool = True) -> Generator[BlockingPostgres]:
    """Use a database from one thread at a time; see `jobrt._storage.postgres.open_postgres`.

    The connection is opened on first use, and reopened after it was lost. With ``listen=False`` it notifies no worker
    and prepares no statement: behind a pooler in transaction mode the next statement may run in another session.
    """
    storage = BlockingPostgres(url, schema, listen=listen)
    try:
        yield storage
    finally:
        storage.close()


class BlockingPostgres:
    """Implementation of `BlockingJobs`."""

    def __init__(self, url: str, schema: str, *, listen: bool) -> None:
        self._url = url
        self._where = place_of(url)
        self._schema = Schema(schema)
        self._channel = self._schema.channel if listen else None
        self._prepare = 5 if listen else None
        self._conn: psycopg.Connection[Any] | None = None

    def insert(self, jobs: Sequence[NewJob], *, conn: object = None) -> tuple[Inserted, ...]:
        if conn is None:
            return self._insert_own(jobs)
        if not isinstance(conn, psycopg.Connection):
            raise StorageError(f"conn is a {type(conn).__qualname__}: pass a psycopg.Connection")
        try:
            return drive_sync(BlockingSession(conn), self._steps(jobs))
        except psycopg.Error as error:
            raise translate(error, "in the caller's transaction", lost=conn.closed) from error

    def get(self, job_id: int) -> JobRecord | None:
        with self._own() as conn:
            look = by_id(self._schema, job_id)
            rows = BlockingSession(conn).run(look.statement, **look.values)
        return job_record(rows[0]) if rows else None

    def _insert_own(self, jobs: Sequence[NewJob]) -> tuple[Inserted, ...]:
        with self._own() as conn, conn.transaction():
            return drive_sync(BlockingSession(conn), self._steps(jobs))

    @contextmanager
    def _own(self) -> Generator[psycopg.Connection[Any]]:
        if self._conn is None or self._conn.closed:
            self._conn = self._connect()
        try:
            yield self._conn
        except psycopg.Error as error:
            raise translate(error, self._where, lost=self._conn.closed) from error

    def _connect(self) -> psycopg.Connection[Any]:
        try:
            return psycopg.connect(self._url, autocommit=True, prepare_threshold=self._prepare)
        except psycopg.Error as error:
            raise translate(error, f"cannot connect to {self._where}", lost=True) from error

    def _steps(self, jobs: Sequence[NewJob]) -> Any:
        return insert_steps(self._schema, jobs, wake=lambda _queue: self._channel)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._conn is not None:
            self._conn.close()


async def insert_async(
    conn: psycopg.AsyncConnection[Any], jobs: Sequence[NewJob], *, schema: str
) -> tuple[Inserted, ...]:
    """Insert jobs over a connection driven by asyncio, in its open transaction if there is one.

    Raises:
        StorageError: the database reported an error.

    """
    names = Schema(schema)
    try:
        async with conn.transaction():
            return await drive(
                Session(conn, names), insert_steps(names, jobs, wake=lambda _queue: names.channel)
            )
    except psycopg.Error as error:
        raise translate(error, "jobrt.blocking", lost=conn.closed) from error
