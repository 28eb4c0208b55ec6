"""Claim jobs: the part of `AttemptStore.exchange` that every attempt begins with."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from jobrt._core.job import AttemptRecord, Claimed
from jobrt._core.where import canonical
from jobrt._storage.sqlite.rows import FAR, attempt_record, dumps, moment, tags
from jobrt._storage.sqlite.transaction import SQL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jobrt._core.limits import Demand
    from jobrt._storage.sqlite.transaction import Transaction

__all__ = ["attempts_of", "claim", "next_due"]

_Row: TypeAlias = "Sequence[Any]"

_KEY_PAGE: Final = 100
_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1

# The columns of claim_page.sql that are used by position.
_ID, _NAME, _ARGS, _METADATA, _DUE, _EXTRA = 0, 1, 6, 7, 11, 12


def claim(tx: Transaction, demand: Demand) -> tuple[Claimed, ...]:
    """Lease due jobs to a worker, in order of priority, due time, id.

    The transaction must hold the write lock, so that what is found is still there when it is taken.
    """
    if demand.empty or tx.value(SQL["claim_paused"], (demand.queue,)):
        return ()
    rows = _found(tx, demand)
    if not rows:
        return ()
    lease = tx.value(SQL["claim_lease"])
    ids = dumps([row[_ID] for row in rows])
    tx.run(SQL["claim_take"], {"lease": lease, "worker": demand.worker, "now": tx.now, "ids": ids})
    jobs = _claimed(rows, lease=lease, queue=demand.queue, now=tx.now)
    again = [row[_ID] for row in rows if row[_EXTRA]]
    return tuple(_with_past(tx, jobs, ids=again) if again else jobs)


def next_due(tx: Transaction, queues: Sequence[str]) -> dict[str, float]:
    """Return the seconds until the first job that is not yet due, for queues that have one."""
    text = tx.value(SQL["next_due"], {"queues": dumps(queues), "now": tx.now, "far": FAR})
    return {queue: (due - tx.now) / 1e6 for queue, due in json.loads(text).items()}


def _found(tx: Transaction, demand: Demand) -> list[_Row]:
    """Return the rows to take: as many as the demand and its limits allow."""
    room = _Room(tx, demand)
    rows: list[_Row] = []
    for priority in _priorities(tx, demand.queue):
        for page in _pages(tx, demand.queue, priority=priority, room=room):
            rows += room.admit(page)
        if not room.left:
            break
    return rows


def _priorities(tx: Transaction, queue: str) -> Iterator[int]:
    """Yield the priorities that have waiting jobs, the highest first."""
    priority: int | None = _MOST
    while (priority := tx.value(SQL["claim_priority"], {"queue": queue, "below": priority})) is not None:
        yield priority


def _pages(tx: Transaction, queue: str, *, priority: int, room: _Room) -> Iterator[list[_Row]]:
    """Yield due jobs in order, a page at a time, as long as there is room.

    One page is enough unless a limit passes jobs over. Names that are at their limit are left out of the
    pages that follow, so that a thousand of their jobs at the head hide nobody.
    """
    place = (_LEAST, 0)
    while room.left and room.names:
        size = room.page
        parameters = {
            "queue": queue,
            "priority": priority,
            "now": tx.now,
            "after_at": place[0],
            "after_id": place[1],
            "names": dumps(room.names),
            "limit": size,
        }
        page: list[_Row] = tx.array(SQL["claim_page"], parameters)
        yield page
        if len(page) < size:
            return
        place = (page[-1][_DUE], page[-1][_ID])


class _Room:
    """Count down what may still be claimed: in all, of capped names, of keys."""

    def __init__(self, tx: Transaction, demand: Demand) -> None:
        self.left = demand.limit
        self._names = demand.names
        self._caps = dict(demand.capped)
        self._demand = demand
        self._keys: Counter[str] = Counter()
        if demand.clustered:
            self._count_running(tx.array(SQL["claim_running"], (demand.queue,)))

    @property
    def page(self) -> int:
        """How many jobs to look at next; a key that is at its limit cannot be left out, so then at more."""
        return self.left if self._demand.per_key is None else max(self.left, _KEY_PAGE)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that may still be claimed."""
        return self._names + tuple(name for name, cap in self._caps.items() if cap > 0)

    def admit(self, page: Sequence[_Row]) -> Sequence[_Row]:
        """Return the jobs of a page for which there is room, and count them."""
        if not self._caps and self._demand.per_key is None:
            self.left -= len(page)
            return page
        return [row for row in page if self._take(row)]

    def _take(self, row: _Row) -> bool:
        name = row[_NAME]
        if self.left < 1 or self._caps.get(name, 1) < 1:
            return False
        if self._demand.per_key is not None:
            key = _key(self._demand.key, (name, row[_ARGS], row[_METADATA]))
            if self._keys[key] >= self._demand.per_key:
                return False
            self._keys[key] += 1
        if name in self._caps:
            self._caps[name] -= 1
        self.left -= 1
        return True

    def _count_running(self, running: Sequence[Any]) -> None:
        if self._demand.cluster_limit is not None:
            self.left = max(min(self.left, self._demand.cluster_limit - len(running)), 0)
        if self._demand.per_key is not None:
            self._keys.update(_key(self._demand.key, job) for job in running)


