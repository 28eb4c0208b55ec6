"""Signals to stop, heard by a thread: a job that blocks the event loop cannot keep a worker from ending.

Python runs signal handlers in the main thread only, between two of its instructions. Trio's receiver also needs a
turn of the event loop. So this module uses `signal.set_wakeup_fd`: a handler in C writes each signal's number to a
socket, whatever Python does. The numbers are read by the thread of `StopSignals`, which tells the worker and watches
the clock, and by the guard (`jobrt.cli.guard`), in case that no thread can run.

Both only peek. What was received stays in the socket, so that both count the same.

Rejected: `signal.sigwait` in a thread. The signals must then be blocked in all threads, and the processes that jobs
start inherit that: they could not be terminated.
"""

import logging
import math
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

import attrs
import trio

from jobrt.cli import ending, guard

_INTERVAL = 0.05
"""Seconds between two looks after the first signal."""
_BLOCKED_SECONDS = 0.6
"""Seconds that a process exits earlier if its event loop has not heard the signal: it has nothing to wait for."""
_logger = logging.getLogger("jobrt")
_NO_SIGNAL = b"\0"
"""Number that ends the thread; no signal has it."""


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: Python writes the number of a signal only if the signal has a handler."""


@attrs.define(eq=False, kw_only=True)
class StopSignals:
    """Thread that hears signals to stop, and ends the process when its time is over.

    The process may go on for ``seconds`` after the grace. ``left`` is called in that thread and names the jobs that
    have not ended. ``at_exit`` is called in it before the process exits. ``parent`` is the socket on which a parent
    process asks to stop; its end counts as a request.
    """

    grace: float
    seconds: float = guard.EXIT_SECONDS
    left: Callable[[], Sequence[str]] = tuple
    at_exit: Callable[[], object] = bool
    parent: socket.socket | None = None
    _stops: list[float] = attrs.Factory(list)
    _answered: int = 0
    _ended: threading.Event = attrs.Factory(threading.Event)
    _sockets: tuple[socket.socket, socket.socket] = attrs.Factory(socket.socketpair)
    _counts: Any = attrs.field(factory=lambda: trio.open_memory_channel[int](math.inf))
    _token: trio.lowlevel.TrioToken = attrs.Factory(trio.lowlevel.current_trio_token)

    @contextmanager
    def listening(self, *, guarded: bool) -> Generator[None]:
        """Hear signals during a ``with`` block in Trio's main thread; `guarded` starts a guard."""
        received, sent = self._sockets
        received.settimeout(0)
        sent.settimeout(0)
        handlers = {number: signal.signal(number, _ignore) for number in guard.STOP_SIGNALS}
        # Trio's own socket is replaced: the thread wakes Trio up instead.
        trios = signal.set_wakeup_fd(sent.fileno(), warn_on_full_buffer=False)
        keeper = _start_guard(received, self.grace) if guarded else None
        thread = threading.Thread(target=self._listen, name="jobrt signals", daemon=True)
        thread.start()
        _active.append(self)
        try:
            yield
        finally:
            _active.remove(self)
            signal.set_wakeup_fd(trios, warn_on_full_buffer=False)
            self._ended.set()
            if ending.owns_process():
                # From now on a signal has no effect, and must not change the exit status. The thread and the guard
                # stay: they end the process if its end takes too long.
                for number in handlers:
                    signal.signal(number, signal.SIG_IGN)
                if time.monotonic() >= self._exit_at():
                    self._exit()
                ending.expect_exit_by(self._exit_at())
            else:
                self._stop_listening(thread, handlers, keeper)

    def _stop_listening(
        self, thread: threading.Thread, handlers: dict[signal.Signals, Any], keeper: Any
    ) -> None:
        received, sent = self._sockets
        sent.send(_NO_SIGNAL)
        thread.join()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if keeper is not None:
            keeper.kill()
            keeper.wait()
        received.close()
        sent.close()

    async def wait(self) -> int:
        """Wait for the next request to stop, and return how many there were."""
        count: int = await self._counts[1].receive()
        self._answered = count
        return count

    def _exit_at(self) -> float:
        seconds = self.seconds - (_BLOCKED_SECONDS if self._is_blocked() else 0.0)
        return guard.exit_at(self._stops, self.grace, seconds=seconds)

    def _is_blocked(self) -> bool:
        return self._answered < len(self._stops)

    # ------------------------------------------------------------------ in the thread

    def _listen(self) -> None:
        while not self._ended.wait(0.0 if not self._stops else _INTERVAL):
            if not self._stops:
                select.select(self._readable(), [], [])
            self._count(self._received())
            if time.monotonic() >= self._exit_at():
                self._exit()

    def _readable(self) -> list[socket.socket]:
        return [self._sockets[0]] if self.parent is None else [self._sockets[0], self.parent]

    def _received(self) -> int:
        """Return how often the process was told to stop: by signals, or by its parent."""
        numbers = guard.peek(self._sockets[0])
        count = guard.count_stops(numbers or b"")
        if numbers and not count:
            self._sockets[0].recv(len(numbers))  # otherwise signals for others would fill the socket
            self._tell_trio(lambda: None)  # it wakes up and runs their handlers
        if self.parent is None:
            return count
        # A service manager, or a terminal, sends a signal to this process and to its parent, which sends a request.
        requests = guard.peek(self.parent)
        return count if requests is None else max(count, len(requests), 1)

    def _count(self, count: int) -> None:
        for number in range(len(self._stops) + 1, count + 1):
            self._stops.append(time.monotonic())
            self._tell_trio(partial(self._counts[0].send_nowait, number))

    def _tell_trio(self, function: Callable[[], object]) -> None:
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(function)

    def _exit(self) -> None:
        """Exit, with one line that says why, and which jobs are left."""
        self.at_exit()
        seconds = time.monotonic() - self._stops[0]
        if len(self._stops) > 2:  # noqa: PLR2004 - the third signal
            reason = "at the third signal"
        elif self._is_blocked():
            reason = f"{seconds:.1f} s after the signal, because the event loop is blocked"
        else:
            reason = f"{seconds:.1f} s after the signal, because the shutdown is not complete"
        ending.exit_now(1, f"exiting {reason}", jobs=self.left())


def _start_guard(received: socket.socket, grace: float) -> subprocess.Popen[bytes] | None:
    """Start the guard, where processes can inherit a socket and Python can run its file."""
    if os.name != "posix" or getattr(sys, "frozen", False):
        return None
    arguments = [str(received.fileno()), repr(grace), str(os.getpid())]
    try:
        return subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-I", "-S", guard.__file__, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(received.fileno(),),
            start_new_session=True,  # a terminal's Ctrl-C is not for it
        )
    except OSError as error:  # too many processes, for instance: the worker can do without
        _logger.warning(
            "no guard was started, so a job that stops all Python code holds the process: %s", error
        )
        return None


_active: list[StopSignals] = []


def _leave_signals_in_fork() -> None:
    """Give a forked process Python's usual reaction: it is not the worker, and would write to the worker's socket."""
    if not _active:
        return
    _active.clear()
    signal.set_wakeup_fd(-1)
    for number in guard.STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_signals_in_fork)
