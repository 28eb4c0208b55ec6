"""Turns of those who write: a lock in this process, and pauses for other processes.

SQLite has one writer at a time, and its lock has no queue: whoever asks at the right moment gets it. Most transactions
take a millisecond, so that does not matter. It matters for transactions that are *held* for somebody else's code.
Without the pauses, a process with many of them would keep all others from writing, and from sending heartbeats.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio
from trio.lowlevel import ParkingLot, Task

GAP: Final = 0.15
"""Seconds that the file stays free for others between two held transactions. Who waits asks every 0.08 s at least."""

_OWN_GAP: Final = 2 * GAP
"""Seconds that a process waits after a held transaction of its own, so that one of another process comes first."""

_STRETCH: Final = 0.5
"""Seconds that transactions may be held, in a row, without a pause."""


@attrs.define(eq=False)
class TurnLock:
    """A lock that goes to those who wait in the order in which they came, but to urgent ones first."""

    owner: Task | None = attrs.field(default=None, init=False)
    _urgent: ParkingLot = attrs.field(factory=ParkingLot, init=False)
    _others: ParkingLot = attrs.field(factory=ParkingLot, init=False)

    async def acquire(self, *, urgent: bool = False) -> None:
        """Wait for the turn. A cancelled call does not have it."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.owner is None:
            self.owner = trio.lowlevel.current_task()
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:  # `release` makes the next one the owner, so nobody else gets in between
            await (self._urgent if urgent else self._others).park()

    def release(self) -> None:
        """Give the turn to the next one."""
        self.owner = None
        for lot in (self._urgent, self._others):
            if lot:
                (self.owner,) = lot.unpark()
                return

    @asynccontextmanager
    async def turn(self, *, urgent: bool = False) -> AsyncGenerator[None]:
        """Have the turn while the block runs."""
        await self.acquire(urgent=urgent)
        try:
            yield
        finally:
            self.release()

    def locked(self) -> bool:
        """Return whether somebody has the turn."""
        return self.owner is not None


@attrs.define(eq=False)
class Pacing:
    """Pauses of one process between held transactions; times are by a monotonic clock, in seconds."""

    free_until: float = -math.inf
    """Time before which this process begins no held transaction."""
    _held: float = 0.0
    _ended: float = -math.inf

    def ended(self, *, began: float, now: float) -> None:
        """Note that a held transaction has ended."""
        in_a_row = began < self._ended + _OWN_GAP
        self._held = (self._held if in_a_row else 0.0) + now - began
        self._ended = now
        if self._held >= _STRETCH:
            self._held = 0.0
            self.free_until = now + _OWN_GAP
