"""Arrivals of claims at the executors: when their jobs begin by the storage's clock, and which wait for too long.

No clock, no Trio, no I/O: times are arguments.
"""

from collections import Counter
from collections.abc import Iterable

import attrs

from jobrt._core.job import Claimed
from jobrt._runtime.messages import Batch

WAIT_LIMIT = 0.05
"""Seconds that jobs may wait for a slot. Then they go back, unless the slots have been turning fast meanwhile."""
_TURNING = 4
"""Multiple of the attempts that have ended meanwhile: if no more jobs wait, the slots are turning fast."""
STANDSTILL = 0.02
"""Seconds by which a timer may be late. If it is later, the event loop stood still, and waiting says nothing."""
_KEPT = 64
"""Claims to remember before those of which no job waits are forgotten."""


@attrs.define(eq=False)
class _Arrival:
    """Claim whose jobs have arrived: its time in the database, and when it was received, by Trio's clock.

    ``judged``: when somebody last looked whether its jobs have waited for too long, ``finished``: attempts until then.
    """

    at: int
    received: float
    judged: float
    finished: int


@attrs.define(eq=False)
class Arrivals:
    """The claims whose jobs wait in the inbox of the executors, by lease."""

    _claims: dict[int, _Arrival] = attrs.Factory(dict[int, _Arrival])

    def add(self, batch: Batch, *, inbox: Iterable[Claimed], finished: int) -> None:
        """Note a batch whose jobs come into the `inbox`, when `finished` attempts have ended."""
        if not inbox or len(self._claims) > _KEPT:
            self._keep({job.lease for job in inbox})
        for lease in {job.lease for job in batch.jobs}:
            self._claims[lease] = _Arrival(
                batch.at, batch.received, max(batch.received, batch.sent), finished
            )

    def began(self, job: Claimed, now: float) -> int | None:
        """Return when a job begins that begins `now`, by the storage's clock; None if that was with the claim."""
        arrival = self._claims[job.lease]
        waited = now - arrival.received
        if job.started_at is not None and waited <= WAIT_LIMIT:
            return None
        return arrival.at + int(waited * 1e6)

    def due(self, *jobs: Claimed) -> float:
        """Return when the claim of one of the jobs will have waited for long."""
        return min(self._claims[job.lease].judged for job in jobs) + WAIT_LIMIT

    def late(self, inbox: Iterable[Claimed], now: float, *, finished: int, standstill: bool) -> set[int]:
        """Return the leases of which jobs have waited since their arrival, or last judgement, for too long.

        After a `standstill` of the event loop none has: waiting then says nothing about the slots.
        """
        waiting = Counter(job.lease for job in inbox)
        self._keep(waiting)
        late: set[int] = set()
        for lease, number in waiting.items():
            arrival = self._claims[lease]
            if arrival.judged + WAIT_LIMIT > now:
                continue
            if not standstill and number > _TURNING * (finished - arrival.finished):
                late.add(lease)
            arrival.judged, arrival.finished = now, finished
        return late

    def _keep(self, leases: Iterable[int]) -> None:
        self._claims = {lease: self._claims[lease] for lease in leases}
