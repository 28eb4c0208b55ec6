"""The part of `JobStore` for people who watch: questions with a bounded cost, whatever the number of jobs."""

from datetime import datetime
from typing import Protocol

from jobrt._core.stats import Ended


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
