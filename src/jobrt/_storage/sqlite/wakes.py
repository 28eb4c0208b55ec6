"""Wakes in SQLite: immediate for changes by this process, by polling for changes by others."""

from collections.abc import Callable
from typing import Final

import attrs
import trio

from jobrt._storage.contract import Wake
from jobrt._storage.sqlite.database import Database

_POLL: Final = 0.02
_IDLE_POLL: Final = 0.06
_IDLE: Final = 2.0
"""Seconds without a foreign write after which `_IDLE_POLL` replaces `_POLL`, the seconds between checks for one.

A check costs 5 µs, but waking up for it costs some 150 µs in an idle program; so polling takes 0.25 % of a core.
"""


@attrs.frozen
class SqliteWakes:
    """Implementation of `WakeSource`."""

    _database: Database

    async def listen(
        self,
        deliver: Callable[[Wake], None],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        database = self._database
        with database.hub.listening(deliver):
            task_status.started()
            if database.inline:  # no other process can write to it
                await trio.sleep_forever()
            while True:
                idle = trio.current_time() - database.noticed_at > _IDLE
                await trio.sleep(_IDLE_POLL if idle else _POLL)
                database.notice_others()
