"""Statistics of jobs by the hour, and by shorter slots."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

import attrs


@attrs.frozen(kw_only=True)
class Bucket:
    """Numbers for the jobs of one name in one queue and one hour (UTC).

    ``failed`` counts attempts, the others count jobs. ``seconds`` is the total run time of completed jobs.
    ``histogram[i]`` counts the completed jobs that ran less than 0.001 * 4**i seconds, and not less than the bucket
    before. There are twelve buckets; the last has no upper bound.
    """

    hour: datetime
    queue: str
    name: str
    enqueued: int = 0
    completed: int = 0
    failed: int = 0
    dead: int = 0
    cancelled: int = 0
    seconds: float = 0.0
    histogram: tuple[int, ...] = ()


class Numbers(NamedTuple):
    """Numbers for jobs that ended. They are flat, so that many of them are added up quickly.

    ``failed`` counts attempts, the others count jobs. ``seconds`` and ``histogram`` are run times of completed jobs, as
    in `Bucket`. ``waited`` and ``waits`` are the same for the time from when a job was due until its last attempt
    began.
    """

    completed: int
    failed: int
    dead: int
    cancelled: int
    seconds: float
    waited: float
    histogram: tuple[int, ...]
    waits: tuple[int, ...]


NO_CLASSES: Final = (0,) * 12
NOTHING: Final = Numbers(0, 0, 0, 0, 0.0, 0.0, NO_CLASSES, NO_CLASSES)


def total(several: Sequence[Numbers]) -> Numbers:
    """Return the sum."""
    if len(several) < 2:  # noqa: PLR2004 - one needs no adding
        return several[0] if several else NOTHING
    completed, failed, dead, cancelled, seconds, waited, histograms, waits = zip(*several, strict=True)
    return Numbers(
        completed=sum(completed),
        failed=sum(failed),
        dead=sum(dead),
        cancelled=sum(cancelled),
        seconds=sum(seconds),
        waited=sum(waited),
        histogram=tuple(map(sum, zip(*histograms, strict=True))),
        waits=tuple(map(sum, zip(*waits, strict=True))),
    )


@attrs.frozen
class Slot:
    """What ended within a slot of time: the jobs of one name in one queue."""

    start: datetime
    queue: str
    name: str
    numbers: Numbers


@attrs.frozen
class Ended:
    """What ended in a range of time, by slot, queue and name; ``more`` if only a part of it was counted."""

    slots: tuple[Slot, ...]
    more: bool
