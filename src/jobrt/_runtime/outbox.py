"""What the executors of a queue return to its fetcher, in batches."""

from __future__ import annotations

from typing import Final

import attrs
import trio

from jobrt._runtime.messages import Report, Returned, Returns

_RETURN_LIMIT: Final = 256
"""Maximum outcomes in one message: about as many as ten tasks produce in one pass of Trio's scheduler."""


@attrs.define(eq=False)
class Outbox:
    """Reports of ended attempts that are not sent yet. It survives a restart of the executors.

    Args:
        channel: the end to send into.
        unparked: outcomes of parked attempts, which `Parking` adds.
        reports: outcomes to write.
        written: outcomes that a transaction of the job has written.

    """

    channel: trio.MemorySendChannel[Returns]
    unparked: list[Report]
    reports: list[Report] = attrs.Factory(list[Report])
    written: list[Report] = attrs.Factory(list[Report])
    _sending: bool = False
    _to_send: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)
    _all_sent: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)

    @property
    def empty(self) -> bool:
        """Whether all is sent."""
        return not (self.reports or self.written or self.unparked)

    def add(self, report: Report) -> None:
        """Add an outcome to write, and send it soon."""
        self.reports.append(report)
        self._to_send.unpark()

    def wake(self) -> None:
        """Send soon what there is."""
        self._to_send.unpark()

    def look(self) -> None:
        """Let `sent` return: something may have changed."""
        self._all_sent.unpark_all()

    async def sent(self) -> None:
        """Wait until everything was sent, or `look` was called."""
        await self._all_sent.park()

    async def run(self) -> None:
        """Send in batches: what has ended since the last pass of Trio's scheduler."""
        while True:
            while self.empty:
                await self._to_send.park()
            message = self._message()
            self._sending = True
            try:
                await self.channel.send(message)
                self._remove(message)
            finally:
                self._sending = False

    def send_now(self) -> None:
        """Send from the task of an executor, which has nothing else to do, if the channel has room."""
        if self._sending:
            return
        message = self._message()
        try:
            self.channel.send_nowait(message)
        except trio.WouldBlock:
            self._to_send.unpark()
        else:
            self._remove(message)

    def _message(self) -> Returned:
        reports, written = tuple(self.reports[:_RETURN_LIMIT]), tuple(self.written)
        attempts = len(written) + len([report for report in reports if report.outcome.end is not None])
        # An outcome of a parked attempt must not arrive before the one that has parked it.
        unparked = () if len(reports) < len(self.reports) else tuple(self.unparked)
        return Returned(reports, attempts, written, unparked)

    def _remove(self, message: Returned) -> None:
        del self.reports[: len(message.reports)], self.written[: len(message.written)]
        if message.parked:
            del self.unparked[: len(message.parked)]
        if not self.reports and not self.unparked:
            self._all_sent.unpark_all()
