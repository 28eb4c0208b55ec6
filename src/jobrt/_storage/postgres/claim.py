"""The claim statement, and where it starts to read: the low watermark of ``design/decisions/001``.

Dead index entries are removed only when no snapshot is older than they are. While a report or a dump holds one,
a claim that starts at the beginning of its priority scans every job that was claimed since. So each client
remembers, for each queue and set of names, the key up to which all jobs of a priority are claimed. It starts
there. Jobs below that key (committed late, or released) are found by a *full* claim, which starts at the beginning:

* While full claims are quick, all claims are full: nothing would be saved.
* A claim that returns too few jobs is repeated in full immediately, unless full claims have become very slow.
* Jobs that this client releases, and wake-ups, request a full claim.
* There is a full claim every second, or after twenty times the duration of the last one if that is longer.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import attrs

from jobrt._core.job import Claimed
from jobrt._core.limits import Demand
from jobrt._core.sweeps import Sweep
from jobrt._storage.postgres.encode import numbers, texts
from jobrt._storage.postgres.names import Schema, Statement
from jobrt._storage.postgres.rows import Row, claimed_jobs, moment

_BEFORE_ALL: Final[tuple[str, int]] = ("-infinity", 0)
_OUTSIDE: Final = 1 << 40
"""More than any priority."""

_OVERLAP: Final = timedelta(seconds=0.1)
"""Least distance of a starting point from now: jobs that are being committed now may be that old."""

_FULL_EVERY: Final = 1.0
"""Seconds between full claims that were not requested; more if they are slow, see `_FULL_SHARE`."""

_FORGET_EVERY: Final = 60.0
"""Seconds after which the known priorities are discarded and searched again. A priority without jobs costs each claim
an index probe: microseconds. A discarded one costs the next claim, on an idle worker, a second statement: a
millisecond."""

_FULL_SHARE: Final = 20
"""Full claims may take at most this fraction of the time: one part in twenty."""

_SLOW: Final = 0.005
"""Seconds above which full claims are worth avoiding: five times the duration of a claim on a clean index."""

_PER_JOB: Final = 0.00003
"""Seconds for each job claimed or ended, until a client has measured a lower value."""

_LARGE: Final = 100
"""Jobs that a claim needs to measure the time per job: its fixed cost is half a millisecond."""

_TOO_SLOW: Final = 0.05
"""Seconds above which a claim that returned too few jobs is not repeated in full immediately."""

_LEVELS_KEPT: Final = 64
"""Priorities remembered for one set of names."""

_WATERMARKS_KEPT: Final = 256

_SEPARATOR: Final = "\x1f"
"""Sign between a capped name and its aliases; a name has printable signs only."""

Key = tuple[str, int]


@attrs.define(eq=False)
class Watermark:
    """Starting points in a queue for one set of names: per scan, by priority, the key up to which all is claimed.

    Known priorities save each claim the search for them. The keys are used only while full claims are slow.
    """

    levels: list[dict[int, Key]]
    full_at: float = -1e9
    cost: float = 0.0
    full_requested: bool = False
    known_since: float = -1e9
    probed: bool = False
    """Whether a bounded look has shown how many jobs of other names are before those of these."""
    too_slow: bool = False
    """Whether the last full claim took so long that the next ones are made in parts."""
    sweep: Sweep | None = None
    """Where bounded looks go on, if a full claim would look at too many jobs of other names (``parts.py``)."""
    _from_beginning: dict[str, str | None] | None = attrs.field(init=False, default=None)

    def needs_full(self, now: float) -> bool:
        """Return whether the next claim starts from the beginning."""
        age = now - self.full_at
        if self.cost <= _SLOW:
            return True
        return age >= self.cost * _FULL_SHARE and (self.full_requested or age >= _FULL_EVERY)

    def take_request(self) -> bool:
        """Return whether a full claim was requested. One begins now: later requests are for the next."""
        requested, self.full_requested = self.full_requested, False
        return requested

    def requested_in(self, now: float) -> float | None:
        """Return the seconds until a full claim that was requested may be made, or None."""
        return max(0.0, self.full_at + self.cost * _FULL_SHARE - now) if self.full_requested else None

    def repeat(self, reply: Reply, *, full: bool) -> bool:
        """Return whether to repeat a claim that returned too few jobs, in full and for all priorities."""
        if full:
            return bool(reply.found)
        return self.cost <= _TOO_SLOW

    def start(self, *, full: bool, all_priorities: bool = False) -> dict[str, str | None]:
        """Return the parameters for the starting points; with `all_priorities`, as if no priority were known."""
        if all_priorities:
            return _parameters([{} for _ in self.levels])
        if not full:
            return _parameters(self.levels)
        if self._from_beginning is None:
            self._from_beginning = _parameters([dict.fromkeys(known, _BEFORE_ALL) for known in self.levels])
        return self._from_beginning

    def start_recent(self, now: datetime, priorities: Sequence[int]) -> None:
        """Start all scans just before now, in these priorities."""
        recent = _recent(now)
        self._from_beginning = None
        self.levels = [dict.fromkeys(priorities, recent) for _ in self.levels]

    def forget(self, now: float) -> None:
        """Discard the known priorities from time to time: one without jobs costs every claim an index probe."""
        if now - self.known_since >= _FORGET_EVERY:
            self.known_since, self._from_beginning = now, None
            for levels in self.levels:
                levels.clear()

    def learn(self, demand: Demand, reply: Reply, *, full: bool, all_priorities: bool, now: float) -> None:
        """Update the starting points from a reply; `all_priorities`: whether the claim searched all of them."""
        if full:
            self.full_at, self.cost = now, reply.cost
        if reply.found:
            self._from_beginning = None
        if full and reply.cost <= _SLOW:  # the next claim is full too, and needs only the priorities
            for scan, priority in reply.found:
                self.levels[scan - 1][priority] = _BEFORE_ALL
            self._bound()
            return
        recent = _recent(reply.now)
        for scan, (limit, jobs) in enumerate(_by_scan(demand, reply.jobs), start=1):
            known = self.levels[scan - 1]
            found = [priority for number, priority in reply.found if number == scan]
            for priority in {*known, *found} if full else found:
                known[priority] = _BEFORE_ALL
            lowest = max(found) if found and not all_priorities else -_OUTSIDE
            exhausted = len(jobs) < limit and len(reply.jobs) < demand.limit and not reply.cut
            if not exhausted:
                lowest = max(lowest, jobs[-1].priority) if jobs else _OUTSIDE
            known.update(dict.fromkeys([priority for priority in known if priority >= lowest], recent))
            if jobs and lowest == jobs[-1].priority and not exhausted:
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


def _recent(now: datetime) -> Key:
    return (now - _OVERLAP).isoformat(), 0


def _earlier(key: Key, other: Key) -> Key:
    return min(key, other, key=_order)


def _order(key: Key) -> tuple[datetime, int]:
    return datetime.fromisoformat(key[0]), key[1]


def _by_scan(demand: Demand, jobs: Sequence[Claimed]) -> list[tuple[int, list[Claimed]]]:
    """Return each scan's limit and the jobs that it returned, in order."""
    if not demand.capped:
        return [(demand.limit, list(jobs))]
    capped = dict(demand.capped)
    free = [job for job in jobs if demand.aliases.get(job.name, job.name) not in capped]
    members = {name: demand.members(name) for name, _ in demand.capped}
    return [
        *([(demand.limit, free)] if demand.names else []),
        *((cap, [job for job in jobs if job.name in members[name]]) for name, cap in demand.capped),
    ]


