"""Judge a run by what its jobs wrote, by what the database says, and by what was done to the processes.

`check` is a function of these three and of nothing else. An attempt is named by job and lease. What must hold:

lost         every job that was accepted is in the database, and completed by an attempt whose body came to its end
stuck        every job is final, once all is calm
doubled      a body that began belongs to the attempt that completed the job, or to one that the database has on
             record as ended otherwise: nothing runs behind the database's back, nothing completes twice
overlapping  no two bodies of a job run at the same time. A process that is stopped does not run, nor does a dead one
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Deed", "Entry", "Ledger", "Report", "check", "parse"]

SLACK: float = 1.0
"""Seconds that two bodies may overlap: a busy machine runs the guard of a lease, or thaws a process, that much late."""


@attrs.frozen
class Entry:
    """A line that a job wrote: ``begin``, and then ``end``, ``fail`` or ``cut``; ``at`` in seconds."""

    what: str
    job: int
    attempt: int
    lease: int
    pid: int
    at: float


@attrs.frozen
class Deed:
    """What was done to a worker process: ``kill``, ``freeze`` or ``thaw``."""

    what: str
    pid: int
    at: float


@attrs.frozen
class Ledger:
    """What the database says of a job in the end.

    ``lease`` is that of the attempt that completed it; ``ends`` how the recorded attempts ended, by lease.
    """

    state: str
    lease: int | None
    ends: Mapping[int, str] = attrs.Factory(dict)


@attrs.frozen
class Report:
    """What is wrong, as sentences; and what was seen."""

    lost: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    overlapping: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    jobs: int = 0
    bodies: int = 0
    again: int = 0
    """Bodies that began beyond one for each job; each of them is on record."""

    @property
    def faults(self) -> tuple[str, ...]:
        """Return all that is wrong."""
        return self.lost + self.doubled + self.overlapping + self.stuck


def parse(lines: Iterable[str]) -> list[Entry]:
    """Return the entries of a log; a line that is no entry raises `ValueError`."""
    entries = []
    for line in lines:
        what, job, attempt, lease, pid, at = line.split()
        entries.append(Entry(what, int(job), int(attempt), int(lease), int(pid), int(at) / 1e9))
    return entries


def check(
    accepted: Iterable[int],
    entries: Sequence[Entry],
    *,
    ledgers: Mapping[int, Ledger],
    deeds: Sequence[Deed] = (),
    slack: float = SLACK,
) -> Report:
    """Return what is wrong with a run that is over and calm."""
    by_job: defaultdict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_job[entry.job].append(entry)
    lost = [f"job {job} was accepted and is not in the database" for job in accepted if job not in ledgers]
    lost += [f"job {job} ran and is not in the database" for job in by_job if job not in ledgers]
    stuck: list[str] = []
    doubled: list[str] = []
    overlapping: list[str] = []
    times = _Times.of(deeds)
    for job, ledger in ledgers.items():
        said = by_job[job]
        if ledger.state not in {"completed", "cancelled", "discarded"}:
            stuck.append(f"job {job} is {ledger.state}")
        else:
            lost += _lost(job, ledger, said)
        doubled += _doubled(job, ledger, said)
        overlapping += _overlapping(job, said, times=times, slack=slack)
    bodies = sum(entry.what == "begin" for entry in entries)
    return Report(
        lost=tuple(lost),
        doubled=tuple(doubled),
        overlapping=tuple(overlapping),
        stuck=tuple(stuck),
        jobs=len(ledgers),
        bodies=bodies,
        again=bodies - sum(any(one.what == "begin" for one in said) for said in by_job.values()),
    )


def _lost(job: int, ledger: Ledger, said: Sequence[Entry]) -> list[str]:
    if ledger.state != "completed":
        return [f"job {job} is {ledger.state}, which none of these jobs may become"]
    if any(entry.what == "end" and entry.lease == ledger.lease for entry in said):
        return []
    return [
        f"job {job} is completed under lease {ledger.lease}, and no body under that lease came to its end"
    ]


def _doubled(job: int, ledger: Ledger, said: Sequence[Entry]) -> list[str]:
    begun = [entry.lease for entry in said if entry.what == "begin"]
    faults = [f"job {job} began twice under lease {lease}" for lease in set(begun) if begun.count(lease) > 1]
    for lease in sorted(set(begun)):
        if lease == ledger.lease and ledger.state == "completed":
            continue
        how = ledger.ends.get(lease)
        if how is None:
            faults.append(f"job {job} ran under lease {lease}, of which the database knows nothing")
        elif how == "finished":
            faults.append(f"job {job} is finished under lease {lease} and also under {ledger.lease}")
    return faults


@attrs.frozen
class _Times:
    """When processes died, and when they were stopped."""

    deaths: Mapping[int, float]
    frozen: Mapping[int, list[tuple[float, float]]]

    @classmethod
    def of(cls, deeds: Sequence[Deed]) -> _Times:
        deaths: dict[int, float] = {}
        frozen: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
        since: dict[int, float] = {}
        for deed in sorted(deeds, key=lambda one: one.at):
            match deed.what:
                case "kill":
                    deaths[deed.pid] = deed.at
                case "freeze":
                    since.setdefault(deed.pid, deed.at)
                case _:
                    frozen[deed.pid].append((since.pop(deed.pid), deed.at))
        for pid, at in since.items():
            frozen[pid].append((at, deaths.get(pid, float("inf"))))
        return cls(deaths, frozen)

    def running(self, pid: int, begin: float, end: float | None) -> list[tuple[float, float]]:
        """Return when a body ran: from its begin to its end or the death of its process, less the stops."""
        last = self.deaths.get(pid, float("inf")) if end is None else end
        spans, start = [], begin
        for stop, go_on in self.frozen.get(pid, ()):
            if start < stop < last:
                spans.append((start, stop))
            if stop < last:
                start = max(start, go_on)
        if start < last:
            spans.append((start, last))
        return spans


def _overlapping(job: int, said: Sequence[Entry], *, times: _Times, slack: float) -> list[str]:
    over = {entry.lease: entry.at for entry in said if entry.what != "begin"}
    spans = [
        (start, end, entry)
        for entry in said
        if entry.what == "begin"
        for start, end in times.running(entry.pid, entry.at, over.get(entry.lease))
    ]
    return [
        f"job {job} ran under lease {one.lease} (process {one.pid}) and under lease {other.lease} (process"
        f" {other.pid}) for {min(end, last) - max(start, first):.2f} s at the same time"
        for (start, end, one), (first, last, other) in itertools.combinations(spans, 2)
        if one.lease != other.lease and min(end, last) - max(start, first) > slack
    ]
