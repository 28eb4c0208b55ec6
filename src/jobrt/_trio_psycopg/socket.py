"""Waiting for sockets: their readiness, and cancel requests over a socket of their own.

Reading and writing are bits with the values of the standard library's `selectors`, which psycopg uses too.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Awaitable, Callable
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING

import psycopg
import trio
from psycopg import pq
from trio.lowlevel import checkpoint_if_cancelled, wait_readable, wait_writable

if TYPE_CHECKING:
    from psycopg.pq.abc import PGcancelConn, PGconn


if sys.platform == "win32":

    def ready_now(fd: int, wanted: int) -> int:
        """Return for which of the wanted operations the socket is ready, without waiting."""
        readable, writable, _ = select.select(
            [fd] if wanted & EVENT_READ else (), [fd] if wanted & EVENT_WRITE else (), (), 0
        )
        return (EVENT_READ if readable else 0) | (EVENT_WRITE if writable else 0)

else:
    _EVENTS = {
        EVENT_READ: select.POLLIN,
        EVENT_WRITE: select.POLLOUT,
        EVENT_READ | EVENT_WRITE: select.POLLIN | select.POLLOUT,
    }

    def ready_now(fd: int, wanted: int) -> int:
        """Return for which of the wanted operations the socket is ready, without waiting.

        A socket with an error is ready for everything: using it raises the error.
        """
        poll = select.poll()  # select() does not support descriptors above 1023
        poll.register(fd, _EVENTS[wanted])
        ready = poll.poll(0)
        if not ready:
            return 0
        (_, events), *_ = ready
        if events & ~(select.POLLIN | select.POLLOUT):
            return wanted
        return (EVENT_READ if events & select.POLLIN else 0) | (EVENT_WRITE if events & select.POLLOUT else 0)


async def wait_for_either(fd: int) -> int:
    """Wait until the socket is readable or writable, and return for which it is ready.

    Both are needed when the buffers are full in both directions.

    Raises:
        trio.ClosedResourceError: the socket was closed meanwhile.
    """
    ready = 0

    async def watch(wait: Callable[[int], Awaitable[None]], flag: int) -> None:
        nonlocal ready
        await wait(fd)
        ready |= flag
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, wait_readable, EVENT_READ)
            nursery.start_soon(watch, wait_writable, EVENT_WRITE)
    except BaseExceptionGroup as group:
        await checkpoint_if_cancelled()  # raises a single Cancelled instead of a group
        raise trio.ClosedResourceError from group
    return ready


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
