"""What people see of jobs that are claimed ahead, and that these never hold up one of a higher priority."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from tests.runtime.test_fencing import Trouble, scene
from tests.simulation.faulty import Fault
from trio.testing import MockClock

import jobrt
from jobrt import State, where
from jobrt._runtime.arrivals import WAIT_LIMIT
from jobrt._storage.sqlite.attempts import SqliteAttempts
from jobrt.testing import open_app

QUICKLY = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
TURN = 1e-6
"""Seconds within which times count as equal."""


@attrs.frozen
class Run:
    """A run of a job, by Trio's clock."""

    name: str
    priority: int
    began: float
    over: float


class Work(jobrt.Job):
    """Take as long as the payload says, and note when."""

    seconds: float = 0.0

    async def run(self, ctx: jobrt.Context) -> float:
        began = trio.current_time()
        if self.seconds:
            await trio.sleep(self.seconds)
        ctx.state.append(Run(ctx.job.name, ctx.job.priority, began, trio.current_time()))
        return began


class Look(jobrt.Job):
    """Look oneself up."""

    async def run(self, ctx: jobrt.Context) -> list[Any]:
        record = await ctx.client.get(ctx.job.id)
        return [record.state, record.started_at == ctx.job.started_at]


@asynccontextmanager
async def working(slots: int, runs: list[Run]) -> AsyncIterator[jobrt.Client]:
    """Run a worker whose queue has so many slots."""
    opened = open_app(jobs=[Work, Look], queues={"default": slots}, state=runs)
    async with opened as (app, client), trio.open_nursery() as nursery:
        worker = await nursery.start(app.run_worker)
        yield client
        with trio.fail_after(600):
            await worker.wait_idle()
        await worker.stop()


# ---------------------------------------------------------------------- slots of a limit


class Ends(jobrt.Job):
    """Job that ends when it may."""

    name: str

    async def run(self, ctx: jobrt.Context) -> None:
        began, may_end = ctx.state[self.name]
        began.set()
        await may_end.wait()


