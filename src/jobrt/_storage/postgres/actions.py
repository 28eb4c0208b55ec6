"""Actions of operators in PostgreSQL."""

from datetime import UTC

import attrs

from jobrt._core.actions import ACTIONS_KEPT, Action, NewAction, Subject
from jobrt._storage.postgres.database import Database


@attrs.frozen
class PostgresActions:
    """Implementation of `ActionStore`."""

    _database: Database

    async def record(self, action: NewAction) -> None:
        await self._database.fetch("actions/record", **attrs.asdict(action), kept=str(ACTIONS_KEPT))

    async def newest(
        self, *, limit: int, subject: Subject | None = None, name: str | None = None
    ) -> tuple[Action, ...]:
        given = {"subject": subject, "name": name}
        wanted = {key: value for key, value in given.items() if value is not None}
        about = " and ".join(f"a.{key} = :{key}" for key in wanted) or "true"
        statement = self._database.schema.statement("actions/newest", about=about)
        rows = await self._database.look(statement, **wanted, limit=str(limit))
        return tuple(Action(id, at.replace(tzinfo=UTC), *texts) for id, at, *texts in rows)
