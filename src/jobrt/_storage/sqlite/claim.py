"""Claims in SQLite: the second part of `AttemptStore.exchange`."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from operator import itemgetter
from typing import Any, Final, TypeAlias

from jobrt._core import stored
from jobrt._core.job import AttemptRecord, Claimed
from jobrt._core.limits import CLAIM_BYTES, LARGE_TEXTS, Demand, Room
from jobrt._storage.sqlite.family import startable
from jobrt._storage.sqlite.rows import FAR, LARGEST, SMALLEST, attempt_record, dumps, moment, tags_of
from jobrt._storage.sqlite.savepoints import Apart
from jobrt._storage.sqlite.transaction import SQL, Transaction

_Row: TypeAlias = "Sequence[Any]"

PAGE: Final = CLAIM_BYTES // (4 * LARGE_TEXTS)
"""Maximum number of jobs to look at in one go: each has up to four texts that are not large."""

_RECORDS_PAGE: Final = 10
"""Jobs whose attempts are read in one go. Of each job these can be six million characters."""

# The values of shared/claim_row.sql that are used by position. `_FLAGS` is `extra` in the table. Only special jobs have
# more than `_PLAIN` values: flags, large texts, options.
_ID, _NAME, _DUE, _ARGS, _FLAGS, _STARTED = 0, 1, 6, 7, 12, 13
_PLAIN: Final = 8
_HAS_HISTORY, _MAY_NOT_START = 1, 8 | 64
_NEVER_RUN: Final = (None, None, (), None, False, None)
"""The last fields of the `Claimed` of most jobs, from `saved` on."""
_new: Final = tuple.__new__
"""Makes a named tuple of all of its fields, in half the time of its constructor."""
_ENDED: Final = 1000
"""Jobs under a scope that is being ended, after which a claim stops: it ends those that it meets."""


def claim(
    tx: Transaction, demand: Demand, *, page: int = PAGE, since: int | None = None, apart: Apart | None = None
) -> tuple[tuple[Claimed, ...], bool]:
    """Lease due jobs to a worker, in order of priority, due time, id; return them and whether size ended the claim.

    The transaction must hold the write lock, so that the jobs found are still waiting when they are leased. `page` is
    the number of jobs to look at in one go: SQLite reads a large text to tell its size. `since` is that of `Beats`.
    With `apart`, jobs that the database refuses to change are left out.
    """
    claimant = {"queue": demand.queue, "worker": demand.worker, "since": since, "now": tx.now}
    if demand.empty or not tx.value(SQL["attempts/exchange_open"], claimant):
        return (), False
    rows, cut = _found(tx, demand, largest_page=page)
    return lease_rows(tx, demand, rows, cut=cut, apart=apart)


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
    special = _special(rows)
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


def _found(tx: Transaction, demand: Demand, *, largest_page: int) -> tuple[list[_Row], bool]:
    """Return the rows of the jobs to claim, as many as the demand and its limits allow.

    After a page with large jobs no other is read. The second value is whether this left out jobs.
    """
    room = Room(demand)
    rows: list[_Row] = []
    ended = 0
    for priority in _priorities(tx, demand.queue):
        for page in _pages(tx, demand, priority=priority, room=room, largest=largest_page):
            allowed = _allowed(tx, page)
            ended += len(page) - len(allowed)
            if demand.without:
                allowed = [row for row in allowed if row[_ID] not in demand.without]
            admitted = _admitted(allowed, room=room)
            rows += admitted
            if ended >= _ENDED:
                return rows, True
            if room.left and any(row[_ARGS] is None for row in _special(admitted)):
                return rows, True
        if not room.left:
            break
    return rows, False


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


def _allowed(tx: Transaction, page: Sequence[_Row]) -> Sequence[_Row]:
    """Return the jobs of a page that may start: of members of families, and jobs that may have expired, not all may."""
    asked = [row for row in _special(page) if row[_FLAGS] & _MAY_NOT_START]
    if not asked:
        return page
    started = frozenset(row[_ID] for row in asked if row[_STARTED] is not None)
    barred = {row[_ID] for row in asked}.difference(
        startable(tx, [row[_ID] for row in asked], started=started)
    )
    return [row for row in page if row[_ID] not in barred]


def _special(rows: Sequence[_Row]) -> list[_Row]:
    """Return the rows of jobs that are not plain."""
    return [row for row in rows if len(row) > _PLAIN]


def _admitted(page: Sequence[_Row], *, room: Room) -> Sequence[_Row]:
    """Return the jobs of a page for which there is room, and count them."""
    if not room.chooses:
        room.left -= len(page)
        return page
    return [row for row in page if room.take(row[_NAME])]


def _large_texts(tx: Transaction, job_id: int) -> Sequence[Any]:
    """Return the args, metadata, tags and context of a job that has large ones."""
    return tx.row(SQL["attempts/exchange_texts"], (job_id,)) or ("{}", "{}", "[]", None)


def _priorities(tx: Transaction, queue: str) -> Iterator[int]:
    """Yield the priorities that have waiting jobs, the highest first."""
    priority: int | None = LARGEST
    while (
        priority := tx.value(SQL["attempts/exchange_priority"], {"queue": queue, "below": priority})
    ) is not None:
        yield priority


def _pages(
    tx: Transaction, demand: Demand, *, priority: int, room: Room, largest: int
) -> Iterator[list[_Row]]:
    """Yield due jobs in order, a page at a time, as long as there is room.

    One page is enough unless a limit skips jobs. Names that are at their limit are excluded from the
    following pages, so that a thousand of their jobs do not hide the jobs after them.
    """
    last = (SMALLEST, 0)
    while room.left and (names := room.names):
        size = min(room.left, largest)
        parameters = {
            "queue": demand.queue,
            "priority": priority,
            "now": tx.now,
            "after_at": last[0],
            "after_id": last[1],
            "names": dumps(names),
            "worker": demand.worker,
            "fits": demand.fits,
            "limit": size,
        }
        page: list[_Row] = tx.array(SQL["attempts/exchange_page"], parameters)
        yield page
        if len(page) < size:
            return
        last = (page[-1][_DUE], page[-1][_ID])


def _claimed(
    tx: Transaction, rows: Sequence[_Row], *, lease: int, queue: str, started_at: int | None
) -> list[Claimed]:
    """Return the jobs for the worker, still without checkpoint, progress and earlier attempts."""
    started = None if started_at is None else moment(started_at)
    jobs: list[Claimed] = []
    for row in rows:
        if len(row) > _PLAIN:
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
    complete: list[Claimed] = []
    for job in jobs:
        if job.id in again:
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