async def test_a_slot_that_comes_free_beside_a_claim_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim has looked before the outcome is written, by somebody else: there is another one after that."""
    first, second, writing, looked = trio.Event(), trio.Event(), trio.Event(), trio.Event()
    busy = trio.Event()
    exchange, finish = SqliteAttempts.exchange, SqliteAttempts.finish

    async def claim(self: Any, outcomes: Any, demand: Any) -> Any:
        found = await exchange(self, outcomes, demand)
        if first.is_set() and not busy.is_set():
            busy.set()  # the first job ends during this claim, so the completer writes its outcome
            await writing.wait()
        elif busy.is_set():
            looked.set()
        return found

    async def write(self: Any, outcomes: Any) -> Any:
        writing.set()
        await looked.wait()
        return await finish(self, outcomes)

    monkeypatch.setattr(SqliteAttempts, "exchange", claim)
    monkeypatch.setattr(SqliteAttempts, "finish", write)
    done = trio.Event()
    done.set()
    queue = jobrt.Queue(2, cluster_limit=1, poll_interval=3600)
    state = {"first": (first, busy), "second": (second, done)}
    app = jobrt.App(
        f"sqlite:///{tmp_path}/jobs.db", jobs=[Ends], queues={"default": queue}, state=state, migrate=True
    )
    async with app.open_client() as jobs, trio.open_nursery() as nursery:
        await nursery.start(app.run_worker)
        with trio.fail_after(30):
            await jobs.enqueue(Ends("first"))
            await first.wait()
            await jobs.enqueue(Ends("second"))
            await second.wait()
        nursery.cancel_scope.cancel()


# ---------------------------------------------------------------------- what people see


async def test_a_job_sees_itself_executing(autojump_clock: MockClock) -> None:
    """A job that begins at once is shown as executing by its claim, since the time that it knows itself."""
    async with working(2, []) as client:
        for _ in range(5):
            assert await (await client.enqueue(Look())).result() == ["executing", True]


async def test_a_start_is_when_run_begins(autojump_clock: MockClock) -> None:
    """So that a record tells how long a job ran, whoever claimed it when."""
    runs: list[Run] = []
    async with working(2, runs) as client:
        await client.enqueue_many([Work(seconds) for seconds in [0.0] * 30 + [0.4] * 20])
    # The outcomes of no-ops are written at the same virtual time.
    async with working(2, runs) as client:
        handles = await client.enqueue_many([Work(seconds) for seconds in [0.0] * 30 + [0.4] * 20])
        for number, handle in enumerate(handles):
            (attempt,) = (await handle.wait()).attempts
            took = (attempt.finished_at - attempt.started_at).total_seconds()
            assert (0.0 if number < 30 else 0.4) - TURN <= took <= (0.0 if number < 30 else 0.4) + 0.02


async def test_a_job_claimed_ahead_is_claimed_until_it_runs(autojump_clock: MockClock) -> None:
    """Then it is executing within a tenth of a second, with its start."""
    async with working(1, []) as client:
        await client.enqueue_many([Work()] * 20)
        handles = await client.enqueue_many([Work(0.04), Work(5), Work(5)])
        await trio.sleep(0.03)
        assert (await client.get(handles[1].id)).state is State.CLAIMED
        assert (await client.get(handles[1].id)).started_at is None
        await trio.sleep(0.11)
        record = await client.get(handles[1].id)
        assert (record.state, (await client.get(handles[2].id)).state) == (State.EXECUTING, State.AVAILABLE)
        assert record.started_at is not None
        began = (record.started_at - record.created_at).total_seconds()
        assert 0.04 - TURN <= began <= 0.05


durations = st.sampled_from([0.0, 0.0, 0.0, 0.001, 0.01, 0.04, 0.06, 0.3, 1.0])
loads = st.lists(st.tuples(durations, st.sampled_from([1, 3, 12, 30])), min_size=1, max_size=5)


@settings(QUICKLY, max_examples=6)
@given(loads, st.integers(1, 5), st.randoms(use_true_random=False))
def test_no_more_jobs_are_executing_than_there_are_slots(
    load: list[tuple[float, int]], slots: int, chance: Any
) -> None:
    """At any look; and what has run for a tenth of a second is shown."""

    async def main() -> None:
        async with working(slots, []) as client, trio.open_nursery() as nursery:
            ids = [
                handle.id
                for seconds, number in load
                for handle in await client.enqueue_many([Work(seconds)] * number)
            ]
            nursery.start_soon(look, client, nursery.cancel_scope)
            while await client.count(where.state("completed")) < len(ids):
                await trio.sleep(0.5)
            nursery.cancel_scope.cancel()

    async def look(client: jobrt.Client, scope: trio.CancelScope) -> None:
        while True:
            assert await client.count(where.state("executing")) <= slots
            assert all(status.executing <= slots for status in await client.queues())
            await trio.sleep(chance.choice([0.001, 0.03, 0.1, 0.7]))

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_nothing_is_written_for_quick_jobs_and_those_that_begin_at_once(
    autojump_clock: MockClock,
) -> None:
    """Their claim or their outcome tells the start."""
    calls: Counter[str] = Counter()

    def count(name: str) -> None:
        calls[name] += 1

    async with scene(count, [Work], state=[], queues={"default": 2}) as here, trio.open_nursery() as nursery:
        worker = await nursery.start(here.app.run_worker)
        await here.client.enqueue_many([Work()] * 500)
        await worker.wait_idle()
        await trio.sleep(1)
        await here.client.enqueue_many([Work(3.0)] * 2)
        await worker.wait_idle()
        assert calls["show_started"] == 0
        await here.client.enqueue_many([Work()] * 20 + [Work(0.04)] * 2 + [Work(3.0)] * 2)
        await worker.wait_idle()
        assert calls["show_started"] == 1, "one call for both"
        await worker.stop()


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.REPLY_LOST, Fault.SLOW, Fault.ANSWERED_LATE])
async def test_a_start_is_shown_when_the_database_is_back(fault: Fault, autojump_clock: MockClock) -> None:
    """It is written again, and no outcome waits for it."""
    trouble = Trouble(frozenset({"show_started"}), fault, 2.0, on=True)
    async with (
        scene(trouble, [Work], state=[], queues={"default": 1}) as here,
        trio.open_nursery() as nursery,
    ):
        worker = await nursery.start(here.app.run_worker)
        handles = await here.client.enqueue_many([Work()] * 20 + [Work(0.04), Work(60), Work(0.1)])
        await trio.sleep(5)
        trouble.on = False
        await trio.sleep(40)
        assert (await here.client.get(handles[-2].id)).state is State.EXECUTING
        await worker.wait_idle()
        assert await here.client.count(where.state(State.COMPLETED)) == len(handles)
        await worker.stop()


# ---------------------------------------------------------------------- jobs of higher priority


async def test_a_job_waits_no_longer_for_a_slot_than_the_limit(autojump_clock: MockClock) -> None:
    """Then it goes back, so that whatever is due first by then is claimed when a slot comes free."""
    runs: list[Run] = []
    async with working(1, runs) as client:
        await client.enqueue_many([Work()] * 20 + [Work(1.0)] * 100)
        await trio.sleep(WAIT_LIMIT / 2)
        assert await client.count(where.state("claimed")) > 20
        await trio.sleep(WAIT_LIMIT)
        assert await client.count(where.state("claimed")) == 0
        await client.enqueue(Work(), priority=9)
        await trio.sleep(2)
        assert [run.priority for run in runs[20:22]] == [0, 9]
        await client.cancel(where.everything(), "enough")


def _wrong(urgent: Run, enqueued: float, *, runs: list[Run], slots: int) -> str | None:
    """Return what kept an urgent job waiting for longer than it may."""
    decided = enqueued + WAIT_LIMIT + TURN
    before = [run for run in runs if run.priority < urgent.priority and run.began < urgent.began - TURN]
    if late := [run for run in before if run.began > decided]:
        return f"{len(late)} jobs of lower priority began first, the last at {max(late, key=lambda run: run.began)}"
    for moment in sorted({decided, *(run.over for run in runs if run.over > decided)}):
        busy = sum(
            run.began <= moment + TURN and run.over > moment + TURN for run in runs if run is not urgent
        )
        if busy < slots and urgent.began > moment + WAIT_LIMIT + TURN:
            return f"there was a slot at {moment}"
    return None


@settings(QUICKLY, max_examples=20)
@given(loads, st.integers(1, 4), st.lists(st.floats(0.0, 0.4), min_size=1, max_size=4), st.booleans())
@example([(0.0, 30), (1.0, 20)], 1, [0.02, 0.05], True)
@example([(0.3, 40)], 4, [0.1, 0.2, 0.3], False)
def test_an_urgent_job_waits_for_what_runs_already(
    load: list[tuple[float, int]], slots: int, pauses: list[float], mixed: bool
) -> None:
    """Behind jobs of lower priority it waits only for those that ran or began within 50 ms of its enqueueing."""
    runs: list[Run] = []
    urgent: list[float] = []

    async def main() -> None:
        async with working(slots, runs) as client:
            jobs = [Work(seconds) for seconds, number in load for _ in range(number)]
            await client.enqueue_many(jobs[::2] + jobs[1::2] if mixed else jobs)
            for place, pause in enumerate(pauses):
                await trio.sleep(pause)
                urgent.append(trio.current_time())
                await client.enqueue(Work(), priority=100 + place)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    for run in runs:
        if run.priority:
            wrong = _wrong(run, urgent[run.priority - 100], runs=runs, slots=slots)
            assert wrong is None, f"{run} enqueued at {urgent[run.priority - 100]}: {wrong}"


@settings(QUICKLY, max_examples=10)
@given(st.lists(st.tuples(durations, st.integers(1, 25)), min_size=1, max_size=4), st.integers(1, 3))
def test_jobs_do_not_go_to_and_fro(pattern: list[tuple[float, int]], slots: int) -> None:
    """Long and short jobs by turns: for each four that end, one at the most goes back, besides those of one claim."""
    calls: Counter[str] = Counter()
    claimed: list[int] = []

    async def main() -> None:
        async with scene(
            lambda name: calls.update([name]), [Work], state=[], queues={"default": slots}
        ) as here:
            jobs = [Work(seconds) for seconds, number in pattern * 10 for _ in range(number)]
            await here.client.enqueue_many(jobs)
            async with trio.open_nursery() as nursery:
                worker = await nursery.start(here.app.run_worker)
                await worker.wait_idle()
                claimed.append(worker.queues["default"].fetcher.ledger.claimed)
                await worker.stop()
            assert await here.client.count(where.state("completed")) == len(jobs)
            back = claimed[0] - len(jobs)
            assert back <= len(jobs) / 4 + 4000

    trio.run(main, clock=MockClock(autojump_threshold=0))
