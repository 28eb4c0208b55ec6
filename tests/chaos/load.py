"""Load of a chaos run: the jobs that are enqueued and cancelled between the faults."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import attrs
import trio

import jobrt
from jobrt import where
from tests.chaos.jobs import (
    LEASE,
    Clustered,
    Exact,
    Fragile,
    Keyed,
    Named,
    Nest,
    Ordered,
    Parent,
    Single,
    Stubborn,
    Work,
)

__all__ = ["UNFINISHED", "Load"]

BACKLOG = 110
"""Number of unfinished jobs above which no more are enqueued, because killed workers can be slower."""
UNFINISHED = where.state(
    "scheduled", "available", "retryable", "claimed", "executing", "suspended", "closing"
)


@attrs.define(eq=False)
class Load:
    """Source of random jobs. ``inside`` has the seconds that a transaction of a job may last."""

    chance: random.Random
    inside: tuple[float, ...]
    families: bool = False
    """Whether there are jobs with nurseries."""
    accepted: list[int] = attrs.Factory(list)
    cancelled: set[int] = attrs.Factory(set)
    calm: trio.Lock = attrs.Factory(trio.Lock)
    """Held while jobs are enqueued, and while the database is saved or restored."""
    sent: dict[int, set[int]] = attrs.Factory(dict)
    """The messages that were sent to each job, perhaps with a lost reply."""
    _candidates: list[int] = attrs.Factory(list)
    _nests: list[int] = attrs.Factory(list)

    async def give(self, client: jobrt.Client) -> None:
        """Enqueue jobs, unless many are unfinished, and cancel one."""
        async with self.calm:
            await self._give(client)

    async def _give(self, client: jobrt.Client) -> None:
        with suppress(jobrt.StorageUnavailable):
            if await client.count(UNFINISHED) <= BACKLOG:
                await self._enqueue(client)
        with suppress(jobrt.StorageUnavailable):
            if self.chance.random() < 0.7:
                await self._cancel(client)
        if self.families:
            with suppress(jobrt.StorageUnavailable):
                await self._enqueue_family(client)
            with suppress(jobrt.StorageUnavailable):
                await self._send(client)
            with suppress(jobrt.StorageUnavailable):
                if self.chance.random() < 0.3:
                    await self._cancel_family(client)

    async def _enqueue_family(self, client: jobrt.Client) -> None:
        chance = self.chance
        if await client.count(UNFINISHED & where.queue("family")) > BACKLOG // 4:
            return
        nests = [
            Nest(
                leaves=chance.randrange(5),
                bad=chance.random() < 0.2,
                late=chance.random() < 0.3,
                depth=chance.choice([0, 0, 1, 2]),
            )
            for _ in range(chance.randint(1, 3))
        ]
        handles = await client.enqueue_many(nests)
        self.accepted += [handle.id for handle in handles]
        self._nests = [handle.id for handle in handles] + self._nests[:20]
        self._candidates.insert(0, handles[0].id)

    async def _send(self, client: jobrt.Client) -> None:
        """Send some messages; one whose reply is lost may have arrived, and is sent again with its key."""
        for job_id in self._nests[:6]:
            for value in (1, 2):
                if self.chance.random() < 0.5:
                    self.sent.setdefault(job_id, set()).add(value)
                    with suppress(jobrt.JobNotFound, jobrt.JobStateError):
                        await client.send(job_id, "news", value, key=str(value))

    async def _cancel_family(self, client: jobrt.Client) -> None:
        """Cancel a parent that waits for children: it must not be over before they are."""
        waiting = await client.query(where.name("Nest") & where.state("suspended"), limit=20)
        parents = [
            job.id
            for job in waiting
            if not job.args.get("root")
            and job.id not in self.cancelled
            and job.waiting is not None
            and job.waiting.kind == "children"
        ]
        if parents:
            self.cancelled.add(parents[0])  # also if the reply is lost
            await client.cancel(where.id_in(parents[:1]), "no longer needed")

    async def _cancel(self, client: jobrt.Client) -> None:
        """Cancel the long job that has started last, or any other."""
        running = await client.query(where.name("Work") & where.state("executing"), limit=None)
        long = [job for job in running if job.args["seconds"] > LEASE and job.id not in self.cancelled]
        if long and self.chance.random() < 0.5:
            job_id = max(long, key=lambda job: (job.started_at or job.created_at, job.id)).id
        elif self._candidates:
            job_id = self._candidates.pop(self.chance.randrange(len(self._candidates)))
        else:
            return
        self.cancelled.add(job_id)  # also if the reply is lost
        await client.cancel(where.id_in([job_id]), "no longer needed")

    async def _enqueue(self, client: jobrt.Client) -> None:
        """Enqueue jobs; if the reply is lost they may be in the database, and are checked like others."""
        jobs = [self._job() for _ in range(self.chance.randint(1, 25))]
        if self.chance.random() < 0.4:
            jobs += [self._ordered() for _ in range(self.chance.randint(15, 40))]
        if self.chance.random() < 0.5:  # more than a limit allows
            limited, number = self.chance.choice([(Named, 15), (Clustered, 6), (Keyed, 6)])
            jobs = [*(limited(self.chance.choice([0.3, 0.7])) for _ in range(number)), *jobs]
        if self.chance.random() < 0.2:
            jobs = [job.with_options(schedule_in=1.0) for job in jobs]
        handles = await client.enqueue_many(jobs)
        self.accepted += [handle.id for handle in handles]
        long = [handle.id for handle, job in zip(handles, jobs, strict=True) if _seconds(job) > LEASE]
        self._candidates = (long * 2 + [handles[0].id] + self._candidates)[:30]
        for _ in range(2):
            await client.enqueue(Single(self.chance.choice([0.0, 0.5]), who=self.chance.choice("ab")))

    def _job(self) -> Any:
        chance = self.chance
        seconds = chance.choice([0.0, 0.0, 0.0, 0.05, 0.3])
        match chance.randrange(14):
            case 0:
                return Work(chance.uniform(2.0, 3.0) * LEASE)
            case 1:
                return Fragile(chance.choice([0.0, 1.0, 2.0]), failures=chance.randrange(5))
            case 2:
                return Named(chance.choice([0.05, 0.3, 0.7]))
            case 3:
                return Clustered(chance.choice([0.05, 0.3, 0.7]))
            case 4:
                return Keyed(chance.choice([0.05, 0.3, 0.7]), who=chance.choice("ab"))
            case 5:
                return Single(chance.choice([0.0, 0.5]), who=chance.choice("abc"))
            case 6:
                return Exact(seconds, failures=chance.choice([0, 0, 0, 1]), inside=chance.choice(self.inside))
            case 7:
                return Parent()
            case 8:
                return Work(LEASE)
            case 9 | 10:
                return Stubborn()
            case _:
                return Work(seconds, failures=chance.choice([0, 0, 0, 1]))

    def _ordered(self) -> Any:
        return Ordered(0.25).with_options(priority=self.chance.randrange(4))


def _seconds(job: Any) -> float:
    value = getattr(job, "job", job)
    return float(getattr(value, "seconds", 0.0))
