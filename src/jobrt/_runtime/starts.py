"""Actor that has the database show which of the jobs claimed ahead have started."""

from collections.abc import Iterator, Mapping
from typing import Protocol

import attrs
import trio

from jobrt._core.job import Start
from jobrt._runtime.channels import Wakeup
from jobrt._runtime.ledger import Ledger
from jobrt._runtime.outage import Backoff
from jobrt._runtime.running import Running
from jobrt._storage.contract import AttemptStore
from jobrt.errors import StorageError

_EVERY = 0.05
"""Seconds between two writes."""
_AGE = 0.04
"""Seconds from the start of an attempt until it is shown. A quick one is over before; its outcome tells the start."""


class Slots(Protocol):
    """What runs in the slots of a queue, and the number of claimed jobs that wait for one."""

    @property
    def running(self) -> tuple[Running, ...]: ...
    @property
    def waiting(self) -> int: ...


@attrs.frozen(kw_only=True)
class ShownQueue:
    """Queue whose attempts are shown."""

    ledger: Ledger
    slots: Slots


@attrs.define(eq=False, kw_only=True)
class Starts:
    """Actor that writes the starts of attempts that are not over after a moment: those of all queues in one call.

    It sleeps while every start is known: jobs that were not claimed ahead are shown by their claim. A queue shows no
    more claims than it has slots. So an attempt waits here while the outcome of the one before it is being written.
    """

    attempts: AttemptStore
    queues: Mapping[str, ShownQueue]
    wake: Wakeup
    backoff: Backoff
    _unsure: list[Start] = attrs.Factory(list)
    """Those of a call that failed. They may have been written."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write starts until cancelled."""
        self.wake.ring()  # what the previous incarnation has not done
        task_status.started()
        while True:
            await self.wake.wait()
            while self._expects_starts():
                await trio.sleep(_EVERY)
                await self._show()

    async def _show(self) -> None:
        self._unsure += self._take_unshown(trio.current_time() - _AGE)
        if not self._unsure:
            return
        try:
            await self.attempts.show_started(self._unsure)
        except StorageError as error:
            await self.backoff.wait(error)
        else:
            self._unsure = []
            self.backoff.reset()

    def _expects_starts(self) -> bool:
        """Return whether a start is to be written, or a job claimed ahead has not started yet."""
        queues = self.queues.values()
        return bool(self._unsure) or any(queue.slots.waiting or any(_unshown(queue)) for queue in queues)

    def _take_unshown(self, before: float) -> Iterator[Start]:
        """Yield the starts until `before` that the database does not show, as many as may be shown; count them in."""
        for queue in self.queues.values():
            for attempt in list(_unshown(queue)):
                if attempt.started <= before and attempt.began is not None and queue.ledger.room_to_show():
                    queue.ledger.shown.add(attempt.ref)
                    yield Start(*attempt.ref, attempt.began)


def _unshown(queue: ShownQueue) -> Iterator[Running]:
    for attempt in queue.slots.running:
        if attempt.began is not None and not attempt.abandoned and attempt.ref not in queue.ledger.shown:
            yield attempt
