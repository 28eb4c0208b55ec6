"""Outcomes on their way to the database: where they wait, and what follows when they were written."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import trio

from jobrt._core.job import JobRef
from jobrt._core.states import EXECUTING_TO, End
from jobrt._runtime.channels import Wakeup
from jobrt._runtime.messages import Due, OutcomeBatch, Settled
from jobrt.events import EventBus, JobEnded, OutcomeLost, OutcomeRefused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from jobrt._runtime.messages import Report


WRITE_LIMIT = 1000
"""Outcomes that one write takes along; a batch that begins below it is taken whole."""


@attrs.define(eq=False)
class Outcomes:
    """Batches of outcomes that nobody is writing yet: a memory channel that whoever writes next receives from.

    A fetcher that claims takes them along; the completer writes what no fetcher takes. The channel has no limit,
    since the end of a job that has run must not wait for room: fetchers stop claiming instead (`Ledger.crowded`).
    """

    arrived: Wakeup = attrs.Factory(Wakeup)
    _send: trio.MemorySendChannel[OutcomeBatch] = attrs.field(init=False)
    _receive: trio.MemoryReceiveChannel[OutcomeBatch] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[OutcomeBatch](math.inf)

    def put(self, batch: OutcomeBatch) -> None:
        """Have a batch written, now or after an outage."""
        self._send.send_nowait(batch)
        self.arrived.ring()

    @property
    def empty(self) -> bool:
        """Whether no outcome waits."""
        return not self._receive.statistics().current_buffer_used

    def take(self) -> list[OutcomeBatch]:
        """Receive about as many outcomes as one write should take; the writer settles them or puts them back."""
        batches: list[OutcomeBatch] = []
        count = 0
        try:
            while count < WRITE_LIMIT:
                batch = self._receive.receive_nowait()
                batches.append(batch)
                count += len(batch.reports)
        except trio.WouldBlock:
            pass
        return batches


@attrs.define(eq=False)
class Settler:
    """What one writer does about outcomes that it has written: events, due times, news for the queues' fetchers.

    ``landed`` and ``refused`` count this writer's outcomes.
    """

    emit: EventBus
    due: trio.MemorySendChannel[Due]
    settled: Mapping[str, trio.MemorySendChannel[Settled]]
    landed: int = 0
    refused: int = 0

    def settle(self, batches: Iterable[OutcomeBatch], refused: Collection[JobRef]) -> None:
        """Note that batches were written, all but the refused outcomes."""
        for batch in batches:
            self.note(batch.reports, refused)
            self.settled[batch.queue].send_nowait(Settled(batch.number))

    def note(self, reports: Sequence[Report], refused: Collection[JobRef] = ()) -> None:
        """Count and report outcomes that were written, or refused because the lease was lost."""
        own = {JobRef(report.job.id, report.job.lease) for report in reports} if refused else set[JobRef]()
        lost = own.intersection(refused)
        self.refused += len(lost)
        self.landed += len(reports) - len(lost)
        unusual = [report for report in reports if report.outcome.end is not End.FINISHED]
        for report in reports if lost or self.emit.subscribers else unusual:
            self._tell(report, landed=not lost or JobRef(report.job.id, report.job.lease) not in lost)
        # A retry or a snooze: nobody else knows when the queue has a job due again. The first one is enough.
        delays = [report.outcome.delay for report in unusual if report.outcome.delay]
        if delays:
            self.announce(reports[0].job.queue, min(delays))

    def lose(self, report: Report, error: Exception) -> None:
        """Report an outcome that cannot be written."""
        outcome, job, _ = report
        self.emit(OutcomeLost(job.id, job.name, job.lease, outcome.end, str(error)))

    def announce(self, queue: str, seconds: float) -> None:
        """Tell the scheduler when a job of the queue falls due."""
        try:
            self.due.send_nowait(Due(queue, seconds))
        except (
            trio.WouldBlock
        ):  # it is down; polling finds the job, and its next incarnation wakes every queue
            return

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
