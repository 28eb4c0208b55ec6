"""Let Trio drive psycopg.

psycopg's protocol code is generators that say which way to wait for the socket; only the waiting belongs to
asyncio. `TrioConnection` is `psycopg.AsyncConnection` with Trio's waiting, so that queries, adaptation,
prepared statements, transactions, pipelines and COPY are psycopg's own.

What holds at every moment:

* One task at a time talks on a connection (`Turn`); one that only listens makes room for a query.
* Nothing is sent from a scope that is already cancelled, except what ends something (`_BEGUN_ANYWAY`).
* A query that is cancelled is cancelled in the server too. Afterwards the connection is usable, or it is
  closed, at most ``cancel_timeout`` seconds later, however silent the server is.
* The end of a transaction is never cut: once begun it is carried through, so `trio.Cancelled` out of a
  ``transaction()`` block means rolled back, unless the server was silent and the connection is closed.
* A notification that arrives during a query waits in ``inbox``.

It rests on private names of psycopg 3.3, all of them used in this module alone; a test holds each to its
signature, so that a new psycopg fails there and not in production:

=====================================  ==============================================================
`AsyncConnection._connect_gen`         connecting, one address at a time
`AsyncConnection._should_cancel`       whether there is anything to cancel
`AsyncConnection._try_cancel`          replaced: what COPY and ``stream()`` call to clean up
`AsyncConnection._pipeline_nolock`     wrapped: the pipeline of ``executemany()``
`AsyncConnection._adapters`            set by ``connect(context=…)``
`AsyncConnection._autocommit`          set by ``connect(autocommit=…)``
`AsyncConnection._closed`              tells ``close()`` from a lost connection
`BaseConnection._commit_gen`           known by its code: ends a transaction
`BaseConnection._rollback_gen`         the same
`BaseConnection._tpc_finish_gen`       the same
`BaseTransaction._exit_gen`            the same
`BaseTransaction._enter_gen`           known by its code: always followed by the one above
`BasePipeline._exit_gen`               known by its code: ends a pipeline
`BaseCursor._stream_fetchone_gen`      known by its code: ``stream()`` reads on with it until the end
`ServerCursorMixin._close_gen`         known by its code: ends a server-side cursor
`BaseCopy._read_gen`                   known by its code: a step of COPY
`BaseCopy._read_row_gen`               the same
`BaseCopy._end_copy_out_gen`           the same, and its end
`generators.copy_to`                   known by its code: a step of COPY
`generators.copy_end`                  the same, and its end
`generators.fetch`                     reading what a cancelled query leaves behind
`generators.notifies`                  reading notifications
=====================================  ==============================================================
"""
# pyright: reportPrivateUsage=false
# ruff: noqa: SLF001
# (the table above says which private names, and why)

from __future__ import annotations

import math
from collections import deque
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import cached_property, partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast

import psycopg
import trio
from psycopg import generators, pq
from psycopg._connection_base import BaseConnection
from psycopg._copy_base import BaseCopy
from psycopg._cursor_base import BaseCursor
from psycopg._pipeline_base import BasePipeline
from psycopg._server_cursor_base import ServerCursorMixin
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import Row, tuple_row
from psycopg.transaction import BaseTransaction
from psycopg.waiting import Ready, Wait
from trio.lowlevel import (
    cancel_shielded_checkpoint,
    checkpoint,
    checkpoint_if_cancelled,
    wait_readable,
    wait_writable,
)

from jobrt._trio_psycopg.cancel import request_cancel
from jobrt._trio_psycopg.errors import AllHostsFailed
from jobrt._trio_psycopg.hosts import attempt, connect_timeout, name_place, resolve, split_hosts
from jobrt._trio_psycopg.prepared import PreparedStatements
from jobrt._trio_psycopg.socket import ready_now, wait_for_either
from jobrt._trio_psycopg.turn import Notifications, Turn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from types import CodeType
    from typing import Self

    from psycopg.abc import RV, AdaptContext, ConnDict, ConnParam, PQGen, PQGenConn
    from psycopg.pq.abc import PGconn
    from psycopg.rows import AsyncRowFactory

__all__ = ["TrioConnection"]

_UNBREAKABLE: Final = frozenset(
    {
        BaseConnection._commit_gen.__code__,
        BaseConnection._rollback_gen.__code__,
        BaseConnection._tpc_finish_gen.__code__,
        BaseTransaction[Any]._exit_gen.__code__,
        ServerCursorMixin[Any, Any]._close_gen.__code__,
    }
)
"""Short ends, of transactions above all: begun even in a cancelled scope, and never cut."""

