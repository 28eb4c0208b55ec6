"""Parked attempts: coroutines that wait without a slot. See ``design/scopes.md``.

To park is to report the outcome `suspended`, while the coroutine stays. When the wait is over, the job comes back by a
claim, as any job does. Then its attempt goes on in the slot that a new one would have got.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Final

import attrs
import trio

from jobrt._core.attempts import Stop, suspended
from jobrt._core.job import Claimed, Outcome, Wait
from jobrt._core.states import Transition
from jobrt._runtime.running import FamilyScopes, Running, Waits

_LATER: Final = 1e18
"""A deadline that no attempt reaches, but that `trio.current_effective_deadline` shows."""


@attrs.define(eq=False)
class Parking:
    """The parked attempts of a queue, by the ids of their jobs; state only, without tasks.

    ``closed``: the worker stops, so nobody waits here any more. An attempt that is cancelled stays until its code has
    ended. If its job comes back meanwhile, the claim waits in ``returned``: the job must not run twice at once.
    """

    closed: bool = False
    attempts: dict[int, Running] = attrs.Factory(dict)
    _returned: dict[int, Claimed] = attrs.Factory(dict)

    def __iter__(self) -> Iterator[Running]:
        return iter(tuple(self.attempts.values()))

    def add(self, attempt: Running) -> Outcome:
        """Add an attempt and return the outcome that parks its job."""
        assert attempt.waits is not None  # noqa: S101 - `pause` has set it
        attempt.waits.parked = True
        self.attempts[attempt.job.id] = attempt
        return suspended(attempt.job, attempt.waits.wait._replace(parked=True))

    def give_up_wait(self, attempt: Running) -> Outcome:
        """Return the outcome that makes a parked job available: its code is to go on although the wait is not over."""
        return suspended(attempt.job, Wait("", "", parked=True))

    def take(self, job: Claimed) -> Running | None:
        """Return the attempt that goes on with this claim of its job; None if the job is parked, but must not go on."""
        attempt = self.attempts[job.id]
        if attempt.stop is not None or attempt.scope.cancel_called:
            self._returned[job.id] = job
            return None
        del self.attempts[job.id]
        return attempt

    def remove(self, attempt: Running) -> Claimed | None:
        """Remove an attempt that has ended, and return the claim of its job that came back meanwhile."""
        del self.attempts[attempt.job.id]
        return self._returned.pop(attempt.job.id, None)

    @property
    def returned(self) -> tuple[Claimed, ...]:
        """The claims that wait for the end of their jobs' attempts."""
        return tuple(self._returned.values())


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
