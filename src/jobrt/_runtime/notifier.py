"""Actor that passes on wake-ups from the database."""

from collections.abc import Mapping, Sequence

import attrs
import trio

from jobrt._core.attempts import only_leaf
from jobrt._runtime.channels import Wakeup
from jobrt._runtime.outage import Backoff
from jobrt._storage.contract import Wake, WakeSource
from jobrt.errors import StorageUnavailable
from jobrt.events import EventBus, NotifierDisconnected


@attrs.define(eq=False, kw_only=True)
class Notifier:
    """Actor that listens on its own connection, and wakes all queues whenever it (re)connects.

    So wake-ups that were lost while it was disconnected do no harm. Polling continues in any case.
    """

    wakes: WakeSource
    queues: Mapping[str, Wakeup]
    control: Sequence[Wakeup]
    backoff: Backoff
    emit: EventBus
    disconnected: bool = False
    """Whether a connection was lost or could not be made. Until the first attempt has ended, nobody knows."""
    _reported: bool = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled."""
        task_status.started()
        while True:
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self.wakes.listen, self._deliver)
                    self._connected()
            except* StorageUnavailable as group:
                error = StorageUnavailable(str(only_leaf(group)))
                self._lost(str(error))
                await self.backoff.wait(error)

    def _deliver(self, wake: Wake) -> None:
        if wake.kind == "control":
            for wakeup in self.control:
                wakeup.ring()
        elif wake.kind == "jobs":
            for name, queue in self.queues.items():
                if wake.queue is None or wake.queue == name:
                    queue.ring()

    def _lost(self, error: str) -> None:
        """Report the disconnection once, however often reconnecting fails."""
        self.disconnected = True
        if not self._reported:
            self._reported = True
            self.emit(NotifierDisconnected(error))

    def _connected(self) -> None:
        self.disconnected = self._reported = False
        self.backoff.reset()
        self._deliver(Wake("jobs"))
        self._deliver(Wake("control"))