@attrs.define(eq=False)
class Watermarks:
    """Watermarks of one client."""

    clock: Callable[[], float] = time.monotonic
    _per_job: float = _PER_JOB
    _watermarks: OrderedDict[Any, Watermark] = attrs.field(factory=OrderedDict)

    def of(self, demand: Demand) -> Watermark:
        """Return the watermark for a demand, a new one if there is none."""
        key = (demand.queue, demand.names, tuple(name for name, _ in demand.capped))
        watermark = self._watermarks.get(key)
        if watermark is None:
            scans = bool(demand.names) + len(demand.capped)
            watermark = self._watermarks[key] = Watermark([{} for _ in range(scans)])
            if len(self._watermarks) > _WATERMARKS_KEPT:
                self._watermarks.popitem(last=False)
        return watermark

    def overhead(self, seconds: float, *, jobs: int) -> float:
        """Return the seconds that a claim took beyond the work on its `jobs` (claimed and ended).

        That work is estimated by the least time per job measured so far. With a constant for all machines, a fast
        machine could scan dead entries for tens of milliseconds unnoticed.
        """
        if jobs >= _LARGE:
            self._per_job = min(self._per_job, seconds / jobs)
        return seconds - self._per_job * jobs

    def look_again(self) -> None:
        """Begin all bounded looks anew: jobs went back with their due times."""
        for watermark in self._watermarks.values():
            if watermark.sweep is not None:
                watermark.sweep = watermark.sweep.again()

    def request_full(self, queue: str | None = None) -> None:
        """Make the next claim from a queue, or from any, a full one: jobs may lie below the watermarks."""
        for key, watermark in self._watermarks.items():
            if queue is None or key[0] == queue:
                watermark.full_requested = True


