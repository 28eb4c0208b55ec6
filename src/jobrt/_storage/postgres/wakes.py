"""Wakes in PostgreSQL: received on a separate connection, which is checked regularly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from jobrt._storage.contract import Wake
from jobrt._storage.postgres.claim import Watermarks
from jobrt._storage.postgres.database import Database
from jobrt._storage.postgres.names import CONTROL
from jobrt._trio_psycopg.pool import call_deadline, open_connection, storage_errors
from jobrt.errors import StorageUnavailable

if TYPE_CHECKING:
    from jobrt._trio_psycopg import TrioConnection


_CONNECT_SECONDS: Final = 10.0

_PING_EVERY: Final = 10.0
"""Seconds. A connection whose other end vanished stays open for hours; only a query detects it."""

_PING_SECONDS: Final = 5.0

_UNREAD_SECONDS: Final = 60.0
"""Seconds that the server may be unable to send. The server sends notifications in a transaction, so a stopped process
that does not read would hold back vacuum while it is stopped. Instead the server drops the connection, and the client
reconnects."""


@attrs.frozen
class PostgresWakes:
    """Implementation of `WakeSource`; delivers nothing where LISTEN is not available."""

    _database: Database
    _url: str = attrs.field(repr=False)  # may hold a password
    _watermarks: Watermarks

    async def listen(
        self,
        deliver: Callable[[Wake], None],
        *,
        news: bool = False,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        channel = self._database.channel
        if channel is None:
            task_status.started()
            await trio.sleep_forever()
            return
        conn = await open_connection(self._url, seconds=_CONNECT_SECONDS, prepare_threshold=None)
        try:
            await _begin(conn, channel)
            task_status.started()
            while True:
                with storage_errors(conn):
                    async for notification in conn.notifies(timeout=_PING_EVERY):
                        self._deliver(notification.payload, deliver, news=news)
                await _ping(conn, channel)
        finally:
            conn.abort()
            await trio.lowlevel.checkpoint_if_cancelled()

    def _deliver(self, payload: str, deliver: Callable[[Wake], None], *, news: bool) -> None:
        """Deliver the wake for a payload; an unknown payload is from a newer jobrt and is ignored."""
        if payload.startswith("j:"):
            queue = payload[2:]
            self._watermarks.request_full(queue)
            deliver(Wake("jobs", queue))
        elif payload == CONTROL:
            deliver(Wake("control"))
        elif payload == "f":
            deliver(Wake("finished"))
        elif news and payload.startswith("s:"):
            deliver(stream_wake(payload))


def stream_wake(payload: str) -> Wake:
    """Return the wake for news about a job; about any, if the payload cannot be read."""
    number = payload[2:]
    return Wake("stream", jobs=frozenset([int(number)]) if number.isdecimal() else None)


async def _begin(conn: TrioConnection[Any], channel: str) -> None:
    quoted = channel.replace('"', '""')
    with call_deadline(conn, _PING_SECONDS):
        await conn.execute(f"set tcp_user_timeout = {int(_UNREAD_SECONDS * 1000)}".encode())
        await conn.execute(f'listen "{quoted}"'.encode())


async def _ping(conn: TrioConnection[Any], channel: str) -> None:
    with call_deadline(conn, _PING_SECONDS):
        cursor = await conn.execute("select pg_listening_channels()")
        channels = {row[0] for row in await cursor.fetchall()}
    if channel not in channels:
        raise StorageUnavailable(f"{conn.where}: this connection no longer listens on {channel!r}")
