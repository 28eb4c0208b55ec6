"""Insertion of jobs for clients, cron and plain threads, in any transaction."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final

from jobrt._core.job import NewJob
from jobrt._core.states import State
from jobrt._core.unique import UniqueKey
from jobrt._storage.contract import Inserted
from jobrt._storage.sqlite.rows import FAR, SMALLEST, dumps, later, micros
from jobrt._storage.sqlite.states import AVAILABLE, CODES, RESCHEDULED, SCHEDULED, shown
from jobrt._storage.sqlite.transaction import SQL, Transaction

# Rows per statement. SQLite allows 32,766 parameters; more than a hundred rows bring no further gain.
_ROWS: Final = 128

_HEAD, _, _ROW = SQL["jobs/insert"].partition("VALUES")

# SQL for the fields that `Replace` may change.
_REPLACED: Final = {
    "priority": "priority = :priority",
    "args": "args = :args, version = :version, unfit = NULL",
    "metadata": "metadata = :metadata",
    "max_attempts": "max_attempts = :max_attempts",
    "schedule_at": RESCHEDULED,
}


def insert(tx: Transaction, jobs: Sequence[NewJob]) -> tuple[Inserted, ...]:
    """Insert jobs in the given order and return the result for each.

    The transaction must hold the write lock: uniqueness and consecutive ids depend on it.
    """
    done: list[Inserted] = []
    for unique, run in groupby(jobs, key=lambda job: job.unique is not None):
        if unique:
            done += [_insert_unique(tx, job) for job in run]
        else:
            done += _insert_all(tx, list(run))
    return tuple(done)


def _insert_all(tx: Transaction, jobs: Sequence[NewJob]) -> list[Inserted]:
    """Insert jobs that cannot be duplicates.

    AUTOINCREMENT gives consecutive ids within a transaction, so the last id determines the others.
    """
    done: list[Inserted] = []
    for start in range(0, len(jobs), _ROWS):
        part = jobs[start : start + _ROWS]
        values = [value for job in part for value in _values(job, tx.now)]
        last = tx.insert(f"{_HEAD}VALUES{','.join([_ROW] * len(part))}", values)
        done += map(Inserted, range(last - len(part) + 1, last + 1))
        for job_id, job in enumerate(part, last - len(part) + 1):
            if job.deadline is not None or job.expires is not None or job.parent is not None:
                _store_side_rows(tx, job_id, job)
    tx.queues.update({job.queue for job in jobs})
    return done


_LIMITED: Final = 64
"""Flag of a job that has a deadline or an expiry."""


def _store_side_rows(tx: Transaction, job_id: int, job: NewJob) -> None:
    """Store the deadlines of a job, which count from when it is first due, and who has enqueued it."""
    due = max(_due(job, tx.now), tx.now)
    if job.deadline is not None or job.expires is not None:
        limits = [_limit(limit, due=due) for limit in (job.deadline, job.expires)]
        tx.run(SQL["scopes/limits"], (job_id, *limits))
        tx.run(SQL["scopes/flag"], {"id": job_id, "flag": _LIMITED})
        tx.control = True  # workers learn the new due time
    if job.parent is not None:
        tx.run(SQL["scopes/origin"], (job.parent, job_id, str(job_id)))


def _limit(limit: datetime | timedelta | None, *, due: int) -> int | None:
    if limit is None:
        return None
    return later(due, limit) if isinstance(limit, timedelta) else min(micros(limit), FAR - 1)


def _values(job: NewJob, now: int) -> tuple[Any, ...]:
    due = _due(job, now)
    return (
        AVAILABLE if due <= now else SCHEDULED,
        job.queue,
        job.name,
        job.priority,
        job.max_attempts,
        due,
        now,
        job.timeout,
        None if job.unique is None else job.unique.digest,
        job.context,
        dumps(job.tags) if job.tags else "[]",
        job.args,
        job.metadata,
        job.version,
    )


def _due(job: NewJob, now: int) -> int:
    if job.schedule_at is not None:
        return min(micros(job.schedule_at), FAR - 1)
    return now if job.delay is None else later(now, job.delay)


def _insert_unique(tx: Transaction, job: NewJob) -> Inserted:
    """Insert a job unless a duplicate is stored; change that one if the job's rule says so."""
    unique = job.unique
    assert unique is not None  # noqa: S101 - for the type checkers; `insert` has checked it
    found = _equal(tx, unique)
    if found is None:
        return _insert_all(tx, [job])[0]
    _replace(tx, found, job=job, unique=unique)
    return Inserted(found, duplicate=True)


def _equal(tx: Transaction, unique: UniqueKey) -> int | None:
    """Return the newest job with this digest that counts as a duplicate."""
    newest: int | None = None
    for stored, state, from_at, to_at in _lanes(unique.states, tx.now):
        started = state is State.EXECUTING
        parameters = {
            "digest": unique.digest,
            "state": stored,
            "from_at": from_at,
            "to_at": to_at,
            "started": started,
        }
        row = tx.row(SQL["jobs/insert_equal"], parameters)
        if row is not None and unique.matches(state, (tx.now - row[1]) / 1e6):
            newest = max(row[0], newest or 0)
    return newest


def _lanes(states: frozenset[State], now: int) -> Iterator[tuple[int, State, int, int]]:
    """Yield (stored state number, state that it counts as, first and last due time for which it does).

    A job that is stored as scheduled counts as available once it is due.
    """
    for state in states - {State.SCHEDULED}:
        yield CODES[state], state, SMALLEST, FAR
    match State.SCHEDULED in states, State.AVAILABLE in states:
        case True, True:
            yield SCHEDULED, State.SCHEDULED, SMALLEST, FAR
        case True, False:
            yield SCHEDULED, State.SCHEDULED, now + 1, FAR
        case False, True:
            yield SCHEDULED, State.AVAILABLE, SMALLEST, now
        case _:
            pass


def _replace(tx: Transaction, found: int, *, job: NewJob, unique: UniqueKey) -> None:
    """Copy the new job's values to the stored one, if its state (as users see it) allows that."""
    row = tx.row(SQL["jobs/insert_equal_state"], (found,)) if unique.replace else None
    fields = unique.replaced(shown(*row[:3], now=tx.now)) if row else ()
    if not row or not fields:
        return
    changes = ", ".join(_REPLACED[field] for field in fields)
    values = {
        "id": found,
        "now": tx.now,
        "priority": job.priority,
        "args": job.args,
        "version": job.version,
        "metadata": job.metadata,
        "max_attempts": job.max_attempts,
        "schedule_at": _due(job, tx.now),
    }
    tx.run(f"UPDATE jobrt_job SET {changes} WHERE id = :id", values)  # noqa: S608 - constants above
    tx.queues.add(row[3])
