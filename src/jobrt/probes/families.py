"""Metrics as plain values: families of samples, made from what the workers of a process tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final

import attrs

from jobrt._core.worker_info import QueueInfo, WorkerInfo
from jobrt._runtime.tally import BOUNDS, Series, Tally
from jobrt._views.status import QueueView
from jobrt.probes.health import walk

CLUSTER: Final = "jobrt_queue_"
"""Beginning of the names of families about the whole database, which every worker tells alike."""
_QUEUES_LIMIT: Final = 1000
_STATES: Final = ("available", "scheduled", "retryable", "claimed", "executing")

Sample = tuple[str, dict[str, str], float]
"""Name of a sample, its labels, and its value."""


@attrs.frozen
class Family:
    """Metric with all its samples; ``kind`` is one of Prometheus' types: ``counter``, ``gauge``, ``histogram``."""

    name: str
    kind: str
    help: str
    samples: tuple[Sample, ...]


def gauge(name: str, text: str, values: Iterable[tuple[dict[str, str], float]]) -> Family:
    """Return a gauge from pairs of labels and a value."""
    return Family(name, "gauge", text, tuple((name, labels, float(value)) for labels, value in values))


def counter(name: str, text: str, values: Iterable[tuple[dict[str, str], float]]) -> Family:
    """Return a counter; `name` is without the suffix ``_total``, which its samples have."""
    samples = tuple((f"{name}_total", labels, float(value)) for labels, value in values)
    return Family(name, "counter", text, samples)


def _histogram(name: str, text: str, values: Iterable[tuple[dict[str, str], list[int], float]]) -> Family:
    samples: list[Sample] = []
    for labels, buckets, total in values:
        counts = list(accumulate(buckets))
        for bound, count in zip((*map(float, BOUNDS), "+Inf"), counts, strict=True):
            samples.append((f"{name}_bucket", {**labels, "le": str(bound)}, float(count)))
        samples += [(f"{name}_count", labels, float(counts[-1])), (f"{name}_sum", labels, total)]
    return Family(name, "histogram", text, tuple(samples))


# ---------------------------------------------------------------------- jobs


def job_families(tally: Tally) -> Iterator[Family]:
    """Return the families of ended attempts and of counted events; those without labels begin at 0."""
    series = [({"job": job, "queue": queue}, entry) for (job, queue), entry in sorted(tally.series.items())]
    yield counter("jobrt_attempts", "Ended attempts, by their end.", _ends(series))
    runs = ((labels, entry.runs, entry.run_seconds) for labels, entry in series)
    yield _histogram("jobrt_run_seconds", "Run times of attempts.", runs)
    waits = ((labels, entry.waits, entry.wait_seconds) for labels, entry in series)
    yield _histogram("jobrt_wait_seconds", "Times for which jobs were due before they began.", waits)
    counted = {kind.__name__: counts for kind, counts in tally.events.items()}
    for event in _EVENTS:
        yield _event_family(event, counted.get(event, {}))


def _ends(series: Iterable[tuple[dict[str, str], Series]]) -> Iterator[tuple[dict[str, str], int]]:
    for labels, entry in series:
        for end, count in sorted(entry.attempts().items()):
            yield {**labels, "end": end}, count


_EVENTS: Final[Mapping[str, tuple[str, str, tuple[str, ...]]]] = {
    "CronFailed": ("cron_failures", "Errors of cron entries that cannot enqueue their job.", ()),
    "CronFired": ("cron_ticks", "Ticks of cron entries that enqueued a job.", ()),
    "JobCancelPhase": ("cancellations", "Phases that cancelled running jobs reached.", ("job", "phase")),
    "JobRescued": ("rescues", "Jobs of dead workers that became due again or final.", ("queue", "state")),
    "JobStuck": ("stuck_jobs", "Reports of the watchdog about running jobs.", ("job", "why")),
    "JobsPruned": ("pruned_jobs", "Jobs that the retention rules deleted.", ()),
    "NotifierDisconnected": ("notifier_disconnections", "Losses of the connection for wake-ups.", ()),
    "OutcomeLost": ("outcomes_lost", "Outcomes that could not be written.", ("job",)),
    "QueueStalled": ("queue_stalls", "Fetchers that were restarted because they did not claim.", ("queue",)),
    "StorageDown": ("database_outages", "Outages of the database.", ()),
    "WorkerFenced": ("lost_leases", "Times that a worker could not renew its lease.", ()),
}


def _event_family(event: str, counts: Mapping[tuple[str, ...], int]) -> Family:
    name, text, labels = _EVENTS[event]
    values: list[tuple[dict[str, str], float]] = []
    for key, count in sorted(counts.items()) if labels else [((), sum(counts.values()))]:
        values.append((dict(zip(labels, key, strict=True)), count))
    return counter(f"jobrt_{name}", text, values)


