"""If fetchers and executors are restarted at any moment, no job is lost, and none completes twice."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from tests.runtime.test_fencing import scene
from tests.simulation.faulty import Fault
from trio.testing import MockClock

import jobrt
from jobrt import End, State
from jobrt._runtime.channels import Channel
from jobrt._runtime.completer import Completer
from jobrt._runtime.executors import Executors
from jobrt._runtime.fetcher import Fetcher
from jobrt._runtime.ledger import Ledger
from jobrt._runtime.messages import Batch
from jobrt._runtime.name_limits import QueueNames
from jobrt._runtime.outbox import Outbox
from jobrt.events import ActorRestarted

pytestmark = pytest.mark.unmeasured

JOBS = 300


class Count(jobrt.Job):
    """Job that takes a moment and counts its run."""

    MAX_ATTEMPTS = 3
    MAX_CONCURRENCY = 15

    seconds: float

    async def run(self, ctx: jobrt.Context) -> str:
        ctx.state.append(ctx.job.id)
        await trio.sleep(self.seconds)
        return "done"


class Late:
    """Decider that delays each reply by a random time, so that a restart can come at any moment of a call."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def __call__(self, name: str) -> tuple[Fault, float] | None:
        if name not in {"exchange", "finish", "release_unknown"}:
            return None
        return self.chance.choice([Fault.SLOW, Fault.ANSWERED_LATE]), self.chance.expovariate(20)


async def _run(seed: int, actors: list[str]) -> tuple[list[jobrt.JobRecord], Counter[int]]:
    """Drain three hundred jobs while actors are restarted at random; return the records and the runs of each."""
    chance, ran = random.Random(seed), list[int]()
    queues = {"default": jobrt.Queue(20, poll_interval=600)}
    async with scene(Late(chance), [Count], state=ran, queues=queues) as here, trio.open_nursery() as nursery:
        await here.client.enqueue_many([Count(chance.choice([0.0, 0.01, 0.3])) for _ in range(JOBS)])
        worker: jobrt.Worker = await nursery.start(here.app.run_worker)
        supervisor = worker.queues["default"].supervisor

        async def restart() -> None:
            for _ in range(40):
                await trio.sleep(chance.expovariate(20))
                supervisor.restart_child(chance.choice(actors))

        nursery.start_soon(restart)
        with trio.fail_after(300):
            await worker.wait_idle()
        records = await here.client.query(limit=None)
        await worker.stop()
        assert not worker.queues["default"].fetcher.limits.held.total()
        return list(records), Counter(ran)


@pytest.mark.parametrize("seed", range(8))
async def test_a_fetcher_may_be_restarted_at_any_moment(seed: int, autojump_clock: MockClock) -> None:
    """Each job runs once, because claimed and returned jobs are in the ledger or in the channels."""
    records, ran = await _run(seed, ["fetcher"])
    assert {(record.state, record.attempt) for record in records} == {(State.COMPLETED, 1)}
    assert sorted(ran.values()) == [1] * JOBS


@pytest.mark.parametrize("seed", range(8))
async def test_executors_may_be_restarted_at_any_moment(seed: int, autojump_clock: MockClock) -> None:
    """Running jobs are released and run again without using an attempt. All others run once."""
    records, ran = await _run(seed, ["executors"])
    assert {(record.state, record.attempt) for record in records} == {(State.COMPLETED, 1)}
    interrupted = Counter(
        record.id for record in records for attempt in record.attempts if attempt.end is End.INTERRUPTED
    )
    assert {job: runs - 1 for job, runs in ran.items() if runs > 1} == interrupted


@pytest.mark.parametrize("seed", range(8))
async def test_both_may_be_restarted_at_any_moment(seed: int, autojump_clock: MockClock) -> None:
    """In any order of restarts, each job completes once."""
    records, _ = await _run(seed, ["fetcher", "executors"])
    assert {(record.state, record.attempt) for record in records} == {(State.COMPLETED, 1)}
    ends = Counter(attempt.end for record in records for attempt in record.attempts)
    assert ends[End.FINISHED] == JOBS


class _Bug(Exception):
    """An error in an actor's own code."""


