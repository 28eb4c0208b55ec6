"""Jobs that the database refuses to change in the background: they are set aside, and the others go on."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias, TypeVar

import attrs
import trio

from jobrt.errors import SchemaError, StorageUnavailable

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

Doing: TypeAlias = Literal["claim", "rescue", "tend", "prune", "release", "start"]

RETRY: Final = 60.0
"""Seconds after which a job that was set aside is tried again: the cause may have been removed."""

_MOST: Final = 10_000
"""Jobs that are remembered for each kind of work, and news that are kept until somebody takes them."""


class Refused(NamedTuple):
    """Job whose change the database has refused, while the changes of others were made."""

    id: int
    doing: Doing
    error: str


@attrs.define(eq=False)
class Aside:
    """Memory of the jobs that one storage has set aside. `but` names those that are not to be tried now."""

    retry: float = RETRY
    _until: dict[Doing, dict[int, float]] = attrs.field(factory=dict["Doing", dict[int, float]], init=False)
    _news: deque[Refused] = attrs.field(factory=lambda: deque[Refused](maxlen=_MOST), init=False)

    def but(self, doing: Doing) -> list[int]:
        """Return the jobs to leave out."""
        known = self._until.get(doing)
        if not known:
            return []
        now = trio.current_time()
        self._until[doing] = {job_id: until for job_id, until in known.items() if until > now}
        return sorted(self._until[doing])

    def put(self, refused: Iterable[Refused]) -> None:
        """Set jobs aside."""
        until = trio.current_time() + self.retry
        for one in refused:
            known = self._until.setdefault(one.doing, {})
            if len(known) < _MOST:
                known[one.id] = until
            self._news.append(one)

    def take(self) -> tuple[Refused, ...]:
        """Return what was set aside since the last call."""
        news = tuple(self._news)
        self._news.clear()
        return news

    async def apart(
        self, doing: Doing, ids: Sequence[int], work: Callable[[Sequence[int]], Awaitable[ResultT]]
    ) -> list[ResultT]:
        """Work on jobs in one transaction; if it fails, on each half separately, down to the job that is the cause.

        Returns the results of the transactions. The jobs that are the cause are set aside.
        """
        return await apart(ids, work, lambda id, error: self.put([Refused(id, doing, str(error))]))


async def apart(
    ids: Sequence[int],
    work: Callable[[Sequence[int]], Awaitable[ResultT]],
    refuse: Callable[[int, Exception], object],
) -> list[ResultT]:
    """Work on jobs in one transaction; if it fails, on each half separately, down to the job that is the cause.

    Returns the results of the transactions. `refuse` is called for each job that is the cause.
    """
    if not ids:
        return []
    try:
        return [await work(ids)]
    except Exception as error:
        if not of_a_row(error):
            raise
        if len(ids) == 1:
            refuse(ids[0], error)
            return []
    return [result for part in halves(ids) for result in await apart(part, work, refuse)]


def of_a_row(error: Exception) -> bool:
    """Return whether a single row may be the cause of an error, and not the database, its tables or rights."""
    if isinstance(error, StorageUnavailable | SchemaError):
        return False
    state = getattr(error.__cause__, "sqlstate", None) or ""
    return not state.startswith("42")  # syntax, names and rights, by the standard of SQL


def halves(ids: Sequence[ItemT]) -> tuple[Sequence[ItemT], Sequence[ItemT]]:
    """Return both halves of several items."""
    middle = len(ids) // 2
    return ids[:middle], ids[middle:]