@attrs.frozen
class Reply:
    """Result of an exchange statement: its first row and the rows of jobs.

    ``landed`` are the (id, lease) pairs whose outcomes were written, or None if all were.
    """

    landed: frozenset[tuple[int, int]] | None
    jobs: tuple[Claimed, ...]
    now: datetime
    cost: float
    """Seconds that the statement took beyond the work on its jobs."""
    found: tuple[tuple[int, int], ...]
    """(scan, priority) of priorities that were not known before."""
    woken: tuple[str, ...]
    next_due: float | None
    cut: bool = False
    """Whether the size of the jobs ended the claim."""


def read_reply(rows: Sequence[Row], demand: Demand, *, ended: int, watermarks: Watermarks) -> Reply:
    """Return the reply in these rows; the statement also wrote `ended` outcomes, which took part of the time."""
    landed, _, _, _, picked, _, written, at, _, cost, _, found, next_due, woken, *_ = rows[0]
    now = moment(at)
    jobs = claimed_jobs(rows[1:], queue=demand.queue, starting=demand.starting, now=now)
    return Reply(
        landed=None if landed == ended else frozenset(map(tuple, json.loads(written or "[]"))),
        jobs=jobs,
        now=now,
        cost=watermarks.overhead(cost, jobs=len(jobs) + ended),
        found=tuple(
            (int(scan), int(priority)) for scan, _, priority in (text.partition(":") for text in found or ())
        ),
        woken=() if woken is None else tuple(json.loads(woken)),
        next_due=None if next_due is None else float(next_due),
        cut=picked > len(jobs),
    )


def claim_values(demand: Demand, since: int | None) -> dict[str, str | None]:
    """Return the parameters for a demand; `since` is that of `Beats`."""
    capped = [(_SEPARATOR.join(demand.members(name)), limit) for name, limit in demand.capped]
    scans = [*([(None, demand.limit)] if demand.names else []), *capped]
    return {
        "worker": demand.worker,
        "since": None if since is None else str(since),
        "queue": demand.queue,
        "limit": str(demand.limit),
        "starting": str(demand.starting),
        "names": texts(demand.names),
        "fits": demand.fits,
        "scan_name": texts([name for name, _ in scans]),
        "scan_limit": numbers([min(limit, demand.limit) for _, limit in scans]),
    }


@lru_cache(maxsize=256)
def exchange_statement(schema: Schema, *, ended: str, capped: bool, all_priorities: bool) -> Statement:
    """Return the statement with the parts that this call needs, and no others.

    Args:
        schema: the schema whose names to insert.
        ended: the part that writes the outcomes.
        capped: whether the demand has names with a cap.
        all_priorities: whether to search all priorities, or only the first unknown one.

    """
    picked = "attempts/exchange_picked_several" if capped else "attempts/exchange_picked_one"
    found = "attempts/exchange_found_all" if all_priorities else "attempts/exchange_found_first"
    return _exchange(schema, ended=ended, found=found, picked=picked, recursive=all_priorities)


def take_statement(schema: Schema) -> Statement:
    """Return the statement that claims jobs that were found before, and writes no outcomes."""
    found, picked = "attempts/exchange_found_none", "attempts/exchange_picked_ids"
    return _exchange(schema, ended="attempts/finish_none", found=found, picked=picked, recursive=False)


def _exchange(schema: Schema, *, ended: str, found: str, picked: str, recursive: bool) -> Statement:
    mixed = ended == "attempts/finish_mixed"
    return schema.statement(
        "attempts/exchange",
        recursive="recursive" if recursive else "",
        ended=ended,
        found=found,
        picked=picked,
        next_due="attempts/exchange_next_due_with_ended" if mixed else "shared/next_due_of_queue",
        woken="attempts/exchange_woken" if mixed else "null",
        written_if_not_all="null::text"
        if ended == "attempts/finish_none"
        else "attempts/exchange_written_if_not_all",
    )
