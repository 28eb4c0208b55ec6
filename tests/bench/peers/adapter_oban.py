"""Adapter for Oban for Python. The default is a limit of 10 on uvloop, as in `oban start`; the best found is 200."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import harness
import uvloop
from oban import Oban, worker
from oban.schema import install

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

BATCH = 1000
LIMITS = {"default": 10, "best": 200}


@worker(queue="bench")
class Noop:
    """Job that only records its start."""

    async def process(self, job: Any) -> None:
        """Record the start."""
        harness.body(job.args["number"])


def new(number: int) -> Any:
    """Return a job."""
    return Noop.new({"number": number, "pad": harness.PAD})  # type: ignore[attr-defined]


class Client:
    """Client that enqueues jobs."""

    def __init__(self, oban: Any) -> None:
        self._oban = oban

    async def one(self, number: int) -> None:
        """Enqueue one job."""
        await self._oban.enqueue(new(number))

    async def many(self, numbers: Sequence[int]) -> None:
        """Enqueue many jobs, a thousand per call."""
        for start in range(0, len(numbers), BATCH):
            await self._oban.enqueue_many([new(number) for number in numbers[start : start + BATCH]])


class Adapter:
    """Adapter that runs Oban on uvloop."""

    sleep = staticmethod(asyncio.sleep)

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """Run under asyncio."""
        uvloop.run(main())  # type: ignore[arg-type]

    async def setup(self, url: str) -> None:
        """Create the tables."""
        pool = await Oban.create_pool(url)
        await install(pool)
        await pool.close()

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Client]:
        """Open a client."""
        pool = await Oban.create_pool(url)
        async with Oban(pool=pool) as oban:
            yield Client(oban)
        await pool.close()

    def work(self, url: str, setting: str, body: Callable[[int], None]) -> None:
        """Run a worker until SIGTERM."""
        uvloop.run(self._work(url, LIMITS[setting]))

    async def _work(self, url: str, limit: int) -> None:
        pool, stop = await Oban.create_pool(url), asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        async with Oban(pool=pool, queues={"bench": limit}):
            await stop.wait()
        await pool.close()


if __name__ == "__main__":
    harness.main(Adapter())