_COPY_ENDINGS: Final = frozenset({BaseCopy[Any]._end_copy_out_gen.__code__, generators.copy_end.__code__})

_BEGUN_ANYWAY: Final = (
    _UNBREAKABLE
    | _COPY_ENDINGS
    | {
        BaseCursor[Any, Any]._stream_fetchone_gen.__code__,
        BasePipeline._exit_gen.__code__,
        BaseTransaction[Any]._enter_gen.__code__,
    }
)
"""With what else ends something, and what counts on being begun: these may be cut short, but not left out."""

_GO_ON: Final = _COPY_ENDINGS | {
    BasePipeline._exit_gen.__code__,
    BaseCopy[Any]._read_gen.__code__,
    BaseCopy[Any]._read_row_gen.__code__,
    generators.copy_to.__code__,
}
"""What is driven on after the server was asked to cancel: these end by themselves, and keep psycopg's books."""

_COPYING: Final = (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH)

_LONGEST_WITHOUT_PAUSE: Final = 0.001
"""Seconds that a connection goes on without a turn for other tasks, when nothing makes it wait.

A COPY or a pipeline into a socket that has room would otherwise have the event loop to itself. A checkpoint
costs some 5 µs, so one in a millisecond costs half a per cent.
"""


class TrioConnection(psycopg.AsyncConnection[Row]):
    """Talk to PostgreSQL from Trio, as psycopg's own documentation says.

    A connection belongs to one task at a time. ``close()`` and ``abort()`` may also be called from another:
    whoever waits on the connection then gets `psycopg.OperationalError`.
    """

    cancel_timeout: float = 3.0
    """Seconds that a cancelled call may take to clean up in the server, before the connection is closed."""

    lock: Turn  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]  # not asyncio's

    def __init__(self, pgconn: PGconn, row_factory: AsyncRowFactory[Row] | None = None) -> None:
        super().__init__(pgconn, row_factory or cast("AsyncRowFactory[Row]", tuple_row))
        self.lock = Turn(after_error=partial(_hang_up_if_busy, pgconn))
        self.inbox: deque[psycopg.Notify] = deque()
        database, user, host, port = (
            part.decode(errors="replace") for part in (pgconn.db, pgconn.user, pgconn.host, pgconn.port)
        )
        self.where = name_place(database, user, host=host, port=port)
        self._paused_at = monotonic()
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
        """Connect to the first host of the conninfo that takes the connection.

        ``connect_timeout`` (seconds; at least 2, by default 130) holds for each address by itself, and for
        the resolution of each name; but no more than each host's share of ``within`` seconds, so that a silent
        host leaves time for the next. ``prepare_threshold=None`` prepares nothing, as PgBouncer may need it.

        Raises:
            psycopg.ProgrammingError: the conninfo makes no sense.
            psycopg.OperationalError: no host took the connection; `AllHostsFailed` where several were tried.
        """
        conn = await cls._dial(conninfo_to_dict(conninfo, **kwargs), within=within)
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
    async def _dial(cls, params: ConnDict, *, within: float) -> Self:
        hosts = split_hosts(params)
        seconds = min(connect_timeout(params), within / len(hosts))
        failures: list[psycopg.Error] = []
        try:
            for host in hosts:
                for address in await resolve(host, seconds=seconds, failures=failures):
                    with attempt(address, seconds=seconds, failures=failures):
                        return await _converse(cls._connect_gen(make_conninfo("", **address)))
            raise failures[0] if len(failures) == 1 else AllHostsFailed(failures)
        finally:
            del failures  # or the error, its traceback and this frame would keep each other alive

    async def close(self) -> None:
        """Close the connection at once, without waiting for the server, and wake whoever waits on it."""
        self.abort()
        await checkpoint()

    def abort(self) -> None:
        """Do what ``close()`` does without being a checkpoint: for cleaning up."""
        self._closed = True
        _hang_up(self.pgconn)

    @property
    def reusable(self) -> bool:
        """Whether the connection is open and no query, transaction or pipeline is under way on it."""
        pgconn = self.pgconn
        return (
            pgconn.status == pq.ConnStatus.OK
            and pgconn.transaction_status == pq.TransactionStatus.IDLE
            and pgconn.pipeline_status == pq.PipelineStatus.OFF
        )

    def check_alive(self) -> bool:
        """Look, without a round trip, whether the server has hung up on this idle connection."""
        try:
            # There may be notifications to read, or the server's last words and then the end of the stream.
            while ready_now(self.pgconn.socket, Wait.R):
                self.pgconn.consume_input()
                self._collect_notifications()
        except psycopg.Error:
            return False
        return not self.closed

    @cached_property
    def prepared(self) -> PreparedStatements:
        """What was prepared on this connection, and the quick way to run it."""
        return PreparedStatements(self)

    # Waiting

    async def wait(self, gen: PQGen[RV], interval: float = 0.0, timeout: float | None = None) -> RV:  # noqa: ARG002, ASYNC109  # psycopg's signature
        """Drive one of psycopg's generators to its end; everything that psycopg does comes through here.

        Raises:
            psycopg.Error: what the generator raises, or that the connection was closed meanwhile.
            trio.TooSlowError: ``timeout`` seconds have passed.
        """
        if timeout is not None:
            with trio.fail_after(timeout):
                return await self.wait(gen)
        code = _code(gen)
        ending = code in _BEGUN_ANYWAY
        if not ending:
            await self._pause()
        try:
            return await self._drive(gen, ending=ending)
        except trio.Cancelled:
            with self._clean_up():
                if code in _UNBREAKABLE:
                    return await self._drive(gen)
                await self._interrupt(gen)
            _dispose(gen)
            raise
        except KeyboardInterrupt:
            self.abort()  # no time to find out what the server is doing
            _dispose(gen)
            raise

    async def _drive(self, gen: PQGen[RV], *, ending: bool = False) -> RV:
        try:
            # Raises if there is none: before the generator is begun, which must be ended.
            fd = self.pgconn.socket
            wanted = next(gen)
            while True:
                if wanted == Wait.R:
                    await wait_readable(fd)
                    self._paused_at = monotonic()
                    wanted = gen.send(Ready.R)
                else:
                    wanted = gen.send(await self._wait_to_write(fd, wanted, ending=ending))
        except StopIteration as end:
            return cast("RV", end.value)
        except (trio.ClosedResourceError, OSError) as error:
            _dispose(gen)
            raise psycopg.OperationalError("the connection was closed while in use") from error

    async def _wait_to_write(self, fd: int, wanted: Wait, *, ending: bool) -> int:
        await self._pause(ending=ending)
        if ready := ready_now(fd, wanted):  # nearly always, and far cheaper than asking Trio
            return ready
        if wanted == Wait.RW:
            return await wait_for_either(fd)
        await wait_writable(fd)
        return Ready.W

    async def _pause(self, *, ending: bool = False) -> None:
        """Raise if cancelled, but not at an end, and give others a turn if there has been none for long."""
        if not ending:
            await checkpoint_if_cancelled()
        if monotonic() - self._paused_at > _LONGEST_WITHOUT_PAUSE:
            await cancel_shielded_checkpoint()
            self._paused_at = monotonic()

    # Being cancelled

    @contextmanager
    def _clean_up(self) -> Generator[None]:
        """Shield what must be done after a cancellation, but close the connection when it takes too long."""
        deadline = trio.current_time() + self.cancel_timeout
        with trio.CancelScope(deadline=deadline, shield=True) as scope:
            yield
        if scope.cancelled_caught:
            self.abort()

    async def _interrupt(self, gen: PQGen[Any]) -> None:
        """Make the server stop what ``gen`` has asked it to do, or close the connection."""
        pgconn = self.pgconn
        active = pgconn.transaction_status == pq.TransactionStatus.ACTIVE
        goes_on = _code(gen) in _GO_ON or (active and pgconn.pipeline_status)
        try:
            if pgconn.is_busy() and pgconn.flush():
                self.abort()  # the server has only half of the query, so this withdraws it
                return
            if active:
                await request_cancel(self.pgconn)
            if goes_on:
                with suppress(psycopg.Error):  # "canceling statement due to user request"
                    await self._drive(gen)
            elif active:
                gen.close()  # or it might go on, say from BEGIN to the query itself
                await self._discard_results()
        except psycopg.Error:
            self.abort()

    async def _discard_results(self) -> None:
        while result := await self._drive(generators.fetch(self.pgconn)):
            if result.status in _COPYING:
                raise psycopg.OperationalError("a COPY began while it was being cancelled")

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:  # noqa: ASYNC109  # psycopg's signature
        """Ask the server to stop what it is doing on this connection; for use from another task.

        Raises:
            psycopg.errors.CancellationTimeout: the request was not answered in ``timeout`` seconds.
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
        """Send the block's queries without waiting for the results of those before.

        When it is cut short, by whatever, the connection is afterwards as it was before, or closed.
        """
        with self._in_order():
            async with super().pipeline() as pipeline:
                yield pipeline

    @asynccontextmanager
    async def _pipeline_nolock(self) -> AsyncGenerator[psycopg.AsyncPipeline]:
        with self._in_order():
            async with super()._pipeline_nolock() as pipeline:
                yield pipeline

    @contextmanager
    def _in_order(self) -> Generator[None]:
        """Close the connection if cancelling the block's pipeline has left results or a transaction behind."""
        pgconn = self.pgconn
        before = pgconn.transaction_status, pgconn.pipeline_status
        try:
            yield
        except BaseException as error:
            mode_is_stuck = before[1] != pgconn.pipeline_status
            cut = isinstance(error, trio.Cancelled) and not before[1]
            if mode_is_stuck or (cut and before[0] != pgconn.transaction_status):
                self.abort()
            raise

    @asynccontextmanager
    async def transaction(
        self,
        savepoint_name: str | None = None,
        force_rollback: bool = False,  # noqa: FBT001, FBT002  # psycopg's
    ) -> AsyncGenerator[psycopg.AsyncTransaction]:
        """Run the block in a transaction, or in a savepoint if there is one already.

        The end is carried through whatever is cancelled meanwhile: `trio.Cancelled` means rolled back, or
        that the server was silent for ``cancel_timeout`` seconds and the connection is closed. (Inside a
        pipeline the end is only queued, and this does not hold.)
        """
        await checkpoint_if_cancelled()
        opened: psycopg.AsyncTransaction | None = None
        try:
            async with super().transaction(savepoint_name, force_rollback) as opened:
                yield opened
        finally:
            if opened is not None and opened.status is opened.Status.ACTIVE:
                self.abort()  # cancelled while another task held the connection: the end was never sent

    def notifies(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # psycopg's is an async generator: it keeps the connection to itself, and wants aclosing()
        self, *, timeout: float | None = None, stop_after: int | None = None
    ) -> Notifications:
        """Iterate over notifications, those that came during queries first.

        Other tasks may query meanwhile, and so may the body of the loop. The loop may be left at any time;
        what was not seen stays for the next one. ``timeout`` is in seconds, for the whole iteration.
        """
        return Notifications(self, timeout=timeout, stop_after=stop_after)

    async def wait_notified(self) -> None:
        """Wait until there is something in ``inbox``, letting other tasks query meanwhile.

        Raises:
            psycopg.OperationalError: the connection is lost, or was closed.
        """
        await checkpoint()
        while not self.inbox:
            async with self.lock:
                self._collect_notifications()
                if not self.inbox:
                    with self.lock.giving_way():
                        await self.wait(generators.notifies(self.pgconn))

    def _collect_notifications(self) -> None:
        """Take what libpq has read already: the socket will not become readable for it again."""
        while (notification := self.pgconn.notifies()) and self.pgconn.notify_handler:
            self.pgconn.notify_handler(notification)


