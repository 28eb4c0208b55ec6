"""Claims in SQLite: the second part of `AttemptStore.exchange`."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

from jobrt._core.job import AttemptRecord, Claimed
from jobrt._core.limits import Demand, Room, limit_key
from jobrt._storage.sqlite.rows import FAR, LARGEST, SMALLEST, attempt_record, dumps, moment, tags
from jobrt._storage.sqlite.transaction import SQL, Transaction

_Row: TypeAlias = "Sequence[Any]"

_KEY_PAGE: Final = 100

# The columns of attempts/exchange_page.sql that are used by position. The last one is `extra` in the table.
_ID, _NAME, _ARGS, _METADATA, _DUE, _HAS_HISTORY = 0, 1, 6, 7, 11, 12


def claim(tx: Transaction, demand: Demand) -> tuple[Claimed, ...]:
    """Lease due jobs to a worker, in order of priority, due time, id.

    The transaction must hold the write lock, so that the jobs found are still waiting when they are leased.
    """
    if demand.empty or tx.value(SQL["attempts/exchange_paused"], (demand.queue,)):
        return ()
    rows = _found(tx, demand)
    if not rows:
        return ()
    lease = tx.value(SQL["attempts/exchange_lease"], {"now": tx.now})
    at_once, ahead = rows[: demand.starting], rows[demand.starting :]
    jobs: list[Claimed] = []
    for part, started_at in ((at_once, tx.now), (ahead, None)):
        if part:
            _take(tx, part, lease=lease, worker=demand.worker, started_at=started_at)
            jobs += _claimed(part, lease=lease, queue=demand.queue, started_at=started_at)
    run_before = [row[_ID] for row in rows if row[_HAS_HISTORY]]
    return tuple(_with_history(tx, jobs, ids=run_before) if run_before else jobs)


def _take(tx: Transaction, rows: Sequence[_Row], *, lease: int, worker: str, started_at: int | None) -> None:
    """Lease the rows to the worker."""
    ids = dumps([row[_ID] for row in rows])
    new = {"lease": lease, "worker": worker, "started_at": started_at, "ids": ids}
    tx.run(SQL["attempts/exchange_take"], new)


def next_due(tx: Transaction, queue: str) -> float | None:
    """Return the seconds until the queue's first future job is due, or None if there is none."""
    text = tx.value(SQL["attempts/exchange_next_due"], {"queues": dumps([queue]), "now": tx.now, "far": FAR})
    due = json.loads(text).get(queue)
    return None if due is None else (due - tx.now) / 1e6


def _found(tx: Transaction, demand: Demand) -> list[_Row]:
    """Return the rows of the jobs to claim: as many as the demand and its limits allow."""
    room = Room(demand, _running(tx, demand) if demand.clustered else None)
    rows: list[_Row] = []
    for priority in _priorities(tx, demand.queue):
        for page in _pages(tx, demand, priority=priority, room=room):
            rows += _admitted(page, demand, room)
        if not room.left:
            break
    return rows


def _running(tx: Transaction, demand: Demand) -> Counter[str]:
    """Return the number of the queue's running jobs for each key."""
    running = tx.array(SQL["attempts/exchange_running"], (demand.queue,))
    return Counter(
        limit_key(demand.key, name, args=args, metadata=metadata) for name, args, metadata in running
    )


def _admitted(page: Sequence[_Row], demand: Demand, room: Room) -> Sequence[_Row]:
    """Return the jobs of a page for which there is room, and count them."""
    if not room.chooses:
        room.left -= len(page)
        return page
    return [row for row in page if room.take(row[_NAME], _key(row, demand))]


def _key(row: _Row, demand: Demand) -> str:
    if demand.per_key is None:
        return ""
    return limit_key(demand.key, row[_NAME], args=row[_ARGS], metadata=row[_METADATA])


def _priorities(tx: Transaction, queue: str) -> Iterator[int]:
    """Yield the priorities that have waiting jobs, the highest first."""
    priority: int | None = LARGEST
    while (
        priority := tx.value(SQL["attempts/exchange_priority"], {"queue": queue, "below": priority})
    ) is not None:
        yield priority


def _pages(tx: Transaction, demand: Demand, *, priority: int, room: Room) -> Iterator[list[_Row]]:
    """Yield due jobs in order, a page at a time, as long as there is room.

    One page is enough unless a limit skips jobs. Names that are at their limit are excluded from the
    following pages, so that a thousand of their jobs do not hide the jobs after them. A key that is at its limit
    cannot be excluded, so with a limit per key the pages are larger.
    """
    last = (SMALLEST, 0)
    while room.left and (names := room.names):
        size = room.left if demand.per_key is None else max(room.left, _KEY_PAGE)
        parameters = {
            "queue": demand.queue,
            "priority": priority,
            "now": tx.now,
            "after_at": last[0],
            "after_id": last[1],
            "names": dumps(names),
            "limit": size,
        }
        page: list[_Row] = tx.array(SQL["attempts/exchange_page"], parameters)
        yield page
        if len(page) < size:
            return
        last = (page[-1][_DUE], page[-1][_ID])


def _claimed(rows: Sequence[_Row], *, lease: int, queue: str, started_at: int | None) -> list[Claimed]:
    """Return the jobs for the worker, still without checkpoint, progress and earlier attempts."""
    started = None if started_at is None else moment(started_at)
    jobs: list[Claimed] = []
    for row in rows:
        (
            job_id,
            name,
            priority,
            attempt,
            max_attempts,
            timeout,
            args,
            metadata,
            labels,
            context,
            created,
            due,
            _has_history,
        ) = row
        claimed = Claimed(
            job_id,
            lease,
            name,
            queue,
            priority,
            attempt + 1,
            max_attempts,
            timeout,
            args,
            metadata,
            tags(labels),
            context,
            moment(created),
            moment(due),
            started,
        )
        jobs.append(claimed)
    return jobs


def _with_history(tx: Transaction, jobs: Sequence[Claimed], *, ids: Sequence[int]) -> list[Claimed]:
    """Add checkpoint, progress and attempts to the jobs with these ids, which have run before."""
    rows = tx.array(SQL["attempts/exchange_details"], (dumps(ids),))
    kept = {job_id: (saved, progress) for job_id, saved, progress in rows}
    attempts = attempts_of(tx, ids)
    complete: list[Claimed] = []
    for job in jobs:
        saved, progress = kept.get(job.id, (None, None))
        records = tuple(record for _, record in attempts.get(job.id, ()))
        complete.append(job._replace(saved=saved, progress=progress, attempts=records))
    return complete


def attempts_of(tx: Transaction, ids: Sequence[int]) -> dict[int, list[tuple[int, AttemptRecord]]]:
    """Return the attempt records with their leases, oldest first, by job."""
    found: dict[int, list[tuple[int, AttemptRecord]]] = {}
    for job_id, *attempt, lease in tx.array(SQL["attempts/records"], (dumps(ids),)):
        found.setdefault(job_id, []).append((lease, attempt_record(attempt)))
    return found
