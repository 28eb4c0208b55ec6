"""Look at jobs and change them in bulk: statements with a filter in them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from jobrt._storage.contract import Bucket
from jobrt._storage.postgres.encode import instant, numbers, texts
from jobrt._storage.postgres.filters import condition
from jobrt._storage.postgres.names import Run
from jobrt._storage.postgres.rows import job_record
from jobrt.errors import InvalidFilter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobrt._core.job import JobRecord
    from jobrt._core.keep import PruneRule
    from jobrt._core.where import Where
    from jobrt._storage.postgres.names import Schema
    from jobrt._storage.postgres.session import Session

__all__ = ["cancel", "count", "delete", "get", "prune", "query", "rerun", "stats", "update"]

_MOST: Final = (1 << 63) - 1
_DELETE_AT_ONCE: Final = 10_000
"""Jobs to delete per statement: their ids travel to the client and back."""

_ORDERS: Final = {
    "id": "c.id",
    "schedule_at": "least(c.schedule_at, '9999-12-31 23:59:59.999999+00')",
    "created_at": "c.created_at",
    "finished_at": "c.finished_at",
    "priority": "c.priority",
}
_DETAILS: Final = {True: "true", False: "false"}


def _limit(value: int | None) -> str | None:
    return None if value is None else str(min(max(value, 0), _MOST))


async def get(session: Session, job_id: int) -> JobRecord | None:
    """Return a job, or None."""
    look = by_id(session.schema, job_id)
    rows = await session.run(look.statement, **look.values)
    return job_record(rows[0]) if rows else None


def by_id(schema: Schema, job_id: int) -> Run:
    """Return the statement that finds a job; its row is for `job_record`."""
    if not -_MOST <= job_id <= _MOST:
        job_id = 0  # which no job has: a larger number is no bigint
    statement = schema.statement("jobs", where="c.id = :id::bigint", details="true")
    return Run(statement, {"id": str(job_id)})


async def query(
    session: Session, where: Where, *, order_by: str, limit: int | None, after: int | None, details: bool
) -> tuple[JobRecord, ...]:
    """Return the jobs that match, in order, behind the one with the id `after`."""
    column, backward = order_by.removeprefix("-"), order_by.startswith("-")
    if column not in _ORDERS:
        raise InvalidFilter(f"order_by={order_by!r}: use {', '.join(_ORDERS)}, with a - first for descending")
    found = condition(where)
    text, values = found.text, {**found.values, "limit": _limit(limit)}
    key, way = _ORDERS[column], "desc" if backward else "asc"
    if after is not None:
        text = f"{text} and {_behind(column, key, backward=backward)}"
        values["after"] = str(after)
    order = f"c.id {way}" if column == "id" else f"{key} {way} nulls last, c.id {way}"
    statement = session.schema.statement(
        "jobs", where=f"{text} order by {order} limit :limit::bigint", details=_DETAILS[details]
    )
    return tuple(map(job_record, await session.run(statement, **values)))


def _behind(column: str, key: str, *, backward: bool) -> str:
    """Return the condition for rows that come after the job `:after` in the order."""
    less = "<" if backward else ">"
    if column == "id":
        return f"c.id {less} :after::bigint"
    at = f"(select {key} from {{schema}}.job c where c.id = :after::bigint)"  # noqa: S608 - of our own names
    same = f"c.id {less} :after::bigint"
    return (
        f"(case when {at} is null then {key} is null and {same}"
        f" else {key} {less} {at} or {key} = {at} and {same} or {key} is null end)"
    )


async def count(session: Session, where: Where, *, limit: int | None) -> int:
    """Return how many jobs match."""
    found = condition(where)
    statement = session.schema.statement("count", where=found.text)
    rows = await session.run(statement, **found.values, limit=_limit(limit))
    number: int = rows[0][0]
    return number


async def cancel(session: Session, where: Where, reason: str, *, limit: int | None) -> tuple[int, int]:
    """Cancel waiting jobs and ask for running ones; return both numbers."""
    found = condition(where)
    statement = session.schema.statement("cancel", where=found.text)
    rows = await session.run(statement, **found.values, reason=reason, limit=_limit(limit))
    waiting, running = rows[0]
    return waiting, running


async def rerun(session: Session, where: Where, *, limit: int | None) -> tuple[int, list[str]]:
    """Make final jobs available; return how many, and the queues they are in."""
    found = condition(where)
    statement = session.schema.statement("rerun", where=found.text)
    number, woken = (await session.run(statement, **found.values, limit=_limit(limit)))[0]
    return number, woken or []


# What each key of `JobStore.update` sets; a due time also decides the state.
_SETS: Final = {
    "queue": "queue = :set_queue",
    "priority": "priority = :set_priority::integer",
    "max_attempts": "max_attempts = :set_max_attempts::integer",
    "args": "args = :set_args",
    "metadata": "metadata = :set_metadata",
    "tags": "tags = :set_tags::text[]",
    "context": "context = :set_context",
    "timeout": "timeout = :set_timeout::double precision",
}
_DUE: Final = (
    "schedule_at = {due}, state = (case when j.state = 'retryable' then 'retryable'"
    " when {due} > statement_timestamp() then 'scheduled' else 'available' end)::{{schema}}.job_state"
)
_DUE_BY: Final = {
    "schedule_at": ":set_schedule_at::timestamptz",
    "delay": "statement_timestamp() + :set_delay::interval",
}


async def update(session: Session, where: Where, changes: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Change waiting jobs; return how many, and the queues that have due ones among them."""
    unknown = sorted(set(changes) - set(_SETS) - set(_DUE_BY))
    if unknown:
        raise InvalidFilter(
            f"update: {', '.join(unknown)} cannot be changed; use {', '.join([*_SETS, *_DUE_BY])}"
        )
    sets = [_SETS[key] if key in _SETS else _DUE.format(due=_DUE_BY[key]) for key in changes]
    if not sets:
        return 0, []
    found = condition(where)
    statement = session.schema.statement("update", where=found.text, sets=" , ".join(sets))
    values = {f"set_{key}": _set(value) for key, value in changes.items()}
    number, woken = (await session.run(statement, **found.values, **values))[0]
    return number, woken or []


