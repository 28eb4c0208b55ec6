"""Transactions held for somebody else's code: how long one may last, how long to wait for one, and its end."""

from __future__ import annotations

import sqlite3
from typing import Final

import attrs
import trio

from jobrt._storage.sqlite.async_connection import AsyncConnection
from jobrt._storage.sqlite.connection import PATIENCE, Busy
from jobrt._storage.sqlite.transaction import SQL, Transaction
from jobrt.errors import StorageError, StorageUnavailable

LONGEST: Final = 10.0
"""Seconds that a held transaction may stay open at most: nobody else can write meanwhile."""

_SHARE: Final = 0.25
"""Share of the shortest lease that it may stay open. A worker beats three times per lease. So a beat that has to wait
for two such transactions is still in time."""


@attrs.frozen
class Held:
    """A transaction that is open for somebody else."""

    conn: AsyncConnection
    tx: Transaction


@attrs.define(eq=False)
class Patience:
    """How long to wait for a lock while others get it: as long as that goes on, and half a minute more."""

    deadline: float = attrs.field(factory=lambda: trio.current_time() + PATIENCE)
    version: int | None = None

    def refuse(self, error: Busy, version: int) -> None:
        """Note a refusal, and the `version` of the database; raise if nothing has changed for too long."""
        now = trio.current_time()
        if version != self.version:
            self.version, self.deadline = version, now + PATIENCE
        if now >= self.deadline:
            raise StorageUnavailable(f"{error} for more than {PATIENCE:.0f} seconds") from error


def time_limit(tx: Transaction) -> float:
    """Return the seconds that a transaction which begins now may stay open."""
    lease: int | None = tx.value(SQL["workers/shortest_lease"], (tx.now,))
    return LONGEST if lease is None else min(LONGEST, lease / 1e6 * _SHARE)


def too_long(place: str, limit: float) -> StorageError:
    """Return the error of a block that took longer than that; `place` names the file."""
    return StorageError(
        f"{place}: a transaction was open for more than {limit:.3g} seconds, in which nobody else can write (a quarter"
        f" of the shortest lease of the workers, at most {LONGEST:.0f} seconds); it was rolled back: do the slow part"
        " before it"
    )


def version_of(connection: sqlite3.Connection) -> int:
    """Return a number that changes when another connection commits."""
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return int(version)


def reset(connection: sqlite3.Connection) -> None:
    """Make a connection ours again, whatever a block has set."""
    connection.row_factory = None
    connection.text_factory = str
    connection.set_progress_handler(None, 0)


def undo(connection: sqlite3.Connection) -> None:
    """Roll back what is open, and make the connection as it was."""
    reset(connection)
    if connection.in_transaction:
        connection.rollback()
    connection.isolation_level = None  # not before: that would commit
