"""Claims: where one starts to read (the low watermark of ``design/decisions/001``), and its statement.

Dead entries of an index are removed only when no snapshot is older. While a report or a dump holds one,
a claim that starts at the beginning of its priority walks over every job that was claimed since. So each client
remembers, for each queue and set of names it asks for, up to which key of which priority all is claimed, and
starts there. What can lie below (a row that was committed late or handed back) is found by a *full* claim:

* while full claims are quick, all are full: there is nothing to save;
* one that comes back short is repeated in full at once, unless full claims have become really slow;
* hand-backs of our own, and wake-ups, ask for a full claim;
* and there is one every second, or every twenty times what the last one took if that is more.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import attrs

from jobrt._core.job import Claimed
from jobrt._core.limits import Demand
from jobrt._storage.postgres.encode import numbers, texts
from jobrt._storage.postgres.names import Schema, Statement
from jobrt._storage.postgres.rows import Row, claimed_jobs

_BEFORE_ALL: Final[tuple[str, int]] = ("-infinity", 0)
_OUTSIDE: Final = 1 << 40
"""More than any priority."""

_OVERLAP: Final = timedelta(seconds=0.1)
"""How far behind the present a claim starts at least: what is being committed now may be that old."""

_FULL_EVERY: Final = 1.0
"""Seconds between full claims, at least while they are quick."""

_FORGET_EVERY: Final = 60.0
"""Seconds after which priorities are looked for anew. One whose jobs are gone costs each claim a look into the index,
microseconds; one that was forgotten costs the next claim, on an idle worker, a second statement: a millisecond."""

_FULL_SHARE: Final = 20
"""A full claim may take one part in so many of the time."""

_SLOW: Final = 0.005
"""Seconds above which a full claim is worth saving: five times what it takes to claim from a clean index."""

_PER_JOB: Final = 0.00003
"""Seconds that each job claimed or ended takes by itself, until a client has seen its database do better."""

_LARGE: Final = 100
"""Jobs from which on a claim shows what each takes; there is half a millisecond of other things in it."""

_TOO_SLOW: Final = 0.05
"""Seconds above which not even a claim that came back short is repeated in full at once."""

_LEVELS_KEPT: Final = 64
"""Priorities to remember for one set of names."""

_MARKS_KEPT: Final = 256

Key = tuple[str, int]


@attrs.define(eq=False)
class Mark:
    """What is known of a queue for one set of names: per scan, by priority, the key up to which all is claimed.

    The priorities spare each claim the search for them; the keys are used only while full claims are slow.
    """

    levels: list[dict[int, Key]]
    full_at: float = -1e9
    cost: float = 0.0
    asked: bool = False
    known_since: float = -1e9
    _from_beginning: dict[str, str | None] | None = attrs.field(init=False, default=None)

    def wants_full(self, now: float) -> bool:
        """Return whether the next claim starts from the beginning."""
        age = now - self.full_at
        if self.cost <= _SLOW:
            return True
        return age >= self.cost * _FULL_SHARE and (self.asked or age >= _FULL_EVERY)

    def repeat(self, reply: Reply, *, full: bool) -> bool:
        """Return whether to repeat a claim that returned too few jobs, in full and for all priorities."""
        if full:
            return bool(reply.found)
        return self.cost <= _TOO_SLOW

    def start(self, *, full: bool, every: bool = False) -> dict[str, str | None]:
        """Return the parameters that say from where to read; with `every`, as if no priority were known."""
        if every:
            return _parameters([{} for _ in self.levels])
        if not full:
            return _parameters(self.levels)
        if self._from_beginning is None:
            self._from_beginning = _parameters([dict.fromkeys(known, _BEFORE_ALL) for known in self.levels])
        return self._from_beginning

    def forget(self, now: float) -> None:
        """Forget priorities now and then, as one whose jobs are gone costs every claim a look."""
        if now - self.known_since >= _FORGET_EVERY:
            self.known_since, self._from_beginning = now, None
            for levels in self.levels:
                levels.clear()

    def learn(self, demand: Demand, reply: Reply, *, full: bool, every: bool, now: float) -> None:
        """Remember what a claim has shown; `every` if it looked at all priorities."""
        if full:
            self.full_at, self.asked, self.cost = now, False, reply.cost
        if reply.found:
            self._from_beginning = None
        if (
            full and reply.cost <= _SLOW
        ):  # then so is the next: that there are these priorities is all to know
            for scan, priority in reply.found:
                self.levels[scan - 1][priority] = _BEFORE_ALL
            self._bound()
            return
        recent = ((reply.now - _OVERLAP).isoformat(), 0)
        for scan, (limit, jobs) in enumerate(_by_scan(demand, reply.jobs), start=1):
            known = self.levels[scan - 1]
            found = [priority for number, priority in reply.found if number == scan]
            for priority in {*known, *found} if full else found:
                known[priority] = _BEFORE_ALL
            lowest = max(found) if found and not every else -_OUTSIDE
            if not (len(jobs) < limit and len(reply.jobs) < demand.limit):
                lowest = max(lowest, jobs[-1].priority) if jobs else _OUTSIDE
            known.update(dict.fromkeys([priority for priority in known if priority >= lowest], recent))
            if (
                jobs
                and lowest == jobs[-1].priority
                and (len(jobs) == limit or len(reply.jobs) == demand.limit)
            ):
                known[lowest] = _earlier((jobs[-1].schedule_at.isoformat(), jobs[-1].id), recent)
        self._bound()

    def _bound(self) -> None:
        for known in self.levels:
            if len(known) > _LEVELS_KEPT:
                known.clear()
                self._from_beginning = None


def _parameters(levels: Sequence[Mapping[int, Key]]) -> dict[str, str | None]:
    seen: list[tuple[int, int, str, int]] = []
    gaps: list[tuple[int, int, int]] = []
    for scan, level in enumerate(levels, start=1):
        known = sorted(level.items(), reverse=True)
        seen += [(scan, priority, *key) for priority, key in known]
        edges = [_OUTSIDE, *(priority for priority, _ in known), -_OUTSIDE]
        gaps += [(scan, high, low) for high, low in pairwise(edges)]
    return {
        "seen_scan": numbers([row[0] for row in seen]),
        "seen_priority": numbers([row[1] for row in seen]),
        "seen_at": texts([row[2] for row in seen]),
        "seen_id": numbers([row[3] for row in seen]),
        "gap_scan": numbers([row[0] for row in gaps]),
        "gap_high": numbers([row[1] for row in gaps]),
        "gap_low": numbers([row[2] for row in gaps]),
    }


def _earlier(key: Key, other: Key) -> Key:
    return min(key, other, key=_order)


def _order(key: Key) -> tuple[datetime, int]:
    return datetime.fromisoformat(key[0]), key[1]


def _by_scan(demand: Demand, jobs: Sequence[Claimed]) -> list[tuple[int, list[Claimed]]]:
    """Return each scan's limit and the jobs that it gave, in order."""
    if not demand.capped:
        return [(demand.limit, list(jobs))]
    capped = dict(demand.capped)
    free = [job for job in jobs if job.name not in capped]
    return [
        *([(demand.limit, free)] if demand.names else []),
        *((cap, [job for job in jobs if job.name == name]) for name, cap in demand.capped),
    ]


