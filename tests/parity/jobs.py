"""Jobs that the parity tests share."""

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
    """Return what it was given."""

    value: Any = None

    async def run(self, ctx: jobrt.Context) -> Any:
        return self.value


class Other(jobrt.Job):
    """Be of another name."""

    value: Any = None

    async def run(self, ctx: jobrt.Context) -> None:
        """Do nothing."""


class Fail(jobrt.Job):
    """Fail so many times, then return the attempt; due again at once."""

    BACKOFF = tenacity.wait_none()

    times: int = 10**9

    async def run(self, ctx: jobrt.Context) -> int:
        if ctx.job.attempt <= self.times:
            raise LookupError(f"attempt {ctx.job.attempt}")
        return ctx.job.attempt


class Broken(Exception):
    """An error of one's own."""


@contextmanager
def completions(app: jobrt.App, count: int, *, name: str = "Echo") -> Iterator[trio.Event]:
    """Give an event that is set when so many jobs of that name have been completed."""
    enough = trio.Event()
    completed = 0

    def hear(event: Event) -> None:
        nonlocal completed
        completed += isinstance(event, JobEnded) and event.name == name and event.state == "completed"
        if completed == count:
            enough.set()

    with app.events.subscribed(hear):
        yield enough


JOBS = [Echo, Other, Fail]
