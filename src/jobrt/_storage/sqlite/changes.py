"""Changes of jobs: the functions that both Trio's storage and the blocking one run in a transaction."""

from collections.abc import Mapping
from typing import Any, Final

from jobrt._core.text import clipped
from jobrt._core.where import Where
from jobrt._storage.sqlite.family import CLOSES_FOR_RETRY, decide_otherwise, reopen, settle
from jobrt._storage.sqlite.filters import Condition, condition
from jobrt._storage.sqlite.keys import make_keys
from jobrt._storage.sqlite.prune import remove
from jobrt._storage.sqlite.query import select
from jobrt._storage.sqlite.rows import FAR, dumps, later, micros
from jobrt._storage.sqlite.states import CANCELLED, IS_FINAL, IS_HELD, IS_WAITING, RESCHEDULED, SUSPENDED
from jobrt._storage.sqlite.transaction import SQL, Transaction
from jobrt.errors import InvalidFilter

_SCOPE_GOES_ON: Final = """(extra & 8 = 0 OR EXISTS (
    SELECT 1 FROM jobrt_member AS m JOIN jobrt_job AS p ON p.id = m.job_id
    JOIN jobrt_nursery AS n ON n.job_id = m.job_id AND n.name = m.nursery
    WHERE m.child_id = jobrt_job.id AND m.kind <> 'd' AND m.kind = 'c'
        AND p.state NOT BETWEEN 4 AND 6 AND n.state = 'open'))"""
"""A child runs again only while its parent is not final, and its nursery is not over."""
_NO_LIVING_FAMILY: Final = """(extra & 16 = 0 OR NOT EXISTS (
    SELECT 1 FROM jobrt_member AS m WHERE m.job_id = jobrt_job.id AND m.alive = 1))"""


def cancel(tx: Transaction, where: Where, *, reason: str, limit: int | None) -> tuple[int, int]:
    """Cancel waiting jobs and request it of running ones; see `JobStore.cancel`."""
    free = f"({IS_WAITING} OR state = {SUSPENDED}) AND NOT {IS_HELD}"
    may = f"({free}) OR ({IS_HELD} AND cancel_reason IS NULL) OR {CLOSES_FOR_RETRY}"
    ids = _chosen(tx, where, may, limit=limit)
    new = {"ids": dumps(ids), "reason": clipped(reason), "now": tx.now}
    requested = tx.run(SQL["jobs/cancel_running"], new)
    if requested and tx.value(SQL["scopes/any"]):  # from now on none of their descendants is claimed
        tx.run(SQL["scopes/end_nurseries"], {"ids": new["ids"]})
    if decide_otherwise(tx, ids, CANCELLED):
        requested += tx.run(SQL["jobs/cancel_closing"], new)
    cancelled = tx.rows(SQL["jobs/cancel_waiting"], new)
    closing = settle(tx, [job_id for (job_id,) in cancelled])
    tx.control = tx.control or requested > 0
    return len(cancelled) - closing, requested + closing


def rerun(tx: Transaction, where: Where, *, limit: int | None) -> int:
    """Make final jobs available; see `JobStore.rerun`."""
    chosen = _chosen(tx, where, f"{IS_FINAL} AND {_SCOPE_GOES_ON}", limit=limit)
    ids = dumps(chosen)
    if tx.value(SQL["scopes/any"]):
        reopen(tx, chosen)
        tx.run(SQL["scopes/rejoin"], {"ids": ids})
        tx.run(SQL["scopes/ask_again"], {"ids": ids})
    tx.run(SQL["scopes/unlimit"], {"ids": ids})
    tx.run(SQL["scopes/unpark"], {"ids": ids})
    tx.run(SQL["jobs/rerun_remember"], (ids,))
    tx.run(SQL["jobs/rerun_forget"], (ids,))
    queues = tx.rows(SQL["jobs/rerun"], {"ids": ids, "now": tx.now})
    make_keys(tx, chosen)
    tx.queues.update(queue for (queue,) in queues)
    return len(queues)


def update(tx: Transaction, where: Where, changes: Mapping[str, Any]) -> int:
    """Change waiting jobs; see `JobStore.update`."""
    sets, values = _assignments(tx, changes)
    ids = _chosen(tx, where, IS_WAITING, limit=None)
    if not sets:
        return len(ids)
    sql = f"UPDATE jobrt_job SET {sets} WHERE id IN (SELECT value FROM json_each(:ids)) RETURNING queue"  # noqa: S608 - fields checked above
    queues = tx.rows(sql, {**values, "ids": dumps(ids), "now": tx.now})
    if _KEYED.intersection(changes):
        make_keys(tx, ids)
    tx.queues.update(queue for (queue,) in queues)
    return len(ids)


_PLAIN: Final = ("queue", "priority", "max_attempts", "args", "version", "metadata", "context", "timeout")

_KEYED: Final = frozenset({"queue", "args", "metadata"})
"""Changes after which a job may have another key."""


def _assignments(tx: Transaction, changes: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the SET clause of an update, and its parameters."""
    sets: list[str] = []
    values: dict[str, Any] = {}
    for key, value in changes.items():
        if key in _PLAIN:
            sets.append("args = :args, unfit = NULL" if key == "args" else f"{key} = :{key}")
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
            raise InvalidFilter(f"update: {key} cannot be changed; use {fields}")
    return ", ".join(sets), values


def delete(tx: Transaction, where: Where, *, limit: int | None) -> int:
    """Delete jobs; see `JobStore.delete`."""
    ids = _chosen(tx, where, _NO_LIVING_FAMILY, limit=limit)
    return len(remove(tx, ids))


def _chosen(tx: Transaction, where: Where, also: str, *, limit: int | None) -> list[int]:
    """Return the ids of jobs that match and satisfy the SQL condition `also`."""
    wanted = condition(where, tx.now)
    return select(tx, Condition(f"({wanted.sql}) AND ({also})", wanted.values), limit=limit)
