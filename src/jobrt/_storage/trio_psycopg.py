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
`AsyncConnection._cancel_gen`          the cancel request, over a connection of its own
`AsyncConnection._should_cancel`       whether there is anything to cancel
`AsyncConnection._try_cancel`          replaced: what COPY and ``stream()`` call to clean up
`AsyncConnection._adapters`            set by ``connect(context=…)``
`AsyncConnection._autocommit`          set by ``connect(autocommit=…)``
`AsyncConnection._closed`              tells ``close()`` from a lost connection
`BaseConnection._commit_gen`           known by its code: ends a transaction
`BaseConnection._rollback_gen`         the same
`BaseConnection._tpc_finish_gen`       the same
`BaseTransaction._exit_gen`            the same
`BaseTransaction._enter_gen`           known by its code: always followed by the one above
`BasePipeline._exit_gen`               known by its code: ends a pipeline
`BaseCopy._read_gen`                   known by its code: a step of COPY
`BaseCopy._read_row_gen`               the same
`BaseCopy._end_copy_out_gen`           the same, and its end
`generators.copy_to`                   known by its code: a step of COPY
`generators.copy_end`                  the same, and its end
`generators.fetch`                     reading what a cancelled query leaves behind
`generators.notifies`                  reading notifications
`waiting._ready`                       asking the socket without waiting
`conninfo.timeout_from_conninfo`       ``connect_timeout`` with libpq's defaults
`_conninfo_utils.get_param`            a setting from the conninfo or its environment variable
`_conninfo_utils.split_attempts`       one set of settings per host
=====================================  ==============================================================

Host names are resolved off the loop, except one that stands only in a service file, which libpq reads itself.
"""
# pyright: reportPrivateUsage=false
# ruff: noqa: SLF001
# (the table above says which private names, and why)

from __future__ import annotations

import random
from collections import deque
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, cast

import psycopg
import trio
from psycopg import generators, pq
from psycopg._connection_base import BaseConnection
from psycopg._conninfo_utils import get_param, split_attempts
from psycopg._copy_base import BaseCopy
from psycopg._pipeline_base import BasePipeline
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict, make_conninfo, timeout_from_conninfo
from psycopg.rows import Row, tuple_row
from psycopg.transaction import BaseTransaction
from psycopg.waiting import Ready, Wait, _ready
from trio.lowlevel import checkpoint, checkpoint_if_cancelled, wait_readable, wait_writable

from jobrt._storage.postgres_errors import AllHostsFailed
from jobrt._storage.postgres_turn import Notifications, Turn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
    from types import CodeType
    from typing import Self

    from psycopg.abc import RV, AdaptContext, ConnDict, ConnParam, PQGen, PQGenConn
    from psycopg.pq.abc import PGconn
    from psycopg.rows import AsyncRowFactory

__all__ = ["TrioConnection", "describe"]

_UNBREAKABLE: Final = frozenset(
    {
        BaseTransaction[Any]._exit_gen.__code__,
        BaseConnection._commit_gen.__code__,
        BaseConnection._rollback_gen.__code__,
        BaseConnection._tpc_finish_gen.__code__,
    }
)
"""Ends of transactions: begun even in a cancelled scope, and carried through when cancelled meanwhile."""

_COPY_ENDINGS: Final = frozenset({BaseCopy[Any]._end_copy_out_gen.__code__, generators.copy_end.__code__})

_BEGUN_ANYWAY: Final = (
    _UNBREAKABLE
    | _COPY_ENDINGS
    | {BasePipeline._exit_gen.__code__, BaseTransaction[Any]._enter_gen.__code__}
)
"""With what else ends something, and what counts on being begun: these may be cut short, but not left out."""

_COPY_STEPS: Final = _COPY_ENDINGS | {
    BaseCopy[Any]._read_gen.__code__,
    BaseCopy[Any]._read_row_gen.__code__,
    generators.copy_to.__code__,
}
"""Steps of a COPY: when one is cut short, the COPY's end still follows and expects to find it under way."""

_COPYING: Final = (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH)

