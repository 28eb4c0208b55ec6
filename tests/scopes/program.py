"""A worker in a process of its own, which a test kills: `python -m tests.scopes.program URL [QUEUE …]`.

It prints what its jobs write to their state, a line each.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any

import trio

import jobrt

COUNT = 12


class Page(jobrt.Job):
    """Child with a timestamp in its payload. The odd ones wait for a message."""

    number: int
    at: float

    async def run(self, ctx: jobrt.Context) -> int:
        ctx.state.append(f"page {self.number}")
        if self.number % 2:
            await ctx.receive("go")
        return self.number


class Book(jobrt.Job):
    """Parent of twelve pages, each made at another moment."""

    PARK = 600
    MAX_ATTEMPTS = 1

    async def run(self, ctx: jobrt.Context) -> list[int]:
        async with ctx.open_nursery("pages") as nursery:
            for number in range(COUNT):
                await nursery.enqueue(Page(number, time.time()))
        return [child.result for child in nursery.children]


class Bad(jobrt.Job):
    """Child that fails for good when it is told to."""

    QUEUE = "children"
    MAX_ATTEMPTS = 1

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.state.append("bad")
        while "fail" not in ctx.state:
            await trio.sleep(0.01)
        raise LookupError("bad")


class Sibling(jobrt.Job):
    """Child that is not due yet."""

    QUEUE = "children"

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.state.append("sibling")


class Parent(jobrt.Job):
    """Parent of a child that fails, in a queue of its own."""

    QUEUE = "parents"
    PARK = 600
    MAX_ATTEMPTS = 1

    async def run(self, ctx: jobrt.Context) -> None:
        ctx.state.append(f"parent {ctx.job.attempt}")
        try:
            async with ctx.open_nursery() as nursery:
                await nursery.enqueue(Bad())
                await nursery.enqueue(Sibling(), schedule_in=3600)
                await nursery.enqueue(Sibling(), schedule_in=7200)
        except* jobrt.JobFailed:
            ctx.state.append("raised")
            raise


QUEUES = {
    "default": jobrt.Queue(20, poll_interval=60),
    "parents": jobrt.Queue(4, cluster_limit=1, poll_interval=60),
    "children": jobrt.Queue(4, poll_interval=60),
}
JOBS = (Page, Book, Bad, Sibling, Parent)


class Printed:
    """State of the app: prints what jobs tell."""

    def append(self, text: str) -> None:
        """Print a line."""
        print(text, flush=True)  # noqa: T201 - a program

    def __contains__(self, text: object) -> bool:
        """Return that nothing is here."""
        return False


async def main(url: str, queues: list[str] | None) -> None:
    """Run a worker until the process is killed."""
    state: Any = Printed()
    app = jobrt.App(url, jobs=JOBS, queues=QUEUES, state=state)
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(partial(app.run_worker, queues=queues))
        print("worker", worker.id, flush=True)  # noqa: T201 - a program


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2:] or None)
