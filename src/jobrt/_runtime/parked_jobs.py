"""Jobs of a rated queue whose attempts are parked in this worker. Claims name them: they go on without a token.

No clock, no Trio, no I/O.
"""

from collections.abc import Iterable
from itertools import islice

import attrs

from jobrt._core.looks import AGAIN, MANY_PARKED
from jobrt._runtime.messages import Report


@attrs.define(eq=False)
class ParkedJobs:
    """Ids of the jobs whose attempts have been parked, and have not ended. Some of them may run again."""

    _ids: dict[int, None] = attrs.Factory(dict[int, None])

    def note(self, reports: Iterable[Report]) -> None:
        """Note outcomes. A job that goes back unstarted is where it was."""
        for outcome, _, _ in reports:
            if outcome.wait is not None and outcome.wait.parked:
                self._ids[outcome.id] = None
            elif outcome.end is not None:
                self._ids.pop(outcome.id, None)

    def forget(self, reports: Iterable[Report]) -> None:
        """Forget jobs whose outcomes were written by their own transactions."""
        if self._ids:
            for outcome, _, _ in reports:
                self._ids.pop(outcome.id, None)

    def named(self) -> tuple[int, ...]:
        """Return the jobs for the next claim to name: `MANY_PARKED` at most, others than the last time."""
        ids = tuple(islice(self._ids, MANY_PARKED))
        if len(ids) < len(self._ids):
            for job_id in ids:
                del self._ids[job_id]
                self._ids[job_id] = None
        return ids

    def next_claim(self, next_due: float | None) -> float | None:
        """Return the seconds until the next claim: `next_due`, or less if there are more jobs than a claim names."""
        if len(self._ids) <= MANY_PARKED:
            return next_due
        return AGAIN if next_due is None else min(next_due, AGAIN)
