"""Look at jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobrt._core.job import AttemptRecord, JobRecord
from jobrt._core.states import End
from jobrt._storage.sqlite.claim import attempts_of
from jobrt._storage.sqlite.rows import COMPLETED, attempt_record, dumps, record
from jobrt._storage.sqlite.transaction import SQL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobrt._storage.sqlite.transaction import Transaction

__all__ = ["get", "records"]

_MOST_ATTEMPTS = 100


def get(tx: Transaction, job_id: int) -> JobRecord | None:
    """Return a job with everything known of it."""
    found = records(tx, tx.array(SQL["jobs"], (dumps([job_id]),)), details=True)
    return found[0] if found else None


def records(tx: Transaction, rows: Sequence[Sequence[Any]], *, details: bool) -> tuple[JobRecord, ...]:
    """Return jobs from rows of jobs.sql."""
    if not details:
        return tuple(record(row, now=tx.now) for row in rows)
    ids = [row[0] for row in rows]
    kept = {job_id: texts for job_id, *texts in tx.array(SQL["details"], (dumps(ids),))}
    attempts = attempts_of(tx, ids)
    return tuple(
        record(
            row,
            now=tx.now,
            details=kept.get(row[0], (None, None, None)),
            attempts=_with_clean(row, attempts.get(row[0], [])),
        )
        for row in rows
    )


def _with_clean(row: Sequence[Any], kept: Sequence[tuple[int, AttemptRecord]]) -> list[AttemptRecord]:
    """Return a job's attempts: those with a record, and the clean last one that is told from the job's row."""
    _id, state, _queue, _name, _priority, attempt, _most, _due, _created, lease, worker, started, finished, *_ = row
    attempts = [one for _, one in kept]
    if state == COMPLETED and lease is not None and all(-lease != known for known, _ in kept):
        attempts.append(attempt_record((attempt, End.FINISHED, started, finished, worker, None, None, None)))
    return attempts[-_MOST_ATTEMPTS:]
