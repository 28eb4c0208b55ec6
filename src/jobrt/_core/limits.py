"""Decide how many jobs of which names a worker may claim now, and which of those that are due."""

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

import attrs

from jobrt._core.queues import Queue
from jobrt._core.where import canonical


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
        """Return whether the claim asks for nothing."""
        return self.limit < 1 or not (self.names or self.capped)

    @property
    def clustered(self) -> bool:
        """Return whether a limit over all workers holds, so that claims must take turns."""
        return self.cluster_limit is not None or self.per_key is not None


def demand(
    worker: str, queue: str, *, settings: Queue, room: int, names: tuple[str, ...], free: Mapping[str, int]
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


class Room:
    """What one claim may still take: in all, of each capped name, and of each key.

    `running` is the number of the queue's running jobs by key. Only limits over the cluster count them.
    """

    def __init__(self, demand: Demand, running: Mapping[str, int] | None = None) -> None:
        self.left = demand.limit
        self._names = demand.names
        self._caps = dict(demand.capped)
        self._per_key = demand.per_key
        self._running = Counter(running)
        if demand.cluster_limit is not None:
            self.left = max(min(self.left, demand.cluster_limit - self._running.total()), 0)

    @property
    def chooses(self) -> bool:
        """Return whether a due job may have to be passed over although there is room left."""
        return bool(self._caps) or self._per_key is not None

    @property
    def names(self) -> tuple[str, ...]:
        """The names that may still be taken."""
        return self._names + tuple(name for name, cap in self._caps.items() if cap > 0)

    @property
    def full_keys(self) -> list[str]:
        """The keys of which nothing more may be taken."""
        limit = self._per_key
        return [] if limit is None else [key for key, number in self._running.items() if number >= limit]

    def take(self, name: str, key: str) -> bool:
        """Count a due job in if there is room for it; say whether there was."""
        if self.left < 1 or self._caps.get(name, 1) < 1:
            return False
        if self._per_key is not None:
            if self._running[key] >= self._per_key:
                return False
            self._running[key] += 1
        if name in self._caps:
            self._caps[name] -= 1
        self.left -= 1
        return True


def limit_key(path: str | None, name: str, *, args: str, metadata: str) -> str:
    """Return what a job is counted by: text in which equal values are equal.

    A field that is missing counts as null, and so does every field of what is no JSON.
    """
    root, _, field = (path or "name").partition(".")
    if root == "name":
        return name
    found: Any = None
    with suppress(ValueError):
        found = json.loads(args if root == "args" else metadata)
    for step in field.split("."):
        found = cast("dict[str, Any]", found).get(step) if isinstance(found, dict) else None
    return canonical(found)