def _code(gen: PQGen[Any]) -> CodeType:
    return gen.gi_code  # type: ignore[attr-defined,no-any-return]  # they are all written with `yield`


def _hang_up(pgconn: PGconn) -> None:
    with suppress(psycopg.Error):  # there is no socket any more
        trio.lowlevel.notify_closing(pgconn.socket)
    pgconn.finish()  # says goodbye if the socket has room for it, and never waits


def _hang_up_if_busy(pgconn: PGconn) -> None:
    """Close what a task gives up in the midst of something: a COPY, say, that was cut as it sent its last rows."""
    if pgconn.transaction_status == pq.TransactionStatus.ACTIVE and not pgconn.pipeline_status:
        _hang_up(pgconn)


def _dispose(gen: PQGen[Any]) -> None:
    """Close a generator that was left in its midst, now rather than when it is collected: it may complain."""
    with suppress(psycopg.Error, RuntimeError):
        gen.close()


async def _converse(gen: PQGenConn[RV]) -> RV:
    """Drive a generator that says at each step which socket it means."""
    try:
        fd, wanted = next(gen)
        while True:
            if wanted == Wait.R:
                await wait_readable(fd)
                fd, wanted = gen.send(Ready.R)
            else:
                await wait_writable(fd)
                fd, wanted = gen.send(Ready.W)
    except StopIteration as end:
        return cast("RV", end.value)
    finally:
        gen.close()  # and with it the socket of what was not finished