@attrs.define(eq=False)
class Marks:
    """The marks of one client."""

    clock: Callable[[], float] = time.monotonic
    _per_job: float = _PER_JOB
    _marks: OrderedDict[Any, Mark] = attrs.field(factory=OrderedDict)

    def of(self, demand: Demand) -> Mark:
        """Return the mark for what is asked, a new one if there is none."""
        key = (demand.queue, demand.names, tuple(name for name, _ in demand.capped))
        mark = self._marks.get(key)
        if mark is None:
            scans = bool(demand.names) + len(demand.capped)
            mark = self._marks[key] = Mark([{} for _ in range(scans)])
            if len(self._marks) > _MARKS_KEPT:
                self._marks.popitem(last=False)
        return mark

    def beyond_the_work(self, seconds: float, *, jobs: int) -> float:
        """Return the seconds that a claim took besides what `jobs` claimed and ended must take: the least seen so far.

        With a number for all machines, a quick one would walk over dead entries for tens of milliseconds unnoticed.
        """
        if jobs >= _LARGE:
            self._per_job = min(self._per_job, seconds / jobs)
        return seconds - self._per_job * jobs

    def doubt(self, queue: str | None = None) -> None:
        """Let the next claim from a queue, or from any, be full: something may lie below the marks."""
        for key, mark in self._marks.items():
            if queue is None or key[0] == queue:
                mark.asked = True


