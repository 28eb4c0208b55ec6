"""Actions of operators in SQLite."""

from functools import partial

import attrs

from jobrt._core.actions import ACTIONS_KEPT, Action, NewAction, Subject
from jobrt._storage.sqlite.database import Database
from jobrt._storage.sqlite.rows import moment
from jobrt._storage.sqlite.transaction import SQL, Transaction


@attrs.frozen
class SqliteActions:
    """Implementation of `ActionStore`."""

    _database: Database

    async def record(self, action: NewAction) -> None:
        await self._database.write(partial(_record, action=action))

    async def newest(
        self, *, limit: int, subject: Subject | None = None, name: str | None = None
    ) -> tuple[Action, ...]:
        return await self._database.read(partial(_newest, limit=limit, subject=subject, name=name))


def _record(tx: Transaction, *, action: NewAction) -> None:
    tx.run(SQL["actions/record"], {"now": tx.now, **attrs.asdict(action)})
    tx.run(SQL["actions/record_trim"], {"kept": ACTIONS_KEPT})


def _newest(tx: Transaction, *, limit: int, subject: str | None, name: str | None) -> tuple[Action, ...]:
    found = tx.array(SQL["actions/newest"], {"limit": limit, "subject": subject, "name": name})
    return tuple(Action(number, moment(at), *texts) for number, at, *texts in found)
