"""Claim under limits over the cluster, exactly: claims of a queue take turns, and each counts what runs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import attrs

from jobrt._storage.postgres.encode import numbers, texts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from jobrt._core.limits import Demand
    from jobrt._storage.postgres.rows import Row
    from jobrt._storage.postgres.session import Session

__all__ = ["choose", "take", "take_turn"]

_ABOVE_ALL: Final = 1 << 40
"""More than any priority."""

_PAGE: Final = 100
"""Candidates to look at in one go, at least."""


async def take_turn(session: Session, demand: Demand) -> None:
    """Wait until no other claim of this queue is under way; until the end of the transaction."""
    await session.fetch("cluster_lock", name=f"{session.schema.name} {demand.queue}")


async def choose(session: Session, demand: Demand) -> list[int]:
    """Return the ids of due jobs that may run now, in order, at most ``demand.limit``."""
    root, _, path = (demand.key or "").partition(".")
    rows = await session.fetch(
        "cluster_running", queue=demand.queue, root=root, path=texts(path.split(".")) if path else None
    )
    running: Counter[str] = Counter(dict(rows))
    limit = demand.limit
    if demand.cluster_limit is not None:
        limit = min(limit, demand.cluster_limit - running.total())
    chooser = _Chooser(limit, running, demand.per_key, dict(demand.capped))
    after: Row = (_ABOVE_ALL, "-infinity", 0)
    while chooser.room > 0:
        page = max(_PAGE, 2 * chooser.room)
        rows = await session.fetch(
            "cluster_candidates",
            queue=demand.queue,
            root=root,
            path=texts(path.split(".")) if path else None,
            names=texts(chooser.names(demand)),
            full=texts(chooser.full()),
            priority=str(after[0]),
            at=after[1],
            id=str(after[2]),
            limit=str(page),
        )
        for id, name, key, *place in rows:
            chooser.offer(id, name, key)
            after = tuple(place)
        if len(rows) < page:
            break
    return chooser.chosen


@attrs.define
class _Chooser:
    """Take jobs in order while there is room for them: in all, for their key, for their name."""

    limit: int
    running: Counter[str]
    per_key: int | None
    caps: dict[str, int]
    chosen: list[int] = attrs.field(init=False, factory=list)

    @property
    def room(self) -> int:
        return self.limit - len(self.chosen)

    def names(self, demand: Demand) -> list[str]:
        return [*demand.names, *(name for name, left in self.caps.items() if left > 0)]

    def full(self) -> list[str]:
        most = self.per_key
        return [] if most is None else [key for key, number in self.running.items() if number >= most]

    def offer(self, id: int, name: str, key: str) -> None:
        if self.room <= 0 or self.caps.get(name, 1) <= 0:
            return
        if self.per_key is not None and self.running[key] >= self.per_key:
            return
        self.chosen.append(id)
        self.running[key] += 1
        if name in self.caps:
            self.caps[name] -= 1


async def take(session: Session, demand: Demand, *, ids: Sequence[int], now: datetime) -> list[Row]:
    """Claim these jobs, as started now, and return their rows."""
    return await session.fetch(
        "cluster_take", ids=numbers(ids), worker=demand.worker, queue=demand.queue, now=now.isoformat()
    )
