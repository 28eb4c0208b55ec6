"""Adapter for jobrt: one process, default settings."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import harness
import trio

import jobrt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable


class Noop(jobrt.Job):
    """Do nothing but tell when."""

    number: int
    pad: str = harness.PAD

    async def run(self, ctx: jobrt.Context) -> None:
        """Tell when it ran."""
        ctx.state(self.number)


@attrs.frozen
class Client:
    """Enqueue."""

    jobs: jobrt.Client

    async def one(self, number: int) -> None:
        """Enqueue one job."""
        await self.jobs.enqueue(Noop(number))

    async def many(self, numbers: Iterable[int]) -> None:
        """Enqueue many jobs."""
        await self.jobs.enqueue_many([Noop(number) for number in numbers])


class Adapter:
    """Run jobrt."""

    sleep = staticmethod(trio.sleep)

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """Run under Trio."""
        trio.run(main)

    async def setup(self, url: str) -> None:
        """Make the tables."""
        await jobrt.App(url).migrate()

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Client]:
        """Open a client."""
        async with jobrt.App(url, jobs=[Noop]).open_client() as jobs:
            yield Client(jobs)

    def work(self, url: str, setting: str, body: Callable[[int], None]) -> None:
        """Work as the command line does: the same signals, logs at the same level."""
        from jobrt.cli.worker import prepare_process, serve

        app = jobrt.App(url, jobs=[Noop], state=Body(body))
        prepare_process(verbose=False, quiet=True, log_format="text")

        async def run() -> None:
            await serve(app, queues=None, grace=1.0, wait=0.0, drain=False)

        if profile := os.environ.get("BENCH_PROFILE"):
            import cProfile

            cProfile.runctx("trio.run(run)", globals() | {"run": run}, {}, profile)
        else:
            trio.run(run)


class Body:
    """A state of the app's that is not taken for a function that makes one."""

    def __init__(self, body: Callable[[int], None]) -> None:
        self._body = body

    async def __aenter__(self) -> Callable[[int], None]:
        return self._body

    async def __aexit__(self, *_: object) -> None:
        pass

    def __call__(self) -> Body:
        """Be what the app enters."""
        return self


if __name__ == "__main__":
    harness.main(Adapter())
