"""Know what happens in a simulated cluster, and say at once when it must not."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs
import trio

from jobrt import Queue

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    import jobrt

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
}


@attrs.define(eq=False)
class World:
    """What is true of the cluster as a whole; `wrong` ends the run at the first thing that must not be.

    A violation is not raised where it is seen: inside a job it would be one more attempt that failed.
    """

    chance: random.Random
    runs_under_way: dict[tuple[int, int], tuple[Any, ...]] = attrs.Factory(dict)
    """Which attempts hold a slot, and what they count for."""
    leases: dict[int, int] = attrs.Factory(dict)
    """The last lease that each job was given."""
    claims: dict[int, tuple[int, str, str]] = attrs.Factory(dict)
    """Lease, worker and queue of each job that the database holds for somebody."""
    landed: set[tuple[int, int]] = attrs.Factory(set)
    expected: set[int] = attrs.Factory(set)
    running: Counter[Any] = attrs.Factory(Counter)
    log: list[str] = attrs.Factory(list)
    violations: list[str] = attrs.Factory(list)
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    offset: float = 0.0
    """Seconds that the database's clock is off."""
    doubtful_until: float = 0.0
    """A clock that jumped ahead has ended leases that their workers trust, until each has noticed."""
    calls: int = 0
    runs: int = 0
    crashes: int = 0
    steps: int = 0

    def note(self, text: str) -> None:
        """Add a line to the run's history."""
        self.log.append(f"{trio.current_time():.6f} {text}")

    def wrong(self, text: str) -> None:
        """Note that something happened that must not, and end the run."""
        self.note(f"WRONG: {text}")
        self.violations.append(f"at {trio.current_time():.3f}: {text}")
        self.scope.cancel(reason="a promise was broken")

    def step(self, seconds: float) -> None:
        """Have the database's clock jump."""
        self.note(f"the clock steps by {seconds}")
        self.steps += 1
        self.offset += seconds
        if seconds > 0:
            self.doubtful_until = trio.current_time() + LEASE

    # ------------------------------------------------------------------ what the database did

    def called(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        """Look at a call that the real storage has answered, before anybody else makes one."""
        self.calls += 1
        self.note(f"{name} {args!r} {result!r}" if name in {"exchange", "finish", "rescue"} else name)
        match name:
            case "exchange":
                self._ended(args[0], result.refused)
                self._claimed(result.jobs, args[1])
            case "finish":
                self._ended(args[0], result)
            case "transaction":
                self._ended([args[1]], ())
                self.end((args[1].id, args[1].lease))  # what `run` does afterwards is not the job's any more
            case "rescue":
                for one in result:
                    self.claims.pop(one.id, None)
            case "release_unknown":
                self._released(*args)
            case "insert":
                self.expected.update(one.id for one in result)
            case _:
                pass

    def _ended(self, outcomes: Any, refused: Any) -> None:
        for outcome in outcomes:
            ref = outcome.id, outcome.lease
            if ref in {(one.id, one.lease) for one in refused}:
                continue
            if ref not in self.landed and self.claims.get(outcome.id, (0,))[0] != outcome.lease:
                self.wrong(f"{outcome} landed, the lease is {self.claims.get(outcome.id)}")
            if ref not in self.landed:
                self.claims.pop(outcome.id, None)
            self.landed.add(ref)

    def _claimed(self, jobs: Any, demand: Any) -> None:
        for job in jobs:
            if job.lease <= self.leases.get(job.id, 0):
                self.wrong(f"a lease of {job} was given out twice")
            if job.id in self.claims:
                self.wrong(f"{job.name} {job.id} was claimed while {self.claims[job.id]} holds it")
            self.leases[job.id] = job.lease
            self.claims[job.id] = job.lease, demand.worker, demand.queue

    def _released(self, worker: str, queue: str, known: Any) -> None:
        refs = {(one.id, one.lease) for one in known}
        for job_id, (lease, who, where) in list(self.claims.items()):
            if (who, where) == (worker, queue) and (job_id, lease) not in refs:
                if (job_id, lease) in self.runs_under_way:
                    self.wrong(f"job {job_id} was given back while it ran")
                del self.claims[job_id]

    # ------------------------------------------------------------------ what jobs do

    @contextmanager
    def running_in(self, ctx: jobrt.Context, who: str) -> Iterator[None]:
        """Check, while `run` is under way, that no other copy is, and that limits are kept."""
        job, lease = ctx.job, ctx._running.job.lease
        self.runs += 1
        self.note(f"run {job.id} {job.name} in {who}")
        self._begin(job, (job.id, lease), who)
        try:
            yield
        finally:
            self.end((job.id, lease))

    def _begin(self, job: jobrt.JobRecord, ref: tuple[int, int], who: str) -> None:
        limits = {(who, job.queue): CONCURRENCY}
        if job.name == "Limited":
            limits[who, job.name] = NAME_LIMIT
        if trio.current_time() > self.doubtful_until:
            limits[job.id] = 1
            if job.queue == "narrow":
                limits["all", "narrow"] = CLUSTER_LIMIT
            if job.queue == "keyed":
                limits["key", job.args["who"]] = 1
        counted = tuple({*limits, job.id})
        self.runs_under_way[ref] = counted
        self.running.update(counted)
        for what, most in limits.items():
            if self.running[what] > most:
                self.wrong(f"{who} runs {job.name} {job.id}: {self.running[what]} of {what}, at most {most}")

    def end(self, ref: tuple[int, int]) -> None:
        """Count out an attempt that holds its slot no longer."""
        self.running.subtract(self.runs_under_way.pop(ref, ()))


@attrs.define
class Place:
    """What jobs find as ``ctx.state``."""

    world: World
    name: str
