"""Jobs of the parity tests."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import tenacity
import trio

import jobrt
from jobrt.events import Event, JobEnded

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["JOBS", "Broken", "Echo", "Fail", "Other", "completions"]


class Echo(jobrt.Job):
    """Return the value."""

    value: Any = None

    async def run(self, ctx: jobrt.Context) -> Any:
        return self.value


class Other(jobrt.Job):
    """Job with another name."""

    value: Any = None

    async def run(self, ctx: jobrt.Context) -> None:
        """Do nothing."""


class Fail(jobrt.Job):
    """Fail so many times, then return the attempt number; retried without delay."""

    BACKOFF = tenacity.wait_none()

    times: int = 10**9

    async def run(self, ctx: jobrt.Context) -> int:
        if ctx.job.attempt <= self.times:
            raise LookupError(f"attempt {ctx.job.attempt}")
        return ctx.job.attempt


class Broken(Exception):
    """An error type of the user."""


@contextmanager
def completions(app: jobrt.App, count: int, *, name: str = "Echo") -> Iterator[trio.Event]:
    """Yield an event that is set when so many jobs of that name are completed."""
    reached = trio.Event()
    completed = 0

    def on_event(event: Event) -> None:
        nonlocal completed
        completed += isinstance(event, JobEnded) and event.name == name and event.state == "completed"
        if completed == count:
            reached.set()

    with app.events.subscribed(on_event):
        yield reached


JOBS = [Echo, Other, Fail]
