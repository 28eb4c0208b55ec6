"""Actor that writes the outcomes that no fetcher takes along with a claim."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import attrs
import trio

from jobrt._core.attempts import unwritable
from jobrt._core.job import JobRef
from jobrt._core.retry import default_delay
from jobrt._runtime.messages import OutcomeBatch, Report, Settled
from jobrt.errors import StorageError, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobrt._runtime.outage import Backoff
    from jobrt._runtime.outcomes import Outcomes, Settler
    from jobrt._storage.contract import AttemptStore


_WINDOW = 0.005
"""Seconds between writes, in which outcomes gather; at load fetchers take them along long before."""


@attrs.define(eq=False, kw_only=True)
class Completer:
    """Write outcomes at once, or 5 ms after the last write; one write at a time.

    Nothing is dropped: while the storage is away outcomes stay here and in the channel, and fetchers claim no more.

    When the storage refuses a batch with an error, each outcome is written by itself, so that the one at fault holds up
    no other. That one is written as a failed attempt. If even that is refused while others are taken, it is lost:
    nothing else would ever end it, and the worker could not stop. While *nothing* is taken it is the storage that
    is ill, and all of them wait.

    At a stop ``outcomes.arrived`` is closed; ``ended`` is set when everything is written.
    """

    attempts: AttemptStore
    outcomes: Outcomes
    rejected: trio.MemoryReceiveChannel[OutcomeBatch]
    settler: Settler
    written: Callable[[], int]
    """Returns how many outcomes the worker has settled, whoever wrote them."""
    backoff: Backoff
    ended: trio.Event = attrs.Factory(trio.Event)
    _in_hand: list[OutcomeBatch] = attrs.Factory(list)
    _alone: list[_Alone] = attrs.Factory(list)
    _written_before: int | None = None
    _wrote_at: float = -math.inf
    _problem: StorageError | None = None
    _ill: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)

    @property
    def pending(self) -> int:
        """How many outcomes wait here."""
        waiting = [*self._in_hand, *(entry.batch for entry in self._alone)]
        return sum(len(batch.reports) for batch in waiting)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write what no fetcher takes along, until cancelled."""
        task_status.started()
        try:
            while True:
                await self._write_all()
                await self.outcomes.arrived.wait()
        except trio.EndOfChannel:
            await self._write_all()
            self.ended.set()
            await trio.sleep_forever()

    async def wait_ill(self) -> StorageError:
        """Wait until the storage takes no outcome at all, and return the error."""
        while self._problem is None:
            await self._ill.park()
        return self._problem

    async def _write_all(self) -> None:
        """Write until nothing waits."""
        while True:
            self._receive_rejected()
            if not self._in_hand and not self._alone and self.outcomes.empty:
                return
            # A checkpoint at least: the fetcher that has just got a free slot comes first, and takes them along.
            await trio.sleep_until(self._wrote_at + _WINDOW)
            self._in_hand = self._in_hand or self.outcomes.take()
            if not self._in_hand and not self._alone:
                continue
            self._wrote_at = trio.current_time()
            try:
                await self._write_batches()
                await self._write_alone()
            except StorageUnavailable as error:
                await self.backoff.wait(error)
            except StorageError as error:  # it takes nothing at all; the next outcome may be another matter
                self._problem = error
                self._ill.unpark_all()
                await self.backoff.wait(error)
            else:
                self._problem = None

    def _receive_rejected(self) -> None:
        try:
            while True:
                self._alone.append(_Alone(self.rejected.receive_nowait()))
        except trio.WouldBlock:
            return

    async def _write_batches(self) -> None:
        """Write the batches in hand together."""
        batches = self._in_hand
        if not batches:
            return
        outcomes = [report.outcome for batch in batches for report in batch.reports]
        try:
            refused = await self.attempts.finish(outcomes)
        except StorageUnavailable:
            raise
        except StorageError:
            self._in_hand = []
            self._alone += map(_Alone, batches)
            return
        self._in_hand = []
        self.backoff.reset()
        self.settler.settle(batches, refused)

    async def _write_alone(self) -> None:
        """Write each outcome of refused batches by itself, and settle what is to become of those that cannot be."""
        if not self._alone:
            return
        if self._written_before is None:
            self._written_before = self.written()
        problem: StorageError | None = None
        for entry in list(self._alone):
            problem = await self._write_each(entry) or problem
            self._settle_if_done(entry)
        if problem is None:
            self._written_before = None
            return
        if self.written() == self._written_before:
            raise problem
        for entry in list(self._alone):
            entry.lose(self.settler)
            self._settle_if_done(entry)

    async def _write_each(self, entry: _Alone) -> StorageError | None:
        """Write the outcomes of a batch one by one; return an error of one that is not taken in any form."""
        problem: StorageError | None = None
        for report in list(entry.waiting):
            error = await self._write_one(report)
            if error is None:
                entry.waiting.remove(report)
            else:
                entry.errors[JobRef(report.job.id, report.job.lease)] = problem = error
        return problem

    async def _write_one(self, report: Report) -> StorageError | None:
        """Write one outcome, else that it could not be written; return the error if neither is possible."""
        outcome, job, seconds = report
        problem: StorageError | None = None
        for _ in range(2):
            try:
                refused = await self.attempts.finish([outcome])
            except StorageUnavailable:
                raise
            except StorageError as error:
                problem = error
                delay = default_delay(job.attempt, chance=random.random).total_seconds()
                outcome = unwritable(outcome, job, error=error, delay=delay)
            else:
                self.backoff.reset()
                self.settler.note([Report(outcome, job, seconds)], refused)
                return None
        return problem

    def _settle_if_done(self, entry: _Alone) -> None:
        if not entry.waiting:
            self._alone.remove(entry)
            self.settler.settled[entry.batch.queue].send_nowait(
                Settled(entry.batch.number, tuple(entry.lost))
            )


@attrs.define(eq=False)
class _Alone:
    """Batch whose outcomes are written one by one."""

    batch: OutcomeBatch
    waiting: list[Report] = attrs.field(init=False)
    errors: dict[JobRef, StorageError] = attrs.Factory(dict)
    lost: list[JobRef] = attrs.Factory(list)

    def __attrs_post_init__(self) -> None:
        self.waiting = list(self.batch.reports)

    def lose(self, settler: Settler) -> None:
        """Give up what is not taken in any form: its job is claimed again."""
        for report in self.waiting:
            ref = JobRef(report.job.id, report.job.lease)
            if ref in self.errors:
                settler.lose(report, self.errors[ref])
                self.lost.append(ref)
        self.waiting = [
            report for report in self.waiting if JobRef(report.job.id, report.job.lease) not in self.lost
        ]
