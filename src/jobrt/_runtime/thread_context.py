"""`ThreadContext`, the `ctx` of jobs in threads: calls without ``await``. See ``design/run-in.md``."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, Unpack, cast

import attrs
import trio

from jobrt._core.attempts import Stop
from jobrt._core.job import JobRecord
from jobrt._registry import Enqueueable, EnqueueKeywords
from jobrt._runtime.checked import checked_progress, json_text
from jobrt._runtime.context import Context, saves_of
from jobrt._runtime.outside_trio import OutsideTrio
from jobrt._runtime.saves import Step
from jobrt.blocking import Enqueued

if TYPE_CHECKING:
    from jobrt._client import Client

_LAST_WRITE: Final = 1.0
"""Seconds for storing what a cancelled job has done."""

T = TypeVar("T")


@attrs.define(eq=False)
class ThreadContext(OutsideTrio):
    """Context of a job with ``RUN_IN = "thread"``: what `Context` has, as calls without ``await``.

    The calls notice when the attempt is cancelled or its time is over. Then they raise `trio.Cancelled`. Call one of
    them in every long loop, in the thread that runs the job. In Trio code of the job, called by
    ``trio.from_thread.run``, they return what those of `Context` return: there, await them.
    """

    _place: ClassVar[str] = "thread"
    _ctx: Context
    deadline: float = math.inf
    """The attempt's deadline by ``time.monotonic`` (``math.inf`` if it has none)."""

    def __attrs_post_init__(self) -> None:
        if self._ctx.deadline != math.inf:
            self.deadline = time.monotonic() + self._ctx.deadline - trio.current_time()

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
        """Return the worker's `Client`, for Trio code: ``trio.from_thread.run(ctx.client.get, id)``."""
        return self._ctx.client

    @property
    def shutting_down(self) -> trio.Event:
        """Return the event that is set when the worker stops; in the thread, look at its ``is_set()``."""
        return self._ctx.shutting_down

    @property
    def saved(self) -> Any:
        """Return the last checkpoint, of this attempt or an earlier one; None if there is none."""
        return self._ctx.saved

    @property
    def cancelled(self) -> tuple[Stop, str] | None:
        """Return why the attempt was cancelled (timeout, operator, shutdown, lease lost) and the reason; else None."""
        if trio.lowlevel.in_trio_run():
            return self._ctx.cancelled
        try:
            trio.from_thread.check_cancelled()
        except trio.Cancelled:
            return trio.from_thread.run_sync(self._why)
        return None

    def _why(self) -> tuple[Stop, str]:
        return self._ctx.cancelled or (Stop.SHUTDOWN, "the worker stops")

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Report how far the job is; written at most twice a second.

        Raises:
            InvalidJob: `done` or `total` is no finite number, or `note` no string.

        """
        saves = saves_of(self._ctx)
        due = saves.note_progress(checked_progress(self.job.name, done, total=total, note=note))
        if trio.lowlevel.in_trio_run():
            if due:
                saves.schedule_progress()
            return
        if due:
            trio.from_thread.run_sync(saves.schedule_progress)
        trio.from_thread.check_cancelled()

    def checkpoint(self, value: Any, *, forget: bool = False) -> None:
        """Store `value` (JSON) durably: a later attempt finds it in `saved`. Then raise if the attempt is cancelled.

        `forget` also drops, in the same transaction, the steps so far.

        Raises:
            LeaseLost: another worker owns the job; nothing was stored.

        """
        store = partial(self._ctx.checkpoint, value, forget=forget)
        if trio.lowlevel.in_trio_run():
            return cast("None", store())
        return self._keep(store)

    @property
    def log(self) -> logging.Logger:
        """Return a logger whose lines are in the job's stream, too; see `Context.log`. Any thread may use it."""
        return self._ctx.log

    def emit(self, value: Any, *, key: str | None = None) -> None:
        """Add a JSON value of up to 64 KiB to the job's stream, one with a `key` once; see `Context.emit`.

        Raises:
            InvalidJob: the value is not JSON or too large, or the key is invalid.
            LeaseLost: another worker owns the job; nothing was stored.

        """
        emit = partial(self._ctx.emit, value, key=key)
        if trio.lowlevel.in_trio_run():
            return cast("None", emit())
        return self._ask(emit)

    def enqueue(self, job: Enqueueable[Any], **options: Unpack[EnqueueKeywords]) -> Enqueued:
        """Enqueue another job and return its `jobrt.blocking.Enqueued`; the options are those of `Client.enqueue`.

        Raises:
            InvalidJob: a value is invalid. Nothing was stored.

        """
        enqueue = partial(self._ctx.enqueue, job, **options)
        if trio.lowlevel.in_trio_run():
            return cast("Enqueued", enqueue())
        handle = self._ask(enqueue)
        return Enqueued(handle.id, handle.duplicate)

    def step(self, name: str) -> AbstractContextManager[Step]:
        """Run a named step once over all attempts: ``with ctx.step("x") as step: if step.todo: step.value = …``.

        The value (JSON) is stored when the block ends without an error, also if the attempt is cancelled by then. A
        later attempt gets it, with ``todo`` False.

        Raises:
            InvalidJob: the name cannot be stored, or the value is not JSON.
            LeaseLost: another worker owns the job; nothing was stored.

        """
        if trio.lowlevel.in_trio_run():
            return cast("AbstractContextManager[Step]", self._ctx.step(name))
        return self._step(name)

    @contextmanager
    def _step(self, name: str) -> Generator[Step]:
        saves = saves_of(self._ctx)
        step = self._ask(partial(saves.find_step, name))
        if not step.todo:
            yield step
            return
        with saves.around_step(name):
            yield step
        text = json_text(step.value, f"{self.job.name}: step {name!r}")
        self._keep(partial(saves.store_step, name, text))

    def transaction(self, *, result: Any = None) -> AbstractAsyncContextManager[Any]:
        """Open a database transaction, in Trio code of the job alone; see `Context.transaction`."""
        if not trio.lowlevel.in_trio_run():
            raise RuntimeError(
                f"{self.job.name}: ctx.transaction() in a thread: put it into an async function, and call that by "
                f"trio.from_thread.run"
            )
        return self._ctx.transaction(result=result)

    def _ask(self, function: Callable[[], Awaitable[T]]) -> T:
        """Call a function of Trio, unless the attempt is cancelled."""
        trio.from_thread.check_cancelled()
        return trio.from_thread.run(function)

    def _keep(self, store: Callable[[], Awaitable[None]]) -> None:
        """Store what the job has done, even if the attempt is cancelled, and then raise if it is."""
        trio.from_thread.run(_kept, store)
        trio.from_thread.check_cancelled()


async def _kept(store: Callable[[], Awaitable[None]]) -> None:
    try:
        await store()
    except trio.Cancelled:
        with trio.move_on_after(_LAST_WRITE, shield=True):
            await store()
        raise
