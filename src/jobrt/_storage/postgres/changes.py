"""Counting and changing of jobs: the statements, separate from the connection that runs them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from jobrt._core.text import clipped
from jobrt._core.where import Where
from jobrt._storage.postgres.encode import instant, interval, limit_text, numbers, texts
from jobrt._storage.postgres.filters import condition, conditions
from jobrt._storage.postgres.keys import changed
from jobrt._storage.postgres.names import CONTROL, Run, Schema
from jobrt._storage.postgres.steps import Steps
from jobrt.errors import InvalidFilter


def count(schema: Schema, where: Where, *, limit: int | None) -> Run:
    """Return the statement that counts jobs; its row has the number."""
    return _run(schema, "jobs/count", where, limit=limit_text(limit))


def count_each(schema: Schema, wheres: Sequence[Where], *, limit: int) -> Run:
    """Return the statement that counts the jobs of several filters; its row has the array of the numbers."""
    texts, values = conditions(wheres)
    counts = ", ".join(
        f"(select count(*) from (select from {{schema}}.job c where {text} limit :limit::bigint) found)"  # noqa: S608 - filters are parameters
        for text in texts
    )
    return Run(schema.statement("jobs/count_each", counts=counts), {**values, "limit": str(limit)})


def cancel(schema: Schema, where: Where, *, reason: str, limit: int | None) -> Run:
    """Return the statement that cancels jobs; its row has the numbers of waiting and running ones."""
    return _run(schema, "jobs/cancel", where, reason=clipped(reason), limit=limit_text(limit))


def rerun(schema: Schema, where: Where, *, limit: int | None) -> Run:
    """Return the statement that makes final jobs available; its row has their number and their queues."""
    return _run(schema, "jobs/rerun", where, limit=limit_text(limit))


def update(schema: Schema, where: Where, changes: Mapping[str, Any]) -> Run:
    """Return the statement that changes waiting jobs; its row has their number and the queues of due ones."""
    found = condition(where)
    statement = schema.statement("jobs/update", where=found.text, sets=_assignments(changes))
    values = {f"set_{key}": _set(value) for key, value in changes.items()}
    return Run(statement, {**found.values, **values})


def cancel_steps(schema: Schema, where: Where, *, reason: str, channel: str | None) -> Steps[tuple[int, int]]:
    """Return the steps that cancel jobs and tell workers; `channel` is None where they are not told."""
    ((waiting, running),) = yield cancel(schema, where, reason=reason, limit=None)
    yield from notify_steps(schema, [CONTROL] if running else [], channel=channel)
    return waiting, running


def make_due_steps(schema: Schema, run: Run, *, channel: str | None) -> Steps[int]:
    """Return the steps that run `rerun` or `update`, and wake the workers of the queues that it returns."""
    number, queues = yield from changed(schema, run)
    yield from notify_steps(schema, [f"j:{queue}" for queue in queues], channel=channel)
    return number


def flag_steps(schema: Schema, ids: Sequence[int], *, channel: str | None) -> Steps[None]:
    """Return the first half of `JobStore.await_final`: the jobs that are to tell their ends are flagged."""
    skipped = yield Run(schema.statement("jobs/await_final_flag"), {"ids": numbers(ids)})
    yield from notify_steps(schema, [f"j:{queue}" for (queue,) in skipped], channel=channel)


def states_run(schema: Schema, ids: Sequence[int]) -> Run:
    """Return the second half; it is another transaction, so that it sees the jobs that ended meanwhile."""
    return Run(schema.statement("jobs/await_final_states"), {"ids": numbers(ids)})


def found_by_polling(_id: int, _error: Exception) -> None:
    """Leave a job without its flag, which the database has refused: who waits for it looks every few seconds."""


def notify_steps(schema: Schema, payloads: Iterable[str], *, channel: str | None) -> Steps[None]:
    """Return the steps that notify those who listen, when the transaction commits."""
    found = sorted(payloads)
    if found and channel is not None:
        yield Run(schema.statement("wakes/notify"), {"channel": channel, "payloads": texts(found)})


def _run(schema: Schema, name: str, where: Where, **values: str | None) -> Run:
    found = condition(where)
    return Run(schema.statement(name, where=found.text), {**found.values, **values})


# What each key of `JobStore.update` sets; a due time also decides the state.
_SETS: Final = {
    "queue": "queue = :set_queue",
    "priority": "priority = :set_priority::integer",
    "max_attempts": "max_attempts = :set_max_attempts::integer",
    "args": "args = :set_args , unfit = null",
    "version": "version = :set_version::smallint",
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


def _assignments(changes: Mapping[str, Any]) -> str:
    """Return the SET clause of an update."""
    unknown = sorted(set(changes) - set(_SETS) - set(_DUE_BY))
    if unknown:
        raise InvalidFilter(
            f"update: {', '.join(unknown)} cannot be changed; use {', '.join([*_SETS, *_DUE_BY])}"
        )
    return " , ".join(_SETS[key] if key in _SETS else _DUE.format(due=_DUE_BY[key]) for key in changes)


def _set(value: Any) -> str | None:
    match value:
        case None | str():
            return value
        case datetime():
            return instant(value)
        case timedelta():
            return interval(value)
        case int() | float():
            return str(value)
        case _:
            return texts(value) if value else None
