"""Change jobs and queues as people ask: cancel, rerun, update, delete, settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jobrt._storage.sqlite.ends import settle
from jobrt._storage.sqlite.filters import Condition, condition
from jobrt._storage.sqlite.look import select
from jobrt._storage.sqlite.rows import FAR, RESCHEDULED, dumps, later, micros
from jobrt._storage.sqlite.stats import roll_up
from jobrt._storage.sqlite.transaction import SQL
from jobrt.errors import InvalidFilter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobrt._core.where import Where
    from jobrt._storage.sqlite.transaction import Transaction

__all__ = ["cancel", "delete", "remove", "rerun", "update"]

_PLAIN: Final = ("queue", "priority", "max_attempts", "args", "metadata", "context", "timeout")


def cancel(tx: Transaction, where: Where, *, reason: str, limit: int | None) -> tuple[int, int]:
    """Cancel waiting jobs and ask for running ones; return both numbers."""
    ids = _chosen(tx, where, "state < 3 OR (state = 3 AND cancel_reason IS NULL)", limit=limit)
    new = {"ids": dumps(ids), "reason": reason, "now": tx.now}
    asked = tx.run(SQL["cancel_running"], new)
    cancelled = tx.rows(SQL["cancel_waiting"], new)
    settle(tx, [job_id for (job_id,) in cancelled])
    tx.control = tx.control or asked > 0
    return len(cancelled), asked


def rerun(tx: Transaction, where: Where, *, limit: int | None) -> int:
    """Make final jobs available now; return how many."""
    ids = dumps(_chosen(tx, where, "state > 3", limit=limit))
    tx.run(SQL["rerun_remember"], (ids,))
    tx.run(SQL["rerun_forget"], (ids,))
    queues = tx.rows(SQL["rerun"], {"ids": ids, "now": tx.now})
    tx.queues.update(queue for (queue,) in queues)
    return len(queues)


def update(tx: Transaction, where: Where, changes: Mapping[str, Any]) -> int:
    """Change waiting jobs; return how many.

    Raises:
        InvalidFilter: there is no such field to change.

    """
    sets, values = _assignments(tx, changes)
    ids = _chosen(tx, where, "state < 3", limit=None)
    if not sets:
        return len(ids)
    sql = f"UPDATE jobrt_job SET {sets} WHERE id IN (SELECT value FROM json_each(:ids)) RETURNING queue"  # noqa: S608 - fields checked above
    queues = tx.rows(sql, {**values, "ids": dumps(ids), "now": tx.now})
    tx.queues.update(queue for (queue,) in queues)
    return len(ids)


def _assignments(tx: Transaction, changes: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return what an update sets."""
    sets: list[str] = []
    values: dict[str, Any] = {}
    for key, value in changes.items():
        if key in _PLAIN:
            sets.append(f"{key} = :{key}")
            values[key] = value
        elif key == "tags":
            sets.append("tags = :tags")
            values["tags"] = dumps(list(value))
        elif key in {"schedule_at", "delay"}:
            sets.append(RESCHEDULED)
            due = later(tx.now, value) if key == "delay" else micros(value)
            values["schedule_at"] = min(due, FAR - 1)
        else:
            fields = ", ".join((*_PLAIN, "tags", "schedule_at", "delay"))
            raise InvalidFilter(f"{key!r} is nothing that update can change: use {fields}")
    return ", ".join(sets), values


def delete(tx: Transaction, where: Where, *, limit: int | None) -> int:
    """Delete jobs; return how many."""
    ids = _chosen(tx, where, "1", limit=limit)
    remove(tx, ids)
    return len(ids)


def remove(tx: Transaction, ids: Sequence[int]) -> None:
    """Delete these jobs, with all that belongs to them but what they count for."""
    if ids:
        roll_up(tx, ids)
        tx.run(SQL["delete"], (dumps(ids),))
        settle(tx, ids)


def _chosen(tx: Transaction, where: Where, also: str, *, limit: int | None) -> list[int]:
    """Return the ids of jobs that match and that the operation is about."""
    wanted = condition(where, tx.now)
    return select(tx, Condition(f"({wanted.sql}) AND ({also})", wanted.values), limit=limit)
