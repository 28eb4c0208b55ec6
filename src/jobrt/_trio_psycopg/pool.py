"""Lend warm PostgreSQL connections to one storage call at a time, each with a deadline.

::

    acquire ──▶ a free slot? ──no──▶ queue (first come, first served)
                   │ yes                │ a slot is handed over by whoever gives one back
                   ▼                    ▼
                an idle connection that is alive? ──no──▶ open one, configure it
                   │ yes                                      │
                   └──────────────▶ lent ◀────────────────────┘
                                      │
                 nothing under way on it? ──no──▶ closed
                                      │ yes
                                    idle

The pool starts no task: connections are opened when they are wanted, checked when they are taken (a look
at the socket, no round trip) and dropped when they come back with anything still open on them. A slot belongs
to exactly one task from the moment it is taken or handed over, so a cancellation cannot lose one. Calls are held
to their seconds by `Pool.watch`, which the pool's owner runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeAlias

import attrs
import psycopg
import trio

from jobrt._trio_psycopg.connection import TrioConnection
from jobrt._trio_psycopg.errors import one_line, translate
from jobrt._trio_psycopg.hosts import describe
from jobrt.errors import StorageError, StorageUnavailable

__all__ = [
    "Call",
    "Configure",
    "Pool",
    "PoolStatistics",
    "call_deadline",
    "open_connection",
    "place_of",
    "storage_errors",
]

_READ_ONLY = "25006"  # the primary has become a standby: connect anew, or this will never end

_CONNECT_SECONDS = 10.0
"""Seconds for opening a connection, however long one may wait for its turn: a silent address must be told soon."""

_WATCH_EVERY = 1.0
"""Seconds between looks for calls that take too long: a scope around each call would be exact, and cost much more."""

_OVERDUE = -math.inf

_WARM_SECONDS = 0.001
"""Seconds that a connection counts as alive after a call, so that calls one after the other do not look each time."""

Configure: TypeAlias = Callable[[TrioConnection[Any]], Awaitable[None]]


@contextmanager
def storage_errors(conn: TrioConnection[Any]) -> Generator[None]:
    """Turn psycopg's errors into jobrt's; the driver's own stays as ``__cause__``.

    Raises:
        StorageUnavailable: the same may work later.
        StorageError: it will not.
    """
    try:
        yield
    except psycopg.Error as error:
        raise _translated(conn, error) from error


def _translated(conn: TrioConnection[Any], error: psycopg.Error) -> StorageError:
    if error.sqlstate == _READ_ONLY:
        conn.abort()
    return translate(error, conn.where, lost=conn.closed)


@contextmanager
def call_deadline(conn: TrioConnection[Any], seconds: float) -> Generator[None]:
    """Give the block ``seconds`` with ``conn``, then close it: nobody knows what the server has done.

    A server that is silent to the cancel request too holds the block for another ``conn.cancel_timeout``.

    Raises:
        StorageUnavailable: the time is over, or the same may work later.
        StorageError: it will not.
    """
    with trio.move_on_after(seconds) as scope, storage_errors(conn):
        yield
    if scope.cancelled_caught:
        raise _too_slow(conn, seconds)


def _too_slow(conn: TrioConnection[Any], seconds: float) -> StorageUnavailable:
    conn.abort()
    return StorageUnavailable(f"{conn.where}: no answer within {seconds:g} s")


async def open_connection(
    conninfo: str,
    *,
    seconds: float,
    prepare_threshold: int | None = 5,
    configure: Configure | None = None,
) -> TrioConnection[tuple[Any, ...]]:
    """Open a connection that commits each statement; ``seconds`` bound it, ``configure`` included.

    Raises:
        StorageUnavailable: no host takes the connection now, or not in time.
        StorageError: none will: wrong password, no such database, no right to connect, a senseless conninfo.
    """
    place = place_of(conninfo)
    with trio.move_on_after(seconds):
        try:
            conn = await TrioConnection.connect(
                conninfo, autocommit=True, prepare_threshold=prepare_threshold, within=seconds
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
class Call:
    """Lend a connection for one short call of so many seconds, with jobrt's errors; `Pool.watch` sees to the seconds.

    A class, because generators took half of such a call's time, and without a cancel scope, which took a tenth.
    """

    _pool: Pool
    _seconds: float
    _conn: TrioConnection[Any] = attrs.field(init=False)

    async def begin(self) -> TrioConnection[Any]:
        """Take a connection."""
        conn = self._conn = await self._pool.take(self._seconds)
        return conn

    async def __aenter__(self) -> TrioConnection[Any]:
        return await self.begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        conn, pool = self._conn, self._pool
        try:
            if isinstance(error, psycopg.Error):
                if pool.is_overdue(conn):
                    raise _too_slow(conn, self._seconds) from error
                raise _translated(conn, error) from error
        finally:
            pool.give_back(conn)


@attrs.frozen
class PoolStatistics:
    """What a pool was doing at one moment."""

    max_size: int
    idle: int
    lent: int
    waiting: int
    """Tasks that wait for a slot."""
    opened: int
    """Connections opened since the pool was made."""
    dropped: int
    """Of these, the ones that died while idle or came back unusable."""


@attrs.define(eq=False, on_setattr=[])  # a check at each change of a counter would cost more than the change
class Pool:
    """Keep up to ``max_size`` connections to ``conninfo``, opened when they are wanted.

    ``acquire_timeout`` is in seconds, of which opening a connection has ten at most. ``configure`` runs on each
    new connection. ``prepare_threshold`` is psycopg's: after how many executions a statement is prepared; ``None``
    is never.
    """

    conninfo: str = attrs.field(repr=False)  # holds a password
    max_size: int = attrs.field(default=4, kw_only=True, validator=attrs.validators.ge(1))
    acquire_timeout: float = attrs.field(default=10.0, kw_only=True)
    prepare_threshold: int | None = attrs.field(default=5, kw_only=True)
    configure: Configure | None = attrs.field(default=None, kw_only=True)

    _where: str = attrs.field(init=False)
    _idle: list[tuple[TrioConnection[Any], float]] = attrs.field(
        init=False, factory=list[tuple[TrioConnection[Any], float]]
    )
    """With the time of `monotonic` until when it need not be looked at."""
    _lent: dict[TrioConnection[Any], float] = attrs.field(
        init=False, factory=dict[TrioConnection[Any], float]
    )
    """With the time until when: without end for `acquire`, and none for what is `_OVERDUE`."""
    _slots_taken: int = attrs.field(init=False, default=0)
    _queue: trio.lowlevel.ParkingLot = attrs.field(init=False, factory=trio.lowlevel.ParkingLot)
    _opened: int = attrs.field(init=False, default=0)
    _dropped: int = attrs.field(init=False, default=0)
    _closed: bool = attrs.field(init=False, default=False)
    _all_back: trio.Event = attrs.field(init=False, factory=trio.Event)

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
        """Lend a connection to the block.

        Not a checkpoint while a connection is idle: the first query is one.

        Raises:
            StorageUnavailable: none came free or could be opened in time, or the pool is closed.
            StorageError: none can be opened, see `open_connection`.
        """
        conn = await self.take()
        try:
            yield conn
        finally:
            self.give_back(conn)

    async def take(self, seconds: float = math.inf) -> TrioConnection[Any]:
        """Take a connection for so long, as `acquire` does, that the caller is to `give_back` whatever happens."""
        conn = self._take_idle() or await self._take()
        self._lent[conn] = trio.current_time() + seconds
        return conn

    def call(self, seconds: float) -> Call:
        """Lend a connection for a call that may take ``seconds``, as `acquire` and `call_deadline` do."""
        return Call(self, seconds)

    async def watch(self) -> None:
        """Until cancelled, cut calls that take longer than they may, in the server too; a second late at most."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(_WATCH_EVERY)
                now = trio.current_time()
                for conn in [conn for conn, until in self._lent.items() if _OVERDUE < until < now]:
                    self._lent[conn] = _OVERDUE
                    nursery.start_soon(self._cut, conn)

    async def _cut(self, conn: TrioConnection[Any]) -> None:
        """Stop the server and close the connection: nobody knows what was done."""
        with suppress(psycopg.Error):  # a silent server does not answer this either
            await conn.cancel_safe(timeout=conn.cancel_timeout)
        conn.abort()

    def is_overdue(self, conn: TrioConnection[Any]) -> bool:
        """Return whether a lent connection is cut for having been lent too long."""
        return self._lent[conn] == _OVERDUE

    async def aclose(self, seconds: float = 5.0) -> None:
        """Refuse new borrowers, wait up to ``seconds`` for the lent connections, and close all."""
        self._closed = True
        self._queue.unpark_all()
        for conn, _ in self._idle:
            conn.abort()
        self._idle.clear()
        try:
            if self._lent:
                with trio.move_on_after(seconds):
                    await self._all_back.wait()
            else:
                await trio.lowlevel.checkpoint()
        finally:
            for conn in self._lent:
                conn.abort()  # whoever uses it gets StorageUnavailable

    def statistics(self) -> PoolStatistics:
        """Return what the pool is doing now."""
        return PoolStatistics(
            max_size=self.max_size,
            idle=len(self._idle),
            lent=len(self._lent),
            waiting=len(self._queue),
            opened=self._opened,
            dropped=self._dropped,
        )

    def _take_idle(self) -> TrioConnection[Any] | None:
        """Take a slot and an idle connection if there are both; nobody waits while there is a free slot."""
        if self._closed or self._slots_taken >= self.max_size:
            return None
        conn = self._pop_alive()
        if conn is not None:
            self._slots_taken += 1
        return conn

    async def _take(self) -> TrioConnection[Any]:
        deadline = trio.current_time() + self.acquire_timeout
        await self._take_slot(deadline)
        try:
            return self._pop_alive() or await self._open(deadline - trio.current_time())
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
            f"{self._where}: none of {self.max_size} connections came free in {self.acquire_timeout:g} s"
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
        self._lent[conn] = math.inf
        return conn

    def _pop_alive(self) -> TrioConnection[Any] | None:
        while self._idle:
            conn, warm_until = self._idle.pop()  # the warmest first
            if monotonic() < warm_until or conn.check_alive():
                self._lent[conn] = math.inf
                return conn
            self._drop(conn)
        return None

    def give_back(self, conn: TrioConnection[Any]) -> None:
        """Give back what `take` gave."""
        until = self._lent.pop(conn)
        if conn.reusable and until != _OVERDUE and not self._closed:
            self._idle.append((conn, monotonic() + _WARM_SECONDS))
        else:
            self._drop(conn)
        self._free_slot()
        if self._closed and not self._lent:
            self._all_back.set()

    def _drop(self, conn: TrioConnection[Any]) -> None:
        self._dropped += 1
        conn.abort()

    def _free_slot(self) -> None:
        if self._queue:
            self._queue.unpark(count=1)  # the slot is theirs
        else:
            self._slots_taken -= 1

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StorageUnavailable(f"{self._where}: the connection pool is closed")


def place_of(conninfo: str) -> str:
    """Name the database, hosts and user of a conninfo for a message; never the password.

    Raises:
        StorageError: the conninfo makes no sense.
    """
    try:
        return describe(conninfo)
    except psycopg.ProgrammingError as error:
        # libpq quotes what it cannot parse, and that may be the password: also no cause.
        said = re.sub(r'".*"', '"…"', one_line(error))
        raise StorageError(f"the PostgreSQL address cannot be understood: {said}") from None
