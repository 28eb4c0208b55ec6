"""Parked attempts: coroutines that wait without a slot. See ``design/scopes.md``.

To park is to report the outcome `suspended`, while the coroutine stays. When the wait is over, the job comes back by a
claim, as any job does. Then its attempt goes on in the slot that a new one would have got.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import attrs
import trio

from jobrt._core.attempts import Stop, interrupted, suspended
from jobrt._core.job import Claimed, JobRef, Outcome, Wait
from jobrt._core.states import Transition
from jobrt._runtime.messages import Report
from jobrt._runtime.running import FamilyScopes, Running, Waits

_LATER: Final = 1e18
"""A deadline that no attempt reaches, but that `trio.current_effective_deadline` shows."""


class Floor(Protocol):
    """The executors, as the parking sees them: who has a slot, and the way to the fetcher."""

    def give_up(self, attempt: Running, report: Report) -> None: ...
    def occupy(self, attempt: Running) -> None: ...
    def count_in(self) -> None: ...
    def send(self) -> None: ...


@attrs.define(eq=False)
class Parking:
    """The parked attempts of a queue, by the ids of their jobs, and the outcomes of those that have ended.

    An attempt that is cancelled stays until its code has ended. If its job comes back meanwhile, the claim waits: the
    job must not run twice at once.
    """

    _floor: Floor
    outbox: list[Report] = attrs.Factory(list)
    attempts: dict[int, Running] = attrs.Factory(dict)
    _returned: dict[int, Claimed] = attrs.Factory(dict)
    _closed: bool = False

    def __iter__(self) -> Iterator[Running]:
        return iter(tuple(self.attempts.values()))

    @property
    def returned(self) -> tuple[Claimed, ...]:
        """The claims that wait for the end of their jobs' attempts."""
        return tuple(self._returned.values())

    async def park(self, attempt: Running, wait: Wait, *, patience: float) -> None:
        """Implement `Slots.park`."""
        waits = pause(attempt, wait, now=trio.current_time())
        patience = math.inf if not waits.suspends else 0.0 if self._closed else patience
        if patience > 0:
            self._add(attempt, waits)
        try:
            if patience > 0:
                with trio.move_on_after(patience):
                    await waits.goes_on.wait()
            if not waits.goes_on.is_set():
                attempt.cancel(Stop.SUSPENDED, f"waits for {wait.kind} {wait.name}")
                await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            await self._take_slot_back(attempt, waits)
            raise
        finally:
            if waits.parked and not waits.goes_on.is_set():
                self._floor.count_in()

    def _add(self, attempt: Running, waits: Waits) -> None:
        waits.parked = True
        self.attempts[attempt.job.id] = attempt
        outcome = suspended(attempt.job, waits.wait._replace(parked=True))._replace(began=attempt.began)
        self._floor.give_up(attempt, Report(outcome, attempt.job, trio.current_time() - attempt.started))

    async def _take_slot_back(self, attempt: Running, waits: Waits) -> None:
        """Wait for a slot if only a scope within the attempt was cancelled: then its code goes on."""
        # `cut` may be set by a task that is cancelled together with this one.
        await trio.lowlevel.cancel_shielded_checkpoint()
        if not waits.parked or waits.goes_on.is_set() or ends(attempt):
            return
        over = suspended(attempt.job, Wait("", "", parked=True))  # a wait that is over
        self.outbox.append(Report(over, attempt.job, 0.0))
        self._floor.send()
        with shielded(attempt):
            await waits.goes_on.wait()

    def follow_leases(self, refs: Iterable[JobRef]) -> None:
        """Give parked attempts the leases of newer claims of their jobs, which requests to cancel name.

        The replies of these claims have not come, or the jobs wait for a slot. The outcomes are of those leases, too.
        """
        for ref in refs:
            attempt = self.attempts.get(ref.id)
            if attempt is not None and attempt.job.lease < ref.lease:
                continue_under(attempt, attempt.job._replace(lease=ref.lease))

    def let_go_on(self, job: Claimed) -> bool:
        """If a claimed job is parked here, let its attempt go on in the caller's slot; return whether it is."""
        attempt = self.attempts.get(job.id)
        if attempt is None or attempt.waits is None:
            return False
        if attempt.stop is not None or attempt.scope.cancel_called:
            self._returned[job.id] = job
            return True
        del self.attempts[job.id]
        attempt.waits.goes_on.set()
        resume(attempt, job, now=trio.current_time())
        self._floor.occupy(attempt)
        return True

    def end(self, attempt: Running, outcome: Outcome) -> Claimed | None:
        """Note the outcome of an attempt that has ended here; return the claim of its job that came back meanwhile."""
        job = attempt.job
        del self.attempts[job.id]
        back = self._returned.pop(job.id, None)
        if back is None and not attempt.abandoned and not attempt.completed:  # else it would be refused
            report = Report(attempt.told_by(outcome), job, trio.current_time() - attempt.started)
            self.outbox.append(report)
        self._floor.send()
        return back

    def close(self) -> None:
        """Suspend the parked attempts, and those that come: the worker stops."""
        self._closed = True
        for attempt in self:
            if attempt.waits is not None and attempt.waits.suspends:
                attempt.cancel(Stop.SUSPENDED, "the worker stops")

    def abandon(self, reason: str) -> None:
        """Report the attempts as suspended although their code has not ended: the process exits."""
        for attempt in self:
            if not attempt.abandoned:
                attempt.abandoned = True
                outcome = outcome_of_waiting(attempt, interrupted(attempt.job, reason))
                self.outbox.append(Report(outcome, attempt.job, 0.0))
        self._floor.send()


