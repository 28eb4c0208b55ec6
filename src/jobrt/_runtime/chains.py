"""Jobs that were claimed ahead for slots of a limit over the cluster, until one of these slots is free.

No clock, no Trio, no I/O: times are arguments.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import attrs

from jobrt._core.job import Claimed, JobRef
from jobrt._core.queues import Queue

WAIT_LIMIT = 0.05
"""Seconds that the jobs of a lane may wait. Then they go back, but for some times as many as have started meanwhile."""
_TURNING = 4
"""Multiple of the jobs that have started meanwhile: so many may wait for longer."""
_LOW = 3
"""Part of its jobs with which a lane should be filled up."""


@attrs.frozen
class Link:
    """A claimed job, with the worker and the time of its claim: by the storage's clock, and by Trio's."""

    job: Claimed
    worker: str
    at: int
    received: float


@attrs.define(eq=False)
class _Lane:
    """Jobs that wait for a slot of one key, in order. ``judged``: when they were last looked at, ``started`` since."""

    waiting: list[Link] = attrs.Factory(list[Link])
    filled: int = 0
    judged: float = 0.0
    started: int = 0


@attrs.define(eq=False)
class Chains:
    """The slots of a queue's limits that this worker has, by key, and the jobs that wait for them.

    The jobs of a queue without keys have the key ``""``. A worker claims more jobs than a limit allows only if no other
    worker runs any under that limit. So what runs in all workers is within the limit, as long as this class keeps it.
    """

    _per_key: float
    _limit: float
    _keys: dict[tuple[int, int], str] = attrs.Factory(dict[tuple[int, int], str])
    """The keys of the open jobs."""
    _busy: Counter[str] = attrs.Factory(Counter[str])
    """The jobs of each key that have a slot."""
    _lanes: dict[str, _Lane] = attrs.Factory(dict[str, _Lane])
    _all_busy: int = 0
    exhausted: bool = False
    """Whether the last claim has found fewer jobs than it might have: until a lane is empty no claim is needed."""
    low: bool = True
    """Whether one of the lanes should be filled up in which a job has just ended."""

    @classmethod
    def of(cls, settings: Queue) -> "Chains":
        """Return those of a queue."""
        limit = math.inf if settings.cluster_limit is None else settings.cluster_limit
        return cls(math.inf if settings.per_key is None else settings.per_key, limit)

    @property
    def waiting(self) -> int:
        """The number of jobs that wait."""
        return sum(len(lane.waiting) for lane in self._lanes.values())

    @property
    def jobs(self) -> list[Claimed]:
        """The jobs that wait."""
        return [link.job for lane in self._lanes.values() for link in lane.waiting]

    def add(self, links: Iterable[Link], *, keys: Mapping[int, str], now: float) -> list[Link]:
        """Accept the jobs of a claim, and return those that have a slot."""
        free: list[Link] = []
        filled: list[_Lane] = []
        for link in links:
            key = keys.get(link.job.id, "")
            self._keys[link.job.id, link.job.lease] = key
            if self._has_slot(key) and key not in self._lanes:
                self._take_slot(key)
                free.append(link)
            else:
                filled.append(self._wait(link, key, now=now))
        for lane in {id(lane): lane for lane in filled}.values():
            lane.waiting.sort(key=lambda link: -link.job.priority)
            lane.filled = len(lane.waiting)
        return free

    def end(self, refs: Iterable[JobRef | Claimed]) -> list[Link]:
        """Free the slots of jobs that are no longer held, and return the jobs that have one now."""
        free: list[Link] = []
        self.low = True
        ended = [key for ref in refs if (key := self._keys.pop((ref.id, ref.lease), None)) is not None]
        for key in ended:
            self._busy[key] -= 1
            self._all_busy -= 1
            if not self._busy[key]:
                del self._busy[key]
        for key in dict.fromkeys(ended):
            free += self._advance(key)
        if self._all_busy < self._limit:
            for key in list(self._lanes):
                free += self._advance(key)
        if ended:
            self.low = not all(self._is_full(key) for key in ended)
        return free

    def withdraw(self, refs: Iterable[JobRef | Claimed]) -> list[Claimed]:
        """Take those of these jobs out that wait for a slot, and return them: they have ended without one."""
        ended = {(ref.id, ref.lease) for ref in refs}
        found: list[Claimed] = []
        for key, lane in list(self._lanes.items()):
            found += [link.job for link in lane.waiting if (link.job.id, link.job.lease) in ended]
            lane.waiting = [link for link in lane.waiting if (link.job.id, link.job.lease) not in ended]
            if not lane.waiting:
                del self._lanes[key]
        for job in found:
            del self._keys[job.id, job.lease]
        return found

    def late(self, now: float, *, standstill: bool) -> tuple[list[Claimed], bool]:
        """Return the jobs that have waited for too long, and whether a lane stood still; they no longer wait here.

        After a `standstill` of the event loop none has: waiting then says nothing about the slots.
        """
        late: list[Claimed] = []
        stuck = False
        for key, lane in list(self._lanes.items()):
            if lane.judged + WAIT_LIMIT > now:
                continue
            if not standstill and len(lane.waiting) > _TURNING * lane.started:
                stuck = stuck or not lane.started
                late += self._drop(key, keep=_TURNING * lane.started)
            lane.judged, lane.started = now, 0
        return late, stuck

    def due(self) -> float:
        """Return when jobs will have waited for long."""
        return min((lane.judged for lane in self._lanes.values()), default=math.inf) + WAIT_LIMIT

    def drop(self) -> list[Claimed]:
        """Return all jobs that wait; they no longer wait here."""
        return [job for key in list(self._lanes) for job in self._drop(key)]

    def _has_slot(self, key: str) -> bool:
        return self._busy[key] < self._per_key and self._all_busy < self._limit

    def _take_slot(self, key: str) -> None:
        self._busy[key] += 1
        self._all_busy += 1

    def _wait(self, link: Link, key: str, *, now: float) -> _Lane:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(judged=now)
        lane.waiting.append(link)
        return lane

    def _advance(self, key: str) -> Iterator[Link]:
        lane = self._lanes.get(key)
        if lane is None:
            return
        number = 0
        while number < len(lane.waiting) and self._has_slot(key):
            self._take_slot(key)
            number += 1
        links, lane.waiting = lane.waiting[:number], lane.waiting[number:]
        lane.started += number
        if not lane.waiting:
            del self._lanes[key]
        yield from links

    def _is_full(self, key: str) -> bool:
        lane = self._lanes.get(key)
        return lane is not None and (self.exhausted or len(lane.waiting) * _LOW > lane.filled)

    def _drop(self, key: str, *, keep: int = 0) -> Iterator[Claimed]:
        lane = self._lanes[key]
        dropped, lane.waiting = lane.waiting[keep:], lane.waiting[:keep]
        if not lane.waiting:
            del self._lanes[key]
        for link in dropped:
            del self._keys[link.job.id, link.job.lease]
            yield link.job