def _key(path: str | None, job: Sequence[str]) -> str:
    """Return what a job (name, args, metadata) is counted by: text in which equal values are equal.

    A field that is missing counts as null, and so does every field of what is no JSON.
    """
    name, args, metadata = job
    root, _, field = (path or "name").partition(".")
    if root == "name":
        return name
    found: Any = None
    with suppress(ValueError):
        found = json.loads(args if root == "args" else metadata)
    for step in field.split("."):
        found = cast("dict[str, Any]", found).get(step) if isinstance(found, dict) else None
    return canonical(found)


def _claimed(rows: Sequence[_Row], *, lease: int, queue: str, now: int) -> list[Claimed]:
    """Return the jobs as the worker gets them, but for what earlier attempts left."""
    started_at = moment(now)
    jobs: list[Claimed] = []
    for row in rows:
        (
            job_id,
            name,
            priority,
            attempt,
            most,
            timeout,
            args,
            metadata,
            labels,
            context,
            created,
            due,
            _extra,
        ) = row
        claimed = Claimed(
            job_id,
            lease,
            name,
            queue,
            priority,
            attempt + 1,
            most,
            timeout,
            args,
            metadata,
            tags(labels),
            context,
            moment(created),
            moment(due),
            started_at,
        )
        jobs.append(claimed)
    return jobs


def _with_past(tx: Transaction, jobs: Sequence[Claimed], *, ids: Sequence[int]) -> list[Claimed]:
    """Add checkpoint, progress and attempts to the jobs of these ids, which were run before."""
    kept = {
        job_id: (saved, progress) for job_id, saved, progress in tx.array(SQL["claim_details"], (dumps(ids),))
    }
    attempts = attempts_of(tx, ids)
    full: list[Claimed] = []
    for job in jobs:
        saved, progress = kept.get(job.id, (None, None))
        records = tuple(record for _, record in attempts.get(job.id, ()))
        full.append(job._replace(saved=saved, progress=progress, attempts=records))
    return full


def attempts_of(tx: Transaction, ids: Sequence[int]) -> dict[int, list[tuple[int, AttemptRecord]]]:
    """Return the attempts that have records, with their leases, oldest first, by job."""
    found: dict[int, list[tuple[int, AttemptRecord]]] = {}
    for job_id, *attempt, lease in tx.array(SQL["attempts/records"], (dumps(ids),)):
        found.setdefault(job_id, []).append((lease, attempt_record(attempt)))
    return found
