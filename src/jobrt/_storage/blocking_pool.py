"""Connections of a program without Trio, for any number of threads.

Each call borrows a connection and returns it, so two threads never share one, and a thread that ends leaves none
behind. No connection is used on both sides of a fork: the child opens its own, and never touches the parent's.

SQLite needs more than that. It keeps a table of its locks for each file and process. A child that inherited it would
believe that it holds the locks of its parent. So the pool closes such connections before a fork, which empties the
table. It waits for calls of other threads for `_FORK_PATIENCE` seconds at most.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, Generic, TypeVar

import attrs

from jobrt.errors import StorageError

ConnectionT = TypeVar("ConnectionT")

_SIZE: Final = 10
"""Connections per pool and process. A call takes milliseconds, so more threads than that take turns."""

_FORK_PATIENCE: Final = 5.0
"""Seconds that a fork waits for the calls of other threads."""

_inherited: Final[list[object]] = []
"""Connections of parent processes. They are never closed, nor collected, which would close them too."""


@attrs.define(eq=False)
class BlockingPool(Generic[ConnectionT]):
    """Connections of one client.

    Args:
        connect: opens a connection.
        close: closes a connection.
        usable: returns whether a connection that was idle, or has just failed, can be used for another call.
        place: name of the database, for messages.
        closed_before_fork: whether connections are closed before a fork.

    """

    connect: Callable[[], ConnectionT]
    close_one: Callable[[ConnectionT], None]
    usable: Callable[[ConnectionT], bool]
    place: str = attrs.field(kw_only=True)
    closed_before_fork: bool = attrs.field(default=False, kw_only=True)
    _changed: threading.Condition = attrs.field(factory=threading.Condition, init=False)
    _idle: list[ConnectionT] = attrs.field(factory=list[Any], init=False)
    _open: int = attrs.field(default=0, init=False)
    _process: int = attrs.field(factory=os.getpid, init=False)
    _closed: bool = attrs.field(default=False, init=False)
    _forking: bool = attrs.field(default=False, init=False)
    _spoilt: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        with _forks.lock:
            _forks.pools.add(self)

    @contextmanager
    def lend(self) -> Generator[ConnectionT]:
        """Lend a connection to the calling thread for the block. Wait for one while all of them are lent.

        Raises:
            StorageError: the pool is closed, or SQLite cannot be used in this process; see the module.

        """
        connection = self._take()
        process = self._process
        usable = False  # after an interrupt: the answer of the call may still arrive
        try:
            yield connection
            usable = True
        except Exception:
            usable = self.usable(connection)
            raise
        finally:
            if process == os.getpid():
                self._return(connection, usable=usable)
            else:  # a signal handler has forked during the call
                _inherited.append(connection)

    def close(self) -> None:
        """Close the idle connections now, and each lent one when its call has ended."""
        self._check_process()
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            self._open -= len(idle)
            self._changed.notify_all()
        for connection in idle:
            self.close_one(connection)

    def _take(self) -> ConnectionT:
        self._check_process()
        with self._changed:
            while True:
                self._check_open()
                if self._forking or (not self._idle and self._open >= _SIZE):
                    self._changed.wait()
                elif not self._idle:
                    self._open += 1
                    break
                elif self.usable(connection := self._idle.pop()):
                    return connection
                else:
                    self._open -= 1
                    self.close_one(connection)
        return self._connect()

    def _connect(self) -> ConnectionT:
        try:
            return self.connect()
        except BaseException:
            with self._changed:
                self._open -= 1
                self._changed.notify_all()
            raise

    def _return(self, connection: ConnectionT, *, usable: bool) -> None:
        with self._changed:
            kept = usable and not self._closed
            if kept:
                self._idle.append(connection)
            else:
                self._open -= 1
            self._changed.notify_all()
        if not kept:
            self.close_one(connection)

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError(f"{self.place}: the client is closed")
        if self._spoilt:
            raise StorageError(
                f"{self.place}: another thread used the client while this process was forked, and SQLite does not"
                " survive that: fork before threads use it, or start the process with another method than fork"
            )

    # ------------------------------------------------------------------ forks

    def before_fork(self) -> None:
        """Let no call begin until the fork is over, and close what must not be inherited."""
        self._changed.acquire()
        if not self.closed_before_fork:
            return
        self._forking = True
        deadline = time.monotonic() + _FORK_PATIENCE
        while self._open > len(self._idle) and (rest := deadline - time.monotonic()) > 0:
            self._changed.wait(rest)
        for connection in self._idle:
            self.close_one(connection)
        self._open -= len(self._idle)
        self._idle = []

    def after_fork_in_parent(self) -> None:
        """Let calls begin again."""
        self._forking = False
        self._changed.notify_all()
        self._changed.release()

    def after_fork_in_child(self) -> None:
        """Forget the parent's connections. The threads that had borrowed some do not exist here."""
        self._changed = threading.Condition()
        _inherited.extend(self._idle)
        self._spoilt = self._spoilt or (self.closed_before_fork and self._open > 0)
        self._idle, self._open, self._forking, self._process = [], 0, False, os.getpid()

    def _check_process(self) -> None:
        """Notice a fork whose hooks did not run: a server written in C may fork by itself."""
        if self._process != os.getpid():
            self.after_fork_in_child()


@attrs.define(eq=False)
class _Forks:
    """Pools of this process. The lock is held during a fork, so that two forks do not wait for each other."""

    lock: threading.RLock = attrs.field(factory=threading.RLock)
    pools: weakref.WeakSet[BlockingPool[Any]] = attrs.field(factory=weakref.WeakSet[Any])
    held: list[BlockingPool[Any]] = attrs.field(factory=list[Any])

    def before(self) -> None:
        self.lock.acquire()
        self.held = list(self.pools)
        for pool in self.held:
            pool.before_fork()

    def after_in_parent(self) -> None:
        held, self.held = self.held, []
        for pool in held:
            pool.after_fork_in_parent()
        self.lock.release()

    def after_in_child(self) -> None:
        self.lock = threading.RLock()
        for pool in self.held or list(self.pools):
            pool.after_fork_in_child()
        self.held = []


_forks: Final = _Forks()

if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(
        before=_forks.before, after_in_parent=_forks.after_in_parent, after_in_child=_forks.after_in_child
    )
