"""Adapter for jobrt: one process with default settings, in a Trio program as in the README. Also for SQLite."""

from __future__ import annotations

import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import harness
import trio

import jobrt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable


class Noop(jobrt.Job):
    """Job that only records its start."""

    number: int
    pad: str = harness.PAD

    async def run(self, ctx: jobrt.Context) -> None:
        """Record the start."""
        harness.body(self.number)


@attrs.frozen
class Client:
    """Client that enqueues jobs."""

    jobs: jobrt.Client

    async def one(self, number: int) -> None:
        """Enqueue one job."""
        await self.jobs.enqueue(Noop(number))

    async def many(self, numbers: Iterable[int]) -> None:
        """Enqueue many jobs."""
        await self.jobs.enqueue_many([Noop(number) for number in numbers])


class Adapter:
    """Adapter that runs jobrt."""

    sleep = staticmethod(trio.sleep)

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """Run under Trio."""
        trio.run(main)

    async def setup(self, url: str) -> None:
        """Create the tables."""
        await jobrt.App(url).migrate()

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Client]:
        """Open a client."""
        async with jobrt.App(url, jobs=[Noop]).open_client() as jobs:
            yield Client(jobs)

    def work(self, url: str, setting: str, body: Callable[[int], None]) -> None:
        """Run a worker until SIGTERM."""
        trio.run(self._work, jobrt.App(url, jobs=[Noop]))

    async def _work(self, app: jobrt.App) -> None:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                worker = await nursery.start(app.run_worker)
                await anext(signals)
                await worker.stop(grace=1.0)


if __name__ == "__main__":
    harness.main(Adapter())
