"""Write how attempts ended, in batches, until it is written."""

from __future__ import annotations

import math
import random
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import attrs
import trio

from jobrt._core.attempts import unstarted, unwritable
from jobrt._core.job import JobRef
from jobrt._core.retry import default_delay
from jobrt._core.states import EXECUTING_TO, End
from jobrt._runtime.flag import Flag
from jobrt.errors import StorageError, StorageUnavailable
from jobrt.events import EventBus, JobEnded, OutcomeLost, OutcomeRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from jobrt._core.job import Claimed, Outcome
    from jobrt._runtime.outage import Backoff
    from jobrt._storage.contract import Storage

__all__ = ["Completer", "Report"]

_WINDOW = 0.005
"""Seconds between flushes, in which outcomes gather; at load fetchers take them along long before."""
_BATCH = 500


class Report(NamedTuple):
    """An attempt's outcome on its way to the database; ``seconds`` is how long `run` took."""

    outcome: Outcome
    job: Claimed
    seconds: float


@attrs.define(eq=False)
class Completer:
    """Collect outcomes and flush them: at once, or 5 ms after the last flush, or when there are 500; one at a time.

    A fetcher that is about to claim takes them along instead (`take`, then `settled` or `put_back`). Nothing
    is dropped: while the storage is away outcomes stay here, and `crowded` tells the fetchers to claim no more.

    When the storage refuses a batch with an error, each outcome is written `alone`, so that the one at fault holds up
    no other. That one is written as a failed attempt. If even that is refused while others are taken, it is let go:
    nothing else would ever end it, and the worker could not stop. While *nothing* is taken it is the storage that
    is ill, and all of them wait.
    """

    storage: Storage
    emit: EventBus
    backoff: Backoff
    announce: Callable[[str, float], None]
    let_go: Callable[[Claimed], None]
    pending: list[Report] = attrs.Factory(list)
    in_flight: list[Sequence[Report]] = attrs.Factory(list)
    landed: int = 0
    refused: int = 0
    _wake: Flag = attrs.Factory(Flag)
    _quiet: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)
    most: int = 10_000
    alone: bool = False
    """A batch was refused, and nobody knows for the sake of which outcome."""

    def add(self, report: Report) -> None:
        """Take over the outcome of an attempt."""
        self.pending.append(report)
        if len(self.pending) == 1 or len(self.pending) == _BATCH:
            self._wake.set()

    def written(self, report: Report) -> None:
        """Note an outcome that the job's own transaction has written."""
        self.landed += 1
        if self.emit.subscribers:
            self._tell(report, landed=True)

    def give_back(self, job: Claimed) -> None:
        """Take over a claimed job that nobody has begun."""
        self.add(Report(unstarted(job), job, 0.0))

    @property
    def crowded(self) -> bool:
        """Say whether so many outcomes wait that no more jobs should be claimed."""
        return len(self.pending) >= self.most

    def known(self) -> list[JobRef]:
        """Name the claims whose outcome is not settled yet."""
        reports = chain(self.pending, *self.in_flight)
        return [JobRef(one.job.id, one.job.lease) for one in reports]

    def take(self, most: int = 2 * _BATCH) -> list[Report]:
        """Hand out the oldest outcomes for one attempt to write them; none while they are to be written alone."""
        return [] if self.alone else self._take(most)

    def _take(self, most: int) -> list[Report]:
        reports, self.pending = self.pending[:most], self.pending[most:]
        if reports:
            self.in_flight.append(reports)
        return reports

    def put_back(self, reports: Sequence[Report]) -> None:
        """Take back outcomes of which nobody knows whether they were written."""
        self._arrived(reports)
        self.pending[:0] = reports
        self._wake.set()

    def settled(self, reports: Sequence[Report], refused: Iterable[JobRef]) -> None:
        """Note that outcomes were written, or refused because the lease was lost."""
        self._arrived(reports)
        for one in reports:
            if one.outcome.delay:  # a retry or a snooze: nobody else knows when the queue has a job due again
                self.announce(one.job.queue, one.outcome.delay)
        lost = set(refused)
        self.refused += len(lost)
        self.landed += len(reports) - len(lost)
        told = lost or self.emit.subscribers
        for one in reports if told else [one for one in reports if one.outcome.end is not End.FINISHED]:
            self._tell(one, landed=JobRef(one.job.id, one.job.lease) not in lost)

    def _arrived(self, reports: Sequence[Report]) -> None:
        self.in_flight = [batch for batch in self.in_flight if batch is not reports]
        if not self.pending and not self.in_flight:
            self._quiet.unpark_all()

    def _tell(self, report: Report, *, landed: bool) -> None:
        outcome, job, seconds = report
        end = outcome.end
        if end is None:
            return
        if not landed:
            self.emit(OutcomeRefused(job.id, job.name, job.lease, end))
            end = End.LEASE_LOST
        emit = self.emit.routine if end is End.FINISHED else self.emit
        emit(
            JobEnded(
                job.id,
                job.name,
                job.queue,
                job.attempt,
                end,
                EXECUTING_TO[outcome.event],
                seconds,
                outcome.error_type,
                outcome.message,
            )
        )

    def rejected(self, reports: Sequence[Report]) -> None:
        """Take back outcomes that the storage does not take together."""
        self.alone = True
        self.put_back(reports)

    async def flush(self) -> None:
        """Write what is pending now; on an outage put it back and wait a little."""
        try:
            if self.alone:
                await self._flush_alone()
            else:
                await self._flush(self._take(2 * _BATCH))
        except StorageUnavailable as error:
            await self.backoff.wait(error)

    async def _flush(self, reports: list[Report]) -> None:
        if not reports:
            return
        try:
            refused = await self.storage.finish([one.outcome for one in reports])
        except StorageUnavailable:
            self.put_back(reports)
            raise
        except StorageError:
            self.rejected(reports)
        except BaseException:
            self.put_back(reports)
            raise
        else:
            self.backoff.reset()
            self.settled(reports, refused)

    async def _flush_alone(self) -> None:
        """Write each pending outcome by itself, and settle what is to become of those that cannot be."""
        before = self.landed + self.refused
        stuck: list[tuple[list[Report], StorageError]] = []
        try:
            for _ in range(len(self.pending)):
                # None is left if another task, one in `drain`, took them while this one wrote.
                if batch := self._take(1):
                    problem = await self._write_alone(batch)
                    if problem is not None:
                        stuck.append((batch, problem))
        except BaseException:
            self._put_back_all(stuck)
            raise
        if stuck and self.landed + self.refused == before:
            self._put_back_all(stuck)
            raise stuck[0][1]
        self.alone = False
        for batch, problem in stuck:
            self._lose(batch, problem)

    def _put_back_all(self, stuck: list[tuple[list[Report], StorageError]]) -> None:
        for batch, _ in reversed(stuck):
            self.put_back(batch)

    async def _write_alone(self, batch: list[Report]) -> StorageError | None:
        """Write one outcome, else that it could not be written; return the error if neither is possible."""
        ((outcome, job, seconds),) = batch
        problem: StorageError | None = None
        for _ in range(2):
            try:
                refused = await self.storage.finish([outcome])
            except BaseException as error:
                if isinstance(error, StorageUnavailable) or not isinstance(error, StorageError):
                    self.put_back(batch)
                    raise
                problem = error
                delay = default_delay(job.attempt, chance=random.random).total_seconds()
                outcome = unwritable(outcome, job, error=error, delay=delay)
            else:
                self._arrived(batch)
                self.settled([Report(outcome, job, seconds)], refused)
                return None
        return problem

    def _lose(self, batch: list[Report], problem: StorageError) -> None:
        """Tell that an outcome is lost, and let its job be claimed again."""
        self._arrived(batch)
        for outcome, job, _ in batch:
            self.emit(OutcomeLost(job.id, job.name, job.lease, outcome.end, str(problem)))
            self.let_go(job)

    async def drain(self) -> None:
        """Wait until every outcome is settled, whoever writes it."""
        while self.pending or self.in_flight:
            if self.pending:
                await self.flush()
            else:
                await self._quiet.park()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Flush what no fetcher takes along."""
        task_status.started()
        flushed = -math.inf
        while True:
            if not self.pending:
                await self._wake.wait()
            # A checkpoint at least: the fetcher that has just got a free slot comes first, and takes them along.
            await trio.sleep_until(flushed + _WINDOW if len(self.pending) < _BATCH else -math.inf)
            flushed = trio.current_time()
            try:
                await self.flush()
            except StorageError as error:  # it takes nothing at all; the next outcome may be another matter
                await self.backoff.wait(error)
