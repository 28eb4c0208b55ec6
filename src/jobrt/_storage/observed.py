"""The part of `JobStore` for people who watch: questions with a bounded cost, whatever the number of jobs."""

from datetime import datetime
from typing import Protocol

from jobrt._core.search import Needle, Search
from jobrt._core.stats import Ended
from jobrt._core.where import Where


class ObservedJobs(Protocol):
    """Jobs as an observer sees them."""

    async def ended(
        self, since: datetime, until: datetime, *, step: int, limit: int, deleted: bool = False
    ) -> Ended:
        """Return what ended from `since` on and before `until`, by slots of `step` seconds since 1970.

        At most `limit` final jobs are counted, and at most so many failed attempts; ``more`` says that there are more.
        So the cost is bounded. With `deleted` the counts of deleted jobs are added, for the hours that begin in the
        range: use steps of an hour. Their waits are not known.
        """
        ...

    async def search(
        self, where: Where, needle: Needle, *, scan: int, limit: int, after: int | None = None
    ) -> Search:
        """Return the newest jobs that match and have a text in their name, payload or errors.

        At most `scan` jobs that match are looked at, from the one `after` on, and at most `limit` are returned.
        """
        ...
