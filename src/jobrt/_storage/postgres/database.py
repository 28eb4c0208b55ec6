"""Connections to the database: which one a statement runs on, for how long, and what is tried again.

Three pools, because three kinds of work must not wait for each other and want different planning:

``hot``    what workers do all the time, in few short statements. Where the session is ours alone its settings
           keep each statement on the plan that it was written for, whatever the statistics say.
``lease``  what keeps a worker alive in the eyes of others, and its leadership: one connection, planned as ``hot``.
           However many queues claim, and however slow their claims are, a heartbeat does not queue behind them.
``plain``  what people and jobs do: listings, bulk changes, `AttemptStore.transaction`. Settings are the user's.

Behind a pooler in transaction mode (``listen=False``) the session is nobody's: no settings, no prepared statements.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import psycopg
import trio

from jobrt._storage.postgres.names import Schema, Statement
from jobrt._storage.postgres.rows import Row
from jobrt._storage.postgres.session import PreparedSession, Session
from jobrt._trio_psycopg.pool import Call, Pool
from jobrt.errors import StorageError

if TYPE_CHECKING:
    from jobrt._trio_psycopg import TrioConnection


T = TypeVar("T")

CALL_SECONDS: Final = 30.0
"""Seconds that a worker's call may take: longer than any healthy call, shorter than a lease."""

BULK_SECONDS: Final = 600.0
"""Seconds that a listing or a bulk change may take."""

_RACES: Final = frozenset({"40001", "40P01"})
_TRIES: Final = 4

# A plan is made once and used for ever. One made while the table was small would read it whole, and be kept
# until the statistics are renewed, a minute and a million rows later: so the ways that do not scale are closed.
_SETTINGS: Final = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "default_transaction_isolation": "read committed",
}


@attrs.define(eq=False)
class SessionCall(Call):
    """A session lent for one call."""

    _schema: Schema
    _ours: bool

    async def __aenter__(self) -> Session:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # around what it lends
        conn = await self.begin()
        return (
            PreparedSession(conn, self._schema, conn.prepared) if self._ours else Session(conn, self._schema)
        )


@attrs.define(eq=False)
class Database:
    """The pools of one storage, and the names of its schema."""

    schema: Schema
    hot: Pool
    lease: Pool
    plain: Pool
    listening: bool

    @property
    def channel(self) -> str | None:
        """Return the channel to notify on, or None if nobody can listen."""
        return self.schema.channel if self.listening else None

    async def watch(self) -> None:
        """End calls that exceed their time limit, until cancelled."""
        async with trio.open_nursery() as nursery:
            for pool in (self.hot, self.lease, self.plain):
                nursery.start_soon(pool.watch)

    def session(self, *, seconds: float = CALL_SECONDS, keeping: bool = False) -> SessionCall:
        """Lend a connection for one of a worker's calls; `keeping`: for one that keeps its lease."""
        pool = self.lease if keeping else self.hot
        return SessionCall(pool, seconds, self.schema, self.listening)

    async def bulk(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Do a listing or a bulk change in a transaction, on the connections for people; again if it lost a race."""

        async def run() -> T:
            async with self.plain.call(BULK_SECONDS) as conn, conn.transaction():
                return await work(Session(conn, self.schema))

        return await retried(run)

    async def bulk_run(self, statement: Statement, /, **values: str | None) -> list[Row]:
        """Do as `bulk` with a single statement, and return its rows."""
        return await self.bulk(lambda session: session.run(statement, **values))

    async def fetch(self, name: str, /, **values: str | None) -> list[Row]:
        """Run one statement as a worker's call, and again if it lost a race."""
        return await retried(partial(self._fetch_from, self.hot, name, values))

    async def keep(self, name: str, /, **values: str | None) -> list[Row]:
        """Do as `fetch`, on the connection of what keeps leases."""
        return await retried(partial(self._fetch_from, self.lease, name, values))

    async def _fetch_from(self, pool: Pool, name: str, values: Mapping[str, str | None]) -> list[Row]:
        async with SessionCall(pool, CALL_SECONDS, self.schema, self.listening) as session:
            return await session.run(self.schema.statement(name), **values)


async def retried(call: Callable[[], Awaitable[T]]) -> T:
    """Call, and call again when the database undid it to end a deadlock: it did nothing then."""
    for _ in range(_TRIES - 1):
        try:
            return await call()
        except StorageError as error:
            cause = error.__cause__
            if not (isinstance(cause, psycopg.Error) and cause.sqlstate in _RACES):
                raise
    return await call()


async def _configure(conn: TrioConnection[Any], *, ours: bool) -> None:
    # Said with each BEGIN, so it holds behind a pooler as well, whatever the database's default is.
    await conn.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
    if not ours:
        return
    settings = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in _SETTINGS.items())
    await conn.execute(f"select {settings}".encode())


@asynccontextmanager
async def open_database(
    url: str, *, schema: Schema, listening: bool, pool_size: int
) -> AsyncGenerator[Database]:
    """Make the pools; connections are opened when they are wanted."""
    prepare = 5 if listening else None
    hot_pool = partial(Pool, url, prepare_threshold=prepare, configure=partial(_configure, ours=listening))
    async with (
        hot_pool(max_size=pool_size) as hot,
        hot_pool(max_size=1) as lease,
        # Jobs may hold these as long as they like, so there are more, and one waits for them longer.
        Pool(url, max_size=4 * pool_size, acquire_timeout=60.0, prepare_threshold=prepare) as plain,
    ):
        yield Database(schema, hot, lease, plain, listening)
