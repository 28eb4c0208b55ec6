"""Checks of a run: the log of its jobs, the rows in the database, and the injected faults.

`check` is a function of these three alone. Job and lease identify an attempt; its execution is a *body*. There are
four kinds of violations:

lost         an accepted job is not in the database, or completed without a body that reached its end
stuck        a job is not final after the run
doubled      a body belongs to no recorded attempt, or two attempts finished
overlapping  two bodies of a job ran at the same time; frozen and dead processes do not run
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Entry", "Fault", "Report", "Row", "check", "parse"]

TOLERANCE: float = 1.0
"""Seconds that two bodies may overlap: on a busy machine the check of a lease, or a SIGCONT, can be that late."""


@attrs.frozen
class Entry:
    """A line in the log of a job: ``begin``, then ``end``, ``fail`` or ``cancelled``. ``at`` is in seconds."""

    what: str
    job: int
    attempt: int
    lease: int
    pid: int
    at: float


@attrs.frozen
class Fault:
    """A fault injected into a worker process: ``kill``, ``freeze`` or ``thaw``."""

    what: str
    pid: int
    at: float


@attrs.frozen
class Row:
    """The state of a job in the database after the run.

    ``lease`` is the lease of the attempt that completed it. ``ends`` has the ends of the recorded attempts by lease.
    """

    state: str
    lease: int | None
    ends: Mapping[int, str] = attrs.Factory(dict)


@attrs.frozen
class Report:
    """Violations, as sentences, and counts."""

    lost: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    overlapping: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    jobs: int = 0
    bodies: int = 0
    again: int = 0
    """Number of bodies beyond one for each job; their attempts are recorded."""

    @property
    def violations(self) -> tuple[str, ...]:
        """All violations."""
        return self.lost + self.doubled + self.overlapping + self.stuck


def parse(lines: Iterable[str]) -> list[Entry]:
    """Return the entries of a log; an invalid line raises `ValueError`."""
    entries = []
    for line in lines:
        what, job, attempt, lease, pid, at = line.split()
        entries.append(Entry(what, int(job), int(attempt), int(lease), int(pid), int(at) / 1e9))
    return entries


def check(
    accepted: Iterable[int],
    entries: Sequence[Entry],
    *,
    rows: Mapping[int, Row],
    faults: Sequence[Fault] = (),
    tolerance: float = TOLERANCE,
) -> Report:
    """Check a run that has ended."""
    by_job: defaultdict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_job[entry.job].append(entry)
    lost = [f"job {job} was accepted, but is not in the database" for job in accepted if job not in rows]
    lost += [f"job {job} ran, but is not in the database" for job in by_job if job not in rows]
    stuck: list[str] = []
    doubled: list[str] = []
    overlapping: list[str] = []
    times = _Times.of(faults)
    for job, row in rows.items():
        of_job = by_job[job]
        if row.state not in {"completed", "cancelled", "discarded"}:
            stuck.append(f"job {job} is {row.state}")
        else:
            lost += _lost(job, row, of_job)
        doubled += _doubled(job, row, of_job)
        overlapping += _overlapping(job, of_job, times=times, tolerance=tolerance)
    bodies = sum(entry.what == "begin" for entry in entries)
    return Report(
        lost=tuple(lost),
        doubled=tuple(doubled),
        overlapping=tuple(overlapping),
        stuck=tuple(stuck),
        jobs=len(rows),
        bodies=bodies,
        again=bodies - sum(any(entry.what == "begin" for entry in of_job) for of_job in by_job.values()),
    )


def _lost(job: int, row: Row, entries: Sequence[Entry]) -> list[str]:
    if row.state != "completed":
        return [f"job {job} is {row.state}, but these jobs can only be completed"]
    if any(entry.what == "end" and entry.lease == row.lease for entry in entries):
        return []
    return [f"job {job} is completed under lease {row.lease}, but no body under that lease reached its end"]


def _doubled(job: int, row: Row, entries: Sequence[Entry]) -> list[str]:
    begun = [entry.lease for entry in entries if entry.what == "begin"]
    violations = [
        f"job {job} began twice under lease {lease}" for lease in set(begun) if begun.count(lease) > 1
    ]
    for lease in sorted(set(begun)):
        if lease == row.lease and row.state == "completed":
            continue
        end = row.ends.get(lease)
        if end is None:
            violations.append(f"job {job} ran under lease {lease}, which the database does not know")
        elif end == "finished":
            violations.append(f"job {job} is finished under lease {lease} and also under {row.lease}")
    return violations


@attrs.frozen
class _Times:
    """Times when processes died, and when they were frozen."""

    deaths: Mapping[int, float]
    frozen: Mapping[int, list[tuple[float, float]]]

    @classmethod
    def of(cls, faults: Sequence[Fault]) -> _Times:
        deaths: dict[int, float] = {}
        frozen: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
        since: dict[int, float] = {}
        for fault in sorted(faults, key=lambda fault: fault.at):
            match fault.what:
                case "kill":
                    deaths[fault.pid] = fault.at
                case "freeze":
                    since.setdefault(fault.pid, fault.at)
                case _:
                    frozen[fault.pid].append((since.pop(fault.pid), fault.at))
        for pid, at in since.items():
            frozen[pid].append((at, deaths.get(pid, float("inf"))))
        return cls(deaths, frozen)

    def running(self, pid: int, begin: float, end: float | None) -> list[tuple[float, float]]:
        """Return when a body ran: until its end or the death of its process, except while frozen."""
        last = self.deaths.get(pid, float("inf")) if end is None else end
        spans, start = [], begin
        for freeze, thaw in self.frozen.get(pid, ()):
            if start < freeze < last:
                spans.append((start, freeze))
            if freeze < last:
                start = max(start, thaw)
        if start < last:
            spans.append((start, last))
        return spans


def _overlapping(job: int, entries: Sequence[Entry], *, times: _Times, tolerance: float) -> list[str]:
    over = {entry.lease: entry.at for entry in entries if entry.what != "begin"}
    spans = [
        (start, end, entry)
        for entry in entries
        if entry.what == "begin"
        for start, end in times.running(entry.pid, entry.at, over.get(entry.lease))
    ]
    return [
        f"job {job} ran under lease {entry.lease} (process {entry.pid}) and under lease {other.lease} (process"
        f" {other.pid}) for {min(end, last) - max(start, first):.2f} s at the same time"
        for (start, end, entry), (first, last, other) in itertools.combinations(spans, 2)
        if entry.lease != other.lease and min(end, last) - max(start, first) > tolerance
    ]