def _set(value: Any) -> str | None:
    match value:
        case None | str():
            return value
        case datetime():
            return instant(value)
        case timedelta():
            return _interval(value)
        case int() | float():
            return str(value)
        case _:
            return texts(value) if value else None


def _interval(value: timedelta) -> str:
    return f"{value.days} days {value.seconds} seconds {value.microseconds} microseconds"


async def delete(session: Session, where: Where, *, limit: int | None) -> int:
    """Delete jobs and all that belongs to them; return how many."""
    found = condition(where)
    done = 0
    while limit is None or done < limit:
        most = _DELETE_AT_ONCE if limit is None else min(_DELETE_AT_ONCE, limit - done)
        ids = await _delete(session, found.text, values=found.values, limit=most, locked="")
        done += len(ids)
        if len(ids) < most:
            break
    return done


async def _delete(
    session: Session, where: str, *, values: Mapping[str, str | None], limit: int, locked: str
) -> list[int]:
    statement = session.schema.statement(
        "delete", where=where, locked=locked, enqueued="gone",
        finished="(select * from gone where finished_at is not null)", failed=_FAILED.format(jobs="gone"),
    )  # fmt: skip
    rows = await session.run(statement, **values, limit=str(limit))
    ids: list[int] = rows[0][0]
    if ids:
        await session.fetch("delete_sides", ids=numbers(ids))
    return ids


_FAILED: Final = (
    "{{schema}}.attempt a join {jobs} j on j.id = a.job_id"
    " where a.\"end\" in ('failed', 'timed_out', 'crashed', 'undecodable')"
)


async def prune(session: Session, rules: Sequence[PruneRule], *, limit: int) -> int:
    """Delete what the rules let go, at most `limit`."""
    done = 0
    for rule in rules:
        if done >= limit:
            break
        values: dict[str, str | None] = {
            "state": rule.state.value,
            "keep": str(min(rule.keep_at_least, (1 << 31) - 1)),
            "age": None if rule.age is None else _interval(rule.age),
            "only": texts(rule.only) if rule.only else None,
            "except": texts(rule.except_),
            "queue": rule.queue,
            "except_queues": texts(rule.except_queues),
            "limit": str(limit - done),
        }
        ids = [row[0] for row in await session.fetch("prune_find", **values)]
        if ids:
            # What is locked stays for another time: to wait for it, with the jobs of other rules locked, might cross.
            deleted = await _delete(
                session,
                "c.id = any(:ids::bigint[])",
                values={"ids": numbers(ids)},
                limit=len(ids),
                locked="skip locked",
            )
            done += len(deleted)
    if done:
        await session.fetch("past_fold")
    return done


async def stats(session: Session, *, since: datetime) -> tuple[Bucket, ...]:
    """Return what happened since a time."""
    statement = session.schema.statement(
        "stats",
        enqueued="(select * from {schema}.job where id >= :first::bigint and created_at >= :since::timestamptz)",
        finished="finished_since",
        failed=_FAILED.format(jobs="{schema}.job") + " and a.finished_at >= :since::timestamptz",
    )
    first = (await session.fetch("first_since", since=instant(since)))[0][0]
    rows = await session.run(statement, since=instant(since), first=str(first or 0))
    return tuple(_bucket(*row) for row in rows)


def _bucket(hour: datetime, queue: str, name: str, *counts: Any) -> Bucket:
    enqueued, completed, failed, dead, cancelled, seconds, histogram = counts
    return Bucket(
        hour=hour.replace(tzinfo=UTC),
        queue=queue,
        name=name,
        enqueued=enqueued,
        completed=completed,
        failed=failed,
        dead=dead,
        cancelled=cancelled,
        seconds=seconds,
        histogram=tuple(histogram),
    )
