"""Outcomes to be written to the database: the channel in which they wait, and the work after a write."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress

import attrs
import trio

from jobrt._core.job import JobRef
from jobrt._core.states import EXECUTING_TO, End
from jobrt._runtime.channels import Wakeup
from jobrt._runtime.messages import Due, OutcomeBatch, Report, Settled
from jobrt._runtime.tally import Tally
from jobrt.events import EventBus, JobEnded, OutcomeLost, OutcomeRefused

WRITE_LIMIT = 1000
"""Number of outcomes from which on a write takes no further batch."""


@attrs.define(eq=False)
class Outcomes:
    """Memory channel of outcome batches that wait for the next writer: a claiming fetcher or the completer.

    The channel is unbounded, because an ended job must not wait for room. Instead fetchers stop claiming
    (`Ledger.crowded`).
    """

    arrived: Wakeup = attrs.Factory(Wakeup)
    _send: trio.MemorySendChannel[OutcomeBatch] = attrs.field(init=False)
    _receive: trio.MemoryReceiveChannel[OutcomeBatch] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[OutcomeBatch](math.inf)

    def put(self, batch: OutcomeBatch) -> None:
        """Add a batch to be written."""
        self._send.send_nowait(batch)
        self.arrived.ring()

    @property
    def empty(self) -> bool:
        """Whether no outcome is waiting."""
        return not self._receive.statistics().current_buffer_used

    def take(self) -> list[OutcomeBatch]:
        """Receive batches for one write; the writer settles them or puts them back."""
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
    """Follow-up of one writer's writes: events, due times, `Settled` messages, and counts of outcomes."""

    emit: EventBus
    due: trio.MemorySendChannel[Due]
    settled: Mapping[str, trio.MemorySendChannel[Settled]]
    tally: Tally = attrs.Factory(Tally)
    landed: int = 0
    refused: int = 0

    def settle(self, batches: Iterable[OutcomeBatch], refused: Collection[JobRef]) -> None:
        """Note that batches were written, all but the refused outcomes."""
        for batch in batches:
            self.note(batch.reports, refused)
            self.settled[batch.queue].send_nowait(Settled(batch.number))

    def note(self, reports: Sequence[Report], refused: Collection[JobRef] = ()) -> None:
        """Count and report outcomes that were written, or refused because the lease was lost."""
        own = {report.ref for report in reports} if refused else set()
        lost = own.intersection(refused)
        self.refused += len(lost)
        self.landed += len(reports) - len(lost)
        if self.tally.on:
            self.tally.note(reports, lost)
        unusual = [report for report in reports if report.outcome.end is not End.FINISHED]
        for report in reports if lost or self.emit.subscribers else unusual:
            self._emit_end(report, landed=not lost or report.ref not in lost)
        # The scheduler cannot know otherwise when a retried or snoozed job becomes due. The earliest time is enough.
        delays = [report.outcome.delay for report in unusual if report.outcome.delay]
        if delays:
            self.announce(reports[0].job.queue, min(delays))

    def lose(self, report: Report, error: Exception) -> None:
        """Report an outcome that cannot be written."""
        outcome, job, _ = report
        self.emit(OutcomeLost(job.id, job.name, job.lease, outcome.end, str(error)))

    def announce(self, queue: str, seconds: float) -> None:
        """Send the scheduler the time at which a job of the queue becomes due."""
        with suppress(trio.WouldBlock):  # the scheduler is down: polling finds the job
            self.due.send_nowait(Due(queue, seconds))

    def _emit_end(self, report: Report, *, landed: bool) -> None:
        outcome, job, seconds = report
        end = outcome.end
        if end is None or (outcome.wait is not None and outcome.wait.parked):
            return  # the attempt has not ended
        if not landed:
            self.emit(OutcomeRefused(job.id, job.name, job.lease, end))
            end = End.LEASE_LOST
        emit = self.emit.routine if end is End.FINISHED else self.emit
        state, error, text = EXECUTING_TO[outcome.event], outcome.error_type, outcome.message
        trace, raised = outcome.traceback, outcome.exception
        emit(
            JobEnded(
                job.id, job.name, job.queue, job.attempt, end, state, seconds, error, text, trace, raised
            )
        )
