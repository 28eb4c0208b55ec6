"""What is due for scopes: members to end, waits and deadlines whose time has come."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import attrs

from jobrt._core.scopes import Tended
from jobrt._storage.apart import Aside, of_a_row
from jobrt._storage.postgres.encode import numbers
from jobrt._storage.postgres.session import Session, Transact


class _Done(NamedTuple):
    """What a change did: jobs seen, whether workers are to be told, and queues with jobs that are due now."""

    seen: int
    told: bool
    queues: Sequence[str] = ()


_Change: TypeAlias = Callable[[Session, Sequence[int]], Awaitable[_Done]]


class _Apply(Protocol):
    """How a change is made: in the transaction of all, or apart."""

    async def __call__(self, change: _Change, ids: Sequence[int], /) -> list[_Done]: ...


async def tend(transact: Transact, aside: Aside, *, limit: int) -> tuple[Tended, set[str], bool]:
    """Do what is due; see `ScopeStore.tend`.

    Returns also the queues with jobs that are due now, and whether workers are to be told. Everything is in one
    transaction; if that fails, each change is in one of its own, and made apart.
    """

    async def together(session: Session) -> tuple[Tended, set[str], bool]:
        async def apply(change: _Change, ids: Sequence[int]) -> list[_Done]:
            return [await change(session, ids)]

        return await _Round(session.lend, apply, limit, aside).run()

    async def apply_apart(change: _Change, ids: Sequence[int]) -> list[_Done]:
        return await aside.apart("tend", ids, lambda part: transact(lambda session: change(session, part)))

    try:
        return await transact(together)
    except Exception as error:
        if not of_a_row(error):
            raise
    return await _Round(transact, apply_apart, limit, aside).run()


@attrs.define
class _Round:
    look: Transact
    apply: _Apply
    limit: int
    aside: Aside
    changed: int = 0
    told: bool = False
    queues: set[str] = attrs.field(factory=set[str])

    async def run(self) -> tuple[Tended, set[str], bool]:
        left, ending = await self._next_due()
        locked = False
        if ending:
            ending, locked = await self._end_members()
        if left is not None and left <= 0:
            await self._end_late()
            ending = True  # look again
            left, _ = await self._next_due()
        more = self.changed > 0 and (ending or self.changed >= self.limit)
        return Tended(self.changed, more, 0.0 if locked else left), self.queues, self.told

    async def _next_due(self) -> tuple[float | None, bool]:
        but = numbers(self.aside.but("tend"))
        ((left, ending),) = await self.look(lambda session: session.fetch("scopes/next_due", but=but))
        return left, ending

    async def _end_members(self) -> tuple[bool, bool]:
        """End members; return whether any was ended, and whether others have some of them locked."""
        ids = [job_id for (job_id,) in await self._find("scopes/tend_members")]
        if ids:
            await self._make(_end_members, ids)
        return self.changed > 0, self.changed < len(ids)

    async def _end_late(self) -> None:
        due = await self._find("scopes/tend_due")
        for kind, change in _LATE.items():
            ids = [job_id for what, job_id in due if what == kind]
            if ids:
                await self._make(change, ids)

    async def _find(self, name: str) -> list[tuple[Any, ...]]:
        values = {"but": numbers(self.aside.but("tend")), "limit": str(self.limit)}
        return await self.look(lambda session: session.fetch(name, **values))

    async def _make(self, change: _Change, ids: Sequence[int]) -> None:
        for done in await self.apply(change, ids):
            self.changed += done.seen
            self.told = self.told or done.told
            self.queues.update(done.queues)


async def _end_members(session: Session, ids: Sequence[int]) -> _Done:
    rows = await session.fetch("scopes/tend_end", ids=numbers(ids))
    return _Done(len(rows), any(held for held, _ in rows))


async def _end_waits(session: Session, ids: Sequence[int]) -> _Done:
    ((seen, queues),) = await session.fetch("scopes/tend_waits", ids=numbers(ids))
    return _Done(seen, told=False, queues=queues)


async def _end_nurseries(session: Session, ids: Sequence[int]) -> _Done:
    rows = await session.fetch("scopes/tend_nurseries", ids=numbers(ids))
    return _Done(len(rows), any(ends for ends, _ in rows), [queue for _, queue in rows if queue is not None])


async def _end_jobs(session: Session, ids: Sequence[int]) -> _Done:
    ((seen, held),) = await session.fetch("scopes/tend_expire", ids=numbers(ids))
    return _Done(seen, held > 0)


_LATE: dict[str, _Change] = {"wait": _end_waits, "nursery": _end_nurseries, "job": _end_jobs}
