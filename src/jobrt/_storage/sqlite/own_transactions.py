"""Transactions that this process itself has open on a file, to explain why a lock is not to be had.

SQLite has one writer at a time. A thread that waits for the lock while its own transaction holds it waits for ever.
SQLite cannot tell, since a lock has no name. So the connections of the program are looked through.
"""

import gc
import sqlite3
import threading
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Literal

Owner = Literal["thread", "process"]


def open_transaction(path: str, *, ours: Container[int]) -> Owner | None:
    """Return whose transaction is open on a file: that of this thread alone, that of any thread, or None.

    ``ours`` has the ids of connections that do not count. Connections with ``check_same_thread=False`` are
    those of any thread. Transactions of other threads do not count: they end without this thread.
    """
    found: Owner | None = None
    for connection in _connections():
        if id(connection) not in ours and _in_transaction_on(connection, path):
            if _bound_to_this_thread(connection):
                return "thread"
            found = "process"
    return found


def _connections() -> Iterator[sqlite3.Connection]:
    # Not isinstance: it looks up attributes, which objects such as proxies may define with effects.
    return (found for found in gc.get_objects() if issubclass(type(found), sqlite3.Connection))


def _in_transaction_on(connection: sqlite3.Connection, path: str) -> bool:
    try:
        if not connection.in_transaction:
            return False
        # The cursor is made without the caller's factories. Another thread's connection raises here.
        files = sqlite3.Cursor(connection).execute("PRAGMA database_list").fetchall()
    except sqlite3.Error:
        return False
    return any(_same_file(file, path) for _, _, file in files)


def _same_file(file: str | bytes | None, path: str) -> bool:
    try:
        return bool(file) and Path(file.decode() if isinstance(file, bytes) else str(file)).samefile(path)
    except (OSError, ValueError):
        return False


def _bound_to_this_thread(connection: sqlite3.Connection) -> bool:
    """Return whether another thread may not use a connection that this one may use."""
    refused: list[bool] = []

    def use() -> None:
        try:
            sqlite3.Connection.cursor(connection).close()
        except sqlite3.ProgrammingError:
            refused.append(True)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    return bool(refused)
