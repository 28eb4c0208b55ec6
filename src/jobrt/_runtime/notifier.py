"""Pass on the storage's wake-ups, and never trust them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from jobrt._core.attempts import only_leaf
from jobrt._storage.contract import Wake
from jobrt.errors import StorageUnavailable
from jobrt.events import EventBus, NotifierDisconnected

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobrt._runtime.outage import Backoff
    from jobrt._storage.contract import Storage

__all__ = ["Notifier"]


@attrs.define(eq=False)
class Notifier:
    """Listen on a connection of its own; whenever that (re)connects, wake everybody once.

    What was told while nobody listened is thereby looked for. Polling goes on in any case.
    """

    storage: Storage
    deliver: Callable[[Wake], None]
    backoff: Backoff
    emit: EventBus
    deaf: bool = True
    _told: bool = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled."""
        task_status.started()
        while True:
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self.storage.listen, self.deliver)
                    self._hears()
            except* StorageUnavailable as group:
                error = StorageUnavailable(str(only_leaf(group)))
                self._deaf(str(error))
                await self.backoff.wait(error)

    def _deaf(self, error: str) -> None:
        """Tell once, however often listening is tried in vain."""
        self.deaf = True
        if not self._told:
            self._told = True
            self.emit(NotifierDisconnected(error))

    def _hears(self) -> None:
        self.deaf = self._told = False
        self.backoff.reset()
        self.deliver(Wake("jobs"))
        self.deliver(Wake("control"))
        self.deliver(Wake("finished"))