def pause(attempt: Running, wait: Wait, *, now: float) -> Waits:
    """Stop the attempt's time limit, and note what it waits for.

    An attempt under a deadline of its own (`trio.move_on_after`), or in a shield, is not suspended: such a deadline
    ends with the process, and a shield keeps the cancellation away.
    """
    left = attempt.scope.deadline - now
    attempt.scope.deadline = math.inf
    free = trio.current_effective_deadline() == math.inf
    attempt.scope.deadline = _LATER
    seen = trio.current_effective_deadline() == _LATER
    attempt.scope.deadline = math.inf
    attempt.waits = Waits(wait, free and seen, (now, left))
    return attempt.waits


def resume(attempt: Running, job: Claimed, *, now: float) -> None:
    """Let the time limit run again; `job` is the new claim. The time in between does not count as run time."""
    waits = attempt.waits
    assert waits is not None  # noqa: S101 - it has been paused
    since, left = waits.paused
    attempt.started += now - since
    attempt.scope.deadline = now + left
    attempt.waits = None
    if attempt.began is None and attempt.job.started_at is not None:
        attempt.began = round(attempt.job.started_at.timestamp() * 1e6)  # the new claim has another start
    continue_under(attempt, job)


def continue_under(attempt: Running, job: Claimed) -> None:
    """Give an attempt another claim of its job, and remember the lease with which it began."""
    if attempt.first_lease is None:
        attempt.first_lease = attempt.job.lease
    attempt.job = job


def outcome_of_waiting(attempt: Running, outcome: Outcome) -> Outcome:
    """Return the outcome of an attempt that ended while it waited.

    A suspension replaces whatever the job's code did after it. So does the release of a parked job: it still waits.
    """
    waits = attempt.waits
    assert waits is not None  # noqa: S101 - the caller has checked it
    released = waits.parked and outcome.event is Transition.GIVE_BACK
    if attempt.stop is Stop.SUSPENDED or released:
        return suspended(attempt.job, waits.wait)
    return outcome


def ends(attempt: Running) -> bool:
    """Return whether the attempt as a whole was cancelled, and not only a scope within it.

    Call it after a shielded checkpoint: `FamilyScopes.cut` may be set by a task that is cancelled with this one.
    """
    cut = attempt.scopes is not None and attempt.scopes.cut
    return cut or attempt.stop is not None or attempt.scope.cancel_called


@contextmanager
def shielded(attempt: Running) -> Generator[None]:
    """Shield a block from scopes within the attempt; whatever ends the attempt as a whole ends the block."""
    scopes = attempt.scopes = attempt.scopes or FamilyScopes()
    with trio.CancelScope(shield=True) as shield:
        scopes.shields.append(shield)
        try:
            yield
        finally:
            scopes.shields.remove(shield)
