"""Decide how many jobs of which names a worker may claim now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobrt._core.queues import Queue

__all__ = ["Demand", "demand"]


@attrs.frozen
class Demand:
    """What one claim asks for.

    ``limit`` jobs at most from ``queue``, in order of priority (higher first), due time, id: any number
    of the ``names``, and of each name in ``capped`` at most its number. ``names`` excludes the capped ones.
    """

    worker: str
    queue: str
    limit: int
    names: tuple[str, ...]
    capped: tuple[tuple[str, int], ...] = ()
    cluster_limit: int | None = None
    key: str | None = None
    per_key: int | None = None

    @property
    def empty(self) -> bool:
        """Say whether there is nothing to ask for."""
        return self.limit < 1 or not (self.names or self.capped)

    @property
    def clustered(self) -> bool:
        """Say whether a limit over all workers holds, so that claims must take turns."""
        return self.cluster_limit is not None or self.per_key is not None


def demand(
    worker: str,
    queue: str,
    *,
    settings: Queue,
    room: int,
    names: tuple[str, ...],
    free: Mapping[str, int],
) -> Demand:
    """Return what to ask for when there is `room` for so many jobs.

    Args:
        worker: who claims.
        queue: where from.
        settings: the queue's limits over the cluster.
        room: jobs that can be taken over now, prefetch included.
        names: names without a limit of their own.
        free: for each name with a MAX_CONCURRENCY, how many more may be claimed (below one: none).

    """
    capped = tuple((name, min(count, room)) for name, count in free.items() if count > 0)
    return Demand(
        worker,
        queue,
        max(room, 0),
        names,
        capped if room > 0 else (),
        cluster_limit=settings.cluster_limit,
        key=settings.key,
        per_key=settings.per_key,
    )
