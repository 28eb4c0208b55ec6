"""Hold what the actors of one queue share: claimed jobs, running attempts, settings."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from jobrt._core.job import JobRef
from jobrt._runtime.flag import Flag

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from jobrt._core.job import Claimed
    from jobrt._core.limits import Demand
    from jobrt._core.queues import Queue
    from jobrt._runtime.running import Running

__all__ = ["NameLimits", "QueueState"]


@attrs.define(eq=False)
class NameLimits:
    """Count, over all queues of a worker, the claimed jobs of each name that has a MAX_CONCURRENCY.

    ``lacking`` holds, for each queue whose last claim left out such names, its wake-up and which: it may have jobs of
    them, and a slot that becomes free in any queue is worth a look.
    """

    most: dict[str, int]
    held: dict[str, int] = attrs.Factory(dict)
    lacking: dict[str, tuple[Flag, set[str]]] = attrs.Factory(dict)

    def reserve(self, capped: Sequence[tuple[str, int]], sign: int = 1) -> None:
        """Count what a claim may bring while it is under way, so that no other queue asks for it; -1 undoes it."""
        for name, most in capped:
            self.held[name] = self.held.get(name, 0) + sign * most
        if sign < 0:
            self._freed([name for name, _ in capped])

    def take(self, jobs: Iterable[Claimed]) -> None:
        """Count jobs that were claimed."""
        for job in jobs:
            if job.name in self.most:
                self.held[job.name] = self.held.get(job.name, 0) + 1

    def give(self, name: str) -> bool:
        """Count a job out; say whether its name has a limit."""
        if name not in self.most:
            return False
        self.held[name] -= 1
        self._freed([name])
        return True

    def _freed(self, names: Iterable[str]) -> None:
        free = {name for name in names if self.held[name] < self.most[name]}
        for wake, left_out in self.lacking.values() if free else ():
            if not free.isdisjoint(left_out):
                wake.set()

    def free(self) -> dict[str, int]:
        """Return how many more of each limited name may be claimed."""
        return {name: most - self.held.get(name, 0) for name, most in self.most.items()}


@attrs.define(eq=False)
class QueueState:
    """What fetcher, executors and control of one queue share.

    ``inbox`` holds claimed jobs that nobody has begun, ``running`` the attempts under way by claim: an attempt that
    lost its lease may still be cleaning up when its job is claimed again. ``more`` says that the database may hold
    due jobs that the last claim had no room for, so that each freed slot is worth a claim. ``claims`` are the
    scopes of claims under way, with how many jobs each asks for. ``doubts`` counts reasons to think that the database
    holds jobs for this worker of which it does not know. ``unwanted`` are claims that operators have cancelled and
    nobody has begun; their jobs may still be on their way. ``looks`` counts answered claims, ``turns`` also the
    times that there was no room for one.
    """

    name: str
    settings: Queue
    limits: NameLimits
    inbox: deque[Claimed] = attrs.Factory(deque)
    running: dict[JobRef, Running] = attrs.Factory(dict)
    wake: Flag = attrs.Factory(Flag)
    grow: Flag = attrs.Factory(Flag)
    idle: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)
    empty: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)
    executors: int = 0
    concurrency: int = attrs.field(init=False)
    paused: bool = False
    closed: bool = False
    more: bool = False
    low: int = 0
    taken: int = 0
    finished: int = 0
    claims: dict[trio.CancelScope, int] = attrs.Factory(dict)
    doubts: int = 0
    unwanted: set[JobRef] = attrs.Factory(set[JobRef])
    alone: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)
    looks: int = 0
    turns: int = 0
    claimed: int = 0

    def __attrs_post_init__(self) -> None:
        self.concurrency = self.settings.concurrency

    @property
    def held(self) -> int:
        """Return how many jobs of this queue the worker holds."""
        return len(self.inbox) + len(self.running)

    def offer(self, jobs: Iterable[Claimed]) -> None:
        """Hand claimed jobs to the executors."""
        self.inbox.extend(jobs)
        waiting = len(self.inbox)
        idle = len(self.idle)
        if idle:
            self.idle.unpark(count=min(idle, waiting))
        if waiting > idle and self.executors < self.concurrency:
            self.grow.set()

    def take(self) -> Claimed:
        """Take the next job to begin; wake the fetcher when the inbox runs low."""
        self.taken += 1
        job = self.inbox.popleft()
        if len(self.inbox) == self.low and self.more:
            self.wake.set()
        return job

    def release(self, job: Claimed) -> None:
        """Count out a job that is no longer held, and wake the fetcher if that is worth a claim."""
        limited = self.limits.give(job.name)
        if self.more and (limited or len(self.inbox) <= self.low):
            self.wake.set()
        self._tell()

    @contextmanager
    def claiming(self, wanted: Demand) -> Generator[trio.CancelScope]:
        """Count a claim in until its jobs were handed over, or it failed; the scope is for a stop that hurries."""
        self.limits.reserve(wanted.capped)
        with trio.CancelScope() as scope:
            self.claims[scope] = wanted.limit
            try:
                yield scope
            finally:
                del self.claims[scope]
                self.limits.reserve(wanted.capped, -1)
                if not self.claims:
                    self.unwanted.clear()
                self._tell()
                self.alone.unpark_all()

    def lacks(self, names: set[str]) -> None:
        """Note of which limited names the queue may hold jobs that are left out of a claim."""
        if names:
            self.limits.lacking[self.name] = self.wake, names
        else:
            self.limits.lacking.pop(self.name, None)

    def let_go(self, _job: Claimed) -> None:
        """Have the next claim give back a job whose end cannot be told to the database."""
        self.doubts += 1
        self.wake.set()

    async def wait_alone(self) -> None:
        """Wait, in a claim, until there is no other under way."""
        while len(self.claims) > 1:
            await self.alone.park()

    def looked(self, count: int) -> None:
        """Note that the fetcher has looked and claimed so many jobs."""
        self.looks += 1
        self.turns += 1
        self.claimed += count
        self._tell()

    def _tell(self) -> None:
        if not self.running and not self.inbox and not self.claims:
            self.empty.unpark_all()

    def ended(self, running: Running) -> None:
        """Note the end of an attempt."""
        self.finished += 1
        del self.running[running.ref]
        self.release(running.job)

    def withdraw(self, *, keep: int = 0) -> list[Claimed]:
        """Take back the jobs that nobody has begun, but for the first `keep`."""
        jobs = [self.inbox.pop() for _ in range(len(self.inbox) - keep)]
        for job in jobs:
            self.release(job)
        return jobs

    def withdraw_unwanted(self) -> list[Claimed]:
        """Take back the jobs that operators have cancelled before anybody began them."""
        jobs = [job for job in self.inbox if JobRef(job.id, job.lease) in self.unwanted]
        for job in jobs:
            self.inbox.remove(job)
            self.release(job)
        return jobs

    def known(self) -> list[JobRef]:
        """Name every claim that the worker knows of in this queue."""
        return [*(JobRef(job.id, job.lease) for job in self.inbox), *self.running]

    async def wait_empty(self) -> None:
        """Wait until the worker holds no job of this queue and no claim is under way."""
        while self.running or self.inbox or self.claims:
            await self.empty.park()

    async def look(self) -> None:
        """Have the fetcher look once, from now on: a claim under way may not see what was written meanwhile."""
        while self.claims:
            await self.empty.park()
        looks = self.looks
        while self.looks == looks:
            self.wake.set()  # again after each time that there was no room to look
            await self.empty.park()
