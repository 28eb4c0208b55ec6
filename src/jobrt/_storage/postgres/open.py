"""Opening of a PostgreSQL database."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from jobrt._storage.apart import Aside
from jobrt._storage.beats import Beats
from jobrt._storage.contract import Storage
from jobrt._storage.postgres.actions import PostgresActions
from jobrt._storage.postgres.attempts import PostgresAttempts
from jobrt._storage.postgres.crons import PostgresCrons
from jobrt._storage.postgres.database import open_database
from jobrt._storage.postgres.health import PostgresHealth
from jobrt._storage.postgres.jobs import PostgresJobs
from jobrt._storage.postgres.names import Schema
from jobrt._storage.postgres.queues import PostgresQueues
from jobrt._storage.postgres.schema import PostgresSchema
from jobrt._storage.postgres.scopes import PostgresScopes
from jobrt._storage.postgres.streams import PostgresStreams
from jobrt._storage.postgres.waker import Waker
from jobrt._storage.postgres.wakes import PostgresWakes
from jobrt._storage.postgres.workers import PostgresWorkers


@asynccontextmanager
async def open_postgres(
    url: str, *, schema: str = "jobrt", listen: bool = True, pool_size: int = 4
) -> AsyncGenerator[Storage]:
    """Open a storage in a PostgreSQL database; its connections are opened when they are needed.

    Args:
        url: a URL or conninfo, as libpq takes it.
        schema: the schema for the tables; `SchemaStore.migrate` creates it.
        listen: whether sessions are dedicated, so that LISTEN and prepared statements work; False behind a pooler
            in transaction mode.
        pool_size: connections for workers' calls. Listings, and jobs that use `AttemptStore.transaction`, have up to
            four times as many; heartbeats and listening have one each.

    Raises:
        StorageError: the schema's name or the URL is invalid.

    """
    async with open_database(url, schema=Schema(schema), listening=listen, pool_size=pool_size) as database:
        waker, beats, aside = Waker(database), Beats(), Aside()
        raised: BaseException | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waker.run)
            nursery.start_soon(database.watch)
            try:
                yield Storage(
                    engine="postgres",
                    schema=PostgresSchema(database),
                    jobs=PostgresJobs(database, waker, aside, beats),
                    attempts=PostgresAttempts(database, waker, beats, aside),
                    workers=PostgresWorkers(database, waker, beats, aside),
                    scopes=PostgresScopes(database, waker, aside),
                    queues=PostgresQueues(database, waker),
                    crons=PostgresCrons(database, waker),
                    streams=PostgresStreams(database, waker),
                    actions=PostgresActions(database),
                    health=PostgresHealth(database),
                    wakes=PostgresWakes(database, url, waker.watermarks),
                    aside=aside,
                )
            except BaseException as error:  # noqa: BLE001 - raised again below: a nursery would wrap it in a group
                raised = error
            nursery.cancel_scope.cancel()
        if raised is not None:
            raise raised
