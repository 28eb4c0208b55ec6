"""Pool of warm PostgreSQL connections, with a deadline for each call.

::

    acquire ──▶ a free slot? ──no──▶ queue (in the order of requests)
                   │ yes                │ the next released slot
                   ▼                    ▼
                an idle connection that is alive? ──no──▶ open and configure one
                   │ yes                                      │
                   └──────────────▶ in use ◀──────────────────┘
                                      │ release
        fits, no unfinished operation? ──no──▶ closed
                                      │ yes
                                    idle

The pool starts no task. A connection is opened at first need. It is checked when it is acquired, by its socket and
without a round trip. It is closed if it is released with an unfinished operation. If a call has shown that its session
does not fit the database any more (`is_stale`), all connections that the pool has then are closed: they are as old.

A slot belongs to exactly one task from the moment it is taken or handed over, so a cancellation cannot lose it.
`Pool.watch`, which the owner of the pool runs, ends calls that take too long.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from time import monotonic
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar

import attrs
import psycopg
import trio

from jobrt._trio_psycopg.connection import TrioConnection
from jobrt._trio_psycopg.errors import is_stale, one_line, translate
from jobrt._trio_psycopg.hosts import describe
from jobrt.errors import StorageError, StorageUnavailable

_READ_ONLY = "25006"  # the primary has become a standby: only a new connection reaches the new primary

ENCODING = "UTF8"
"""Encoding of databases and of jobrt's connections."""

_CONNECT_SECONDS = 10.0
"""Time limit for opening a connection. It is shorter than the wait for a slot, to report a silent server soon."""

_WATCH_EVERY = 1.0
"""Seconds between checks for overdue calls. A cancel scope for each call would be exact, but took a tenth of it."""

_OVERDUE = -math.inf

_WARM_SECONDS = 0.001
"""Time after a call during which a connection is not checked, to save the check between consecutive calls."""

T = TypeVar("T")

Configure: TypeAlias = Callable[[TrioConnection[Any]], Awaitable[None]]


@contextmanager
def storage_errors(conn: TrioConnection[Any]) -> Generator[None]:
    """Translate psycopg's errors to jobrt's; ``__cause__`` is the error of psycopg.

    Raises:
        StorageUnavailable: a retry may succeed.
        StorageError: a retry will not succeed.
    """
    try:
        yield
    except psycopg.Error as error:
        raise _translated(conn, error) from error


def _translated(conn: TrioConnection[Any], error: psycopg.Error) -> StorageError:
    if error.sqlstate == _READ_ONLY:
        conn.abort()
    conn.stale = conn.stale or is_stale(error)
    return translate(error, conn.where, lost=conn.closed)


@contextmanager
def call_deadline(conn: TrioConnection[Any], seconds: float) -> Generator[None]:
    """Run the block with a time limit, after which ``conn`` is closed: what the server has done is unknown.

    If the server does not answer the cancel request either, the block takes ``conn.cancel_timeout`` longer.

    Raises:
        StorageUnavailable: the time is over, or a retry may succeed.
        StorageError: a retry will not succeed.
    """
    with trio.move_on_after(seconds) as scope, storage_errors(conn):
        yield
    if scope.cancelled_caught:
        raise _too_slow(conn, seconds)


def _too_slow(conn: TrioConnection[Any], seconds: float) -> StorageUnavailable:
    conn.abort()
    return StorageUnavailable(f"{conn.where}: no answer within {seconds:g} s")


async def open_connection(
    conninfo: str, *, seconds: float, prepare_threshold: int | None = 5, configure: Configure | None = None
) -> TrioConnection[tuple[Any, ...]]:
    """Open a connection with autocommit and configure it, within a time limit.

    Raises:
        StorageUnavailable: no host accepts the connection in time; a retry may succeed.
        StorageError: a retry will not succeed: wrong password, unknown database, no permission, invalid conninfo.
    """
    place = place_of(conninfo)
    with trio.move_on_after(seconds):
        try:
            conn = await TrioConnection.connect(
                conninfo,
                autocommit=True,
                prepare_threshold=prepare_threshold,
                within=seconds,
                client_encoding=ENCODING,  # whatever PGCLIENTENCODING, the role or the conninfo says
            )
        except psycopg.Error as error:
            raise translate(error, f"cannot connect to {place}") from error
        try:
            if configure:
                with storage_errors(conn):
                    await configure(conn)
        except BaseException:
            conn.abort()
            raise
        return conn
    raise StorageUnavailable(f"cannot connect to {place}: no answer within {seconds:g} s")


