"""Waiting for the database when a worker starts. The wait is logged and limited: the URL may be wrong."""

from __future__ import annotations

import math

import attrs
import trio

from jobrt.app import App
from jobrt.errors import StorageUnavailable
from jobrt.events import Event, StorageDown, StorageUp
from jobrt.logs import log, log_event


@attrs.define(eq=False)
class _Outage:
    """Subscriber that limits how long an outage of the database may last."""

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
            log(event, suffix=f"; retrying{limit}")


async def wait_for_database(app: App, *, seconds: float) -> None:
    """Return when the app's database can be used.

    Raises:
        StorageUnavailable: the database is still unavailable after `seconds`. With 0 it is tried once.
        StorageError: waiting will not help.

    """
    outage = _Outage(seconds)
    with app.events.subscribed(outage), outage.scope:
        async with app.await_storage():
            return
    message = f"{outage.error}; gave up after {seconds:g} s" if seconds > 0 else outage.error
    raise StorageUnavailable(message)
