"""Statistics of jobs by the hour."""

from datetime import datetime

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
