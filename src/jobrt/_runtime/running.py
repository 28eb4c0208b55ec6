"""Running attempts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import attrs
import trio

from jobrt._core.attempts import Stop
from jobrt._core.job import Claimed, JobRecord, JobRef, Outcome, Wait
from jobrt._registry import JobDefinition
from jobrt._runtime.services import record_of


class Slots(Protocol):
    """The slots of a queue, which an attempt gives up while it waits."""

    async def park(self, attempt: Running, wait: Wait, *, patience: float) -> None:
        """Give the slot to others until the wait is over and a slot comes back.

        After `patience` seconds, and when the worker stops, the attempt is suspended: its scope is cancelled.
        """
        ...


@attrs.define(eq=False)
class Waits:
    """Waiting of an attempt: for what, and the event that is set when it has a slot again; see `Slots.park`.

    ``suspends``: whether the wait may end by a suspension. ``paused``: when the wait began, by Trio's clock, and
    the seconds that were left then until the attempt's deadline.
    """

    wait: Wait
    suspends: bool
    paused: tuple[float, float]
    parked: bool = False
    goes_on: trio.Event = attrs.Factory(trio.Event)


@attrs.define(eq=False)
class FamilyScopes:
    """Cancel scopes of an attempt's nurseries.

    ``bodies``: those of the open blocks, by the nursery's name. ``shields``: those in which the attempt waits for its
    children although a scope around it is cancelled; whatever ends the attempt ends these, too. ``cut``: the executors
    are being cancelled.
    """

    bodies: dict[str, trio.CancelScope] = attrs.Factory(dict)
    shields: list[trio.CancelScope] = attrs.Factory(list)
    cut: bool = False

    def end_shields(self) -> None:
        """Cancel the waits that are shielded."""
        for shield in self.shields:
            shield.cancel()


@attrs.define(eq=False)
class Running:
    """Running attempt: its job, its cancel scope, and why it was cancelled, if it was.

    While the attempt runs, the scope belongs to it alone. If the scope was not cancelled, the executor uses it again
    for the next attempt.
    """

    job: Claimed
    definition: JobDefinition
    scope: trio.CancelScope
    started: float
    task: trio.lowlevel.Task
    began: int | None = None
    """When it began, in microseconds by the storage's clock; None if that was with the claim."""
    slots: Slots | None = None
    stop: Stop | None = None
    stopped_at: float | None = None
    reason: str = ""
    limited: bool = False
    """A deadline was set."""
    completed: bool = False
    """Its own transaction has written the outcome."""
    abandoned: bool = False
    """The process is about to exit, and the attempt was already reported as interrupted."""
    over: float | None = None
    thread: int | None = None
    """Identifier of the thread that runs the job's code, if it does not run in the event loop."""
    waits: Waits | None = None
    """What it waits for, while it is parked or being suspended."""
    scopes: FamilyScopes | None = None
    """Its open nurseries, if it has any."""
    unwritten: Callable[[], Awaitable[None]] | None = None
    """Writes what the attempt has said and may not have written; None if it has said nothing."""
    first_lease: int | None = None
    """Lease with which it began, if it has gone on under another one since."""
    _record: JobRecord | None = attrs.field(default=None, init=False)

    @property
    def record(self) -> JobRecord:
        """The public record of the job, as it was when it was first asked for."""
        if self._record is None:
            self._record = record_of(self.job, self.began)
        return self._record

    @property
    def ref(self) -> JobRef:
        """The claim, for fenced writes. Most attempts need none."""
        return JobRef(self.job.id, self.job.lease)

    def has_held(self, ref: JobRef) -> bool:
        """Whether this attempt runs under a claim, or did before it was parked. Leases grow."""
        first = self.job.lease if self.first_lease is None else self.first_lease
        return self.job.id == ref.id and first <= ref.lease <= self.job.lease

    def told_by(self, outcome: Outcome) -> Outcome:
        """Return an outcome with what the attempt knows: when it began, and whether it was parked."""
        began = self.began if outcome.began is None else outcome.began
        return outcome._replace(
            began=began, was_parked=self.waits is not None or self.first_lease is not None
        )

    async def write_last(self) -> None:
        """Write, after the attempt and before its outcome, what it has said; that takes two seconds at most."""
        unwritten, self.unwritten = (
            self.unwritten,
            None,
        )  # else this and `Saves` would keep each other in memory
        if unwritten is not None:
            await unwritten()

    @property
    def cancelled(self) -> bool:
        """Whether the scope was cancelled. The scope is asked only if necessary, because that reads the clock."""
        return (self.limited or self.stop is not None) and self.scope.cancel_called

    def cancel(self, stop: Stop, reason: str) -> bool:
        """Cancel the attempt; return whether this was the first cancellation, whose reason is the one recorded.

        After the end of the attempt this does nothing: the scope may belong to another attempt by then.
        """
        if self.stop is not None or self.over is not None:
            return False
        self.stop, self.reason, self.stopped_at = stop, reason, trio.current_time()
        self.scope.cancel(reason=reason or stop.value)
        if self.scopes is not None:
            self.scopes.end_shields()
        return True


@attrs.frozen(kw_only=True)
class ExecutorsStatistics:
    """Snapshot of the executors of a queue.

    ``waiting``: claimed jobs that have not started. ``finished``: ended attempts. ``names``: the number of running
    attempts of each job. ``durations``: the number of ended attempts of each job, and the sum of their seconds.
    """

    concurrency: int
    running: tuple[Running, ...]
    waiting: int
    finished: int
    names: Mapping[str, int]
    durations: Mapping[str, tuple[int, float]]
