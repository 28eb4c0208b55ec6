"""Ctrl-C during a command: it cancels the command.

By default Trio raises `KeyboardInterrupt` between any two instructions of the code that runs. What it hits is left
half done. If that is a start of a task, for instance, its nursery waits for the task for ever.
"""

import signal
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

import trio

R = TypeVar("R")


async def cancelled_by_interrupt(function: Callable[[], Awaitable[R]]) -> R:
    """Await `function`, which the first Ctrl-C cancels; raise `KeyboardInterrupt` if it did.

    A command that does not end, because it blocks the event loop, can be interrupted by a second Ctrl-C, as usual.
    """
    with trio.CancelScope() as scope, _cancelling(scope):
        return await function()
    raise KeyboardInterrupt


@contextmanager
def _cancelling(scope: trio.CancelScope) -> Generator[None]:
    before = signal.getsignal(signal.SIGINT)
    token = trio.lowlevel.current_trio_token()

    def cancel(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        token.run_sync_soon(scope.cancel)

    with _handled(cancel):
        yield


@contextmanager
def interrupted_at_once() -> Generator[None]:
    """Raise `KeyboardInterrupt` at once in a block that blocks the event loop: it asks a person, or imports."""
    with _handled(signal.default_int_handler):
        yield


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], object]) -> Generator[None]:
    """Handle SIGINT in a block, unless it is ignored, as in the background of a shell, or this is not the main thread.

    A handler that the block sets stays: an application may have its own.
    """
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is handler:
            signal.signal(signal.SIGINT, before)
