"""Insertion of jobs for clients, cron and plain threads, in any transaction."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain, compress, cycle
from typing import Any, Final

from jobrt._core.job import NewJob
from jobrt._core.states import UNSTARTED, State
from jobrt._core.unique_batch import Batch, Stored, repeats
from jobrt._storage.contract import Inserted
from jobrt._storage.sqlite.keys import key_of, key_paths, make_keys
from jobrt._storage.sqlite.rows import FAR, SMALLEST, dumps, later, micros, moment
from jobrt._storage.sqlite.states import AVAILABLE, CODES, RESCHEDULED, SCHEDULED
from jobrt._storage.sqlite.transaction import SQL, Transaction

# Rows per statement. SQLite allows 32,766 parameters; more than a hundred rows bring no further gain.
_ROWS: Final = 128

_HEAD: Final = SQL["jobs/insert"].partition("VALUES")[0]
_HEAD_FLAGGED: Final = _HEAD.replace("limit_key)", "limit_key, extra)")

_ALL: Final = -1
"""No limit, in SQLite's ``LIMIT``."""

# SQL for the fields that `Replace` may change.
_REPLACED: Final = {
    "priority": "priority = :priority",
    "args": "args = :args, version = :version, unfit = NULL",
    "metadata": "metadata = :metadata",
    "max_attempts": "max_attempts = :max_attempts",
    "schedule_at": RESCHEDULED,
}


def insert(tx: Transaction, jobs: Sequence[NewJob], *, flags: int = 0) -> tuple[Inserted, ...]:
    """Insert jobs with these flags in the given order, and return the result for each.

    The transaction must hold the write lock: uniqueness and consecutive ids depend on it.
    """
    if not any(job.unique for job in jobs):
        return tuple(_insert_all(tx, jobs, flags))
    stored = _stored(tx, jobs)
    if not (stored or repeats(jobs)):
        return tuple(_insert_all(tx, jobs, flags))
    batch = Batch.of(stored, now=moment(tx.now))
    for job in jobs:
        batch.add(job)
    for id, job, fields in batch.replaced:
        _replace(tx, id, job=job, fields=fields)
    make_keys(tx, [id for id, _, _ in batch.replaced])
    made = _insert_all(tx, batch.new, flags)
    return tuple(
        Inserted(made[place.new].id if place.id is None else place.id, duplicate=place.duplicate)
        for place in batch.places
    )


def _insert_all(tx: Transaction, jobs: Sequence[NewJob], flags: int) -> list[Inserted]:
    """Insert jobs that cannot be duplicates.

    AUTOINCREMENT gives consecutive ids within a transaction, so the last id determines the others.
    """
    done: list[Inserted] = []
    paths = key_paths(tx)
    for start in range(0, len(jobs), _ROWS):
        part = jobs[start : start + _ROWS]
        last = tx.insert(*_statement([_values(job, tx.now, paths) for job in part], flags))
        done += map(Inserted, range(last - len(part) + 1, last + 1))
        for job_id, job in enumerate(part, last - len(part) + 1):
            if job.deadline is not None or job.expires is not None or job.parent is not None:
                _store_side_rows(tx, job_id, job)
    tx.queues.update({job.queue for job in jobs})
    return done


def _statement(rows: Sequence[tuple[Any, ...]], flags: int) -> tuple[str, list[Any]]:
    """Return the insert of some rows, and its parameters.

    A column without any value is written as NULL: sqlite3 looks for an adapter of each parameter that is None.
    """
    given = [column.count(None) < len(rows) for column in zip(*rows, strict=True)]
    row = ",".join("?" if value else "NULL" for value in given)
    head, row = (_HEAD_FLAGGED, f"({row},{flags})") if flags else (_HEAD, f"({row})")
    return f"{head}VALUES{','.join([row] * len(rows))}", [*compress(chain.from_iterable(rows), cycle(given))]


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


def _values(job: NewJob, now: int, paths: Mapping[str, str]) -> tuple[Any, ...]:
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
        key_of(job, paths) if paths else None,
    )


def _due(job: NewJob, now: int) -> int:
    if job.schedule_at is not None:
        return min(micros(job.schedule_at), FAR - 1)
    return now if job.delay is None else later(now, job.delay)


def _stored(tx: Transaction, jobs: Sequence[NewJob]) -> list[Stored]:
    """Return the stored jobs that may be duplicates of jobs."""
    rules = [job.unique for job in jobs if job.unique]
    states = frozenset[State]().union(*{rule.states for rule in rules})
    digests = dumps(sorted({rule.digest for rule in rules}))
    parts = [(states, 1)]
    if any(rule.replace and "schedule_at" in rule.replace.fields for rule in rules):
        # Once the newest is put off, an older one may be the duplicate of the next job.
        parts = [(states & UNSTARTED, _ALL), (states - UNSTARTED, 1)]
    return [
        Stored(id, digest, state, (tx.now - created_at) / 1e6)
        for wanted, most in parts
        for id, digest, state, created_at in tx.array(
            SQL["jobs/insert_equal"],
            {"digests": digests, "lanes": dumps(list(_lanes(wanted, tx.now))), "most": most},
        )
    ]


def _lanes(states: frozenset[State], now: int) -> Iterator[tuple[int, State, int, int]]:
    """Yield (stored state number, state that it counts as, first and last due time for which it does).

    A job that is stored as scheduled counts as available once it is due.
    """
    for state in states - {State.SCHEDULED}:
        yield CODES[state], state, SMALLEST, FAR
    if State.SCHEDULED in states:
        yield SCHEDULED, State.SCHEDULED, now + 1, FAR
    if State.AVAILABLE in states:
        yield SCHEDULED, State.AVAILABLE, SMALLEST, now


def _replace(tx: Transaction, found: int, *, job: NewJob, fields: Sequence[str]) -> None:
    """Copy some of the new job's values to the stored one."""
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
    sql = f"UPDATE jobrt_job SET {changes} WHERE id = :id RETURNING +queue"  # noqa: S608 - constants above
    tx.queues.update(queue for (queue,) in tx.rows(sql, values))
