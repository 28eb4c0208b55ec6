"""What actors talk through: memory channels, and wake-ups, which are hints that nobody waits to give."""

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
        """Open a channel that holds so many messages that nobody has received yet."""
        return cls(*trio.open_memory_channel[T](size))


@attrs.define(eq=False)
class Wakeup:
    """Memory channel of size one for hints to one waiter.

    Ringing never blocks. Hints that the waiter has not taken yet count as one.
    """

    closed: trio.Event = attrs.Factory(trio.Event)
    _send: trio.MemorySendChannel[None] = attrs.field(init=False)
    _receive: trio.MemoryReceiveChannel[None] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[None](1)

    def ring(self) -> None:
        """Wake the waiter, now or when it comes; do nothing once closed."""
        try:
            if not self.closed.is_set():
                self._send.send_nowait(None)
        except trio.WouldBlock:
            return

    async def wait(self) -> None:
        """Wait for a hint and take all there are.

        Raises:
            trio.EndOfChannel: closed, and every hint was taken.

        """
        await self._receive.receive()
        try:  # two quick rings for a waiting task are two values: one is handed over, one is buffered
            while True:
                self._receive.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            return

    def close(self) -> None:
        """Give no more hints: the waiter learns that this is the end."""
        self.closed.set()
        self._send.close()