@attrs.define(eq=False)
class Call(Generic[T]):
    """Context manager for a short call with a time limit, kept by `Pool.watch`, and with jobrt's errors.

    The block gets what `_use` makes of the connection.

    It is a class, because generators took half of the time of such a call, and a cancel scope a tenth.
    """

    _pool: Pool
    _seconds: float
    _use: Callable[[TrioConnection[Any]], T]
    _conn: TrioConnection[Any] = attrs.field(init=False)

    async def __aenter__(self) -> T:
        pool, seconds = self._pool, self._seconds
        conn = self._conn = pool.take_idle(seconds) or await pool.check_out(seconds)
        return self._use(conn)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        conn, pool = self._conn, self._pool
        if error is None:
            pool.release(conn)
            return
        try:
            if isinstance(error, psycopg.Error):
                if pool.is_overdue(conn):
                    raise _too_slow(conn, self._seconds) from error
                raise _translated(conn, error) from error
            if isinstance(error, UnicodeEncodeError):
                raise StorageError(f"{conn.where}: a text cannot be stored: {error}") from error
        finally:
            pool.release(conn)


@attrs.frozen
class PoolStatistics:
    """Snapshot of a pool."""

    max_size: int
    idle: int
    in_use: int
    waiting: int
    """Tasks that wait for a slot."""
    opened: int
    """Connections opened since the pool was created."""
    dropped: int
    """Opened connections that were closed because they had died, or were released with an unfinished operation."""


