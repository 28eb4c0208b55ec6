"""Wake one waiter, idempotently."""

from __future__ import annotations

import attrs
import trio

__all__ = ["Flag"]


@attrs.define(eq=False)
class Flag:
    """Be a wake-up: setting it twice is the same as once, setting it never blocks, waiting takes it down.

    For one waiter. A `trio.Event` cannot be taken down, and a memory channel would make the sender choose what to
    do when it is full.
    """

    _event: trio.Event = attrs.field(factory=trio.Event, init=False)

    def set(self) -> None:
        """Wake the waiter, now or when it comes."""
        self._event.set()

    def is_set(self) -> bool:
        """Say whether the next wait returns at once."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Wait until the flag is set, and take it down."""
        await self._event.wait()
        self._event = trio.Event()
