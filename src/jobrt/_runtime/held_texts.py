"""Large texts of the jobs that a queue's fetcher has claimed. Their size bounds how many such jobs are held at once.

No clock, no Trio, no I/O.
"""

from collections.abc import Iterable

import attrs

from jobrt._core.job import Claimed, JobRef
from jobrt._core.limits import HELD_CHARACTERS, LARGE_TEXTS


@attrs.define(eq=False)
class HeldTexts:
    """Sizes of the held jobs that have large texts. Others are too many to be counted, and too small to matter."""

    total: int = 0
    _sizes: dict[tuple[int, int], int] = attrs.Factory(dict[tuple[int, int], int])

    def add(self, jobs: Iterable[Claimed]) -> None:
        """Count jobs that were claimed."""
        for job in jobs:
            if len(job.args) + len(job.metadata) > LARGE_TEXTS or job.kept:
                texts = (job.args, job.metadata, job.context, job.saved, job.progress)
                size = sum(len(text) for text in texts if text is not None)
                self._sizes[job.id, job.lease] = size
                self.total += size

    def remove(self, jobs: Iterable[Claimed | JobRef]) -> None:
        """Count jobs no more, which may have small texts."""
        if self._sizes:
            for job in jobs:
                self.total -= self._sizes.pop((job.id, job.lease), 0)

    @property
    def full(self) -> bool:
        """Whether no more jobs should be claimed."""
        return self.total >= HELD_CHARACTERS
