"""What jobs did, counted by the hour."""

from datetime import datetime

import attrs


@attrs.frozen(kw_only=True)
class Bucket:
    """How many jobs of one name did what in one hour (UTC).

    ``failed`` counts attempts, the rest jobs. ``seconds`` is the run time of completed jobs in all;
    ``histogram[i]`` counts those of less than 0.001 * 4**i seconds (twelve buckets, the last takes the rest).
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
