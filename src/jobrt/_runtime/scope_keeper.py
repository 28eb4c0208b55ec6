"""Actor that ends scopes that are over, and waits whose time has passed."""

import attrs
import trio

from jobrt._runtime.channels import Wakeup
from jobrt._runtime.outage import Backoff
from jobrt._storage.contract import ScopeStore
from jobrt.errors import StorageUnavailable

LOOK_INTERVAL = 15.0
"""Seconds between two looks without a wake-up: another worker may have died that knew of a due time, or is of a version
that knows no scopes."""

_PAUSE = 0.05
"""Seconds until the next look, if something due was locked by others."""


@attrs.define(eq=False, kw_only=True)
class ScopeKeeper:
    """Actor that tends scopes when woken, and at the next time that is due.

    Every worker has one. They need no leader, because the storage lets each job be changed once.
    """

    scopes: ScopeStore
    wake: Wakeup
    backoff: Backoff
    interval: float = LOOK_INTERVAL

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tend scopes until cancelled."""
        task_status.started()
        while True:
            seconds = await self._tend()
            with trio.move_on_after(seconds):
                await self.wake.wait()

    async def _tend(self) -> float:
        """Do what is due, and return the seconds until the next time."""
        try:
            tended = await self.scopes.tend()
        except StorageUnavailable as error:
            await self.backoff.wait(error)
            return 0.0
        self.backoff.reset()
        if tended.more:
            return 0.0
        return self.interval if tended.next_due is None else min(max(tended.next_due, _PAUSE), self.interval)