@attrs.frozen
class Reply:
    """What an exchange statement returned: its first row and the rows of jobs.

    ``landed`` are the claims whose outcomes landed, or None if all did.
    """

    landed: frozenset[tuple[int, int]] | None
    jobs: tuple[Claimed, ...]
    now: datetime
    cost: float
    """Seconds that the statement took besides the work on its jobs."""
    found: tuple[tuple[int, int], ...]
    """Priorities that were not known, with the scan."""
    woken: tuple[str, ...]
    next_due: float | None


def read_reply(rows: Sequence[Row], *, queue: str, ended: int, marks: Marks) -> Reply:
    """Return what the rows mean; `ended` outcomes were sent along, which took some of the time."""
    landed, _, _, _, _, _, cost, written, _, found, next_due, now, _, woken, _ = rows[0]
    now = now.replace(tzinfo=UTC)
    jobs = claimed_jobs(rows[1:], queue=queue, started_at=now)
    return Reply(
        landed=None if landed == ended else frozenset(map(tuple, json.loads(written or "[]"))),
        jobs=jobs,
        now=now,
        cost=marks.beyond_the_work(cost, jobs=len(jobs) + ended),
        found=tuple(
            (int(scan), int(priority)) for scan, _, priority in (text.partition(":") for text in found or ())
        ),
        woken=() if woken is None else tuple(json.loads(woken)),
        next_due=None if next_due is None else float(next_due),
    )


def claim_values(demand: Demand) -> dict[str, str | None]:
    """Return the parameters that say what is asked for."""
    scans = [*([(None, demand.limit)] if demand.names else []), *demand.capped]
    return {
        "worker": demand.worker,
        "queue": demand.queue,
        "limit": str(demand.limit),
        "names": texts(demand.names),
        "scan_name": texts([name for name, _ in scans]),
        "scan_limit": numbers([min(limit, demand.limit) for _, limit in scans]),
    }


@lru_cache(maxsize=256)
def exchange_statement(schema: Schema, *, ended: str, capped: bool, every: bool) -> Statement:
    """Return the statement with the parts that this call needs, and no others.

    Args:
        schema: whose names it is to have.
        ended: the part that writes the outcomes.
        capped: whether names with a cap are asked for.
        every: whether to look for all priorities, and not only for the first new one.

    """
    mixed = ended == "attempts/finish_mixed"
    return schema.statement(
        "attempts/exchange",
        recursive="recursive" if every else "",
        ended=ended,
        found="attempts/exchange_found_all" if every else "attempts/exchange_found_first",
        picked="attempts/exchange_picked_several" if capped else "attempts/exchange_picked_one",
        next_due="attempts/exchange_next_due_with_ended" if mixed else "shared/next_due_of_queue",
        woken="attempts/exchange_woken" if mixed else "null",
        written_if_not_all="null::text"
        if ended == "attempts/finish_none"
        else "attempts/exchange_written_if_not_all",
    )