# Without NO_OP, each change of a counter would be validated, which takes longer than the change.
@attrs.define(eq=False, on_setattr=attrs.setters.NO_OP)
class Pool:
    """Pool of up to ``max_size`` connections to ``conninfo``, opened at first need.

    ``acquire_timeout`` is in seconds; opening a connection takes at most ten of them. ``configure`` runs on each
    new connection. ``prepare_threshold`` is psycopg's: a statement is prepared after so many executions; ``None``
    means never.
    """

    conninfo: str = attrs.field(repr=False)  # has the password
    max_size: int = attrs.field(default=4, kw_only=True, validator=attrs.validators.ge(1))
    acquire_timeout: float = attrs.field(default=10.0, kw_only=True)
    prepare_threshold: int | None = attrs.field(default=5, kw_only=True)
    configure: Configure | None = attrs.field(default=None, kw_only=True)

    _where: str = attrs.field(init=False)
    _idle: list[tuple[TrioConnection[Any], float]] = attrs.field(
        init=False, factory=list[tuple[TrioConnection[Any], float]]
    )
    """Connections with the time of `monotonic` until which they need no check; the warmest is last."""
    _in_use: dict[TrioConnection[Any], float] = attrs.field(
        init=False, factory=dict[TrioConnection[Any], float]
    )
    """Connections with the deadline of their call by `monotonic`, or `_OVERDUE`; infinity for `acquire`."""
    _outdated: set[TrioConnection[Any]] = attrs.field(init=False, factory=set[TrioConnection[Any]])
    """Connections in use that are closed when they are released."""
    _slots_taken: int = attrs.field(init=False, default=0)
    _queue: trio.lowlevel.ParkingLot = attrs.field(init=False, factory=trio.lowlevel.ParkingLot)
    _opened: int = attrs.field(init=False, default=0)
    _dropped: int = attrs.field(init=False, default=0)
    _closed: bool = attrs.field(init=False, default=False)
    _all_released: trio.Event = attrs.field(init=False, factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self._where = place_of(self.conninfo)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @asynccontextmanager
    async def acquire(self) -> AsyncGenerator[TrioConnection[Any]]:
        """Use a connection for the block.

        This is not a checkpoint if there is an idle connection; the first query is.

        Raises:
            StorageUnavailable: no connection was released or opened in time, or the pool is closed.
            StorageError: no connection can be opened, see `open_connection`.
        """
        conn = await self.check_out()
        try:
            yield conn
        finally:
            self.release(conn)

    async def check_out(self, seconds: float = math.inf) -> TrioConnection[Any]:
        """Acquire a connection for a call with a time limit; the caller must `release` it in any case."""
        conn = self.take_idle(seconds)
        if conn is None:
            conn = await self._take()
            self._in_use[conn] = monotonic() + seconds
        return conn

    def call(self, seconds: float) -> Call[TrioConnection[Any]]:
        """Return a context manager for a call with a time limit, as `acquire` with `call_deadline`."""
        return Call(self, seconds, _as_it_is)

    async def watch(self) -> None:
        """Cancel overdue calls, in the server too, at most a second late; runs until it is cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(_WATCH_EVERY)
                now = monotonic()
                for conn in [conn for conn, deadline in self._in_use.items() if _OVERDUE < deadline < now]:
                    self._in_use[conn] = _OVERDUE
                    nursery.start_soon(self._cancel_call, conn)

    async def _cancel_call(self, conn: TrioConnection[Any]) -> None:
        """Cancel the query in the server and close the connection: what the server has done is unknown."""
        with suppress(psycopg.Error):  # the server may not answer this either
            await conn.cancel_safe(timeout=conn.cancel_timeout)
        conn.abort()

    def is_overdue(self, conn: TrioConnection[Any]) -> bool:
        """Return whether the call of a connection took too long."""
        return self._in_use[conn] == _OVERDUE

    async def aclose(self, seconds: float = 5.0) -> None:
        """Refuse new calls, wait up to ``seconds`` for connections in use, and close all connections."""
        self._closed = True
        self._queue.unpark_all()
        for conn, _ in self._idle:
            conn.abort()
        self._idle.clear()
        try:
            if self._in_use:
                with trio.move_on_after(seconds):
                    await self._all_released.wait()
            else:
                await trio.lowlevel.checkpoint()
        finally:
            for conn in self._in_use:
                conn.abort()  # the task that uses it gets StorageUnavailable

    def statistics(self) -> PoolStatistics:
        """Return a snapshot of the pool."""
        return PoolStatistics(
            max_size=self.max_size,
            idle=len(self._idle),
            in_use=len(self._in_use),
            waiting=len(self._queue),
            opened=self._opened,
            dropped=self._dropped,
        )

    def take_idle(self, seconds: float) -> TrioConnection[Any] | None:
        """Do what `check_out` does if there are a free slot, for which then no task waits, and an idle connection."""
        if self._closed or self._slots_taken >= self.max_size:
            return None
        now = monotonic()
        conn = self._pop_alive(now)
        if conn is not None:
            self._slots_taken += 1
            self._in_use[conn] = now + seconds
        return conn

    async def _take(self) -> TrioConnection[Any]:
        deadline = trio.current_time() + self.acquire_timeout
        await self._take_slot(deadline)
        try:
            return self._pop_alive(monotonic()) or await self._open(deadline - trio.current_time())
        except BaseException:
            self._free_slot()
            raise

    async def _take_slot(self, deadline: float) -> None:
        self._refuse_if_closed()
        if self._slots_taken < self.max_size:
            self._slots_taken += 1
            return
        with trio.CancelScope(deadline=deadline):
            await self._queue.park()
            self._refuse_if_closed()
            return
        raise StorageUnavailable(
            f"{self._where}: all {self.max_size} connections were in use for {self.acquire_timeout:g} s"
        )

    async def _open(self, seconds: float) -> TrioConnection[Any]:
        conn = await open_connection(
            self.conninfo,
            seconds=min(max(0.0, seconds), _CONNECT_SECONDS),
            prepare_threshold=self.prepare_threshold,
            configure=self.configure,
        )
        self._opened += 1
        if self._closed:
            conn.abort()
        self._refuse_if_closed()
        return conn

    def _pop_alive(self, now: float) -> TrioConnection[Any] | None:
        while self._idle:
            conn, warm_until = self._idle.pop()  # the warmest, so that the others can stay idle
            if now < warm_until or conn.check_alive():
                return conn
            self._drop(conn)
        return None

    def release(self, conn: TrioConnection[Any]) -> None:
        """Release a connection of `check_out`."""
        deadline = self._in_use.pop(conn)
        if conn.stale or self._outdated:
            self._retire_if_stale(conn)
        if conn.reusable and deadline != _OVERDUE and not self._closed:
            self._idle.append((conn, monotonic() + _WARM_SECONDS))
        else:
            self._drop(conn)
        self._free_slot()
        if self._closed and not self._in_use:
            self._all_released.set()

    def _retire_if_stale(self, conn: TrioConnection[Any]) -> None:
        """Close a released connection that is stale; calls that begin from now on have newer ones."""
        if conn.stale:
            while self._idle:
                self._drop(self._idle.pop()[0])
            self._outdated.update(self._in_use)
        if conn.stale or conn in self._outdated:
            self._outdated.discard(conn)
            conn.abort()

    def _drop(self, conn: TrioConnection[Any]) -> None:
        self._dropped += 1
        conn.abort()

    def _free_slot(self) -> None:
        if self._slots_taken == self.max_size and self._queue:  # no task waits while there is a free slot
            self._queue.unpark(count=1)  # which then has the slot: no later task can take it first
        else:
            self._slots_taken -= 1

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StorageUnavailable(f"{self._where}: the connection pool is closed")


def _as_it_is(conn: TrioConnection[Any]) -> TrioConnection[Any]:
    return conn


def place_of(conninfo: str) -> str:
    """Return database, hosts and user of a conninfo for a message; raise `StorageError` if it is invalid."""
    try:
        return describe(conninfo)
    except psycopg.ProgrammingError as error:
        # libpq quotes the invalid part, which may be the password. So it is removed, and there is no cause.
        reason = re.sub(r'".*"', '"…"', one_line(error))
        remedy = "use postgresql://USER@HOST:PORT/DATABASE"
        raise StorageError(f"the PostgreSQL address cannot be understood: {reason}; {remedy}") from None
