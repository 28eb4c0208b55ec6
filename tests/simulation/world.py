"""State of a simulated cluster, and checks of its guarantees."""

from __future__ import annotations

import json
import math
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs
import trio

from jobrt import Queue, Rate
from jobrt._runtime.ledger import micros_of

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    import jobrt
    from tests.simulation.family_rules import FamilyRules

__all__ = ["LEASE", "QUEUES", "Place", "World"]

LEASE = 6.0
CONCURRENCY = 3
CLUSTER_LIMIT = 2
NAME_LIMIT = 2
QUEUES = {
    "default": CONCURRENCY,
    "other": Queue(concurrency=CONCURRENCY, poll_interval=1.0),
    "narrow": Queue(concurrency=CONCURRENCY, cluster_limit=CLUSTER_LIMIT),
    "keyed": Queue(concurrency=CONCURRENCY, key="args.who", per_key=1),
    "rated": Queue(concurrency=CONCURRENCY, rate=Rate(1, burst=2)),
    "paced": Queue(concurrency=CONCURRENCY, key="args.who", per_key_rate=Rate(1, per=2), fair=True),
}


_ROUNDING = 1e-5


@attrs.define(eq=False)
class World:
    """State of the whole cluster; `violation` ends the run at the first violated guarantee.

    A violation is not raised where it is found, because in a job it would be just a failed attempt.
    """

    chance: random.Random
    runs_under_way: dict[tuple[int, int], tuple[Any, ...]] = attrs.Factory(dict)
    """Attempts that use a slot, with the limits that they count for."""
    attempts: dict[tuple[int, int], tuple[jobrt.JobRecord, str]] = attrs.Factory(dict)
    """Job and worker of each attempt that runs or is parked."""
    families: FamilyRules | None = None
    leases: dict[int, int] = attrs.Factory(dict)
    """The last lease of each job."""
    claims: dict[int, tuple[int, str, str]] = attrs.Factory(dict)
    """Lease, worker and queue of each claimed job."""
    starts: dict[Any, list[float]] = attrs.Factory(dict)
    """Times of the tokens that were taken, by queue, or by queue and key, since the last step of the clock."""
    pauses: dict[Any, float] = attrs.Factory(dict)
    """Time before which nothing starts, by queue, or by queue and key, because a job asked for it."""
    places: dict[int, Any] = attrs.Factory(dict)
    """For each claimed job the queue, or queue and key, for which its pauses and tokens count."""
    parked_in: dict[int, tuple[int, str]] = attrs.Factory(dict)
    """Lease and worker of each parked attempt."""
    went_on: set[tuple[int, int]] = attrs.Factory(set)
    """The claims with which parked attempts went on."""
    landed: set[tuple[int, int]] = attrs.Factory(set)
    expected: set[int] = attrs.Factory(set)
    running: Counter[Any] = attrs.Factory(Counter)
    log: list[str] = attrs.Factory(list)
    violations: list[str] = attrs.Factory(list)
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    offset: float = 0.0
    """Offset of the database's clock in seconds."""
    leases_unreliable_until: float = 0.0
    """Time until which workers can trust leases that have ended, because the clock stepped ahead."""
    calls: int = 0
    runs: int = 0
    crashes: int = 0
    steps: int = 0

    def note(self, text: str) -> None:
        """Add a line to the log of the run."""
        self.log.append(f"{trio.current_time():.6f} {text}")

    def violation(self, text: str) -> None:
        """Record a violated guarantee, and end the run."""
        self.note(f"VIOLATION: {text}")
        self.violations.append(f"at {trio.current_time():.3f}: {text}")
        self.scope.cancel(reason="a guarantee was violated")

    def step(self, seconds: float) -> None:
        """Step the clock of the database."""
        self.note(f"the clock steps by {seconds}")
        self.steps += 1
        self.offset += seconds
        self.starts.clear()
        self.pauses.clear()
        if seconds > 0:
            self.leases_unreliable_until = trio.current_time() + LEASE

    # ------------------------------------------------------------------ what the database did

    def called(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        """Check a call of the real storage before the next call is made."""
        self.calls += 1
        self.note(f"{name} {args!r} {result!r}" if name in {"exchange", "finish", "rescue"} else name)
        if self.families is not None:
            self.families.called(name, args, result)
        match name:
            case "exchange":
                self._ended(args[0], result.refused)
                self._claimed(result.jobs, args[1], at=result.at)
            case "finish":
                self._ended(args[0], result)
            case "transaction":
                self._ended([args[1]], ())
                self.end(
                    (args[1].id, args[1].lease)
                )  # what `run` does after the commit is not part of the job
            case "rescue":
                for rescued in result:
                    self.claims.pop(rescued.id, None)
            case "release_unknown":
                self._released(*args, number=result)
            case "insert":
                self.expected.update(inserted.id for inserted in result)
            case _:
                pass

    def _ended(self, outcomes: Any, refused: Any) -> None:
        for outcome in outcomes:
            ref = outcome.id, outcome.lease
            if ref in {(other.id, other.lease) for other in refused}:
                continue
            if ref not in self.landed and self.claims.get(outcome.id, (0,))[0] != outcome.lease:
                self.violation(f"{outcome} was stored, but the claim is {self.claims.get(outcome.id)}")
            if outcome.wait is not None:
                self._waits(outcome)
            if ref not in self.landed:
                self.claims.pop(outcome.id, None)
                if outcome.hold is not None:
                    place, until = self.places[outcome.id], trio.current_time() + outcome.hold
                    self.pauses[place] = max(until, self.pauses.get(place, until))
            if self.families is not None and ref not in self.landed:
                self.families.ended(outcome)
            self.landed.add(ref)

    def _waits(self, outcome: Any) -> None:
        """Note where an attempt is parked: it goes on there, without a token."""
        ref = outcome.id, outcome.lease
        if outcome.wait.parked and ref not in self.landed and outcome.id in self.claims:
            self.parked_in[outcome.id] = outcome.lease, self.claims[outcome.id][1]
        elif not outcome.wait.parked and self.parked_in.get(outcome.id, (0,))[0] == outcome.lease:
            del self.parked_in[outcome.id]

    def _claimed(self, jobs: Any, demand: Any, *, at: int) -> None:
        for job in jobs:
            self.places[job.id] = (
                demand.queue if demand.key is None else (demand.queue, json.loads(job.args)["who"])
            )
            self._check_start(job, demand, at=at)
            if job.lease <= self.leases.get(job.id, 0):
                self.violation(f"a lease of {job} was used twice")
            if job.id in self.claims:
                self.violation(f"{job.name} {job.id} was claimed while {self.claims[job.id]} holds it")
            self.leases[job.id] = job.lease
            self.claims[job.id] = job.lease, demand.worker, demand.queue

    def _check_start(self, job: Any, demand: Any, *, at: int) -> None:
        """Check that the job's queue or key is not paused, and that its rate allows the start.

        Under a rate, a parked attempt goes on in spite of both.
        """
        place, start = self.places[job.id], trio.current_time()
        if demand.rated:
            start += (micros_of(job.started_at) - at) / 1e6
        rate = demand.rate or demand.per_key_rate
        _, parked_by = self.parked_in.pop(job.id, (0, None))
        goes_on = parked_by == demand.worker
        if start < self.pauses.get(place, 0) - _ROUNDING and not (goes_on and demand.rated):
            self.violation(f"{job.name} {job.id} starts at {start}, but {place} is paused")
        if goes_on:
            self.went_on.add((job.id, job.lease))
            return
        if rate is None:
            return
        starts = self.starts.setdefault(place, [])
        starts.append(start)
        starts.sort()
        least = math.inf
        for number, when in enumerate(starts):
            line = number - rate.count * when / rate.per
            least = min(least, line)
            if line - least + 1 > rate.burst + _ROUNDING:
                self.violation(f"{starts} of {place} are more than {rate} allows")

    def _released(self, worker: str, queue: str, known: Any, *, number: int) -> None:
        refs = {(ref.id, ref.lease) for ref in known}
        unknown = [
            (job_id, lease)
            for job_id, (lease, who, where) in self.claims.items()
            if (who, where) == (worker, queue) and (job_id, lease) not in refs
        ]
        if len(unknown) != number:
            self.violation(f"{number} of the claims {unknown} were given back, which {worker} does not know")
        for job_id, lease in unknown:
            if (job_id, lease) in self.runs_under_way:
                self.violation(f"job {job_id} was given back while it ran")
            if (job_id, lease) in self.went_on:  # the attempt is still parked there
                self.parked_in[job_id] = lease, worker
            del self.claims[job_id]

    # ------------------------------------------------------------------ what jobs do

    @contextmanager
    def running_in(self, ctx: jobrt.Context, who: str) -> Iterator[None]:
        """Check that no other attempt of the job is running during the block, and that limits hold."""
        job, lease = ctx.job, ctx._running.job.lease
        self.runs += 1
        self.note(f"run {job.id} {job.name} in {who}")
        if self.families is not None:
            self.families.begins(job.id)
        self._begin(job, (job.id, lease), who)
        try:
            yield
        finally:
            self.end((job.id, ctx._running.job.lease))

    def _begin(self, job: jobrt.JobRecord, ref: tuple[int, int], who: str) -> None:
        limits = self._limits(job, who)
        if trio.current_time() > self.leases_unreliable_until:
            limits[job.id] = 1
        self.attempts[ref] = job, who
        self._count(ref, {**limits, job.id: limits.get(job.id, math.inf)})

    def _limits(self, job: jobrt.JobRecord, who: str) -> dict[Any, float]:
        """Return the limits that an attempt counts for while it has a slot."""
        limits: dict[Any, float] = {(who, job.queue): CONCURRENCY}
        if job.name == "Limited":
            limits[who, job.name] = NAME_LIMIT
        if trio.current_time() > self.leases_unreliable_until:
            if job.queue == "narrow":
                limits["all", "narrow"] = CLUSTER_LIMIT
            if job.queue == "keyed":
                limits["key", job.args["who"]] = 1
        return limits

    def _count(self, ref: tuple[int, int], limits: dict[Any, float]) -> None:
        job, who = self.attempts[ref]
        self.runs_under_way[ref] = (*self.runs_under_way.get(ref, ()), *limits)
        self.running.update(limits.keys())
        for key, limit in limits.items():
            if self.running[key] > limit:
                self.violation(f"{who} runs {job.name} {job.id}: {self.running[key]} of {key}, limit {limit}")

    def parked(self, ref: tuple[int, int]) -> None:
        """Release the slot of an attempt that stays in memory: it counts in no limit, but its job must not run."""
        if counted := self.runs_under_way.get(ref):
            self.running.subtract(key for key in counted if key != ref[0])
            self.runs_under_way[ref] = (ref[0],)

    def has_another_lease(self, before: tuple[int, int], ref: tuple[int, int]) -> None:
        """Note another lease of a parked attempt."""
        if before in self.runs_under_way:
            self.runs_under_way[ref] = self.runs_under_way.pop(before)
            self.attempts[ref] = self.attempts.pop(before)

    def goes_on(self, ref: tuple[int, int]) -> None:
        """Count an attempt again that goes on."""
        if ref in self.runs_under_way:
            self._count(ref, self._limits(*self.attempts[ref]))

    def end(self, ref: tuple[int, int]) -> None:
        """Release the slot of an attempt."""
        self.attempts.pop(ref, None)
        self.running.subtract(self.runs_under_way.pop(ref, ()))


@attrs.define
class Place:
    """The ``ctx.state`` of a worker's jobs."""

    world: World
    name: str
