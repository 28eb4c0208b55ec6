"""Opening of a SQLite file, or of a database in memory."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from os import PathLike, fspath

from jobrt._storage.apart import Aside
from jobrt._storage.beats import Beats
from jobrt._storage.contract import Storage
from jobrt._storage.sqlite.actions import SqliteActions
from jobrt._storage.sqlite.attempts import SqliteAttempts
from jobrt._storage.sqlite.crons import SqliteCrons
from jobrt._storage.sqlite.database import open_database
from jobrt._storage.sqlite.health import SqliteHealth
from jobrt._storage.sqlite.jobs import SqliteJobs
from jobrt._storage.sqlite.queues import SqliteQueues
from jobrt._storage.sqlite.rows import micros
from jobrt._storage.sqlite.schema import SqliteSchema, check
from jobrt._storage.sqlite.scopes import SqliteScopes
from jobrt._storage.sqlite.streams import SqliteStreams
from jobrt._storage.sqlite.wakes import SqliteWakes
from jobrt._storage.sqlite.workers import SqliteWorkers


@asynccontextmanager
async def open_sqlite(
    path: str | PathLike[str], *, clock: Callable[[], datetime] | None = None, migrate: bool = True
) -> AsyncGenerator[Storage]:
    """Open a file (created if necessary), or ``":memory:"``, and close it when the block ends.

    Args:
        path: the file; its folder must exist.
        clock: replacement for the system's clock; called in the event loop.
        migrate: whether to migrate the tables to this jobrt's schema.

    Raises:
        SchemaError: the file was made by a newer jobrt.
        StorageError: the file cannot be used; the message says why, in one line.

    """
    now = _system_clock if clock is None else partial(_clock_micros, clock)
    async with open_database(fspath(path), now) as database:
        schema = SqliteSchema(database)
        if migrate:
            await schema.migrate()
        beats, aside = Beats(), Aside()
        database.approve = partial(check, place=database.path)
        yield Storage(
            engine="sqlite",
            schema=schema,
            jobs=SqliteJobs(database, aside),
            attempts=SqliteAttempts(database, beats, aside),
            workers=SqliteWorkers(database, beats, aside),
            scopes=SqliteScopes(database, aside),
            queues=SqliteQueues(database),
            crons=SqliteCrons(database),
            streams=SqliteStreams(database),
            actions=SqliteActions(database),
            health=SqliteHealth(database),
            wakes=SqliteWakes(database),
            aside=aside,
            private=database.inline,
        )


def _system_clock() -> int:
    return time.time_ns() // 1000


def _clock_micros(clock: Callable[[], datetime]) -> int:
    return micros(clock())
