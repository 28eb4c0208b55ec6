"""Treat "the database is away" as a state, not as a crash."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import attrs
import trio

from jobrt.events import EventBus, StorageDown, StorageUp

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobrt.errors import StorageError

__all__ = ["Backoff", "Outage"]

_FIRST = 0.05
_LONGEST = 5.0


@attrs.define(eq=False)
class Outage:
    """Know whether the storage is away, for the whole worker; tell once when it goes and once when it is back."""

    emit: EventBus
    since: float | None = None
    error: str = ""

    def begin(self, error: StorageError) -> None:
        """Note that a call failed because the storage is away, or takes nothing."""
        if self.since is None:
            self.since = trio.current_time()
            self.error = str(error)
            self.emit(StorageDown(self.error))

    def over(self) -> None:
        """Note that a call succeeded."""
        if self.since is not None:
            seconds = trio.current_time() - self.since
            self.since = None
            self.emit(StorageUp(seconds))


@attrs.define(eq=False)
class Backoff:
    """Wait longer after each failure of one actor in a row: 0.05 s doubling to 5 s, the upper half at random."""

    outage: Outage
    chance: Callable[[], float] = random.random
    failures: int = 0

    async def wait(self, error: StorageError) -> None:
        """Report the failure and sleep."""
        self.outage.begin(error)
        longest = min(_FIRST * 2 ** min(self.failures, 20), _LONGEST)
        self.failures += 1
        await trio.sleep(longest * (0.5 + 0.5 * self.chance()))

    def reset(self) -> None:
        """Note a success."""
        self.failures = 0
        self.outage.over()
