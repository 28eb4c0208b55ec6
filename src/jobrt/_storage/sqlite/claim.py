"""Claims in SQLite: the second part of `AttemptStore.exchange`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from operator import itemgetter
from typing import Any, Final, TypeAlias

from jobrt._core import stored
from jobrt._core.job import AttemptRecord, Claimed
from jobrt._core.limits import CLAIM_BYTES, LARGE_TEXTS, Demand
from jobrt._storage.sqlite.rows import FAR, attempt_record, dumps, moment, tags_of
from jobrt._storage.sqlite.savepoints import Apart
from jobrt._storage.sqlite.scan import PLAIN, Passed, Scan, special_rows
from jobrt._storage.sqlite.transaction import SQL, Transaction

_Row: TypeAlias = "Sequence[Any]"

PAGE: Final = CLAIM_BYTES // (4 * LARGE_TEXTS)
"""Maximum number of jobs to look at in one go: each has up to four texts that are not large."""

_RECORDS_PAGE: Final = 10
"""Jobs whose attempts are read in one go. Of each job these can be six million characters."""

# The values of shared/claim_row.sql that are used by position, see scan.py.
_ID, _ARGS, _FLAGS = 0, 7, 12
_HAS_HISTORY: Final = 1
_NEVER_RUN: Final = (None, None, (), None, False, None)
"""The last fields of the `Claimed` of most jobs, from `saved` on."""
_new: Final = tuple.__new__
"""Makes a named tuple of all of its fields, in half the time of its constructor."""


def claim(
    tx: Transaction,
    demand: Demand,
    *,
    page: int,
    since: int | None,
    passed: Passed | None,
    apart: Apart | None = None,
) -> tuple[tuple[Claimed, ...], bool, Passed | None]:
    """Lease due jobs to a worker, in order of priority, due time, id.

    Returns them, whether size ended the claim, and what to remember.

    The transaction must hold the write lock, so that the jobs found are still waiting when they are leased. `page` is
    the number of jobs to look at in one go: SQLite reads a large text to tell its size. `since` is that of `Beats`.
    `passed` is what the last claim of the same names has returned. With `apart`, jobs that the database refuses to
    change are left out.
    """
    claimant = {"queue": demand.queue, "worker": demand.worker, "since": since, "now": tx.now}
    if demand.empty or not tx.value(SQL["attempts/exchange_open"], claimant):
        return (), False, passed
    scan = Scan(tx, demand, page)
    remembered = scan.run(passed)
    jobs, cut = lease_rows(tx, demand, scan.rows, cut=scan.cut, apart=apart)
    return jobs, cut, passed if cut else remembered


def lease_rows(
    tx: Transaction,
    demand: Demand,
    rows: Sequence[_Row],
    *,
    cut: bool,
    starts: Mapping[int, int] | None = None,
    apart: Apart | None = None,
) -> tuple[tuple[Claimed, ...], bool]:
    """Lease the jobs of these rows, as far as their size allows; return them and whether size has left out some.

    `starts` are the times of their starts by id, if these wait for tokens. `apart` is that of `claim`.
    """
    if not rows:
        return (), False
    special = special_rows(rows)
    if heavy := [row[_ID] for row in special if row[_FLAGS] & _HAS_HISTORY or row[_ARGS] is None]:
        affordable = _affordable(tx, rows, heavy=heavy)
        rows, cut = rows[:affordable], cut or affordable < len(rows)
    lease = tx.value(SQL["attempts/exchange_lease"], {"now": tx.now})
    parts: Iterable[tuple[Sequence[_Row], int | None]]
    if starts is None:
        parts = ((rows[: demand.starting], tx.now), (rows[demand.starting :], None))
    else:
        parts = [([row], starts[row[_ID]]) for row in rows]
    jobs: list[Claimed] = []
    for part, started_at in parts:
        if not part:
            continue
        take = partial(_take, tx, lease=lease, worker=demand.worker, started_at=started_at)
        for taken in [take(part)] if apart is None else apart(part, take, job=itemgetter(_ID)):
            jobs += _claimed(tx, taken, lease=lease, queue=demand.queue, started_at=started_at)
    leased = {job.id for job in jobs} if heavy else ()
    run_before = [row[_ID] for row in special if row[_FLAGS] & _HAS_HISTORY and row[_ID] in leased]
    return tuple(_with_history(tx, jobs, ids=run_before) if run_before else jobs), cut


def _take(
    tx: Transaction, rows: Sequence[_Row], *, lease: int, worker: str, started_at: int | None
) -> Sequence[_Row]:
    """Lease the rows to the worker, and return them."""
    ids = [row[_ID] for row in rows]
    new = {"lease": lease, "worker": worker, "started_at": started_at, "ids": dumps(ids)}
    tx.run(SQL["attempts/exchange_take"], new)
    tx.news += ids
    return rows


def next_due(tx: Transaction, queue: str) -> float | None:
    """Return the seconds until the queue's first future job is due, or None if there is none.

    If the queue is held, no job can start until that is over.
    """
    held: int | None = tx.value(SQL["attempts/exchange_held"], {"queue": queue, "now": tx.now})
    if held is not None:
        return (held - tx.now) / 1e6
    text = tx.value(SQL["attempts/exchange_next_due"], {"queues": dumps([queue]), "now": tx.now, "far": FAR})
    due = json.loads(text).get(queue)
    return None if due is None else (due - tx.now) / 1e6


def _affordable(tx: Transaction, rows: Sequence[_Row], *, heavy: Sequence[int]) -> int:
    """Return how many of the first rows have at most `CLAIM_BYTES` together, or 1.

    Only `heavy` jobs count, which have large texts or have run before. The number of the others is limited.
    """
    sizes = dict(tx.array(SQL["attempts/exchange_sizes"], (dumps(heavy),)))
    total = 0
    for number, row in enumerate(rows):
        total += sizes.get(row[_ID], 0)
        if total > CLAIM_BYTES:
            return max(number, 1)
    return len(rows)


def _large_texts(tx: Transaction, job_id: int) -> Sequence[Any]:
    """Return the args, metadata, tags and context of a job that has large ones."""
    return tx.row(SQL["attempts/exchange_texts"], (job_id,)) or ("{}", "{}", "[]", None)


def _claimed(
    tx: Transaction, rows: Sequence[_Row], *, lease: int, queue: str, started_at: int | None
) -> list[Claimed]:
    """Return the jobs for the worker, still without checkpoint, progress and earlier attempts."""
    started = None if started_at is None else moment(started_at)
    jobs: list[Claimed] = []
    for row in rows:
        if len(row) > PLAIN:
            jobs.append(_special_job(tx, row, lease=lease, queue=queue, started_at=started))
            continue
        job_id, name, priority, attempt, limit, created, due, args = row
        made, due_at = moment(created), moment(due)
        # fmt: off
        values = (
            job_id, lease, name, queue, priority, attempt + 1, limit, None, args, "{}", (), None, made, due_at, started,
        )
        # fmt: on
        jobs.append(_new(Claimed, values + _NEVER_RUN))
    return jobs


def _special_job(
    tx: Transaction, row: _Row, *, lease: int, queue: str, started_at: datetime | None
) -> Claimed:
    """Return a job with options, flags or large texts."""
    (job_id, name, priority, attempt, limit, created, due, *texts, timeout, _flags, _started, version) = row
    args, metadata, labels, context = texts if row[_ARGS] is not None else _large_texts(tx, job_id)
    tags = () if labels == "[]" else stored.tags_of(tags_of(labels))
    return Claimed(
        id=job_id,
        lease=lease,
        name=name,
        queue=queue,
        priority=priority,
        attempt=attempt + 1,
        max_attempts=limit,
        timeout=timeout,
        args=args,
        metadata=metadata,
        tags=tags or (),
        context=context,
        created_at=moment(created),
        schedule_at=moment(due),
        started_at=started_at,
        defect=stored.BAD_TAGS if tags is None else None,
        version=version,
    )


def _with_history(tx: Transaction, jobs: Sequence[Claimed], *, ids: Sequence[int]) -> list[Claimed]:
    """Add checkpoint, progress and attempts to the jobs with these ids, which have run before."""
    attempts = attempts_of(tx, ids)
    again = frozenset(ids)
    detailed = frozenset(tx.array(SQL["attempts/with_details"], (dumps(ids),)))
    complete: list[Claimed] = []
    for job in jobs:
        if job.id in again:
            saved = progress = None
            if job.id in detailed:
                saved, progress = tx.row(SQL["attempts/exchange_details"], (job.id,)) or (None, None)
            records = tuple(record for _, record in attempts.get(job.id, ()))
            complete.append(job._replace(saved=saved, progress=progress, attempts=records, kept=True))
        else:
            complete.append(job)
    return complete


def attempts_of(tx: Transaction, ids: Sequence[int]) -> dict[int, list[tuple[int, AttemptRecord]]]:
    """Return the attempt records with their leases, oldest first, by job."""
    found: dict[int, list[tuple[int, AttemptRecord]]] = {}
    if len(ids) > _RECORDS_PAGE:
        ids = tx.array(SQL["attempts/with_records"], (dumps(ids),))
    for start in range(0, len(ids), _RECORDS_PAGE):
        page = dumps(ids[start : start + _RECORDS_PAGE])
        for job_id, *attempt, lease in tx.array(SQL["attempts/records"], (page,)):
            found.setdefault(job_id, []).append((lease, attempt_record(attempt)))
    return found
