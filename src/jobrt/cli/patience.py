"""Wait for the database when a worker starts: say so once, and not for ever, because its address may be wrong."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import trio

from jobrt.errors import StorageUnavailable
from jobrt.events import Event, StorageDown, StorageUp
from jobrt.logs import log, log_event

if TYPE_CHECKING:
    from jobrt.app import App

__all__ = ["wait_for_database"]


@attrs.define(eq=False)
class _Patience:
    """Hear that the database is away, and give it so many seconds to come."""

    seconds: float
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    error: str = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, StorageUp):
            self.scope.deadline = math.inf
        if not isinstance(event, StorageDown):
            log_event(event)
            return
        self.error = event.error
        self.scope.deadline = trio.current_time() + self.seconds
        if self.seconds > 0:
            limit = "" if math.isinf(self.seconds) else f" for {self.seconds:g} s"
            log(event, suffix=f"; trying again{limit}")


async def wait_for_database(app: App, *, seconds: float) -> None:
    """Return when the app's database can be used.

    Raises:
        StorageUnavailable: it is still away `seconds` after the first attempt; with 0 there is no second one.
        StorageError: waiting will not help.

    """
    patience = _Patience(seconds)
    with app.events.subscribed(patience), patience.scope:
        async with app.await_storage():
            return
    said = f"{patience.error}; gave up after {seconds:g} s" if seconds > 0 else patience.error
    raise StorageUnavailable(said)
