"""Hear wake-ups on a connection of its own, and notice when that has gone deaf."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from jobrt._storage.contract import Wake
from jobrt._storage.postgres.wake import CONTROL
from jobrt._trio_psycopg.pool import call_deadline, open_connection, storage_errors
from jobrt.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobrt._trio_psycopg import TrioConnection

__all__ = ["hear"]

_CONNECT_SECONDS: Final = 10.0

_PING_EVERY: Final = 10.0
"""Seconds. A connection whose other end vanished stays open for hours; only asking shows it."""

_PING_SECONDS: Final = 5.0

_UNREAD_SECONDS: Final = 60.0
"""Seconds that the server may be unable to send. It sends notifications in a transaction, so a stopped process that
does not read would hold back vacuum for as long as it is stopped; its connection is cut instead, and made again."""


async def hear(
    url: str, channel: str, deliver: Callable[[Wake], None], *, started: Callable[[], None]
) -> None:
    """Deliver wake-ups until cancelled; call `started` once the database has been told.

    Raises:
        StorageUnavailable: the connection is lost or silent, or no longer listens.

    """
    conn = await open_connection(url, seconds=_CONNECT_SECONDS, prepare_threshold=None)
    try:
        quoted = channel.replace('"', '""')
        with call_deadline(conn, _PING_SECONDS):
            await conn.execute(f"set tcp_user_timeout = {int(_UNREAD_SECONDS * 1000)}".encode())
            await conn.execute(f'listen "{quoted}"'.encode())
        started()
        while True:
            with storage_errors(conn):
                async for notification in conn.notifies(timeout=_PING_EVERY):
                    _pass_on(notification.payload, deliver)
            await _ping(conn, channel)
    finally:
        conn.abort()
        await trio.lowlevel.checkpoint_if_cancelled()


async def _ping(conn: TrioConnection[Any], channel: str) -> None:
    with call_deadline(conn, _PING_SECONDS):
        cursor = await conn.execute("select pg_listening_channels()")
        channels = {row[0] for row in await cursor.fetchall()}
    if channel not in channels:
        raise StorageUnavailable(f"{conn.where}: this connection no longer listens on {channel!r}")


def _pass_on(payload: str, deliver: Callable[[Wake], None]) -> None:
    """Deliver what a payload means; one that is not understood is a later jobrt's."""
    if payload.startswith("j:"):
        deliver(Wake("jobs", payload[2:]))
    elif payload == CONTROL:
        deliver(Wake("control"))
    elif payload == "f":
        deliver(Wake("finished"))
