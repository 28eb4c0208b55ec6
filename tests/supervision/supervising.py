"""Children with a programmed behaviour, and a recorder of what they and their supervisor do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import tenacity
import trio

from jobrt._supervision.records import (
    ChildFailed,
    ChildRestarting,
    ChildSetAside,
    ChildStarted,
    ChildStopped,
    ChildStuck,
    SupervisionEvent,
    SupervisorGaveUp,
)
from jobrt._supervision.supervisor import Supervisor

WORDS = {
    ChildStarted: "up",
    ChildStopped: "ended",
    ChildFailed: "failed",
    ChildRestarting: "restarting",
    ChildSetAside: "set aside",
    ChildStuck: "stuck",
    SupervisorGaveUp: "gave up",
}


@attrs.define(eq=False)
class Recorder:
    """Recorder of a test: `actions` of the children, and events `reported` by supervisors, each with its time."""

    actions: list[str] = attrs.field(factory=list)
    reported: list[str] = attrs.field(factory=list)
    events: list[SupervisionEvent] = attrs.field(factory=list)

    def supervisor(self, name: str = "top", **options: Any) -> Supervisor:
        """Return a supervisor that waits a second before each restart."""
        return Supervisor(name, **({"backoff": tenacity.wait_fixed(1), "on_event": self.on_event} | options))

    def on_event(self, event: SupervisionEvent) -> None:
        """Record an event."""
        self.events.append(event)
        self.reported.append(f"{trio.current_time():g} {event.child} {WORDS[type(event)]}")

    def record(self, text: str) -> None:
        """Record an action of a child."""
        self.actions.append(f"{trio.current_time():g} {text}")

    def child(self, name: str, *runs: float | BaseException) -> Callable[[], Awaitable[None]]:
        """Return a child that records "+name" at its start and "-name" at its end.

        Args:
            name: name in the record.
            runs: behaviour after each start: seconds until it returns, or an error that it raises after one
                second. After these it runs until it is cancelled.

        """
        left = iter(runs)

        async def child() -> None:
            self.record(f"+{name}")
            try:
                run = next(left, None)
                if isinstance(run, BaseException):
                    await trio.sleep(1)
                    raise run
                await trio.sleep(float("inf") if run is None else run)
            finally:
                self.record(f"-{name}")

        return child

    def slow(self, name: str, seconds: float) -> Callable[..., Awaitable[None]]:
        """Return a child that is up after some seconds."""

        async def child(*, task_status: trio.TaskStatus[None]) -> None:
            self.record(f"+{name}")
            try:
                await trio.sleep(seconds)
                task_status.started()
                await trio.sleep_forever()
            finally:
                self.record(f"-{name}")

        return child

    def stubborn(self, name: str, seconds: float) -> Callable[[], Awaitable[None]]:
        """Return a child that ends some seconds after it is cancelled."""

        async def child() -> None:
            self.record(f"+{name}")
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(seconds)
                self.record(f"-{name}")

        return child


@asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[Supervisor]:
    """Run a supervisor during the block, and stop it afterwards."""
    async with trio.open_nursery() as nursery:
        yield await nursery.start(supervisor.run)
        supervisor.stop()


def states(supervisor: Supervisor) -> dict[str, str]:
    """Return the state of each child."""
    return {child.name: child.state.value for child in supervisor.statistics().children}
