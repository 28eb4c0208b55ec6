"""Memory channels between actors, and wake-ups, which never block the sender."""

from __future__ import annotations

from typing import Generic, TypeVar

import attrs
import trio

T = TypeVar("T")


@attrs.frozen
class Channel(Generic[T]):
    """Both ends of a memory channel."""

    send: trio.MemorySendChannel[T]
    receive: trio.MemoryReceiveChannel[T]

    @classmethod
    def open(cls, size: float) -> Channel[T]:
        """Open a channel that buffers `size` messages."""
        return cls(*trio.open_memory_channel[T](size))


@attrs.define(eq=False)
class Wakeup:
    """Memory channel of size one that wakes one waiter; several rings before the waiter runs count as one."""

    closed: trio.Event = attrs.Factory(trio.Event)
    _send: trio.MemorySendChannel[None] = attrs.field(init=False)
    _receive: trio.MemoryReceiveChannel[None] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[None](1)

    def ring(self) -> None:
        """Wake the waiter, now or at its next wait; do nothing once closed."""
        try:  # `suppress` would cost three calls more, here and in `wait`
            if not self.closed.is_set():
                self._send.send_nowait(None)
        except trio.WouldBlock:
            return

    async def wait(self) -> None:
        """Wait for a ring and discard further ones that are buffered.

        Raises:
            trio.EndOfChannel: the channel is closed, and every ring was received.

        """
        await self._receive.receive()
        try:
            while True:  # a second ring may be buffered while the first wakes this task
                self._receive.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            return

    def close(self) -> None:
        """Close the channel; `wait` then raises `trio.EndOfChannel`."""
        self.closed.set()
        self._send.close()
