"""What a database tells about itself and about the limits of a queue, for people who ask why nothing runs."""

from collections import Counter
from collections.abc import Mapping

import attrs

from jobrt._core.rates import Bucket


@attrs.frozen(kw_only=True)
class Vitals:
    """State of a database and its disk; sizes are in bytes, None if unknown.

    ``wal`` is the size of SQLite's write-ahead log. ``encoding`` is that of a database that cannot store every text.
    """

    disk_free: int | None = None
    disk_total: int | None = None
    wal: int | None = None
    encoding: str | None = None


@attrs.frozen
class QueueLoad:
    """Jobs of a queue by name and by the key of its limit: those that run, and a sample of those that are due.

    ``buckets`` has the tokens of the keys in the sample, and those of the queue itself under None. Their times are
    relative to now, in microseconds.
    """

    running: Mapping[tuple[str, str], int] = attrs.Factory(dict)
    due: Mapping[tuple[str, str], int] = attrs.Factory(dict)
    buckets: Mapping[str | None, Bucket] = attrs.Factory(dict)

    def running_names(self) -> Counter[str]:
        """Return the number of running jobs of each name."""
        return self._count(0)

    def running_keys(self) -> Counter[str]:
        """Return the number of running jobs of each key."""
        return self._count(1)

    def _count(self, part: int) -> Counter[str]:
        found = Counter[str]()
        for pair, number in self.running.items():
            found[pair[part]] += number
        return found
