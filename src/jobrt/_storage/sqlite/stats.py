"""Statistics by hour, queue and name.

No counter is updated while jobs run: live rows are counted on request. When a job is deleted, its counts are
added to the table ``jobrt_rollup``.
"""

from collections.abc import Sequence
from typing import Any, Final

from jobrt._core.stats import Bucket, Ended, Numbers, Slot
from jobrt._storage.sqlite.rows import dumps, moment
from jobrt._storage.sqlite.transaction import SQL, Transaction

_HOUR: Final = 3_600_000_000
_BY_THE_HOUR: Final = 400 * 24 * _HOUR
_BUCKETS: Final = 12
_KINDS: Final = frozenset({"enqueued", "completed", "failed", "dead", "cancelled"})
# Transactions read the time before they wait for the lock, so the order of ids and times may differ by that wait.
_DISORDER: Final = 60_000_000


def stats(tx: Transaction, *, since: int) -> tuple[Bucket, ...]:
    """Return counts from the start of the hour of `since`."""
    start = since - since % _HOUR
    found: dict[tuple[int, str, str], dict[str, Any]] = {}
    for hour, queue, name, kind, bucket, number, run_time in tx.array(
        SQL["jobs/stats"], {"since": start, "first": first_id(tx, start - _DISORDER)}
    ):
        if kind not in _KINDS:  # of another version of jobrt
            continue
        counts = found.setdefault((hour, queue, name), {"histogram": [0] * _BUCKETS})
        counts[kind] = counts.get(kind, 0) + number
        counts["seconds"] = counts.get("seconds", 0.0) + run_time / 1e6
        if 0 <= bucket < _BUCKETS:
            counts["histogram"][bucket] += number
    return tuple(
        _bucket(hour, queue, name, **counts) for (hour, queue, name), counts in sorted(found.items())
    )


def _bucket(hour: int, queue: str, name: str, *, histogram: Sequence[int], **numbers: Any) -> Bucket:
    return Bucket(hour=moment(hour), queue=queue, name=name, histogram=tuple(histogram), **numbers)


def ended(tx: Transaction, *, since: int, until: int, step: int, limit: int, deleted: bool) -> Ended:
    """Return what ended in a range of time, by slots of `step` microseconds."""
    parameters = {"since": since, "until": until, "step": step, "limit": limit + 1, "deleted": deleted}
    found: dict[tuple[int, str, str], dict[str, Any]] = {}
    counted = dict.fromkeys(("jobs", "failed"), 0)
    for slot, queue, name, kind, ran, waited, number, run_time, wait, live in tx.array(
        SQL["jobs/ended"], parameters
    ):
        if kind not in _KINDS or kind == "enqueued":
            continue
        if live:
            counted["failed" if kind == "failed" else "jobs"] += number
        counts = found.setdefault((slot, queue, name), _no_counts())
        counts[kind] += number
        counts["seconds"] += run_time / 1e6
        counts["waited"] += wait / 1e6
        for histogram, place in (("histogram", ran), ("waits", waited)):
            if 0 <= place < _BUCKETS:
                counts[histogram][place] += number
    slots = [
        Slot(moment(slot), queue, name, _numbers(**counts))
        for (slot, queue, name), counts in sorted(found.items())
    ]
    return Ended(tuple(slots), more=max(counted.values()) > limit)


def _no_counts() -> dict[str, Any]:
    counts = dict.fromkeys(("completed", "failed", "dead", "cancelled"), 0)
    return {**counts, "seconds": 0.0, "waited": 0.0, "histogram": [0] * _BUCKETS, "waits": [0] * _BUCKETS}


def _numbers(*, histogram: Sequence[int], waits: Sequence[int], **counts: Any) -> Numbers:
    return Numbers(histogram=tuple(histogram), waits=tuple(waits), **counts)


def first_id(tx: Transaction, start: int) -> int:
    """Return the first id created since `start`, by binary search: ids grow with time, so no index on it is needed."""
    low, high = 0, (tx.value(SQL["jobs/stats_last"]) or 0) + 1
    while low < high:
        middle = (low + high) // 2
        row = tx.row(SQL["jobs/stats_created"], (middle,))
        if row is None or row[1] >= start:
            high = middle
        else:
            low = row[0] + 1
    return low


def roll_up(tx: Transaction, ids: Sequence[int]) -> None:
    """Add the counts of jobs that are about to be deleted to the stored ones."""
    tx.run(SQL["jobs/delete_roll_up"], {"ids": dumps(ids)})


def fold(tx: Transaction) -> None:
    """Sum stored counts older than 400 days by month, so that they take little space."""
    before = {"before": tx.now - _BY_THE_HOUR}
    tx.run(SQL["jobs/prune_fold_months"], before)
    tx.run(SQL["jobs/prune_fold_hours"], before)
