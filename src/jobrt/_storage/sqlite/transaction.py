"""One transaction: its connection, its time, and whom to wake when it has committed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import attrs

from jobrt._storage.sql_files import load_statements

SQL: Final = load_statements("jobrt._storage.sqlite")

Parameters: TypeAlias = "Mapping[str, Any] | Sequence[Any]"


def _cursor(self: Transaction) -> sqlite3.Cursor:
    cursor = self.connection.cursor()
    cursor.row_factory = None  # a caller's connection may make dicts of its rows; ours are tuples
    return cursor


@attrs.define(eq=False)
class Transaction:
    """What the functions of this engine work in; they neither begin nor commit.

    Rows come back as *one* JSON text wherever there may be many: sqlite3 lets go of the interpreter at each
    row, and in a busy program a thread waits up to five milliseconds until it has it back. With a row at a
    time, a claim of a hundred jobs was seen to take three times as long.

    Args:
        connection: where, with a transaction open.
        now: the time of everything in it, microseconds.
        queues: queues with jobs to claim since.
        control: whether workers have something to learn of (cancel requests, queue settings).
        ended: ids of jobs that are final now, or gone.

    """

    connection: sqlite3.Connection
    now: int
    queues: set[str] = attrs.field(factory=set[str])
    control: bool = False
    ended: list[int] = attrs.field(factory=list[int])
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
        """Return all rows of a statement that has few."""
        return self._cursor.execute(sql, parameters).fetchall()

    def array(self, sql: str, parameters: Parameters = ()) -> list[Any]:
        """Return what a statement that gives one JSON array holds."""
        found: list[Any] = json.loads(self.value(sql, parameters))
        return found
