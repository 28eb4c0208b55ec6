"""One transaction: its connection, its time, and the wakes to send after its commit."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import attrs

from jobrt._storage.sql_files import load_statements

SQL: Final = load_statements("jobrt._storage.sqlite")

Parameters: TypeAlias = "Mapping[str, Any] | Sequence[Any]"


def _cursor(self: Transaction) -> sqlite3.Cursor:
    cursor = self.connection.cursor()
    cursor.row_factory = None  # a caller's connection may return dicts; here rows must be tuples
    return cursor


@contextmanager
def plain_texts(connection: sqlite3.Connection) -> Generator[None]:
    """Get texts as ``str`` in the block, whatever a caller's connection makes of them."""
    factory = connection.text_factory
    connection.text_factory = str
    try:
        yield
    finally:
        connection.text_factory = factory


@attrs.define(eq=False)
class Transaction:
    """Open transaction in which the functions of this engine work; they neither begin nor commit it.

    Where there may be many rows, they are returned as *one* JSON text: sqlite3 releases the GIL at each row, and in a
    busy program a thread waits up to five milliseconds to get it back. With one row at a time, a claim of a hundred
    jobs took three times as long.

    Args:
        connection: the connection, with a transaction open.
        now: the time for everything in the transaction, in microseconds.
        queues: queues that have new jobs to claim.
        control: whether workers must be woken for cancel requests or queue settings.
        ended: ids of jobs that are now final or gone.
        own_cancels: ids of jobs that have cancelled themselves, so that their parents do not take it for a failure.
        news: ids of other jobs that have news for those who follow them.

    """

    connection: sqlite3.Connection
    now: int
    queues: set[str] = attrs.field(factory=set[str])
    control: bool = False
    ended: list[int] = attrs.field(factory=list[int])
    own_cancels: set[int] = attrs.field(factory=set[int])
    news: list[int] = attrs.field(factory=list[int])
    _cursor: sqlite3.Cursor = attrs.field(init=False, default=attrs.Factory(_cursor, takes_self=True))

    def run(self, sql: str, parameters: Parameters = ()) -> int:
        """Execute a statement and return how many rows it changed."""
        return self._cursor.execute(sql, parameters).rowcount

    def insert(self, sql: str, parameters: Parameters = ()) -> int:
        """Execute an insert and return the last row's id."""
        return self._cursor.execute(sql, parameters).lastrowid or 0

    def row(self, sql: str, parameters: Parameters = ()) -> tuple[Any, ...] | None:
        """Return the first row."""
        found: tuple[Any, ...] | None = self._cursor.execute(sql, parameters).fetchone()
        return found

    def value(self, sql: str, parameters: Parameters = ()) -> Any:
        """Return the first row's first value, or None."""
        found = self.row(sql, parameters)
        return None if found is None else found[0]

    def rows(self, sql: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a statement that returns only a few."""
        return self._cursor.execute(sql, parameters).fetchall()

    def array(self, sql: str, parameters: Parameters = ()) -> list[Any]:
        """Return the elements of the JSON array that a statement returns."""
        found: list[Any] = json.loads(self.value(sql, parameters))
        return found
