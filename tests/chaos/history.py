"""Facts about a run, and the checks of bodies: what the jobs have logged.

`check` is a function of the log of the jobs, the rows and their changes in the database, and the injected faults. Job
and lease identify an attempt; its execution is a *body*. There are these kinds of violations of bodies; those of
changes are in `tests.chaos.rules`:

lost         an accepted job is not in the database, or completed without a body that reached its end
stuck        a job is not final after the run
doubled      a body belongs to no recorded attempt, or two attempts finished
overlapping  a body still ran although another body of its job had begun
results      a completed job does not have the result of the body that completed it
errors       an attempt failed with an error that no fault explains

A body proves with each line that it runs. So neither a frozen nor a dead nor a starved process counts as running.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Change", "Fault", "History", "Line", "Restore", "Row", "check_bodies", "parse"]

SLACK: float = 0.2
"""Seconds that a body may run on after another one of its job began."""
PASSES = 3
"""Lines that a body may write meanwhile, however slow the machine is: its cancellation takes some passes of Trio's
scheduler, and with each of them the body may wake up once."""
NOTICED = 4.0
"""Seconds within which a worker notices that the database was restored: its lease, and one more. Until then others may
take its jobs for those of a dead worker."""
SHIELDED = frozenset({"Stubborn"})
"""Jobs that may run on after the end of their lease and after a cancel request."""
FAMILY = frozenset({"Nest", "Leaf"})
"""Jobs that others cancel or discard, checked by `tests.chaos.families`."""
WAITING = frozenset({"Nest"})
"""Jobs that wait without a slot: such an attempt leaves no record, and goes on under another lease."""
FINAL = frozenset({"completed", "cancelled", "discarded"})
EXPECTED_ERRORS = frozenset({"OSError", "StorageUnavailable", "LeaseLost", "StorageError", "JobrtError"})


@attrs.frozen
class Line:
    """A line in the log: ``begin``, then any number of ``tick``, then ``end``, ``waits``, ``fail`` or ``cancelled``."""

    what: str
    job: int
    name: str
    lease: int
    pid: int
    at: float
    note: Any = None
    queue: str = "default"


@attrs.frozen
class Fault:
    """A fault: ``kill``, ``freeze`` or ``thaw`` of a process; with ``pid`` 0 a fault of the database, with its end."""

    what: str
    pid: int
    at: float
    end: float = 0.0


@attrs.frozen
class Restore:
    """A moment when the database was set back to an older state.

    ``lease`` is higher than all leases before it, and no higher than those after it: they contain the time. A claim may
    be committed just before, and its body begin just after, so the begin of a body does not tell what is forgotten.
    """

    at: float
    lease: int


@attrs.frozen
class Row:
    """The state of a job in the database after the run.

    ``lease`` is the lease of the attempt that completed it. ``ends`` has the ends of the recorded attempts by lease.
    """

    state: str
    lease: int | None
    ends: Mapping[int, str] = attrs.Factory(dict)
    name: str = "Work"
    result: Any = None
    errors: tuple[str, ...] = ()
    attempt: int = 1
    max_attempts: int | None = None


@attrs.frozen
class Change:
    """A change of a job's row; ``before`` is None for a new job, ``after`` for one that is deleted."""

    seq: int
    at: float
    job: int
    before: str | None
    after: str | None
    lease_before: int | None = None
    lease: int | None = None
    attempt_before: int | None = None
    attempt: int | None = None
    max_attempts: int | None = None
    worker: str | None = None
    alive: bool | None = None
    cancel: bool | None = None
    """Whether there is a cancel request, or was one before."""
    queue: str | None = None
    name: str | None = None
    priority: int = 0
    due: float = 0.0
    args: str | None = None
    context: str | None = None
    tx: int | None = None
    """The transaction, in PostgreSQL. A statement that ends jobs and claims others may show the claims first."""

    @property
    def ref(self) -> tuple[int, int]:
        """Job and lease of the attempt that this change is about."""
        return self.job, abs(self.lease_before or self.lease or 0)


@attrs.frozen
class History:
    """All facts about a run."""

    rows: Mapping[int, Row]
    lines: Sequence[Line] = ()
    changes: Sequence[Change] = ()
    accepted: Iterable[int] = ()
    cancelled: frozenset[int] = frozenset()
    """Jobs for which a cancellation was requested."""
    sent: Mapping[int, Iterable[int]] = attrs.Factory(dict)
    """The messages that were sent to jobs."""
    written: Sequence[int] = ()
    faults: Sequence[Fault] = ()
    restored: Sequence[Restore] = ()
    finished: bool = True
    """Whether the run has ended: only then must all jobs be final."""

    @property
    def forgotten(self) -> int:
        """Lease below which the database may have forgotten a claim."""
        return max((restore.lease for restore in self.restored), default=0)

    def bodies(self) -> dict[int, dict[int, list[Line]]]:
        """Return the lines by job and lease, in order."""
        found: defaultdict[int, defaultdict[int, list[Line]]] = defaultdict(lambda: defaultdict(list))
        for line in self.lines:
            found[line.job][line.lease].append(line)
        return {job: dict(bodies) for job, bodies in found.items()}


