"""Enforcement of MAX_CONCURRENCY over all queues of a worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs

from jobrt._core.job import Claimed
from jobrt._core.limits import Demand


@attrs.define(eq=False)
class NameLimits:
    """Slots of each job name that has a MAX_CONCURRENCY; its ``aliases`` share them.

    The methods are synchronous. Between check and reservation there is no checkpoint, so the limit is exact over all
    queues of the worker. Each queue's fetcher writes its own row.
    """

    limits: Mapping[str, int]
    aliases: Mapping[str, str] = attrs.Factory(dict)
    rows: list[QueueNames] = attrs.Factory(list)

    def limited(self, jobs: Iterable[Claimed]) -> Iterator[str]:
        """Yield the limited name of each job that has one."""
        for job in jobs:
            name = self.aliases.get(job.name, job.name)
            if name in self.limits:
                yield name

    def row(self, wake: Callable[[], None]) -> QueueNames:
        """Add the row of a queue; `wake` is called when a name that its last claim left out has a free slot."""
        self.rows.append(QueueNames(self, wake))
        return self.rows[-1]

    def free(self) -> dict[str, int]:
        """Return how many more jobs of each limited name may be claimed."""
        held = self._held()
        return {name: limit - held[name] for name, limit in self.limits.items()}

    def _held(self) -> Counter[str]:
        held: Counter[str] = Counter()
        for row in self.rows:
            held.update(row.held)
            held.update(row.reserved)
        return held

    def freed(self, names: Iterable[str]) -> None:
        """Wake the queues whose last claim left out one of these names, if it has a free slot now."""
        held = self._held()
        free = {name for name in names if held[name] < self.limits[name]}
        for row in self.rows if free else ():
            if not free.isdisjoint(row.left_out):
                row.wake()


@attrs.define(eq=False)
class QueueNames:
    """Counts of one queue by limited name: jobs that it holds, and jobs that its running claims may return.

    ``left_out`` has the names of which the database may have more jobs. The last claim could not ask for such a name,
    or received as many jobs as it had asked for.
    """

    limits: NameLimits
    wake: Callable[[], None]
    held: Counter[str] = attrs.Factory(Counter[str])
    reserved: Counter[str] = attrs.Factory(Counter[str])
    left_out: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.limits.limits)

    def reserve(self, demand: Demand) -> None:
        """Reserve the slots of a claim while it runs, so that no other queue asks for them."""
        self.reserved.update(dict(demand.capped))

    def release(self, demand: Demand) -> None:
        """Release the reservation of a claim that has ended; `take` counts its jobs."""
        if demand.capped:
            self.reserved.subtract(dict(demand.capped))
            self.limits.freed([name for name, _ in demand.capped])

    def take(self, jobs: Iterable[Claimed]) -> None:
        """Count jobs that were claimed."""
        self.held.update(self.limits.limited(jobs))

    def give(self, jobs: Iterable[Claimed]) -> bool:
        """Free the slots of jobs that the executors returned; return whether there were any."""
        names = Counter(self.limits.limited(jobs))
        if names:
            self.held.subtract(names)
            self.limits.freed(names)
        return bool(names)

    def reset(self, jobs: Iterable[Claimed]) -> None:
        """Replace the counts: `jobs` are all jobs that the queue holds."""
        self.held.clear()
        self.take(jobs)
        self.limits.freed(self.limits.limits)

    def note_claim(self, demand: Demand, jobs: Iterable[Claimed] = ()) -> bool:
        """Update `left_out` for a claim and its jobs; return whether `left_out` has any names."""
        if not self:
            return False
        counts = Counter(self.limits.limited(jobs))
        room = {name for name, limit in demand.capped if counts[name] < limit}
        self.left_out = frozenset(self.limits.limits.keys() - room)
        return bool(self.left_out)
