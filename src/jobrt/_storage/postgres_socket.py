"""Ask a socket what it is ready for, or wait until it is."""

from __future__ import annotations

import select
import sys
from typing import TYPE_CHECKING

import trio
from psycopg.waiting import Ready, Wait
from trio.lowlevel import checkpoint_if_cancelled, wait_readable, wait_writable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["ready_now", "wait_for_either"]

if sys.platform == "win32":

    def ready_now(fd: int, wanted: Wait) -> int:
        """Say for what the socket is ready, without waiting; 0 is for nothing that is wanted."""
        readable, writable, _ = select.select(
            [fd] if wanted & Wait.R else (), [fd] if wanted & Wait.W else (), (), 0
        )
        return (Ready.R if readable else 0) | (Ready.W if writable else 0)

else:
    _EVENTS = {Wait.R: select.POLLIN, Wait.W: select.POLLOUT, Wait.RW: select.POLLIN | select.POLLOUT}

    def ready_now(fd: int, wanted: Wait) -> int:
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
        return (Ready.R if events & select.POLLIN else 0) | (Ready.W if events & select.POLLOUT else 0)


async def wait_for_either(fd: int) -> int:
    """Wait until the socket can be read or written, and say which: a pipe that is full both ways needs both.

    Raises:
        trio.ClosedResourceError: the socket was closed meanwhile.
    """
    ready = 0

    async def watch(wait: Callable[[int], Awaitable[None]], flag: Ready) -> None:
        nonlocal ready
        await wait(fd)
        ready |= flag
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, wait_readable, Ready.R)
            nursery.start_soon(watch, wait_writable, Ready.W)
    except BaseExceptionGroup as group:
        await checkpoint_if_cancelled()  # a plain Cancelled, instead of a group of them
        raise trio.ClosedResourceError from group
    return ready
