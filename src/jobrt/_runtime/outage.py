"""Outages of the database: a state of the worker, not a crash."""

import random
from collections.abc import Callable
from typing import Final

import attrs
import trio
from tenacity import wait_exponential

from jobrt._core.text import message_of
from jobrt._runtime.channels import Wakeup
from jobrt._storage.contract import DatabaseReplaced
from jobrt.backoff import CallState, jittered
from jobrt.events import EventBus, StorageDown, StorageUp

_DELAY: Final = jittered(wait_exponential(multiplier=0.0375, max=3.75), relative=1 / 3)
"""Delay after a failure: at most 0.05 s after the first, doubling up to 5 s, and at least half of that."""


@attrs.define(eq=False)
class Outage:
    """Outage state of the database, shared by the whole worker; its begin and its end each emit one event."""

    emit: EventBus
    since: float | None = None
    error: str = ""
    beat_now: Wakeup = attrs.Factory(Wakeup)
    """Rung when another database has taken the place of the open one: it does not know the worker."""
    replaced: Wakeup = attrs.Factory(Wakeup)
    """Rung with `beat_now`, for the heartbeat while it waits for the end of an outage."""

    def begin(self, error: Exception) -> None:
        """Note that a call failed because the database is unavailable."""
        if isinstance(error, DatabaseReplaced):
            self.beat_now.ring()
            self.replaced.ring()
        if self.since is None:
            self.since = trio.current_time()
            self.error = message_of(error)
            self.emit(StorageDown(self.error))

    def over(self) -> None:
        """Note that a call succeeded."""
        if self.since is not None:
            seconds = trio.current_time() - self.since
            self.since = None
            self.emit(StorageUp(seconds))


@attrs.define(eq=False)
class Backoff:
    """Delays after consecutive failures of one actor: 0.05 s, doubling to 5 s; the upper half is random."""

    outage: Outage
    chance: Callable[[], float] = random.random
    failures: int = 0

    async def wait(self, error: Exception, *, until: trio.Event | None = None) -> None:
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
