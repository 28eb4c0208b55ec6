"""What is due for scopes: members to end, waits and deadlines whose time has come."""

import itertools
from typing import NamedTuple

from jobrt._core.scopes import Tended
from jobrt._core.states import End
from jobrt._storage.sqlite.family import PARENT_ENDED, end_jobs, settle, wake_body
from jobrt._storage.sqlite.finish import record_attempts
from jobrt._storage.sqlite.rows import dumps
from jobrt._storage.sqlite.states import CLOSING, FINAL_CODES
from jobrt._storage.sqlite.transaction import SQL, Transaction


def tend(tx: Transaction, *, limit: int) -> Tended:
    """Do what is due, for at most `limit` jobs of each kind; see `ScopeStore.tend`."""
    unsettled = tx.array(SQL["scopes/unsettled"], {"limit": limit})
    settle(tx, unsettled)
    changed, more = len(unsettled), len(unsettled) == limit
    if tx.value(SQL["scopes/any_ending"]):
        ids = tx.array(SQL["scopes/tend_members"], {"limit": limit})
        told, cancelled = end_jobs(tx, ids, reason=PARENT_ENDED)
        changed, more = changed + told + cancelled, more or cancelled > 0
    due = tx.value(SQL["scopes/next_due"])
    if due is not None and due <= tx.now:
        late = _wake_late(tx, limit) + _end_late_nurseries(tx, limit) + _end_late_jobs(tx, limit)
        changed, more = changed + late, more or late > 0
        due = tx.value(SQL["scopes/next_due"])
    return Tended(changed, more, None if due is None else (due - tx.now) / 1e6)


def _wake_late(tx: Transaction, limit: int) -> int:
    ids = tx.array(SQL["scopes/tend_waits"], {"now": tx.now, "limit": limit})
    given = {"ids": dumps(ids)}
    tx.queues.update(queue for (queue,) in tx.rows(SQL["scopes/wake_late"], given))
    tx.run(SQL["scopes/waits_late"], given)
    return len(ids)


def _end_late_nurseries(tx: Transaction, limit: int) -> int:
    late = tx.array(SQL["scopes/tend_nurseries"], {"now": tx.now, "limit": limit})
    for job_id, name, alive in late:
        if tx.value(SQL["scopes/nursery_late"], {"id": job_id, "name": name, "alive": alive}):
            wake_body(tx, job_id, name)
    return len(late)


class _Late(NamedTuple):
    """Job whose deadline has passed (``late``), or that has not started before its expiry."""

    id: int
    late: int
    state: int
    held: int
    attempt: int
    started_at: int | None
    worker: str | None
    has_deadline: int


def _end_late_jobs(tx: Transaction, limit: int) -> int:
    found = tx.array(SQL["scopes/tend_late"], {"now": tx.now, "limit": limit})
    settle(tx, [job.id for job in itertools.starmap(_Late, found) if _end_late_job(tx, job)])
    return len(found)


def _end_late_job(tx: Transaction, job: _Late) -> bool:
    """Discard a late job, or tell its worker; return whether it has ended here."""
    done = "scopes/no_deadline" if job.late or not job.has_deadline else "scopes/not_expiring"
    tx.run(SQL[done], (job.id,))
    over = job.state in FINAL_CODES or job.state == CLOSING
    if over or (not job.late and (job.held or job.started_at is not None)):
        return False
    if job.held:
        tx.run(SQL["scopes/late_told"], {"id": job.id, "reason": "its deadline has passed"})
        tx.control = True
        return False
    end, message = _LATE if job.late else _EXPIRED
    tx.run(SQL["scopes/late_discarded"], {"id": job.id, "now": tx.now})
    started_at = tx.now if job.started_at is None else job.started_at
    values = (job.attempt, end.value, started_at, tx.now, job.worker or "", None, message, None)
    record_attempts(tx, [(job.id, 0, *values)])
    return True


_LATE = (End.TIMED_OUT, "its deadline has passed")
_EXPIRED = (End.EXPIRED, "it had not started before its expiry")
