"""Totals of the hourly counts in the database: for an hour, a day, a month and all time."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import attrs

from jobrt._core.stats import Bucket

ALL_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""A time before the first count."""

_FIRST: Final = 0.001
_GROWTH: Final = 4.0
"""Bucket ``i`` of a histogram holds run times of less than 0.001 * 4**i seconds; see `Bucket`."""


@attrs.frozen(kw_only=True)
class Counts:
    """Counts of a period. ``failed`` counts attempts; the others count jobs. ``dead`` counts discarded jobs.

    ``seconds`` is the total run time of the completed jobs. ``histogram[i]`` counts those that took less than
    0.001 * 4**i seconds and do not belong to an earlier bucket. The last bucket counts all longer ones.
    """

    enqueued: int = 0
    completed: int = 0
    failed: int = 0
    dead: int = 0
    cancelled: int = 0
    seconds: float = 0.0
    histogram: tuple[int, ...] = ()

    @property
    def mean(self) -> float | None:
        """Mean run time of a completed job in seconds; None without completed jobs."""
        return self.seconds / self.completed if self.completed else None

    def quantile(self, part: float) -> float | None:
        """Return a run time in seconds that at least `part` of the completed jobs did not exceed; 0.5 is the median.

        It is the upper edge of a bucket of the histogram, so up to four times too high; ``math.inf`` for the last
        bucket. Without completed jobs it is None.

        Raises:
            ValueError: `part` is not above 0 and at most 1.

        """
        if not 0 < part <= 1:
            raise ValueError(f"quantile({part!r}): use a part above 0 and at most 1")
        needed, seen = part * sum(self.histogram), 0
        for index, count in enumerate(self.histogram):
            seen += count
            if count and seen >= needed:
                return math.inf if index == len(self.histogram) - 1 else _FIRST * _GROWTH**index
        return None


@attrs.frozen(kw_only=True)
class JobTotals:
    """Counts of the jobs of one name in one queue; hours, days and months are in UTC."""

    queue: str
    name: str
    hour: Counts = Counts()
    day: Counts = Counts()
    month: Counts = Counts()
    all_time: Counts = Counts()


def add_up(buckets: Iterable[Bucket], *, now: datetime) -> list[JobTotals]:
    """Return the totals at `now` (an aware datetime), sorted by queue and name."""
    groups: dict[tuple[str, str], list[Bucket]] = {}
    for bucket in buckets:
        groups.setdefault((bucket.queue, bucket.name), []).append(bucket)
    hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    month = day.replace(day=1)
    return [
        JobTotals(
            queue=queue,
            name=name,
            hour=_sum(bucket for bucket in group if bucket.hour >= hour),
            day=_sum(bucket for bucket in group if bucket.hour >= day),
            month=_sum(bucket for bucket in group if bucket.hour >= month),
            all_time=_sum(group),
        )
        for (queue, name), group in sorted(groups.items())
    ]


def _sum(buckets: Iterable[Bucket]) -> Counts:
    found = list(buckets)
    names = ("enqueued", "completed", "failed", "dead", "cancelled", "seconds")
    return Counts(
        **{name: sum(getattr(bucket, name) for bucket in found) for name in names},
        histogram=tuple(
            map(sum, zip(*(bucket.histogram for bucket in found if bucket.histogram), strict=True))
        ),
    )