def parse(lines: Iterable[str]) -> list[Line]:
    """Return the lines of a log; an invalid one raises `ValueError`."""
    return [Line(*json.loads(line)) for line in lines]


def check_bodies(history: History) -> dict[str, list[str]]:
    """Return the violations by kind."""
    found: dict[str, list[str]] = {
        kind: [] for kind in ("lost", "stuck", "doubled", "overlapping", "results", "errors")
    }
    bodies = history.bodies()
    for job, of_job in bodies.items():
        found["overlapping"] += _overlapping(job, of_job, restored=history.restored)
    rows = history.rows
    for job, row in rows.items():
        found["errors"] += [
            f"an attempt of job {job} ({row.name}) ended with {error}"
            for error in row.errors
            if not _explained(row, error.rpartition(".")[2])
        ]
    if not history.finished:
        return found
    found["lost"] += [
        f"job {job} was accepted, but is not in the database" for job in history.accepted if job not in rows
    ]
    found["lost"] += [
        f"job {job} ran, but is not in the database"
        for job, of_job in bodies.items()
        if job not in rows and max(of_job) >= history.forgotten
    ]
    for job, row in rows.items():
        of_job = bodies.get(job, {})
        if row.state not in FINAL:
            found["stuck"].append(f"job {job} ({row.name}) is {row.state}")
        found["lost"] += _lost(job, row, bodies=of_job, history=history)
        # By the names of the lines: after a restore, the row may be another job's.
        attempts = {lease: lines for lease, lines in of_job.items() if lines[0].name not in WAITING}
        found["doubled"] += _doubled(job, row, attempts, forgotten=history.forgotten)
        if row.state == "completed" and row.result != [job, row.lease]:
            found["results"].append(f"job {job}, completed under {row.lease}, has the result {row.result}")
    return found


def _explained(row: Row, error: str) -> bool:
    """Return whether faults explain an error. A statement of a job's own may fail in any way, but for its outcome."""
    if row.name == "Exact":
        return error not in {"ForeignKeyViolation", "IntegrityError"}
    return error in EXPECTED_ERRORS or (row.name == "Leaf" and error == "Discard")


def _lost(job: int, row: Row, *, bodies: Mapping[int, Sequence[Line]], history: History) -> list[str]:
    if row.state in {"cancelled", "discarded"} and row.name in FAMILY:
        return []
    if row.state == "cancelled" and job not in history.cancelled:
        return [f"job {job} is cancelled, which nobody has asked for"]
    if row.state == "discarded" and row.max_attempts is None:
        return [f"job {job} ({row.name}) is discarded, but may be attempted any number of times"]
    if row.state != "completed" or any(line.what == "end" for line in bodies.get(row.lease or 0, ())):
        return []
    return [f"job {job} is completed under lease {row.lease}, but no body under that lease reached its end"]


def _doubled(job: int, row: Row, bodies: Mapping[int, Sequence[Line]], *, forgotten: int) -> list[str]:
    violations = []
    for lease, lines in sorted(bodies.items()):
        if sum(line.what == "begin" for line in lines) > 1:
            violations.append(f"job {job} began twice under lease {lease}")
        if lease == row.lease and row.state in FINAL:
            continue
        end = row.ends.get(lease)
        if end is None and lease >= forgotten:
            violations.append(f"job {job} ran under lease {lease}, which the database does not know")
        elif end == "finished" and not any(line.what == "waits" for line in lines):
            violations.append(f"job {job} is finished under lease {lease} and also under {row.lease}")
    return violations


def _overlapping(job: int, bodies: Mapping[int, Sequence[Line]], *, restored: Sequence[Restore]) -> list[str]:
    violations = []
    for one, other in itertools.permutations(bodies.values(), 2):
        # By the name of the body: before a restore, the id may have been another job's.
        if one[0].name in SHIELDED or not other[0].at > one[0].at:
            continue
        begin, end = other[0].at, other[-1].at
        still = [
            line.at
            for line in one
            if begin < line.at <= end
            and line.what != "cancelled"
            and not any(restore.at <= line.at < restore.at + NOTICED for restore in restored)
        ]
        if len(still) > PASSES and still[-1] - still[0] > SLACK:
            violations.append(
                f"job {job} still ran under lease {one[0].lease} (process {one[0].pid}) for"
                f" {still[-1] - still[0]:.2f} s while it ran under lease {other[0].lease} (process {other[0].pid})"
            )
    return violations
