"""With any fault in any storage call, a family ends as it should, and no child runs twice."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
import tenacity
import trio
from trio.testing import MockClock

import jobrt
from jobrt import State
from jobrt._storage.sqlite import open_sqlite
from tests.simulation.faulty import AppOn, Fault, FaultyStorage, Nth

pytestmark = pytest.mark.unmeasured

RAN: Counter[str] = Counter()
SPARE = frozenset({"register", "scopes.enqueue", "receive", "scopes.sleep"})
"""Calls that are not cancelled: the innermost scope is the worker's, or that of the body of a nursery."""


class Page(jobrt.Job):
    """Child that returns its number."""

    number: int

    async def run(self, ctx: jobrt.Context) -> int:
        RAN[f"page {self.number}"] += 1
        return self.number


class Chapter(jobrt.Job):
    """Child that has a child."""

    BACKOFF = tenacity.wait_fixed(1)

    async def run(self, ctx: jobrt.Context) -> Any:
        async with ctx.open_nursery() as nursery:
            await nursery.enqueue(Page(7))
        return [page.result for page in nursery.children]


class Book(jobrt.Job):
    """Parent that waits for children, for a message and for a time, and never twice for the same."""

    BACKOFF = tenacity.wait_fixed(1)

    async def run(self, ctx: jobrt.Context) -> Any:
        async with ctx.open_nursery("parts") as nursery:
            await nursery.enqueue_many([Page(0), Page(1)])
            await nursery.enqueue(Chapter(), key="chapter")
            word = await ctx.receive("word", str)
            await ctx.sleep(5, name="nap")
        return [word, *(part.result for part in nursery.children)]


class Suspended(Book):
    """The same, without staying in memory."""

    PARK = 0


@attrs.define
class Seen:
    """Observations of a run."""

    record: jobrt.JobRecord
    left: int
    alive: bool


async def _run(book: type[Book], decide: Nth) -> Seen:
    """Run a book to its end, with a fault in one call."""
    RAN.clear()
    began = trio.current_time()

    def clock() -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=trio.current_time() - began)

    jobs = [Page, Chapter, book]
    async with open_sqlite(":memory:", clock=clock) as real:
        app = AppOn(FaultyStorage(real, decide), jobs=jobs, queues={"default": 2})
        async with AppOn(real, jobs=jobs).open_client() as client, trio.open_nursery() as nursery:
            handle = await client.enqueue(book())
            worker = await nursery.start(app.run_worker)
            await trio.sleep(1)
            await handle.send("word", "go", key="once")
            with trio.fail_after(600):
                record = await handle.wait()
            alive = not worker.stopped.is_set()
            await worker.stop()
        left = await real.jobs.count(~jobrt.where.state("completed"))
        return Seen(record, left, alive)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("book", "fault"),
    [
        (Book, Fault.REPLY_LOST),
        *((Suspended, fault) for fault in (Fault.REFUSED, Fault.REPLY_LOST, Fault.CANCELLED_AFTER)),
    ],
)
async def test_any_one_call_may_go_wrong(book: type[Book], fault: Fault, autojump_clock: MockClock) -> None:
    """The parent gets all results, each child has run once, nobody is left, and the worker goes on."""
    number = 0
    while True:
        number += 1
        decide = Nth(number, fault, SPARE if "cancelled" in fault else frozenset())
        try:
            seen = await _run(book, decide)
            assert seen.record.state is State.COMPLETED
            assert seen.record.result == ["go", 0, 1, [7]]
            assert RAN == {"page 0": 1, "page 1": 1, "page 7": 1}
            assert (seen.left, seen.alive) == (0, True)
        except BaseException as error:
            error.add_note(f"call {number} ({decide.hit}) was {fault}")
            raise
        if decide.hit is None:
            break
    assert number > 20, "the jobs make more calls than that"
