"""Connection pools, time limits of calls, and retries after deadlocks and on stale sessions.

There are three pools, because three kinds of work must not wait for each other and need different query plans:

``hot``    The frequent, short statements of workers. On a dedicated session, settings keep each statement on the
           plan that it was written for, whatever the statistics say.
``lease``  Heartbeats, leadership and worker registration: one connection, with the settings of ``hot``.
           However many queues claim, and however slow their claims are, a heartbeat does not wait for them.
``plain``  Calls of people and jobs: listings, bulk changes, `AttemptStore.transaction`. It has the user's settings,
           but for those that change what a statement means, and for compiling.

A session is *dedicated* if it serves this client alone. Behind a pooler in transaction mode (``listen=False``) it is
shared with other clients: no settings, no prepared statements.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import psycopg
import trio

from jobrt._storage.postgres.encode import Value
from jobrt._storage.postgres.names import Schema, Statement
from jobrt._storage.postgres.rows import Row
from jobrt._storage.postgres.session import PreparedSession, Session
from jobrt._storage.postgres.steps import Steps, drive
from jobrt._storage.trio_only import refuse_asyncio
from jobrt._trio_psycopg.errors import is_stale
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
TRIES: Final = 4
"""Times that a call is made which the database undoes to end a deadlock."""

# A plan is made once and kept. One made while the table was small would scan the whole table. It would be kept
# until the statistics are renewed, a minute and a million rows later. So plans that do not scale are disabled.
_PLAN: Final = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}

# Environment variables, roles and databases may set others. Then the statements would mean something else.
_MEANING: Final = {
    "default_transaction_isolation": "read committed",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
}

# Compiling takes longer than most statements, also than those about thousands of jobs whose costs are estimated high.
_NO_JIT: Final = {"jit": "off"}

# Each call has a time limit of its own. These would end a worker's calls before it.
_NO_LIMITS: Final = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}


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
        """Return the channel for notifications, or None behind a pooler."""
        return self.schema.channel if self.listening else None

    async def watch(self) -> None:
        """End calls that exceed their time limit; runs until cancelled."""
        async with trio.open_nursery() as nursery:
            for pool in (self.hot, self.lease, self.plain):
                nursery.start_soon(pool.watch)

    def session(self, *, seconds: float = CALL_SECONDS, for_lease: bool = False) -> Call[Session]:
        """Return a session for one of a worker's calls, from the `lease` pool if `for_lease`."""
        return Call(self.lease if for_lease else self.hot, seconds, self._session_on)

    def _session_on(self, conn: TrioConnection[Any]) -> Session:
        if self.listening:
            return PreparedSession(conn, self.schema, conn.prepared)
        return Session(conn, self.schema)

    async def bulk(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Run a listing or a bulk change in a transaction, from the `plain` pool, as `retried`."""

        async def run() -> T:
            async with self.plain.call(BULK_SECONDS) as conn, conn.transaction():
                return await work(Session(conn, self.schema))

        return await retried(run)

    async def bulk_run(self, statement: Statement, /, **values: str | None) -> list[Row]:
        """Run a single statement as `bulk` does, and return its rows."""
        return await self.bulk(lambda session: session.run(statement, **values))

    async def look(self, statement: Statement, /, **values: str | None) -> list[Row]:
        """Run a single statement that only reads, as `bulk_run` does, but without the calls around a transaction."""

        async def run() -> list[Row]:
            async with self.plain.call(BULK_SECONDS) as conn:
                return await Session(conn, self.schema).run(statement, **values)

        return await retried(run)

    async def read(self, steps: Callable[[], Steps[T]]) -> T:
        """Run steps that only read, each as `look` does, on one connection."""

        async def run() -> T:
            async with self.plain.call(BULK_SECONDS) as conn:
                return await drive(Session(conn, self.schema), steps())

        return await retried(run)

    async def fetch(self, name: str, /, **values: Value) -> list[Row]:
        """Run one statement as a worker's call, as `retried`."""
        return await retried(partial(self._fetch, name, values, for_lease=False))

    async def fetch_for_lease(self, name: str, /, **values: str | None) -> list[Row]:
        """Run one statement as `fetch` does, from the `lease` pool."""
        return await retried(partial(self._fetch, name, values, for_lease=True))

    async def _fetch(self, name: str, values: Mapping[str, Value], *, for_lease: bool) -> list[Row]:
        async with self.session(for_lease=for_lease) as session:
            return await session.run(self.schema.statement(name), **values)


def retried(call: Callable[[], Awaitable[T]]) -> Awaitable[T]:
    """Call as `repeated` does, in Trio alone."""
    refuse_asyncio()
    return repeated(call)  # not awaited here: another coroutine would cost 0.1 µs


async def repeated(call: Callable[[], Awaitable[T]]) -> T:
    """Call, and repeat the call if it had no effect and another try can succeed.

    It is repeated up to three times if the database rolled it back to end a deadlock, and once if the session did not
    fit the database any more: the pool has new connections then.
    """
    stale = False
    for _ in range(TRIES - 1):
        try:
            return await call()
        except StorageError as error:
            again = is_stale(error.__cause__) and not stale
            if not again and not lost_a_race(error):
                raise
            stale = stale or again
    return await call()


def lost_a_race(error: StorageError) -> bool:
    """Return whether the database rolled a call back to end a deadlock: it had no effect then."""
    cause = error.__cause__
    return isinstance(cause, psycopg.Error) and cause.sqlstate in _RACES


async def _configure(conn: TrioConnection[Any], *, settings: Mapping[str, str]) -> None:
    # Sent with each BEGIN, so it also works behind a pooler, whatever the database's default is.
    await conn.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
    if settings:
        calls = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
        await conn.execute(f"select {calls}".encode())


@asynccontextmanager
async def open_database(
    url: str, *, schema: Schema, listening: bool, pool_size: int
) -> AsyncGenerator[Database]:
    """Create the pools; connections are opened when they are needed."""
    prepare = 5 if listening else None
    pool = partial(Pool, url, prepare_threshold=prepare)
    # A session that is not dedicated would pass the settings on to others.
    hot_settings = partial(_configure, settings=_PLAN | _MEANING | _NO_LIMITS if listening else {})
    plain_settings = partial(_configure, settings=_MEANING | _NO_JIT if listening else {})
    async with (
        pool(max_size=pool_size, configure=hot_settings) as hot,
        pool(max_size=1, configure=hot_settings) as lease,
        # Jobs may hold these for any length of time, so there are more of them, with a longer acquire timeout.
        pool(max_size=4 * pool_size, acquire_timeout=60.0, configure=plain_settings) as plain,
    ):
        yield Database(schema, hot, lease, plain, listening)
