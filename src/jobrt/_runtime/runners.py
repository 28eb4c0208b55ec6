"""Runners of a job's `run`, one for each RUN_IN: in Trio, in a thread, in a process, under asyncio."""

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import trio

from jobrt._core.job import JobRecord
from jobrt._registry import JobDefinition
from jobrt._runtime.context import Context
from jobrt._runtime.working_directory import WorkingDirectory
from jobrt.errors import InvalidJob


@attrs.frozen
class DetachedContext:
    """Context of a job in another process: its record and checkpoint. It cannot reach the worker."""

    job: JobRecord
    saved: Any


async def _in_trio(definition: JobDefinition, job: Any, ctx: Context) -> Any:
    return await definition.run(job, ctx)


async def _in_thread(
    definition: JobDefinition, job: Any, ctx: Context, *, limiter: trio.CapacityLimiter
) -> Any:
    """Run in a thread; a cancelled job stops where it calls `trio.from_thread.check_cancelled`."""
    return await trio.to_thread.run_sync(definition.run, job, ctx, limiter=limiter)


async def _in_process(definition: JobDefinition, job: Any, ctx: Context) -> Any:
    """Run in a worker process that is killed when the attempt is cancelled."""
    try:
        import trio_parallel  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise InvalidJob(
            f'{definition.name}: RUN_IN = "process" needs trio-parallel: pip install "jobrt[process]"'
        ) from error
    detached = DetachedContext(ctx.job, ctx.saved)
    return await trio_parallel.run_sync(_leave_no_trace, definition.run, job, detached, kill_on_cancel=True)


def _leave_no_trace(run: Callable[..., Any], job: Any, context: DetachedContext) -> Any:
    """Run a job, and restore the current directory for the next job of the process."""
    directory = WorkingDirectory()
    try:
        return run(job, context)
    finally:
        directory.restore()


@attrs.define(eq=False)
class _InAsyncio:
    """Runner of asyncio jobs: one loop for each worker, made for the first of them."""

    start: Callable[..., Awaitable[Any]]
    _loop: Any = None

    async def __call__(self, definition: JobDefinition, job: Any, ctx: Context) -> Any:
        if self._loop is None:
            from jobrt._runtime.asyncio_loop import AsyncioLoop  # noqa: PLC0415 - it changes asyncio's policy

            self._loop = AsyncioLoop(self.start)
        return await self._loop.run(definition.run, job, ctx)


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
        "process": _in_process,
        "asyncio": _InAsyncio(start),
    }
