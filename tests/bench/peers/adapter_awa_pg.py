"""Adapter for Awa. The default is 50 concurrent jobs, as for its queues; the best setting found is 512.

Jobs are enqueued with `enqueue_many_copy`, twenty thousand per call.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import awa
import harness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

BATCH = 20_000
WORKERS = {"default": 50, "best": 512}


@dataclass
class Noop:
    """Job that only records its start."""

    number: int
    pad: str


class Client:
    """Client that enqueues jobs."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def one(self, number: int) -> None:
        """Enqueue one job."""
        await self._client.insert(Noop(number, harness.PAD), queue="bench")

    async def many(self, numbers: Sequence[int]) -> None:
        """Enqueue many jobs, twenty thousand per call."""
        for start in range(0, len(numbers), BATCH):
            part = [Noop(number, harness.PAD) for number in numbers[start : start + BATCH]]
            await self._client.enqueue_many_copy(part, queue="bench")


class Adapter:
    """Adapter that runs Awa."""

    sleep = staticmethod(asyncio.sleep)

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """Run under asyncio."""
        asyncio.run(main())  # type: ignore[arg-type]

    async def setup(self, url: str) -> None:
        """Create the tables, and start a worker once, which switches a new database to queue storage."""
        client = awa.AsyncClient(url)
        await client.migrate()
        self._register(client)
        await client.start([("bench", 1)])
        while '"active_engine": "queue_storage"' not in str(await client.storage_status()):
            await asyncio.sleep(0.1)
        await client.shutdown()
        # Threads of the client would keep running, and take jobs from the queue.
        print("null", flush=True)
        sys.stderr.flush()
        os._exit(0)

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Client]:
        """Open a client."""
        async with awa.AsyncClient(url) as client:
            yield Client(client)

    def work(self, url: str, setting: str, body: Callable[[int], None]) -> None:
        """Run a worker until SIGTERM."""
        asyncio.run(self._work(url, WORKERS[setting]))

    async def _work(self, url: str, workers: int) -> None:
        client, stop = awa.AsyncClient(url), asyncio.Event()
        self._register(client)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await client.start([("bench", workers)])
        await stop.wait()
        await client.shutdown()

    def _register(self, client: Any) -> None:
        @client.task(Noop, queue="bench")
        async def noop(job: Any) -> None:
            harness.body(job.args.number)


if __name__ == "__main__":
    harness.main(Adapter())
