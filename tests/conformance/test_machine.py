"""Random sequences of calls: after each call, every job agrees with a small model in Python."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jobrt._core import where
from jobrt._core.job import Claimed, JobRef, NewJob, Outcome, Start
from jobrt._core.keep import PruneRule
from jobrt._core.states import FINAL, HELD, UNSTARTED, Transition
from jobrt._core.unique import Replace, Unique, unique_key
from jobrt._core.worker_info import WorkerInfo
from tests.conformance.build import ask, end, job
from tests.conformance.drive import drive, wait
from tests.conformance.model import Model, ModelJob

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobrt._core.limits import Demand
    from jobrt._storage.contract import Inserted
    from tests.conformance.harness import Engine

pytestmark = pytest.mark.unmeasured

WORKERS, QUEUES, NAMES = ("w1", "w2"), ("q1", "q2"), ("a", "b")
EXAMPLES = {"memory": 50, "sqlite": 10, "postgres": 8}
STEPS = 50
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
"""Failures are minimized only in memory: with other engines that takes longer than a test may."""
FOR_EVER = 1e8
MOMENT = 0.001
"""Seconds between two calls, for a clock that does not move by itself."""

# Time moves on by multiples of 100 s and everything that time decides ends at odd multiples of 50 s.
advances = st.sampled_from([100.0, 200.0, 1000.0])
delays = st.sampled_from([0.0, 0.0, 0.0, 150.0, 450.0])
windows = st.sampled_from([None, 250.0])
keys = st.sampled_from([None, None, None, "k1", "k2"])
ends = [
    Transition.COMPLETE,
    Transition.RETRY,
    Transition.SNOOZE,
    Transition.GIVE_BACK,
    Transition.DISCARD,
    Transition.CANCEL,
]
finishes = st.lists(st.tuples(st.integers(0, 20), st.sampled_from(ends), delays), min_size=1, max_size=4)
demands = st.sampled_from(
    [
        {"names": ("a", "b"), "capped": ()},
        {"names": ("a", "b"), "capped": ()},
        {"names": ("a",), "capped": ()},
        {"names": ("a",), "capped": (("b", 1),)},
    ]
)
replaces = st.sampled_from(
    [None, Replace("priority"), Replace("schedule_at"), Replace("priority", when=("scheduled",))]
)


@st.composite
def new_jobs(draw: st.DrawFn) -> NewJob:
    """Draw a new job, unique or not."""
    name, key = draw(st.sampled_from(NAMES)), draw(keys)
    unique = None
    if key is not None:
        states = draw(st.sampled_from(["unstarted", "incomplete", "all"]))
        chosen = Unique(key=key, states=states, within=draw(windows), on_conflict=draw(replaces))
        unique = unique_key(chosen, name="any", queue="any", args="{}", metadata={})
    return job(
        name,
        queue=draw(st.sampled_from(QUEUES)),
        priority=draw(st.integers(-1, 1)),
        delay=timedelta(seconds=draw(delays)),
        max_attempts=draw(st.sampled_from([1, 2, 5, None])),
        unique=unique,
    )


class StorageMachine(RuleBasedStateMachine):
    """The same calls to a storage and to the model."""

    engine: ClassVar[Engine]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.claims: list[JobRef] = []

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call the storage, a moment later than the call before."""
        if self.engine.name != "postgres":
            wait(self.engine.advance, MOMENT)
        self.model.now += MOMENT
        return wait(function, *arguments, **named)

    def some(self, numbers: list[int], wanted: Callable[[ModelJob], bool]) -> list[int]:
        """Turn drawn numbers into ids: mostly of jobs that the call is about, but not only."""
        jobs = self.model.jobs.values()
        ids = [one.id for one in jobs if wanted(one)]
        ids += [*[one.id for one in jobs if not wanted(one)][:2], 10**9]
        return sorted({ids[n % len(ids)] for n in numbers})

    # -------------------------------------------------------------- rules

    @initialize(new=st.lists(new_jobs(), min_size=3, max_size=6))
    def begin(self, new: list[NewJob]) -> None:
        """Empty the database, register the workers, and enqueue a few jobs to begin with."""
        storage = self.engine.storage
        self.call(storage.jobs.delete, where.everything())
        for queue in QUEUES:
            self.call(storage.queues.set, queue, paused=False)
        for worker in WORKERS:
            self.call(storage.workers.unregister, worker)
            self.call(storage.workers.register, worker, lease=FOR_EVER, info=WorkerInfo())
        self.enqueue(new)

    @rule(new=st.lists(new_jobs(), min_size=1, max_size=4))
    def insert(self, new: list[NewJob]) -> None:
        """Enqueue jobs, some of which may be duplicates, of one another too."""
        self.enqueue(new)

    @precondition(lambda self: self.model.jobs)
    @rule(
        worker=st.sampled_from(WORKERS),
        limit=st.integers(1, 4),
        free=st.integers(0, 4),
        names=demands,
        finished=finishes,
    )
    def work(
        self,
        worker: str,
        limit: int,
        free: int,
        names: dict[str, Any],
        finished: list[tuple[int, Transition, float]],
    ) -> None:
        """Write outcomes and claim; what a claim gives is either with or without what has just been freed."""
        for queue in QUEUES:
            demand = ask(
                *names["names"],
                worker=worker,
                queue=queue,
                limit=limit,
                capped=names["capped"],
                free_slots=free,
            )
            self.exchange(self.outcomes(finished), demand)

    @precondition(lambda self: self.model.jobs)
    @rule(worker=st.sampled_from(WORKERS), limit=st.integers(1, 4), free=st.none() | st.integers(0, 2))
    def claim(self, worker: str, limit: int, free: int | None) -> None:
        """Claim whatever is due."""
        for queue in QUEUES:
            self.exchange([], ask(*NAMES, worker=worker, queue=queue, limit=limit, free_slots=free))

    @precondition(lambda self: self.claims)
    @rule(numbers=st.lists(st.integers(0, 20), min_size=1, max_size=3))
    def show(self, numbers: list[int]) -> None:
        """Show starts: of claimed jobs, of those that are known to have started, and under leases that were lost."""
        claims = sorted({self.claims[-1 - number % len(self.claims)] for number in numbers})
        starts = [Start(*claim, began=1) for claim in claims]
        self.call(self.engine.storage.attempts.show_started, starts)
        self.model.show(starts)

    @precondition(lambda self: self.claims)
    @rule(finished=finishes)
    def finish(self, finished: list[tuple[int, Transition, float]]) -> None:
        """End attempts: running ones, ended ones, and ones whose lease was lost."""
        outcomes = self.outcomes(finished)
        refused = self.call(self.engine.storage.attempts.finish, outcomes)
        self.finished(outcomes, set(refused))

    @precondition(lambda self: any(one.lease for one in self.model.jobs.values()))
    @rule(worker=st.sampled_from(WORKERS))
    def die(self, worker: str) -> None:
        """Remove a worker, rescue its jobs, and start another with the same name."""
        storage = self.engine.storage
        self.call(storage.workers.unregister, worker)
        rescued = self.call(storage.workers.rescue)
        assert {one.id: one.state for one in rescued} == self.model.rescue(worker)
        self.call(storage.workers.register, worker, lease=FOR_EVER, info=WorkerInfo())

    @precondition(lambda self: self.model.jobs)
    @rule(
        what=st.sampled_from(["cancel", "rerun", "update", "delete", "prune", "pause"]),
        numbers=st.lists(st.integers(0, 50), min_size=1, max_size=3),
        priority=st.none() | st.integers(-1, 1),
        delay=st.none() | delays,
    )
    def manage(self, what: str, numbers: list[int], priority: int | None, delay: float | None) -> None:
        """Make an operator's calls."""
        match what:
            case "cancel":
                self.cancel(self.some(numbers, lambda one: one.state in UNSTARTED))
            case "rerun":
                self.rerun(self.some(numbers, lambda one: one.state in FINAL))
            case "update":
                self.update(self.some(numbers, lambda one: one.state in UNSTARTED), priority, delay=delay)
            case "delete":
                self.delete(self.some(numbers[:1], lambda _one: True))
            case "prune":
                self.prune(numbers[0])
            case _:
                self.pause_or_resume(QUEUES[1])

    @precondition(lambda self: any(one.lease for one in self.model.jobs.values()))
    @rule(numbers=st.lists(st.integers(0, 50), min_size=1, max_size=3))
    def ask(self, numbers: list[int]) -> None:
        """Ask for running jobs to be cancelled; they may still end otherwise."""
        self.cancel(self.some(numbers, lambda one: one.state in HELD))

    @rule(seconds=advances)
    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.model.now += seconds
        wait(self.engine.advance, seconds)

    # -------------------------------------------------------------- what must hold

    @invariant()
    def every_job_is_as_the_model_says(self) -> None:
        """States, places, attempts, reasons, records: the same on both sides."""
        records = wait(self.engine.storage.jobs.query, where.everything())
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
                one.started_at is not None,
            )
            for one in records
        }
        assert found == self.model.seen()

    # -------------------------------------------------------------- operators

    def cancel(self, ids: list[int]) -> None:
        """Cancel, or ask."""
        numbers = self.call(self.engine.storage.jobs.cancel, where.id_in(ids), "operator")
        assert numbers == self.model.cancel(ids, "operator")

    def rerun(self, ids: list[int]) -> None:
        """Rerun what is final."""
        assert self.call(self.engine.storage.jobs.rerun, where.id_in(ids)) == self.model.rerun(ids)

    def update(self, ids: list[int], priority: int | None, *, delay: float | None) -> None:
        """Change what waits."""
        changes: dict[str, Any] = {} if priority is None else {"priority": priority}
        if delay is not None:
            changes["delay"] = timedelta(seconds=delay)
        if changes:
            number = self.call(self.engine.storage.jobs.update, where.id_in(ids), changes)
            assert number == self.model.update(ids, priority=priority, delay=delay)

    def delete(self, ids: list[int]) -> None:
        """Delete jobs, whatever they are doing."""
        assert self.call(self.engine.storage.jobs.delete, where.id_in(ids)) == self.model.delete(ids)

    def prune(self, number: int) -> None:
        """Let final jobs go by one rule of several."""
        age = timedelta(seconds=150) if number % 2 else None
        one = PruneRule(state=sorted(FINAL)[number % 3], age=age, keep_at_least=number % 4)
        assert self.call(self.engine.storage.jobs.prune, [one]) == self.model.prune(one)

    def pause_or_resume(self, queue: str) -> None:
        """Toggle a queue."""
        self.model.paused ^= {queue}
        self.call(self.engine.storage.queues.set, queue, paused=queue in self.model.paused)

    # -------------------------------------------------------------- helpers

    def enqueue(self, new: list[NewJob]) -> None:
        """Insert jobs on both sides."""
        results: tuple[Inserted, ...] = self.call(self.engine.storage.jobs.insert, new)
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

    def exchange(self, outcomes: list[Outcome], demand: Demand) -> None:
        """Write outcomes and claim, on both sides."""
        before = self.model.due(demand)
        result = self.call(self.engine.storage.attempts.exchange, outcomes, demand)
        self.finished(outcomes, set(result.refused))
        # A claim that came out short looks once more, and then finds what these outcomes have freed.
        allowed = (before, self.model.due(demand), self.model.due(demand, taken=before))
        assert [one.id for one in result.jobs] in allowed
        started = [one.started_at is not None for one in result.jobs]
        assert started == [place < demand.starting for place in range(len(started))]
        self.take(result.jobs, demand.worker)

    def take(self, claimed: tuple[Claimed, ...], worker: str) -> None:
        """Record the claimed jobs; no lease may occur twice."""
        for one in claimed:
            assert JobRef(one.id, one.lease) not in self.claims
            self.claims.append(JobRef(one.id, one.lease))
            self.model.claim(one, worker)
            assert one.attempt == self.model.jobs[one.id].attempt
            assert tuple((past.number, past.end) for past in one.attempts) == tuple(
                self.model.jobs[one.id].ends
            )

    def outcomes(self, finished: list[tuple[int, Transition, float]]) -> list[Outcome]:
        """Make outcomes: mostly for claims that are held, but not only; each claim at most once."""
        chosen: dict[JobRef, Outcome] = {}
        held = {JobRef(one.id, one.lease) for one in self.model.jobs.values() if one.lease is not None}
        claims = sorted(held) + [one for one in self.claims[-4:] if one not in held]
        for number, event, delay in finished:
            if claims:
                claim = claims[number % len(claims)]
                later = delay if event in {Transition.RETRY, Transition.SNOOZE} else 0.0
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
        phases=PHASES if engine.name == "memory" else PHASES[:-1],
    )
    await drive(lambda: run_state_machine_as_test(Machine, settings=chosen))
