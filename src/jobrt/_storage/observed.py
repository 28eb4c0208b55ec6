"""The part of `JobStore` for people who watch: questions with a bounded cost, whatever the number of jobs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from jobrt._core.search import Needle
from jobrt._core.stats import Ended
from jobrt._core.walks import Look, Place, Walk
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

    async def look(
        self,
        where: Where,
        walk: Walk,
        *,
        scan: int,
        limit: int,
        after: Place | None = None,
        needle: Needle | None = None,
    ) -> Look:
        """Return the first jobs of a walk that match a filter, and have a text, behind a place.

        About `scan` jobs are looked at, and at most `limit` are returned. `walk` is that of the filter
        (`jobrt._core.walks`). A place of a walk by time has the time.
        """
        ...