@pytest.mark.parametrize("number", range(1, 6))
@pytest.mark.parametrize(("part", "handler"), [(Executors, "_accept"), (Outbox, "_message")])
async def test_a_bug_in_the_executors_loses_no_job(
    part: type, handler: str, number: int, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """After their restart, a message that was received and not stored is missing. So its jobs are reconciled."""
    calls = 0
    real: Any = getattr(part, handler)

    def faulty(self: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise _Bug
        return real(self, *args)

    monkeypatch.setattr(part, handler, faulty)
    ran: list[int] = []
    queues = {"default": jobrt.Queue(5, poll_interval=600)}
    async with (
        scene(lambda _name: None, [Count], state=ran, queues=queues) as here,
        trio.open_nursery() as nursery,
    ):
        await here.client.enqueue_many([Count(0.1) for _ in range(30)])
        worker: jobrt.Worker = await nursery.start(here.app.run_worker)
        with trio.fail_after(100):
            await worker.wait_idle()
        records = await here.client.query()
        await worker.stop()
    assert {(record.state, record.attempt) for record in records} == {(State.COMPLETED, 1)}
    assert calls > number


async def test_a_bug_in_the_fetcher_after_a_claim_loses_no_job(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Jobs that it claimed and did not accept are released before its next claim."""
    calls = 0
    real = QueueNames.take

    def faulty(self: Any, jobs: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise _Bug
        real(self, jobs)

    monkeypatch.setattr(QueueNames, "take", faulty)
    queues = {"default": jobrt.Queue(5, poll_interval=600)}
    async with (
        scene(lambda _name: None, [Count], state=[], queues=queues) as here,
        trio.open_nursery() as nursery,
    ):
        await here.client.enqueue_many([Count(0.1) for _ in range(10)])
        worker: jobrt.Worker = await nursery.start(here.app.run_worker)
        with trio.fail_after(100):
            await worker.wait_idle()
        records = await here.client.query()
        await worker.stop()
    assert {(record.state, record.attempt) for record in records} == {(State.COMPLETED, 1)}


@pytest.mark.parametrize("down", ["fetcher", "executors"])
async def test_a_stop_ends_although_an_actor_is_down(
    down: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """The actor is restarted so that it ends in order, and it returns the jobs that it holds."""
    actor: Any = {"fetcher": Fetcher, "executors": Executors}[down]
    real = actor.run
    broken = False

    async def run(self: Any, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        nonlocal broken
        if broken:
            broken = False
            raise _Bug
        await real(self, task_status=task_status)

    monkeypatch.setattr(actor, "run", run)
    queues = {"default": jobrt.Queue(5, poll_interval=600)}
    async with (
        scene(lambda _name: None, [Count], state=[], queues=queues) as here,
        trio.open_nursery() as nursery,
    ):
        await here.client.enqueue_many([Count(1000.0) for _ in range(30)])
        worker: jobrt.Worker = await nursery.start(here.app.run_worker)
        await trio.sleep(1)
        broken = True
        worker.queues["default"].supervisor.restart_child(down)
        await trio.lowlevel.checkpoint()
        began = trio.current_time()
        await worker.stop(grace=0)
        assert trio.current_time() - began < 5
        records = await here.client.query()
    assert {(record.state, record.attempt) for record in records} == {(State.AVAILABLE, 0)}


@pytest.mark.parametrize("actor", ["fetcher", "executors"])
async def test_actors_that_are_restarted_while_they_stop_go_on_without_an_error(
    actor: str, autojump_clock: MockClock
) -> None:
    """They find their channels closed while a job is still running."""
    async with scene(lambda _name: None, [Count], state=[]) as here, trio.open_nursery() as nursery:
        await here.client.enqueue(Count(5.0))
        worker: jobrt.Worker = await nursery.start(here.app.run_worker)
        await trio.sleep(1)
        worker.begin_stop(grace=10)
        await trio.sleep(1)
        worker.queues["default"].supervisor.restart_child(actor)
        with trio.fail_after(10):
            await worker.stopped.wait()
        (record,) = await here.client.query()
    assert record.state is (State.COMPLETED if actor == "fetcher" else State.AVAILABLE)
    assert not [event for event in here.events if isinstance(event, ActorRestarted)]


async def test_outcomes_are_written_at_a_stop_although_the_completer_is_set_aside(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """A job that has ended does not run again."""
    real = Completer.run
    broken = False

    async def run(self: Any, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        if broken:
            raise _Bug
        await real(self, task_status=task_status)

    monkeypatch.setattr(Completer, "run", run)
    async with scene(lambda _name: None, [Count], state=[]) as here, trio.open_nursery() as nursery:
        await here.client.enqueue(Count(20.0))
        worker: jobrt.Worker = await nursery.start(here.app.run_worker)
        await trio.sleep(1)
        broken = True
        worker._actors.tree.restart_child("completer")
        await trio.sleep(15)
        broken = False
        await worker.stop(grace=10)
        (record,) = await here.client.query()
    assert record.state is State.COMPLETED


async def test_batches_whose_sending_is_cancelled_keep_their_order() -> None:
    """The executors report the number of the last batch that they received, so batches must be in order."""
    for _ in range(20):  # Trio wakes cancelled tasks in random order
        channel = Channel[Any].open(0)
        sender: Any = SimpleNamespace(
            ledger=Ledger(jobrt.Queue(10)), channels=SimpleNamespace(work=channel.send)
        )
        async with trio.open_nursery() as nursery:
            for number in range(3):
                sender.ledger.unsent.append(Batch(number, "worker", ()))
                nursery.start_soon(Fetcher._send_unsent, sender)
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert [batch.number for batch in sender.ledger.unsent] == [0, 1, 2]
