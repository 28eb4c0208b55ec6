"""Runners of a job's `run`, one for each RUN_IN: in Trio, in a thread, in a process, under asyncio."""

import functools
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import trio

from jobrt._registry import JobDefinition
from jobrt._runtime.asyncio_context import AsyncioContext
from jobrt._runtime.context import Context, running_of
from jobrt._runtime.process_jobs import run_in_process
from jobrt._runtime.running import Running
from jobrt._runtime.thread_context import ThreadContext


def _in_trio(definition: JobDefinition, job: Any, ctx: Context) -> Awaitable[Any]:
    run: Awaitable[Any] = definition.run(job, ctx)  # not awaited here: another coroutine would cost 0.1 µs
    return run


async def _in_thread(
    definition: JobDefinition, job: Any, ctx: Context, *, limiter: trio.CapacityLimiter
) -> Any:
    """Run in a thread; it stops where it calls ``ctx`` or `trio.from_thread.check_cancelled`."""
    run = functools.partial(definition.run, job, ThreadContext(ctx))
    return await trio.to_thread.run_sync(_noting, running_of(ctx), run, limiter=limiter)


def _noting(running: Running, run: Callable[[], Any]) -> Any:
    """Run a job, and note meanwhile its thread: the watchdog shows the stack."""
    running.thread = threading.get_ident()
    try:
        return run()
    finally:
        running.thread = None


@attrs.define(eq=False)
class _InAsyncio:
    """Runner of asyncio jobs: one loop for each worker, made for the first of them."""

    start: Callable[..., Awaitable[Any]]
    _loop: Any = None

    async def __call__(self, definition: JobDefinition, job: Any, ctx: Context) -> Any:
        if self._loop is None:
            from jobrt._runtime.asyncio_loop import AsyncioLoop  # noqa: PLC0415 - it changes asyncio's policy

            self._loop = AsyncioLoop(self.start)
        return await self._loop.run(definition.run, job, AsyncioContext(ctx))


def make_runners(
    *, threads: int, start: Callable[..., Awaitable[Any]]
) -> Mapping[str, Callable[[JobDefinition, Any, Context], Awaitable[Any]]]:
    """Return the function that runs a job, for each RUN_IN.

    Args:
        threads: limit of threads in use: the sum of the queues' concurrency, so that no job waits for a thread.
        start: starts a service in the worker's scope and returns the value that it passed to ``started``.

    """
    limiter = trio.CapacityLimiter(threads)
    return {
        "trio": _in_trio,
        "thread": functools.partial(_in_thread, limiter=limiter),
        "process": run_in_process,
        "asyncio": _InAsyncio(start),
    }
