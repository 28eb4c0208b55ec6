"""Queries for jobs: the statements, separate from the connection that runs them."""

from collections.abc import Collection
from typing import Final

from jobrt._core.search import PAYLOAD, Needle
from jobrt._core.states import State
from jobrt._core.where import Where
from jobrt._storage.postgres.encode import LARGEST_ID, limit_text, texts
from jobrt._storage.postgres.filters import condition
from jobrt._storage.postgres.names import Run, Schema
from jobrt.errors import InvalidFilter

_ORDERS: Final = {
    "id": "c.id",
    "schedule_at": "least(c.schedule_at, '9999-12-31 23:59:59.999999+00')",
    "created_at": "c.created_at",
    "finished_at": "c.finished_at",
    "priority": "c.priority",
}
_DETAILS: Final = {True: "true", False: "false"}


def by_id(schema: Schema, job_id: int) -> Run:
    """Return the statement that finds a job; its row is for `job_record`."""
    if not -LARGEST_ID <= job_id <= LARGEST_ID:
        job_id = 0  # no job has it; the number does not fit a bigint
    statement = schema.statement("jobs/query", where="c.id = :id::bigint", details="true")
    return Run(statement, {"id": str(job_id)})


def listing(
    schema: Schema, where: Where, *, order_by: str, limit: int | None, after: int | None, details: bool
) -> Run:
    """Return the statement that lists the jobs that match, in order, after the one with the id `after`."""
    column, backward = order_by.removeprefix("-"), order_by.startswith("-")
    if column not in _ORDERS:
        raise InvalidFilter(f"order_by={order_by!r}: use {', '.join(_ORDERS)}, with a - first for descending")
    found = condition(where)
    text, values = found.text, {**found.values, "limit": limit_text(limit)}
    key, way = _ORDERS[column], "desc" if backward else "asc"
    if after is not None:
        text = f"{text} and {_behind(column, key, backward=backward)}"
        values["after"] = str(after)
    order = f"c.id {way}" if column == "id" else f"{key} {way} nulls last, c.id {way}"
    statement = schema.statement(
        "jobs/query", where=f"{text} order by {order} limit :limit::bigint", details=_DETAILS[details]
    )
    return Run(statement, values)


def finished(
    schema: Schema, where: Where, states: Collection[State], *, limit: int, after: int | None, newest: bool
) -> Run:
    """Return the statement that finds final jobs by when they ended; its rows have their ids."""
    wanted = condition(where)
    values = {"states": texts(sorted(states)), "limit": str(limit)}
    behind, less, way = "", "<" if newest else ">", "desc" if newest else "asc"
    if after is not None:
        ended = "(select a.finished_at from {schema}.job a where a.id = :after::bigint)"
        behind, values["after"] = f" and (c.finished_at, c.id) {less} ({ended}, :after::bigint)", str(after)
    statement = schema.statement("jobs/finished", where=wanted.text, behind=behind, way=way)
    return Run(statement, {**wanted.values, **values})


def searching(
    schema: Schema, where: Where, needle: Needle, *, scan: int, limit: int, after: int | None
) -> Run:
    """Return the statement that finds the newest jobs that match and have a text."""
    wanted = condition(where)
    values = {"scan": str(scan), "limit": str(limit), "payload": str(PAYLOAD), "plain": needle.plain}
    values |= {"escaped": needle.escaped[0], "ascii": needle.escaped[1]}
    text = wanted.text
    if after is not None:
        text, values["after"] = f"{text} and c.id < :after::bigint", str(after)
    return Run(schema.statement("jobs/search", where=text), {**wanted.values, **values})


def _behind(column: str, key: str, *, backward: bool) -> str:
    """Return the condition for rows that come after the job `:after` in the order."""
    less = "<" if backward else ">"
    if column == "id":
        return f"c.id {less} :after::bigint"
    at = f"(select {key} from {{schema}}.job c where c.id = :after::bigint)"  # noqa: S608 - constants of this module
    same = f"c.id {less} :after::bigint"
    return (
        f"(case when {at} is null then {key} is null and {same}"
        f" else {key} {less} {at} or {key} = {at} and {same} or {key} is null end)"
    )
