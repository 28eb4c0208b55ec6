"""Adapter for PgQueuer, with its defaults; the best documented setting is a batch of a thousand on uvloop."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import harness
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

BATCH = 1000


def payload(number: int) -> bytes:
    """Return the arguments of a job."""
    return json.dumps({"number": number, "pad": harness.PAD}).encode()


class Client:
    """Client that enqueues jobs."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def one(self, number: int) -> None:
        """Enqueue one job."""
        await self._queries.enqueue("noop", payload(number))

    async def many(self, numbers: Sequence[int]) -> None:
        """Enqueue many jobs, a thousand per call."""
        for start in range(0, len(numbers), BATCH):
            part = [payload(number) for number in numbers[start : start + BATCH]]
            await self._queries.enqueue(["noop"] * len(part), part, [0] * len(part))


class Adapter:
    """Adapter that runs PgQueuer on asyncpg."""

    sleep = staticmethod(asyncio.sleep)

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """Run under asyncio."""
        asyncio.run(main())  # type: ignore[arg-type]

    async def setup(self, url: str) -> None:
        """Create the tables."""
        connection = await asyncpg.connect(url)
        await Queries(AsyncpgDriver(connection)).install()
        await connection.close()

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Client]:
        """Open a client."""
        connection = await asyncpg.connect(url)
        yield Client(Queries(AsyncpgDriver(connection)))
        await connection.close()

    def work(self, url: str, setting: str, body: Callable[[int], None]) -> None:
        """Run a worker until SIGTERM."""
        best = setting == "best"
        (uvloop.run if best else asyncio.run)(self._work(url, {"batch_size": 1000} if best else {}))

    async def _work(self, url: str, options: dict[str, Any]) -> None:
        queue = PgQueuer(AsyncpgDriver(await asyncpg.connect(url)))

        @queue.entrypoint("noop")
        async def noop(job: Any) -> None:
            harness.body(json.loads(job.payload)["number"])

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, queue.shutdown.set)
        await queue.run(**options)


if __name__ == "__main__":
    harness.main(Adapter())
