"""Children that do what a test says, and a record of what they and their supervisor did when."""

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
    SupervisorGaveUp: "too much",
}


@attrs.define(eq=False)
class Stage:
    """A place for one test. `played` is what children did, `told` what supervisors told, each with its time."""

    played: list[str] = attrs.field(factory=list)
    told: list[str] = attrs.field(factory=list)
    events: list[SupervisionEvent] = attrs.field(factory=list)

    def supervisor(self, name: str = "top", **options: Any) -> Supervisor:
        """Return a supervisor that waits a second before each restart."""
        return Supervisor(name, **({"backoff": tenacity.wait_fixed(1), "on_event": self.hear} | options))

    def hear(self, event: SupervisionEvent) -> None:
        """Keep an event, and its text."""
        self.events.append(event)
        self.told.append(f"{trio.current_time():g} {event.child} {WORDS[type(event)]}")

    def note(self, text: str) -> None:
        """Keep what a child did."""
        self.played.append(f"{trio.current_time():g} {text}")

    def child(self, name: str, *lives: float | BaseException) -> Callable[[], Awaitable[None]]:
        """Return a child that notes "+name" and "-name" at the start and end of each of its lives.

        Args:
            name: what it calls itself.
            lives: one for each start: a number of seconds after which it returns, or an error that it raises
                after one second. When they are used up it runs until it is cancelled.

        """
        left = iter(lives)

        async def child() -> None:
            self.note(f"+{name}")
            try:
                life = next(left, None)
                if isinstance(life, BaseException):
                    await trio.sleep(1)
                    raise life
                await trio.sleep(float("inf") if life is None else life)
            finally:
                self.note(f"-{name}")

        return child

    def slow(self, name: str, seconds: float) -> Callable[..., Awaitable[None]]:
        """Return a child that is up after some seconds."""

        async def child(*, task_status: trio.TaskStatus[None]) -> None:
            self.note(f"+{name}")
            try:
                await trio.sleep(seconds)
                task_status.started()
                await trio.sleep_forever()
            finally:
                self.note(f"-{name}")

        return child

    def stubborn(self, name: str, seconds: float) -> Callable[[], Awaitable[None]]:
        """Return a child that goes on for some seconds after it is cancelled."""

        async def child() -> None:
            self.note(f"+{name}")
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(seconds)
                self.note(f"-{name}")

        return child


@asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[Supervisor]:
    """Run a supervisor around the block, from when it is up until it has stopped."""
    async with trio.open_nursery() as nursery:
        yield await nursery.start(supervisor.run)
        supervisor.stop()


def states(supervisor: Supervisor) -> dict[str, str]:
    """Return the state of each child."""
    return {child.name: child.state.value for child in supervisor.statistics().children}
