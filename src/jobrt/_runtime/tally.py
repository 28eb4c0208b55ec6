"""Counts of what the workers of an app have done, for metrics; kept only if somebody reads them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import attrs

from jobrt import events as e
from jobrt._core.job import JobRef
from jobrt._core.states import End
from jobrt._runtime.messages import Report

BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
"""Upper bounds of the histograms, in seconds; one more bucket has no bound."""
_LABELS_LIMIT: Final = 1000
"""Values of labels that are told apart for one kind of event. Those of the database can be of any number."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_COUNTED: Final[dict[type[e.Event], tuple[str, ...]]] = {
    e.CronFailed: (),
    e.CronFired: (),
    e.JobCancelPhase: ("name", "phase"),
    e.JobRescued: ("queue", "state"),
    e.JobStuck: ("name", "why"),
    e.JobsPruned: (),
    e.NotifierDisconnected: (),
    e.OutcomeLost: ("name",),
    e.QueueStalled: ("queue",),
    e.StorageDown: (),
    e.WorkerFenced: (),
}
"""Events that are counted, with the fields by which they are."""


def _buckets() -> list[int]:
    return [0] * (len(BOUNDS) + 1)


@attrs.define(eq=False)
class Series:
    """Counts of one job name in one queue: attempts by end, and histograms of their run times and waits."""

    finished: int = 0
    """Attempts that ended cleanly. They are not in ``ends``: counting by an enum takes longer than the rest."""
    ends: Counter[End] = attrs.Factory(Counter)
    runs: list[int] = attrs.Factory(_buckets)
    run_seconds: float = 0.0
    waits: list[int] = attrs.Factory(_buckets)
    wait_seconds: float = 0.0

    def attempts(self) -> dict[str, int]:
        """Return the number of attempts by their end."""
        others = {end.value: count for end, count in self.ends.items()}
        return ({End.FINISHED.value: self.finished} if self.finished else {}) | others


@attrs.define(eq=False)
class Tally:
    """Counts since the start of the process; `on` is set by the first reader.

    It is written and read in the event loop. Outcomes come in batches from the `Settler`, other events one by one.
    """

    on: bool = False
    series: dict[tuple[str, str], Series] = attrs.Factory(dict)
    """By name of the job and of its queue."""
    events: dict[type[e.Event], Counter[tuple[str, ...]]] = attrs.Factory(dict)

    def note(self, reports: Sequence[Report], lost: Collection[JobRef] = ()) -> None:
        """Count outcomes that were written; those of the `lost` were refused."""
        series = self.series
        for report in reports:
            outcome, job, seconds = report
            end = outcome.end
            if end is None:
                continue
            entry = series.get((job.name, job.queue))
            if entry is None:
                entry = series[job.name, job.queue] = Series()
            if lost and report.ref in lost:
                entry.ends[End.LEASE_LOST] += 1
            elif end is End.FINISHED:
                entry.finished += 1
            else:
                entry.ends[end] += 1
            entry.runs[bisect_left(BOUNDS, seconds)] += 1
            entry.run_seconds += seconds
            wait = _waited(report)
            if wait is not None:
                entry.waits[bisect_left(BOUNDS, wait)] += 1
                entry.wait_seconds += wait

    def __call__(self, event: e.Event) -> None:
        """Count an event that is not routine."""
        fields = _COUNTED.get(type(event))
        if fields is None:
            return
        counts = self.events.setdefault(type(event), Counter())
        values: Any = event
        key = tuple(str(getattr(values, field)) for field in fields)
        if key not in counts and len(counts) >= _LABELS_LIMIT:
            key = ("(others)",) * len(fields)
        counts[key] += event.count if isinstance(event, e.JobsPruned) else 1


def _waited(report: Report) -> float | None:
    """Return how long the job was due before it began; None if that is unknown."""
    outcome, job = report.outcome, report.job
    if outcome.began is not None:
        wait = outcome.began / 1e6 - (job.schedule_at - _EPOCH).total_seconds()
    elif job.started_at is not None:
        wait = (job.started_at - job.schedule_at).total_seconds()
    else:
        return None
    return max(0.0, wait)
