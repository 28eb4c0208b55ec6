"""Adapter for Chancy. The defaults are a process executor and a poll every five seconds.

The best setting found has the asyncio executor, a thousand concurrent jobs, eager polling, and no log line per job.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import chancy_jobs
import harness
from chancy import Chancy, Queue, Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence


def queue(setting: str) -> Queue:
    """Return the queue."""
    if setting == "best":
        return Queue("bench", executor=Chancy.Executor.Async, concurrency=1000, eager_polling=True)
    return Queue("bench")


class Client:
    """Client that enqueues jobs."""

    def __init__(self, chancy: Any) -> None:
        self._chancy = chancy
        self._job = (chancy_jobs.quick if os.environ["SETTING"] == "best" else chancy_jobs.plain).job

    async def one(self, number: int) -> None:
        """Enqueue one job."""
        await self._chancy.push(self._job.with_kwargs(number=number, pad=harness.PAD))

    async def many(self, numbers: Sequence[int]) -> None:
        """Enqueue many jobs."""
        jobs = [self._job.with_kwargs(number=number, pad=harness.PAD) for number in numbers]
        async for _ in self._chancy.push_many(jobs):
            pass


class Adapter:
    """Adapter that runs Chancy."""

    sleep = staticmethod(asyncio.sleep)

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """Run under asyncio."""
        asyncio.run(main())  # type: ignore[arg-type]

    async def setup(self, url: str) -> None:
        """Create the tables."""
        async with Chancy(url) as chancy:
            await chancy.migrate()

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Client]:
        """Open a client."""
        async with Chancy(url) as chancy:
            yield Client(chancy)

    def work(self, url: str, setting: str, body: Callable[[int], None]) -> None:
        """Run a worker until SIGTERM, which Chancy handles itself."""
        options = {}
        if setting == "best":
            options["log"] = logging.getLogger("quiet")  # warnings only
        asyncio.run(self._work(url, queue(setting), options))

    async def _work(self, url: str, bench: Queue, options: dict[str, Any]) -> None:
        async with Chancy(url, **options) as chancy:
            await chancy.declare(bench, upsert=True)
            async with Worker(chancy) as worker:
                await worker.wait_for_shutdown()


if __name__ == "__main__":
    harness.main(Adapter())
