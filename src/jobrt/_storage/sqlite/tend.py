"""What is due for scopes: members to end, waits and deadlines whose time has come."""

from collections.abc import Sequence
from functools import partial
from operator import attrgetter, itemgetter
from typing import NamedTuple

from jobrt._core.scopes import Tended
from jobrt._core.states import End
from jobrt._storage.apart import Refused
from jobrt._storage.sqlite.family import PARENT_ENDED, decide_otherwise, end_jobs, settle, wake_body
from jobrt._storage.sqlite.finish import record_attempts
from jobrt._storage.sqlite.rows import dumps
from jobrt._storage.sqlite.savepoints import Apart
from jobrt._storage.sqlite.states import CLOSING, DISCARDED, FINAL_CODES
from jobrt._storage.sqlite.transaction import SQL, Transaction


def tend(tx: Transaction, *, limit: int, but: str) -> tuple[Tended, list[Refused]]:
    """Do what is due, for at most `limit` jobs of each kind, but for the ids in `but`; see `ScopeStore.tend`."""
    apart = Apart(tx, "tend")
    found = {"now": tx.now, "limit": limit, "but": but}
    unsettled: list[int] = tx.array(SQL["scopes/unsettled"], {"limit": limit, "but": but})
    apart(unsettled, partial(settle, tx), job=int)
    changed, more = len(unsettled), len(unsettled) == limit
    if tx.value(SQL["scopes/any_ending"]):
        members: list[int] = tx.array(SQL["scopes/tend_members"], {"limit": limit, "but": but})
        for told, cancelled in apart(members, partial(end_jobs, tx, reason=PARENT_ENDED), job=int):
            changed, more = changed + told + cancelled, more or cancelled > 0
    due = tx.value(SQL["scopes/next_due"], {"but": but})
    if due is not None and due <= tx.now:
        waits: list[int] = tx.array(SQL["scopes/tend_waits"], found)
        apart(waits, partial(_wake_late, tx), job=int)
        nurseries: list[tuple[int, str, int]] = tx.array(SQL["scopes/tend_nurseries"], found)
        apart(nurseries, partial(_end_late_nurseries, tx), job=itemgetter(0))
        jobs = [_Late(*row) for row in tx.array(SQL["scopes/tend_late"], found)]
        apart(jobs, partial(_end_late_jobs, tx), job=attrgetter("id"))
        late = len(waits) + len(nurseries) + len(jobs)
        changed, more = changed + late, more or late > len(apart.refused)
        due = tx.value(SQL["scopes/next_due"], {"but": but})
    return Tended(changed, more, None if due is None else (due - tx.now) / 1e6), apart.refused


def _wake_late(tx: Transaction, ids: Sequence[int]) -> None:
    given = {"ids": dumps(ids)}
    tx.queues.update(queue for (queue,) in tx.rows(SQL["scopes/wake_late"], given))
    tx.run(SQL["scopes/waits_late"], given)


def _end_late_nurseries(tx: Transaction, late: Sequence[tuple[int, str, int]]) -> None:
    for job_id, name, alive in late:
        if tx.value(SQL["scopes/nursery_late"], {"id": job_id, "name": name, "alive": alive}):
            wake_body(tx, job_id, name)


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


def _end_late_jobs(tx: Transaction, late: Sequence[_Late]) -> None:
    settle(tx, [job.id for job in late if _end_late_job(tx, job)])


def _end_late_job(tx: Transaction, job: _Late) -> bool:
    """Discard a late job, or tell its worker; return whether it has ended here."""
    done = "scopes/no_deadline" if job.late or not job.has_deadline else "scopes/not_expiring"
    tx.run(SQL[done], (job.id,))
    if job.state == CLOSING and job.late and decide_otherwise(tx, [job.id], DISCARDED):
        tx.run(SQL["scopes/late_closing"], {"id": job.id})
        _record_late(tx, job)
    over = job.state in FINAL_CODES or job.state == CLOSING
    if over or (not job.late and (job.held or job.started_at is not None)):
        return False
    if job.held:
        tx.run(SQL["scopes/late_told"], {"id": job.id, "reason": "its deadline has passed"})
        tx.control = True
        return False
    tx.run(SQL["scopes/late_discarded"], {"id": job.id, "now": tx.now})
    _record_late(tx, job)
    return True


def _record_late(tx: Transaction, job: _Late) -> None:
    end, message = _LATE if job.late else _EXPIRED
    started_at = tx.now if job.started_at is None else job.started_at
    values = (job.attempt, end.value, started_at, tx.now, job.worker or "", None, message, None)
    record_attempts(tx, [(job.id, 0, *values)])


_LATE = (End.TIMED_OUT, "its deadline has passed")
_EXPIRED = (End.EXPIRED, "it had not started before its expiry")
