"""Actor that writes the outcomes that no fetcher writes along with a claim."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import attrs
import trio

from jobrt._core.attempts import unwritable
from jobrt._core.job import JobRef
from jobrt._core.retry import default_delay
from jobrt._core.text import in_one_line
from jobrt._runtime.messages import OutcomeBatch, Report, Settled
from jobrt._runtime.outage import Backoff
from jobrt._runtime.outcomes import Outcomes, Settler
from jobrt._storage.contract import AttemptStore
from jobrt.errors import StorageError, StorageUnavailable

_WINDOW = 0.005
"""Seconds between writes, in which outcomes gather. Under load fetchers write them with their claims long before."""


@attrs.define(eq=False, kw_only=True)
class Completer:
    """Actor that writes outcomes immediately, or 5 ms after its last write; one write at a time.

    No outcome is dropped. While the storage is unavailable, they stay here and in the channel, and fetchers stop
    claiming.

    When the storage refuses a batch, with whatever error, each outcome is written separately, so that one delays no
    other. An outcome that is refused again is written as a failed attempt. If that is also refused while others are
    written, it is lost: otherwise the job would never end and the worker could not stop. If *nothing* is written, the
    storage is the cause, and all outcomes wait.

    At a stop ``outcomes.arrived`` is closed; ``ended`` is set when everything is written.
    """

    attempts: AttemptStore
    outcomes: Outcomes
    rejected: trio.MemoryReceiveChannel[OutcomeBatch]
    settler: Settler
    written: Callable[[], int]
    """Returns the number of outcomes that all writers of the worker have settled."""
    backoff: Backoff
    ended: trio.Event = attrs.Factory(trio.Event)
    _batches: list[OutcomeBatch] = attrs.Factory(list)
    _separate: list[_RejectedBatch] = attrs.Factory(list)
    _written_before: int | None = None
    _wrote_at: float = -math.inf
    _problem: Exception | None = None
    _refusing: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write the outcomes that no fetcher writes, until cancelled."""
        task_status.started()
        try:
            while True:
                await self._write_all()
                await self.outcomes.arrived.wait()
        except trio.EndOfChannel:
            await self._write_all()
            self.ended.set()
            await trio.sleep_forever()

    async def wait_refused(self) -> StorageError:
        """Wait until the storage refuses every outcome, and return the error."""
        while self._problem is None:
            await self._refusing.park()
        if isinstance(self._problem, StorageError):
            return self._problem
        error = StorageError(f"no outcome can be written: {in_one_line(self._problem)}")
        error.__cause__ = self._problem
        return error

    async def _write_all(self) -> None:
        """Write until no outcome is waiting."""
        while True:
            self._receive_rejected()
            if not self._batches and not self._separate and self.outcomes.empty:
                return
            # At least a checkpoint, so that a fetcher with a free slot runs first and writes them with its claim.
            await trio.sleep_until(self._wrote_at + _WINDOW)
            self._batches = self._batches or self.outcomes.take()
            if not self._batches and not self._separate:
                continue
            try:
                await self._write_batches()
                await self._write_separately()
            except StorageUnavailable as error:
                await self.backoff.wait(error)
            except _Refused as refused:  # the storage refuses everything; a later outcome may be accepted
                self._problem = refused.error
                self._refusing.unpark_all()
                await self.backoff.wait(refused.error)
            else:
                self._problem = None
            self._wrote_at = trio.current_time()

    def _receive_rejected(self) -> None:
        try:
            while True:
                self._separate.append(_RejectedBatch(self.rejected.receive_nowait()))
        except trio.WouldBlock:
            return

    async def _write_batches(self) -> None:
        """Write the current batches together."""
        batches = self._batches
        if not batches:
            return
        outcomes = [report.outcome for batch in batches for report in batch.reports]
        try:
            refused = await self.attempts.finish(outcomes)
        except StorageUnavailable:
            raise
        except Exception:  # noqa: BLE001 - one outcome may be the cause; it shows when they are written separately
            self._batches = []
            self._separate += map(_RejectedBatch, batches)
            return
        self._batches = []
        self.backoff.reset()
        self.settler.settle(batches, refused)

    async def _write_separately(self) -> None:
        """Write each outcome of refused batches separately; discard those that cannot be written."""
        if not self._separate:
            return
        if self._written_before is None:
            self._written_before = self.written()
        problem: Exception | None = None
        for entry in list(self._separate):
            problem = await self._write_each(entry) or problem
            self._settle_if_done(entry)
        if problem is None:
            self._written_before = None
            return
        if self.written() == self._written_before:
            raise _Refused(problem)
        for entry in list(self._separate):
            entry.lose(self.settler)
            self._settle_if_done(entry)

    async def _write_each(self, entry: _RejectedBatch) -> Exception | None:
        """Write the outcomes of a batch separately; return an error if one is refused in any form."""
        problem: Exception | None = None
        for report in list(entry.waiting):
            error = await self._write_report(report)
            if error is None:
                entry.waiting.remove(report)
            else:
                entry.errors[report.ref] = problem = error
        return problem

    async def _write_report(self, report: Report) -> Exception | None:
        """Write an outcome, or a failed attempt if the outcome is refused; return the error if both are refused."""
        outcome, job, seconds = report
        problem: Exception | None = None
        for _ in range(2):
            try:
                refused = await self.attempts.finish([outcome])
            except StorageUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - the driver's or a bug's: this outcome cannot be written
                problem = error
                delay = default_delay(job.attempt, chance=random.random).total_seconds()
                outcome = unwritable(outcome, job, error=error, delay=delay)
            else:
                self.backoff.reset()
                self.settler.note([Report(outcome, job, seconds)], refused)
                return None
        return problem

    def _settle_if_done(self, entry: _RejectedBatch) -> None:
        if not entry.waiting:
            self._separate.remove(entry)
            self.settler.settled[entry.batch.queue].send_nowait(
                Settled(entry.batch.number, tuple(entry.lost))
            )


class _Refused(Exception):
    """Raised when no outcome can be written, in any form."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@attrs.define(eq=False)
class _RejectedBatch:
    """Batch whose outcomes are written separately."""

    batch: OutcomeBatch
    waiting: list[Report] = attrs.field(init=False)
    errors: dict[JobRef, Exception] = attrs.Factory(dict)
    lost: list[JobRef] = attrs.Factory(list)

    def __attrs_post_init__(self) -> None:
        self.waiting = list(self.batch.reports)

    def lose(self, settler: Settler) -> None:
        """Discard the outcomes that are refused in any form; their jobs are claimed again."""
        for report in [report for report in self.waiting if report.ref in self.errors]:
            settler.lose(report, self.errors[report.ref])
            self.lost.append(report.ref)
            self.waiting.remove(report)
