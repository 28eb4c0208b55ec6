"""A psycopg connection for Trio.

psycopg implements the PostgreSQL protocol as generators, and only the waiting for the socket belongs to asyncio.
`TrioConnection` is a `psycopg.AsyncConnection` that waits with Trio. Queries, adaptation, prepared statements,
transactions, pipelines and COPY are psycopg's own.

Guarantees:

* One task at a time uses a connection (`ConnectionLock`). A task that waits for notifications makes way for others.
* In a cancelled scope nothing is sent, except by generators in `STARTED_IF_CANCELLED`.
* A cancelled query is cancelled in the server too. At most ``cancel_timeout`` seconds later the connection is
  usable or closed, even if the server does not respond.
* The end of a transaction is not cancelled. So `trio.Cancelled` from a ``transaction()`` block means that it was
  rolled back, unless the server did not respond and the connection is closed.
* A notification that arrives during a query is kept in ``inbox``.

Besides those of `jobrt._trio_psycopg.protocol`, it uses these private names of psycopg 3.3. A test checks the
signature of each, so that a change in psycopg fails there and not in production:

=====================================  ==============================================================
`AsyncConnection._connect_gen`         connects to one address
`AsyncConnection._should_cancel`       whether there is something to cancel
`AsyncConnection._try_cancel`          overridden: called by COPY and ``stream()`` to clean up
`AsyncConnection._pipeline_nolock`     wrapped: the pipeline of ``executemany()``
`AsyncConnection._adapters`            set by ``connect(context=…)``
`AsyncConnection._autocommit`          set by ``connect(autocommit=…)``
`AsyncConnection._closed`              distinguishes ``close()`` from a lost connection
`generators.fetch`                     reading what a cancelled query leaves behind
`generators.notifies`                  reading notifications
=====================================  ==============================================================
"""
# pyright: reportPrivateUsage=false
# ruff: noqa: SLF001
# (the table above lists the private names)

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import cached_property, partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Self, cast

import psycopg
import trio
from psycopg import generators, pq
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import Row, tuple_row
from psycopg.waiting import Ready, Wait
from trio.lowlevel import (
    cancel_shielded_checkpoint,
    checkpoint,
    checkpoint_if_cancelled,
    wait_readable,
    wait_writable,
)

from jobrt._trio_psycopg import protocol
from jobrt._trio_psycopg.errors import AllHostsFailed
from jobrt._trio_psycopg.hosts import address_label, attempt, connect_timeout, resolve, split_hosts
from jobrt._trio_psycopg.lock import ConnectionLock
from jobrt._trio_psycopg.prepared import PreparedStatements
from jobrt._trio_psycopg.socket import ready_now, request_cancel, wait_for_either

if TYPE_CHECKING:
    from psycopg.abc import RV, AdaptContext, ConnDict, ConnParam, PQGen
    from psycopg.pq.abc import PGconn
    from psycopg.rows import AsyncRowFactory


# A member of an enum is looked up in 0.1 µs, which is as long as a call.
_OK, _IDLE, _NO_PIPELINE = pq.ConnStatus.OK, pq.TransactionStatus.IDLE, pq.PipelineStatus.OFF
_READ, _READABLE = Wait.R, Ready.R

_COPYING: Final = (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH)

_MAX_SECONDS_WITHOUT_CHECKPOINT: Final = 0.001
"""Maximum time in seconds without a checkpoint while the socket is always ready.

Otherwise a COPY or a pipeline could block the event loop. A checkpoint takes about 5 µs, so one per millisecond
costs half a per cent.
"""


