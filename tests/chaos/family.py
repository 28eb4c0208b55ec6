"""A parent with twelve children, whose worker is killed at its N-th storage call, and continued by another.

`python -m tests.chaos.family URL [EVERY]` works as `tests.chaos.flow` does. In the first worker the parent is parked.
The second one is a drain, where it is suspended.
"""

from __future__ import annotations

import logging
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

import jobrt
from jobrt import State, where
from tests.chaos.flow import Dying, bury, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CHILDREN = 12
COUNTED = {"exchange", "finish", "insert", "open", "members", "enqueue", "seal", "failures", "tend", "query"}


class Page(jobrt.Job):
    """Child that returns its number."""

    MAX_ATTEMPTS = None

    number: int

    async def run(self, ctx: jobrt.Context) -> int:
        return self.number


class Album(jobrt.Job):
    """Parent that enqueues six children one by one, the others together, and returns what they return."""

    MAX_ATTEMPTS = None
    PARK = 600

    async def run(self, ctx: jobrt.Context) -> list[int]:
        pages = [Page(number) for number in range(CHILDREN)]
        async with ctx.open_nursery("pages") as nursery:
            for page in pages[:6]:
                await nursery.enqueue(page)
            await nursery.enqueue_many(pages[6:])
        return [child.result for child in nursery.children]


class Mortal(jobrt.App):
    """An app whose workers are killed at a given moment."""

    fatal = 0

    @asynccontextmanager
    async def open_storage(self) -> AsyncIterator[Any]:
        async with super().open_storage() as storage:
            yield Dying(storage, self.fatal, COUNTED)


def app(url: str, fatal: int = 0) -> Mortal:
    """Return an app for one process; 0 means that it is not killed."""
    made = Mortal(url, jobs=[Album, Page], migrate=True)
    made.fatal = fatal
    return made


async def begin(url: str, fatal: int) -> None:
    """Enqueue an album and run it until it has ended or the process is killed."""
    async with app(url).open_client() as client, trio.open_nursery() as nursery:
        album = await client.enqueue(Album(), context=str(fatal))
        worker = await nursery.start(app(url, fatal).run_worker)
        await album.wait()
        await worker.stop()


async def go_on(url: str, fatal: int) -> None:
    """Release the jobs of the dead worker, finish the album, and check the family."""
    await bury(app(url))
    await app(url).drain()
    async with app(url).open_client() as client:
        album, *_ = await client.query(where.name("Album"), order_by="-id", limit=1)
        assert album.context == str(fatal)
        assert album.result == list(range(CHILDREN)), album
        pages = (await client.tree(album.id))[1:]
        assert sorted(page.args["number"] for page in pages) == list(range(CHILDREN)), "each child once"
        assert {page.state for page in pages} == {State.COMPLETED}
        for job in [album, *pages]:
            assert job.waiting is None, job
            ends = [attempt.end for attempt in job.attempts]
            assert ends.count(jobrt.End.FINISHED) == 1, "none ran again after its end"
            assert ends.count(jobrt.End.CRASHED) <= 1, ends
            assert set(ends) <= {jobrt.End.FINISHED, jobrt.End.CRASHED}, ends


if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL)  # deaths are expected
    every = int(sys.argv[2]) if sys.argv[2:] else 1
    print(run(sys.argv[1], every, begin=begin, go_on=go_on), "processes were killed")  # noqa: T201 - a program
