"""Any sequence of calls: after each, every job is as a small model in Python says."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from jobrt._core import where
from jobrt._core.job import Claimed, JobRef, NewJob, Outcome
from jobrt._core.keep import PruneRule
from jobrt._core.states import FINAL, Event
from jobrt._core.unique import Replace, Unique, unique_key
from tests.conformance.build import ask, end, job
from tests.conformance.model import Model

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobrt._storage.base import Inserted
    from tests.conformance.harness import Engine

WORKERS, QUEUES, NAMES = ("w1", "w2"), ("q1", "q2"), ("a", "b")
EXAMPLES = {"memory": 60, "sqlite": 12, "postgres": 12}
STEPS = 40
FOR_EVER = 1e8
MOMENT = 0.001
"""Seconds between two calls where the clock does not go by itself."""

# Time moves on by multiples of 100 s and everything that time decides ends at odd multiples of 50 s.
advances = st.sampled_from([100.0, 200.0, 1000.0])
delays = st.sampled_from([0.0, 150.0, 450.0])
windows = st.sampled_from([None, 250.0])
keys = st.sampled_from([None, None, "k1", "k2"])
ends = [Event.COMPLETE, Event.RETRY, Event.SNOOZE, Event.GIVE_BACK, Event.DISCARD, Event.CANCEL]
replaces = st.sampled_from([None, Replace("priority"), Replace("schedule_at"), Replace("priority", when=("scheduled",))])


@st.composite
def new_jobs(draw: st.DrawFn) -> NewJob:
    """Draw a job on its way in, unique or not."""
    name, key = draw(st.sampled_from(NAMES)), draw(keys)
    unique = None
    if key is not None:
        states = draw(st.sampled_from(["unstarted", "incomplete", "all"]))
        chosen = Unique(key=key, states=states, within=draw(windows), on_conflict=draw(replaces))
        unique = unique_key(chosen, name="any", queue="any", args={}, metadata={})
    return job(
        name,
        queue=draw(st.sampled_from(QUEUES)),
        priority=draw(st.integers(-1, 1)),
        delay=timedelta(seconds=draw(delays)),
        max_attempts=draw(st.sampled_from([1, 2, 5, None])),
        unique=unique,
    )


class StorageMachine(RuleBasedStateMachine):
    """Do the same to a storage and to the model."""

    engine: ClassVar[Engine]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.claims: list[JobRef] = []

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call the storage, a moment later than the call before."""

        async def later() -> Any:
            if self.engine.name != "postgres":
                await self.engine.advance(MOMENT)
            return await function(*arguments, **named)

        self.model.now += MOMENT
        return trio.from_thread.run(later)

    def some(self, numbers: list[int]) -> list[int]:
        """Turn drawn numbers into ids of jobs that there are, or nearly."""
        ids = [*self.model.jobs, 10**9]
        return sorted({ids[n % len(ids)] for n in numbers})

    # -------------------------------------------------------------- rules

    @initialize()
    def begin(self) -> None:
        """Empty the database and register the workers."""
        storage = self.engine.storage
        self.call(storage.delete, where.everything())
        for queue in QUEUES:
            self.call(storage.set_queue, queue, paused=False)
        for worker in WORKERS:
            self.call(storage.unregister, worker)
            self.call(storage.register, worker, lease=FOR_EVER, info={})

    @rule(new=st.lists(new_jobs(), min_size=1, max_size=3))
    def insert(self, new: list[NewJob]) -> None:
        """Enqueue jobs, some of which may be duplicates, of one another too."""
        results: tuple[Inserted, ...] = self.call(self.engine.storage.insert, new)
        assert len(results) == len(new)
        for one, found in zip(new, results, strict=True):
            equal = self.model.equal(one.unique) if one.unique else set()
            if equal:
                assert found.duplicate
                assert found.id in equal
                self.model.replace(found.id, one)
            else:
                assert not found.duplicate
                assert found.id not in self.model.jobs
                self.model.insert(found.id, one)

    @rule(
        worker=st.sampled_from(WORKERS),
        queue=st.sampled_from(QUEUES),
        limit=st.integers(1, 4),
        names=st.sampled_from([{"names": ("a", "b")}, {"names": ("a",)}, {"names": ("a",), "capped": (("b", 1),)}]),
        finished=st.lists(st.tuples(st.integers(0, 50), st.sampled_from(ends), delays), max_size=2),
    )
    def exchange(
        self,
        worker: str,
        queue: str,
        limit: int,
        names: dict[str, Any],
        finished: list[tuple[int, Event, float]],
    ) -> None:
        """Write outcomes and claim; what a claim gives is either with or without what has just been freed."""
        demand = ask(*names["names"], worker=worker, queue=queue, limit=limit, capped=names.get("capped", ()))
        outcomes = self.outcomes(finished)
        before = self.model.due(demand)
        result = self.call(self.engine.storage.exchange, outcomes, demand)
        self.finished(outcomes, set(result.refused))
        assert [one.id for one in result.jobs] in (before, self.model.due(demand))
        self.take(result.jobs, worker)

    @rule(finished=st.lists(st.tuples(st.integers(0, 50), st.sampled_from(ends), delays), min_size=1, max_size=4))
    def finish(self, finished: list[tuple[int, Event, float]]) -> None:
        """End attempts: running ones, ended ones, and ones whose lease was lost."""
        outcomes = self.outcomes(finished)
        refused = self.call(self.engine.storage.finish, outcomes)
        self.finished(outcomes, set(refused))

    @rule(worker=st.sampled_from(WORKERS))
    def die(self, worker: str) -> None:
        """Let a worker be gone, rescue its jobs, and start another under its name."""
        storage = self.engine.storage
        self.call(storage.unregister, worker)
        rescued = self.call(storage.rescue)
        assert {one.id: one.state for one in rescued} == self.model.rescue(worker)
        self.call(storage.register, worker, lease=FOR_EVER, info={})

    @rule(ids=st.lists(st.integers(0, 50), max_size=3))
    def cancel(self, ids: list[int]) -> None:
        """Cancel, or ask."""
        some = self.some(ids)
        asked = self.call(self.engine.storage.cancel, where.id_in(some), "operator")
        assert asked == self.model.cancel(some, "operator")

    @rule(ids=st.lists(st.integers(0, 50), max_size=3))
    def rerun(self, ids: list[int]) -> None:
        """Rerun what is final."""
        some = self.some(ids)
        assert self.call(self.engine.storage.rerun, where.id_in(some)) == self.model.rerun(some)

    @rule(
        ids=st.lists(st.integers(0, 50), max_size=3),
        priority=st.none() | st.integers(-1, 1),
        delay=st.none() | delays,
    )
    def update(self, ids: list[int], priority: int | None, delay: float | None) -> None:
        """Change what waits."""
        some, changes = self.some(ids), dict[str, Any]()
        if priority is not None:
            changes["priority"] = priority
        if delay is not None:
            changes["delay"] = timedelta(seconds=delay)
        if changes:
            number = self.call(self.engine.storage.update, where.id_in(some), changes)
            assert number == self.model.update(some, priority=priority, delay=delay)

    @rule(ids=st.lists(st.integers(0, 50), min_size=1, max_size=2))
    def delete(self, ids: list[int]) -> None:
        """Delete jobs, whatever they are doing."""
        some = self.some(ids)
        assert self.call(self.engine.storage.delete, where.id_in(some)) == self.model.delete(some)

    @rule(
        state=st.sampled_from(sorted(FINAL)),
        age=st.sampled_from([None, timedelta(seconds=150)]),
        number=st.integers(0, 2),
    )
    def prune(self, state: Any, age: timedelta | None, number: int) -> None:
        """Let final jobs go."""
        one = PruneRule(state=state, age=age, keep_at_least=number)
        assert self.call(self.engine.storage.prune, [one]) == self.model.prune(one)

    @rule(queue=st.sampled_from(QUEUES))
    def pause_or_resume(self, queue: str) -> None:
        """Toggle a queue."""
        self.model.paused ^= {queue}
        self.call(self.engine.storage.set_queue, queue, paused=queue in self.model.paused)

    @rule(seconds=advances)
    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.model.now += seconds
        trio.from_thread.run(self.engine.advance, seconds)

    # -------------------------------------------------------------- what must hold

    @invariant()
    def every_job_is_as_the_model_says(self) -> None:
        """States, places, attempts, reasons, records: the same on both sides."""
        records = trio.from_thread.run(self.engine.storage.query, where.everything())
        found = {
            one.id: (
                one.name,
                one.state,
                one.queue,
                one.priority,
                one.attempt,
                one.max_attempts,
                one.worker,
                one.cancel_reason,
                tuple((past.number, past.end) for past in one.attempts),
            )
            for one in records
        }
        assert found == self.model.seen()

    # -------------------------------------------------------------- helpers

    def take(self, claimed: tuple[Claimed, ...], worker: str) -> None:
        """Note what was claimed; no lease may come twice."""
        for one in claimed:
            assert JobRef(one.id, one.lease) not in self.claims
            self.claims.append(JobRef(one.id, one.lease))
            self.model.claim(one, worker)
            assert one.attempt == self.model.jobs[one.id].attempt
            assert tuple((past.number, past.end) for past in one.attempts) == tuple(self.model.jobs[one.id].ends)

    def outcomes(self, finished: list[tuple[int, Event, float]]) -> list[Outcome]:
        """Make outcomes for claims of any age, each claim at most once."""
        chosen: dict[JobRef, Outcome] = {}
        for number, event, delay in finished:
            if self.claims:
                claim = self.claims[-1 - number % len(self.claims)]
                later = delay if event in {Event.RETRY, Event.SNOOZE} else 0.0
                chosen[claim] = end(claim, event, delay=later, message=f"{event.value} says the job")
        return list(chosen.values())

    def finished(self, outcomes: list[Outcome], refused: set[JobRef]) -> None:
        """Let the model finish, too, and compare what was refused."""
        for outcome in outcomes:
            wanted = self.model.finish(outcome)
            assert wanted is None or wanted == (JobRef(outcome.id, outcome.lease) in refused)


@pytest.mark.slow
async def test_any_sequence_of_calls(engine: Engine) -> None:
    """Whatever is called in whatever order, the storage does what the model does."""

    class Machine(StorageMachine):
        pass

    Machine.engine = engine
    chosen = settings(
        max_examples=EXAMPLES[engine.name],
        stateful_step_count=STEPS,
        suppress_health_check=list(HealthCheck),
    )
    await trio.to_thread.run_sync(lambda: run_state_machine_as_test(Machine, settings=chosen))
