"""Durable waits of a running job: for messages, times and children. See ``design/scopes.md``."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

import attrs
import trio

from jobrt._core.arguments import checked_duration, checked_moment, checked_name
from jobrt._core.attempts import Stop
from jobrt._core.job import Wait
from jobrt._core.scopes import AncestorEnded, AskedToStop
from jobrt._payload.payload import decode_value
from jobrt._runtime.running import FamilyScopes, Running
from jobrt.errors import InvalidJob, LeaseLost

if TYPE_CHECKING:
    from jobrt._storage.contract import ScopeStore


@attrs.define(eq=False)
class DurableWaits:
    """What a running job waits for, and what it has asked for in this run.

    Only the task that runs `run` may wait: parking ends the run of that task, and others would go on without it.
    """

    running: Running
    store: ScopeStore
    scopes: FamilyScopes = attrs.Factory(FamilyScopes)
    in_transaction: bool = False
    opened: set[str] = attrs.Factory(set[str])
    """Names of the nurseries that this run has opened."""
    _received: Counter[str] = attrs.Factory(Counter)
    _sleeps: set[str] = attrs.Factory(set[str])

    def __attrs_post_init__(self) -> None:
        self.running.scopes = self.scopes

    @property
    def label(self) -> str:
        """The job's name, for messages."""
        return self.running.job.name

    def check(self, what: str) -> None:
        """Raise `RuntimeError` where a job must not wait."""
        task = self.running.task
        if not trio.lowlevel.in_trio_run() or trio.lowlevel.current_task() is not task:
            raise RuntimeError(
                f"{self.label}: {what} in another task: only the task that runs `run` may wait"
            )
        if self.in_transaction:
            raise RuntimeError(
                f"{self.label}: {what} inside ctx.transaction(): a transaction must not stay open while a job waits"
            )

    async def park(self, wait: Wait, *, suspends: bool = True) -> None:
        """Wait without a slot, until the wait is over or somebody has changed what it is for."""
        slots = self.running.slots
        assert slots is not None  # noqa: S101 - each attempt of a worker has them
        wait = wait._replace(bodies=tuple(self.scopes.bodies))
        await slots.park(self.running, wait, patience=self.running.definition.park if suspends else math.inf)

    # ------------------------------------------------------------------ messages

    async def receive(self, name: str, kind: Any, *, within: object) -> Any:
        """Return the next message of a name, decoded; see `Context.receive`."""
        self.check("ctx.receive")
        self.check_name("ctx.receive", name)
        limit = None if within is None else _seconds(f"{self.label}: ctx.receive: within", within)
        number = self._received[name]
        while not (
            answer := await self.lease(self.store.receive(self.running.ref, name, number, within=limit))
        ).end:
            await self.park(Wait("message", name, number))
        self._received[name] += 1
        if answer.end == "too_slow":
            raise trio.TooSlowError(f"{self.label}: no message {name!r} within {limit:g} s")
        return decode_value(kind, answer.value or "null", label=f"{self.label}: message {name!r}")

    # ------------------------------------------------------------------ sleeps

    async def sleep(self, name: str | None, seconds: object) -> None:
        """Sleep durably; see `Context.sleep`."""
        duration = _seconds(f"{self.label}: ctx.sleep: seconds", seconds, zero=True)
        key = self._begin_sleep("ctx.sleep", name)
        await self._sleep(key, seconds=duration)

    async def sleep_until(self, name: str | None, when: object) -> None:
        """Sleep durably; see `Context.sleep_until`."""
        moment = checked_moment(f"{self.label}: ctx.sleep_until: when", when, error=InvalidJob)
        key = self._begin_sleep("ctx.sleep_until", name)
        await self._sleep(key, at=moment)

    def _begin_sleep(self, what: str, name: str | None) -> str:
        """Check that the job may sleep, and return the key of the sleep."""
        self.check(what)
        if name is not None:
            self.check_name(what, name)
        key = name or ""
        if key in self._sleeps:
            known = (
                "a second unnamed sleep in one run" if name is None else f"a second sleep {name!r} in one run"
            )
            raise RuntimeError(f"{self.label}: {known}: give each sleep a name of its own")
        self._sleeps.add(key)
        return key

    async def _sleep(self, key: str, *, seconds: float | None = None, at: datetime | None = None) -> None:
        while True:
            left = await self.lease(self.store.sleep(self.running.ref, key, seconds=seconds, at=at))
            if left <= 0:
                return
            await self.park(Wait("sleep", key))

    def forget(self) -> None:
        """Count messages and sleeps from the beginning: a checkpoint has deleted their answers."""
        self._received.clear()
        self._sleeps.clear()

    # ------------------------------------------------------------------ small parts

    def check_name(self, what: str, name: object) -> str:
        """Return the name of a nursery, a message or a sleep; raise `InvalidJob` if it is none."""
        return checked_name(f"{self.label}: {what}: name", name, error=InvalidJob)

    async def lease(self, call: Any) -> Any:
        """Await a call of the storage; if the lease is lost, or an ancestor is being ended, cancel the attempt."""
        try:
            return await call
        except AskedToStop:
            await trio.sleep_forever()  # the request is on its way, and cancels the attempt
        except AncestorEnded:
            self.running.cancel(Stop.PARENT, "its parent was ended")
            raise
        except LeaseLost:
            self.running.cancel(Stop.LEASE_LOST, "another worker owns the job")
            raise


def _seconds(label: str, value: object, *, zero: bool = False) -> float:
    return checked_duration(label, value, zero=zero, error=InvalidJob).total_seconds()
