"""Writes of several callers in one transaction.

What running jobs save at the same moment would else cost a commit each. The first caller writes at once. Those who call
meanwhile wait, and then one of them writes for all. No task runs in the background: a caller *leads*, and hands the
lead on.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final, Generic, TypeVar

import attrs
import trio
from trio.lowlevel import Abort, Task

from jobrt.errors import StorageUnavailable

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_MOST: Final = 200
"""Items that one transaction writes at most."""

_PASSES: Final = 3
"""Passes of Trio's scheduler in which others may join a write; each takes some ten microseconds.

So many may be between the end of a write and the next one of the same caller: a job ends, and another begins.
"""


@attrs.define(eq=False)
class _Call(Generic[ItemT, ResultT]):
    """Call of one task.

    Args:
        item: what it stores.
        task: the task that waits.
        parked: it waits to be woken.
        taken: its item is being written, so it cannot be cancelled now.
        cancelled: it was meanwhile.
        alone: it is to be written separately, by its own task.
        leads: it is its turn to write.
        ended: it has a result or an error.

    """

    item: ItemT
    task: Task
    parked: bool = False
    taken: bool = False
    cancelled: bool = False
    alone: bool = False
    leads: bool = False
    ended: bool = False
    result: ResultT | None = None
    error: Exception | None = None

    def end(self, *, result: ResultT | None = None, error: Exception | None = None) -> None:
        """Let the call return or raise."""
        self.ended, self.result, self.error = True, result, error
        self.wake()

    def separate(self) -> None:
        """Let the task write its item itself."""
        self.alone = True
        self.wake()

    def wake(self) -> None:
        """Let the task go on, if it waits."""
        if self.parked:
            self.parked = False
            trio.lowlevel.reschedule(self.task)


@attrs.define(eq=False)
class Together(Generic[ItemT, ResultT]):
    """Writer of items that come from many callers.

    ``many`` stores items in one transaction, without waiting for what others have locked. It returns a result for each,
    in order; None for one that it has left out. ``one`` stores a single item, and may wait for long. It gets what was
    left out, and each item of a transaction that failed. So one that cannot be stored fails alone, and one that has to
    wait delays nobody. Only if the storage is unavailable, all fail at once.

    ``turn`` is held while a batch is put together and written: those who call while its turn has not come join it.
    Errors of the kind `passing` mean that nothing was tried: the one that leads raises it, and the others go on.

    A caller that is cancelled gets its result if its item is being written, as if it had come alone. If the one that
    leads is cancelled, nothing of its batch was stored, and the next one begins anew.
    """

    many: Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT | None]]]
    one: Callable[[ItemT], Awaitable[ResultT]]
    turn: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    passing: tuple[type[Exception], ...] = ()
    _waiting: list[_Call[ItemT, ResultT]] = attrs.field(factory=list["_Call[ItemT, ResultT]"], init=False)
    _led: bool = attrs.field(default=False, init=False)

    async def __call__(self, item: ItemT) -> ResultT:
        """Store an item and return its result."""
        call = _Call[ItemT, ResultT](item, trio.lowlevel.current_task())
        while not (call.ended or call.alone):
            await trio.lowlevel.checkpoint_if_cancelled()
            await self._take_part(call)
        if call.alone:
            return await self.one(item)
        if call.error is not None:
            raise call.error
        assert call.result is not None  # noqa: S101 - for the type checkers
        return call.result

    async def _take_part(self, call: _Call[ItemT, ResultT]) -> None:
        self._waiting.append(call)
        if self._led:
            await self._park(call)
        else:
            self._led = call.leads = True
        if call.leads:
            try:
                async with self.turn():
                    await self._let_join()
                    await self._write(call)
            finally:
                if call in self._waiting:  # cancelled before its turn
                    self._waiting.remove(call)
                self._hand_on()

    async def _park(self, call: _Call[ItemT, ResultT]) -> None:
        """Wait until the call has ended, is to lead or to write alone, or has to see that it is cancelled."""

        def abort(_: object) -> Abort:
            if call.taken:  # Trio asks only once
                call.cancelled = True
                return Abort.FAILED
            call.parked = False
            self._waiting.remove(call)
            return Abort.SUCCEEDED

        call.parked, call.cancelled = True, False
        await trio.lowlevel.wait_task_rescheduled(abort)

    async def _let_join(self) -> None:
        """Wait until those who call now have done so: the callers of the last write, above all, may come again.

        Else the first of them would write alone, and all others after it.
        """
        for _ in range(_PASSES):
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _hand_on(self) -> None:
        self._led = bool(self._waiting)
        if self._led:
            self._waiting[0].leads = True
            self._waiting[0].wake()

    async def _write(self, own: _Call[ItemT, ResultT]) -> None:
        """Write what waits, one's own item included."""
        batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
        for call in batch:
            call.taken = True
        try:
            results = await self.many([call.item for call in batch])
        except self.passing:
            self._put_back([call for call in batch if call is not own])
            raise
        except StorageUnavailable as error:
            for call in batch:
                call.end(error=error if call is own else _copy(error))
        except Exception:  # noqa: BLE001 - the one whose item is the cause raises it
            for call in batch:
                call.separate()
        except BaseException:
            self._put_back([call for call in batch if call is not own])
            raise
        else:
            for call, result in zip(batch, results, strict=True):
                if result is None:
                    call.separate()
                else:
                    call.end(result=result)

    def _put_back(self, calls: Sequence[_Call[ItemT, ResultT]]) -> None:
        """Let calls wait again, before all others; those that are cancelled see that now."""
        for call in calls:
            call.taken = False
            if call.cancelled:
                call.wake()
        self._waiting[:0] = [call for call in calls if not call.cancelled]


def _copy(error: StorageUnavailable) -> StorageUnavailable:
    """Return an error that another task can raise: each adds to the traceback of its own."""
    copied = copy.copy(error)
    copied.__cause__ = error
    return copied
