"""The schema in SQLite: which migrations it has, and the storage's clock."""

import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Final

import attrs
import trio

from jobrt._storage.sql_files import SchemaStatus, load_migrations, pending, status, unmigrated
from jobrt._storage.sqlite.connection import remedy_for
from jobrt._storage.sqlite.database import Database
from jobrt._storage.sqlite.rows import moment
from jobrt._storage.sqlite.transaction import SQL, Transaction

_MIGRATIONS: Final = load_migrations("jobrt._storage.sqlite")


@attrs.frozen
class SqliteSchema:
    """Implementation of `SchemaStore`."""

    _database: Database

    async def status(self) -> SchemaStatus:
        return status(_MIGRATIONS, await self._database.read(_applied))

    async def migrate(self, report: Callable[[str], None] | None = None) -> tuple[str, ...]:  # noqa: ARG002 - it waits for the file's lock only
        found = await self.status()
        if not found.pending and not found.newer:  # only reads, so a locked file opens immediately
            return ()
        return await self._database.write(partial(migrate, place=self._database.path))

    async def check(self) -> None:
        await self._database.read(partial(check, place=self._database.path))

    async def now(self) -> datetime:
        await trio.lowlevel.checkpoint()
        return moment(self._database.micros())


def _applied(tx: Transaction) -> tuple[str, ...]:
    if not tx.value(SQL["schema/status_exists"]):
        return ()
    return tuple(tx.array(SQL["schema/status_applied"]))


def check(tx: Transaction, place: str) -> None:
    """Raise `SchemaError` unless the tables are exactly those of this jobrt."""
    error = unmigrated(_MIGRATIONS, _applied(tx), where=place, remedy=remedy_for(place))
    if error is not None:
        raise error


def outdated(tx: Transaction) -> bool:
    """Return whether `migrate` has something to do, or to refuse."""
    found = status(_MIGRATIONS, _applied(tx))
    return bool(found.pending or found.newer)


def migrate(tx: Transaction, place: str) -> tuple[str, ...]:
    """Apply the pending migrations and return their names.

    The transaction holds the write lock: of many processes one applies them, and the others find nothing pending.
    Schema changes are transactional in SQLite: all pending steps are committed together, or none.

    Raises:
        SchemaError: the file was made by a newer jobrt.

    """
    steps = pending(_MIGRATIONS, _applied(tx), where=place)
    if steps:
        tx.run(SQL["schema/migrate_table"])
    for step in steps:
        for statement in _statements(step.sql):
            tx.run(statement)
        tx.run(SQL["schema/migrate_done"], (step.name, tx.now))
    return tuple(step.name for step in steps)


def _statements(text: str) -> Iterator[str]:
    """Yield the statements of a script one by one: ``executescript`` would commit first."""
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
