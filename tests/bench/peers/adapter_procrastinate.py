"""Adapter for Procrastinate. The default is one job at a time; the best found is ten on ten connections."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import harness
import procrastinate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

BATCH = 1000


def make_app(url: str, **pool: int) -> Any:
    """Return an app with one task."""
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, **pool))

    @app.task(name="noop", queue="bench")
    async def noop(number: int, pad: str) -> None:
        harness.body(number)

    return app


class Client:
    """Client that enqueues jobs."""

    def __init__(self, app: Any) -> None:
        self._noop = app.tasks["noop"]

    async def one(self, number: int) -> None:
        """Enqueue one job."""
        await self._noop.defer_async(number=number, pad=harness.PAD)

    async def many(self, numbers: Sequence[int]) -> None:
        """Enqueue many jobs, a thousand per call."""
        for start in range(0, len(numbers), BATCH):
            part = [{"number": number, "pad": harness.PAD} for number in numbers[start : start + BATCH]]
            await self._noop.batch_defer_async(*part)


class Adapter:
    """Adapter that runs Procrastinate on psycopg."""

    sleep = staticmethod(asyncio.sleep)

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """Run under asyncio."""
        asyncio.run(main())  # type: ignore[arg-type]

    async def setup(self, url: str) -> None:
        """Create the tables."""
        app = make_app(url)
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Client]:
        """Open a client."""
        app = make_app(url)
        async with app.open_async():
            yield Client(app)

    def work(self, url: str, setting: str, body: Callable[[int], None]) -> None:
        """Run a worker until SIGTERM, which Procrastinate handles itself."""
        best = setting == "best"
        app = make_app(url, **({"min_size": 10, "max_size": 10} if best else {}))
        asyncio.run(self._work(app, {"concurrency": 10} if best else {}))

    async def _work(self, app: Any, options: dict[str, Any]) -> None:
        async with app.open_async():
            await app.run_worker_async(queues=["bench"], **options)


if __name__ == "__main__":
    harness.main(Adapter())
