"""The asyncio loop of a worker: all asyncio jobs share it, and none of them can end it for the others.

Imported for the first asyncio job, because trio-asyncio changes asyncio's policy.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import attrs
import trio

from jobrt._core.interrupt import from_signal
from jobrt._core.text import in_one_line

with warnings.catch_warnings():
    # On Python 3.12 and 3.13 it uses what asyncio deprecates; under `-W error` no asyncio job would run.
    warnings.simplefilter("ignore", DeprecationWarning)
    import trio_asyncio
    from trio_asyncio._base import TrioAsyncioExit  # pyright: ignore[reportPrivateUsage] - how its loop ends

_LEAVE: Final = 1.0
"""Seconds that tasks which jobs left behind have to end when the loop is closed: it is part of a worker's stop."""
_NOT_YOURS: Final = "this asyncio loop is the worker's, and runs other jobs too: return from `run` instead"

_logger = logging.getLogger("jobrt")

# trio-asyncio has no types; what can be inferred of its source is not what it means.
_library: Any = trio_asyncio
_TrioEventLoop: Any = trio_asyncio.TrioEventLoop


class LoopClosed(RuntimeError):
    """Raised in an attempt whose asyncio loop has ended; the next attempt gets another one."""


class SharedLoop(_TrioEventLoop):  # type: ignore[misc]  # see above
    """Loop that goes on whatever the code of a job does.

    In asyncio `SystemExit` and `KeyboardInterrupt` leave the loop, from any task; trio-asyncio's loop also ends with
    any error that nobody awaits. Here each ends its own task, or callback, alone.
    """

    leaving: bool = False
    """Whether the service that opened it closes it."""

    def stop(self, waiter: Any = None) -> Any:
        """Refuse, unless the worker closes the loop."""
        if not self.leaving:
            raise RuntimeError(f"loop.stop(): {_NOT_YOURS}")
        return super().stop(waiter)

    def close(self) -> None:
        """Refuse, unless the worker closes the loop."""
        if not self.leaving:
            raise RuntimeError(f"loop.close(): {_NOT_YOURS}")
        super().close()

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log, as asyncio does; that of trio-asyncio then ends the loop."""
        asyncio.BaseEventLoop.default_exception_handler(self, context)

    async def _main_loop_one(self, no_wait: bool = False) -> None:  # noqa: FBT001, FBT002 - the signature that it has
        try:
            await super()._main_loop_one(no_wait)
        except TrioAsyncioExit:
            raise
        except (SystemExit, KeyboardInterrupt) as error:
            _contain(error)

    async def _io_task(self, *args: Any) -> None:
        try:
            await super()._io_task(*args)
        except (SystemExit, KeyboardInterrupt) as error:
            _contain(error)

    def run_trio_task(self, proc: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Start a Trio task; what it raises is logged."""
        return super().run_trio_task(_logged, proc, *args)


def _contain(error: BaseException) -> None:
    """Log an error that is to end its task alone; that task, if there is one, has it as its exception."""
    if from_signal(error):
        raise error
    _logger.warning("a task or callback under asyncio raised %s; the loop goes on", in_one_line(error))


async def _logged(proc: Callable[..., Awaitable[Any]], *args: Any) -> None:
    try:
        await proc(*args)
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        if from_signal(error):
            raise
        _logger.warning("a Trio task of an asyncio job raised %s", in_one_line(error), exc_info=True)


@attrs.define(eq=False)
class AsyncioLoop:
    """Service that runs coroutines under asyncio: one loop for a worker, opened for the first, replaced if it ends."""

    start: Callable[..., Awaitable[Any]]
    """Starts a service in the worker's scope and returns what it gave to ``started``."""
    _loop: Any = None
    _opening: trio.Lock = attrs.Factory(trio.Lock)
    _ended: dict[asyncio.Task[Any], trio.Event] = attrs.Factory(dict)

    async def run(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        """Run an asyncio coroutine function; when the attempt is cancelled it gets its ``CancelledError``.

        Raises:
            LoopClosed: the loop ended before the coroutine did.

        """
        async with self._opening:
            if self._loop is None:
                self._loop = await self.start(self._serve)
        loop = self._loop
        token = _library.current_loop.set(loop)
        try:
            return await self._result(loop, loop.create_task(_call(function, *args)))
        finally:
            _library.current_loop.reset(token)

    async def _result(self, loop: Any, task: asyncio.Task[Any]) -> Any:
        """Wait for a task; it is cancelled with the attempt, and waited for then as well."""
        ended = self._ended[task] = trio.Event()
        task.add_done_callback(lambda _: ended.set())
        try:
            await ended.wait()
        except trio.Cancelled:
            task.cancel()
            with trio.CancelScope(shield=True):  # as any attempt: it is over when its code is
                await ended.wait()
            if not task.done() or task.cancelled():
                raise
        finally:
            del self._ended[task]
        if loop.leaving and (not task.done() or task.cancelled()):
            raise LoopClosed("the asyncio loop of the worker ended before this job; it is run in a new one")
        return task.result()

    async def _serve(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold a loop open until cancelled; report why it ended if that was something else."""
        try:
            async with trio.open_nursery() as nursery, _library.open_loop() as loop:
                loop.__class__ = SharedLoop  # `open_loop` makes its own kind
                self._loop = loop
                task_status.started(loop)
                try:
                    await trio.sleep_forever()
                finally:
                    self._loop = None
                    with trio.CancelScope(shield=True):
                        await self._leave(loop, nursery)
        except Exception:
            _logger.exception("the asyncio loop of the worker failed; the next asyncio job gets a new one")

    async def _leave(self, loop: Any, nursery: trio.Nursery) -> None:
        """Cancel the tasks that are left, and give up those that do not end: nothing may hold up the worker's stop."""
        loop.leaving = True
        if not loop.is_running():  # it failed: without it no task would ever end
            await nursery.start(loop._main_loop)  # noqa: SLF001
        left, over = asyncio.all_tasks(loop), trio.Event()

        def ended(task: asyncio.Task[Any]) -> None:
            left.discard(task)
            if not left:
                over.set()

        for task in tuple(left):
            task.add_done_callback(ended)
            task.cancel()
        if left:
            with trio.move_on_after(_LEAVE):
                await over.wait()
        for task in left:
            _logger.warning("an asyncio task does not end when it is cancelled, and is left alone: %r", task)
            asyncio._unregister_task(task)  # noqa: SLF001 - or `open_loop` would wait for it
            if task in self._ended:
                self._ended[task].set()


async def _call(function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
    """Call in the loop's own context, where the body of a function that is no coroutine function may run too."""
    return await function(*args)
