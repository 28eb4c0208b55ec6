"""How often a worker looks by itself whether there is something to do."""

import attrs
import trio

from jobrt._core.pulse import next_pulse
from jobrt._core.queues import Queue

_REST = 600.0
"""Seconds between two looks of an idle worker in virtual time. Each look costs some 100 µs, so a day costs 0.1 s."""


@attrs.define(eq=False)
class Pace:
    """Intervals of a worker's actors, longer in virtual time.

    Time is virtual if Trio's clock is a test's and the database is in memory. Then nobody can lose a wake-up, and no
    worker can die without the database. So looks that are there for such cases may be rare.
    """

    virtual: bool = False
    _stirred: trio.Event = attrs.Factory(trio.Event)

    def at_least(self, seconds: float) -> float:
        """Return an interval between two looks that are not needed in virtual time."""
        return max(seconds, _REST) if self.virtual else seconds

    def queue(self, queue: Queue) -> Queue:
        """Return the settings of a queue; jobs that a limit over the cluster held back are found by polling only."""
        if queue.clustered or not self.virtual:
            return queue
        return attrs.evolve(queue, poll_interval=self.at_least(queue.poll_interval))

    def stir(self) -> None:
        """Tell that the worker is no longer idle."""
        if self.virtual:
            self._stirred.set()
            self._stirred = trio.Event()

    async def sleep(self, interval: float, *, idle: bool) -> None:
        """Sleep until the next multiple of the interval, and in virtual time as long as the worker is idle, before."""
        if idle and self.virtual:
            with trio.move_on_after(_REST):
                await self._stirred.wait()
        await trio.sleep_until(next_pulse(trio.current_time(), interval))


def is_virtual(*, private: bool) -> bool:
    """Return whether time is virtual in this task; `private`: whether the database is in memory."""
    try:
        clock = trio.lowlevel.current_clock()
    except RuntimeError:  # not in Trio
        return False
    return private and type(clock).__name__ != "SystemClock"  # its class is not public