_STEPS_WITHOUT_PAUSE: Final = 32
"""How often a connection goes on without a turn for other tasks, when nothing makes it wait.

Writing a row to COPY takes some 3 µs and a checkpoint as much again: one in 32 costs 3 % and is 0.1 ms away.
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
        self.lock = Turn()
        self.inbox: deque[psycopg.Notify] = deque()
        database, user, host, port = (
            part.decode(errors="replace") for part in (pgconn.db, pgconn.user, pgconn.host, pgconn.port)
        )
        self.where = _where(database, user, host=host, port=port)
        self._steps = 0
        self.add_notify_handler(self.inbox.append)

    # Connecting and closing

    @classmethod
    async def connect(
        cls,
        conninfo: str = "",
        *,
        autocommit: bool = False,
        prepare_threshold: int | None = 5,
        context: AdaptContext | None = None,
        row_factory: AsyncRowFactory[Row] | None = None,
        cursor_factory: type[psycopg.AsyncCursor[Row]] | None = None,
        **kwargs: ConnParam,
    ) -> Self:
        """Connect to the first host of the conninfo that takes the connection.

        ``connect_timeout`` (seconds; at least 2, by default 130) holds for each address by itself, and for
        the resolution of each name. ``prepare_threshold=None`` prepares nothing, as PgBouncer may need it.

        Raises:
            psycopg.ProgrammingError: the conninfo makes no sense.
            psycopg.OperationalError: no host took the connection; `AllHostsFailed` where several were tried.
        """
        conn = await cls._dial(conninfo_to_dict(conninfo, **kwargs))
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
    async def _dial(cls, params: ConnDict) -> Self:
        seconds = timeout_from_conninfo(params)
        failures: list[psycopg.Error] = []
        try:
            for host in _hosts(params):
                for address in await _addresses(host, seconds=seconds, failures=failures):
                    with _attempt(address, seconds=seconds, failures=failures):
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
        with suppress(psycopg.Error):  # there is no socket any more
            trio.lowlevel.notify_closing(self.pgconn.socket)
        self.pgconn.finish()  # says goodbye if the socket has room for it, and never waits

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
            while _ready(self.pgconn.socket, Wait.R):
                self.pgconn.consume_input()
                self._collect_notifications()
        except psycopg.Error:
            return False
        return not self.closed

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
        if code not in _BEGUN_ANYWAY:
            await self._pause()
        try:
            return await self._drive(gen)
        except trio.Cancelled:
            with self._clean_up():
                if code in _UNBREAKABLE:
                    return await self._drive(gen)
                await self._interrupt(gen)
            raise
        except KeyboardInterrupt:
            self.abort()  # no time to find out what the server is doing
            raise

    async def _drive(self, gen: PQGen[RV]) -> RV:
        try:
            wanted = next(gen)
            fd = self.pgconn.socket
            while True:
                if wanted == Wait.R:
                    self._steps = 0
                    await wait_readable(fd)
                    wanted = gen.send(Ready.R)
                else:
                    wanted = gen.send(await self._wait_to_write(fd, wanted))
        except StopIteration as end:
            return cast("RV", end.value)
        except (trio.ClosedResourceError, OSError) as error:
            raise psycopg.OperationalError("the connection was closed while in use") from error

    async def _wait_to_write(self, fd: int, wanted: Wait) -> int:
        await self._pause()
        if ready := _ready(fd, wanted):  # nearly always, and far cheaper than asking Trio
            return ready
        self._steps = 0
        if wanted == Wait.RW:
            return await _wait_for_either(fd)
        await wait_writable(fd)
        return Ready.W

    async def _pause(self) -> None:
        """Raise if cancelled, and give other tasks a turn if there has been none for long."""
        self._steps += 1
        if self._steps < _STEPS_WITHOUT_PAUSE:
            await checkpoint_if_cancelled()
        else:
            self._steps = 0
            await checkpoint()

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
        if pgconn.transaction_status != pq.TransactionStatus.ACTIVE:
            return
        try:
            if pgconn.is_busy() and pgconn.flush():
                self.abort()  # the server has only half of the query, so this withdraws it
                return
            await self._request_cancel()
            if _code(gen) in _COPY_STEPS or pgconn.pipeline_status:
                with suppress(psycopg.Error):  # "canceling statement due to user request"
                    await self._drive(gen)
            else:
                gen.close()  # or it might go on, say from BEGIN to the query itself
                await self._discard_results()
        except psycopg.Error:
            self.abort()

    async def _discard_results(self) -> None:
        while result := await self._drive(generators.fetch(self.pgconn)):
            if result.status in _COPYING:
                raise psycopg.OperationalError("a COPY began while it was being cancelled")

    async def _request_cancel(self) -> None:
        if psycopg.capabilities.has_cancel_safe():
            await _converse(self._cancel_gen())
        else:  # libpq before 17 can only block
            await trio.to_thread.run_sync(self.pgconn.get_cancel().cancel, abandon_on_cancel=True)

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:  # noqa: ASYNC109  # psycopg's signature
        """Ask the server to stop what it is doing on this connection; for use from another task.

        Raises:
            psycopg.errors.CancellationTimeout: the request was not answered in ``timeout`` seconds.
        """
        if not self._should_cancel():
            return
        try:
            with trio.fail_after(timeout):
                await self._request_cancel()
        except trio.TooSlowError:
            raise psycopg.errors.CancellationTimeout("cancellation timeout expired") from None

    async def _try_cancel(self, *, timeout: float = 5.0) -> None:  # noqa: ASYNC109  # psycopg's signature
        deadline = trio.current_time() + min(timeout, self.cancel_timeout)
        with trio.CancelScope(deadline=deadline, shield=True), suppress(psycopg.Error):
            await self.cancel_safe()

    # Transactions and notifications

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


def describe(conninfo: str) -> str:
    """Name database, hosts and user of a conninfo for a message; never the password.

    Raises:
        psycopg.ProgrammingError: the conninfo makes no sense.
    """
    params = conninfo_to_dict(conninfo)
    database, user, host, port = (get_param(params, key) or "" for key in ("dbname", "user", "host", "port"))
    return _where(database, user, host=host, port=port)


def _where(database: str, user: str, *, host: str, port: str) -> str:
    place = f"{host or 'localhost'}:{port or 5432}"
    who = f" as {user}" if user else ""
    return f"PostgreSQL {database or user} at {place}{who}"


def _hosts(params: ConnDict) -> list[ConnDict]:
    """Split off the settings for each host, in the order in which to try them."""
    hosts = split_attempts(params)
    if get_param(params, "load_balance_hosts") == "random":
        random.shuffle(hosts)
    if get_param(params, "target_session_attrs") == "prefer-standby":  # libpq knows one host at a time here
        hosts = [{**host, "target_session_attrs": kind} for kind in ("standby", "any") for host in hosts]
    return hosts


async def _addresses(host: ConnDict, *, seconds: float, failures: list[psycopg.Error]) -> list[ConnDict]:
    """Resolve the host's name, if it has one that is not resolved; without an address, note why."""
    name = get_param(host, "host") or ""
    is_path = name.startswith(("/", "@")) or name[1:2] == ":"
    if not name or is_path or get_param(host, "hostaddr"):
        return [host]
    addresses: list[ConnDict] = []
    with _attempt(host, seconds=seconds, failures=failures):
        try:
            found = await trio.socket.getaddrinfo(name, None, type=trio.socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise psycopg.OperationalError(f"cannot resolve the host name {name!r}: {error}") from error
        addresses = [{**host, "hostaddr": str(sockaddr[0])} for *_, sockaddr in found]
    if get_param(host, "load_balance_hosts") == "random":
        random.shuffle(addresses)
    return addresses


@contextmanager
def _attempt(host: ConnDict, *, seconds: float, failures: list[psycopg.Error]) -> Generator[None]:
    """Give the block ``seconds``; note its failure instead of raising it."""
    with trio.move_on_after(seconds) as scope:
        try:
            yield
        except psycopg.Error as error:
            failures.append(error.with_traceback(None))
    if scope.cancelled_caught:
        name, port = get_param(host, "host") or get_param(host, "hostaddr"), get_param(host, "port") or 5432
        failures.append(psycopg.errors.ConnectionTimeout(f"{name}:{port} did not answer within {seconds} s"))


def _code(gen: PQGen[Any]) -> CodeType:
    return gen.gi_code  # type: ignore[attr-defined,no-any-return]  # they are all written with `yield`


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


async def _wait_for_either(fd: int) -> int:
    """Wait until the socket can be read or written; a full pipe in both directions needs both."""
    ready = 0

    async def watch(wait: Callable[[int], Awaitable[None]], flag: Ready) -> None:
        nonlocal ready
        await wait(fd)
        ready |= flag
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, wait_readable, Ready.R)
            nursery.start_soon(watch, wait_writable, Ready.W)
    except BaseExceptionGroup as group:
        await checkpoint_if_cancelled()  # a plain Cancelled, instead of a group of them
        raise trio.ClosedResourceError from group
    return ready
