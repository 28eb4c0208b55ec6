"""Outages of the database: a state of the worker, not a crash."""

import random
from collections.abc import Callable
from typing import Final

import attrs
import trio
from tenacity import wait_exponential

from jobrt.backoff import CallState, jittered
from jobrt.errors import StorageError
from jobrt.events import EventBus, StorageDown, StorageUp

_DELAY: Final = jittered(wait_exponential(multiplier=0.0375, max=3.75), relative=1 / 3)
"""Up to 0.05 s after the first failure, doubling up to 5 s, and never less than half of that."""


@attrs.define(eq=False)
class Outage:
    """Whether the storage can be used, for the whole worker; begin and end are one event each."""

    emit: EventBus
    since: float | None = None
    error: str = ""

    def begin(self, error: StorageError) -> None:
        """Note that a call failed because the storage cannot be used."""
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
    """Delays after failures of one actor in a row: 0.05 s doubling to 5 s, the upper half at random."""

    outage: Outage
    chance: Callable[[], float] = random.random
    failures: int = 0

    async def wait(self, error: StorageError, *, until: trio.Event | None = None) -> None:
        """Report the failure and sleep; end early when the event `until` is set."""
        self.outage.begin(error)
        self.failures += 1
        delay = _DELAY(CallState(attempt=self.failures, error=error, chance=self.chance))
        with trio.move_on_after(delay):
            await (trio.Event() if until is None else until).wait()

    def reset(self) -> None:
        """Note a success."""
        self.failures = 0
        self.outage.over()
