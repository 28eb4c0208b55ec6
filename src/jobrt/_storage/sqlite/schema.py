"""Bring a file's tables to the newest schema, with any number of processes doing so at once."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

from jobrt._storage.sql_files import load_migrations, pending
from jobrt._storage.sqlite.transaction import SQL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobrt._storage.sqlite.transaction import Transaction

__all__ = ["MIGRATIONS", "applied", "migrate"]

MIGRATIONS: Final = load_migrations("jobrt._storage.sqlite")


def applied(tx: Transaction) -> tuple[str, ...]:
    """Return the names of the migrations that the file has."""
    if not tx.value(SQL["schema_exists"]):
        return ()
    return tuple(tx.array(SQL["schema_applied"]))


def migrate(tx: Transaction, place: str) -> tuple[str, ...]:
    """Apply what is pending and return the names.

    The transaction holds the write lock, so of many processes one applies and the others find it done. SQLite's
    schema changes are transactional: all pending steps land together, or none.

    Raises:
        SchemaError: the file was made by a newer jobrt.

    """
    steps = pending(MIGRATIONS, applied(tx), where=place)
    if steps:
        tx.run(SQL["migration_table"])
    for step in steps:
        for statement in _statements(step.sql):
            tx.run(statement)
        tx.run(SQL["migration_done"], (step.name, tx.now))
    return tuple(step.name for step in steps)


def _statements(text: str) -> Iterator[str]:
    """Split at the semicolons that end a statement: ``executescript`` would commit first."""
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