class TrioConnection(psycopg.AsyncConnection[Row]):
    """PostgreSQL connection for Trio, with the interface of `psycopg.AsyncConnection`.

    One task at a time uses a connection. ``close()`` and ``abort()`` may be called from any task: a task that
    waits for the connection then gets `psycopg.OperationalError`.
    """

    cancel_timeout: float = 3.0
    """Maximum time in seconds to clean up after a cancellation; then the connection is closed."""

    stale: bool = False
    """Whether a call has shown that the session does not fit the database any more; a pool then closes it."""

    lock: ConnectionLock  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]  # not asyncio's

    def __init__(self, pgconn: PGconn, row_factory: AsyncRowFactory[Row] | None = None) -> None:
        super().__init__(pgconn, row_factory or cast("AsyncRowFactory[Row]", tuple_row))
        self.lock = ConnectionLock(after_error=partial(_finish_if_busy, pgconn))
        self.inbox: deque[psycopg.Notify] = deque()
        database, user, host, port = (
            part.decode(errors="replace") for part in (pgconn.db, pgconn.user, pgconn.host, pgconn.port)
        )
        self.where = address_label(database, user, host=host, port=port)
        self._checkpoint_at = monotonic() + _MAX_SECONDS_WITHOUT_CHECKPOINT
        self.add_notify_handler(self.inbox.append)

    # Connecting and closing

    @classmethod
    async def connect(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # `within` is new
        cls,
        conninfo: str = "",
        *,
        autocommit: bool = False,
        prepare_threshold: int | None = 5,
        context: AdaptContext | None = None,
        row_factory: AsyncRowFactory[Row] | None = None,
        cursor_factory: type[psycopg.AsyncCursor[Row]] | None = None,
        within: float = math.inf,
        **kwargs: ConnParam,
    ) -> Self:
        """Connect to the first host of the conninfo that accepts the connection.

        ``connect_timeout`` (in seconds, at least 2, by default 130) applies to each address and to the resolution
        of each name. It is reduced to each host's share of ``within`` seconds, so that a host that does not
        respond leaves time for the next. ``prepare_threshold=None`` prepares no statement, for PgBouncer.

        Raises:
            psycopg.ProgrammingError: the conninfo is invalid.
            psycopg.OperationalError: no host accepted the connection; `AllHostsFailed` if several were tried.
        """
        conn = await cls._connect_to_any(conninfo_to_dict(conninfo, **kwargs), within=within)
        conn._autocommit = autocommit
        conn.prepare_threshold = prepare_threshold
        if context:
            conn._adapters = AdaptersMap(context.adapters)
        if row_factory:
            conn.row_factory = row_factory
        if cursor_factory:
            conn.cursor_factory = cursor_factory
        return conn

    @classmethod
    async def _connect_to_any(cls, params: ConnDict, *, within: float) -> Self:
        hosts = split_hosts(params)
        seconds = min(connect_timeout(params), within / len(hosts))
        failures: list[psycopg.Error] = []
        try:
            for host in hosts:
                for address in await resolve(host, seconds=seconds, failures=failures):
                    with attempt(address, seconds=seconds, failures=failures):
                        return await protocol.connect(cls._connect_gen(make_conninfo("", **address)))
            raise failures[0] if len(failures) == 1 else AllHostsFailed(failures)
        finally:
            del failures  # breaks the reference cycle of error, traceback and frame

    async def close(self) -> None:
        """Close the connection without waiting for the server, and wake the tasks that wait for it."""
        self.abort()
        await checkpoint()

    def abort(self) -> None:
        """Close the connection as ``close()`` does, without a checkpoint."""
        self._closed = True
        _finish(self.pgconn)

    @property
    def reusable(self) -> bool:
        """Whether the connection is open and without an unfinished query, transaction or pipeline."""
        pgconn = self.pgconn
        return (
            pgconn.status == _OK
            and pgconn.transaction_status == _IDLE
            and pgconn.pipeline_status == _NO_PIPELINE
        )

    def check_alive(self) -> bool:
        """Return whether this idle connection is still open; checked without a round trip."""
        try:
            # There may be notifications to read, or a last message of the server before the end of the stream.
            while ready_now(self.pgconn.socket, Wait.R):
                self.pgconn.consume_input()
                self._collect_notifications()
        except psycopg.Error:
            return False
        return not self.closed

    @cached_property
    def prepared(self) -> PreparedStatements:
        """Prepared statements of this connection."""
        return PreparedStatements(self)

    # Waiting

    async def wait(self, gen: PQGen[RV], interval: float = 0.0, timeout: float | None = None) -> RV:  # noqa: ARG002, ASYNC109  # psycopg's signature
        """Run one of psycopg's generators; psycopg calls this for all I/O.

        Raises:
            psycopg.Error: the generator raised it, or the connection was closed meanwhile.
            trio.TooSlowError: the generator took longer than ``timeout`` seconds.
        """
        if timeout is not None:
            with trio.fail_after(timeout):
                return await self.wait(gen)
        ending = protocol.code_of(gen) in protocol.STARTED_IF_CANCELLED
        if not ending:
            await checkpoint_if_cancelled()
            if monotonic() > self._checkpoint_at:
                await self._let_others_run()
        try:
            return await self._run(gen, ending=ending)
        except trio.Cancelled:
            with self._clean_up():
                if protocol.code_of(gen) in protocol.UNCANCELLABLE:
                    return await self._run(gen)
                await self._interrupt(gen)
            protocol.close(gen)
            raise
        except KeyboardInterrupt:
            self.abort()  # no time to ask what the server is doing
            protocol.close(gen)
            raise

    async def _run(self, gen: PQGen[RV], *, ending: bool = False) -> RV:
        try:
            # Raises if the connection is closed, before the generator is started and would have to be closed.
            fd = self.pgconn.socket
            wanted = next(gen)
            while True:
                if wanted == _READ:
                    await wait_readable(fd)
                    self._checkpoint_at = monotonic() + _MAX_SECONDS_WITHOUT_CHECKPOINT
                    wanted = gen.send(_READABLE)
                else:
                    wanted = gen.send(await self._wait_to_write(fd, wanted, ending=ending))
        except StopIteration as end:
            value: RV = end.value
            return value
        except (trio.ClosedResourceError, OSError) as error:
            protocol.close(gen)
            raise psycopg.OperationalError("the connection was closed while in use") from error

    async def _wait_to_write(self, fd: int, wanted: Wait, *, ending: bool) -> int:
        if not ending:
            await checkpoint_if_cancelled()
        if monotonic() > self._checkpoint_at:
            await self._let_others_run()
        if ready := ready_now(fd, wanted):  # nearly always, and far cheaper than Trio's wait
            return ready
        if wanted == Wait.RW:
            return await wait_for_either(fd)
        await wait_writable(fd)
        return Ready.W

    async def _let_others_run(self) -> None:
        await cancel_shielded_checkpoint()
        self._checkpoint_at = monotonic() + _MAX_SECONDS_WITHOUT_CHECKPOINT

    # Cancellation

    @contextmanager
    def _clean_up(self) -> Generator[None]:
        """Shield the clean-up after a cancellation, and close the connection if it takes too long."""
        deadline = trio.current_time() + self.cancel_timeout
        with trio.CancelScope(deadline=deadline, shield=True) as scope:
            yield
        if scope.cancelled_caught:
            self.abort()

    async def _interrupt(self, gen: PQGen[Any]) -> None:
        """Cancel in the server what ``gen`` has started, or close the connection."""
        pgconn = self.pgconn
        active = pgconn.transaction_status == pq.TransactionStatus.ACTIVE
        finish = protocol.code_of(gen) in protocol.FINISHED_AFTER_CANCEL or (
            active and pgconn.pipeline_status
        )
        try:
            if pgconn.is_busy() and pgconn.flush():
                self.abort()  # the server has only a part of the query, and will not run it
                return
            if active:
                await request_cancel(self.pgconn)
            if finish:
                with suppress(psycopg.Error):  # "canceling statement due to user request"
                    await self._run(gen)
            elif active:
                gen.close()  # otherwise it would continue, for example after BEGIN with the query itself
                await self._discard_results()
        except psycopg.Error:
            self.abort()

    async def _discard_results(self) -> None:
        while result := await self._run(generators.fetch(self.pgconn)):
            if result.status in _COPYING:
                raise psycopg.OperationalError("a COPY started while it was being cancelled")

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:  # noqa: ASYNC109  # psycopg's signature
        """Ask the server to cancel the current query of this connection; for use in another task.

        Raises:
            psycopg.errors.CancellationTimeout: the server did not answer within ``timeout`` seconds.
        """
        if not self._should_cancel():
            return
        try:
            with trio.fail_after(timeout):
                await request_cancel(self.pgconn)
        except trio.TooSlowError:
            raise psycopg.errors.CancellationTimeout("cancellation timeout expired") from None

    async def _try_cancel(self, *, timeout: float = 5.0) -> None:  # noqa: ASYNC109  # psycopg's signature
        deadline = trio.current_time() + min(timeout, self.cancel_timeout)
        with trio.CancelScope(deadline=deadline, shield=True), suppress(psycopg.Error):
            await self.cancel_safe()

    # Pipelines, transactions, notifications

    @asynccontextmanager
    async def pipeline(self) -> AsyncGenerator[psycopg.AsyncPipeline]:
        """Send the queries of the block without waiting for the results of earlier ones.

        After an error or a cancellation, the connection is either as it was before, or closed.
        """
        with self._closed_if_changed():
            async with super().pipeline() as pipeline:
                yield pipeline

    @asynccontextmanager
    async def _pipeline_nolock(self) -> AsyncGenerator[psycopg.AsyncPipeline]:
        with self._closed_if_changed():
            async with super()._pipeline_nolock() as pipeline:
                yield pipeline

    @contextmanager
    def _closed_if_changed(self) -> Generator[None]:
        """Close the connection if a cancelled pipeline left results or an open transaction."""
        pgconn = self.pgconn
        before = pgconn.transaction_status, pgconn.pipeline_status
        try:
            yield
        except BaseException as error:
            still_in_pipeline = before[1] != pgconn.pipeline_status
            cancelled = isinstance(error, trio.Cancelled) and not before[1]
            if still_in_pipeline or (cancelled and before[0] != pgconn.transaction_status):
                self.abort()
            raise

    @asynccontextmanager
    async def transaction(
        self,
        savepoint_name: str | None = None,
        force_rollback: bool = False,  # noqa: FBT001, FBT002  # psycopg's signature
    ) -> AsyncGenerator[psycopg.AsyncTransaction]:
        """Run the block in a transaction, or in a savepoint if there already is a transaction.

        The end of the transaction is not cancelled. `trio.Cancelled` means that it was rolled back, or that the
        server did not respond for ``cancel_timeout`` seconds and the connection is closed. In a pipeline this
        does not hold, because the end is only queued.
        """
        await checkpoint_if_cancelled()
        opened: psycopg.AsyncTransaction | None = None
        try:
            async with super().transaction(savepoint_name, force_rollback) as opened:
                yield opened
        finally:
            if opened is not None and opened.status is opened.Status.ACTIVE:
                self.abort()  # cancelled while another task used the connection: the end was never sent

    def notifies(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # psycopg's is an async generator: it keeps the connection to itself, and wants aclosing()
        self, *, timeout: float | None = None, stop_after: int | None = None
    ) -> Notifications:
        """Iterate over notifications, starting with those that arrived during queries.

        Other tasks and the body of the loop may run queries meanwhile. The loop can be left at any time; the
        remaining notifications are kept. ``timeout`` is in seconds, for the whole iteration.
        """
        return Notifications(self, timeout=timeout, stop_after=stop_after)

    async def wait_notified(self) -> None:
        """Wait until there is a notification in ``inbox``; other tasks may run queries meanwhile.

        Raises:
            psycopg.OperationalError: the connection was lost or closed.
        """
        await checkpoint()
        while not self.inbox:
            async with self.lock:
                self._collect_notifications()
                if not self.inbox:
                    with self.lock.until_requested():
                        await self.wait(generators.notifies(self.pgconn))

    def _collect_notifications(self) -> None:
        """Collect what libpq has already read: the socket does not become readable for it again."""
        while (notification := self.pgconn.notifies()) and self.pgconn.notify_handler:
            self.pgconn.notify_handler(notification)


class Notifications:
    """Asynchronous iterator over the notifications of a connection, created by `TrioConnection.notifies`."""

    def __init__(self, conn: TrioConnection[Any], *, timeout: float | None, stop_after: int | None) -> None:
        self._conn = conn
        self._deadline = math.inf if timeout is None else trio.current_time() + timeout
        self._left = math.inf if stop_after is None else stop_after

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> psycopg.Notify:
        if self._left > 0:
            with trio.CancelScope(deadline=self._deadline):
                await self._conn.wait_notified()
                self._left -= 1
                return self._conn.inbox.popleft()
        raise StopAsyncIteration


def _finish(pgconn: PGconn) -> None:
    with suppress(psycopg.Error):  # there is no socket any more
        trio.lowlevel.notify_closing(pgconn.socket)  # first: it wakes the tasks that wait for the socket
    pgconn.finish()  # tells the server if the socket has room for it, and never blocks


def _finish_if_busy(pgconn: PGconn) -> None:
    """Close a connection that a task leaves during an operation, such as a COPY cancelled at its last rows."""
    if pgconn.transaction_status == pq.TransactionStatus.ACTIVE and not pgconn.pipeline_status:
        _finish(pgconn)