# ---------------------------------------------------------------------- workers


def worker_families(workers: Sequence[tuple[str, bool, WorkerInfo]]) -> Iterator[Family]:
    """Return the families of the workers in a process: each with its id, and whether it is registered."""
    infos = [info for _, _, info in workers]
    about = [
        ({"worker": name, "version": info.version, "python": info.python}, 1) for name, _, info in workers
    ]
    yield gauge("jobrt_worker_info", "Workers of the process.", about)
    up = all(info.outage is None for info in infos)
    yield gauge("jobrt_database_up", "Whether the database answers.", [({}, up)] if infos else ())
    registered = [({"worker": name}, float(known)) for name, known, _ in workers]
    yield gauge("jobrt_worker_registered", "Whether the database knows the worker.", registered)
    yield counter("jobrt_actor_restarts", "Restarts of actors after a failure.", _restarts(infos))
    sums: tuple[tuple[Callable[..., Family], str, str, Callable[[WorkerInfo], int]], ...] = (
        (gauge, "jobrt_outcomes_pending", "Outcomes to be written.", lambda info: info.pending_outcomes),
        (counter, "jobrt_outcomes_written", "Outcomes that were written.", lambda info: info.landed),
        (counter, "jobrt_outcomes_refused", "Outcomes refused for a lost lease.", lambda info: info.refused),
    )
    for make, name, text, value in sums:
        yield make(name, text, [({}, sum(map(value, infos)))])
    yield from _slot_families(infos)


def _restarts(infos: Iterable[WorkerInfo]) -> Iterator[tuple[dict[str, str], int]]:
    counts = Counter[str]()
    for info in infos:
        for path, child in walk(info.tree):
            counts[path] += child.restarts
    yield from (({"actor": path}, count) for path, count in sorted(counts.items()))


def _slot_families(infos: Sequence[WorkerInfo]) -> Iterator[Family]:
    numbers: Mapping[str, tuple[str, Callable[[QueueInfo], int]]] = {
        "jobrt_slots": ("Slots of the queue in this process.", lambda queue: queue.concurrency),
        "jobrt_slots_busy": ("Slots in which a job runs.", lambda queue: queue.running),
        "jobrt_claimed_jobs": ("Jobs that are claimed and have not begun.", lambda queue: queue.claimed),
    }
    for name, (text, number) in numbers.items():
        totals = Counter[str]()
        for info in infos:
            totals.update({queue: number(value) for queue, value in info.queues.items()})
        yield gauge(name, text, (({"queue": queue}, value) for queue, value in sorted(totals.items())))


# ---------------------------------------------------------------------- the database


def queue_families(queues: Sequence[QueueView]) -> Iterator[Family]:
    """Return the families of the queues in the database; beyond a thousand queues, some are left out."""
    shown = [({"queue": view.status.name}, view) for view in queues[:_QUEUES_LIMIT]]
    depth = [
        ({**labels, "state": state}, getattr(view.status, state))
        for labels, view in shown
        for state in _STATES
    ]
    yield gauge(f"{CLUSTER}jobs", "Unfinished jobs of the queue, by state, counted up to a limit.", depth)
    numbers: Mapping[str, tuple[str, Callable[[QueueView], float]]] = {
        "oldest_due_seconds": ("Time for which the oldest due job has been due.", _oldest),
        "paused": ("Whether the queue is paused.", lambda view: view.status.paused),
        "workers": ("Living workers that serve the queue.", lambda view: view.workers),
        "count_limited": ("Whether there are more jobs than were counted.", lambda view: view.status.more),
    }
    for name, (text, number) in numbers.items():
        yield gauge(f"{CLUSTER}{name}", text, [(labels, number(view)) for labels, view in shown])


def _oldest(view: QueueView) -> float:
    return max(0.0, view.status.oldest_due or 0.0)


# ---------------------------------------------------------------------- several processes


def merge(members: Mapping[str, Sequence[Family]]) -> tuple[Family, ...]:
    """Return the families of several processes as one: with a label ``process``, but for those of the database."""
    merged: dict[str, Family] = {}
    for process, families in members.items():
        for family in families:
            known = merged.get(family.name)
            if family.name.startswith(CLUSTER):
                merged.setdefault(family.name, family)
                continue
            samples = tuple((name, _of(process, labels), value) for name, labels, value in family.samples)
            before = () if known is None else known.samples
            merged[family.name] = attrs.evolve(family, samples=before + samples)
    return tuple(merged.values())


def _of(process: str, labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels with that of the process; one of that name is renamed, as Prometheus does it."""
    given = {"exported_process" if name == "process" else name: value for name, value in labels.items()}
    return {**given, "process": process}
