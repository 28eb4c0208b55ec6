"""`AsyncioContext`, the `ctx` of asyncio jobs: coroutines that asyncio awaits. See ``design/run-in.md``."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Unpack

import attrs
import sniffio
import trio

from jobrt._core.attempts import Stop
from jobrt._core.job import JobRecord
from jobrt._registry import Enqueueable, EnqueueKeywords
from jobrt._runtime.checked import json_text
from jobrt._runtime.context import Context, saves_of
from jobrt._runtime.outside_trio import OutsideTrio
from jobrt._runtime.saves import Step

if TYPE_CHECKING:
    from jobrt._client import Client, Handle

T = TypeVar("T")


@attrs.define(eq=False)
class AsyncioContext(OutsideTrio):
    """Context of a job with ``RUN_IN = "asyncio"``: what `Context` has, to be awaited in asyncio.

    In Trio code of the job, called by ``trio_asyncio.trio_as_aio``, it is awaited in Trio.
    """

    _place: ClassVar[str] = "asyncio"
    _ctx: Context

    @property
    def job(self) -> JobRecord:
        """Return the job's stored record, errors of earlier attempts included."""
        return self._ctx.job

    @property
    def state(self) -> Any:
        """Return the application's state object."""
        return self._ctx.state

    @property
    def client(self) -> Client:
        """Return the worker's `Client`, for Trio code: ``await trio_asyncio.trio_as_aio(ctx.client.get)(id)``."""
        return self._ctx.client

    @property
    def deadline(self) -> float:
        """Return the attempt's deadline by the loop's clock (``math.inf`` if it has none)."""
        return self._ctx.deadline

    @property
    def shutting_down(self) -> ShuttingDown:
        """Return the event that is set when the worker stops, so that a long job can save a checkpoint and return."""
        return ShuttingDown(self._ctx.shutting_down)

    @property
    def saved(self) -> Any:
        """Return the last checkpoint, of this attempt or an earlier one; None if there is none."""
        return self._ctx.saved

    @property
    def cancelled(self) -> tuple[Stop, str] | None:
        """Return why the attempt was cancelled (timeout, operator, shutdown, lease lost) and the reason; else None."""
        return self._ctx.cancelled

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Report how far the job is; see `Context.progress`."""
        self._ctx.progress(done, total, note)

    async def checkpoint(self, value: Any, *, forget: bool = False) -> None:
        """Store `value` (JSON) durably: a later attempt finds it in `saved`; see `Context.checkpoint`.

        Raises:
            LeaseLost: another worker owns the job; nothing was stored.

        """
        await _in_trio(partial(self._ctx.checkpoint, value, forget=forget))

    @property
    def log(self) -> logging.Logger:
        """Return a logger whose lines are in the job's stream, too; see `Context.log`."""
        return self._ctx.log

    async def emit(self, value: Any, *, key: str | None = None) -> None:
        """Add a JSON value of up to 64 KiB to the job's stream, one with a `key` once; see `Context.emit`.

        Raises:
            InvalidJob: the value is not JSON or too large, or the key is invalid.
            LeaseLost: another worker owns the job; nothing was stored.

        """
        await _in_trio(partial(self._ctx.emit, value, key=key))

    async def enqueue(
        self, job: Enqueueable[Any], *, conn: object = None, **options: Unpack[EnqueueKeywords]
    ) -> Handle[Any]:
        """Enqueue another job and return its handle, whose methods are for Trio code; see `Context.enqueue`."""
        return await _in_trio(partial(self._ctx.enqueue, job, conn=conn, **options))

    @asynccontextmanager
    async def step(self, name: str) -> AsyncGenerator[Step]:
        """Run a named step once over all attempts: ``async with ctx.step("x") as step``; see `Context.step`."""
        saves = saves_of(self._ctx)
        step = await _in_trio(partial(saves.find_step, name))
        if not step.todo:
            yield step
            return
        with saves.around_step(name):
            yield step
        text = json_text(step.value, f"{self.job.name}: step {name!r}")
        await _in_trio(partial(saves.store_step, name, text))

    def transaction(self, *, result: Any = None) -> AbstractAsyncContextManager[Any]:
        """Open a database transaction, in Trio code of the job alone; see `Context.transaction`."""
        if _asyncio_runs():
            raise RuntimeError(
                f"{self.job.name}: ctx.transaction() in asyncio: put it into a function for Trio, and call that by "
                f"trio_asyncio.trio_as_aio"
            )
        return self._ctx.transaction(result=result)


@attrs.frozen
class ShuttingDown:
    """Event of a job under asyncio that is set when the worker stops."""

    _event: trio.Event

    def is_set(self) -> bool:
        """Return whether the worker stops."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Wait until the worker stops."""
        await _in_trio(self._event.wait)


def _asyncio_runs() -> bool:
    return sniffio.current_async_library() == "asyncio"


async def _in_trio(function: Callable[[], Awaitable[T]]) -> T:
    """Await a function of Trio, from asyncio or from Trio."""
    if not _asyncio_runs():
        return await function()
    import trio_asyncio  # noqa: PLC0415 - it changes asyncio's policy; the job's loop has imported it

    result: T = await trio_asyncio.trio_as_aio(function)()
    return result
