"""Queries for jobs: one by its id, or those that match a filter, in order."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from jobrt._core.job import AttemptRecord, JobRecord
from jobrt._core.limits import LARGE_TEXTS
from jobrt._core.states import FINAL, End
from jobrt._core.walks import BATCH, Walk
from jobrt._core.where import Where, state
from jobrt._storage.sqlite.claim import attempts_of
from jobrt._storage.sqlite.filters import Condition, condition
from jobrt._storage.sqlite.rows import attempt_record, dumps, record
from jobrt._storage.sqlite.states import COMPLETED, shown
from jobrt._storage.sqlite.transaction import SQL, Transaction
from jobrt.errors import InvalidFilter

_FEW: Final = 10_000
_ATTEMPTS_KEPT: Final = 100
_CHUNK: Final = 100
_ORDERS: Final = ("id", "schedule_at", "created_at", "finished_at", "priority")


def get(tx: Transaction, job_id: int) -> JobRecord | None:
    """Return a job with all its details, or None."""
    found = _records(tx, [job_id], details=True)
    return found[0] if found else None


def query(
    tx: Transaction,
    where: Where,
    *,
    order_by: str,
    limit: int | None,
    after: int | None,
    details: bool,
    until: int | None = None,
    by_id: bool = False,
) -> tuple[JobRecord, ...]:
    """Return the jobs that match, in order.

    In the order of ids, `until` is the last one that is looked at. `by_id` has all of them looked at in this order.
    """
    column = order_by.removeprefix("-")
    if column not in _ORDERS or order_by not in {column, f"-{column}"}:
        raise InvalidFilter(f"order_by={order_by!r}: use {', '.join(_ORDERS)}, with a - first for descending")
    down = order_by.startswith("-")
    wanted = condition(where, tx.now)
    if after is not None:
        behind = _behind(column, down=down, after=after)
        wanted = Condition(f"({wanted.sql}) AND ({behind.sql})", wanted.values + behind.values)
    if until is not None:
        wanted = Condition(f"id {'>=' if down else '<='} ? AND ({wanted.sql})", (until, *wanted.values))
    direction = "DESC" if down else "ASC"
    order = f"{column} {direction} NULLS LAST, id {direction}" if column != "id" else f"id {direction}"
    return _records(tx, select(tx, wanted, order=order, limit=limit, by_id=by_id), details=details)


def batch(
    tx: Transaction, where: Where, walk: Walk, *, limit: int | None, after: int | None, details: bool
) -> tuple[tuple[JobRecord, ...], int | None]:
    """Return the jobs that match among the next ones by id, and the last id that was looked at; None if it was all."""
    order = "-id" if walk.newest else "id"
    few = walk.by != "id" and count(tx, state(*walk.states), limit=BATCH) < BATCH
    edge = None if few else _edge(tx, after, newest=walk.newest)
    place: dict[str, Any] = {"limit": limit, "after": after, "until": edge, "by_id": not few}
    return query(tx, where, order_by=order, details=details, **place), edge


def _edge(tx: Transaction, after: int | None, *, newest: bool) -> int | None:
    """Return the last id of the next batch, or None if what is left is less than one."""
    less, way = ("<", "DESC") if newest else (">", "ASC")
    behind, values = ("", ()) if after is None else (f" AND id {less} ?", (after,))
    sql = SQL["jobs/query_edge"].replace("{behind}", behind).replace("{way}", way)
    found: int | None = tx.value(sql, (*values, BATCH - 1))
    return found


def select(
    tx: Transaction, wanted: Condition, *, order: str = "id", limit: int | None = None, by_id: bool = False
) -> list[int]:
    """Return the ids of the jobs for which a condition holds."""
    table = "jobrt_job"
    if by_id or (limit is not None and order.startswith("id") and _sorts_many(tx, wanted, order=order)):
        table = "jobrt_job NOT INDEXED"  # scan in the order of ids: many jobs match, so it ends soon
    chosen = f"SELECT id FROM {table} WHERE {wanted.sql} ORDER BY {order} LIMIT ?"  # noqa: S608 - all values are parameters
    sql = f"SELECT json_group_array(id) FROM ({chosen})"  # noqa: S608 - as above
    return tx.array(sql, (*wanted.values, -1 if limit is None else limit))


def _sorts_many(tx: Transaction, wanted: Condition, *, order: str) -> bool:
    """Return whether SQLite would find many jobs by an index of states, and sort them all to return a few.

    SQLite has no statistics to decide this. Sorting a few is fine, such as the dead letters among millions of jobs.
    """
    chosen = f"FROM jobrt_job WHERE {wanted.sql}"
    plan = tx.rows(f"EXPLAIN QUERY PLAN SELECT id {chosen} ORDER BY {order}", wanted.values)
    if not any("TEMP B-TREE" in row[3] for row in plan):
        return False
    counted = f"SELECT count(*) FROM (SELECT 1 {chosen} LIMIT {_FEW})"  # noqa: S608 - as above
    return bool(tx.value(counted, wanted.values) >= _FEW)


def _behind(column: str, *, down: bool, after: int) -> Condition:
    """Return the condition for rows after a job, in the order where rows without a value come last."""
    beyond = "<" if down else ">"
    if column == "id":
        return Condition(f"id {beyond} ?", (after,))
    place = f"(SELECT place.{column} FROM jobrt_job AS place WHERE place.id = ?)"  # noqa: S608 - one of _ORDERS
    tie = f"id {beyond} ?"
    sql = (
        f"CASE WHEN {place} IS NULL THEN {column} IS NULL AND {tie}"
        f" ELSE {column} IS NULL OR {column} {beyond} {place} OR ({column} = {place} AND {tie}) END"
    )
    return Condition(sql, (after, after, after, after, after))


def count(tx: Transaction, where: Where, *, limit: int | None) -> int:
    """Return how many jobs match, at most `limit`."""
    wanted = condition(where, tx.now)
    sql = f"SELECT count(*) FROM (SELECT 1 FROM jobrt_job WHERE {wanted.sql} LIMIT ?)"  # noqa: S608 - all values are parameters
    found: int = tx.value(sql, (*wanted.values, -1 if limit is None else limit))
    return found


def count_each(tx: Transaction, wheres: Sequence[Where], *, limit: int) -> tuple[int, ...]:
    """Return how many jobs match each of these filters, at most `limit` of each."""
    return tuple(count(tx, where, limit=limit) for where in wheres)


def states(tx: Transaction, ids: Sequence[int]) -> dict[int, str | None]:
    """Return the state of each job, None for jobs that do not exist."""
    found = {
        job_id: shown(code, due, started, now=tx.now).value
        for job_id, code, due, started in tx.array(SQL["jobs/await_final"], (dumps(ids),))
    }
    return {job_id: found.get(job_id) for job_id in ids}


def unfinished(states: dict[int, str | None]) -> list[int]:
    """Return the ids of the jobs that are not final."""
    return [job_id for job_id, state in states.items() if state is not None and state not in FINAL]


def _records(tx: Transaction, ids: Sequence[int], *, details: bool) -> tuple[JobRecord, ...]:
    """Return jobs in the order of `ids`, a chunk at a time: SQLite cannot build JSON of more than a gigabyte."""
    return tuple(map(made, rows_of(tx, ids, details=details)))


class _Found(NamedTuple):
    """What is stored of a job: all that its record needs."""

    now: int
    row: Sequence[Any]
    texts: Sequence[Any]
    details: Sequence[Any]
    attempts: Sequence[tuple[int, AttemptRecord]]
    scope: Sequence[Any] | None
    whole: bool


def rows_of(tx: Transaction, ids: Sequence[int], *, details: bool = True) -> list[_Found]:
    """Return what is stored of jobs in the order of `ids`, for `made`; a chunk at a time, see `_records`."""
    chunks = [ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK)]
    return [found for chunk in chunks for found in _chunk(tx, chunk, details=details)]


def made(found: _Found) -> JobRecord:
    """Return the record of a job."""
    now, row, texts, details, attempts, scope, whole = found
    clean = _with_clean(row, texts, attempts) if whole else ()
    return record(row, now=now, texts=texts, details=details, attempts=clean, scope=scope, whole=whole)


def _chunk(tx: Transaction, ids: Sequence[int], *, details: bool) -> Iterator[_Found]:
    kept = dict(tx.array(SQL["jobs/query_details"], (dumps(ids),))) if details else {}
    attempts = attempts_of(tx, ids) if details else {}
    rows = {row[0]: row for row in tx.array(SQL["jobs/query"], (dumps(ids),))}
    scopes = {row[0]: row[1:] for row in tx.array(SQL["scopes/of_jobs"], {"ids": dumps(ids)})}
    for row in [rows[job_id] for job_id in ids if job_id in rows]:
        job_id, texts = row[0], _texts(tx, row, whole=details)
        found: Sequence[Any] = (None, None, None)
        if job_id in kept:
            found = kept[job_id] or tx.row(SQL["jobs/query_detail"], (job_id,)) or found
        yield _Found(tx.now, row, texts, found, attempts.get(job_id, ()), scopes.get(job_id), details)


def _texts(tx: Transaction, row: Sequence[Any], *, whole: bool) -> Sequence[Any]:
    """Return the texts of a row, reading those that are large."""
    if row[-1] is not None:
        found: Sequence[Any] = row[-1]
        return found
    if whole:
        (found,) = tx.rows(SQL["jobs/query_texts"], (row[0],))
        return found
    (found,) = tx.rows(SQL["jobs/query_short_texts"], (row[0],))
    return (*found, _beginning(tx, "args", row[0]), _beginning(tx, "metadata", row[0]))


def _beginning(tx: Transaction, column: str, job_id: int) -> str:
    """Return a text, or more of it than a listing shows. SQL would read the whole text to return a part of it."""
    with tx.connection.blobopen("jobrt_job", column, job_id, readonly=True) as blob:
        data = blob.read(4 * (LARGE_TEXTS + 1))  # no character has more than four bytes
    return data.decode("utf-8", "surrogateescape")


def _with_clean(
    row: Sequence[Any], texts: Sequence[Any], kept: Sequence[tuple[int, AttemptRecord]]
) -> list[AttemptRecord]:
    """Return a job's attempts: those with a record, and a clean last one, which the job's own row holds."""
    _id, state, _priority, attempt, _max_attempts, _due, _created, lease, started, finished, *_ = row
    attempts = [kept_record for _, kept_record in kept]
    if state == COMPLETED and lease is not None and all(-lease != known for known, _ in kept):
        worker = texts[2]
        attempts.append(attempt_record((attempt, End.FINISHED, started, finished, worker, None, None, None)))
    return attempts[-_ATTEMPTS_KEPT:]
