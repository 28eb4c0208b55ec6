"""Queries for jobs: the statements, separate from the connection that runs them."""

from typing import Final

from jobrt._core.where import Where
from jobrt._storage.postgres.encode import LARGEST_ID, limit_text
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
