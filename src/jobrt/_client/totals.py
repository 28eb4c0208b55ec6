"""Add up what the database counted by the hour: per hour, day, month and in all time, with run times."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jobrt._core.stats import Bucket

__all__ = ["ALL_TIME", "Counts", "JobTotals", "add_up"]

ALL_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Before anything was counted."""

_FIRST: Final = 0.001
_GROWTH: Final = 4.0
"""A histogram's bucket ``i`` holds run times of less than 0.001 * 4**i seconds, as `Bucket` says."""


@attrs.frozen(kw_only=True)
class Counts:
    """What happened in some time. ``failed`` counts attempts, the rest jobs; ``dead`` ones were discarded.

    ``seconds`` is the run time of the completed jobs in all; ``histogram[i]`` counts those that took less than
    0.001 * 4**i seconds, and the last everything above.
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
        """Return the seconds that a completed job took on average; None if there is none."""
        return self.seconds / self.completed if self.completed else None

    def quantile(self, part: float) -> float | None:
        """Return seconds that at least this part of the completed jobs stayed below (0.5: half of them).

        The histogram is coarse: it is the upper edge of a bucket, up to four times too much, and ``math.inf``
        for the last one. None if there is none.

        Raises:
            ValueError: `part` is not above 0 and at most 1.

        """
        if not 0 < part <= 1:
            msg = f"quantile({part!r}): give a part above 0 and at most 1"
            raise ValueError(msg)
        wanted, seen = part * sum(self.histogram), 0
        for number, count in enumerate(self.histogram):
            seen += count
            if count and seen >= wanted:
                return math.inf if number == len(self.histogram) - 1 else _FIRST * _GROWTH**number
        return None


@attrs.frozen(kw_only=True)
class JobTotals:
    """What was counted for the jobs of one name in one queue; hours, days and months are UTC's."""

    queue: str
    name: str
    hour: Counts = Counts()
    day: Counts = Counts()
    month: Counts = Counts()
    all_time: Counts = Counts()


def add_up(buckets: Iterable[Bucket], *, now: datetime) -> list[JobTotals]:
    """Return totals of hourly counts, by queue and name; `now` (aware) says which hour, day and month it is."""
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
            hour=_sum(one for one in group if one.hour >= hour),
            day=_sum(one for one in group if one.hour >= day),
            month=_sum(one for one in group if one.hour >= month),
            all_time=_sum(group),
        )
        for (queue, name), group in sorted(groups.items())
    ]


def _sum(buckets: Iterable[Bucket]) -> Counts:
    there = list(buckets)
    return Counts(
        enqueued=sum(one.enqueued for one in there),
        completed=sum(one.completed for one in there),
        failed=sum(one.failed for one in there),
        dead=sum(one.dead for one in there),
        cancelled=sum(one.cancelled for one in there),
        seconds=sum(one.seconds for one in there),
        histogram=_added([one.histogram for one in there if one.histogram]),
    )


def _added(histograms: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*histograms, strict=True)))
