"""Faulty storage: a wrapper of a real storage whose calls fail, lose their reply, are cancelled or are slow."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

import jobrt
from jobrt._storage.contract import Wake
from jobrt.errors import StorageUnavailable
from tests.support.roles import ROLES, RoleProxy

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable

    from jobrt._storage.contract import Storage

__all__ = ["AppOn", "Chance", "Fault", "FaultyStorage", "Nth"]


class Fault(StrEnum):
    """Fault of a storage call."""

    REFUSED = "refused"
    """Raises `StorageUnavailable` without making the call."""
    REPLY_LOST = "reply lost"
    """Makes the call, and then raises `StorageUnavailable`."""
    CANCELLED = "cancelled"
    """Cancels the caller's innermost scope before the call."""
    CANCELLED_AFTER = "cancelled after"
    """Cancels the caller's innermost scope after the call, so that the reply is lost too."""
    SLOW = "slow"
    """Makes the call two virtual seconds late."""
    ANSWERED_LATE = "answered late"
    """Makes the call, and returns its reply two virtual seconds late."""


@attrs.define(eq=False)
class Nth:
    """Decider for a single fault, in the n-th call."""

    number: int
    fault: Fault
    spare: frozenset[str] = frozenset()
    calls: int = 0
    hit: str | None = None

    def __call__(self, name: str) -> tuple[Fault, float] | None:
        """Return the fault of the next call and its seconds, or None."""
        if name in self.spare:
            return None
        self.calls += 1
        if self.calls != self.number:
            return None
        self.hit = name
        return self.fault, 2.0


@attrs.define(eq=False)
class Chance:
    """Decider for random faults; without `on` there are none, so that a run can end."""

    random: random.Random
    rate: float
    on: bool = True

    def __call__(self, name: str) -> tuple[Fault, float] | None:
        """Return the fault of the next call and its seconds, or None."""
        if not self.on or self.random.random() >= self.rate:
            return None
        if (
            name == "register"
        ):  # no cancellation: its innermost scope is the worker's, and stops are drawn elsewhere
            return self.random.choice([Fault.REFUSED, Fault.REPLY_LOST, Fault.SLOW]), self.random.expovariate(
                0.5
            )
        return self.random.choice(list(Fault)), min(self.random.expovariate(0.5), 60.0)


@attrs.define(eq=False)
class FaultyStorage:
    """Storage with the faults that `decide` returns. While ``cut`` is true, no call is made and none returns.

    ``lose_wake`` returns whether to drop a notification. ``watch`` is called after each call that was made, with
    its result, whether or not the caller gets it.
    """

    real: Storage
    decide: Callable[[str], tuple[Fault, float] | None]
    lose_wake: Callable[[], bool] = lambda: False
    watch: Callable[[str, tuple[Any, ...], Any], None] = lambda _name, _args, _result: None
    cut: bool = False
    private: bool = False
    """Wakes can be lost, so workers look as they do elsewhere."""
    release: trio.Event = attrs.Factory(trio.Event)

    @property
    def engine(self) -> str:
        return self.real.engine

    def __getattr__(self, role: str) -> Any:
        """Return a role of the real storage with faults added to its methods."""
        if role == "aside":
            return self.real.aside
        if role not in ROLES:
            raise AttributeError(role)
        return RoleProxy(role, getattr(self.real, role), self._with_faults)

    def _with_faults(self, name: str, method: Any) -> Any:
        match name:
            case "listen":
                return partial(self._listen, method)
            case "transaction":
                return partial(self._transaction, method)
            case _:
                return partial(self._call, name, method)

    async def _call(self, name: str, method: Any, /, *args: Any, **kwargs: Any) -> Any:
        fault, seconds = await self._before(name)
        result = await method(*args, **kwargs)
        self.watch(name, args, result)
        await self._after(name, fault, seconds)
        return result

    async def _before(self, name: str) -> tuple[Fault | None, float]:
        await self._unless_cut()
        fault, seconds = self.decide(name) or (None, 0.0)
        if fault is Fault.REFUSED:
            await trio.lowlevel.checkpoint()
            raise StorageUnavailable(f"{name} is refused")
        if fault is Fault.CANCELLED:
            await _cancel_innermost()
        if fault is Fault.SLOW:
            await trio.sleep(seconds)
            await self._unless_cut()
        return fault, seconds

    async def _after(self, name: str, fault: Fault | None, seconds: float) -> None:
        if fault is Fault.ANSWERED_LATE:
            await trio.sleep(seconds)
        await self._unless_cut()
        if fault is Fault.CANCELLED_AFTER:
            await _cancel_innermost()
        if fault is Fault.REPLY_LOST:
            raise StorageUnavailable(f"the reply to {name} is lost")

    async def _unless_cut(self) -> None:
        if self.cut:
            await self.release.wait()
            raise StorageUnavailable("was cut off")

    async def _listen(
        self,
        method: Any,
        deliver: Callable[[Wake], None],
        *,
        news: bool = False,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen and lose some notifications; a fault disconnects after some time."""

        def perhaps(wake: Wake) -> None:
            if not self.cut and not self.lose_wake():
                deliver(wake)

        fault, seconds = await self._before("listen")
        with trio.move_on_after(seconds if fault is not None else math.inf):
            await method(perhaps, news=news, task_status=task_status)
        raise StorageUnavailable("went deaf")

    @asynccontextmanager
    async def _transaction(self, method: Any, ref: Any, outcome: Any) -> AsyncIterator[Any]:
        """Open a transaction; REPLY_LOST loses the reply to the commit."""
        fault, seconds = await self._before("transaction")
        async with method(ref, outcome) as conn:
            yield conn
        self.watch("transaction", (ref, outcome), None)
        await self._after("transaction", fault, seconds)


async def _cancel_innermost() -> None:
    """Cancel the innermost scope of the current task, as a supervisor or a time limit does; raises `Cancelled`."""
    status = trio.lowlevel.current_task()._cancel_status
    status._scope.cancel()
    await trio.lowlevel.checkpoint()


class AppOn(jobrt.App):
    """An app on a storage that is already open."""

    def __init__(self, storage: Any, **settings: Any) -> None:
        super().__init__("sqlite:///:memory:", **settings)
        self._storage = storage
        self.worker: jobrt.Worker | None = None

    @asynccontextmanager
    async def open_storage(self) -> AsyncIterator[Any]:
        """Yield the storage."""
        await trio.lowlevel.checkpoint()
        yield self._storage

    async def run_worker(self, *, task_status: Any = trio.TASK_STATUS_IGNORED, **options: Any) -> None:
        """Run a worker, and store it in ``worker``."""

        class Remember:
            @staticmethod
            def started(worker: jobrt.Worker) -> None:
                self.worker = worker
                task_status.started(worker)

        await super().run_worker(task_status=Remember, **options)
