"""The part of `JobStore` for people who watch: questions with a bounded cost, whatever the number of jobs."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from jobrt._core.search import Needle, Search
from jobrt._core.states import State
from jobrt._core.stats import Ended
from jobrt._core.where import Where


class ObservedJobs(Protocol):
    """Jobs as an observer sees them."""

    async def count_each(self, wheres: Sequence[Where], *, limit: int) -> tuple[int, ...]:
        """Return how many jobs match each of these filters, at most `limit` of each, in one call."""
        ...

    async def ended(
        self, since: datetime, until: datetime, *, step: int, limit: int, deleted: bool = False
    ) -> Ended:
        """Return what ended from `since` on and before `until`, by slots of `step` seconds since 1970.

        At most `limit` final jobs are counted, and at most so many failed attempts; ``more`` says that there are more.
        So the cost is bounded. With `deleted` the counts of deleted jobs are added, for the hours that begin in the
        range: use steps of an hour. Their waits are not known.
        """
        ...

    async def finished(
        self,
        where: Where,
        states: Collection[State],
        *,
        limit: int,
        after: int | None = None,
        newest: bool = True,
    ) -> tuple[int, ...]:
        """Return the ids of the jobs that match and are in some of these final states, by when they ended.

        Ids break ties in the same direction. ``after`` continues after the job with that id. What is read for a filter
        on states and names depends on the number of names alone.
        """
        ...

    async def search(
        self, where: Where, needle: Needle, *, scan: int, limit: int, after: int | None = None
    ) -> Search:
        """Return the newest jobs that match and have a text in their name, payload or errors.

        At most `scan` jobs that match are looked at, from the one `after` on, and at most `limit` are returned.
        """
        ...
