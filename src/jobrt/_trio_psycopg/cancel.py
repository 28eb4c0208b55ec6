"""Cancel requests to a PostgreSQL server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import trio
from psycopg import pq
from trio.lowlevel import wait_readable, wait_writable

if TYPE_CHECKING:
    from psycopg.pq.abc import PGcancelConn, PGconn


async def request_cancel(pgconn: PGconn) -> None:
    """Send a cancel request over a connection of its own, and wait until the server has processed it.

    Raises:
        psycopg.OperationalError: the request could not be sent.
    """
    if psycopg.capabilities.has_cancel_safe():
        await _send(pgconn.cancel_conn())
    else:  # libpq before 17 has only a blocking call
        await trio.to_thread.run_sync(pgconn.get_cancel().cancel, abandon_on_cancel=True)


async def _send(request: PGcancelConn) -> None:
    try:
        request.start()
        while (status := request.poll()) != pq.PollingStatus.OK:
            if status == pq.PollingStatus.FAILED:
                raise psycopg.OperationalError(f"the cancel request failed: {request.get_error_message()}")
            wait = wait_readable if status == pq.PollingStatus.READING else wait_writable
            await wait(request.socket)
    finally:
        request.finish()
