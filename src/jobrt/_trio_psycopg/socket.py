"""Ask a socket what it is ready for, or wait until it is.

To read and to write are bits, as in the standard library's `selectors`, whose values psycopg has too.
"""

from __future__ import annotations

import select
import sys
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import checkpoint_if_cancelled, wait_readable, wait_writable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["ready_now", "wait_for_either"]

if sys.platform == "win32":

    def ready_now(fd: int, wanted: int) -> int:
        """Say for what the socket is ready, without waiting; 0 is for nothing that is wanted."""
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
        """Say for what the socket is ready, without waiting; 0 is for nothing that is wanted.

        A socket that has failed is ready for everything: whoever tries to use it learns why.
        """
        poll = select.poll()  # select() cannot look at descriptors above 1023
        poll.register(fd, _EVENTS[wanted])
        found = poll.poll(0)
        if not found:
            return 0
        (_, events), *_ = found
        if events & ~(select.POLLIN | select.POLLOUT):
            return wanted
        return (EVENT_READ if events & select.POLLIN else 0) | (EVENT_WRITE if events & select.POLLOUT else 0)


async def wait_for_either(fd: int) -> int:
    """Wait until the socket can be read or written, and say which: a pipe that is full both ways needs both.

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
        await checkpoint_if_cancelled()  # a plain Cancelled, instead of a group of them
        raise trio.ClosedResourceError from group
    return ready
