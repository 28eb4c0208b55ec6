"""Counts of what happened, by hour, queue and name.

Nothing is counted while jobs run: live rows are counted on request, and what a deleted job counted for is
added to ``jobrt_rollup`` when it goes.
"""

from collections.abc import Sequence
from typing import Any, Final

from jobrt._core.stats import Bucket
from jobrt._storage.sqlite.rows import dumps, moment
from jobrt._storage.sqlite.transaction import SQL, Transaction

_HOUR: Final = 3_600_000_000
_BY_THE_HOUR: Final = 400 * 24 * _HOUR
_BUCKETS: Final = 12
# Transactions take their time before they wait for the lock, so ids and times may disagree by that long.
_DISORDER: Final = 60_000_000


def stats(tx: Transaction, *, since: int) -> tuple[Bucket, ...]:
    """Return counts since the beginning of the hour of `since`."""
    start = since - since % _HOUR
    found: dict[tuple[int, str, str], dict[str, Any]] = {}
    for hour, queue, name, kind, place, number, run_time in tx.array(
        SQL["jobs/stats"], {"since": start, "first": _first_id(tx, start - _DISORDER)}
    ):
        counts = found.setdefault((hour, queue, name), {"histogram": [0] * _BUCKETS})
        counts[kind] = counts.get(kind, 0) + number
        counts["seconds"] = counts.get("seconds", 0.0) + run_time / 1e6
        if place >= 0:
            counts["histogram"][place] += number
    return tuple(
        _bucket(hour, queue, name, **counts) for (hour, queue, name), counts in sorted(found.items())
    )


def _bucket(hour: int, queue: str, name: str, *, histogram: Sequence[int], **numbers: Any) -> Bucket:
    return Bucket(hour=moment(hour), queue=queue, name=name, histogram=tuple(histogram), **numbers)


def _first_id(tx: Transaction, start: int) -> int:
    """Return the first id created since, by halving: ids grow with time, which saves an index on it."""
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
    """Add jobs that are about to be deleted to the stored counts."""
    tx.run(SQL["jobs/delete_roll_up"], {"ids": dumps(ids)})


def fold(tx: Transaction) -> None:
    """Store counts of more than a year ago by month. They are part of all time, and take little space."""
    before = {"before": tx.now - _BY_THE_HOUR}
    tx.run(SQL["jobs/prune_fold_months"], before)
    tx.run(SQL["jobs/prune_fold_hours"], before)
