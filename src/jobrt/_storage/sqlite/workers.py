"""Keep the workers' rows, rescue what dead ones leave, and decide who leads."""

from __future__ import annotations

import json
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import attrs

from jobrt._core.job import JobRef
from jobrt._core.states import End, State
from jobrt._storage.contract import CancelRequest, Changes, QueueSettings, Rescued, WorkerRow
from jobrt._storage.sqlite.ends import settle
from jobrt._storage.sqlite.rows import CODES, dumps, later, moment
from jobrt._storage.sqlite.transaction import SQL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobrt._storage.sqlite.transaction import Transaction

__all__ = ["beat", "changes", "lead", "register", "rescue", "resign", "unregister", "workers"]

_PAGE: Final = 1000


def register(tx: Transaction, worker: str, *, lease: float, info: Mapping[str, Any]) -> None:
    """Add a worker."""
    tx.run(SQL["register"], _beat(tx, worker, lease=lease, info=info))


def beat(tx: Transaction, worker: str, *, lease: float, info: Mapping[str, Any]) -> Changes:
    """Renew a worker, unless it is gone or expired, and return what it must know."""
    known = tx.run(SQL["beat"], _beat(tx, worker, lease=lease, info=info)) > 0
    return attrs.evolve(changes(tx, worker), known=known)


def _beat(tx: Transaction, worker: str, *, lease: float, info: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": worker, "now": tx.now, "expires_at": later(tx.now, lease), "info": dumps(info)}


def changes(tx: Transaction, worker: str) -> Changes:
    """Return what a worker must know."""
    return Changes(
        known=bool(tx.value(SQL["changes_known"], {"id": worker, "now": tx.now})),
        cancels=tuple(
            CancelRequest(JobRef(job_id, lease), reason)
            for job_id, lease, reason in tx.array(SQL["changes_cancels"], (worker,))
        ),
        queues=tuple(
            QueueSettings(name, paused=bool(paused), concurrency=concurrency)
            for name, paused, concurrency in tx.array(SQL["queues/settings"])
        ),
    )


def unregister(tx: Transaction, worker: str) -> None:
    """Remove a worker; what it still holds belongs to nobody alive, so it can be rescued."""
    tx.run(SQL["unregister"], (worker,))


def workers(tx: Transaction) -> tuple[WorkerRow, ...]:
    """Return all workers by id."""
    return tuple(
        WorkerRow(
            id=name,
            started_at=moment(started),
            beat_at=moment(beaten),
            expires_at=moment(expires),
            alive=expires > tx.now,
            info=json.loads(info),
        )
        for name, started, beaten, expires, info in tx.array(SQL["workers"])
    )


def rescue(tx: Transaction, *, limit: int) -> tuple[Rescued, ...]:
    """End the attempts of dead workers as crashed, at most `limit`, and remove those workers."""
    done: list[Rescued] = []
    for orphan in _orphans(tx):
        if len(done) == limit:
            break
        # A job that the database refuses to change (damaged, or a trigger of somebody's) is passed over.
        with suppress(sqlite3.IntegrityError, sqlite3.DataError):
            done.append(_rescue(tx, orphan))
    settle(tx, [one.id for one in done if one.state != State.RETRYABLE])
    tx.queues.update(one.queue for one in done if one.state == State.RETRYABLE)
    tx.run(SQL["rescue_workers"], (tx.now,))
    return tuple(done)


@attrs.frozen
class _Orphan:
    """A running job without a live worker."""

    id: int
    name: str
    queue: str
    worker: str
    lease: int
    attempt: int
    max_attempts: int | None
    schedule_at: int
    started_at: int | None
    cancel_reason: str | None

    @property
    def state(self) -> State:
        """The state after the rescue."""
        if self.cancel_reason is not None:
            return State.CANCELLED
        used_up = self.max_attempts is not None and self.attempt >= self.max_attempts
        return State.DISCARDED if used_up else State.RETRYABLE


def _orphans(tx: Transaction) -> Iterator[_Orphan]:
    after = 0
    while page := tx.array(SQL["rescue_page"], {"now": tx.now, "after": after, "limit": _PAGE}):
        yield from (_Orphan(*row) for row in page)
        after = page[-1][0]


def _rescue(tx: Transaction, orphan: _Orphan) -> Rescued:
    """Rescue one job, wholly or not at all."""
    tx.run("SAVEPOINT one")
    try:
        new = {
            "id": orphan.id,
            "lease": orphan.lease,
            "state": CODES[orphan.state],
            "finished_at": None if orphan.state is State.RETRYABLE else tx.now,
            "schedule_at": min(orphan.schedule_at, tx.now),
        }
        tx.run(SQL["rescue"], new)
        started = tx.now if orphan.started_at is None else orphan.started_at  # a damaged row is rescued too
        record = (orphan.attempt, End.CRASHED.value, started, tx.now, orphan.worker)
        message = f"worker {orphan.worker} died, or was away for longer than its lease"
        tx.run(SQL["attempt_insert"], (orphan.id, orphan.lease, *record, None, message, None))
        tx.run(SQL["attempt_trim"], {"id": orphan.id})
    except sqlite3.Error:
        tx.run("ROLLBACK TO one")
        raise
    finally:
        tx.run("RELEASE one")
    return Rescued(orphan.id, orphan.name, orphan.queue, orphan.worker, orphan.state)


def lead(tx: Transaction, role: str, *, worker: str, seconds: float) -> int | None:
    """Take or renew a leadership and return its term, or None if another one holds it."""
    wish = {"role": role, "worker": worker, "now": tx.now, "expires_at": later(tx.now, seconds)}
    term: int | None = tx.value(SQL["lead"], wish)
    return term


def resign(tx: Transaction, role: str, *, worker: str) -> None:
    """Give up a leadership."""
    tx.run(SQL["resign"], {"role": role, "worker": worker})
