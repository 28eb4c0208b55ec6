"""With any fault in any storage call, every job ends as it should, and the worker continues."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
import tenacity
import trio
from tests.simulation.faulty import AppOn, Fault, FaultyStorage, Nth
from trio.testing import MockClock

import jobrt
from jobrt import End, State
from jobrt._storage.sqlite import open_sqlite
from jobrt.events import ActorRestarted, Event

pytestmark = pytest.mark.unmeasured

RAN: Counter[str] = Counter()


class Plain(jobrt.Job):
    """Job that succeeds."""

    async def run(self, ctx: jobrt.Context) -> str:
        RAN["Plain"] += 1
        return "done"


class Flaky(jobrt.Job):
    """Job that fails once."""

    BACKOFF = tenacity.wait_fixed(1)

    async def run(self, ctx: jobrt.Context) -> str:
        RAN["Flaky"] += 1
        if ctx.job.attempt == 1:
            raise OSError("not yet")
        return "done"


class Sleepy(jobrt.Job):
    """Job that snoozes once."""

    async def run(self, ctx: jobrt.Context) -> Any:
        RAN["Sleepy"] += 1
        return jobrt.Snooze(timedelta(seconds=1)) if len(ctx.job.attempts) == 0 else "done"


class Endless(jobrt.Job):
    """Job that exceeds its time limit once."""

    TIMEOUT = 1
    MAX_ATTEMPTS = 1

    async def run(self, ctx: jobrt.Context) -> None:
        RAN["Endless"] += 1
        await trio.sleep_forever()


class Careful(jobrt.Job):
    """Job that saves a checkpoint and a step."""

    BACKOFF = tenacity.wait_fixed(1)
    MAX_ATTEMPTS = 9

    async def run(self, ctx: jobrt.Context) -> Any:
        ctx.progress(1, 2)
        async with ctx.step("one") as step:
            if step.todo:
                step.value = 1
        await ctx.checkpoint({"at": 2})
        return [step.value, ctx.saved]


class Exact(jobrt.Job):
    """Job that writes and completes in one transaction."""

    BACKOFF = tenacity.wait_fixed(1)
    MAX_ATTEMPTS = 9

    async def run(self, ctx: jobrt.Context) -> None:
        async with ctx.transaction(result="done") as conn:
            await conn.execute("insert into written values (?)", (ctx.job.id,))


class Parent(jobrt.Job):
    """Job that waits for two children."""

    async def run(self, ctx: jobrt.Context) -> Any:
        RAN["Parent"] += 1
        if len(ctx.job.attempts) == 0:
            return jobrt.After(CHILDREN)
        return "done"


CHILDREN: list[int] = []
EXPECTED = {
    "Plain": "done",
    "Flaky": "done",
    "Sleepy": "done",
    "Careful": [1, {"at": 2}],
    "Exact": "done",
    "Parent": "done",
}
RUNS = {"Plain": 3, "Flaky": 2, "Sleepy": 2, "Endless": 1, "Parent": 2}
"""How often each job's `run` is entered, whatever happens to the storage's calls (Plain: a job and two children)."""


@attrs.define
class Seen:
    """Observations of a run."""

    records: list[jobrt.JobRecord]
    written: list[int]
    events: list[Event]
    executing: int
    alive: bool


async def _run(decide: Nth) -> Seen:
    """Run the jobs to their end, with a fault in one call."""
    RAN.clear()
    began = trio.current_time()

    def clock() -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=trio.current_time() - began)

    jobs = [Plain, Flaky, Sleepy, Endless, Careful, Exact, Parent]
    events: list[Event] = []
    async with open_sqlite(":memory:", clock=clock) as real:
        real.jobs._database._writer.execute("create table written (id)")
        app = AppOn(FaultyStorage(real, decide), jobs=jobs, queues={"default": 2})
        app.events.subscribers = (events.append,)
        async with AppOn(real, jobs=jobs).open_client() as client, trio.open_nursery() as nursery:
            CHILDREN[:] = [one.id for one in await client.enqueue_many([Plain(), Plain()])]
            made = await client.enqueue_many([job() for job in jobs])
            worker = await nursery.start(app.run_worker)
            ids = CHILDREN + [one.id for one in made]
            with trio.fail_after(600):
                records = [await client.handle(one).wait() for one in ids]
            alive = not worker.stopped.is_set()
            await worker.stop()
        executing = await real.jobs.count(jobrt.where.state("executing"))
        written = [row[0] for row in real.jobs._database._writer.execute("select id from written")]
        return Seen(records, written, events, executing, alive)


def _check(seen: Seen, fault: Fault) -> None:
    """Check what must hold whatever the fault was."""
    for record in seen.records:
        ends = Counter(one.end for one in record.attempts)
        if record.name == "Endless":
            assert (record.state, ends) == (State.DISCARDED, {End.TIMED_OUT: 1})
            continue
        assert record.state is State.COMPLETED, record
        assert record.result == EXPECTED[record.name]
        assert ends[End.FINISHED] == 1, record
        numbers = [one.number for one in record.attempts if one.end is not End.SNOOZED]
        assert numbers == sorted(set(numbers)), record
        assert record.attempt == len(numbers)
    assert {name: RAN[name] for name in RUNS} == RUNS
    assert seen.written == [one.id for one in seen.records if one.name == "Exact"]
    assert seen.executing == 0
    assert seen.alive
    if fault not in {Fault.CANCELLED, Fault.CANCELLED_AFTER}:
        assert [one for one in seen.events if isinstance(one, ActorRestarted)] == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", list(Fault))
async def test_any_one_call_may_go_wrong(fault: Fault, autojump_clock: MockClock) -> None:
    """Each job ends as it should, each attempt is recorded once, no job stays leased, no actor is restarted."""
    number = 0
    while True:
        number += 1
        spare = {"register"} if "cancelled" in fault else set[str]()
        decide = Nth(number, fault, frozenset(spare))
        try:
            _check(await _run(decide), fault)
        except BaseException as error:
            error.add_note(f"call {number} ({decide.hit}) was {fault}")
            raise
        if decide.hit is None:
            break
    assert number > 20, "the jobs make more calls than that"
