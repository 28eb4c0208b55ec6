"""End the attempts of dead workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from jobrt._storage.contract import Rescued
from jobrt._storage.postgres.encode import numbers
from jobrt.errors import StorageError, StorageUnavailable

if TYPE_CHECKING:
    from jobrt._storage.postgres.database import Database

__all__ = ["Rescuer"]

_MESSAGE: Final = "the worker died, or was cut off from the database for longer than its lease"
_MOST_REFUSED: Final = 10_000


@attrs.define(eq=False)
class Rescuer:
    """Rescue in batches; remember which jobs the database would not let go, so that they are tried last."""

    database: Database
    _refused: set[int] = attrs.field(init=False, factory=set)

    async def rescue(self, limit: int) -> tuple[Rescued, ...]:
        """Rescue at most `limit` jobs and forget dead workers that have none left."""
        done: list[Rescued] = []
        while len(done) < limit:
            room = limit - len(done)
            rows = await self.database.fetch("rescue_find", but=numbers(self._refused), limit=str(room))
            ids = [row[0] for row in rows]
            done += await self._end(ids)
            if len(ids) < room:
                break
        if not done:
            self._refused.clear()  # whatever was wrong with them may have been put right
        await self.database.fetch("rescue_clean")
        return tuple(done)

    async def _end(self, ids: list[int]) -> list[Rescued]:
        """End a batch; if the database refuses it, each half by itself, down to the job that is at fault."""
        if not ids:
            return []
        try:
            rows = await self.database.fetch("rescue_end", ids=numbers(ids), message=_MESSAGE)
        except StorageUnavailable:
            raise
        except StorageError:
            if len(ids) > 1:
                half = len(ids) // 2
                return [*await self._end(ids[:half]), *await self._end(ids[half:])]
            if len(self._refused) < _MOST_REFUSED:
                self._refused.update(ids)
            return []
        return [Rescued(*row) for row in rows]
